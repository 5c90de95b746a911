/* world.c: see world.h. Time passes a little whenever somebody looks, and else only when all wait for it: then it leaps to the
 * timer that is due first. So a minute's silence costs nothing, and a deadline is never near by chance. */
#include "world.h"

#include "reactor/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define LOOK_NS 100000 /* a look at the clock; large, for the sake of those who look until it is late */

static int64_t now_ns = 1000 * NS_PER_S, due_ns; /* due_ns: when the timerfd must fire; 0: never */
static int timer_fd;

/* ---- choices, memory --------------------------------------------------------------------------------------------------------------- */

static const uint8_t *choice, *choices_end;
static unsigned allocations, fail_at;
static bool serving; /* it is the server that is at work, not the world */

void choices_are(const uint8_t *first, const uint8_t *end)
{
    choice = first;
    choices_end = end;
}

unsigned choose(unsigned n)
{
    return choice == choices_end ? 0 : (unsigned)(uint8_t)(*choice++ - '0') % n;
}

void memory_fails_at(unsigned n)
{
    allocations = 0;
    fail_at = n;
}

bool memory_has_failed(void)
{
    return fail_at && allocations >= fail_at;
}

static bool no_memory(void)
{
    return serving && ++allocations == fail_at;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    return no_memory() ? NULL : __real_malloc(size);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    return no_memory() ? NULL : __real_calloc(n, size);
}

void *__real_realloc(void *mem, size_t size);
void *__wrap_realloc(void *mem, size_t size);
void *__wrap_realloc(void *mem, size_t size)
{
    return no_memory() ? NULL : __real_realloc(mem, size);
}

/* ---- time --------------------------------------------------------------------------------------------------------------------------- */

static struct timespec as_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
}

static int64_t as_ns(const struct timespec *t)
{
    return t->tv_sec * NS_PER_S + t->tv_nsec;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
    now_ns += LOOK_NS;
    *t = as_timespec(now_ns + (clock == CLOCK_REALTIME ? 1700000000 * NS_PER_S : 0));
    return 0;
}

/* Standing still. */
int __wrap_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *asked, const sigset_t *mask);
int __wrap_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *asked, const sigset_t *mask)
{
    (void)mask;
    must(n == 1 && fds->fd == -1);
    must(asked->tv_sec >= 0 && asked->tv_sec <= 60 && asked->tv_nsec >= 0 && asked->tv_nsec < NS_PER_S);
    now_ns += as_ns(asked);
    return 0;
}

int __real_timerfd_settime(int fd, int flags, const struct itimerspec *set, struct itimerspec *was);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *set, struct itimerspec *was);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *set, struct itimerspec *was)
{
    must(flags == TFD_TIMER_ABSTIME);
    timer_fd = fd;
    due_ns = as_ns(&set->it_value);
    return __real_timerfd_settime(fd, 0, &(struct itimerspec){0}, was);
}

static void time_leaps(void)
{
    if (now_ns < due_ns) now_ns = due_ns;
    due_ns = 0;
    must(__real_timerfd_settime(timer_fd, 0, &(struct itimerspec){.it_value.tv_nsec = 1}, NULL) == 0);
}

/* ---- waiting ------------------------------------------------------------------------------------------------------------------------ */

int __real_epoll_wait(int fd, struct epoll_event *events, int max, int timeout);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int max, int timeout);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
    int n;

    must(timeout == -1);
    serving = false;
    while ((n = __real_epoll_wait(fd, events, max, 0)) == 0) {
        if (world_acts()) continue;
        if (!due_ns) {
            loop_stop(); /* it would sleep for ever */
            break;
        }
        time_leaps();
    }
    serving = true;
    return n;
}

/* Waiting in place: for the courier, or for stderr. */
int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    int ready;

    serving = false;
    while ((ready = __real_poll(fds, n, 0)) == 0 && timeout != 0) {
        if (world_acts()) continue;
        now_ns += timeout * NS_PER_MS;
        break;
    }
    serving = true;
    return ready;
}

void world_run(void)
{
    must(loop_run() == 0);
    serving = false;
}

/* ---- reaching out ------------------------------------------------------------------------------------------------------------------- */

static int other_end[1024]; /* of the sockets that have not been connected yet */

void world_pair(int ends[2])
{
    int little = 8192; /* so that a page does not go out in one piece */

    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    must(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &little, sizeof little) == 0);
}

int __wrap_socket(int family, int type, int protocol);
int __wrap_socket(int family, int type, int protocol)
{
    int ends[2];

    (void)family, (void)protocol;
    must(type & SOCK_NONBLOCK && type & SOCK_CLOEXEC);
    world_pair(ends);
    must(ends[0] < 1024);
    other_end[ends[0]] = ends[1];
    return ends[0];
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len)
{
    (void)address, (void)len;
    if (world_connected(other_end[fd])) return 0;
    close(other_end[fd]);
    errno = ECONNREFUSED;
    return -1;
}
