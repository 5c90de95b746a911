/* step.h: what the eight servers share, so that each shows nothing but how it waits: a listening socket, a request, an answer.
 *
 * Nothing here waits for a client. The HTTP is the least that curl, a browser and a load generator will take: the request
 * line is understood, the fields are skipped, there are no bodies. Requests may come in pieces or one behind the other.
 * Forno's http.c does it in earnest. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REQUEST_MAX 1000
#define ANSWER_MAX 200
#define BACKLOG 4096 /* so many may wait at the door, if the kernel allows (net.core.somaxconn) */
#define NS_PER_MS 1000000LL

static int spare_fd = -1; /* a descriptor in reserve: see turn_one_away() */

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

/* What went wrong, with its name, once: who is at his limit need not fill the disk with it, too. */
static inline void complain(const char *what, int error)
{
    static bool told;

    if (!told) fprintf(stderr, "%s: %s (%s)\n", what, strerrorname_np(error), strerror(error));
    told = true;
}

static inline int64_t clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 * NS_PER_MS + t.tv_nsec;
}

/* ---- the door ---- */

/* A listening socket at the port of the command line: 8001, if it says none; 0 picks a free one. type: SOCK_NONBLOCK or 0. */
static inline int listen_on(int argc, char **argv, int type)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof here;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | type, 0);

    here.sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 8001));
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) != 0) die("socket");
    if (bind(fd, (struct sockaddr *)&here, len) != 0 || listen(fd, BACKLOG) != 0) die("cannot listen there");
    if (getsockname(fd, (struct sockaddr *)&here, &len) != 0) die("getsockname");
    if ((spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0) die("/dev/null");
    printf("listening on http://127.0.0.1:%d\n", ntohs(here.sin_port));
    fflush(stdout);
    return fd;
}

/* There is no room for this client. */
static inline void turn_away(int fd)
{
    static const char sorry[] = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    char unread[REQUEST_MAX];

    send(fd, sorry, sizeof sorry - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    /* Trap: closing with unread input resets the connection. What is not here yet may still do so: who has a place left
     * waits for it (conn.c lingers); we have none. */
    while (recv(fd, unread, sizeof unread, MSG_DONTWAIT) > 0) continue;
    close(fd);
}

/* Trap: EMFILE. Whom we cannot accept stays at the door, and the door says "somebody is here" for ever: asking again is all
 * that we would do. So the descriptor in reserve lets him in, tells him 503, and is put back. False: nobody is there, for
 * (trap) accept4() wants a descriptor before it looks. A blocking listener waits for somebody. */
static inline bool turn_one_away(int listener)
{
    struct pollfd door = {.fd = listener, .events = POLLIN};
    bool blocking = !(fcntl(listener, F_GETFL) & O_NONBLOCK);

    if (poll(&door, 1, blocking ? -1 : 0) != 1) return false;
    close(spare_fd);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0) turn_away(fd);
    spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (spare_fd < 0) usleep(10000); /* the whole machine has none left: everybody waits, but nothing spins */
    return true;
}

/* The next client, or -1: nobody is at the door. type: SOCK_NONBLOCK or 0, what his socket shall be. */
static inline int accept_client(int listener, int type)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | type);

        if (fd >= 0 || errno == EAGAIN) return fd;
        if (errno == ECONNABORTED || errno == EINTR) continue; /* he has left again */
        complain("accept4", errno);
        if (errno != EMFILE && errno != ENFILE) usleep(10000); /* the kernel has no memory */
        else if (!turn_one_away(listener)) return -1;
    }
}

/* ---- a request ---- */

struct request {
    char bytes[REQUEST_MAX];
    size_t len;      /* so many are here */
    size_t head_len; /* so many of these are the request in hand */
    int ms;          /* how long its pizza takes; 0: at once. -1: there is no such thing here */
};

/* "GET /now HTTP/1.1", "GET /2000 HTTP/1.1", "GET /pizza?ms=2000 HTTP/1.1" */
static inline int pizza_ms(const char *line)
{
    const char *digits = line + (strncmp(line, "GET /pizza?ms=", 14) == 0 ? 14 : 5), *p = digits;
    int ms = 0;

    if (strncmp(line, "GET /now ", 9) == 0) return 0;
    if (strncmp(line, "GET /", 5) != 0) return -1;
    while (isdigit((unsigned char)*p) && ms < 1000000) ms = ms * 10 + (*p++ - '0');
    return p > digits && *p == ' ' ? ms : -1;
}

/* Is a whole request here? TCP carries bytes, not messages: they may be half a request, or two. */
static inline bool request_whole(struct request *q)
{
    char *end = memmem(q->bytes, q->len, "\r\n\r\n", 4);

    if (!end && q->len < REQUEST_MAX) return false;
    q->head_len = end ? (size_t)(end - q->bytes) + 4 : q->len;
    q->ms = end ? pizza_ms(q->bytes) : -1; /* the empty line ends every search in it */
    return true;
}

/* It is answered: what came behind it is next. */
static inline void request_done(struct request *q)
{
    q->len -= q->head_len;
    memmove(q->bytes, q->bytes + q->head_len, q->len);
}

/* ---- an answer ---- */

static inline size_t answer_text(const struct request *q, char text[ANSWER_MAX])
{
    const char *status = q->ms < 0 ? "404 Not Found" : "200 OK";
    char body[64] = "Ask for /now, /2000 or /pizza?ms=2000\n";

    if (q->ms >= 0) snprintf(body, sizeof body, q->ms ? "a pizza, after %d ms\n" : "now\n", q->ms);
    return (size_t)snprintf(text, ANSWER_MAX, "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%s", status,
                            strlen(body), body);
}

/* False: the client has left. Or, a cheat: the socket is full since he does not read, and is nonblocking, and we let go of him
 * for it. (A blocking one waits here.) Keeping what the socket did not take is an exercise; Forno's conn_flush() does it. */
static inline bool answer(int fd, struct request *q)
{
    char text[ANSWER_MAX];
    size_t len = answer_text(q, text), sent = 0;

    while (sent < len) {
        ssize_t n = send(fd, text + sent, len - sent, MSG_NOSIGNAL); /* Trap: SIGPIPE: whoever leaves would end us all */
        if (n < 0) return false;
        sent += (size_t)n;
    }
    request_done(q);
    return true;
}
