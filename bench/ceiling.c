/* ceiling.c: what the kernel allows. An epoll loop that finds the end of each request and writes a canned answer.
 *
 * It is the least that anything must do which answers HTTP over epoll: the same system calls as Forno, and next to nothing
 * between them. It reads no method, no path and no field, knows no deadline, and lets go of a client that does not read. So
 * nobody can use it, and nobody can be faster without another interface to the kernel: what Forno costs more than this is
 * what HTTP costs.
 *
 * The answer has as many bytes as Forno's to GET /healthz. Usage: ceiling [PORT] */
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER                                \
    "HTTP/1.1 200 OK\r\n"                     \
    "Date: Sun, 24 Nov 2019 12:00:00 GMT\r\n" \
    "Content-Type: application/json\r\n"      \
    "Content-Length: 16\r\n"                  \
    "\r\n"                                    \
    "{\"status\":\"ok\"}\n"
#define ANSWER_LEN (sizeof ANSWER - 1)

#define FDS_MAX 65536
#define ANSWERS_AT_ONCE 64 /* that many stand ready in a row, so that a pipelining client gets his in one send() */
#define LAP_EVENTS 256
#define INPUT_SIZE 65536

static char answers[ANSWERS_AT_ONCE * ANSWER_LEN];
static char input[INPUT_SIZE];
static uint32_t line_len[FDS_MAX]; /* by descriptor: how many bytes of the line in hand have been seen */

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* How many requests end in these bytes? One ends at an empty line: at a LF with nothing before it but a CR. */
static size_t requests_ended(uint32_t *line, const char *p, const char *end)
{
    size_t count = 0;

    for (const char *lf; (lf = memchr(p, '\n', (size_t)(end - p))); p = lf + 1) {
        if (*line + (size_t)(lf - p) <= 1) count++;
        *line = 0;
    }
    *line += (uint32_t)(end - p);
    return count;
}

/* False: the client has left, or does not read. */
static bool serve(int fd)
{
    ssize_t n = recv(fd, input, sizeof input, 0);

    if (n <= 0) return n < 0 && errno == EAGAIN;
    size_t left = requests_ended(&line_len[fd], input, input + n) * ANSWER_LEN;
    while (left) {
        size_t piece = left < sizeof answers ? left : sizeof answers;

        if (send(fd, answers, piece, MSG_NOSIGNAL) != (ssize_t)piece) return false;
        left -= piece;
    }
    return true;
}

static void welcome(int epoll_fd, int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

        if (fd >= FDS_MAX || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
            close(fd);
            continue;
        }
        line_len[fd] = 0;
    }
}

static int listen_on(const char *port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)atoi(port))};
    socklen_t len = sizeof address;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) die("bind");
    if (listen(fd, SOMAXCONN) != 0) die("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0) die("getsockname");
    printf("listening on http://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    struct epoll_event ready[LAP_EVENTS];
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC), listener = listen_on(argc > 1 ? argv[1] : "0");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    for (size_t i = 0; i < ANSWERS_AT_ONCE; i++) memcpy(answers + i * ANSWER_LEN, ANSWER, ANSWER_LEN);
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event) != 0) die("epoll");

    for (;;) {
        int n = epoll_wait(epoll_fd, ready, LAP_EVENTS, -1);

        if (n < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;

            if (fd == listener) welcome(epoll_fd, listener);
            else if (!serve(fd)) close(fd); /* which also takes it out of epoll: nobody has duplicated it */
        }
    }
}
