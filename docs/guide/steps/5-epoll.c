/* 5-epoll.c: one waiter for everybody, and a bell on each table: only who rings is gone to.
 *
 * New since 4-poll: epoll. The kernel keeps the list (EPOLL_CTL_ADD) and hands out those that are ready, so a lap costs what
 * happens in it, not how many sit there. Two things that poll's walk through everybody gave for nothing must be kept now: whose
 * pizza is next (oven.h), and what we want to hear of a client: each change is a call (ask_for()). */
#include "step.h"

#include "oven.h"

#include <sys/epoll.h>

#define ACCEPTS_MAX 64
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

/* Level-triggered: what is ready is told in every lap until it is read. Trap: so what we do not want to read now, since his
 * pizza is in the oven, must be asked for no longer, or the loop spins. */
static bool ask_for(struct client *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};

    return epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event) == 0;
}

/* All that is here, as far as it goes without waiting. False: he has left. */
static bool serve(struct client *c)
{
    while (request_whole(&c->q)) {
        if (c->q.ms > 0) return bake(c) && ask_for(c, 0);
        if (!answer(c->fd, &c->q)) return false;
    }
    return true;
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
    if (events & (EPOLLERR | EPOLLHUP) || !read_request(c->fd, &c->q) || !serve(c)) drop(c);
}

static void pizza_ready(struct client *c)
{
    c->baking = false;
    if (c->fd < 0 || !answer(c->fd, &c->q) || !ask_for(c, EPOLLIN) || !serve(c)) drop(c);
}

static void welcome(int fd)
{
    struct client *c = calloc(1, sizeof *c);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

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
    struct epoll_event events[EVENTS_MAX], door = {.events = EPOLLIN, .data.ptr = NULL};

    if ((epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll_create1");
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &door) != 0) die("epoll_ctl");
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS_MAX, oven_timeout_ms()); /* the one wait */

        if (n < 0 && errno != EINTR) die("epoll_wait"); /* Trap: EINTR: Ctrl-Z and fg */
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr) client_ready(events[i].data.ptr, events[i].events);
            else
                for (int k = 0, fd; k < ACCEPTS_MAX && (fd = accept_client(listener, SOCK_NONBLOCK)) >= 0; k++) welcome(fd);
        }
        int64_t now_ns = clock_ns(); /* taken once: else a pizza of no time could keep us here */
        for (struct client *c; (c = oven_take(now_ns));) pizza_ready(c);
    }
}
