/* 6-coroutine.c: the loop of 5-edge, and above it waiters who may wait again.
 *
 * New since 5-edge: each client has a stack of his own, and wait_for() swaps it for the loop's. So read_request(), bake() and
 * serve() are those of 1-blocking again, nearly to the letter: what the stack remembers need not be written down. They only
 * seem to wait in place: below them is one thread, and one epoll_wait().
 *
 * The price is the stack: at least a page of it is touched, where a struct takes the bytes that it needs. (And swapcontext()
 * asks the kernel for the signal mask each time; libraries that are made for this do not.) */
#include "step.h"

#include "oven.h"

#include <sys/epoll.h>
#include <sys/mman.h>
#include <ucontext.h>

#define EVENTS_MAX 64
#define STACK_SIZE 131072 /* addresses, not memory: that is only what is touched */
#define GUARD_SIZE 4096   /* rounded up to a page, whatever a page is here */

struct client {
    int fd;
    uint32_t waits_for; /* EPOLLIN; 0: for the oven */
    bool left;
    char *stack;
    ucontext_t context; /* where he stopped */
};

static int epoll_fd;
static ucontext_t loop;
static struct client *running;

/* Off our stack and onto the loop's. It comes back when there is news. */
static void wait_for(uint32_t events)
{
    running->waits_for = events;
    swapcontext(&running->context, &loop);
}

static bool read_request(int fd, struct request *q)
{
    while (!request_whole(q)) {
        ssize_t n = recv(fd, q->bytes + q->len, REQUEST_MAX - q->len, 0);

        if (n < 0 && errno == EAGAIN) {
            wait_for(EPOLLIN);
            continue;
        }
        if (n <= 0) return false;
        q->len += (size_t)n;
    }
    return true;
}

static bool bake(int ms)
{
    if (ms <= 0) return true;
    if (!oven_put(clock_ns() + ms * NS_PER_MS, running)) return false;
    wait_for(0);
    return true;
}

static void serve(void)
{
    struct request q = {0};

    while (read_request(running->fd, &q))
        if (!bake(q.ms) || !answer(running->fd, &q)) break;
    running->left = true; /* his stack cannot be freed while we stand on it: resume() does */
}

static void drop(struct client *c)
{
    close(c->fd);
    munmap(c->stack, STACK_SIZE);
    free(c);
}

/* From the loop's stack onto his, until he waits or leaves. */
static void resume(struct client *c)
{
    running = c;
    swapcontext(&loop, &c->context);
    if (c->left) drop(c);
}

static void client_ready(struct client *c, uint32_t events)
{
    if (c->waits_for & events || (c->waits_for && events & (EPOLLERR | EPOLLHUP))) resume(c);
}

/* Its lowest page nobody may touch: whoever needs more stack than there is dies at once, and spoils nothing. */
static char *new_stack(void)
{
    char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);

    if (stack == MAP_FAILED) return NULL;
    if (mprotect(stack, GUARD_SIZE, PROT_NONE) == 0) return stack;
    munmap(stack, STACK_SIZE);
    return NULL;
}

static void welcome(int fd)
{
    struct client *c = calloc(1, sizeof *c);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = c};

    if (!c || !(c->stack = new_stack()) || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        if (c && c->stack) munmap(c->stack, STACK_SIZE);
        free(c);
        turn_away(fd);
        return;
    }
    c->fd = fd;
    getcontext(&c->context);
    c->context.uc_stack = (stack_t){.ss_sp = c->stack, .ss_size = STACK_SIZE};
    c->context.uc_link = &loop; /* where it goes on when serve() returns */
    makecontext(&c->context, serve, 0);
    resume(c);
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
                for (int fd; (fd = accept_client(listener, SOCK_NONBLOCK)) >= 0;) welcome(fd);
        }
        int64_t now_ns = clock_ns(); /* taken once: else a pizza of no time could keep us here */
        for (struct client *c; (c = oven_take(now_ns));) resume(c);
    }
}
