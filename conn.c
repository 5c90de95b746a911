/* conn.c: everything between accept() and close(), and the requests in between.
 *
 * It owns struct conn (a socket and its buffers) and struct req (the work). It knows HTTP's framing, not what is asked or
 * answered. The subtle thing is that the two have different lifetimes: a request outlives its audience. When the client
 * leaves, req->conn becomes NULL, the work goes on, and the answer is discarded. */
#include "conn.h"

#include "peers.h"
#include "server.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Deadlines. Each counts from the last progress, except the head's, which counts from its first byte: a client that sends
 * one byte now and then would otherwise hold us for ever (trap: slowloris). */
#define IDLE_NS (60 * NS_PER_S)
#define HEAD_NS (10 * NS_PER_S)
#define BODY_NS (10 * NS_PER_S)
#define WRITE_NS (30 * NS_PER_S)
#define LINGER_NS (2 * NS_PER_S)
#define LINGER_MAX_NS (10 * NS_PER_S)
#define LEAST_RATE \
    1024 /* bytes a second that a body, or the reader of an answer, must make on average, once its first deadline is over:
                           whoever sends or takes a byte now and then always makes progress */
#define TURN_NS (10 * NS_PER_MS) /* a step that took so long is the last of its connection in this lap */
#define LET_GO_NS NS_PER_S       /* who has been idle for less than this is about to speak */
#define LET_GO 32                /* idle connections closed at a time to make room for newcomers */

#define INPUT_SIZE 65536        /* one recv() reads at most this much, so that nobody starves */
#define OUTPUT_HIGH 65536       /* with more than this unsent, no further pipelined request is begun */
#define OUTPUT_MAX (256 * 1024) /* what a slow reader of a stream may cost */
#define REQS_KEPT 64            /* recycled requests; more go back to malloc */

enum conn_state {
    CONN_OPEN,
    CONN_CLOSING,  /* what is in `out` is the last of it */
    CONN_LINGERING /* all is sent, our side is shut; reading until the client shuts his */
};

/* How fast bytes have moved, since when. */
struct pace {
    int64_t from_ns;
    int64_t bytes;
};

struct conn {
    struct watch watch;
    struct timer deadline; /* armed at or before the real deadline, and moved when it fires too early */
    struct conn *prev, *next;
    struct req *req; /* being read, or out; NULL when idle */
    struct buf in;   /* pipelined bytes that came while a request was out */
    struct buf out;
    struct peer *peer;   /* whose connection it is, when these are counted */
    int64_t since_ns;    /* the last progress, or the first byte of the head being read */
    int64_t linger_ns;   /* when lingering began */
    struct pace body;    /* of the one being read */
    struct pace answers; /* of what is in out; from_ns 0: nothing has had to wait there yet */
    uint32_t id;
    uint8_t state;
    bool running; /* req is out: its steps are at work or waiting */
    bool shut;    /* the client has shut his side: he sends no more, but may still be reading */
    bool eof;     /* and all that he sent before has been read */
    bool traced;  /* what goes out next is an answer that is in the recording */
};

struct req_block {
    struct req_block *next;
    _Alignas(16) char bytes[];
};

static struct {
    struct conn *first;
    struct req *live; /* every request there is, with or without its client */
    uint32_t next_id;
    bool draining;
    bool turn_over; /* a step has taken long: the connection that is being served has had its turn */
    void (*on_close)(void);
    struct req *free;
    size_t free_len;
    char input[INPUT_SIZE]; /* every read lands here; what cannot be used at once is copied to its connection */
} conns;

static void conn_advance(struct conn *c, struct slice fresh);
static void conn_close(struct conn *c);

static struct conn *conn_of(struct watch *w)
{
    return (struct conn *)((char *)w - offsetof(struct conn, watch));
}

/* ---- requests ------------------------------------------------------------------------------------------------------------ */

struct req *req_of(struct op *op)
{
    return (struct req *)((char *)op - offsetof(struct req, op));
}

static struct req *req_new(struct conn *c)
{
    struct req *r = conns.free;

