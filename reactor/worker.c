/* worker.c: a thread that takes ops and gives them back done.
 *
 * It owns the thread and the queue to it; the way back is loop_post(). The subtle thing is the hand-over: what a lap has gathered goes over
 * when it ends, under one lock and with one wake-up, and the worker takes all there is. So batches form by themselves under load, and a
 * batch can share what is dear: a transaction, an fsync. docs/doorbell.md proves that nobody sleeps while work is left. */
#include "reactor/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

static struct {
    struct worker_options options;
    pthread_t thread;
    struct ops gathered; /* the loop's: submitted in this lap */

    /* shared, under the lock */
    pthread_mutex_t lock;
    pthread_cond_t not_empty;
    struct ops queue;
    bool closing;

    /* for those who look on */
    atomic_size_t waiting; /* gathered and queued */
    atomic_bool busy;
} worker = {.lock = PTHREAD_MUTEX_INITIALIZER, .not_empty = PTHREAD_COND_INITIALIZER};

/* Put all of `more` behind what is there, and leave it empty. */
static void ops_move(struct ops *ops, struct ops *more)
{
    if (!ops->first) ops->last = &ops->first;
    *ops->last = more->first;
    ops->last = more->last;
    ops->count += more->count;
    *more = (struct ops){0};
}

static void work(struct ops *batch)
{
    int64_t served_ns = clock_ns();

    for (struct op *op = batch->first; op; op = op->next) op->served_ns = served_ns;
    worker.options.work(batch);
}

static void *run_worker(void *unused)
{
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&worker.lock);
        while (!worker.queue.first && !worker.closing) pthread_cond_wait(&worker.not_empty, &worker.lock);
        struct ops batch = worker.queue;
        worker.queue = (struct ops){0};
        atomic_store(&worker.busy, batch.count > 0); /* first: who sees an empty queue shall see the worker at work */
        atomic_fetch_sub(&worker.waiting, batch.count);
        pthread_mutex_unlock(&worker.lock);
        if (!batch.count) return NULL; /* closing, and all is done */
        work(&batch);
        atomic_store(&worker.busy, false);
    }
}

/* Before the loop sleeps. Against handing over each job as it comes, it takes a quarter off the CPU time of GET /accounts/1. */
static void hand_over(void)
{
    if (!worker.gathered.count) return;
    pthread_mutex_lock(&worker.lock);
    ops_move(&worker.queue, &worker.gathered);
    pthread_mutex_unlock(&worker.lock);
    pthread_cond_signal(&worker.not_empty);
}

bool worker_submit(struct op *op)
{
    if (worker.options.in_place) { /* the loop waits, and everybody with it */
        struct ops batch = {0};

        ops_push(&batch, op);
        work(&batch);
        return true;
    }
    /* The bound is for new work. What has begun is bounded already, and to turn it away would waste what it has cost. */
    if (op->first && atomic_load(&worker.waiting) >= worker.options.max) return false;
    atomic_fetch_add(&worker.waiting, 1);
    ops_push(&worker.gathered, op);
    return true;
}

int worker_start(const struct worker_options *options)
{
    sigset_t all, before;

    worker.options = *options;
    worker.closing = false;
    if (options->in_place) return 0;
    loop_before_sleep(hand_over);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&worker.thread, NULL, run_worker, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

void worker_stop(void)
{
    if (worker.options.in_place) return;
    hand_over();
    pthread_mutex_lock(&worker.lock);
    worker.closing = true;
    pthread_mutex_unlock(&worker.lock);
    pthread_cond_signal(&worker.not_empty);
    pthread_join(worker.thread, NULL);
}

size_t worker_waiting(void)
{
    return atomic_load(&worker.waiting);
}

bool worker_busy(void)
{
    return atomic_load(&worker.busy);
}
