/* trace.c: the server seen from outside: counters, the log, the recording, the narration of --trace, /metrics.
 *
 * It owns what is known about the server's work, and stderr. It never waits and never changes what it watches. The subtle
 * thing is stderr: a pipe that nobody reads would stop a logging loop dead, so lines are gathered, written once a lap as far
 * as stderr takes them without waiting, and beyond a bound they are dropped and counted. */
#include "reactor/trace.h"

#include "reactor/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOG_MAX (256 * 1024) /* bytes of log that may wait for a slow reader */

struct trace_counters counters;

/* ---- the log --------------------------------------------------------------------------------------------------------------- */

static struct {
    enum log_style style;
    struct buf lines;
    int fd; /* stderr, or what is stderr opened a second time, nonblocking */
    bool is_socket;
} logger = {.style = LOG_TEXT, .fd = STDERR_FILENO};

/* Trap: logging to a slow pipe. That poll() calls it writable is no promise to one who shares it: the others may fill it before we
 * write. O_NONBLOCK on stderr itself is not ours to set, since it belongs to everyone who shares the descriptor; but a pipe or a
 * terminal can be opened a second time, and that one's flag is ours (proc(5), /proc/PID/fd). Files do not wait for a reader. */
static void log_open(void)
{
    struct stat st;

    if (logger.fd != STDERR_FILENO) close(logger.fd);
    logger.fd = STDERR_FILENO;
    if (fstat(STDERR_FILENO, &st) != 0) return;
    logger.is_socket = S_ISSOCK(st.st_mode);
    if (!S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode)) return;
    int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    /* Another user's, or no /proc: poll() and PIPE_BUF (pipe(7)) are what is left, and good enough if nobody shares it. */
    if (fd >= 0) logger.fd = fd;
}

static ssize_t log_write(const char *at, size_t n)
{
    struct pollfd err = {.fd = STDERR_FILENO, .events = POLLOUT};

    if (logger.fd == STDERR_FILENO && poll(&err, 1, 0) != 1) {
        errno = EAGAIN;
        return -1;
    }
    return logger.is_socket ? send(logger.fd, at, n, MSG_DONTWAIT | MSG_NOSIGNAL) : write(logger.fd, at, n);
}

/* What is at most PIPE_BUF long goes into a pipe in one piece; cut after a line, so that lines of several processes do not mix. */
void trace_flush(void)
{
    if (logger.lines.failed) { /* no memory for a line: there is a hole in what was gathered, and the next lines are worth more */
        counters.log_dropped++;
        buf_free(&logger.lines);
    }
    while (buf_len(&logger.lines)) {
        const char *at = logger.lines.mem + logger.lines.start;
        size_t n = buf_len(&logger.lines) < PIPE_BUF ? buf_len(&logger.lines) : PIPE_BUF;
        const char *end = memrchr(at, '\n', n);
        ssize_t put = log_write(at, end ? (size_t)(end + 1 - at) : n);

        if (put < 0 && errno == EINTR) continue;
        if (put < 0 && errno == EAGAIN) return;
        if (put < 0) { /* closed, or its disk is full: nobody will ever read this */
            buf_free(&logger.lines);
            return;
        }
        buf_consume(&logger.lines, (size_t)put);
    }
}

static bool log_has_room(void)
{
    if (buf_len(&logger.lines) < LOG_MAX) return true;
    counters.log_dropped++;
    return false;
}

static void log_time(void)
{
    struct timespec now;
    char text[INSTANT_SIZE];

    clock_gettime(CLOCK_REALTIME, &now);
    buf_puts(&logger.lines, instant(text, (int64_t)now.tv_sec * 1000 + now.tv_nsec / NS_PER_MS));
}

void trace_note(const char *format, ...)
{
    char text[512];
    va_list args;

    if (logger.style == LOG_OFF || !log_has_room()) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *c = text; *c; c++) { /* what is logged may quote a path or a peer: no control bytes, and JSON stays JSON */
        if ((unsigned char)*c < 0x20 || *c == 0x7f || *c == '"' || *c == '\\') *c = '\'';
    }
    if (logger.style == LOG_JSON) buf_puts(&logger.lines, "{\"at\":\"");
    log_time();
    buf_printf(&logger.lines, logger.style == LOG_JSON ? "\",\"note\":\"%s\"}\n" : " %s\n", text);
}

