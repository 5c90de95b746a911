/* trace.h: the server seen from outside: counters, the log, the recording, the narration of --trace, /metrics. Knows the loop; knows neither requests nor connections,
 * so what it is told, it is told in plain values. Belongs to the loop thread. */
#ifndef FORNO_TRACE_H
#define FORNO_TRACE_H

#include "text/bytes.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/* Everything that is counted, once: the member, what /metrics makes of it and calls it there ("": the page alone is told), and what it is.
 * Whoever does it counts it. */
/* clang-format off */
#define COUNTERS(X) \
    X(connections, gauge, "connections", "Connections open now.") \
    X(requests, gauge, "requests_live", "Requests being read or worked on now, with or without a client.") \
    X(accepted, counter, "accepted_total", "Connections accepted.") \
    X(accept_pauses, counter, "accept_pauses_total", "Times that accepting paused for want of descriptors.") \
    X(refused, counter, "refused_connections_total", "Connections refused by a limit per client.") \
    X(let_go, counter, "let_go_connections_total", "Idle connections closed to make room for newcomers.") \
    X(bytes_in, counter, "received_bytes_total", "Bytes read from clients.") \
    X(bytes_out, counter, "sent_bytes_total", "Bytes sent to clients.") \
    X(timeouts, counter, "timeouts_total", "Connections that missed a deadline.") \
    X(slow_readers, counter, "slow_readers_total", "Subscribers let go for falling behind.") \
    X(discarded, counter, "answers_discarded_total", "Answers whose client had left.") \
    X(stalls, counter, "stalls_total", "Laps longer than --stall-ms.") \
    X(log_dropped, counter, "log_dropped_total", "Log lines dropped because stderr was not read.") \
    X(ready, counter, "ready_events_total", "Descriptors that epoll_wait found ready.") \
    X(timers_fired, counter, "timers_fired_total", "Timers fired.") \
    X(completions, counter, "completions_total", "Operations completed over the eventfd.") \
    X(slept_ns, counter, "", "in epoll_wait: asleep_seconds_total in /metrics") \
    X(worked_ns, counter, "", "between one epoll_wait and the next") \
    X(laps, counter, "", "of the loop") \
    X(answers, counter, "", "to all but viewers:") \
    X(viewer_answers, counter, "", "to whoever watches the loop, for that purpose") \
    X(requests_seen, counter, "", "begun, and of these") \
    X(requests_shown, counter, "", "in the recording") \
    X(skipped, counter, "", "records for which there was no room in the sample")
/* clang-format on */

struct trace_counters {
#define MEMBER(member, ...) uint64_t member;
    COUNTERS(MEMBER)
#undef MEMBER
};

extern struct trace_counters counters;

enum log_style { LOG_TEXT, LOG_JSON, LOG_OFF };

/* Watch the loop from now on, log answers to stderr in this style, and log laps longer than stall_ms (0: none). With `narrate`,
 * tell every lap in words. */
void trace_open(enum log_style style, int64_t stall_ms, bool narrate);

/* ---- the recording --------------------------------------------------------------------------------------------------- */

/* A fixed ring of what happened last. Nothing is recorded, and next to nothing is spent, while nobody watches. Under load only
 * a sample of requests and laps is recorded, so that watching does not slow down what is watched (the observer effect). */
