/* LDFLAGS: -Wl,--wrap=loop_observe -Wl,--wrap=poll */
/* test_trace.c: what the log and the histogram of laps say is true, and saying it stops nobody.
 *
 * The loop stands still here: the test tells the observer what a loop would. Should the log wait for its reader, alarm(2) ends the
 * program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h> /* after the headers that it needs */

#include "reactor/loop.h"
#include "reactor/trace.h"

#define DEADLINE_S 20

static const struct loop_observer *observer; /* what trace.c gave the loop */

void __real_loop_observe(const struct loop_observer *o);
void __wrap_loop_observe(const struct loop_observer *o);
void __wrap_loop_observe(const struct loop_observer *o)
{
    observer = o;
}

static int crowded = -1; /* a pipe that another process fills as soon as somebody has looked whether it is writable */

static void fill(int fd)
{
    static const char page[4096];

    for (int flags = fcntl(fd, F_GETFL); fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;) {
        while (write(fd, page, sizeof page) > 0) continue;
        fcntl(fd, F_SETFL, flags);
        return;
    }
}

int __real_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    int ready = __real_poll(fds, n, timeout_ms);

    if (crowded >= 0) fill(crowded);
    return ready;
}

/* ---- laps ------------------------------------------------------------------------------------------------------------------- */

/* How many laps the histogram counts up to this bound, as /metrics prints it. */
static unsigned laps_below(const char *le)
{
    struct buf out = {0};
    char label[64];
    unsigned n = 0;

    snprintf(label, sizeof label, "forno_lap_seconds_bucket{le=\"%s\"} ", le);
    trace_metrics(&out);
    buf_put(&out, "", 1);
    char *line = strstr(out.mem + out.start, label);
    assert_non_null(line);
    assert_int_equal(sscanf(line + strlen(label), "%u", &n), 1);
    buf_free(&out);
    return n;
}

static unsigned counted_below(int64_t lap_ns, const char *le)
{
    unsigned before = laps_below(le);

    observer->lap_ended(lap_ns);
    return laps_below(le) - before;
}

static void test_a_lap_is_counted_within_its_bound_to_the_nanosecond(void **state)
{
    static const char *const bounds[] = {"4e-06",    "1.6e-05",  "6.4e-05",  "0.000256", "0.001024",
                                         "0.004096", "0.016384", "0.065536", "0.262144", "1.04858"};
    int64_t bound_ns = 4000;

    (void)state;
    trace_open(LOG_OFF, 0, false);
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++, bound_ns *= 4) {
        assert_int_equal(counted_below(bound_ns, bounds[i]), 1);
        assert_int_equal(counted_below(bound_ns + 1, bounds[i]), 0);
    }
    assert_int_equal(counted_below(4900, "4e-06"), 0);
    assert_int_equal(counted_below(19000, "1.6e-05"), 0);
    assert_int_equal(counted_below(INT64_MAX / 2, "+Inf"), 1);
}

/* ---- the log ------------------------------------------------------------------------------------------------------------------ */

static int pipe_ends[2], real_stderr;

/* From now on stderr is `fd`, which belongs to it. */
static void log_to(int fd, int64_t stall_ms)
{
    real_stderr = dup(STDERR_FILENO);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    close(fd);
    trace_open(LOG_TEXT, stall_ms, false);
}

static void log_back(void)
{
    assert_int_equal(dup2(real_stderr, STDERR_FILENO), STDERR_FILENO);
    close(real_stderr);
    close(pipe_ends[0]);
    trace_open(LOG_OFF, 0, false);
}

static size_t read_log(char *text, size_t size)
{
    ssize_t n = read(pipe_ends[0], text, size - 1);

    assert_true(n > 0);
    text[n] = '\0';
    return (size_t)n;
}

static void stall(const char *step, char *text, size_t size)
{
    assert_int_equal(pipe(pipe_ends), 0);
    log_to(pipe_ends[1], 50);
    observer->woke(1, 0);
    if (step) trace_step(step);
    observer->lap_ended(61 * NS_PER_MS);
    trace_flush();
    read_log(text, size);
    log_back();
    assert_non_null(strstr(text, "the loop stood still for 61.0 ms"));
}

/* The coarse clock lags behind the lap's own: a step may seem to have taken less than nothing. */
static void test_a_stall_is_put_down_to_nobody_who_did_not_cause_it(void **state)
{
    char text[512];

    (void)state;
    stall(NULL, text, sizeof text);
    assert_null(strstr(text, "took -"));
    assert_non_null(strstr(text, "no step of a request took as long"));
    for (int i = 0; i < 20; i++) {
        stall("quick", text, sizeof text);
        assert_null(strstr(text, "took -"));
    }
}

static void test_a_log_pipe_that_others_fill_stops_nobody(void **state)
{
    char text[8192], drained[65536 * 2];

    (void)state;
    assert_int_equal(pipe(pipe_ends), 0);
    int flags = fcntl(pipe_ends[1], F_GETFL), others = dup(pipe_ends[1]);
    log_to(pipe_ends[1], 0);
    crowded = others;
    trace_note("one");
    trace_flush(); /* filled between the look and the write */
    crowded = -1;
    fill(others);
    trace_note("two");
    trace_flush();                                   /* full before the look */
    assert_int_equal(fcntl(others, F_GETFL), flags); /* O_NONBLOCK is not ours to set for others */

    assert_true(read(pipe_ends[0], drained, sizeof drained) > 0);
    trace_flush();
    read_log(text, sizeof text);
    assert_non_null(strstr(text, " two\n")); /* nothing is lost */
    close(others);
    log_back();
}

static void test_a_log_socket_that_is_full_stops_nobody(void **state)
{
    char text[8192];
    static char drained[1 << 22];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pipe_ends), 0);
    int others = dup(pipe_ends[1]);
    log_to(pipe_ends[1], 0);
    crowded = others;
    trace_note("one");
    trace_flush();
    crowded = -1;
    fill(others);
    while (recv(pipe_ends[0], drained, sizeof drained, MSG_DONTWAIT) > 0) continue;
    trace_note("two");
    trace_flush();
    read_log(text, sizeof text);
    assert_non_null(strstr(text, " two\n"));
    close(others);
    log_back();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_lap_is_counted_within_its_bound_to_the_nanosecond),
        cmocka_unit_test(test_a_stall_is_put_down_to_nobody_who_did_not_cause_it),
        cmocka_unit_test(test_a_log_pipe_that_others_fill_stops_nobody),
        cmocka_unit_test(test_a_log_socket_that_is_full_stops_nobody),
    };

    alarm(DEADLINE_S);
    if (loop_open() != 0) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    loop_close();
    return failed;
}
