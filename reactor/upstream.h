/* upstream.h: the outbound HTTP client: calls to the courier, an external service, over the same loop and the same parser that
 * serve our own clients, facing the other way.
 *
 * RFC 9112 as a client; plain http. Belongs to the loop thread. */
#ifndef FORNO_UPSTREAM_H
#define FORNO_UPSTREAM_H

#include "http.h"
#include "reactor/loop.h"

#include <netinet/in.h>
#include <sys/queue.h>

enum upstream_rc {
    UPSTREAM_OK,        /* a whole response has come, whatever its status */
    UPSTREAM_REFUSED,   /* no address takes our connection, or none is known */
    UPSTREAM_TIMED_OUT, /* not done within UPSTREAM_TOTAL_MS, waiting in line included */
    UPSTREAM_RESET,     /* the connection broke in the middle of it */
    UPSTREAM_MALFORMED, /* what came is not HTTP */
    UPSTREAM_TOO_BIG,   /* more than UPSTREAM_BODY_MAX, or an endless head */
    UPSTREAM_LIMIT,     /* UPSTREAM_ACTIVE calls are out and UPSTREAM_WAITING wait already; or no descriptor, no memory */
};

#define UPSTREAM_TOTAL_MS 5000   /* a customer who waits for a quote will not wait longer */
#define UPSTREAM_CONNECT_MS 1500 /* per address, then the next one: a SYN that got lost is sent again after 1 s */
#define UPSTREAM_IDLE_MS 4000    /* a pooled connection is closed after this: less than servers usually allow */
#define UPSTREAM_ACTIVE 64       /* calls out at a time */
#define UPSTREAM_WAITING 256     /* calls waiting for one of those to end; beyond it, UPSTREAM_LIMIT */
#define UPSTREAM_BODY_MAX 1024   /* bytes: a quote is about 60 */

struct upstream_call {
    char target[128];    /* in: path and query, as it goes on the wire */
    enum upstream_rc rc; /* out, like all that follows */
    int status;
    char body[UPSTREAM_BODY_MAX + 1]; /* ends with a NUL that does not count */
    size_t body_len;
    int64_t began_ns, ended_ns; /* on clock_ns(), without the time in line */

    /* upstream.c's own, while the call is out */
    struct op *op;
    struct timer deadline;
    struct link *link; /* NULL: waiting in line */
    TAILQ_ENTRY(upstream_call) in_line;
};

/* Where the courier is: "http://host[:port][/prefix]". Looks the name up, and blocks while it does: before the first client.
 * With `blocking`, every call is made in place. Returns false with a sentence in `error` if the URL is of no use. A name that
 * cannot be found at the moment is no error: it will be looked up again. */
bool upstream_open(const char *url, bool blocking, char *error, size_t error_size);
void upstream_close(void);

/* Do calls come back to this very loop, by any of the addresses that the courier has? Then it must not wait for them in place. */
bool upstream_leads_home(void);

/* GET u->target. Completes op, always, within UPSTREAM_TOTAL_MS or little more; nothing cuts it short. Borrows u meanwhile. */
void upstream_get(struct upstream_call *u, struct op *op);

/* The same, waiting in place, and everybody with it: what a synchronous server does. For comparison. op completes in a later lap;
 * what came of the call is known at once. */
void upstream_get_in_place(struct upstream_call *u, struct op *op);

/* Does the other end of this connection to our loopback address belong to a call of ours? */
bool upstream_is_calling(const struct sockaddr_in *from);

/* As COUNTERS in trace.h. */
/* clang-format off */
#define UPSTREAM_STATS(X) \
    X(active, gauge, "Calls to the courier that are out now.") \
    X(waiting, gauge, "Calls that wait for one of those to end.") \
    X(idle, gauge, "Connections to the courier kept for the next call.") \
    X(calls, counter, "Calls to the courier.") \
    X(failed, counter, "Calls that brought no response.") \
    X(connects, counter, "Connections to the courier attempted.") \
    X(reused, counter, "Calls over a connection that was kept.") \
    X(retried, counter, "Calls repeated because a kept connection had gone.")
/* clang-format on */

extern struct upstream_stats {
#define MEMBER(member, ...) uint64_t member;
    UPSTREAM_STATS(MEMBER)
#undef MEMBER
} upstream_stats;

#endif