enum trace_kind {
    TRACE_WOKE,       /* a lap begins. req: how many descriptors are ready; value: ns slept */
    TRACE_READY,      /* conn: the descriptor; name: its kind; value: epoll's events */
    TRACE_SLEEP,      /* the lap ends. name: the step that took longest; value: ns worked */
    TRACE_ACCEPT,     /* conn; value: the descriptor */
    TRACE_CLOSED,     /* conn */
    TRACE_BYTES,      /* req, conn; value: how many arrived */
    TRACE_HEAD,       /* req, conn; name: method and path; value: 1 if it is the viewer's own */
    TRACE_STEP,       /* req; name: of the function; value: ns it took */
    TRACE_WAIT,       /* req; name: what for */
    TRACE_QUEUED,     /* req; name: what for; value: ns of the wait that were spent in a queue. Then: */
    TRACE_WOKEN,      /* req; name: what for; value: ns waited altogether */
    TRACE_ANSWER,     /* req, conn; name: the route; value: the status */
    TRACE_FLUSHED,    /* conn; value: bytes sent */
    TRACE_DISCARDED,  /* req; value: the status. The client had left */
    TRACE_BAKE,       /* req: the order's id; name: what; value: ns until it is ready */
    TRACE_BAKED,      /* req: the order's id */
    TRACE_TAKEN_BACK, /* req: the order's id */
};

struct trace_record {
    int64_t at_ns; /* since the start */
    int64_t value;
    uint32_t req, conn;
    uint8_t kind;
    char name[39];
};

extern bool trace_on; /* somebody watches */

/* Record what happens now. `name` is copied, cut to what fits. */
void trace_record(enum trace_kind kind, uint32_t req, uint32_t conn, const char *name, int64_t value);

static inline void trace(enum trace_kind kind, uint32_t req, uint32_t conn, const char *name, int64_t value)
{
    if (trace_on) trace_record(kind, req, conn, name, value);
}

/* A request begins: its number in the recording, or 0 if it is not in the sample. */
uint32_t trace_request(void);

/* The same for one that is alive already when somebody comes to watch; 0 while nobody does. */
uint32_t trace_latecomer(void);

/* An order goes into the oven: is it in the sample? */
bool trace_order(void);

/* Does anybody watch, now that one has come or left? */
void trace_watched(bool watched);

/* Copy the records from number *next on; *next moves on to the newest. Of more than max, the newest are copied: `lost` is how many
 * are not, or had been overwritten already. */
size_t trace_read(uint64_t *next, struct trace_record *out, size_t max, uint64_t *lost);

int64_t trace_clock_ns(void); /* since the start */

/* ---- laps -------------------------------------------------------------------------------------------------------------- */

/* A step of this name (a constant) has just ended. What the lap did since the last one is put down to it: returned, in ns. */
int64_t trace_step(const char *name);

/* The longest lap between watching and unwatching, the lap in progress included: how long everybody else had to wait. */
struct lap_watch {
    LIST_ENTRY(lap_watch) link;
    int64_t longest_ns;
};
void trace_laps_watch(struct lap_watch *w);
int64_t trace_laps_longest(const struct lap_watch *w); /* so far, the lap in progress included */
int64_t trace_laps_unwatch(struct lap_watch *w);

/* Write out what the log has gathered, as far as stderr takes it without waiting. Once a lap. */
void trace_flush(void);

/* What a request waited for, and for how long altogether. */
struct wait_time {
    const char *what; /* "db", "queue", "oven", "timer", "upstream" */
    int64_t ns;
};

#define WAITS 4 /* kinds of waiting that one request is billed for */

/* One answer, for the log. Slices are borrowed for the call. */
struct trace_answer {
    uint32_t conn;
    struct slice method, target; /* as sent: visible ASCII, the parser has seen to that */
    const char *route;           /* a constant */
    int status;
    size_t bytes;
    int64_t began_ns; /* when its first byte came, on clock_ns() */
    struct wait_time waits[WAITS];
    unsigned waits_len;
    bool discarded; /* the client had left */
    bool viewer;    /* it is whoever watches the loop, for that purpose */
};
void trace_answer(const struct trace_answer *a);

/* A line of the log that is no answer: start, drain, trouble. */
void trace_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* How long laps took, as a histogram in words, appended to `out`. */
void trace_lap_bars(struct buf *out);

/* Everything counted here, as Prometheus text (exposition format 0.0.4), appended to `out`; and one more line of it. */
void trace_metrics(struct buf *out);
void put_metric(struct buf *out, const char *name, const char *type, const char *help, uint64_t value);

#endif
