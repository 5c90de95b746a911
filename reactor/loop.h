/* loop.h: the reactor. One thread, one epoll, and everything that can be waited for is a readable descriptor.
 *
 * A process has one loop. All of this belongs to the thread that runs it, except loop_post(). Knows nothing of HTTP.
 *
 * One lap: epoll_wait (7)  ->  every ready descriptor's callback  ->  every due timer  ->  release what was closed. */
#ifndef FORNO_LOOP_H
#define FORNO_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

/* Prepare the loop. Returns 0, or -1 with errno set. */
int loop_open(void);

/* Turn until loop_stop(). Returns 0, or -1 with errno when epoll itself fails, which nothing can mend. */
int loop_run(void);

/* The lap in progress is the last one. */
void loop_stop(void);

/* Give everything back. Pending timers are cancelled, posted operations forgotten; watches still open are their owners'
 * business. */
void loop_close(void);

/* CLOCK_MONOTONIC as it stood when this lap woke up: one reading, shared by everything the lap does. */
int64_t loop_now_ns(void);

/* CLOCK_MONOTONIC now, for measuring within a lap. Any thread. */
int64_t clock_ns(void);

/* ---- watch: a descriptor in the loop ----------------------------------------------------------------------------- */

struct watch;

/* What a watch, a timer or an op is a member of: how a callback finds what it is about. */
#define HOLDER(type, member, at) ((struct type *)(void *)((char *)(at)-offsetof(struct type, member)))

/* What a descriptor is, and what happens when it becomes ready. One constant per kind; a watch may change its kind to
 * change its state (connecting, sending, receiving). */
struct watch_kind {
    const char *name;                                /* as the narration calls it */
    void (*ready)(struct watch *w, uint32_t events); /* EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR */
    void (*release)(struct watch *w);                /* frees what holds the watch; NULL: nothing to free */
};

struct watch {
    int fd;         /* -1 once closed */
    uint32_t armed; /* what epoll was last told */
    const struct watch_kind *kind;
    struct watch *next_closed;
};

/* Put a nonblocking descriptor into the loop. Takes fd on success: watch_close() closes it. A watch that has been closed
 * may be opened again in its release or later, not before: until then the loop's list runs through it.
 * Returns 0, or -1 with errno (ENOMEM, ENOSPC) and fd still the caller's. */
int watch_open(struct watch *w, int fd, uint32_t events, const struct watch_kind *kind);

/* Ask for these events from now on, which includes what is left of this batch (0: only EPOLLHUP and EPOLLERR, which cannot
 * be masked). A system call only when something changes. */
void watch_arm(struct watch *w, uint32_t events);

/* Out of epoll, closed, and deaf to what is left of this batch. kind->release follows when the lap ends, so a callback
 * may close its own watch, or another's, and go on using the memory until it returns. Idempotent. */
void watch_close(struct watch *w);

/* The same, but the descriptor stays open: a library has it, and may close it. */
void watch_forget(struct watch *w);

/* ---- timer -------------------------------------------------------------------------------------------------------- */

struct timer {
    int64_t due_ns; /* on loop_now_ns()'s clock */
    uint32_t slot;  /* its place in the heap, from 1; 0: not pending */
    void (*fired)(struct timer *t);
};

/* Fire once, at due_ns or a little later, never earlier, and never in the lap that started it. Moves a timer that is
 * already pending, which cannot fail. Returns false only when memory is out; then nothing is pending. */
bool timer_start(struct timer *t, int64_t due_ns);

/* True: it was pending and will not fire. False: it was not pending (never started, or has fired). */
bool timer_cancel(struct timer *t);

static inline bool timer_pending(const struct timer *t)
{
    return t->slot != 0;
}

/* ---- op: an operation that somebody waits for --------------------------------------------------------------------- */

/* A query, a timer, an external call: whatever takes time takes one of these, and gives it back by done(): exactly once,
 * on the loop thread, and never inside the call that started it. */
struct op {
    struct op *next; /* for whoever holds it at the moment */
    void (*done)(struct op *op);
    void (*cut_short)(struct op *op); /* waiting on has lost its point (the client left, the server
                                                            is leaving): complete soon. Set by the starter or NULL */
    const char *what;                 /* "db", "oven", "timer", "upstream": set by the starter */
    void *owner;                      /* for whoever works on it: what it is that he works on */
    int64_t served_ns;                /* clock_ns() when it left its queue; 0: it knew no queue */
    bool crowd;                       /* one of many that complete for the same reason: whoever else is there goes first */
    bool first;                       /* nothing was waited for before it: when there is too much already, this may be refused */
};

/* Operations in order, and how many. */
struct ops {
    struct op *first, **last;
    size_t count;
};

void ops_push(struct ops *ops, struct op *op);
struct op *ops_take(struct ops *ops); /* the first; NULL: there is none */

/* Complete a list of operations, linked by next, in a later lap. Any thread; wakes the loop over an eventfd (2). */
void loop_post(struct op *list);

/* ---- looking in from outside -------------------------------------------------------------------------------------- */

/* What the loop tells about itself. Every pointer must be set. Called on the loop thread; must not open or close
 * watches, start or stop timers. */
struct loop_observer {
    void (*woke)(int ready, int64_t slept_ns);                  /* epoll_wait returned */
    void (*dispatched)(const struct watch *w, uint32_t events); /* about to call its ready() */
    void (*fired)(const struct timer *t);                       /* about to call its fired() */
    void (*completed)(const struct op *op);                     /* about to call its done() */
    void (*lap_ended)(int64_t worked_ns);                       /* about to sleep again */
};

void loop_observe(const struct loop_observer *observer); /* borrows; NULL: nobody looks */

/* Call this before every sleep, after the lap's work, from now on: the place to hand over what the lap gathered. Several may be
 * called so, in the order in which they came; the same one twice is once. */
void loop_before_sleep(void (*hook)(void));

size_t loop_timers(void);  /* pending now */
size_t loop_watches(void); /* open now */

#endif