    if (r) {
        conns.free = r->next;
        conns.free_len--;
    } else {
        r = malloc(sizeof *r);
        if (!r) return NULL;
        r->msg = (struct http_message){0};
    }
    http_begin(&r->msg, HTTP_REQUEST);
    /* All but the message, which keeps its memory, and the arena, which is cleared as it is handed out. */
    memset((char *)r + sizeof r->msg, 0, offsetof(struct req, arena) - sizeof r->msg);
    r->conn = c;
    r->next = conns.live;
    if (r->next) r->next->prev = r;
    conns.live = r;
    r->began_ns = loop_now_ns();
    r->trace = trace_request();
    counters.reqs++;
    return r;
}

static void req_free(struct req *r)
{
    while (r->blocks) {
        struct req_block *block = r->blocks;

        r->blocks = block->next;
        free(block);
    }
    buf_free(&r->fields);
    if (r->prev) r->prev->next = r->next;
    else conns.live = r->next;
    if (r->next) r->next->prev = r->prev;
    counters.reqs--;
    if (conns.free_len >= REQS_KEPT) {
        http_free(&r->msg);
        free(r);
        return;
    }
    r->next = conns.free;
    conns.free = r;
    conns.free_len++;
}

void *req_alloc(struct req *r, size_t size)
{
    char *at;

    size = (size + 15) & ~(size_t)15;
    if (size <= sizeof r->arena - r->arena_used) {
        at = r->arena + r->arena_used;
        r->arena_used += size;
    } else {
        struct req_block *block = malloc(sizeof *block + size);

        if (!block) {
            respond_no_memory(r);
            return NULL;
        }
        block->next = r->blocks;
        r->blocks = block;
        at = block->bytes;
    }
    memset(at, 0, size);
    if (!r->state) r->state = at;
    return at;
}

static void req_bill(struct req *r, const char *what, int64_t ns)
{
    unsigned i = 0;

    while (i < r->waits_len && strcmp(r->waits[i].what, what) != 0) i++;
    if (i == REQ_WAITS) return;
    if (i == r->waits_len) r->waits[r->waits_len++] = (struct wait_time){.what = what};
    r->waits[i].ns += ns;
}

static void req_log(const struct req *r, const struct conn *c)
{
    trace_answer(&(struct trace_answer){
        .conn = c ? c->id : 0,
        .method = http_method_text(&r->msg),
        .target = http_target(&r->msg),
        .route = r->route,
        .status = r->status,
        .bytes = r->sent,
        .began_ns = r->began_ns,
        .waits = r->waits,
        .waits_len = r->waits_len,
        .discarded = !c,
        .viewer = r->viewer,
    });
    if (r->trace && c) trace(TRACE_ANSWER, r->trace, c->id, r->route, r->status);
    else if (r->trace) trace(TRACE_DISCARDED, r->trace, 0, r->route, r->status);
}

/* The request is answered, and its last step has returned. */
static void req_finish(struct req *r)
{
    struct conn *c = r->conn;

    req_log(r, c);
    if (c) {
        c->traced = r->trace != 0;
        c->req = NULL;
        c->running = false;
        c->since_ns = loop_now_ns();
    }
    req_free(r);
}

/* The one place that cuts waiting short, whatever the reason and whatever is waited for. */
static void req_hurry(struct req *r)
{
    if (r->waiting && r->op.cut_short && req_cut_short(r)) r->op.cut_short(&r->op);
}

static void req_run(struct req *r, step_fn *step)
{
    const char *name = r->step_name;

    r->waiting = false;
    step(r);
    int64_t took_ns = trace_step(name);
    if (took_ns >= TURN_NS) conns.turn_over = true;
    if (r->trace) trace(TRACE_STEP, r->trace, 0, name, took_ns);
    if (r->trace && r->waiting) trace(TRACE_WAIT, r->trace, 0, r->op.what, 0);
    assert(r->waiting != r->answered); /* rule 1 */
    if (r->answered) req_finish(r);
    else req_hurry(r); /* it may have begun to wait for what has lost its point already */
}

