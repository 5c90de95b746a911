/* LDFLAGS: -Wl,--wrap=realloc -Wl,--wrap=read */
/* test_loop.c: what the reactor promises, each promise a test. Pipes, socketpairs and eventfds stand in for clients.
 *
 * Nothing here sleeps to let something else happen. A metronome, an eventfd that is always readable, turns the loop a
 * counted number of laps; where the loop has to sleep, what wakes it also stops it. Should a wakeup be lost, alarm(2) ends
 * the program: a test that hangs is a test that fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h> /* after the headers that it needs */

#include "reactor/loop.h"

#define containing(member_at, type, member) ((type *)(void *)((char *)(member_at)-offsetof(type, member)))

static bool memory_is_out;

void *__real_realloc(void *mem, size_t n);
void *__wrap_realloc(void *mem, size_t n);

void *__wrap_realloc(void *mem, size_t n)
{
    return memory_is_out ? NULL : __real_realloc(mem, n);
}

static struct op *before_read, *after_read; /* what another thread posts at the worst of moments */

ssize_t __real_read(int fd, void *bytes, size_t n);
ssize_t __wrap_read(int fd, void *bytes, size_t n);

static void slip_in(struct op **op)
{
    struct op *slipping = *op;

    *op = NULL;
    if (slipping) loop_post(slipping);
}

ssize_t __wrap_read(int fd, void *bytes, size_t n)
{
    slip_in(&before_read);
    ssize_t got = __real_read(fd, bytes, n);
    slip_in(&after_read);
    return got;
}

/* ---- turning the loop -------------------------------------------------------------------------------------------------- */

static struct watch metronome;
static int laps, last_lap;
static int fds_before;
static size_t watches_before;

/* Descriptors open now; the first one whose link says `what`, if that is asked. */
static int count_fds(const char *what, int *first)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;
    int count = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir))) {
        char link[64] = "";

        if (readlinkat(dirfd(dir), entry->d_name, link, sizeof link - 1) < 0) continue;
        if (what && strcmp(link, what) == 0) *first = atoi(entry->d_name);
        count++;
    }
    closedir(dir);
    return count;
}

static int own_fd(const char *what)
{
    int fd = -1;

    count_fds(what, &fd);
    assert_true(fd >= 0);
    return fd;
}

static void metronome_ready(struct watch *w, uint32_t events)
{
    (void)w;
    (void)events;
}

static void lap_done(void)
{
    if (++laps >= last_lap) loop_stop();
}

static void (*hook)(void); /* what happens before every sleep; it calls lap_done() */

static void before_sleep(void)
{
    hook();
}

static void run_laps(int n)
{
    last_lap = laps + n + 1; /* the loop also sleeps before the first */
    watch_arm(&metronome, EPOLLIN);
    assert_int_equal(loop_run(), 0);
}

/* The metronome is silent: something in the test calls loop_stop(). */
static void run_until_stopped(void)
{
    last_lap = INT_MAX;
    watch_arm(&metronome, 0);
    assert_int_equal(loop_run(), 0);
}

static int setup(void **state)
{
    static const struct watch_kind kind = {.name = "metronome", .ready = metronome_ready};

    (void)state;
    fds_before = count_fds(NULL, NULL);
    watches_before = loop_watches();
    laps = 0;
    if (loop_open() != 0) return -1;
    hook = lap_done;
    loop_before_sleep(before_sleep);
    return watch_open(&metronome, eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC), EPOLLIN, &kind);
}

static int teardown(void **state)
{
    (void)state;
    watch_close(&metronome);
    loop_close();
    assert_int_equal(loop_watches(), watches_before);
    assert_int_equal(loop_timers(), 0);
    assert_int_equal(count_fds(NULL, NULL), fds_before);
    return 0;
}

/* ---- probe: a watch that remembers ---------------------------------------------------------------------------------------- */

/* Tests keep their probes in static memory, so that one failed test does not bury the loop's list under the next. */

struct probe {
    struct watch watch;
    int calls, releases, last_call; /* last_call: in which lap */
    uint32_t events;
    void (*act)(struct probe *p);
    struct probe *other;
    int peer; /* the other end of its pipe or socket */
};

static void probe_ready(struct watch *w, uint32_t events)
{
    struct probe *p = containing(w, struct probe, watch);

    assert_int_equal(p->releases, 0); /* else memory that was given back is in use */
    p->calls++;
    p->last_call = laps;
    p->events = events;
    if (p->act) p->act(p);
}

static void probe_release(struct watch *w)
{
    containing(w, struct probe, watch)->releases++;
}

static const struct watch_kind probe_kind = {.name = "probe", .ready = probe_ready, .release = probe_release};

static void probe_pipe(struct probe *p, uint32_t events)
{
    int ends[2];

    *p = (struct probe){0};
    assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    assert_int_equal(watch_open(&p->watch, ends[0], events, &probe_kind), 0);
    p->peer = ends[1];
}

