/* conn.c: everything between accept() and close(): a socket, its buffers, its deadlines.
 *
 * It knows HTTP's framing, not what is asked or answered: a request that has been read whole goes to the function that server.c handed down,
 * and the connection is its audience (audience.h). The subtle thing is conn_arm(): the one place that decides what epoll watches for. */
#include "reactor/conn.h"

#include "reactor/peers.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <unistd.h>

/* Deadlines. Each counts from the last progress, except the head's, which counts from its first byte: a client that sends
 * one byte now and then would otherwise hold us for ever (trap: slowloris). */
#define IDLE_NS (60 * NS_PER_S)
#define HEAD_NS (10 * NS_PER_S)
#define BODY_NS (10 * NS_PER_S)
#define WRITE_NS (30 * NS_PER_S)
#define LINGER_NS (2 * NS_PER_S)
#define LINGER_MAX_NS (10 * NS_PER_S)
/* Bytes a second that a body, or the reader of an answer, must make on average once its first deadline is over: whoever sends or takes a
 * byte now and then always makes progress. */
#define LEAST_RATE 1024
#define TURN_NS (10 * NS_PER_MS) /* a step that took so long is the last of its connection in this lap */
#define LET_GO_NS NS_PER_S       /* who has been idle for less than this is about to speak */
#define LET_GO 32                /* idle connections closed at a time to make room for newcomers */

#define INPUT_SIZE 65536  /* one recv() reads at most this much, so that nobody starves */
#define OUTPUT_HIGH 65536 /* with more than this unsent, no further pipelined request is begun */

/* How fast bytes have moved, since when. */
struct pace {
    int64_t from_ns;
    int64_t bytes;
};

struct conn {
    struct watch watch;
    struct audience a;
    struct timer deadline; /* armed at or before the real deadline, and moved when it fires too early */
    LIST_ENTRY(conn) link;
    struct buf in;       /* pipelined bytes that came while a request was out */
    struct peer *peer;   /* whose connection it is, when these are counted */
    int64_t linger_ns;   /* all is sent and our side is shut, since then: reading until the client shuts his. 0: not yet */
    struct pace body;    /* of the one being read */
    struct pace answers; /* of what is in a.out; from_ns 0: nothing has had to wait there yet */
    bool eof;            /* he has shut his side, and all that he sent before has been read */
};

static struct {
    LIST_HEAD(open, conn) open;
    uint32_t next_id;
    route_fn *route;
    void (*on_close)(void);
    char input[INPUT_SIZE]; /* every read lands here; what cannot be used at once is copied to its connection */
} conns;

static void conn_advance(struct conn *c, struct slice fresh);
static void conn_close(struct conn *c);

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
    if (c->linger_ns) return earlier(c->linger_ns + LINGER_MAX_NS, c->a.since_ns + LINGER_NS);
    if (buf_len(&c->a.out)) {
        bool paced = c->answers.from_ns && !(c->a.req && c->a.req->streaming); /* a stream is as slow as its events */
        return earlier(c->a.since_ns + WRITE_NS, paced ? pace_due_ns(&c->answers, WRITE_NS) : INT64_MAX);
    }
    if (c->a.running) return INT64_MAX; /* it waits for us, not we for it */
    if (!c->a.req || c->a.req->msg.phase == HTTP_FRESH) return c->a.since_ns + IDLE_NS;
    if (c->a.req->msg.phase == HTTP_IN_HEAD) return c->a.since_ns + HEAD_NS;
    return earlier(c->a.since_ns + BODY_NS, pace_due_ns(&c->body, BODY_NS));
}

/* One timer per connection, moved when it fires too early, not at every byte: a deadline that only ever recedes costs
 * nothing at all. */
static void conn_arm_deadline(struct conn *c)
{
    int64_t due_ns = conn_due_ns(c);

    if (due_ns == INT64_MAX || (timer_pending(&c->deadline) && c->deadline.due_ns <= due_ns)) return;
    if (!timer_start(&c->deadline, due_ns)) conn_close(c); /* no memory to watch over it: let it go */
}

/* Run the request that is here. True: it took long, and others want their turn. */
static bool conn_run(struct conn *c)
{
    c->a.running = true;
    return req_run(c->a.req) >= TURN_NS;
}

static void conn_overdue(struct timer *t)
{
    struct conn *c = HOLDER(conn, deadline, t);
    struct req *r = c->a.req;

    if (conn_due_ns(c) > loop_now_ns()) {
        conn_arm_deadline(c);
        return;
    }
    counters.timeouts++;
    /* A stalled request is told so. An idle, lingering or unreading client is not: he did not ask, or does not listen. */
    if (r && !c->a.running && !c->a.ending && r->msg.phase != HTTP_FRESH && !buf_len(&c->a.out)) {
        http_give_up(&r->msg, 408,
                     r->msg.phase == HTTP_IN_HEAD ? "The head of the request did not arrive in time."
                                                  : "The body of the request did not arrive in time, or came too slowly.");
        req_route(r, conns.route);
        conn_run(c);
        conn_advance(c, (struct slice){0});
        return;
    }
    conn_close(c);
}