static void req_op_done(struct op *op)
{
    struct req *r = req_of(op);
    struct conn *c = r->conn;
    int64_t now_ns = clock_ns();

    if (r->trace) {
        if (op->served_ns) trace(TRACE_QUEUED, r->trace, 0, op->what, op->served_ns - r->awaited_ns);
        trace(TRACE_WOKEN, r->trace, 0, op->what, now_ns - r->awaited_ns);
    }
    if (op->served_ns) req_bill(r, "queue", op->served_ns - r->awaited_ns);
    req_bill(r, op->what, now_ns - (op->served_ns ? op->served_ns : r->awaited_ns));
    req_run(r, r->step);
    if (c) conn_advance(c, (struct slice){0});
}

struct op *await_(struct req *r, step_fn *next, const char *name)
{
    assert(!r->waiting); /* rule 2 */
    r->waiting = true;
    r->step = next;
    r->step_name = name;
    r->op = (struct op){.done = req_op_done, .first = r->awaited_ns == 0};
    r->awaited_ns = clock_ns();
    return &r->op;
}

/* ---- answering ------------------------------------------------------------------------------------------------------------ */

bool server_draining(void)
{
    return conns.draining;
}

bool req_cut_short(const struct req *r)
{
    return conns.draining || !r->conn || r->conn->shut;
}

uint32_t req_conn(const struct req *r)
{
    return r->conn ? r->conn->id : 0;
}

void respond_field(struct req *r, const char *name, const char *format, ...)
{
    va_list args;

    buf_puts(&r->fields, name);
    buf_puts(&r->fields, ": ");
    va_start(args, format);
    buf_vprintf(&r->fields, format, args);
    va_end(args);
    buf_puts(&r->fields, "\r\n");
}

static void write_server_timing(struct buf *out, const struct req *r)
{
    buf_puts(out, "Server-Timing: ");
    for (unsigned i = 0; i < r->waits_len; i++) {
        if (i) buf_put(out, ", ", 2);
        buf_puts(out, r->waits[i].what);
        buf_puts(out, ";dur=");
        buf_put_ms(out, r->waits[i].ns);
    }
    buf_put(out, "\r\n", 2);
}

/* Everything up to the length of the body. Returns where to write it, NULL when nobody is listening. */
static struct buf *respond_head(struct req *r, int status, const char *type, bool last)
{
    struct conn *c = r->conn;

    assert(!r->answered && !r->waiting && !r->streaming);
    r->status = status;
    if (!c || c->state != CONN_OPEN) {
        counters.discarded++;
        return NULL;
    }
    /* What is left of a body that nobody wants would be read as the next request. */
    if (!r->msg.keep_alive || r->msg.phase != HTTP_DONE || conns.draining || last) c->state = CONN_CLOSING;
    http_write_status(&c->out, status);
    if (type) http_write_field(&c->out, "Content-Type", (struct slice){type, strlen(type)});
    if (c->state == CONN_CLOSING) buf_puts(&c->out, "Connection: close\r\n");
    else if (r->msg.minor == 0) buf_puts(&c->out, "Connection: keep-alive\r\n");
    if (r->waits_len) write_server_timing(&c->out, r);
    if (buf_len(&r->fields)) buf_put(&c->out, r->fields.mem + r->fields.start, buf_len(&r->fields));
    if (r->fields.failed) c->out.failed = true;
    return &c->out;
}

void respond(struct req *r, int status, const char *type, const void *body, size_t len)
{
    struct buf *out = respond_head(r, status, type, false);
    bool bodiless = status == 204 || status == 304;

    r->answered = true;
    if (!out) return;
    if (!bodiless) http_write_length(out, len);
    http_write_end(out);
    if (bodiless || r->msg.method == HTTP_HEAD) return;
    buf_put(out, body, len);
    r->sent = len;
}

void respond_no_memory(struct req *r)
{
    static const char problem[] =
        "{\"type\":\"/problems/out-of-memory\",\"title\":\"There is no memory for this request right now\",\"status\":503,"
        "\"detail\":\"It was not done, or it was done and there was no memory to tell. Look, or ask again with the same key.\"}\n";

    buf_free(&r->fields);
    respond_field(r, "Retry-After", "1");
    respond(r, 503, "application/problem+json", problem, sizeof problem - 1);
}

