/* loop.c: the reactor: descriptors, timers, completions from other threads, deferred release. Knows nothing of HTTP.
 *
 * It owns the epoll descriptor, a timerfd and an eventfd. The subtle thing is the order within a lap: descriptors, then timers, then
 * release. So a client whose bytes are here is served before its deadline strikes, and memory outlives every event that points to it. */
#include "reactor/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* Enough that a busy lap pays one epoll_wait for many descriptors; few enough that timers are never far away. */
#define LAP_EVENTS 256
/* Of the completions that other threads have posted, so that whoever is ready beside them waits for a few steps, not for hundreds. */
#define LAP_COMPLETIONS 64
#define LAP_CROWD 16 /* of these, who are many, fewer */
#define BEFORE_SLEEP_MAX 4

static struct {
    int epoll_fd;
    bool stopping;
    int64_t now_ns;
    int64_t asleep_from_ns; /* when the last lap ended; kept while somebody observes */
    size_t watches;
    struct watch *closed; /* released when the lap ends */

    struct watch timer_watch; /* the timerfd */
    int64_t timerfd_ns;       /* what it is set to; 0: disarmed */
    bool timers_due;
    struct timer **heap; /* heap[1] is the earliest; heap[0] is unused, so slot 0 can mean "not pending" */
    uint32_t heap_len, heap_cap;

    struct watch post_watch; /* the eventfd */
    pthread_mutex_t post_lock;
    struct ops posted;       /* under the lock */
    struct ops taken, crowd; /* off the list: the loop's own */

    const struct loop_observer *observer;
    void (*before_sleep[BEFORE_SLEEP_MAX])(void);
} loop = {.epoll_fd = -1, .timer_watch.fd = -1, .post_watch.fd = -1, .post_lock = PTHREAD_MUTEX_INITIALIZER};

int64_t clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

int64_t loop_now_ns(void)
{
    return loop.now_ns;
}

/* ---- watch -------------------------------------------------------------------------------------------------------- */

int watch_open(struct watch *w, int fd, uint32_t events, const struct watch_kind *kind)
{
    struct epoll_event event = {.events = events, .data.ptr = w};

    *w = (struct watch){.fd = fd, .armed = events, .kind = kind};
    if (epoll_ctl(loop.epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        w->fd = -1;
        return -1;
    }
    loop.watches++;
    return 0;
}

void watch_arm(struct watch *w, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = w};

    if (w->fd < 0 || w->armed == events) return;
    w->armed = events;
    /* MOD of a descriptor that is in the set allocates nothing: it fails only if we have lost track of our own set. */
    int rc = epoll_ctl(loop.epoll_fd, EPOLL_CTL_MOD, w->fd, &event);
    assert(rc == 0);
    (void)rc;
}