static void log_answer_text(const struct trace_answer *a)
{
    struct buf *b = &logger.lines;

    log_time();
    buf_printf(b, " %d %.*s %.*s ", a->status, a->method.len ? (int)a->method.len : 1, a->method.len ? a->method.at : "-",
               a->target.len ? (int)a->target.len : 1, a->target.len ? a->target.at : "-");
    buf_put_ms(b, clock_ns() - a->began_ns);
    for (unsigned i = 0; i < a->waits_len; i++) {
        buf_printf(b, "ms %s=", a->waits[i].what);
        buf_put_ms(b, a->waits[i].ns);
    }
    buf_printf(b, "ms %zuB conn=%u%s\n", a->bytes, a->conn, a->discarded ? " discarded: client gone" : "");
}

/* Method and target are what the parser lets through: no quote, no backslash, no control byte. */
static void log_answer_json(const struct trace_answer *a)
{
    struct buf *b = &logger.lines;

    buf_puts(b, "{\"at\":\"");
    log_time();
    buf_printf(b, "\",\"status\":%d,\"method\":\"%.*s\",\"target\":\"%.*s\",\"route\":\"%s\",\"ms\":", a->status,
               (int)a->method.len, a->method.len ? a->method.at : "", (int)a->target.len, a->target.len ? a->target.at : "",
               a->route ? a->route : "");
    buf_put_ms(b, clock_ns() - a->began_ns);
    buf_puts(b, ",\"waits\":{");
    for (unsigned i = 0; i < a->waits_len; i++) {
        buf_printf(b, "%s\"%s\":", i ? "," : "", a->waits[i].what);
        buf_put_ms(b, a->waits[i].ns);
    }
    buf_printf(b, "},\"bytes\":%zu,\"conn\":%u,\"discarded\":%s}\n", a->bytes, a->conn, a->discarded ? "true" : "false");
}

/* ---- the recording --------------------------------------------------------------------------------------------------------------- */

#define RECORDS 8192                /* a ring of about half a megabyte, touched only when somebody watches */
#define SAMPLE_NS (100 * NS_PER_MS) /* how often the sample is drawn anew: */
#define SAMPLE_REQUESTS 40          /* this many requests, the first of their time */
#define SAMPLE_LAPS 30              /* and this many laps, */
#define SAMPLE_ORDERS 50            /* and this many orders into the oven */
#define LAP_RECORDS 6               /* of a lap: the first descriptors that are ready, connections that come and go */
/* Which makes some eight hundred records. Requests that wait for long may all go on at once, and make more: beyond this bound records
 * are left out, and counted. A tick, which may see the ends of three samples when a lap is long, holds them all: RECORDS_MAX. */
#define SAMPLE_RECORDS 1000

bool trace_on;

static struct {
    struct trace_record ring[RECORDS];
    uint64_t written;
    int64_t began_ns;
    bool narrate, color;
    int64_t sample_until_ns;
    unsigned requests_left, laps_left, orders_left, records_left;
    bool lap_shown; /* the lap in progress is in the sample */
    unsigned lap_records_left;
    uint32_t requests; /* the number of the last one */
} recorder;

static void narrate(const struct trace_record *t);

int64_t trace_clock_ns(void)
{
    return clock_ns() - recorder.began_ns;
}

static void sample_refresh(void)
{
    if (loop_now_ns() < recorder.sample_until_ns) return;
    recorder.sample_until_ns = loop_now_ns() + SAMPLE_NS;
    recorder.requests_left = SAMPLE_REQUESTS;
    recorder.laps_left = SAMPLE_LAPS;
    recorder.orders_left = SAMPLE_ORDERS;
    recorder.records_left = SAMPLE_RECORDS;
}

/* One of those of which so many are left. --trace tells them all. */
static bool in_sample(unsigned *left)
{
    sample_refresh();
    if (!*left) return recorder.narrate;
    --*left;
    return true;
}

/* What belongs to no request of the sample is told with the laps of the sample. */
static bool sampled(enum trace_kind kind)
{
    if (recorder.narrate) return true;
    if (kind == TRACE_ACCEPT || kind == TRACE_CLOSED || kind == TRACE_READY) {
        if (!recorder.lap_shown || !recorder.lap_records_left) return false;
        recorder.lap_records_left--;
    }
    if (in_sample(&recorder.records_left)) return true;
    counters.skipped++;
    return false;
}

