/* server.h: what a handler sees of the server: a request, and how to wait and to answer.
 *
 * A handler is a chain of steps. The rules:
 *
 * 1. A step ends waiting (it gave await() to something) or answered, never both, never neither. One assert says so.
 * 2. A request waits for one operation at a time.
 * 3. An operation completes exactly once, on the loop thread, and never inside the call that started it.
 * 4. What another thread touches is plain data inside the request's state. The request cannot die while an operation is out,
 *    so neither can the data; the loop keeps its hands off until the operation returns.
 * 5. A request outlives its audience. When the client leaves, the steps go on as if nothing had happened and the answer is
 *    discarded: a pizza that is paid for gets baked.
 * 6. Nothing is cancelled by killing. An operation may be told that waiting has lost its point (op->cut_short), and it still
 *    completes, once.
 *
 * Everything here belongs to the loop thread. */
#ifndef FORNO_SERVER_H
#define FORNO_SERVER_H

#include "http.h"
#include "loop.h"
#include "trace.h"

struct conn;
struct req;

typedef void step_fn(struct req *r);

#define REQ_ARENA 640 /* state of nearly every handler; what needs more is allocated apart */
#define REQ_WAITS 4   /* kinds of waiting that one request is billed for */

struct req {
    /* for handlers to read */
    struct http_message msg; /* the request; lives as long as the req */
    const char *route;       /* its pattern in the route table: a constant, for the log and the counters */
    char param[40];          /* the {…} of the route, percent-decoded; "" when there is none */

    /* server.c's own */
    struct conn *conn; /* NULL once the client has left */
    struct op op;      /* what it waits for */
    step_fn *step;     /* what follows */
    const char *step_name;
    bool waiting, answered, streaming, refused;
    bool viewer;    /* it is whoever watches the loop, for that purpose: app_route() says so */
    uint32_t trace; /* its number in the recording; 0: not in the sample */
    int status;
    int64_t began_ns, awaited_ns;
    size_t sent; /* bytes of answer, for the log */
    struct wait_time waits[REQ_WAITS];
    unsigned waits_len;
    struct buf fields;        /* extra field lines for the answer */
    struct req_block *blocks; /* allocations that did not fit the arena */
    struct req *prev, *next;  /* among the live ones, or those to be used again */
    void *state;
    size_t arena_used;
    _Alignas(16) char arena[REQ_ARENA];
};

/* ---- waiting ------------------------------------------------------------------------------------------------------------ */

/* The last argument of everything that takes time: db_get_account(a, await(r, account_fetched)). When it is done,
 * account_fetched(r) is the next step. */
struct op *await_(struct req *r, step_fn *next, const char *name);
#define await(r, next) await_((r), (next), #next)

/* The op of a request knows its request: for what keeps a list of waiting ops. */
struct req *req_of(struct op *op);

/* ---- memory that lives as long as the request ------------------------------------------------------------------------------ */

/* Zeroed, aligned for anything, freed with the request. NULL when memory is out: then the request has been answered (503), and
 * the step just returns. The first allocation becomes the request's state, which the following steps find by req_state(). */
void *req_alloc(struct req *r, size_t size);
#define req_state(r) ((r)->state)

/* ---- answering ------------------------------------------------------------------------------------------------------------ */

/* Add a field line to the answer to come. The value must be free of control bytes; it is not checked again. */
void respond_field(struct req *r, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Answer, whole. `type`: the Content-Type, or NULL when there is no body. Copies. HEAD gets the fields alone. */
void respond(struct req *r, int status, const char *type, const void *body, size_t len);

/* Answer 503, when memory is out. Forgets the fields added so far: they were another answer's. */
void respond_no_memory(struct req *r);

/* Answer in pieces, of no known length: the body ends with the connection (RFC 9112 6.3). After it the request may wait and
 * put as often as it likes, until stream_end(). A reader who falls 256 KiB behind is let go. */
void stream_begin(struct req *r, int status, const char *type);
/* False: nobody is listening any more; end it. */
bool stream_put(struct req *r, const void *bytes, size_t len);
void stream_end(struct req *r);

/* Waiting on has lost its point: the client has left or has at least shut its side, or the server is leaving. Do what must be done, then
 * answer with what is true now. */
bool req_cut_short(const struct req *r);

bool server_draining(void);

uint32_t req_conn(const struct req *r); /* the number of its connection; 0: the client has left */

/* Tell what is going on, one line per live request, at most `max` of them, appended to `out`. */
void reqs_describe(struct buf *out, unsigned max);

/* The same for whoever comes to watch: call tell(r, to) for requests that wait, at most `max` of them. Each is in the recording from now on. */
void reqs_tell(void (*tell)(const struct req *r, void *to), void *to, unsigned max);

/* ---- options ---------------------------------------------------------------------------------------------------------------- */

struct options {
    const char *host, *port;
    const char *db_path;
    int64_t opening_credit_cents;
    int64_t bake_ms;        /* per pizza, for every flavor; -1: as the menu says */
    const char *audit_path; /* NULL: serve */
    int64_t drain_ms;
    size_t max_conns;    /* 0: what the descriptor limit allows */
    unsigned group_max;  /* see db.h */
    const char *courier; /* the external service's URL; NULL: we are our own */
    enum { LAB_ON_LOOPBACK, LAB_ON, LAB_OFF } lab;
    int64_t stall_ms;
    bool blocking; /* every wait in place, for comparison */
};

#define FORNO_VERSION "forno 0.1"

/* ---- the application: all that server.c and conn.c know of it ------------------------------------------------------------------ */

/* Called once, before the first connection, with the loop open. Borrows the options for good. False: `error` says in a sentence
 * what is wrong and what to do about it. */
bool app_start(const struct options *options, char *error, size_t error_size);

/* Called once, when it is known where we listen, and whether only this machine can reach us. `own_door`: the URL at which our own calls
 * find us when no courier was named. False: like app_start(). */
bool app_listening(const char *own_door, bool loopback, char *error, size_t error_size);

/* Called once, after the last lap: let the database finish. */
void app_stop(void);

/* --audit: prove the ledger at `path`, print what was found. Returns the exit status, 0 or 1. */
int app_audit(const char *path);

/* The first step for a request whose head is complete, or which has failed (r->msg.phase == HTTP_FAILED: r->msg.status and
 * r->msg.error say why). Sets r->route, r->param, r->step_name and r->viewer. If the step refuses the request whatever its body may be, r->refused is
 * set, so that nobody is asked to send one. */
step_fn *app_route(struct req *r);

#endif
