/* upstream.c: the outbound HTTP client.
 *
 * It owns the connections to the courier: those at work, and a pool of idle ones. A connection's state is the kind of its watch:
 * connecting, sending, receiving, idle. The subtle thing is the idle connection that the other side closes just when we use it:
 * nothing has been answered then, and a GET may be repeated (RFC 9110 9.2.2), so it is, once, on a fresh connection. */
#include "reactor/upstream.h"

#include "reactor/names.h"
#include "text/grammar.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A connection to the courier, or an attempt at one. A new attempt is a new link, even if the kernel gives it the same
 * descriptor number (trap: same fd number after a failed connect): an event of the old one finds its watch closed. */
struct link {
    struct watch watch;
    struct timer deadline;      /* of the connect, or of idleness */
    struct upstream_call *call; /* NULL: idle */
    LIST_ENTRY(link) pooled, opened;
    in_port_t port; /* ours */
    size_t address; /* the one that it goes to */
    struct buf out;
    struct http_message msg;
    bool reused, heard; /* it has served a call before; something has come back for this one */
};

static struct {
    char host[256], port[8], authority[272], prefix[128]; /* of the courier's URL */
    bool blocking;
    LIST_HEAD(idle, link) idle; /* the pool, warmest first */
    LIST_HEAD(open, link) open; /* all of them */
    TAILQ_HEAD(line, upstream_call) line;
    char input[16384];
} up = {.line = TAILQ_HEAD_INITIALIZER(up.line)};

struct upstream_stats upstream_stats;

static void link_connect(struct upstream_call *u, size_t address);

/* ---- calls ---------------------------------------------------------------------------------------------------------------------- */

static void call_begin(struct upstream_call *u);

static void line_leave(struct upstream_call *u)
{
    TAILQ_REMOVE(&up.line, u, in_line);
    upstream_stats.waiting--;
}

/* As many as there is room for now. A loop, not a recursion: a call that fails while it is being started comes back here. */
static void line_advance(void)
{
    static bool advancing;

    if (advancing) return;
    advancing = true;
    for (struct upstream_call *u; upstream_stats.active < UPSTREAM_ACTIVE && (u = TAILQ_FIRST(&up.line));) {
        line_leave(u);
        u->began_ns = u->op->served_ns = clock_ns();
        upstream_stats.active++;
        call_begin(u);
    }
    advancing = false;
}

/* Posted, not called: a call may end while it is being started. */
static void call_end(struct upstream_call *u, enum upstream_rc rc)
{
    timer_cancel(&u->deadline);
    u->rc = rc;
    u->ended_ns = clock_ns();
    upstream_stats.failed += rc != UPSTREAM_OK;
    upstream_stats.active--;
    u->op->next = NULL;
    loop_post(u->op);
    line_advance();
}

/* ---- links ----------------------------------------------------------------------------------------------------------------------- */

static void link_release(struct watch *w)
{
    struct link *l = HOLDER(link, watch, w);

    http_free(&l->msg);
    buf_free(&l->out);
    free(l);
}

static void link_close(struct link *l)
{
    LIST_REMOVE(l, opened);
    timer_cancel(&l->deadline);
    watch_close(&l->watch);
}

static void pool_leave(struct link *l)
{
    LIST_REMOVE(l, pooled);
    upstream_stats.idle--;
}

/* Idle, and of no more use. */
static void link_retire(struct link *l)
{
    pool_leave(l);
    link_close(l);
}

/* The connection is of no more use. What becomes of its call? */
static void link_fail(struct link *l, enum upstream_rc rc)
{
    struct upstream_call *u = l->call;

    link_close(l);
    u->link = NULL;
    if (rc == UPSTREAM_REFUSED) { /* every address is tried */
        link_connect(u, l->address + 1);
    } else if (l->reused && !l->heard) { /* once: the fresh one has not been used before */
        upstream_stats.retried++;
        link_connect(u, 0);
    } else {
        call_end(u, rc);
    }
}

static void idle_ready(struct watch *w, uint32_t events)
{
    (void)events; /* closed, or words that nobody asked for: either way we are done with each other */
    link_retire(HOLDER(link, watch, w));
}

static void link_overdue(struct timer *t)
{
    struct link *l = HOLDER(link, deadline, t);

    if (l->call) link_fail(l, UPSTREAM_REFUSED); /* this address does not answer: the next one may */
    else link_retire(l);
}

static const struct watch_kind idle_kind = {.name = "courier, idle", .ready = idle_ready, .release = link_release};

static void response_begin(struct http_message *m)
{
    http_begin(m, HTTP_RESPONSE);
    m->body_limit = UPSTREAM_BODY_MAX;
}