void stream_begin(struct req *r, int status, const char *type)
{
    struct buf *out = respond_head(r, status, type, true);

    r->streaming = true;
    if (out) http_write_end(out);
}

bool stream_put(struct req *r, const void *bytes, size_t len)
{
    struct conn *c = r->conn;

    assert(r->streaming && !r->answered);
    if (!c || r->msg.method == HTTP_HEAD) return false;
    /* Trap: unbounded output to a slow reader. */
    if (buf_len(&c->out) + len > OUTPUT_MAX) {
        counters.slow_readers++;
        conn_close(c);
        return false;
    }
    buf_put(&c->out, bytes, len);
    r->sent += len;
    return true;
}

void stream_end(struct req *r)
{
    assert(r->streaming && !r->answered && !r->waiting);
    r->answered = true;
}

/* ---- deadlines -------------------------------------------------------------------------------------------------------------- */

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t pace_due_ns(const struct pace *p, int64_t grace_ns)
{
    return p->from_ns + grace_ns + p->bytes * (NS_PER_S / LEAST_RATE);
}

static int64_t conn_due_ns(const struct conn *c)
{
    if (c->state == CONN_LINGERING) {
        return earlier(c->linger_ns + LINGER_MAX_NS, c->since_ns + LINGER_NS);
    }
    if (buf_len(&c->out)) {
        bool paced = c->answers.from_ns && !(c->req && c->req->streaming); /* a stream is as slow as its events */
        return earlier(c->since_ns + WRITE_NS, paced ? pace_due_ns(&c->answers, WRITE_NS) : INT64_MAX);
    }
    if (c->running) return INT64_MAX; /* it waits for us, not we for it */
    if (!c->req || c->req->msg.phase == HTTP_FRESH) return c->since_ns + IDLE_NS;
    if (c->req->msg.phase == HTTP_IN_HEAD) return c->since_ns + HEAD_NS;
    return earlier(c->since_ns + BODY_NS, pace_due_ns(&c->body, BODY_NS));
}

/* One timer per connection, moved when it fires too early, not at every byte: a deadline that only ever recedes costs
 * nothing at all. */
static void conn_arm_deadline(struct conn *c)
{
    int64_t due_ns = conn_due_ns(c);

    if (due_ns == INT64_MAX || (timer_pending(&c->deadline) && c->deadline.due_ns <= due_ns)) return;
    if (!timer_start(&c->deadline, due_ns)) conn_close(c); /* no memory to watch over it: let it go */
}

static void conn_overdue(struct timer *t)
{
    struct conn *c = (struct conn *)((char *)t - offsetof(struct conn, deadline));
    struct req *r = c->req;

    if (conn_due_ns(c) > loop_now_ns()) {
        conn_arm_deadline(c);
        return;
    }
    counters.timeouts++;
    /* A stalled request is told so. An idle, lingering or unreading client is not: he did not ask, or does not listen. */
    if (r && !c->running && c->state == CONN_OPEN && r->msg.phase != HTTP_FRESH && !buf_len(&c->out)) {
        r->msg.error = r->msg.phase == HTTP_IN_HEAD ? "The head of the request did not arrive in time."
                                                    : "The body of the request did not arrive in time, or came too slowly.";
        r->msg.status = 408;
        r->msg.phase = HTTP_FAILED;
        r->msg.keep_alive = false;
        c->running = true;
        req_run(r, app_route(r));
        conn_advance(c, (struct slice){0});
        return;
    }
    conn_close(c);
}

/* ---- the connection ------------------------------------------------------------------------------------------------------------ */

static void conn_close(struct conn *c)
{
    struct req *r = c->req;

    if (c->watch.fd < 0) return;
    if (c->prev) c->prev->next = c->next;
    else conns.first = c->next;
    if (c->next) c->next->prev = c->prev;
    timer_cancel(&c->deadline);
    trace(TRACE_CLOSED, 0, c->id, NULL, 0);
    peer_leave(c->peer);
    watch_close(&c->watch); /* conn_release() follows when the lap ends */
    counters.conns--;

    c->req = NULL;
    if (r && c->running) { /* the work goes on; the op is told that nobody is in a hurry for it any more */
        r->conn = NULL;
        req_hurry(r);
    } else if (r) {
        req_free(r);
    }
    if (conns.on_close) conns.on_close();
}

