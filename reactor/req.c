/* req.c: the work: a request, its steps, its answer. It knows whom it answers only as an audience, which may leave at any time.
 *
 * It owns every request there is, with or without its client, and the memory that lives as long as a request. The subtle thing is the
 * lifetime: when the client leaves, r's audience becomes NULL, the steps go on, and the answer is discarded. */
#include "reactor/audience.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define ARENA 640               /* state of nearly every handler; what needs more is allocated apart */
#define OUTPUT_MAX (256 * 1024) /* what a slow reader of a stream may cost */
#define WORKS_KEPT 64           /* recycled; more go back to malloc */

struct block {
    struct block *next;
    _Alignas(16) char bytes[];
};

/* A request, and what is nobody's business but ours. */
struct work {
    struct req r;        /* first: a request is its work */
    struct audience *to; /* NULL once the client has left */
    struct op op;        /* what it waits for */
    struct step step;    /* what is running, or follows */
    bool waiting, answered;
    int64_t awaited_ns;
    struct trace_answer answer;
    struct buf fields;     /* extra field lines for the answer */
    struct block *blocks;  /* allocations that did not fit the arena */
    LIST_ENTRY(work) link; /* among the live ones, or those to be used again */
    size_t arena_used;
    _Alignas(16) char arena[ARENA];
};

static struct {
    LIST_HEAD(works, work) live, free;
    size_t free_len;
    bool draining;
} works;

static struct work *work_of(const struct req *r)
{
    return (struct work *)(void *)(uintptr_t)r;
}

/* ---- beginning and ending ------------------------------------------------------------------------------------------------ */

struct req *req_begin(struct audience *a)
{
    struct work *w = LIST_FIRST(&works.free);

    if (w) {
        LIST_REMOVE(w, link);
        works.free_len--;
    } else {
        w = malloc(sizeof *w);
        if (!w) return NULL;
        w->r.msg = (struct http_message){0};
    }
    http_begin(&w->r.msg, HTTP_REQUEST);
    /* All but the message, which keeps its memory, and the arena, which is cleared as it is handed out. */
    memset((char *)w + sizeof w->r.msg, 0, offsetof(struct work, arena) - sizeof w->r.msg);
    w->to = a;
    LIST_INSERT_HEAD(&works.live, w, link);
    w->answer.began_ns = loop_now_ns();
    w->r.recorded = trace_request();
    counters.requests++;
    return &w->r;
}

static void work_free(struct work *w)
{
    while (w->blocks) {
        struct block *block = w->blocks;

        w->blocks = block->next;
        free(block);
    }
    buf_free(&w->fields);
    LIST_REMOVE(w, link);
    counters.requests--;
    if (works.free_len >= WORKS_KEPT) {
        http_free(&w->r.msg);
        free(w);
        return;
    }
    LIST_INSERT_HEAD(&works.free, w, link);
    works.free_len++;
}

void *req_alloc(struct req *r, size_t size)
{
    struct work *w = work_of(r);
    char *at;

    size = (size + 15) & ~(size_t)15;
    if (size <= sizeof w->arena - w->arena_used) {
        at = w->arena + w->arena_used;
        w->arena_used += size;
    } else {
        struct block *block = malloc(sizeof *block + size);

        if (!block) {
            respond_no_memory(r);
            return NULL;
        }
        block->next = w->blocks;
        w->blocks = block;
        at = block->bytes;
    }
    memset(at, 0, size);
    if (!r->state) r->state = at;
    return at;
}

static void work_log(struct work *w)
{
    struct trace_answer *a = &w->answer;

    a->conn = req_conn(&w->r);
    a->method = http_method_text(&w->r.msg);
    a->target = http_target(&w->r.msg);
    a->route = w->r.route;
    a->discarded = !w->to;
    a->viewer = w->r.viewer;
    trace_answer(a);
    if (w->r.recorded) trace(w->to ? TRACE_ANSWER : TRACE_DISCARDED, w->r.recorded, a->conn, a->route, a->status);
}

/* It is answered, and its last step has returned. */
static void work_finish(struct work *w)
{
    struct audience *a = w->to;

    work_log(w);
    if (a) {
        a->traced = w->r.recorded != 0;
        a->req = NULL;
        a->running = false;
        a->since_ns = loop_now_ns();
    }
    work_free(w);
}