static void response_take(struct upstream_call *u, const struct http_message *m)
{
    struct slice body = http_body(m);

    u->status = m->status;
    u->body_len = body.len;
    memcpy(u->body, body.at, body.len); /* at most body_limit; one byte more is there for the NUL */
    u->body[body.len] = '\0';
}

/* The response is whole. Keep the connection if it may carry another call. */
static void link_done(struct link *l, bool clean)
{
    struct upstream_call *u = l->call;

    response_take(u, &l->msg);
    u->link = NULL;
    l->call = NULL;
    if (!clean || !l->msg.keep_alive || !timer_start(&l->deadline, loop_now_ns() + UPSTREAM_IDLE_MS * NS_PER_MS)) {
        link_close(l);
    } else {
        l->watch.kind = &idle_kind;
        watch_arm(&l->watch, EPOLLIN);
        LIST_INSERT_HEAD(&up.idle, l, pooled);
        upstream_stats.idle++;
    }
    call_end(u, UPSTREAM_OK);
}

/* Feed what has come. True: the response is whole, and nothing came behind it. */
static bool response_feed(struct http_message *m, const char *bytes, size_t n)
{
    while (n > 0 && m->phase < HTTP_DONE) {
        size_t used = http_feed(m, bytes, n);

        bytes += used;
        n -= used;
        /* 100 Continue and the like come before the real one. 101 is the real one, and nobody has asked for it. */
        if (m->phase == HTTP_DONE && m->status < 200 && m->status != 101) response_begin(m);
    }
    return m->phase == HTTP_DONE && n == 0;
}

/* What the parser would have answered to a request like this tells what is wrong with it. */
static enum upstream_rc response_wrong(const struct http_message *m)
{
    switch (m->status) {
    case 413:
    case 414:
    case 431: return UPSTREAM_TOO_BIG;
    case 503: return UPSTREAM_LIMIT;
    default: return UPSTREAM_MALFORMED;
    }
}

static void receiving_ready(struct watch *w, uint32_t events)
{
    struct link *l = HOLDER(link, watch, w);
    ssize_t n = recv(w->fd, up.input, sizeof up.input, 0);

    (void)events; /* whatever epoll says, recv() knows it better */
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (n <= 0) {
        if (n == 0 && http_end_of_input(&l->msg)) link_done(l, false);
        else link_fail(l, UPSTREAM_RESET);
        return;
    }
    l->heard = true;
    bool clean = response_feed(&l->msg, up.input, (size_t)n);
    if (l->msg.phase == HTTP_FAILED) link_fail(l, response_wrong(&l->msg));
    else if (l->msg.phase == HTTP_DONE) link_done(l, clean);
}

static const struct watch_kind receiving_kind = {.name = "courier, receiving", .ready = receiving_ready, .release = link_release};

static void sending_ready(struct watch *w, uint32_t events)
{
    struct link *l = HOLDER(link, watch, w);

    (void)events;
    while (buf_len(&l->out)) {
        ssize_t n = send(w->fd, l->out.mem + l->out.start, buf_len(&l->out), MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            watch_arm(w, EPOLLOUT);
            return;
        }
        if (n < 0) {
            link_fail(l, UPSTREAM_RESET);
            return;
        }
        buf_consume(&l->out, (size_t)n);
    }
    w->kind = &receiving_kind;
    watch_arm(w, EPOLLIN);
}

static const struct watch_kind sending_kind = {.name = "courier, sending", .ready = sending_ready, .release = link_release};

static void write_request(struct buf *out, const struct upstream_call *u)
{
    buf_printf(out, "GET %s%s HTTP/1.1\r\nHost: %s\r\nAccept: application/json\r\n\r\n", up.prefix, u->target, up.authority);
}

static void link_send(struct link *l, struct upstream_call *u)
{
    l->call = u;
    u->link = l;
    l->heard = false;
    response_begin(&l->msg);
    write_request(&l->out, u);
    l->watch.kind = &sending_kind;
    if (l->out.failed) link_fail(l, UPSTREAM_LIMIT);
    else sending_ready(&l->watch, EPOLLOUT); /* write first; EPOLLOUT is for what is left */
}

/* Trap: the nonblocking connect misread. Writable does not mean connected: SO_ERROR tells (connect(2)). */
static void connecting_ready(struct watch *w, uint32_t events)
{
    struct link *l = HOLDER(link, watch, w);
    int error = 0;
    socklen_t len = sizeof error;

    (void)events;
    if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) error = errno;
    if (error != 0) {
        link_fail(l, UPSTREAM_REFUSED);
        return;
    }
    timer_cancel(&l->deadline);
    link_send(l, l->call);
}

static const struct watch_kind connecting_kind = {
    .name = "courier, connecting", .ready = connecting_ready, .release = link_release};

