/* LDFLAGS: -Wl,--wrap=pthread_cond_signal */
/* test_worker.c: what worker.h promises, without any database: a thread that takes ops and gives them back done.
 *
 * Nothing sleeps to let something else happen: where the order of the threads matters, semaphores make it. alarm(2) ends a test that hangs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <unistd.h>

#include <cmocka.h> /* after the headers that it needs */

#include "reactor/worker.h"

#define OPS 300

static struct op ops[OPS];
static pthread_t loop_thread, worked_by;
static size_t done, batches, batch_sizes[OPS], wanted;
static bool gated; /* the worker says that it has begun, and waits to be let go */
static sem_t begun, let_go;
static struct op *order[OPS]; /* in which they completed */

static int wake_ups;

int __real_pthread_cond_signal(pthread_cond_t *cond);
int __wrap_pthread_cond_signal(pthread_cond_t *cond);

int __wrap_pthread_cond_signal(pthread_cond_t *cond)
{
    wake_ups++;
    return __real_pthread_cond_signal(cond);
}

static void work(struct ops *batch)
{
    worked_by = pthread_self();
    batch_sizes[batches++] = batch->count;
    if (gated) {
        sem_post(&begun);
        sem_wait(&let_go);
    }
    loop_post(batch->first);
}

static void op_done(struct op *op)
{
    assert_true(pthread_equal(pthread_self(), loop_thread));
    order[done++] = op;
    if (done == wanted) loop_stop();
}

static void start(size_t max, bool in_place)
{
    static const struct op fresh = {.done = op_done};

    alarm(20);
    loop_thread = pthread_self();
    done = batches = 0;
    wake_ups = 0;
    gated = false;
    for (size_t i = 0; i < OPS; i++) ops[i] = fresh;
    assert_int_equal(sem_init(&begun, 0, 0), 0);
    assert_int_equal(sem_init(&let_go, 0, 0), 0);
    assert_int_equal(loop_open(), 0);
    assert_int_equal(worker_start(&(struct worker_options){.work = work, .max = max, .in_place = in_place}), 0);
}

static void run_until(size_t n)
{
    wanted = n;
    assert_int_equal(loop_run(), 0);
    assert_int_equal(done, n);
}

static void stop(void)
{
    worker_stop();
    loop_close();
    alarm(0);
}

static void submit_some(size_t from, size_t n)
{
    for (size_t i = from; i < from + n; i++) assert_true(worker_submit(&ops[i]));
}

/* An op of the loop's own, by which a test gets into a lap. */
static void (*in_the_lap)(void);

static void lap_reached(struct op *op)
{
    (void)op;
    in_the_lap();
}

static void next_lap(struct op *op, void (*what)(void))
{
    in_the_lap = what;
    *op = (struct op){.done = lap_reached};
    loop_post(op);
}

/* ---- the tests ----------------------------------------------------------------------------------------------------------- */

static void test_what_is_submitted_is_done_elsewhere_and_completes_on_the_loop_once_and_in_order(void **state)
{
    (void)state;
    start(OPS, false);
    submit_some(0, OPS);
    assert_int_equal(worker_waiting(), OPS);
    run_until(OPS);
    assert_false(pthread_equal(worked_by, loop_thread));
    for (size_t i = 0; i < OPS; i++) assert_ptr_equal(order[i], &ops[i]);
    assert_int_equal(worker_waiting(), 0);
    stop();
}

static void test_a_lap_is_handed_over_whole_and_with_one_wake_up(void **state)
{
    (void)state;
    start(OPS, false);
    submit_some(0, 7); /* all before the loop sleeps for the first time */
    run_until(7);
    assert_int_equal(batches, 1);
    assert_int_equal(batch_sizes[0], 7);
    assert_int_equal(wake_ups, 1);
    stop();
}

static void submit_fifty_more(void)
{
    sem_wait(&begun); /* the first is being worked on */
    submit_some(1, 50);
    assert_int_equal(worker_waiting(), 50);
    assert_true(worker_busy());
    gated = false;
    worker_stop(); /* which lets it go on only below: so it must hand over before it waits */
}

static void *open_the_gate(void *unused)
{
    (void)unused;
    while (worker_waiting() != 50) usleep(100); /* a condition, and not for long: the loop is on its way there */
    sem_post(&let_go);
    return NULL;
}

static void test_what_comes_while_it_works_is_the_next_batch_and_stopping_forgets_nothing(void **state)
{
    struct op lap;
    pthread_t opener;

    (void)state;
    start(OPS, false);
    gated = true;
    submit_some(0, 1);
    next_lap(&lap, submit_fifty_more);
    assert_int_equal(pthread_create(&opener, NULL, open_the_gate, NULL), 0);
    run_until(51); /* the completions come in laps after the worker has ended */
    assert_int_equal(pthread_join(opener, NULL), 0);
    assert_int_equal(batches, 2);
    assert_int_equal(batch_sizes[1], 50);
    loop_close();
    alarm(0);
}

static void test_the_bound_turns_away_only_what_begins(void **state)
{
    (void)state;
    start(2, false);
    for (size_t i = 0; i < 3; i++) ops[i].first = true;
    submit_some(0, 2);
    assert_false(worker_submit(&ops[2])); /* the first of its request: still ours */
    assert_true(worker_submit(&ops[3]));  /* goes on with one */
    assert_int_equal(worker_waiting(), 3);
    run_until(3);
    assert_true(worker_submit(&ops[2])); /* there is room again */
    run_until(4);
    stop();
}

static void test_it_tells_when_each_op_left_the_queue(void **state)
{
    (void)state;
    start(OPS, false);
    int64_t before_ns = clock_ns();
    submit_some(0, 1);
    run_until(1);
    assert_in_range(ops[0].served_ns, before_ns, clock_ns());
    stop();
}

static void test_in_place_it_works_at_once_and_completes_later(void **state)
{
    (void)state;
    start(1, true);
    ops[0].first = ops[1].first = true;
    submit_some(0, 2); /* no queue, so no bound */
    assert_true(pthread_equal(worked_by, loop_thread));
    assert_int_equal(batches, 2);
    assert_int_equal(done, 0); /* never inside the call that started it */
    run_until(2);
    stop();
}

static void test_it_hears_no_signal(void **state)
{
    sigset_t all;

    (void)state;
    start(OPS, false);
    gated = true;
    submit_some(0, 1);
    struct op lap;
    next_lap(&lap, loop_stop);
    assert_int_equal(loop_run(), 0);
    sem_wait(&begun);
    /* Only the worker could take it: here it is blocked too, so it stays pending for the process. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    sigpending(&all);
    assert_true(sigismember(&all, SIGUSR1));
    struct timespec none = {0};
    sigemptyset(&all);
    sigaddset(&all, SIGUSR1);
    assert_int_equal(sigtimedwait(&all, NULL, &none), SIGUSR1);
    sigfillset(&all);
    pthread_sigmask(SIG_UNBLOCK, &all, NULL);
    sem_post(&let_go);
    run_until(1);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_submitted_is_done_elsewhere_and_completes_on_the_loop_once_and_in_order),
        cmocka_unit_test(test_a_lap_is_handed_over_whole_and_with_one_wake_up),
        cmocka_unit_test(test_what_comes_while_it_works_is_the_next_batch_and_stopping_forgets_nothing),
        cmocka_unit_test(test_the_bound_turns_away_only_what_begins),
        cmocka_unit_test(test_it_tells_when_each_op_left_the_queue),
        cmocka_unit_test(test_in_place_it_works_at_once_and_completes_later),
        cmocka_unit_test(test_it_hears_no_signal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
