/* trace.h: the server seen from outside: counters, the log, /metrics. Knows the loop; knows neither requests nor connections,
 * so what it is told, it is told in plain values. Belongs to the loop thread. */
#ifndef FORNO_TRACE_H
#define FORNO_TRACE_H

#include "http.h"

#include <stdint.h>

/* Whoever does it counts it. Gauges first, then what only grows. */
struct trace_counters {
    uint64_t conns, reqs;                              /* open now; live now, with or without a client */
    uint64_t accepted, accept_pauses, refused_conns;
    uint64_t bytes_in, bytes_out;
    uint64_t timeouts;                                 /* connections that missed a deadline */
    uint64_t slow_readers;                             /* subscribers let go for falling behind */
    uint64_t discarded;                                /* answers to clients who had left */
    uint64_t stalls;                                   /* laps longer than --stall-ms */
    uint64_t log_dropped;                              /* lines nobody read fast enough */
};

extern struct trace_counters counters;

enum log_style { LOG_TEXT, LOG_JSON, LOG_OFF };

/* Watch the loop from now on, log answers to stderr in this style, and log laps longer than stall_ms (0: none). */
void trace_open(enum log_style style, int64_t stall_ms);

/* A step of this name (a constant) has just ended. What the lap did since the last one is put down to it. */
void trace_step(const char *name);

/* The longest lap between watching and unwatching, the lap in progress included: how long everybody else had to wait. */
struct lap_watch {
    struct lap_watch *prev, *next;
    int64_t longest_ns;
};
void trace_laps_watch(struct lap_watch *w);
int64_t trace_laps_unwatch(struct lap_watch *w);

/* Write out what the log has gathered, as far as stderr takes it without waiting. Once a lap. */
void trace_flush(void);

/* What a request waited for, and for how long altogether. */
struct wait_time {
    const char *what;                                  /* "db", "queue", "oven", "timer", "upstream" */
    int64_t ns;
};

/* One answer. Slices and strings are borrowed for the call. */
struct trace_answer {
    uint32_t conn;
    struct slice method, target;                       /* as sent: visible ASCII, the parser has seen to that */
    const char *route;                                 /* a constant */
    int status;
    size_t bytes;
    int64_t ns;                                        /* from its first byte to its answer */
    const struct wait_time *waits;
    unsigned waits_len;
    bool discarded;                                    /* the client had left */
};
void trace_answer(const struct trace_answer *a);

/* A line of the log that is no answer: start, drain, trouble. */
void trace_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Everything counted, as Prometheus text (exposition format 0.0.4), appended to `out`. */
void trace_metrics(struct buf *out);

#endif