static void probe_socket(struct probe *p, uint32_t events)
{
    int ends[2];

    *p = (struct probe){0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(watch_open(&p->watch, ends[0], events, &probe_kind), 0);
    p->peer = ends[1];
}

static void probe_feed(struct probe *p)
{
    assert_int_equal(write(p->peer, "x", 1), 1);
}

static void probe_drain(struct probe *p)
{
    char byte;

    assert_int_equal(read(p->watch.fd, &byte, 1), 1);
}

static void probe_close(struct probe *p)
{
    watch_close(&p->watch);
    if (p->peer >= 0) close(p->peer);
    p->peer = -1;
}

/* ---- watches ---------------------------------------------------------------------------------------------------------------- */

static void test_a_descriptor_is_announced_when_it_is_ready_and_not_before(void **state)
{
    static struct probe p;

    (void)state;
    probe_pipe(&p, EPOLLIN);
    p.act = probe_drain;
    run_laps(3);
    assert_int_equal(p.calls, 0);
    probe_feed(&p);
    run_laps(3);
    assert_int_equal(p.calls, 1);
    assert_int_equal(p.events, EPOLLIN);
    probe_close(&p);
}

static void test_what_is_not_drained_is_announced_again(void **state)
{
    static struct probe p;

    (void)state;
    probe_pipe(&p, EPOLLIN);
    probe_feed(&p);
    run_laps(5);
    assert_int_equal(p.calls, 5);
    probe_close(&p);
}

static void test_interest_can_change(void **state)
{
    static struct probe p;

    (void)state;
    probe_socket(&p, 0);
    probe_feed(&p);
    run_laps(2);
    assert_int_equal(p.calls, 0);
    watch_arm(&p.watch, EPOLLIN);
    run_laps(1);
    assert_int_equal(p.calls, 1);
    assert_int_equal(p.events, EPOLLIN);
    watch_arm(&p.watch, EPOLLOUT);
    run_laps(1);
    assert_int_equal(p.calls, 2);
    assert_int_equal(p.events, EPOLLOUT);
    watch_arm(&p.watch, EPOLLIN | EPOLLOUT);
    run_laps(1);
    assert_int_equal(p.events, EPOLLIN | EPOLLOUT);
    watch_arm(&p.watch, 0);
    run_laps(2);
    assert_int_equal(p.calls, 3);
    probe_close(&p);
}

static void test_a_hangup_cannot_be_masked(void **state)
{
    static struct probe p;

    (void)state;
    probe_socket(&p, 0);
    close(p.peer);
    p.peer = -1;
    run_laps(1);
    assert_int_equal(p.calls, 1);
    assert_true(p.events & EPOLLHUP);
    probe_close(&p);
}

static void disarm_other(struct probe *p)
{
    watch_arm(&p->other->watch, 0);
}

static void test_an_event_that_nobody_wants_any_more_is_not_delivered(void **state)
{
    static struct probe a, b;

    (void)state;
    probe_pipe(&a, EPOLLIN);
    probe_pipe(&b, EPOLLIN);
    a.other = &b, b.other = &a;
    a.act = b.act = disarm_other;
    probe_feed(&a);
    probe_feed(&b);
    run_laps(1);
    assert_int_equal(a.calls + b.calls, 1); /* whichever came first */
    probe_close(&a);
    probe_close(&b);
}

static void close_other(struct probe *p)
{
    probe_close(p->other);
}

static void test_the_stale_event_of_a_watch_closed_in_the_same_batch_is_skipped(void **state)
{
    static struct probe a, b;

    (void)state;
    probe_pipe(&a, EPOLLIN);
    probe_pipe(&b, EPOLLIN);
    a.other = &b, b.other = &a;
    a.act = b.act = close_other;
    probe_feed(&a);
    probe_feed(&b);
    run_laps(3);
    struct probe *closed = a.calls ? &b : &a;
    assert_int_equal(closed->calls, 0);
    assert_int_equal(closed->releases, 1);
    assert_int_equal(closed->other->calls, 3);
    assert_int_equal(closed->other->releases, 0);
    probe_close(&a);
    probe_close(&b);
}

struct mortal {
    struct watch watch;
    int *deaths;
};

static void mortal_ready(struct watch *w, uint32_t events)
{
    struct mortal *m = containing(w, struct mortal, watch);

    (void)events;
    watch_close(w);
    watch_close(w);
    assert_int_equal(*m->deaths, 0); /* the memory is still ours */
    m->watch.armed = 7;
}

static void mortal_release(struct watch *w)
{
    struct mortal *m = containing(w, struct mortal, watch);

    ++*m->deaths;
    free(m);
}

static void test_a_watch_may_close_itself_and_is_freed_once_when_the_lap_ends(void **state)
{
    static const struct watch_kind kind = {.name = "mortal", .ready = mortal_ready, .release = mortal_release};
    int deaths = 0;

    (void)state;
    for (int i = 0; i < 50; i++) { /* the sanitizer says whether it was free'd too early, or twice */
        struct mortal *m = malloc(sizeof *m);

        assert_non_null(m);
        deaths = 0;
        m->deaths = &deaths;
        assert_int_equal(watch_open(&m->watch, eventfd(1, EFD_NONBLOCK), EPOLLIN, &kind), 0);
        run_laps(2);
        assert_int_equal(deaths, 1);
    }
}

static struct probe *first, *second;

static void close_second(struct watch *w)
{
    probe_release(w);
    probe_close(second);
}

static void test_a_release_may_close_another_watch(void **state)
{
    static const struct watch_kind kind = {.name = "first", .ready = probe_ready, .release = close_second};
    static struct probe a, b;

    (void)state;
    probe_pipe(&a, EPOLLIN);
    probe_pipe(&b, EPOLLIN);
    a.watch.kind = &kind;
    second = &b;
    probe_close(&a);
    run_laps(1);
    assert_int_equal(a.releases, 1);
    assert_int_equal(b.releases, 1);
}

static void test_a_closed_watch_stays_closed(void **state)
{
    static struct probe p;
    size_t open = loop_watches();

    (void)state;
    probe_pipe(&p, EPOLLIN);
    assert_int_equal(loop_watches(), open + 1);
    probe_close(&p);
    assert_int_equal(loop_watches(), open);
    assert_int_equal(p.watch.fd, -1);
    watch_arm(&p.watch, EPOLLIN);
    watch_close(&p.watch);
    run_laps(2);
    watch_close(&p.watch);
    run_laps(2);
    assert_int_equal(p.releases, 1);
    assert_int_equal(loop_watches(), open);
}

static void reuse_number_of_other(struct probe *p)
{
    static struct probe heir;
    int number = p->other->watch.fd, ends[2];

    probe_close(p->other);
    heir = (struct probe){0};
    assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    if (ends[0] != number) {
        assert_int_equal(fcntl(ends[0], F_DUPFD_CLOEXEC, number), number);
        close(ends[0]);
    }
    assert_int_equal(watch_open(&heir.watch, number, EPOLLIN, &probe_kind), 0);
    heir.peer = ends[1];
    p->other = &heir;
    p->act = NULL;
}

static void test_a_number_reused_within_the_batch_does_not_inherit_events(void **state)
{
    static struct probe a, b;

    (void)state;
    probe_pipe(&a, EPOLLIN);
    probe_pipe(&b, EPOLLIN);
    a.other = &b, b.other = &a;
    a.act = b.act = reuse_number_of_other;
    probe_feed(&a);
    probe_feed(&b);
    run_laps(2);
    struct probe *alive = a.calls ? &a : &b, *dead = a.calls ? &b : &a, *heir = alive->other;
    assert_int_equal(alive->calls, 2);
    assert_int_equal(dead->calls, 0);
    assert_int_equal(heir->calls, 0);
    probe_feed(heir);
    run_laps(1);
    assert_int_equal(heir->calls, 1);
    probe_close(alive);
    probe_close(heir);
    run_laps(1);
    assert_int_equal(heir->releases, 1);
}

static void test_close_means_del_even_if_a_dup_holds_the_file(void **state)
{
    static struct probe p;
    int copy;

    (void)state;
    probe_pipe(&p, EPOLLIN);
    copy = dup(p.watch.fd);
    assert_true(copy >= 0);
    probe_feed(&p);
    watch_close(&p.watch);
    run_laps(1);
    assert_int_equal(p.releases, 1);
    p.watch.fd = copy; /* as if the memory belonged to something else by now: an event for it would be delivered */
    p.releases = 0;
    run_laps(3);
    assert_int_equal(p.calls, 0);
    close(copy);
    close(p.peer);
}

static void test_a_descriptor_that_cannot_be_watched_remains_the_callers(void **state)
{
    static struct probe p = {0};
    size_t open_before = loop_watches();
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC); /* a regular file is always ready: epoll has no use for it */

    (void)state;
    assert_int_equal(watch_open(&p.watch, file, EPOLLIN, &probe_kind), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(loop_watches(), open_before);
    watch_close(&p.watch); /* nothing to close */
    run_laps(1);
    assert_int_equal(p.releases, 0);
    assert_int_equal(close(file), 0);
}

static void test_more_descriptors_than_one_batch_holds_are_all_served(void **state)
{
    enum { MANY = 600 };
    static struct probe probes[MANY];

    (void)state;
    for (int i = 0; i < MANY; i++) {
        probes[i] = (struct probe){.peer = -1};
        assert_int_equal(watch_open(&probes[i].watch, eventfd(1, EFD_NONBLOCK), EPOLLIN, &probe_kind), 0);
    }
    run_laps(10);
    for (int i = 0; i < MANY; i++) assert_in_range(probes[i].calls, 2, 6); /* 10 laps of 256 for 601: each its turn */
    for (int i = 0; i < MANY; i++) probe_close(&probes[i]);
}

/* ---- timers ----------------------------------------------------------------------------------------------------------------- */

struct alarm_clock {
    struct timer timer;
    int calls, last_call;
    void (*act)(struct alarm_clock *a);
    struct alarm_clock *other;
    bool answer;
};

static void alarm_fired(struct timer *t)
{
    struct alarm_clock *a = containing(t, struct alarm_clock, timer);

    assert_true(loop_now_ns() >= t->due_ns);
    assert_true(clock_ns() >= t->due_ns);
    assert_false(timer_pending(t));
    a->calls++;
    a->last_call = laps;
    if (a->act) a->act(a);
}

static void stop(struct alarm_clock *a)
{
    (void)a;
    loop_stop();
}

static char order[512];

static void note(const char *what)
{
    assert_true(strlen(order) + strlen(what) + 2 < sizeof order);
    if (*order) strcat(order, " ");
    strcat(order, what);
}

static void test_timers_fire_in_the_order_of_their_due_times_and_never_early(void **state)
{
    struct alarm_clock a = {.timer.fired = alarm_fired}, b = a, c = a;
    int64_t from = loop_now_ns();

    (void)state;
    c.act = stop;
    assert_true(timer_start(&c.timer, from + 3 * NS_PER_MS));
    assert_true(timer_start(&a.timer, from + 1 * NS_PER_MS));
    assert_true(timer_start(&b.timer, from + 2 * NS_PER_MS));
    assert_int_equal(loop_timers(), 3);
    run_until_stopped();
    assert_int_equal(a.calls + b.calls + c.calls, 3);
    assert_true(a.last_call <= b.last_call && b.last_call <= c.last_call);
    assert_true(clock_ns() - from >= 3 * NS_PER_MS);
    assert_int_equal(loop_timers(), 0);
}

static void start_again(struct alarm_clock *a)
{
    if (a->calls == 100) loop_stop();
    else assert_true(timer_start(&a->timer, a->calls % 2 ? 0 : loop_now_ns()));
}

static void test_a_timer_that_restarts_itself_lets_the_loop_go_on(void **state)
{
    struct alarm_clock a = {.timer.fired = alarm_fired, .act = start_again};

    (void)state;
    assert_true(timer_start(&a.timer, INT64_MIN));
    run_until_stopped();
    assert_int_equal(a.calls, 100);
    assert_true(laps >= 100 - 1); /* the last lap is not yet counted when the timer stops the loop */
}

static void start_other_now(struct alarm_clock *a)
{
    assert_true(timer_start(&a->other->timer, loop_now_ns()));
}

static void test_a_timer_started_by_a_timer_waits_for_the_next_lap(void **state)
{
    struct alarm_clock b = {.timer.fired = alarm_fired, .act = stop},
                       a = {.timer.fired = alarm_fired, .act = start_other_now, .other = &b};

    (void)state;
    assert_true(timer_start(&a.timer, 0));
    run_until_stopped();
    assert_true(b.last_call > a.last_call);
}

static void test_a_cancelled_timer_does_not_fire_and_cancel_says_so(void **state)
{
    struct alarm_clock a = {.timer.fired = alarm_fired}, b = {.timer.fired = alarm_fired, .act = stop};

    (void)state;
    assert_false(timer_cancel(&a.timer)); /* never started */
    assert_true(timer_start(&a.timer, 0));
    assert_true(timer_pending(&a.timer));
    assert_true(timer_cancel(&a.timer));
    assert_false(timer_pending(&a.timer));
    assert_false(timer_cancel(&a.timer));
    assert_true(timer_start(&b.timer, 0));
    run_until_stopped();
    assert_int_equal(a.calls, 0);
    assert_int_equal(b.calls, 1);
    assert_false(timer_cancel(&b.timer)); /* has fired */
}

static void cancel_both(struct alarm_clock *a)
{
    a->answer = timer_cancel(&a->other->timer);
    assert_false(timer_cancel(&a->timer));
    loop_stop();
}

static void test_a_timer_due_in_the_same_lap_can_still_be_cancelled(void **state)
{
    struct alarm_clock a = {.timer.fired = alarm_fired, .act = cancel_both}, b = {.timer.fired = alarm_fired};

    (void)state;
    a.other = &b;
    assert_true(timer_start(&a.timer, 1));
    assert_true(timer_start(&b.timer, 1));
    assert_true(timer_start(&b.timer, b.timer.due_ns + 1));
    run_until_stopped();
    assert_int_equal(a.calls, 1);
    assert_true(a.answer);
    run_laps(5);
    assert_int_equal(b.calls, 0);
}

static void test_a_pending_timer_can_be_moved_even_without_memory(void **state)
{
    struct alarm_clock a = {.timer.fired = alarm_fired}, b = {.timer.fired = alarm_fired, .act = stop};
    int64_t from = loop_now_ns();

    (void)state;
    assert_true(timer_start(&a.timer, 0));
    assert_true(timer_start(&b.timer, from + NS_PER_S));
    memory_is_out = true;
    assert_true(timer_start(&a.timer, from + 1000 * NS_PER_S));
    assert_true(timer_start(&b.timer, from + NS_PER_MS));
    memory_is_out = false;
    assert_int_equal(loop_timers(), 2);
    run_until_stopped();
    assert_int_equal(a.calls, 0);
    assert_int_equal(b.calls, 1);
    assert_true(timer_cancel(&a.timer));
}

static void test_without_memory_a_timer_is_not_pending(void **state)
{
    static struct alarm_clock clocks[1000];
    size_t pending = 0;

    (void)state;
    for (size_t i = 0; i < 1000; i++) {
        clocks[i] = (struct alarm_clock){.timer.fired = alarm_fired};
        memory_is_out = i % 2;
        bool started = timer_start(&clocks[i].timer, (int64_t)i);
        memory_is_out = false;
        assert_int_equal(started, timer_pending(&clocks[i].timer));
        pending += started;
        assert_int_equal(loop_timers(), pending);
    }
    assert_in_range(pending, 500, 999);
    for (size_t i = 0; i < 1000; i++) timer_cancel(&clocks[i].timer);
    assert_int_equal(loop_timers(), 0);
}

static void test_the_end_of_time_is_a_time(void **state)
{
    struct alarm_clock a = {.timer.fired = alarm_fired}, b = {.timer.fired = alarm_fired, .act = stop};

    (void)state;
    assert_true(timer_start(&a.timer, INT64_MAX));
    run_laps(3);
    assert_true(timer_start(&b.timer, INT64_MIN));
    run_until_stopped();
    assert_int_equal(a.calls, 0);
    assert_true(timer_cancel(&a.timer));
}

/* 10,000 timers that move and cancel each other: whoever fires must be the earliest of all that are pending. */
enum { TIMERS = 10000 };

static struct alarm_clock many[TIMERS];
static bool expected[TIMERS];
static size_t expecting;
static uint64_t random_state;

static size_t random_below(size_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (size_t)((random_state >> 11) % n);
}

static void start_one(size_t i)
{
    assert_true(timer_start(&many[i].timer, loop_now_ns() + (int64_t)random_below(20 * NS_PER_MS)));
    expecting += !expected[i];
    expected[i] = true;
}

static void cancel_one(size_t i)
{
    assert_int_equal(timer_cancel(&many[i].timer), expected[i]);
    expecting -= expected[i];
    expected[i] = false;
}

static void one_of_many(struct alarm_clock *a)
{
    size_t self = (size_t)(a - many);

    assert_true(expected[self]);
    expected[self] = false;
    expecting--;
    for (size_t i = self % 16 ? TIMERS : 0; i < TIMERS; i++) { /* every 16th looks at all the others */
        if (expected[i]) assert_true(many[i].timer.due_ns >= a->timer.due_ns);
    }
    if (random_below(10) == 0) start_one(random_below(TIMERS)); /* a new life, or another time */
    if (random_below(10) == 0) cancel_one(random_below(TIMERS));
    assert_int_equal(loop_timers(), expecting);
    if (!expecting) loop_stop();
}

static void test_ten_thousand_random_timers_agree_with_the_model(void **state)
{
    (void)state;
    random_state = 20191025;
    expecting = 0;
    for (size_t i = 0; i < TIMERS; i++) {
        many[i] = (struct alarm_clock){.timer.fired = alarm_fired, .act = one_of_many};
        expected[i] = false;
        start_one(i);
    }
    for (size_t i = 0; i < TIMERS / 2; i++) {
        cancel_one(random_below(TIMERS));
        start_one(random_below(TIMERS));
    }
    run_until_stopped();
    assert_int_equal(loop_timers(), 0);
}

/* The hardest order: in one batch, the timerfd before a client's bytes. When `late` is set, the end of the lap waits
 * until the timerfd is readable, and only then lets the bytes come. */
static struct probe *late;

static void ignore_woke(int ready, int64_t slept_ns)
{
    (void)ready, (void)slept_ns;
}
static void ignore_fired(const struct timer *t)
{
    (void)t;
}
static void ignore_completed(const struct op *op)
{
    (void)op;
}

static void note_timerfd(const struct watch *w, uint32_t events)
{
    (void)events;
    if (strcmp(w->kind->name, "timerfd") == 0) note("timerfd");
}

static void feed_late(int64_t worked_ns)
{
    struct pollfd timerfd = {.events = POLLIN};

    (void)worked_ns;
    if (!late) return;
    timerfd.fd = own_fd("anon_inode:[timerfd]");
    assert_int_equal(poll(&timerfd, 1, -1), 1);
    probe_feed(late);
    late = NULL;
}

static const struct loop_observer timerfd_first = {
    .woke = ignore_woke, .dispatched = note_timerfd, .fired = ignore_fired, .completed = ignore_completed, .lap_ended = feed_late};

static struct alarm_clock deadline;

static void set_deadline(struct probe *p)
{
    probe_drain(p);
    assert_true(timer_start(&deadline.timer, 0));
    late = second;
}

static void note_and_stop(struct alarm_clock *a)
{
    (void)a;
    note("deadline");
    loop_stop();
}

static void note_client(struct probe *p)
{
    probe_drain(p);
    note("client");
}

static void run_with_timerfd_first(void (*act)(struct probe *p))
{
    static struct probe a, b;

    probe_pipe(&a, EPOLLIN);
    probe_pipe(&b, EPOLLIN);
    first = &a, second = &b;
    a.act = set_deadline;
    b.act = act;
    deadline = (struct alarm_clock){.timer.fired = alarm_fired, .act = note_and_stop};
    *order = '\0';
    loop_observe(&timerfd_first);
    probe_feed(&a);
    run_until_stopped();
    probe_close(&a);
    probe_close(&b);
}

static void test_a_client_whose_bytes_are_here_is_served_before_its_deadline(void **state)
{
    (void)state;
    run_with_timerfd_first(note_client);
    assert_string_equal(order, "timerfd client deadline");
}

static void cancel_deadline(struct probe *p)
{
    note_client(p);
    assert_true(timer_cancel(&deadline.timer));
    loop_stop();
}

static void test_a_client_may_cancel_the_deadline_that_is_due_in_the_same_lap(void **state)
{
    (void)state;
    run_with_timerfd_first(cancel_deadline);
    assert_string_equal(order, "timerfd client");
    run_laps(3);
    assert_int_equal(deadline.calls, 0);
}

static void move_deadline(struct probe *p)
{
    note_client(p);
    assert_true(timer_start(&deadline.timer, loop_now_ns() + 2 * NS_PER_MS));
}

static void test_a_deadline_moved_in_the_lap_in_which_it_was_due_strikes_later(void **state)
{
    (void)state;
    run_with_timerfd_first(move_deadline);
    assert_string_equal(order, "timerfd client timerfd deadline");
}

/* ---- ops ---------------------------------------------------------------------------------------------------------------------- */

struct job {
    struct op op;
    int thread, number;
};

enum { THREADS = 4, JOBS = 25000 };

static struct job jobs[THREADS][JOBS];
static int jobs_done[THREADS], jobs_total;

static void job_done(struct op *op)
{
    struct job *j = containing(op, struct job, op);

    assert_null(op->next);
    assert_int_equal(j->number, jobs_done[j->thread]); /* first come, first served; and once */
    jobs_done[j->thread]++;
    if (++jobs_total == THREADS * JOBS) loop_stop();
}

static void *post_jobs(void *mine) /* a thread of its own */
{
    struct job *all = mine;

    for (int i = 0; i < JOBS;) {
        int n = 1 + i % 7;

        if (n > JOBS - i) n = JOBS - i;
        for (int k = 0; k < n; k++) all[i + k].op.next = k + 1 < n ? &all[i + k + 1].op : NULL;
        loop_post(&all[i].op);
        i += n;
    }
    return NULL;
}

static void test_what_several_threads_post_arrives_once_and_in_order(void **state)
{
    pthread_t threads[THREADS];

    (void)state;
    jobs_total = 0;
    for (int t = 0; t < THREADS; t++) {
        jobs_done[t] = 0;
        for (int i = 0; i < JOBS; i++) jobs[t][i] = (struct job){.op.done = job_done, .thread = t, .number = i};
    }
    for (int t = 0; t < THREADS; t++) assert_int_equal(pthread_create(&threads[t], NULL, post_jobs, jobs[t]), 0);
    run_until_stopped();
    for (int t = 0; t < THREADS; t++) assert_int_equal(pthread_join(threads[t], NULL), 0);
    for (int t = 0; t < THREADS; t++) assert_int_equal(jobs_done[t], JOBS);
}

struct rally {
    struct op op;
    int laps[3];
    int round;
};

static void ball_back(struct op *op)
{
    struct rally *r = containing(op, struct rally, op);

    r->laps[r->round] = laps;
    if (++r->round == 3) loop_stop();
    else loop_post(op);
}

static void test_what_done_posts_is_done_in_a_later_lap(void **state)
{
    struct rally r = {.op.done = ball_back};

    (void)state;
    loop_post(&r.op);
    assert_int_equal(r.round, 0); /* never inside the call that started it */
    run_until_stopped();
    assert_int_equal(r.round, 3);
    assert_true(r.laps[0] < r.laps[1] && r.laps[1] < r.laps[2]);
}

static int done_count;

static void count_done(struct op *op)
{
    (void)op;
    done_count++;
}

static void test_what_slips_in_around_the_silencing_of_the_bell_is_not_forgotten(void **state)
{
    struct op a = {.done = count_done}, b = a, c = a, d = a;

    (void)state;
    done_count = 0;
    loop_post(&a);
    before_read = &b;
    run_laps(3);
    assert_int_equal(done_count, 2);
    loop_post(&c);
    after_read = &d;
    run_laps(3);
    assert_int_equal(done_count, 4);
}

static int done_before_lap, done_in_a_lap;

static void count_lap(void)
{
    if (done_count - done_before_lap > done_in_a_lap) done_in_a_lap = done_count - done_before_lap;
    done_before_lap = done_count;
    lap_done();
}

static void test_a_flood_of_completions_leaves_the_others_their_turn(void **state)
{
    enum { FLOOD = 1000, TURN = 100 };
    static struct op flood[FLOOD];

    (void)state;
    done_count = done_before_lap = done_in_a_lap = 0;
    for (int i = 0; i < FLOOD; i++) flood[i] = (struct op){.done = count_done, .next = i + 1 < FLOOD ? &flood[i + 1] : NULL};
    loop_post(flood);
    hook = count_lap;
    run_laps(FLOOD / 10);
    assert_int_equal(done_count, FLOOD);
    assert_in_range(done_in_a_lap, 1, TURN);
}

static int crowd_before_stranger;

static void stranger_done(struct op *op)
{
    (void)op;
    crowd_before_stranger = done_count;
}

static void test_a_stranger_goes_before_a_crowd(void **state)
{
    enum { CROWD = 1000, PATIENCE = 64 };
    static struct op crowd[CROWD];
    struct op stranger = {.done = stranger_done};

    (void)state;
    done_count = done_before_lap = done_in_a_lap = 0;
    for (int i = 0; i < CROWD; i++)
        crowd[i] = (struct op){.done = count_done, .crowd = true, .next = i + 1 < CROWD ? &crowd[i + 1] : NULL};
    loop_post(crowd);
    run_laps(2);
    int before = done_count;
    assert_in_range(before, 1, PATIENCE);
    loop_post(&stranger);
    hook = count_lap;
    run_laps(CROWD / 10);
    assert_int_equal(done_count, CROWD);
    assert_in_range(crowd_before_stranger, before, before + PATIENCE);
}

static sem_t back;

static void ball_out(struct op *op)
{
    (void)op;
    sem_post(&back);
}

static void stop_done(struct op *op)
{
    (void)op;
    loop_stop();
}

static struct op stop_op = {.done = stop_done};

static void *play(void *unused) /* a thread of its own */
{
    struct op ball = {.done = ball_out};

    (void)unused;
    for (int i = 0; i < 10000; i++) { /* each time the loop is asleep, or about to be */
        loop_post(&ball);
        while (sem_wait(&back) != 0) continue;
    }
    loop_post(&stop_op);
    return NULL;
}

static void test_no_wakeup_is_lost(void **state)
{
    pthread_t thread;

    (void)state;
    assert_int_equal(sem_init(&back, 0, 0), 0);
    assert_int_equal(pthread_create(&thread, NULL, play, NULL), 0);
    run_until_stopped();
    assert_int_equal(pthread_join(thread, NULL), 0);
    sem_destroy(&back);
}

/* ---- the lap ------------------------------------------------------------------------------------------------------------------ */

static _Atomic int interruptions;
static pthread_t loop_thread;

static void count_interruptions(int ready, int64_t slept_ns)
{
    (void)slept_ns;
    if (ready == 0) interruptions++;
}

static void ignore_dispatched(const struct watch *w, uint32_t events)
{
    (void)w, (void)events;
}
static void ignore_lap_ended(int64_t worked_ns)
{
    (void)worked_ns;
}
static void ignore_signal(int signal)
{
    (void)signal;
}

static void *interrupt(void *unused) /* a thread of its own */
{
    (void)unused;
    while (interruptions < 3) {
        pthread_kill(loop_thread, SIGUSR1);
        sched_yield();
    }
    loop_post(&stop_op);
    return NULL;
}

static void test_a_signal_is_only_an_empty_batch(void **state)
{
    static const struct loop_observer observer = {.woke = count_interruptions,
                                                  .dispatched = ignore_dispatched,
                                                  .fired = ignore_fired,
                                                  .completed = ignore_completed,
                                                  .lap_ended = ignore_lap_ended};
    struct sigaction action = {.sa_handler = ignore_signal, .sa_flags = SA_RESTART};
    struct alarm_clock never = {.timer.fired = alarm_fired};
    pthread_t thread;

    (void)state;
    interruptions = 0;
    loop_thread = pthread_self();
    loop_observe(&observer);
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    assert_true(timer_start(&never.timer, loop_now_ns() + 1000 * NS_PER_S));
    assert_int_equal(pthread_create(&thread, NULL, interrupt, NULL), 0);
    run_until_stopped();
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(interruptions >= 3);
    assert_int_equal(never.calls, 0);
    assert_true(timer_cancel(&never.timer));
}

static void stop_probe(struct probe *p)
{
    (void)p;
    loop_stop();
}

static void test_a_stopped_loop_finishes_its_lap(void **state)
{
    static struct probe a, b;

    (void)state;
    probe_pipe(&a, EPOLLIN);
    probe_pipe(&b, EPOLLIN);
    a.act = b.act = stop_probe;
    probe_feed(&a);
    probe_feed(&b);
    run_until_stopped();
    assert_int_equal(a.calls, 1);
    assert_int_equal(b.calls, 1);
    assert_int_equal(laps, 2); /* it slept before its lap, and would have slept after it */
    run_until_stopped();       /* and can be run again */
    assert_int_equal(laps, 4);
    probe_close(&a);
    probe_close(&b);
}

static void note_number(const char *what, int number)
{
    char text[32];

    snprintf(text, sizeof text, "%s%d", what, number);
    note(text);
}

static void note_woke(int ready, int64_t slept_ns)
{
    assert_true(slept_ns >= 0);
    note_number("woke:", ready);
}

static void note_dispatched(const struct watch *w, uint32_t events)
{
    assert_true(events & EPOLLIN);
    note(w->kind->name);
}

static void note_fired(const struct timer *t)
{
    assert_ptr_equal(t, &deadline.timer);
    note("fires");
}

static void note_completed(const struct op *op)
{
    note(op->what);
}

static void note_lap_ended(int64_t worked_ns)
{
    assert_true(worked_ns >= 0);
    note("slept");
}

static void start_deadline(struct op *op)
{
    (void)op;
    note("done");
    assert_true(timer_start(&deadline.timer, 0));
}

static void note_hook(void)
{
    note("before-sleep");
    lap_done();
}

static void note_ready(struct probe *p)
{
    note("ready");
    probe_close(p);
}

static void note_release(struct watch *w)
{
    probe_release(w);
    note("released");
}

static void test_an_observer_sees_the_lap_in_order(void **state)
{
    static const struct loop_observer observer = {.woke = note_woke,
                                                  .dispatched = note_dispatched,
                                                  .fired = note_fired,
                                                  .completed = note_completed,
                                                  .lap_ended = note_lap_ended};
    static const struct watch_kind client = {.name = "client", .ready = probe_ready, .release = note_release};
    struct op query = {.done = start_deadline, .what = "db"};
    static struct probe p;

    (void)state;
    probe_pipe(&p, EPOLLIN);
    p.watch.kind = &client;
    p.act = note_ready;
    deadline = (struct alarm_clock){.timer.fired = alarm_fired, .act = note_and_stop};
    *order = '\0';
    loop_observe(&observer);
    hook = note_hook;
    loop_post(&query);
    probe_feed(&p);
    run_until_stopped();
    assert_string_equal(order, "before-sleep woke:2 eventfd db done client ready before-sleep released slept "
                               "woke:1 timerfd fires deadline before-sleep slept");
    loop_observe(NULL);
    run_laps(1);
    assert_string_equal(strstr(order, "deadline"), "deadline before-sleep slept before-sleep before-sleep"); /* nobody looks */
}

static void note_first(void)
{
    note("first");
}

static void note_second(void)
{
    note("second");
    loop_stop();
}

static void test_who_wants_to_be_called_before_sleep_is_called_in_turn_and_once(void **state)
{
    (void)state;
    *order = '\0';
    loop_before_sleep(note_first);
    loop_before_sleep(note_second);
    loop_before_sleep(note_first);
    run_laps(1);
    assert_string_equal(order, "first second");
}

static void close_second_before_sleep(void)
{
    probe_close(second);
    lap_done();
}

static void test_what_is_closed_before_sleep_is_released_in_the_same_lap(void **state)
{
    static struct probe p;

    (void)state;
    probe_pipe(&p, EPOLLIN);
    second = &p;
    hook = close_second_before_sleep;
    run_laps(1);
    assert_int_equal(p.releases, 1);
}

static void test_now_is_the_moment_the_lap_woke_up(void **state)
{
    int64_t before = clock_ns();

    (void)state;
    run_laps(1);
    assert_true(loop_now_ns() >= before && loop_now_ns() <= clock_ns());
    before = loop_now_ns();
    run_laps(1);
    assert_true(loop_now_ns() >= before);
}

static void close_epoll(struct probe *p)
{
    (void)p;
    close(own_fd("anon_inode:[eventpoll]"));
}

static void test_when_epoll_fails_the_loop_says_so(void **state)
{
    static struct probe p;

    (void)state;
    probe_pipe(&p, EPOLLIN);
    p.act = close_epoll;
    probe_feed(&p);
    last_lap = INT_MAX;
    assert_int_equal(loop_run(), -1);
    assert_int_equal(errno, EBADF);
    probe_close(&p);
}

/* ---- opening and closing it -------------------------------------------------------------------------------------------------- */

static void test_a_closed_loop_can_be_opened_again(void **state)
{
    static struct alarm_clock forgotten = {.timer.fired = alarm_fired};
    struct alarm_clock a = {.timer.fired = alarm_fired, .act = stop};
    struct op lost = {.done = stop_done};

    for (int i = 0; i < 3; i++) {
        static struct probe p;

        assert_true(timer_start(&forgotten.timer, loop_now_ns() + 1000 * NS_PER_S));
        probe_pipe(&p, EPOLLIN);
        loop_post(&lost);
        probe_close(&p);
        assert_int_equal(teardown(state), 0);
        assert_int_equal(p.releases, 1); /* closed after the last lap, released all the same */
        assert_false(timer_pending(&forgotten.timer));
        assert_int_equal(setup(state), 0);
        probe_pipe(&p, EPOLLIN);
        probe_feed(&p);
        run_laps(2);
        assert_int_equal(p.calls, 2);
        assert_true(timer_start(&a.timer, 0));
        run_until_stopped();
        assert_int_equal(a.calls, i + 1);
        probe_close(&p);
        run_laps(1); /* released: only now may the same memory be opened again */
    }
}

static void test_closing_a_loop_that_is_not_open_closes_nothing(void **state)
{
    int before = count_fds(NULL, NULL);

    (void)state;
    loop_close();
    loop_close();
    assert_int_equal(count_fds(NULL, NULL), before);
}

static void test_a_loop_that_finds_no_descriptor_leaves_none(void **state)
{
    struct rlimit limit, full;
    int before = count_fds(NULL, NULL), lowest = dup(0);

    (void)state;
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int room = 0; room < 3; room++) { /* it needs three: epoll, timerfd, eventfd */
        full = (struct rlimit){.rlim_cur = (rlim_t)(lowest + room), .rlim_max = limit.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &full), 0);
        int rc = loop_open(), error = errno;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_int_equal(rc, -1);
        assert_int_equal(error, EMFILE);
        assert_int_equal(count_fds(NULL, NULL), before);
        assert_int_equal(loop_watches(), 0);
    }
    assert_int_equal(loop_open(), 0);
    loop_close();
    assert_int_equal(count_fds(NULL, NULL), before);
}

