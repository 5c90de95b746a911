/* load.c: the guests of `make compare`, all in one thread.
 *
 * load PORT now PATH CONNECTIONS MS WAITERS WAITPATH: so many ask for WAITPATH and wait; beside them CONNECTIONS ask for PATH, and
 * again as soon as they are answered, for MS milliseconds from the first line of stdin on ("ready" is said when it is time for
 * it). Then everybody stays where he is until stdin ends, so that the server can be looked at.
 * load PORT once PATH COUNT MS: so many connect, then ask all at once, and leave with their answer; nobody waits longer than MS.
 *
 * What was seen is one line of name=value. Whoever cannot connect (the queue at the door is full) is not counted, nor is who
 * would come after him. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS 1000000LL
#define WARM_MS 100    /* uncounted */
#define SETTLE_MS 5000 /* for one answer after the waiters came; then it is plain that nobody will be answered */
#define ENOUGH 200     /* answers to count by; more time is taken for them */
#define DOOR_MS 5000   /* for a connection: if the queue is full, the kernel knocks again after one second, and after three */
#define ANSWER_MAX 1000

enum kind { WAITER, PROBE, ASKER, BUYER };

struct guest {
    int fd;
    enum kind kind;
    const char *request;
    int64_t asked_ns;
    long answers;
    size_t len;
    char answer[ANSWER_MAX];
};

static struct sockaddr_in server = {.sin_family = AF_INET};
static int epoll_fd, first_error;
static long answers, failed, refused, connected, answered_guests;
static int64_t *took_ns; /* once: how long each has waited */
static bool counting;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 * NS_PER_MS + t.tv_nsec;
}

static char *request_for(const char *path)
{
    char *text;

    if (asprintf(&text, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path) < 0) die("asprintf");
    return text;
}

static void leave(struct guest *g, int error)
{
    if (g->fd < 0) return;
    if (error && !first_error) first_error = error;
    if (error || g->kind == WAITER) {
        if (g->kind == WAITER) refused++;
        else failed++;
    }
    close(g->fd);
    g->fd = -1;
}

static void ask(struct guest *g)
{
    size_t len = strlen(g->request);

    g->asked_ns = clock_ns();
    g->len = 0;
    if (send(g->fd, g->request, len, MSG_NOSIGNAL) != (ssize_t)len) leave(g, errno);
}

/* False: it could not come in. */
static bool arrive(struct guest *g, enum kind kind, const char *request)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = g};
    int error = 0;

    *g = (struct guest){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), .kind = kind, .request = request};
    if (g->fd < 0) die("socket");
    setsockopt(g->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (connect(g->fd, (struct sockaddr *)&server, sizeof server) != 0) error = errno;
    if (error == EINPROGRESS) {
        struct pollfd connection = {.fd = g->fd, .events = POLLOUT};
        socklen_t len = sizeof error;
        if (poll(&connection, 1, DOOR_MS) != 1) error = ETIMEDOUT;
        else if (getsockopt(g->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) die("getsockopt");
    }
    if (error != 0) {
        if (!first_error) first_error = error;
        close(g->fd);
        g->fd = -1;
        return false;
    }
    connected++;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, g->fd, &event) != 0) die("epoll_ctl");
    return true;
}

/* Is the answer whole? */
static bool answer_whole(struct guest *g)
{
    g->answer[g->len] = '\0';
    const char *end = strstr(g->answer, "\r\n\r\n"), *length = strcasestr(g->answer, "\r\nContent-Length:");

    return end && length && g->len >= (size_t)(end - g->answer) + 4 + strtoul(length + 17, NULL, 10);
}

static void answered(struct guest *g)
{
    bool ok = strncmp(g->answer, "HTTP/1.1 200", 12) == 0;

    if (g->kind == WAITER || !ok) {
        leave(g, ok ? 0 : EBUSY); /* a waiter who is answered was told that there is no room */
        return;
    }
    if (g->kind == BUYER) took_ns[answers] = clock_ns() - g->asked_ns;
    if (counting && g->answers++ == 0) answered_guests++;
    if (counting || g->kind == PROBE) answers++;
    if (g->kind == ASKER) ask(g);
    else leave(g, 0);
}

static void guest_ready(struct guest *g)
{
    ssize_t n = recv(g->fd, g->answer + g->len, ANSWER_MAX - 1 - g->len, 0);

    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        leave(g, n < 0 ? errno : EPIPE);
        return;
    }
    g->len += (size_t)n;
    if (answer_whole(g)) answered(g);
    else if (g->len == ANSWER_MAX - 1) leave(g, EMSGSIZE);
}

