/* worker.h: a thread for a library that blocks. It takes jobs and gives ops back: the loop sleeps in epoll_wait meanwhile, and hears of each
 * job that is done over its eventfd (loop_post). Knows neither SQL nor money. A process has one worker. */
#ifndef FORNO_WORKER_H
#define FORNO_WORKER_H

#include "reactor/loop.h"

/* Something to do. First member of what says what. From worker_submit() until its op completes it belongs to the worker. */
struct job {
    struct job *next;
    struct op *op;
};

/* Jobs in order, and how many. */
struct jobs {
    struct job *first, **last;
    size_t count;
};

void jobs_push(struct jobs *jobs, struct job *job);

struct worker_options {
    void (*work)(struct jobs *batch); /* worker thread: do all of these, in whatever order, and give each of them back */
    size_t max;                       /* jobs waiting; beyond it, see worker_submit() */
    bool in_place;                    /* work at once on the calling thread: the loop waits, as a synchronous program does */
};

/* Start the thread. Signals are the loop's business. Returns 0 or an errno. Loop thread, like all that follows. */
int worker_start(const struct worker_options *options);

/* Do what has been submitted, then stop. Blocks. Completions still on their way to the loop are delivered by the laps that follow. */
void worker_stop(void);

/* The lap's jobs go to the worker together when it ends. False: too many are waiting, and this one's op is the first of its request
 * (op->first); it is still the caller's. What has begun is never turned away. */
bool worker_submit(struct job *job, struct op *op);

/* Worker thread: these are done. One ring of the bell at most. From here on they are not ours. */
void worker_give_all(struct jobs *jobs);

size_t worker_waiting(void); /* any thread, as is */
bool worker_busy(void);

#endif