#define IN_A_LOOP(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closing_a_loop_that_is_not_open_closes_nothing),
        cmocka_unit_test(test_a_loop_that_finds_no_descriptor_leaves_none),
        IN_A_LOOP(test_a_closed_loop_can_be_opened_again),
        IN_A_LOOP(test_a_descriptor_is_announced_when_it_is_ready_and_not_before),
        IN_A_LOOP(test_what_is_not_drained_is_announced_again),
        IN_A_LOOP(test_interest_can_change),
        IN_A_LOOP(test_a_hangup_cannot_be_masked),
        IN_A_LOOP(test_an_event_that_nobody_wants_any_more_is_not_delivered),
        IN_A_LOOP(test_the_stale_event_of_a_watch_closed_in_the_same_batch_is_skipped),
        IN_A_LOOP(test_a_watch_may_close_itself_and_is_freed_once_when_the_lap_ends),
        IN_A_LOOP(test_a_release_may_close_another_watch),
        IN_A_LOOP(test_a_closed_watch_stays_closed),
        IN_A_LOOP(test_a_number_reused_within_the_batch_does_not_inherit_events),
        IN_A_LOOP(test_close_means_del_even_if_a_dup_holds_the_file),
        IN_A_LOOP(test_a_descriptor_that_cannot_be_watched_remains_the_callers),
        IN_A_LOOP(test_more_descriptors_than_one_batch_holds_are_all_served),
        IN_A_LOOP(test_timers_fire_in_the_order_of_their_due_times_and_never_early),
        IN_A_LOOP(test_a_timer_that_restarts_itself_lets_the_loop_go_on),
        IN_A_LOOP(test_a_timer_started_by_a_timer_waits_for_the_next_lap),
        IN_A_LOOP(test_a_cancelled_timer_does_not_fire_and_cancel_says_so),
        IN_A_LOOP(test_a_timer_due_in_the_same_lap_can_still_be_cancelled),
        IN_A_LOOP(test_a_pending_timer_can_be_moved_even_without_memory),
        IN_A_LOOP(test_without_memory_a_timer_is_not_pending),
        IN_A_LOOP(test_the_end_of_time_is_a_time),
        IN_A_LOOP(test_ten_thousand_random_timers_agree_with_the_model),
        IN_A_LOOP(test_a_client_whose_bytes_are_here_is_served_before_its_deadline),
        IN_A_LOOP(test_a_client_may_cancel_the_deadline_that_is_due_in_the_same_lap),
        IN_A_LOOP(test_a_deadline_moved_in_the_lap_in_which_it_was_due_strikes_later),
        IN_A_LOOP(test_what_several_threads_post_arrives_once_and_in_order),
        IN_A_LOOP(test_what_done_posts_is_done_in_a_later_lap),
        IN_A_LOOP(test_what_slips_in_around_the_silencing_of_the_bell_is_not_forgotten),
        IN_A_LOOP(test_a_flood_of_completions_leaves_the_others_their_turn),
        IN_A_LOOP(test_a_stranger_goes_before_a_crowd),
        IN_A_LOOP(test_no_wakeup_is_lost),
        IN_A_LOOP(test_a_signal_is_only_an_empty_batch),
        IN_A_LOOP(test_a_stopped_loop_finishes_its_lap),
        IN_A_LOOP(test_an_observer_sees_the_lap_in_order),
        IN_A_LOOP(test_who_wants_to_be_called_before_sleep_is_called_in_turn_and_once),
        IN_A_LOOP(test_what_is_closed_before_sleep_is_released_in_the_same_lap),
        IN_A_LOOP(test_now_is_the_moment_the_lap_woke_up),
        IN_A_LOOP(test_when_epoll_fails_the_loop_says_so),
    };

    alarm(60);
    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