void trace_record(enum trace_kind kind, uint32_t req, uint32_t conn, const char *name, int64_t value)
{
    if (!sampled(kind)) return;
    struct trace_record *t = &recorder.ring[recorder.written++ % RECORDS];
    *t = (struct trace_record){.at_ns = trace_clock_ns(), .value = value, .req = req, .conn = conn, .kind = (uint8_t)kind};
    if (name) strncpy(t->name, name, sizeof t->name - 1);
    if (recorder.narrate) narrate(t);
}

uint32_t trace_request(void)
{
    counters.requests_seen++;
    if (!trace_on || !in_sample(&recorder.requests_left)) return 0;
    counters.requests_shown++;
    return ++recorder.requests;
}

uint32_t trace_latecomer(void)
{
    return trace_on ? ++recorder.requests : 0;
}

bool trace_order(void)
{
    return trace_on && in_sample(&recorder.orders_left);
}

static void record_lap(int ready, int64_t slept_ns)
{
    recorder.lap_shown = in_sample(&recorder.laps_left);
    if (!recorder.lap_shown) return;
    recorder.lap_records_left = LAP_RECORDS;
    trace_record(TRACE_WOKE, (uint32_t)ready, 0, NULL, slept_ns);
}

void trace_watched(bool watched)
{
    trace_on = recorder.narrate || watched;
    recorder.lap_shown = recorder.narrate;
}

size_t trace_read(uint64_t *next, struct trace_record *out, size_t max, uint64_t *lost)
{
    uint64_t room = max < RECORDS ? max : RECORDS, oldest = recorder.written > room ? recorder.written - room : 0;
    size_t n = 0;

    *lost = *next < oldest ? oldest - *next : 0;
    *next += *lost;
    for (; *next < recorder.written; ++*next) out[n++] = recorder.ring[*next % RECORDS];
    return n;
}

/* ---- --trace: the same in words ---------------------------------------------------------------------------------------------------- */

/* Lines for one record, written to be read beside strace: epoll_wait, accept4, recv, send. */
static void narrate(const struct trace_record *t)
{
    struct buf *b = &logger.lines;
    const char *dim = recorder.color ? "\033[2m" : "", *bold = recorder.color ? "\033[1m" : "",
               *off = recorder.color ? "\033[0m" : "";
    double us = (double)t->value / 1e3;
    long long n = t->value;

    if (!log_has_room()) return;
    switch ((enum trace_kind)t->kind) {
    case TRACE_WOKE:
        buf_printf(b, "%slap %llu%s  epoll_wait slept %.3f ms, %u ready\n", bold, (unsigned long long)counters.laps, off, us / 1e3,
                   t->req);
        break;
    case TRACE_READY:
        buf_printf(b, "  fd %u, %s:%s%s%s%s%s\n", t->conn, t->name, n & EPOLLIN ? " readable" : "", n & EPOLLOUT ? " writable" : "",
                   n & EPOLLRDHUP ? " its other side shut" : "", n & EPOLLHUP ? " hung up" : "", n & EPOLLERR ? " error" : "");
        break;
    case TRACE_SLEEP: buf_printf(b, "  %sworked %.1f us; nothing left to do%s\n", dim, us, off); break;
    case TRACE_ACCEPT: buf_printf(b, "    accept4: conn %u is fd %lld\n", t->conn, n); break;
    case TRACE_CLOSED: buf_printf(b, "    conn %u closed\n", t->conn); break;
    case TRACE_BYTES: buf_printf(b, "    conn %u: recv took %lld bytes for request %u\n", t->conn, n, t->req); break;
    case TRACE_HEAD: buf_printf(b, "    request %u is %s%s%s\n", t->req, bold, t->name, off); break;
    case TRACE_STEP: buf_printf(b, "    request %u: %s() ran %.1f us\n", t->req, t->name, us); break;
    case TRACE_WAIT: buf_printf(b, "    request %u waits for: %s\n", t->req, t->name); break;
    case TRACE_QUEUED: buf_printf(b, "    request %u stood in the queue for %.1f us\n", t->req, us); break;
    case TRACE_WOKEN: buf_printf(b, "    request %u goes on: %s took %.3f ms in all\n", t->req, t->name, us / 1e3); break;
    case TRACE_ANSWER: buf_printf(b, "    request %u answered: %lld\n", t->req, n); break;
    case TRACE_FLUSHED: buf_printf(b, "    conn %u: send took %lld bytes\n", t->conn, n); break;
    case TRACE_DISCARDED: buf_printf(b, "    request %u answered %lld, discarded: client gone\n", t->req, n); break;
    case TRACE_BAKE: buf_printf(b, "    order %u into the oven: %s, ready in %.0f ms\n", t->req, t->name, us / 1e3); break;
    case TRACE_BAKED: buf_printf(b, "    order %u is ready\n", t->req); break;
    case TRACE_TAKEN_BACK: buf_printf(b, "    order %u taken back\n", t->req); break;
    }
}