static void conn_release(struct watch *w)
{
    struct conn *c = conn_of(w);

    buf_free(&c->in);
    buf_free(&c->out);
    free(c);
}

/* Send what there is, first; EPOLLOUT is only for what is left. */
static void conn_flush(struct conn *c)
{
    if (c->out.failed) { /* no memory for the answer: half of one would be a lie */
        conn_close(c);
        return;
    }
    while (buf_len(&c->out)) {
        ssize_t n = send(c->watch.fd, c->out.mem + c->out.start, buf_len(&c->out), MSG_NOSIGNAL); /* trap: SIGPIPE */

        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            if (!c->answers.from_ns) c->answers = (struct pace){.from_ns = loop_now_ns()};
            return;
        }
        if (n < 0) {
            conn_close(c); /* the client is gone: that is no error */
            return;
        }
        counters.bytes_out += (uint64_t)n;
        if (c->traced) trace(TRACE_FLUSHED, 0, c->id, NULL, n);
        c->traced = false;
        c->since_ns = loop_now_ns();
        c->answers.bytes += n;
        buf_consume(&c->out, (size_t)n); /* trap: the partial write. What is left goes out when EPOLLOUT says so */
    }
    c->answers.from_ns = 0;
}

/* Trap: closing with unread input makes the kernel send a reset, which can destroy our answer on its way to the client. So
 * shut our side, and read until he shuts his. */
static void conn_linger(struct conn *c)
{
    if (c->eof || shutdown(c->watch.fd, SHUT_WR) != 0) {
        conn_close(c);
        return;
    }
    c->state = CONN_LINGERING;
    c->since_ns = c->linger_ns = loop_now_ns();
    buf_free(&c->in);
}

/* May the next request be begun? One at a time, and not for a client who does not read the answers. */
static bool conn_may_serve(const struct conn *c)
{
    return c->state == CONN_OPEN && !c->running && buf_len(&c->out) < OUTPUT_HIGH;
}

static bool conn_may_read(const struct conn *c)
{
    return c->state == CONN_LINGERING || (conn_may_serve(c) && !c->eof && !buf_len(&c->in));
}

/* The only place that decides what epoll should watch for: exactly what is still wanted. Reading that is not wanted at the
 * moment stays armed until it fires (then conn_ready() drops it): nearly always the request is answered first, and two
 * system calls are saved. When it has fired, we still want to know whether the client shuts his side behind what we do not read. */
static void conn_arm(struct conn *c, bool drop_reading)
{
    uint32_t shutting = c->shut ? 0 : EPOLLRDHUP; /* trap: EPOLLRDHUP left armed. It stays true, so it is heard once */
    uint32_t reading = conn_may_read(c) ? EPOLLIN : c->eof ? 0 : drop_reading ? shutting : c->watch.armed & (EPOLLIN | shutting);
    /* Trap: EPOLLOUT left armed (100 % CPU). Here it means: there is something to send, or to serve as soon as we can send. */
    uint32_t writing = buf_len(&c->out) || (buf_len(&c->in) && conn_may_serve(c)) ? EPOLLOUT : 0;

    watch_arm(&c->watch, reading | writing);
    conn_arm_deadline(c);
}

