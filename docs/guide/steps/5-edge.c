/* 5-edge.c: the same, but the bell rings once.
 *
 * New since 5-epoll: EPOLLET. The kernel tells only that something has arrived, not that something is there, so nothing needs
 * to be asked for or silenced: ask_for() is gone. The price: whoever hears the bell must take all there is, to the last
 * EAGAIN. What is left lying is not told again, until more arrives; if the other side waits for us, that is never. */
#include "step.h"

#include "oven.h"

#include <sys/epoll.h>

#define EVENTS_MAX 64

struct client {
    int fd; /* -1: he has left, and his pizza is still in the oven */
    bool baking;
    struct request q;
};

static int epoll_fd;

static bool read_request(int fd, struct request *q)
{
    ssize_t n = recv(fd, q->bytes + q->len, REQUEST_MAX - q->len, 0);

    if (n <= 0) return n < 0 && errno == EAGAIN;
    q->len += (size_t)n;
    return true;
}

static bool bake(struct client *c)
{
    return c->baking = oven_put(clock_ns() + c->q.ms * NS_PER_MS, c);
}

/* Trap: edge-triggered and not drained. It goes on until recv() says EAGAIN, here and after each pizza: what came while one
 * baked has rung its bell already. (And no further than to the next request: behind it may lie the end of a client who has
 * said all, and still wants his answer.) An omission: who never stops asking keeps us here, and everybody else waits; Forno
 * serves so much in a lap, and notes who is not done. */
static bool serve(struct client *c)
{
    for (;;) {
        if (!request_whole(&c->q)) {
            size_t before = c->q.len;
            if (!read_request(c->fd, &c->q)) return false;
            if (c->q.len == before) return true; /* EAGAIN: the next bytes will ring */
        } else if (c->q.ms > 0) return bake(c);
        else if (!answer(c->fd, &c->q)) return false;
    }
}

/* Trap: the oven still points to him if he is baking; he is freed when his pizza is ready. */
static void drop(struct client *c)
{
    if (c->fd >= 0) close(c->fd); /* epoll forgets him by itself: nobody else holds his socket */
    c->fd = -1;
    if (!c->baking) free(c);
}

static void client_ready(struct client *c, uint32_t events)
{
    if (events & (EPOLLERR | EPOLLHUP) || (!c->baking && !serve(c))) drop(c);
}

static void pizza_ready(struct client *c)
{
    c->baking = false;
    if (c->fd < 0 || !answer(c->fd, &c->q) || !serve(c)) drop(c);
}

static void welcome(int fd)
{
    struct client *c = calloc(1, sizeof *c);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = c}; /* bytes that are here already ring, too */

    if (!c || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        free(c);
        turn_away(fd);
        return;
    }
    c->fd = fd;
}

int main(int argc, char **argv)
{
    int listener = listen_on(argc, argv, SOCK_NONBLOCK);
    struct epoll_event events[EVENTS_MAX], door = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};

    if ((epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll_create1");
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &door) != 0) die("epoll_ctl");
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS_MAX, oven_timeout_ms()); /* the one wait */

        if (n < 0 && errno != EINTR) die("epoll_wait"); /* Trap: EINTR: Ctrl-Z and fg */
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr) client_ready(events[i].data.ptr, events[i].events);
            else
                for (int fd; (fd = accept_client(listener, SOCK_NONBLOCK)) >= 0;) welcome(fd); /* to the last: no ACCEPTS_MAX */
        }
        int64_t now_ns = clock_ns(); /* taken once: else a pizza of no time could keep us here */
        for (struct client *c; (c = oven_take(now_ns));) pizza_ready(c);
    }
}