/* ---- counting ---------------------------------------------------------------------------------------------------------------- */

/* Answers by route and status, in the order in which they came first. Routes are constants, so a pointer is enough to tell them apart. */
#define ANSWERS 512

static struct answer_count {
    const char *route;
    int status;
    uint64_t n;
} answers[ANSWERS];
static size_t answers_len;

static void count_answer(const char *route, int status)
{
    size_t i = 0;

    while (i < answers_len && (answers[i].route != route || answers[i].status != status)) i++;
    if (i == ANSWERS) return;
    if (i == answers_len) answers[answers_len++] = (struct answer_count){.route = route, .status = status};
    answers[i].n++;
}

/* Lap times in powers of four, from 4 µs to 1 s: bucket i holds laps of at most 4^(i+1) µs. */
#define LAP_BUCKETS 10
#define LAP_FIRST_NS 4000

static struct {
    uint64_t lap_bucket[LAP_BUCKETS + 1];
    int64_t stall_ns;
    LIST_HEAD(lap_watches, lap_watch) lap_watches;
    /* of the lap in progress */
    int64_t step_from_ns, slowest_ns;
    const char *slowest;
} seen;

static int64_t clock_coarse_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

static void loop_woke(int ready, int64_t slept_ns)
{
    counters.laps++;
    counters.ready += (uint64_t)ready;
    counters.slept_ns += (uint64_t)slept_ns;
    seen.step_from_ns = loop_now_ns();
    seen.slowest_ns = -NS_PER_S; /* a coarse clock may lag behind the lap's own: any step is slower than none */
    seen.slowest = "";
    if (trace_on) record_lap(ready, slept_ns);
}

/* To name the step that stalled a lap, the time of the last tick of the kernel's clock is good enough, and six times cheaper than the
 * exact time, which is read only while somebody watches. */
int64_t trace_step(const char *name)
{
    int64_t now_ns = trace_on ? clock_ns() : clock_coarse_ns(), took_ns = now_ns - seen.step_from_ns;

    seen.step_from_ns = now_ns;
    if (took_ns > seen.slowest_ns) {
        seen.slowest_ns = took_ns;
        seen.slowest = name;
    }
    return took_ns;
}

void trace_laps_watch(struct lap_watch *w)
{
    w->longest_ns = 0;
    LIST_INSERT_HEAD(&seen.lap_watches, w, link);
}

int64_t trace_laps_longest(const struct lap_watch *w)
{
    int64_t this_ns = clock_ns() - loop_now_ns();

    return w->longest_ns > this_ns ? w->longest_ns : this_ns;
}

int64_t trace_laps_unwatch(struct lap_watch *w)
{
    LIST_REMOVE(w, link);
    return trace_laps_longest(w);
}

static void loop_dispatched(const struct watch *w, uint32_t events)
{
    if (trace_on && recorder.lap_shown) trace_record(TRACE_READY, 0, (uint32_t)w->fd, w->kind->name, events);
}

static void loop_fired(const struct timer *t)
{
    (void)t;
    counters.timers_fired++;
}

static void loop_completed(const struct op *op)
{
    (void)op;
    counters.completions++;
}

static void loop_lap_ended(int64_t worked_ns)
{
    unsigned bucket = 0;

    for (int64_t most_ns = LAP_FIRST_NS; worked_ns > most_ns && bucket < LAP_BUCKETS; most_ns *= 4) bucket++;
    seen.lap_bucket[bucket]++;
    counters.worked_ns += (uint64_t)worked_ns;
    if (trace_on && recorder.lap_shown) trace_record(TRACE_SLEEP, 0, 0, seen.slowest, worked_ns);
    for (struct lap_watch *w = LIST_FIRST(&seen.lap_watches); w; w = LIST_NEXT(w, link)) {
        if (worked_ns > w->longest_ns) w->longest_ns = worked_ns;
    }
    if (!seen.stall_ns || worked_ns < seen.stall_ns) return;
    counters.stalls++;
    if (seen.slowest_ns > 0)
        trace_note("the loop stood still for %.1f ms: %s took %.1f ms of it", (double)worked_ns / 1e6, seen.slowest,
                   (double)seen.slowest_ns / 1e6);
    else
        trace_note("the loop stood still for %.1f ms, though no step of a request took as long as a tick of the clock",
                   (double)worked_ns / 1e6);
}