/* Until then, or until so many more are answered or gone. */
static void go_on_until(int64_t until_ns, long enough)
{
    struct epoll_event events[64];
    long before = answers + failed;

    for (int64_t now; (now = clock_ns()) < until_ns && (enough == 0 || answers + failed - before < enough);) {
        int n = epoll_wait(epoll_fd, events, 64, (int)((until_ns - now) / NS_PER_MS) + 1);

        for (int i = 0; i < n; i++)
            if (((struct guest *)events[i].data.ptr)->fd >= 0) guest_ready(events[i].data.ptr);
    }
}

static void now(const char *path, long count, long ms, long waiters, const char *wait_path)
{
    struct guest *guests = calloc((size_t)(count + waiters + 1), sizeof *guests), *askers = guests + waiters + 1;
    char *request = request_for(path), *wait_request = request_for(wait_path);

    if (!guests) die("calloc");
    for (long i = 0; i < waiters && arrive(&guests[i], WAITER, wait_request); i++) ask(&guests[i]);
    long came = connected;

    /* One who comes last and is answered: the others are inside. */
    if (came == waiters && arrive(&guests[waiters], PROBE, request)) {
        ask(&guests[waiters]);
        go_on_until(clock_ns() + SETTLE_MS * NS_PER_MS, 1);
    }
    bool settled = answers == 1;
    go_on_until(clock_ns() + WARM_MS * NS_PER_MS, 0); /* who is not let in is told so by now */
    for (long i = 0; i < count && settled && arrive(&askers[i], ASKER, request); i++) ask(&askers[i]);
    go_on_until(clock_ns() + (settled ? WARM_MS : 0) * NS_PER_MS, 0);
    printf("ready\n");
    fflush(stdout);
    if (getchar() != '\n') exit(1); /* whoever started us has a look at the server while nothing happens */
    answers = 0;
    counting = true;
    int64_t began_ns = clock_ns();
    if (settled) go_on_until(began_ns + ms * NS_PER_MS, 0);
    if (settled && answers < ENOUGH) go_on_until(began_ns + SETTLE_MS * NS_PER_MS, ENOUGH - answers); /* a busy machine */
    printf("answers=%ld ns=%lld served=%ld failed=%ld came=%ld refused=%ld error=%s\n", answers, (long long)(clock_ns() - began_ns),
           answered_guests, failed, came, refused, first_error ? strerrorname_np(first_error) : "-");
    fflush(stdout);
    while (getchar() != EOF) continue;
}

static int earlier(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void once(const char *path, long count, long ms)
{
    struct guest *guests = calloc((size_t)count, sizeof *guests);
    char *request = request_for(path);

    if (!guests || !(took_ns = calloc((size_t)count, sizeof *took_ns))) die("calloc");
    for (long i = 0; i < count && arrive(&guests[i], BUYER, request); i++) continue;
    counting = true;
    for (long i = 0; i < connected; i++) ask(&guests[i]);
    go_on_until(clock_ns() + ms * NS_PER_MS, connected - failed);

    qsort(took_ns, (size_t)answers, sizeof *took_ns, earlier);
    /* Of all who came, not of those who were answered: the 99th of 100, if so many were. */
    long rank = (count * 99 + 99) / 100;
    printf("answers=%ld failed=%ld came=%ld p99_ns=%lld error=%s\n", answers, failed, connected,
           rank <= answers ? (long long)took_ns[rank - 1] : -1LL, first_error ? strerrorname_np(first_error) : "-");
}

int main(int argc, char **argv)
{
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (argc > 1) server.sin_port = htons((uint16_t)atoi(argv[1]));
    if ((epoll_fd = epoll_create1(0)) < 0) die("epoll_create1");
    if (argc == 8 && strcmp(argv[2], "now") == 0) now(argv[3], atol(argv[4]), atol(argv[5]), atol(argv[6]), argv[7]);
    else if (argc == 6 && strcmp(argv[2], "once") == 0) once(argv[3], atol(argv[4]), atol(argv[5]));
    else {
        fprintf(stderr, "usage: load PORT now PATH CONNECTIONS MS WAITERS WAITPATH | load PORT once PATH COUNT MS\n");
        return 2;
    }
}