void watch_forget(struct watch *w)
{
    if (w->fd < 0) return;
    /* Trap: close without DEL. epoll watches the file, not the number: while a fork or dup holds it, events come for freed memory. */
    epoll_ctl(loop.epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    /* Trap: the stale event in the same batch. From here on run_lap() skips this watch. */
    w->fd = -1;
    w->next_closed = loop.closed;
    loop.closed = w;
    loop.watches--;
}

void watch_close(struct watch *w)
{
    int fd = w->fd;

    watch_forget(w);
    if (fd >= 0) close(fd);
}

/* Trap: use after free when a handler closes its own connection. Nothing is freed before the whole batch is through. */
static void release_closed(void)
{
    while (loop.closed) {
        struct watch *w = loop.closed;

        loop.closed = w->next_closed;
        if (w->kind->release) w->kind->release(w);
    }
}

size_t loop_watches(void)
{
    return loop.watches;
}

/* ---- timer: a binary heap, and the timerfd set to its head --------------------------------------------------------- */

static void heap_put(struct timer *t, uint32_t slot)
{
    loop.heap[slot] = t;
    t->slot = slot;
}

/* To this slot, which is free, or as far up or down from there as the order wants it. */
static void heap_settle(struct timer *t, uint32_t slot)
{
    for (; slot > 1 && loop.heap[slot / 2]->due_ns > t->due_ns; slot /= 2) heap_put(loop.heap[slot / 2], slot);
    for (uint32_t child; (child = 2 * slot) <= loop.heap_len; slot = child) {
        if (child < loop.heap_len && loop.heap[child + 1]->due_ns < loop.heap[child]->due_ns) child++;
        if (loop.heap[child]->due_ns >= t->due_ns) break;
        heap_put(loop.heap[child], slot);
    }
    heap_put(t, slot);
}

static bool heap_reserve(void)
{
    if (loop.heap_len + 1 < loop.heap_cap) return true;
    uint32_t cap = loop.heap_cap ? 2 * loop.heap_cap : 64;
    struct timer **heap = realloc(loop.heap, cap * sizeof *heap);
    if (!heap) return false;
    loop.heap = heap;
    loop.heap_cap = cap;
    return true;
}

bool timer_start(struct timer *t, int64_t due_ns)
{
    /* Trap: a timer due in its own lap. What a timer starts, even for "now", waits for the next lap; otherwise a timer
     * that restarts itself would never let the loop go. */
    t->due_ns = due_ns > loop.now_ns ? due_ns : loop.now_ns + 1;
    if (t->slot) {
        heap_settle(t, t->slot);
        return true;
    }
    if (!heap_reserve()) return false;
    heap_settle(t, ++loop.heap_len);
    return true;
}

bool timer_cancel(struct timer *t)
{
    uint32_t slot = t->slot;

    if (!slot) return false;
    t->slot = 0;
    struct timer *last = loop.heap[loop.heap_len--];
    if (last != t) heap_settle(last, slot);
    return true;
}

size_t loop_timers(void)
{
    return loop.heap_len;
}

/* One at a time from the head, so that a timer may cancel another that is due in this same lap, and be believed. */
static void run_timers(void)
{
    while (loop.heap_len && loop.heap[1]->due_ns <= loop.now_ns) {
        struct timer *t = loop.heap[1];

        timer_cancel(t);
        if (loop.observer) loop.observer->fired(t);
        t->fired(t);
    }
}

/* The timerfd is set only when the head of the heap has changed: under load, hardly ever. Absolute time, so nothing
 * drifts; monotonic, so nobody's clock correction makes us wait. */
static void set_timerfd(void)
{
    int64_t due_ns = loop.heap_len ? loop.heap[1]->due_ns : 0;

    if (due_ns == loop.timerfd_ns) return;
    struct itimerspec when = {.it_value = {.tv_sec = due_ns / NS_PER_S, .tv_nsec = due_ns % NS_PER_S}};
    int rc = timerfd_settime(loop.timer_watch.fd, TFD_TIMER_ABSTIME, &when, NULL);
    assert(rc == 0);
    (void)rc;
    loop.timerfd_ns = due_ns;
}

/* Trap: timers run between wait and dispatch. Here we only note that the time has come; run_lap() does the rest. */
static void timerfd_ready(struct watch *w, uint32_t events)
{
    uint64_t expirations;

    (void)events;
    /* EAGAIN is possible (the head moved after it fired) and harmless: the heap decides what is due, not this number. */
    ssize_t got = read(w->fd, &expirations, sizeof expirations);
    (void)got;
    loop.timerfd_ns = 0;
    loop.timers_due = true;
}

/* ---- op: completions from other threads ---------------------------------------------------------------------------- */

void ops_push(struct ops *ops, struct op *op)
{
    if (!ops->first) ops->last = &ops->first;
    op->next = NULL;
    *ops->last = op;
    ops->last = &op->next;
    ops->count++;
}

struct op *ops_take(struct ops *ops)
{
    struct op *op = ops->first;

    if (!op) return NULL;
    ops->first = op->next;
    op->next = NULL;
    ops->count--;
    return op;
}

/* The counter cannot overflow (EAGAIN), it counts bells; EINTR does not happen to a nonblocking descriptor. */
static void ring(int fd)
{
    uint64_t one = 1;
    ssize_t put = write(fd, &one, sizeof one);

    assert(put == sizeof one);
    (void)put;
}

/* Trap: the eventfd taken for a queue. It is only a doorbell: the list is the queue. Publish first, ring second, so that
 * whoever hears the bell finds the list; ring only when the list was empty: otherwise whoever found it empty has rung, or
 * is about to. */
void loop_post(struct op *list)
{
    bool was_empty;

    pthread_mutex_lock(&loop.post_lock);
    was_empty = !loop.posted.first;
    while (list) {
        struct op *op = list;

        list = op->next;
        ops_push(&loop.posted, op);
    }
    pthread_mutex_unlock(&loop.post_lock);
    if (was_empty) ring(loop.post_watch.fd);
}

/* Trap: the lost wakeup. Silence the bell first, take the list second: an op that slips in between rings again.
 * Trap: a callback with a mutex held. Lock, take the list, unlock, then work. */
static void take_posted(void)
{
    uint64_t rings;
    ssize_t got = read(loop.post_watch.fd, &rings, sizeof rings);

    (void)got;
    pthread_mutex_lock(&loop.post_lock);
    struct ops posted = loop.posted;
    loop.posted = (struct ops){0};
    pthread_mutex_unlock(&loop.post_lock);

    for (struct op *op; (op = ops_take(&posted));) ops_push(op->crowd ? &loop.crowd : &loop.taken, op);
}

static void complete_some(struct ops *ops, int most)
{
    struct op *op;

    for (int i = 0; i < most && (op = ops_take(ops)); i++) {
        if (loop.observer) loop.observer->completed(op);
        op->done(op);
    }
}

/* One commit can answer for hundreds, one event wakes thousands. Some of them now, then everybody else's turn: what is left keeps the
 * bell ringing. */
static void posts_ready(struct watch *w, uint32_t events)
{
    (void)events;
    take_posted();
    complete_some(&loop.taken, LAP_COMPLETIONS);
    complete_some(&loop.crowd, LAP_CROWD);
    if (loop.taken.first || loop.crowd.first) ring(w->fd);
}

/* ---- the lap -------------------------------------------------------------------------------------------------------- */

void loop_observe(const struct loop_observer *observer)
{
    loop.observer = observer;
}

void loop_before_sleep(void (*hook)(void))
{
    unsigned i = 0;

    while (i < BEFORE_SLEEP_MAX && loop.before_sleep[i] && loop.before_sleep[i] != hook) i++;
    assert(i < BEFORE_SLEEP_MAX);
    loop.before_sleep[i] = hook;
}

static void prepare_to_sleep(void)
{
    for (unsigned i = 0; i < BEFORE_SLEEP_MAX && loop.before_sleep[i]; i++) loop.before_sleep[i]();
    release_closed();
    set_timerfd();
}

static int run_lap(void)
{
    struct epoll_event ready[LAP_EVENTS];
    int n = epoll_wait(loop.epoll_fd, ready, LAP_EVENTS, -1);

    if (n < 0 && errno != EINTR) return -1; /* trap: EINTR is not an error, only an empty batch */
    loop.now_ns = clock_ns();
    if (loop.observer) loop.observer->woke(n < 0 ? 0 : n, loop.now_ns - loop.asleep_from_ns);

    for (int i = 0; i < n; i++) {
        struct watch *w = ready[i].data.ptr;
        uint32_t events = ready[i].events & (w->armed | EPOLLHUP | EPOLLERR);

        if (w->fd < 0 || !events) continue; /* an earlier callback of this batch has closed it, or wants it no more */
        if (loop.observer) loop.observer->dispatched(w, events);
        w->kind->ready(w, events);
    }
    if (loop.timers_due) {
        loop.timers_due = false;
        run_timers();
    }
    prepare_to_sleep();
    if (loop.observer) {
        loop.asleep_from_ns = clock_ns();
        loop.observer->lap_ended(loop.asleep_from_ns - loop.now_ns);
    }
    return 0;
}

int loop_run(void)
{
    loop.stopping = false;
    loop.now_ns = loop.asleep_from_ns = clock_ns();
    prepare_to_sleep();
    while (!loop.stopping) {
        if (run_lap() != 0) return -1;
    }
    return 0;
}

void loop_stop(void)
{
    loop.stopping = true;
}

static int open_own_watch(struct watch *w, int fd, const struct watch_kind *kind)
{
    if (fd < 0) return -1;
    if (watch_open(w, fd, EPOLLIN, kind) == 0) return 0;
    close(fd);
    return -1;
}

int loop_open(void)
{
    static const struct watch_kind timerfd_kind = {.name = "timerfd", .ready = timerfd_ready};
    static const struct watch_kind posts_kind = {.name = "eventfd", .ready = posts_ready};

    loop.now_ns = clock_ns();
    loop.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop.epoll_fd < 0) return -1;
    if (open_own_watch(&loop.timer_watch, timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), &timerfd_kind) == 0 &&
        open_own_watch(&loop.post_watch, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), &posts_kind) == 0)
        return 0;
    int error = errno;
    loop_close();
    errno = error;
    return -1;
}

void loop_close(void)
{
    while (loop.heap_len) timer_cancel(loop.heap[loop.heap_len]);
    watch_close(&loop.timer_watch);
    watch_close(&loop.post_watch);
    release_closed();
    if (loop.epoll_fd >= 0) close(loop.epoll_fd);
    free(loop.heap);
    loop.epoll_fd = -1;
    loop.heap = NULL;
    loop.heap_len = loop.heap_cap = 0;
    loop.timerfd_ns = 0;
    loop.posted = loop.taken = loop.crowd = (struct ops){0};
    loop.observer = NULL;
    memset(loop.before_sleep, 0, sizeof loop.before_sleep);
}
