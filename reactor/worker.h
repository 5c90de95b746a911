/* worker.h: a thread for a library that blocks. It takes ops and gives them back done: the loop sleeps in epoll_wait meanwhile, and hears of
 * them over its eventfd. What is to be done stands in op->owner: the worker knows neither SQL nor money. A process has one worker. */
#ifndef FORNO_WORKER_H
#define FORNO_WORKER_H

#include "reactor/loop.h"

struct worker_options {
    void (*work)(struct ops *batch); /* worker thread: do all of these, in whatever order, and give each back by loop_post() */
    size_t max;                      /* ops waiting; beyond it, see worker_submit() */
    bool in_place;                   /* work at once on the calling thread: the loop waits, as a synchronous program does */
};

/* Start the thread. Signals are the loop's business. Returns 0 or an errno. Loop thread, like all that follows. */
int worker_start(const struct worker_options *options);

/* Do what has been submitted, then stop. Blocks. Completions still on their way to the loop are delivered by the laps that follow. */
void worker_stop(void);

/* From here until it completes the op is the worker's, and what it owns with it. The lap's ops go over together when it ends. False: too
 * many are waiting, and this one is the first of its request (op->first); it is still the caller's. What has begun is never turned away. */
bool worker_submit(struct op *op);

size_t worker_waiting(void); /* any thread, as is */
bool worker_busy(void);

#endif