/* ---- the connection ------------------------------------------------------------------------------------------------------------ */

static void conn_close(struct conn *c)
{
    if (c->watch.fd < 0) return;
    LIST_REMOVE(c, link);
    timer_cancel(&c->deadline);
    trace(TRACE_CLOSED, 0, c->a.id, NULL, 0);
    peer_leave(c->peer);
    watch_close(&c->watch); /* conn_release() follows when the lap ends */
    counters.connections--;

    if (c->a.req) req_left(c->a.req);
    if (conns.on_close) conns.on_close();
}

static void conn_release(struct watch *w)
{
    struct conn *c = HOLDER(conn, watch, w);

    buf_free(&c->in);
    buf_free(&c->a.out);
    free(c);
}

/* Send what there is, first; EPOLLOUT is only for what is left. */
static void conn_flush(struct conn *c)
{
    if (c->a.out.failed) { /* no memory for the answer: half of one would be a lie */
        conn_close(c);
        return;
    }
    while (buf_len(&c->a.out)) {
        ssize_t n = send(c->watch.fd, c->a.out.mem + c->a.out.start, buf_len(&c->a.out), MSG_NOSIGNAL); /* trap: SIGPIPE */

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
        if (c->a.traced) trace(TRACE_FLUSHED, 0, c->a.id, NULL, n);
        c->a.traced = false;
        c->a.since_ns = loop_now_ns();
        c->answers.bytes += n;
        buf_consume(&c->a.out, (size_t)n); /* trap: the partial write. What is left goes out when EPOLLOUT says so */
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
    c->a.since_ns = c->linger_ns = loop_now_ns();
    buf_free(&c->in);
}

/* May the next request be begun? One at a time, and not for a client who does not read the answers. */
static bool conn_may_serve(const struct conn *c)
{
    return !c->a.ending && !c->a.running && buf_len(&c->a.out) < OUTPUT_HIGH;
}

static bool conn_may_read(const struct conn *c)
{
    return c->linger_ns || (conn_may_serve(c) && !c->eof && !buf_len(&c->in));
}

/* The only place that decides what epoll should watch for: exactly what is still wanted. Reading that is not wanted at the
 * moment stays armed until it fires (then conn_ready() drops it): nearly always the request is answered first, and two
 * system calls are saved. When it has fired, we still want to know whether the client shuts his side behind what we do not read. */
static void conn_arm(struct conn *c, bool drop_reading)
{
    uint32_t shutting = c->a.shut ? 0 : EPOLLRDHUP; /* trap: EPOLLRDHUP left armed. It stays true, so it is heard once */
    uint32_t reading = conn_may_read(c) ? EPOLLIN : c->eof ? 0 : drop_reading ? shutting : c->watch.armed & (EPOLLIN | shutting);
    /* Trap: EPOLLOUT left armed (100 % CPU). Here it means: there is something to send, or to serve as soon as we can send. */
    uint32_t writing = buf_len(&c->a.out) || (buf_len(&c->in) && conn_may_serve(c)) ? EPOLLOUT : 0;

    watch_arm(&c->watch, reading | writing);
    conn_arm_deadline(c);
}

/* Feed what there is to the request being read, and run it when it is whole. False: no use in going on, or not in this lap. */
static bool conn_parse(struct conn *c, struct slice *input)
{
    struct req *r = c->a.req;

    if (!r && !(r = c->a.req = req_begin(&c->a))) {
        conn_close(c); /* no memory even to say so */
        return false;
    }
    bool was_fresh = r->msg.phase == HTTP_FRESH, in_body = r->msg.phase == HTTP_IN_BODY;
    size_t used = http_feed(&r->msg, input->at, input->len);
    input->at += used;
    input->len -= used;
    if (r->recorded) trace(TRACE_BYTES, r->recorded, c->a.id, NULL, (int64_t)used);
    if (was_fresh || r->msg.phase == HTTP_IN_BODY) c->a.since_ns = loop_now_ns();
    if (!in_body) c->body = (struct pace){.from_ns = loop_now_ns()};
    else c->body.bytes += (int64_t)used;

    if (r->msg.phase == HTTP_FRESH || r->msg.phase == HTTP_IN_HEAD) return false;
    if (!in_body || r->msg.phase == HTTP_FAILED) {
        req_route(r, conns.route);
        if (r->msg.phase == HTTP_IN_BODY && !(r->needs_no_body && r->msg.expect_continue)) {
            /* Does the client wait to be asked for the body? RFC 9110 10.1.1 */
            if (r->msg.expect_continue && !input->len) buf_puts(&c->a.out, "HTTP/1.1 100 Continue\r\n\r\n");
            return input->len > 0;
        }
    } else if (r->msg.phase == HTTP_IN_BODY) {
        return input->len > 0;
    }
    return !conn_run(c);
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
    while (input.len && conn_may_serve(c) && conn_parse(c, &input))
        ;
    if (c->watch.fd < 0) return; /* a step has closed it */
    if (kept) buf_consume(&c->in, before - input.len);
    else if (input.len && !c->a.ending) buf_put(&c->in, input.at, input.len);
    conn_flush(c);
    if (c->watch.fd < 0) return;
    if (c->in.failed) {
        conn_close(c);
        return;
    }
    if (c->a.ending && !c->linger_ns && !c->a.running && !buf_len(&c->a.out)) conn_linger(c);
    /* A half-closed client still gets its answers (trap: EPOLLRDHUP taken for death); then there is nothing left to do. */
    else if (c->eof && !c->a.running && !buf_len(&c->a.out) && !buf_len(&c->in)) conn_close(c);
    if (c->watch.fd >= 0) conn_arm(c, false);
}

static void conn_read(struct conn *c)
{
    ssize_t n = recv(c->watch.fd, conns.input, sizeof conns.input, 0);

    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (n < 0 || (n == 0 && c->linger_ns)) {
        conn_close(c);
        return;
    }
    if (n > 0) counters.bytes_in += (uint64_t)n;
    if (c->linger_ns) {
        c->a.since_ns = loop_now_ns();
        return;
    }
    if (n == 0) c->eof = c->a.shut = true;
    conn_advance(c, (struct slice){conns.input, (size_t)n});
}

static void conn_ready(struct watch *w, uint32_t events)
{
    struct conn *c = HOLDER(conn, watch, w);

    /* Trap: EPOLLRDHUP taken for death. He may still be reading (half-closed), or be gone: a close() looks the same from here, until we
     * send something. So he is answered, but nothing is waited for on his behalf any more: he gets what is true now. */
    if (events & EPOLLRDHUP) {
        c->a.shut = true;
        if (c->a.req && c->a.running) req_hurry(c->a.req);
    }
    if (events & (EPOLLHUP | EPOLLERR)) conn_close(c); /* reset, or both sides shut. Trap: it cannot be masked, only obeyed */
    else if (events & EPOLLIN && conn_may_read(c)) conn_read(c);
    else if (events & EPOLLOUT) conn_advance(c, (struct slice){0});
    else conn_arm(c, events & EPOLLIN); /* trap: reading on while the handler works. It fired, so now it is worth a system call */
}

/* A step has run that its request had waited for. */
static void conn_go_on(struct audience *a)
{
    conn_advance(HOLDER(conn, a, a), (struct slice){0});
}

static void conn_fell_behind(struct audience *a)
{
    conn_close(HOLDER(conn, a, a));
}

void conn_open(int fd, const struct sockaddr_storage *address)
{
    static const struct watch_kind kind = {.name = "connection", .ready = conn_ready, .release = conn_release};
    struct peer *peer = NULL;

    if (address && !peer_enter(address, &peer)) {
        counters.refused++;
        close(fd);
        return;
    }
    struct conn *c = malloc(sizeof *c);
    if (c) {
        *c = (struct conn){
            .a = {.id = ++conns.next_id, .since_ns = loop_now_ns(), .go_on = conn_go_on, .let_go = conn_fell_behind},
            .deadline.fired = conn_overdue,
            .peer = peer,
        };
    }
    if (!c || watch_open(&c->watch, fd, EPOLLIN, &kind) != 0) {
        peer_leave(peer);
        close(fd);
        free(c);
        return;
    }
    LIST_INSERT_HEAD(&conns.open, c, link);
    counters.connections++;
    counters.accepted++;
    trace(TRACE_ACCEPT, 0, c->a.id, NULL, fd);
    conn_arm_deadline(c);
}

void conns_serve(route_fn *route, void (*on_close)(void))
{
    conns.route = route;
    conns.on_close = on_close;
}

static bool conn_is_idle(const struct conn *c)
{
    return c->watch.fd >= 0 && conn_may_read(c) && !c->a.ending && !buf_len(&c->a.out) &&
           (!c->a.req || c->a.req->msg.phase == HTTP_FRESH);
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
    size_t most = counters.connections / 8 < LET_GO ? counters.connections / 8 + 1 : LET_GO, n = 0, before = counters.connections;

    for (struct conn *c = LIST_FIRST(&conns.open); c; c = LIST_NEXT(c, link)) {
        if (!conn_is_idle(c) || c->a.since_ns > since_ns || (n == most && c->a.since_ns >= longest[n - 1]->a.since_ns)) continue;
        size_t at = n < most ? n++ : n - 1;
        for (; at && longest[at - 1]->a.since_ns > c->a.since_ns; at--) longest[at] = longest[at - 1];
        longest[at] = c;
    }
    for (size_t i = 0; i < n; i++) {
        if (conn_is_idle(longest[i])) conn_let_go(longest[i]);
    }
    counters.let_go += before - counters.connections;
    return before - counters.connections;
}

void conns_drain(void)
{
    struct conn *next;

    reqs_drain();
    for (struct conn *c = LIST_FIRST(&conns.open); c; c = next) {
        next = LIST_NEXT(c, link);
        if (c->a.running) req_hurry(c->a.req);
        else if (conn_is_idle(c)) conn_let_go(c);
    }
}
