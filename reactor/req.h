/* req.h: what a handler sees of the server: a request, and how to wait and to answer.
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
#ifndef FORNO_REQ_H
#define FORNO_REQ_H

#include "http.h"
#include "reactor/loop.h"
#include "reactor/trace.h"

struct req;

typedef void step_fn(struct req *r);

/* A step with its name, as the log and the page call it. */
struct step {
    step_fn *run;
    const char *name;
};
#define STEP(fn)  \
    {             \
        (fn), #fn \
    }

struct req {
    struct http_message msg; /* the request */
    const char *route;       /* its pattern in the route table: a constant, for the log and the counters */
    char param[40];          /* the {…} of the route, percent-decoded; "" when there is none */
    bool viewer;             /* it is whoever watches the loop, for that purpose: not counted among what he watches */
    bool needs_no_body;      /* its first step refuses it whatever its body may be: nobody need be asked to send one */
    bool streaming;          /* its answer has begun, and goes on */
    uint32_t recorded;       /* its number in the recording; 0: it is left out */
    void *state;             /* what req_alloc() gave first */
};

/* ---- waiting ------------------------------------------------------------------------------------------------------------ */

/* The last argument of everything that takes time: db_get_account(a, await(r, account_fetched)). When it is done,
 * account_fetched(r) is the next step. */
struct op *await_(struct req *r, struct step next);
#define await(r, next) await_((r), (struct step)STEP(next))

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

/* For whoever looks on: call tell(told, to) for what is being worked on, at most `max` of them. While somebody watches, each is in the
 * recording from now on. */
struct req_told {
    const struct req *r;
    const char *step;           /* that is running, or follows when it has waited */
    const char *what;           /* it waits for; NULL: it does not */
    int64_t began_ns, since_ns; /* its first byte; its waiting. On clock_ns() */
};
void reqs_tell(void (*tell)(const struct req_told *told, void *to), void *to, unsigned max);

#endif