static int socket_towards(const struct address *a, int flags)
{
    int on = 1, fd = socket(a->family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

    if (fd >= 0) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

bool upstream_is_calling(const struct sockaddr_in *from)
{
    struct link *l = LIST_FIRST(&up.open);

    while (l && l->port != from->sin_port) l = LIST_NEXT(l, opened);
    return l != NULL;
}

/* An attempt at one address. UPSTREAM_OK: it is under way. */
static enum upstream_rc link_open(struct upstream_call *u, const struct address *a, size_t address)
{
    int fd = socket_towards(a, SOCK_NONBLOCK);
    struct sockaddr_storage ours;

    if (fd < 0) return errno == EAFNOSUPPORT ? UPSTREAM_REFUSED : UPSTREAM_LIMIT; /* EMFILE is not the courier's fault */
    upstream_stats.connects++;
    bool begun = connect(fd, (const struct sockaddr *)&a->bytes, a->len) == 0 || errno == EINPROGRESS;
    struct link *l = begun ? malloc(sizeof *l) : NULL;
    if (l) *l = (struct link){.deadline.fired = link_overdue, .call = u, .address = address};
    if (!l || watch_open(&l->watch, fd, EPOLLOUT, &connecting_kind) != 0) {
        close(fd);
        free(l);
        return begun ? UPSTREAM_LIMIT : UPSTREAM_REFUSED;
    }
    u->link = l;
    LIST_INSERT_HEAD(&up.open, l, opened);
    /* The port is at the same place in both families. */
    if (getsockname(fd, (struct sockaddr *)&ours, &(socklen_t){sizeof ours}) == 0)
        l->port = ((struct sockaddr_in *)&ours)->sin_port;
    if (timer_start(&l->deadline, clock_ns() + UPSTREAM_CONNECT_MS * NS_PER_MS)) return UPSTREAM_OK;
    link_close(l);
    return UPSTREAM_LIMIT;
}

/* Try the addresses from this one on. */
static void link_connect(struct upstream_call *u, size_t address)
{
    enum upstream_rc rc = UPSTREAM_REFUSED;

    size_t n;
    const struct address *known = names_known(&n);
    for (; address < n; address++) {
        rc = link_open(u, &known[address], address);
        if (rc == UPSTREAM_OK) return;
    }
    u->link = NULL;
    call_end(u, rc);
}

/* ---- starting and ending ------------------------------------------------------------------------------------------------------------ */

/* Its end, or an answer that nobody asked for, may have come without epoll having told us yet: it must not be taken for ours. */
static bool link_is_quiet(const struct link *l)
{
    char byte;

    return recv(l->watch.fd, &byte, 1, MSG_PEEK) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

static void call_begin(struct upstream_call *u)
{
    for (struct link *l; (l = LIST_FIRST(&up.idle));) {
        pool_leave(l);
        if (!link_is_quiet(l)) {
            link_close(l);
            continue;
        }
        timer_cancel(&l->deadline);
        l->reused = true;
        upstream_stats.reused++;
        link_send(l, u);
        return;
    }
    link_connect(u, 0);
}

static void call_overdue(struct timer *t)
{
    struct upstream_call *u = HOLDER(upstream_call, deadline, t);

    if (u->link) {
        link_close(u->link);
        u->link = NULL;
    } else {
        line_leave(u);
        upstream_stats.active++; /* call_end() will take it off again */
    }
    call_end(u, UPSTREAM_TIMED_OUT);
}

static void call_enter(struct upstream_call *u, struct op *op)
{
    op->what = "upstream";
    u->op = op;
    u->link = NULL;
    u->began_ns = clock_ns();
    u->deadline = (struct timer){.fired = call_overdue};
    upstream_stats.calls++;
}

void upstream_get(struct upstream_call *u, struct op *op)
{
    if (up.blocking) { /* the loop waits for the courier, and everybody with it */
        upstream_get_in_place(u, op);
        return;
    }
    call_enter(u, op);
    bool in_line = upstream_stats.active >= UPSTREAM_ACTIVE;
    if ((in_line && upstream_stats.waiting >= UPSTREAM_WAITING) ||
        !timer_start(&u->deadline, u->began_ns + UPSTREAM_TOTAL_MS * NS_PER_MS)) {
        upstream_stats.active++;
        call_end(u, UPSTREAM_LIMIT);
        return;
    }
    if (in_line) {
        TAILQ_INSERT_TAIL(&up.line, u, in_line);
        upstream_stats.waiting++;
        return;
    }
    upstream_stats.active++;
    call_begin(u);
}

/* ---- the same, in place --------------------------------------------------------------------------------------------------------------- */

/* Let no call on this socket wait beyond that time (SO_SNDTIMEO, by which connect(2) goes too). False: it is over. */
static bool be_patient(int fd, int64_t until_ns)
{
    int64_t left_us = (until_ns - clock_ns()) / 1000;
    struct timeval left = {.tv_sec = left_us / 1000000, .tv_usec = left_us % 1000000};

    return left_us > 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &left, sizeof left) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &left, sizeof left) == 0;
}

static enum upstream_rc exchange_in_place(int fd, struct upstream_call *u, struct buf *out, struct http_message *m,
                                          int64_t until_ns)
{
    while (m->phase < HTTP_DONE) {
        bool sending = buf_len(out) > 0;
        if (!be_patient(fd, until_ns)) return UPSTREAM_TIMED_OUT;
        ssize_t n = sending ? send(fd, out->mem + out->start, buf_len(out), MSG_NOSIGNAL) : recv(fd, up.input, sizeof up.input, 0);
        if (n < 0 && errno == EINTR) continue; /* stopped, and continued: signal(7) */
        if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? UPSTREAM_TIMED_OUT : UPSTREAM_RESET;
        if (sending) buf_consume(out, (size_t)n);
        else if (n == 0 && !http_end_of_input(m)) return UPSTREAM_RESET;
        else response_feed(m, up.input, (size_t)n);
    }
    if (m->phase == HTTP_FAILED) return response_wrong(m);
    response_take(u, m);
    return UPSTREAM_OK;
}

/* One address after the other, as on the loop. UPSTREAM_OK: *fd is connected. */
static enum upstream_rc connect_in_place(int *fd, int64_t until_ns)
{
    enum upstream_rc rc = UPSTREAM_REFUSED;

    size_t n;
    const struct address *known = names_known(&n);
    for (const struct address *a = known; a < known + n && rc == UPSTREAM_REFUSED; a++) {
        int64_t deadline_ns = clock_ns() + UPSTREAM_CONNECT_MS * NS_PER_MS;

        *fd = socket_towards(a, 0);
        if (*fd < 0) {
            if (errno != EAFNOSUPPORT) rc = UPSTREAM_LIMIT;
            continue;
        }
        upstream_stats.connects++;
        bool in_time = be_patient(*fd, deadline_ns < until_ns ? deadline_ns : until_ns);
        if (in_time && connect(*fd, (const struct sockaddr *)&a->bytes, a->len) == 0) return UPSTREAM_OK;
        if (!in_time || errno == EINTR) rc = UPSTREAM_TIMED_OUT;
        close(*fd);
    }
    return rc;
}

void upstream_get_in_place(struct upstream_call *u, struct op *op)
{
    int64_t until_ns = clock_ns() + UPSTREAM_TOTAL_MS * NS_PER_MS;
    struct http_message m = {0};
    struct buf out = {0};
    int fd;

    call_enter(u, op);
    upstream_stats.active++;
    enum upstream_rc rc = connect_in_place(&fd, until_ns);
    if (rc == UPSTREAM_OK) {
        response_begin(&m);
        write_request(&out, u);
        rc = out.failed ? UPSTREAM_LIMIT : exchange_in_place(fd, u, &out, &m, until_ns);
        close(fd);
    }
    http_free(&m);
    buf_free(&out);
    call_end(u, rc);
}

/* ---- opening ----------------------------------------------------------------------------------------------------------------------------- */

static bool put_text(char *to, size_t size, struct slice s)
{
    return (size_t)snprintf(to, size, "%.*s", (int)s.len, s.at) < size;
}

/* "http://host[:port][/prefix]" into its parts. */
static bool url_read(const char *url)
{
    struct slice rest = {url, strlen(url)};
    struct target t;
    struct authority a;

    if (take_target(&rest, &t) || rest.len || t.query.at || !target_is_absolute(&t) || !authority_read(t.host, &a)) return false;
    if (a.host.at[0] == '[') a.host = (struct slice){a.host.at + 1, a.host.len - 2};
    while (t.path.len && t.path.at[t.path.len - 1] == '/') t.path.len--;
    return put_text(up.host, sizeof up.host, a.host) && put_text(up.port, sizeof up.port, a.port.len ? a.port : SLICE("80")) &&
           put_text(up.authority, sizeof up.authority, t.host) && put_text(up.prefix, sizeof up.prefix, t.path);
}

bool upstream_leads_home(void)
{
    return names_lead_home();
}

bool upstream_open(const char *url, bool blocking, char *error, size_t error_size)
{
    if (!url_read(url)) {
        snprintf(error, error_size, "'%s' is no address for a courier: it looks like http://host:port", url);
        return false;
    }
    up.blocking = blocking;
    names_open(up.host, up.port);
    return true;
}

void upstream_close(void)
{
    while (!LIST_EMPTY(&up.idle)) link_retire(LIST_FIRST(&up.idle));
    names_close();
}
