/* 4-poll.c: one waiter for everybody, who asks before he goes to a table: whose turn is it?
 *
 * New since 3-threads: poll(). Nothing may wait in place any more, so what the stack remembered between two waits must be
 * written down (struct client), and read_request() and bake() say "not yet" instead of waiting. The one wait that is left is
 * poll(): for all clients at once, and until the next pizza is ready.
 *
 * Its price: the kernel is told the whole list, and looks at all of it, and so do we, each time anything happens to anybody. */
#include "step.h"

#define ACCEPTS_MAX 64 /* a lap, so that those who are in are served, too, while a crowd comes */

struct client {
    struct request q;
    int64_t ready_ns; /* when his pizza will be; 0: none is in the oven */
};

/* fds[0] is the door. fds[i] is the socket of clients[i]. */
static struct pollfd *fds;
static struct client **clients;
static size_t count = 1, room;

/* What is there of it; false: he has left. */
static bool read_request(int fd, struct request *q)
{
    ssize_t n = recv(fd, q->bytes + q->len, REQUEST_MAX - q->len, 0);

    if (n <= 0) return n < 0 && errno == EAGAIN;
    q->len += (size_t)n;
    return true;
}

/* Not a wait, but a note of when it ends. */
static void bake(struct client *c)
{
    c->ready_ns = clock_ns() + c->q.ms * NS_PER_MS;
}

/* As far as it goes without waiting. False: he has left. */
static bool serve(struct client *c, struct pollfd *p, int64_t now_ns)
{
    if (p->revents & (POLLERR | POLLHUP)) return false;
    if (p->revents & POLLIN && !read_request(p->fd, &c->q)) return false;
    if (c->ready_ns) {
        if (c->ready_ns > now_ns) return true;
        c->ready_ns = 0;
        if (!answer(p->fd, &c->q)) return false;
    } else if (!p->revents) return true;
    while (request_whole(&c->q)) {
        if (c->q.ms > 0) {
            bake(c);
            break;
        }
        if (!answer(p->fd, &c->q)) return false;
    }
    p->events = c->ready_ns ? 0 : POLLIN; /* what he says while his pizza bakes can wait in the socket */
    return true;
}

static void welcome(int fd)
{
    if (count >= room) {
        size_t more = room ? 2 * room : 64;
        struct pollfd *more_fds = realloc(fds, more * sizeof *fds);
        if (more_fds) fds = more_fds;
        struct client **more_clients = realloc(clients, more * sizeof *clients);
        if (more_clients) clients = more_clients;
        if (more_fds && more_clients) room = more;
    }
    struct client *c = count < room ? calloc(1, sizeof *c) : NULL;
    if (!c) {
        turn_away(fd);
        return;
    }
    clients[count] = c;
    fds[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

/* The last one moves into his place. */
static void drop(size_t i)
{
    close(fds[i].fd);
    free(clients[i]);
    fds[i] = fds[--count];
    clients[i] = clients[count];
}

int main(int argc, char **argv)
{
    int listener = listen_on(argc, argv, SOCK_NONBLOCK);
    int timeout_ms = -1;

    room = 64;
    if (!(fds = calloc(room, sizeof *fds)) || !(clients = calloc(room, sizeof(void *)))) die("calloc");
    fds[0] = (struct pollfd){.fd = listener, .events = POLLIN};
    for (;;) {
        if (poll(fds, count, timeout_ms) < 0 && errno != EINTR) die("poll"); /* the one wait: for anybody, or for a pizza */

        int64_t now_ns = clock_ns(), next_ns = INT64_MAX;
        for (size_t i = count; i-- > 1;) { /* backwards: whom drop() moves has been seen */
            if (!serve(clients[i], &fds[i], now_ns)) drop(i);
            else if (clients[i]->ready_ns && clients[i]->ready_ns < next_ns) next_ns = clients[i]->ready_ns;
        }
        /* Rounded up: rounded down, it would ask without pause through the last millisecond. */
        now_ns = clock_ns();
        timeout_ms = next_ns == INT64_MAX ? -1 : next_ns <= now_ns ? 0 : (int)((next_ns - now_ns) / NS_PER_MS) + 1;

        for (int i = 0, fd; fds[0].revents && i < ACCEPTS_MAX && (fd = accept_client(listener, SOCK_NONBLOCK)) >= 0; i++)
            welcome(fd);
    }
}