void trace_open(enum log_style style, int64_t stall_ms, bool narrate)
{
    static const struct loop_observer observer = {
        .woke = loop_woke,
        .dispatched = loop_dispatched,
        .fired = loop_fired,
        .completed = loop_completed,
        .lap_ended = loop_lap_ended,
    };

    logger.style = style;
    log_open();
    seen.stall_ns = stall_ms * NS_PER_MS;
    recorder.began_ns = clock_ns();
    recorder.narrate = trace_on = narrate;
    recorder.color = narrate && isatty(STDERR_FILENO) && !getenv("NO_COLOR");
    loop_observe(&observer);
}

void trace_answer(const struct trace_answer *a)
{
    count_answer(a->route ? a->route : "none", a->status);
    if (a->viewer) counters.viewer_answers++;
    else counters.answers++;
    if (logger.style == LOG_OFF || !log_has_room()) return;
    if (logger.style == LOG_JSON) log_answer_json(a);
    else log_answer_text(a);
}

void trace_lap_bars(struct buf *out)
{
    uint64_t most = 1;
    double us = LAP_FIRST_NS / 1e3;

    for (unsigned i = 0; i <= LAP_BUCKETS; i++) most = seen.lap_bucket[i] > most ? seen.lap_bucket[i] : most;
    for (unsigned i = 0; i <= LAP_BUCKETS; i++, us *= 4) {
        double width = (double)seen.lap_bucket[i] / (double)most * 40;

        if (!seen.lap_bucket[i]) continue;
        if (i == LAP_BUCKETS) buf_printf(out, "  %12s ", "more");
        else buf_printf(out, us < 1000 ? "  <= %6.0f us " : "  <= %6.1f ms ", us < 1000 ? us : us / 1000);
        for (int at = 0; at < 1 || at < (int)width; at++) buf_puts(out, "#");
        buf_printf(out, " %llu\n", (unsigned long long)seen.lap_bucket[i]);
    }
}

/* ---- /metrics ------------------------------------------------------------------------------------------------------------------ */

void put_metric(struct buf *out, const char *name, const char *type, const char *help, uint64_t value)
{
    buf_printf(out, "# HELP forno_%s %s\n# TYPE forno_%s %s\nforno_%s %" PRIu64 "\n", name, help, name, type, name, value);
}

static void lap_histogram(struct buf *out)
{
    uint64_t below = 0;
    double le = LAP_FIRST_NS / 1e9;

    buf_puts(out, "# HELP forno_lap_seconds Work done in one lap of the loop, from waking to sleeping.\n"
                  "# TYPE forno_lap_seconds histogram\n");
    for (unsigned i = 0; i < LAP_BUCKETS; i++, le *= 4) {
        below += seen.lap_bucket[i];
        buf_printf(out, "forno_lap_seconds_bucket{le=\"%.6g\"} %llu\n", le, (unsigned long long)below);
    }
    below += seen.lap_bucket[LAP_BUCKETS];
    buf_printf(out, "forno_lap_seconds_bucket{le=\"+Inf\"} %llu\nforno_lap_seconds_sum %.9g\nforno_lap_seconds_count %llu\n",
               (unsigned long long)below, (double)counters.worked_ns / 1e9, (unsigned long long)below);
}

void trace_metrics(struct buf *out)
{
#define METRIC(member, type, name, help) \
    if (*name) put_metric(out, name, #type, help, counters.member);
    COUNTERS(METRIC)
#undef METRIC
    put_metric(out, "timers", "gauge", "Timers pending now.", loop_timers());
    put_metric(out, "watches", "gauge", "Descriptors in the interest list now.", loop_watches());
    buf_printf(out,
               "# HELP forno_asleep_seconds_total Time the loop spent waiting in epoll_wait.\n"
               "# TYPE forno_asleep_seconds_total counter\nforno_asleep_seconds_total %.9g\n",
               (double)counters.slept_ns / 1e9);
    lap_histogram(out);

    buf_puts(out, "# HELP forno_requests_total Requests answered, by route and status.\n# TYPE forno_requests_total counter\n");
    for (const struct answer_count *a = answers; a < answers + answers_len; a++)
        buf_printf(out, "forno_requests_total{route=\"%s\",status=\"%d\"} %" PRIu64 "\n", a->route, a->status, a->n);
}