/* Is the body still to come, and does the client wait to be asked for it? RFC 9110 10.1.1 */
static void conn_ask_for_body(struct conn *c, size_t more)
{
    if (c->req->msg.expect_continue && more == 0 && c->req->msg.minor >= 1) buf_puts(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
}

static void req_trace_head(const struct req *r)
{
    char name[64];
    struct slice method = http_method_text(&r->msg), target = http_target(&r->msg);

    snprintf(name, sizeof name, "%.*s %.*s", (int)method.len, method.at, (int)target.len, target.len ? target.at : "");
    trace(TRACE_HEAD, r->trace, r->conn->id, name, r->viewer);
}

/* Feed what there is to the request being read, and run it when it is whole. False: no use in going on. */
static bool conn_parse(struct conn *c, struct slice *input)
{
    struct req *r = c->req;

    if (!r && !(r = c->req = req_new(c))) {
        conn_close(c); /* no memory even to say so */
        return false;
    }
    bool was_fresh = r->msg.phase == HTTP_FRESH, in_body = r->msg.phase == HTTP_IN_BODY;
    size_t used = http_feed(&r->msg, input->at, input->len);
    input->at += used;
    input->len -= used;
    if (r->trace) trace(TRACE_BYTES, r->trace, c->id, NULL, (int64_t)used);
    if (was_fresh || r->msg.phase == HTTP_IN_BODY) c->since_ns = loop_now_ns();
    if (!in_body) c->body = (struct pace){.from_ns = loop_now_ns()};
    else c->body.bytes += (int64_t)used;

    if (r->msg.phase == HTTP_FRESH || r->msg.phase == HTTP_IN_HEAD) return false;
    if (!r->step || r->msg.phase == HTTP_FAILED) {
        r->refused = false;
        r->step = app_route(r);
        if (r->trace) req_trace_head(r);
        if (r->msg.phase == HTTP_IN_BODY && !(r->refused && r->msg.expect_continue)) {
            conn_ask_for_body(c, input->len);
            return input->len > 0;
        }
    } else if (r->msg.phase == HTTP_IN_BODY) {
        return input->len > 0;
    }
    c->running = true;
    req_run(r, r->step);
    return true;
}

/* A loop, not a recursion (trap: recursion through pipelined requests): while no request is out and a whole one is here, run
 * it; then send all the answers at once; then wait for exactly what is still wanted. One round in a lap, so that nobody starves:
 * what it leaves, the next lap takes up. `fresh` has just been read; when it is empty, go on with what was kept. */
static void conn_advance(struct conn *c, struct slice fresh)
{
    bool kept = fresh.len == 0;
    struct slice input = kept && c->in.mem ? (struct slice){c->in.mem + c->in.start, buf_len(&c->in)} : fresh;
    size_t before = input.len;

    if (c->watch.fd < 0) return;
    conns.turn_over = false;
    while (input.len && !conns.turn_over && conn_may_serve(c) && conn_parse(c, &input))
        ;
    if (c->watch.fd < 0) return; /* a step has closed it */
    if (kept) buf_consume(&c->in, before - input.len);
    else if (input.len && c->state == CONN_OPEN) buf_put(&c->in, input.at, input.len);
    conn_flush(c);
    if (c->watch.fd < 0) return;
    if (c->in.failed) {
        conn_close(c);
        return;
    }
    if (c->state == CONN_CLOSING && !c->running && !buf_len(&c->out)) conn_linger(c);
    /* A half-closed client still gets its answers (trap: EPOLLRDHUP taken for death); then there is nothing left to do. */
    else if (c->eof && !c->running && !buf_len(&c->out) && !buf_len(&c->in)) conn_close(c);
    if (c->watch.fd >= 0) conn_arm(c, false);
}

static void conn_read(struct conn *c)
{
    ssize_t n = recv(c->watch.fd, conns.input, sizeof conns.input, 0);

    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (n < 0 || (n == 0 && c->state == CONN_LINGERING)) {
        conn_close(c);
        return;
    }
    if (n > 0) counters.bytes_in += (uint64_t)n;
    if (c->state == CONN_LINGERING) {
        c->since_ns = loop_now_ns();
        return;
    }
    if (n == 0) c->eof = c->shut = true;
    conn_advance(c, (struct slice){conns.input, (size_t)n});
}

static void conn_ready(struct watch *w, uint32_t events)
{
    struct conn *c = conn_of(w);

    /* Trap: EPOLLRDHUP taken for death. He may still be reading (half-closed), or be gone: a close() looks the same from here, until we
     * send something. So he is answered, but nothing is waited for on his behalf any more: he gets what is true now. */
    if (events & EPOLLRDHUP) {
        c->shut = true;
        if (c->req && c->running) req_hurry(c->req);
    }
    if (events & (EPOLLHUP | EPOLLERR)) conn_close(c); /* reset, or both sides shut. Trap: it cannot be masked, only obeyed */
    else if (events & EPOLLIN && conn_may_read(c)) conn_read(c);
    else if (events & EPOLLOUT) conn_advance(c, (struct slice){0});
    else conn_arm(c, events & EPOLLIN); /* trap: reading on while the handler works. It fired, so now it is worth a system call */
}

void conn_open(int fd, const struct sockaddr_storage *address)
{
    static const struct watch_kind kind = {.name = "connection", .ready = conn_ready, .release = conn_release};
    struct peer *peer = NULL;

    if (address && !peer_enter(address, &peer)) {
        counters.refused_conns++;
        close(fd);
        return;
    }
    struct conn *c = malloc(sizeof *c);
    if (c) {
        *c = (struct conn){
            .deadline.fired = conn_overdue,
            .next = conns.first,
            .peer = peer,
            .id = ++conns.next_id,
            .since_ns = loop_now_ns(),
        };
    }
    if (!c || watch_open(&c->watch, fd, EPOLLIN, &kind) != 0) {
        peer_leave(peer);
        close(fd);
        free(c);
        return;
    }
    if (c->next) c->next->prev = c;
    conns.first = c;
    counters.conns++;
    counters.accepted++;
    trace(TRACE_ACCEPT, 0, c->id, NULL, fd);
    conn_arm_deadline(c);
}

void conns_on_close(void (*hook)(void))
{
    conns.on_close = hook;
}

static bool conn_is_idle(const struct conn *c)
{
    return c->watch.fd >= 0 && conn_may_read(c) && c->state == CONN_OPEN && !buf_len(&c->out) &&
           (!c->req || c->req->msg.phase == HTTP_FRESH);
}

/* Close it, unless a request has arrived that epoll has not told us of yet: that was in time, it gets its answer. */
static void conn_let_go(struct conn *c)
{
    conn_read(c);
    if (conn_is_idle(c)) conn_close(c);
}

size_t conns_make_room(void)
{
    struct conn *longest[LET_GO];
    int64_t since_ns = loop_now_ns() - LET_GO_NS;
    size_t most = counters.conns / 8 < LET_GO ? counters.conns / 8 + 1 : LET_GO, n = 0, before = counters.conns;

    for (struct conn *c = conns.first; c; c = c->next) {
        if (!conn_is_idle(c) || c->since_ns > since_ns || (n == most && c->since_ns >= longest[n - 1]->since_ns)) continue;
        size_t at = n < most ? n++ : n - 1;
        for (; at && longest[at - 1]->since_ns > c->since_ns; at--) longest[at] = longest[at - 1];
        longest[at] = c;
    }
    for (size_t i = 0; i < n; i++) {
        if (conn_is_idle(longest[i])) conn_let_go(longest[i]);
    }
    counters.let_go += before - counters.conns;
    return before - counters.conns;
}

void conns_drain(void)
{
    struct conn *next;

    conns.draining = true;
    for (struct conn *c = conns.first; c; c = next) {
        next = c->next;
        if (c->running) req_hurry(c->req);
        else if (conn_is_idle(c)) conn_let_go(c);
    }
}

void reqs_describe(struct buf *out, unsigned max)
{
    int64_t now_ns = clock_ns();

    for (const struct req *r = conns.live; r && max; r = r->next) {
        if (!r->route) continue;
        buf_printf(out, "  %-24s %9.1f ms  %s()%s%s%s\n", r->route, (double)(now_ns - r->began_ns) / 1e6, r->step_name,
                   r->waiting ? " will follow: it waits for " : "", r->waiting ? r->op.what : "",
                   r->conn ? "" : "; the client is gone");
        max--;
    }
}

void reqs_tell(void (*tell)(const struct req *r, void *to), void *to, unsigned max)
{
    for (struct req *r = conns.live; r && max; r = r->next) {
        if (!r->waiting || r->viewer) continue;
        if (!r->trace) r->trace = trace_latecomer();
        tell(r, to);
        max--;
    }
}
