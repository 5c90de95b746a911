/* bell.pml: how a job gets to the worker and its result back to the loop, as a model that spin searches to the end: every
 * interleaving of the loop, the database worker and the thread that looks names up. docs/doorbell.md reads it aloud.
 *
 * Shown: every run comes to an end, nobody sleeps at it while work is left, nothing is done or answered twice, and at closing nothing
 * is forgotten that was asked of the database. `make check` fails if spin finds an error, or finds none in a variant that is wrong
 * (-D, see each #ifdef). What stands behind a bar is a piece of the C function named above it: check.py sees to it that the
 * function does these things, in this order, and no others of their kind. A list is a set of bits here: which of them is first is
 * not what this is about. */

#ifndef JOBS
#define JOBS 3
#endif
#define ALL_JOBS ((1 << JOBS) - 1)
#define LOOK_UP (1 << JOBS) /* the op of names.c's look-up */
#define LAP_COMPLETIONS 2   /* fewer than there are ops, so that the bound is felt */

/* loop.c */
byte bell; /* the eventfd's counter. epoll is level-triggered: epoll_wait returns whenever this is not 0 */
bool post_lock;
byte posted; /* under post_lock */
byte taken, answered;

/* reactor/worker.c */
bool db_lock;
byte queue; /* under db_lock, as is closing */
bool closing;
bool waiting; /* the worker, for not_empty */
byte gathered, asked, worked;
bool joined;

inline lock(mutex) { atomic { !mutex -> mutex = true } }
inline unlock(mutex) { mutex = false }
inline ring() { atomic { bell++; printf("rings\n") } }
inline silence() { atomic { bell = 0; printf("silences the bell\n") } } /* read(), nonblocking: it may find nothing to read */

/* pthread_cond_wait lets go of the lock and sleeps, in one step. It may return for no reason: here only once, for a thread that
 * could always wake up by itself would hide that its wake-up was lost. */
inline cond_wait() {
    atomic { waiting = true; db_lock = false; printf("goes to sleep\n") }
    if
    :: !waiting
    :: atomic { waiting && !dreamt -> waiting = false; dreamt = true }
    fi;
    lock(db_lock)
}
inline cond_signal() { atomic { waiting = false; printf("wakes the worker, if it sleeps\n") } }

/* ---- reactor/loop.c: loop_post */
inline loop_post(list) {
#ifdef RING_FIRST
    ring();
#endif
    lock(post_lock);                                     /* | pthread_mutex_lock(&loop.post_lock) */
    was_empty = !posted;                                 /* | was_empty = !loop.posted */
    assert(!(posted & (list)));
    atomic { posted = posted | (list); printf("publishes %d\n", list) } /* | ops_push(&loop.posted, op) */
    unlock(post_lock);                                   /* | pthread_mutex_unlock(&loop.post_lock) */
#ifndef RING_FIRST
    if
    :: was_empty -> ring()                               /* | if (was_empty) ring( */
    :: else
    fi
#endif
}

/* ---- reactor/loop.c: take_posted */
inline take_posted() {
#ifndef TAKE_FIRST
    silence();                                           /* | read(loop.post_watch.fd */
#endif
    lock(post_lock);                                     /* | pthread_mutex_lock(&loop.post_lock) */
    taken = taken | posted;                              /* | posted = loop.posted */
    atomic { posted = 0; printf("takes %d\n", taken) }   /* | loop.posted = (struct ops){0} */
    unlock(post_lock);                                   /* | pthread_mutex_unlock(&loop.post_lock) */
#ifdef TAKE_FIRST
    silence();
#endif
}

/* ---- reactor/loop.c: complete_some */
inline complete_some() {
    completed = 0;
    do
    :: completed < LAP_COMPLETIONS && taken ->           /* | i < most */
       op = taken & -taken;
       taken = taken & ~op;                              /* | op = ops_take(ops) */
       assert(!(answered & op));
       atomic { answered = answered | op; printf("answers %d\n", op) } /* | op->done(op) */
       completed++
    :: else -> break
    od
}