/* ---- steps ---------------------------------------------------------------------------------------------------------------- */

/* The one place that cuts waiting short, whatever the reason and whatever is waited for. */
void req_hurry(struct req *r)
{
    struct work *w = work_of(r);

    if (w->waiting && w->op.cut_short && req_cut_short(r)) w->op.cut_short(&w->op);
}

int64_t req_run(struct req *r)
{
    struct work *w = work_of(r);
    const char *name = w->step.name;

    w->waiting = false;
    w->step.run(r);
    int64_t took_ns = trace_step(name);
    if (w->r.recorded) trace(TRACE_STEP, w->r.recorded, 0, name, took_ns);
    if (w->r.recorded && w->waiting) trace(TRACE_WAIT, w->r.recorded, 0, w->op.what, 0);
    assert(w->waiting != w->answered); /* rule 1 */
    if (w->answered) work_finish(w);
    else req_hurry(r); /* it may have begun to wait for what has lost its point already */
    return took_ns;
}

static void work_bill(struct work *w, const char *what, int64_t ns)
{
    struct trace_answer *a = &w->answer;
    unsigned i = 0;

    while (i < a->waits_len && strcmp(a->waits[i].what, what) != 0) i++;
    if (i == WAITS) return;
    if (i == a->waits_len) a->waits[a->waits_len++] = (struct wait_time){.what = what};
    a->waits[i].ns += ns;
}

static void work_op_done(struct op *op)
{
    struct work *w = HOLDER(work, op, op);
    struct audience *a = w->to;
    int64_t now_ns = clock_ns(), served_ns = op->served_ns ? op->served_ns : w->awaited_ns;

    if (w->r.recorded) {
        if (op->served_ns) trace(TRACE_QUEUED, w->r.recorded, 0, op->what, served_ns - w->awaited_ns);
        trace(TRACE_WOKEN, w->r.recorded, 0, op->what, now_ns - w->awaited_ns);
    }
    if (op->served_ns) work_bill(w, "queue", served_ns - w->awaited_ns);
    work_bill(w, op->what, now_ns - served_ns);
    req_run(&w->r);
    if (a) a->go_on(a);
}

struct op *await_(struct req *r, struct step next)
{
    struct work *w = work_of(r);

    assert(!w->waiting); /* rule 2 */
    w->waiting = true;
    w->step = next;
    w->op = (struct op){.done = work_op_done, .first = w->awaited_ns == 0};
    w->awaited_ns = clock_ns();
    return &w->op;
}

void req_route(struct req *r, route_fn *route)
{
    struct work *w = work_of(r);
    char name[64];

    r->needs_no_body = false;
    w->step = route(r);
    if (!w->r.recorded) return;
    struct slice method = http_method_text(&r->msg), target = http_target(&r->msg);
    snprintf(name, sizeof name, "%.*s %.*s", (int)method.len, method.at, (int)target.len, target.len ? target.at : "");
    trace(TRACE_HEAD, w->r.recorded, req_conn(r), name, r->viewer);
}

void req_left(struct req *r)
{
    struct work *w = work_of(r);
    bool running = w->to->running;

    w->to->req = NULL;
    w->to = NULL;
    if (running) req_hurry(r); /* the work goes on; the op is told that nobody is in a hurry for it any more */
    else work_free(w);
}

void reqs_drain(void)
{
    works.draining = true;
}

bool server_draining(void)
{
    return works.draining;
}

bool req_cut_short(const struct req *r)
{
    const struct audience *a = work_of(r)->to;

    return works.draining || !a || a->shut;
}

uint32_t req_conn(const struct req *r)
{
    return work_of(r)->to ? work_of(r)->to->id : 0;
}

/* ---- answering ------------------------------------------------------------------------------------------------------------ */

void respond_field(struct req *r, const char *name, const char *format, ...)
{
    struct buf *fields = &work_of(r)->fields;
    va_list args;

    buf_puts(fields, name);
    buf_puts(fields, ": ");
    va_start(args, format);
    buf_vprintf(fields, format, args);
    va_end(args);
    buf_puts(fields, "\r\n");
}

static void write_server_timing(struct buf *out, const struct trace_answer *a)
{
    buf_puts(out, "Server-Timing: ");
    for (unsigned i = 0; i < a->waits_len; i++) {
        if (i) buf_put(out, ", ", 2);
        buf_puts(out, a->waits[i].what);
        buf_puts(out, ";dur=");
        buf_put_ms(out, a->waits[i].ns);
    }
    buf_put(out, "\r\n", 2);
}

/* Everything up to the length of the body. Returns where to write it, NULL when nobody is listening. */
static struct buf *respond_head(struct work *w, int status, const char *type, bool last)
{
    struct audience *a = w->to;

    assert(!w->answered && !w->waiting && !w->r.streaming);
    w->answer.status = status;
    if (!a || a->ending) {
        counters.discarded++;
        return NULL;
    }
    /* What is left of a body that nobody wants would be read as the next request. */
    a->ending = !w->r.msg.keep_alive || w->r.msg.phase != HTTP_DONE || works.draining || last;
    http_write_status(&a->out, status);
    if (type) http_write_field(&a->out, "Content-Type", (struct slice){type, strlen(type)});
    if (a->ending) buf_puts(&a->out, "Connection: close\r\n");
    else if (w->r.msg.minor == 0) buf_puts(&a->out, "Connection: keep-alive\r\n");
    if (w->answer.waits_len) write_server_timing(&a->out, &w->answer);
    if (buf_len(&w->fields)) buf_put(&a->out, w->fields.mem + w->fields.start, buf_len(&w->fields));
    if (w->fields.failed) a->out.failed = true;
    return &a->out;
}

void respond(struct req *r, int status, const char *type, const void *body, size_t len)
{
    struct work *w = work_of(r);
    struct buf *out = respond_head(w, status, type, false);
    bool bodiless = status == 204 || status == 304;

    w->answered = true;
    if (!out) return;
    if (!bodiless) http_write_length(out, len);
    http_write_end(out);
    if (bodiless || r->msg.method == HTTP_HEAD) return;
    buf_put(out, body, len);
    w->answer.bytes = len;
}

void respond_no_memory(struct req *r)
{
    static const char problem[] =
        "{\"type\":\"/problems/out-of-memory\",\"title\":\"There is no memory for this request right now\",\"status\":503,"
        "\"detail\":\"It was not done, or it was done and there was no memory to tell. Look, or ask again with the same key.\"}\n";

    buf_free(&work_of(r)->fields);
    respond_field(r, "Retry-After", "1");
    respond(r, 503, "application/problem+json", problem, sizeof problem - 1);
}

void stream_begin(struct req *r, int status, const char *type)
{
    struct buf *out = respond_head(work_of(r), status, type, true);

    r->streaming = true;
    if (out) http_write_end(out);
}

bool stream_put(struct req *r, const void *bytes, size_t len)
{
    struct work *w = work_of(r);
    struct audience *a = w->to;

    assert(r->streaming && !w->answered);
    if (!a || r->msg.method == HTTP_HEAD) return false;
    /* Trap: unbounded output to a slow reader. */
    if (buf_len(&a->out) + len > OUTPUT_MAX) {
        counters.slow_readers++;
        a->let_go(a);
        return false;
    }
    buf_put(&a->out, bytes, len);
    w->answer.bytes += len;
    return true;
}

void stream_end(struct req *r)
{
    struct work *w = work_of(r);

    assert(r->streaming && !w->answered && !w->waiting);
    w->answered = true;
}

void reqs_tell(void (*tell)(const struct req_told *told, void *to), void *to, unsigned max)
{
    for (struct work *w = LIST_FIRST(&works.live); w; w = LIST_NEXT(w, link)) {
        if (!w->r.route) continue;
        if (!max--) return;
        if (!w->r.recorded && !w->r.viewer) w->r.recorded = trace_latecomer();
        tell(&(struct req_told){.r = &w->r,
                                .step = w->step.name,
                                .what = w->waiting ? w->op.what : NULL,
                                .began_ns = w->answer.began_ns,
                                .since_ns = w->awaited_ns},
             to);
    }
}