/* ---- reactor/loop.c: posts_ready. The crowd, which goes after the others, is a matter of order. */
inline posts_ready() {
    take_posted();                                       /* | take_posted() */
    complete_some();                                     /* | complete_some(&loop.taken */
#ifndef NO_RING_AGAIN
    if
    :: taken -> ring()                                   /* | if (loop.taken.first || loop.crowd.first) ring( */
    :: else
    fi
#endif
}

/* ---- ledger/sqlite.c: submit */
inline submit(job) {
    if
    :: worker_submit(job)                                /* | if (worker_submit(op)) return */
    :: loop_post(job)                                    /* | loop_post(op) — refused: the queue is full */
    fi
}

/* ---- reactor/worker.c: worker_submit */
inline worker_submit(job) {
    asked = asked | job;
    gathered = gathered | job                            /* | ops_push(&worker.gathered, op) */
}

/* ---- reactor/worker.c: hand_over */
inline hand_over() {
    if
    :: !gathered
    :: else ->
       lock(db_lock);                                    /* | pthread_mutex_lock(&worker.lock) */
       queue = queue | gathered;                         /* | ops_move(&worker.queue, &worker.gathered) */
       atomic { gathered = 0; printf("hands over %d\n", queue) }
       unlock(db_lock);                                  /* | pthread_mutex_unlock(&worker.lock) */
       cond_signal()                                     /* | pthread_cond_signal(&worker.not_empty) */
    fi
}

/* ---- reactor/worker.c: worker_stop */
inline worker_stop() {
    hand_over();                                         /* | hand_over() */
#ifndef CLOSE_UNLOCKED
    lock(db_lock);                                       /* | pthread_mutex_lock(&worker.lock) */
#endif
    atomic { closing = true; printf("closes\n") }        /* | worker.closing = true */
#ifndef CLOSE_UNLOCKED
    unlock(db_lock);                                     /* | pthread_mutex_unlock(&worker.lock) */
#endif
    cond_signal();                                       /* | pthread_cond_signal(&worker.not_empty) */
    joined                                               /* | pthread_join(worker.thread */
}

/* ---- reactor/worker.c: run_worker */
active proctype worker() {
    byte batch, some;
    bool was_empty, dreamt;

    do
    :: lock(db_lock);                                    /* | pthread_mutex_lock(&worker.lock) */
       do
       :: !queue && !closing -> cond_wait()              /* | while (!worker.queue.first && !worker.closing) pthread_cond_wait( */
       :: else -> break
       od;
       batch = queue;                                    /* | batch = worker.queue */
       queue = 0;                                        /* | worker.queue = (struct ops){0} */
       unlock(db_lock);                                  /* | pthread_mutex_unlock(&worker.lock) */
       if
       :: !batch -> break                                /* | if (!batch.count) return */
       :: else
       fi;
       do                                                /* | work( */
       :: batch ->
          if
          :: some = batch /* who shares a commit goes back together; */
          :: some = batch & -batch /* others go alone */
          fi;
          assert(!(worked & some));
          worked = worked | some;
          batch = batch & ~some;
          loop_post(some)
       :: else -> break
       od
    od;
    joined = true
}

/* ---- reactor/names.c: look_up_thread */
active proctype look_up_thread() {
    bool was_empty;

    /* | pthread_mutex_lock(&names.lock) — which keeps names_close() out: it is not modelled */
    loop_post(LOOK_UP)                                   /* | loop_post(&l->op) | pthread_mutex_unlock(&names.lock) */
}

/* ---- reactor/loop.c: run_lap */
active proctype loop() {
    byte next = 1, op, completed;
    bool was_empty, patient;

    if /* it leaves when all is answered (server.c: before_sleep), or before that, when --drain is over */
    :: patient = true
    :: patient = false
    fi;
    do
    :: bell -> posts_ready()                             /* | epoll_wait( | w->kind->ready(w, events) */
    :: next & ALL_JOBS -> /* a client's turn: he asks for something */
       submit(next);
       next = next << 1;
       if
       :: hand_over()                                    /* | prepare_to_sleep() — which calls it */
       :: !patient -> break
       fi
    :: patient && answered == (ALL_JOBS | LOOK_UP) -> break
    :: !patient -> break
    od;
    worker_stop();
    assert(worked == asked);
    assert(((answered | taken | posted) & (next - 1) & ALL_JOBS) == ((next - 1) & ALL_JOBS)) /* in the hands of the laps to come */
}
