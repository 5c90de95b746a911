/* lane.c: one connection to PostgreSQL, and its life.
 *
 * It owns the hosts of the URL, and of each lane its descriptor's place in the loop and its deadlines. The subtle thing is that the socket is
 * libpq's: while it connects it may be another one after every step. And libpq has no sense of time: every deadline is ours. */
#include "ledger/lane.h"

#include "reactor/trace.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netdb.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOSTS_MAX 8
#define OPTIONS_MAX 64
#define CONNECT_NS NS_PER_S       /* for one address: who does not answer by then is not there */
#define PREPARE_NS (4 * NS_PER_S) /* for one that has said something: a greeting takes several ways there and back */
#define REST_NS (50 * NS_PER_MS)  /* before all hosts are tried again, or a group is; twice as long each time, up to */
#define REST_MAX_NS NS_PER_S
#define QUIET_NS (60 * NS_PER_S) /* the timer of a lane with nothing to wait for */

static struct {
    PQconninfoOption *options, *defaults; /* what the URL says; what it need not say */
    struct host {
        char name[256], address[64], port[8];
        char told[272];
        struct look_up look_up; /* of its name, for all lanes that wait for it; it may outlive the attempts that wanted it */
        bool looking_up;
    } hosts[HOSTS_MAX];
    unsigned hosts_len;
    struct lane *first; /* all that were opened */
} lanes;

/* ---- the hosts of the URL ------------------------------------------------------------------------------------------------------------------ */

/* NULL: there is no such option, or it is empty. */
static const char *option_in(const PQconninfoOption *options, const char *keyword)
{
    for (const PQconninfoOption *o = options; o->keyword; o++) {
        if (strcmp(o->keyword, keyword) == 0) return o->val && *o->val ? o->val : NULL;
    }
    return NULL;
}

static const char *option(const char *keyword)
{
    const char *said = option_in(lanes.options, keyword), *otherwise = option_in(lanes.defaults, keyword);

    return said ? said : otherwise ? otherwise : "";
}

/* The i-th part of a list with commas; the only one, if there is but one. False: too long. */
static bool part_of(const char *list, unsigned i, char *part, size_t size)
{
    while (i && strchr(list, ',')) {
        list = strchr(list, ',') + 1;
        i--;
    }
    size_t len = strcspn(list, ",");
    snprintf(part, size, "%.*s", (int)len, list);
    return len < size;
}

static unsigned parts_of(const char *list)
{
    unsigned n = 1;

    while ((list = strchr(list, ','))) list++, n++;
    return n;
}

/* libpq quotes what it cannot read. That may be a piece of the password: then it is left out. */
static const char *wrong_url(const char *url, const char *said)
{
    static char wrong[256];
    const char *quote = strchr(said, '"'), *end = quote ? strchr(quote + 1, '"') : NULL, *host = strrchr(url, '@');
    size_t len = strcspn(said, "\n");
    char quoted[128];

    if (end) {
        snprintf(quoted, sizeof quoted, "%.*s", (int)(end - quote - 1), quote + 1);
        const char *at = strstr(url, quoted);
        if (host && (!at || at < host)) len = (size_t)(quote - said);
    }
    snprintf(wrong, sizeof wrong, "%.*s; it should be like postgresql://USER:PASSWORD@HOST:5432/DATABASE", (int)len, said);
    return wrong;
}

const char *lanes_open(const char *url)
{
    char *error = NULL;

    lanes.options = pq.PQconninfoParse(url, &error);
    if (!lanes.options) {
        const char *wrong = wrong_url(url, error ? error : "there is no memory for it");

        pq.PQfreemem(error);
        return wrong;
    }
    /* A service's file may name the host, and so may the environment. Trap: DNS on the loop. libpq would look up a name that we do not know. */
    const char *service = option_in(lanes.options, "service");
    if (service) setenv("PGSERVICE", service, 1);
    lanes.defaults = pq.PQconndefaults();
    if (!lanes.defaults) return "there is no memory for it";
    const char *addresses = option("hostaddr"), *names = option("host"), *ports = option("port");
    lanes.hosts_len = parts_of(*addresses ? addresses : names);
    if (lanes.hosts_len > HOSTS_MAX) {
        lanes.hosts_len = 0;
        return "it names too many hosts: 8 will do";
    }
    for (unsigned i = 0; i < lanes.hosts_len; i++) {
        struct host *h = &lanes.hosts[i];

        if (!part_of(names, i, h->name, sizeof h->name) || !part_of(addresses, i, h->address, sizeof h->address) ||
            !part_of(ports, i, h->port, sizeof h->port) || h->port[strspn(h->port, "0123456789")]) {
            /* It is not quoted: in "u:secret/word@host" the host is "u", and "secret" its port. */
            lanes.hosts_len = 0;
            return "a host or a port in it cannot be one; within a password, / is written %2F, @ %40 and : %3A";
        }
        struct in6_addr binary;
        if (!h->address[0] && (inet_pton(AF_INET, h->name, &binary) || inet_pton(AF_INET6, h->name, &binary)))
            part_of(names, i, h->address, sizeof h->address); /* nothing to look up */
        char told[sizeof h->told];                            /* snprintf must not read what it writes to */
        snprintf(told, sizeof told, "%s:%s", h->name[0] ? h->name : h->address[0] ? h->address : "this machine", h->port);
        memcpy(h->told, told, sizeof told);
    }
    return NULL;
}

void lanes_close(void)
{
    lanes.first = NULL;
    if (lanes.options) pq.PQconninfoFree(lanes.options);
    if (lanes.defaults) pq.PQconninfoFree(lanes.defaults);
    lanes.options = lanes.defaults = NULL;
}

unsigned lanes_hosts(void)
{
    return lanes.hosts_len;
}

const char *lane_host(unsigned i)
{
    return lanes.hosts[i].told;
}

/* By itself, libpq prints them. */
static void not_heard(void *of, const PGresult *result)
{
    (void)of;
    (void)result;
}

/* Trap: the black hole. Given several hosts, libpq tries the next one when the first has failed, and one that does not answer never fails:
 * connect_timeout is not for those who poll. So each attempt is given one, and a deadline of ours. */
PGconn *lane_connect(unsigned i, const char *hostaddr)
{
    const struct host *h = &lanes.hosts[i];

    if (!hostaddr && h->address[0]) hostaddr = h->address;
    const struct {
        const char *key, *value;
        bool ours; /* whatever the URL says */
    } wanted[] = {
        {"host", h->name[0] ? h->name : NULL, true},
        {"hostaddr", hostaddr, true},
        {"port", h->port, true},
        {"client_encoding", "UTF8", true},
        {"target_session_attrs", "read-write", false},
        {"fallback_application_name", "forno", false},
        {"keepalives_idle", "15", false}, /* seconds: a lane that only listens hears of its host's end, too */
        {"keepalives_interval", "5", false},
        {"keepalives_count", "3", false},
        {"gssencmode", "disable", false}, /* Kerberos would look names up in place */
    };
    const char *keys[OPTIONS_MAX + 1], *values[OPTIONS_MAX + 1];
    size_t n = 0;

    for (size_t w = 0; w < sizeof wanted / sizeof *wanted; w++) {
        keys[n] = wanted[w].key;
        values[n++] = wanted[w].value;
    }
    for (PQconninfoOption *o = lanes.options; o->keyword && n < OPTIONS_MAX; o++) {
        bool ours = false;

        for (size_t w = 0; w < sizeof wanted / sizeof *wanted; w++) {
            if (wanted[w].ours && strcmp(wanted[w].key, o->keyword) == 0) ours = true;
        }
        if (ours || !o->val) continue;
        keys[n] = o->keyword; /* said twice, the later counts */
        values[n++] = o->val;
    }
    keys[n] = values[n] = NULL;
    PGconn *conn = pq.PQconnectStartParams(keys, values, 0);
    if (conn) pq.PQsetNoticeReceiver(conn, not_heard, NULL);
    return conn;
}

/* ---- coming and going ---------------------------------------------------------------------------------------------------------------------- */

static void deadline(struct lane *l, int64_t after_ns)
{
    l->deadline_ns = clock_ns() + after_ns;
    /* Lazily: a timer that fires too early is moved then, not at every group. */
    if (l->timer.due_ns > l->deadline_ns || !timer_pending(&l->timer)) timer_start(&l->timer, l->deadline_ns);
}

static void clear_results(struct lane *l)
{
    for (size_t i = 0; i < l->came; i++) pq.PQclear(l->results[i]);
    if (l->error && l->culprit == l->put) pq.PQclear(l->error);
    l->put = l->came = 0;
    l->error = NULL;
    l->doubtful = false;
}

static void drop(struct lane *l)
{
    /* An error without SQLSTATE is libpq's own: the server knows nothing of it. */
    l->undone = l->error && pq.PQresultErrorField(l->error, PG_DIAG_SQLSTATE);
    watch_forget(&l->watch);
    clear_results(l);
    pq.PQfinish(l->conn);
    l->conn = NULL;
    l->naming = l->preparing = l->leaving = false;
}

/* Longer each time, and not all at the same moment. */
static int64_t rest_ns(unsigned times)
{
    int64_t ns = times > 5 ? REST_MAX_NS : REST_NS << times >> 1;

    return ns / 2 + randombytes_uniform((uint32_t)(ns / 2 + 1));
}

void lane_rest(struct lane *l, unsigned times)
{
    l->rest_until_ns = loop_now_ns() + rest_ns(times);
    if (l->state == DB_LANE_IDLE) timer_start(&l->timer, l->rest_until_ns); /* its lap is what we want of it */
}

/* Try the next address, or the next host; when all have been tried, rest before that. */
static void again_later(struct lane *l)
{
    bool all_tried = l->fails && l->fails % lanes.hosts_len == 0 && l->address == l->addresses_len;

    drop(l);
    if (l->address == l->addresses_len) {
        l->host = (l->host + 1) % lanes.hosts_len;
        l->address = l->addresses_len = 0;
    }
    l->state = DB_LANE_BACKING_OFF;
    l->deadline_ns = clock_ns() + (all_tried ? rest_ns(l->fails / lanes.hosts_len) : 0);
    timer_start(&l->timer, l->deadline_ns);
}

static void attempt_failed(struct lane *l, const char *why)
{
    if (l->address == l->addresses_len) l->fails++;
    if (l->fails == lanes.hosts_len)
        trace_note("PostgreSQL at %s (%s): %.*s", lane_host(l->host), l->name, (int)strcspn(why, "\n"), why);
    again_later(l);
}

void lane_lose(struct lane *l, const char *why)
{
    bool working = l->state == DB_LANE_SENDING || l->state == DB_LANE_WAITING;

    trace_note("PostgreSQL at %s (%s) is lost: %.*s", lane_host(l->host), l->name, (int)strcspn(why, "\n"), why);
    l->fails++;
    l->address = l->addresses_len; /* whoever listens at the same name's next address may wait for his turn */
    again_later(l);
    /* Trap: the retry without a rest. Others may find a connection for us at once; and if it is what we send that loses it, so once more. */
    lane_rest(l, l->fails / lanes.hosts_len);
    l->user->lost(l, working);
}

static void go(struct lane *l, unsigned host)
{
    drop(l);
    l->host = host;
    l->address = l->addresses_len = 0;
    l->state = DB_LANE_BACKING_OFF;
    l->deadline_ns = clock_ns();
    timer_start(&l->timer, l->deadline_ns);
}

void lane_follow(struct lane *l, const struct lane *lost)
{
    bool working = l->state == DB_LANE_SENDING || l->state == DB_LANE_WAITING;

    if (!l->opened || l->state == DB_LANE_BACKING_OFF || (l->state == DB_LANE_CONNECTING && !l->preparing))
        return; /* it is on its way */
    l->leaving = working && l->writes;
    if (l->leaving) return;
    go(l, lost->host);
    if (working) l->user->lost(l, true);
}

/* ---- connecting ------------------------------------------------------------------------------------------------------------------------------ */

static void lane_ready(struct watch *w, uint32_t events);

/* Trap: the same number, another socket. libpq may close a descriptor and be given the same number for the next: epoll knows nothing of it. So
 * it is forgotten before each step, and watched again when the lap has ended: the watch can be used again then. */
static void watch_again(struct watch *w)
{
    struct lane *l = (struct lane *)((char *)w - offsetof(struct lane, watch));
    static const struct watch_kind kind = {.name = "lane", .ready = lane_ready, .release = watch_again};
    int fd = l->conn ? pq.PQsocket(l->conn) : -1;

    if (fd >= 0 && watch_open(&l->watch, fd, l->wanted, &kind) != 0) attempt_failed(l, "it cannot be watched: no memory");
}

static void want(struct lane *l, uint32_t events)
{
    l->wanted = events;
    watch_arm(&l->watch, events);
}

static void connect_to(struct lane *l, const char *hostaddr)
{
    l->state = DB_LANE_CONNECTING;
    l->far = false;
    deadline(l, CONNECT_NS);
    l->conn = lane_connect(l->host, hostaddr);
    if (!l->conn || pq.PQstatus(l->conn) == CONNECTION_BAD) {
        attempt_failed(l, l->conn ? pq.PQerrorMessage(l->conn) : "no memory");
        return;
    }
    l->wanted = EPOLLOUT;
    watch_again(&l->watch);
}

static void connect_to_next(struct lane *l)
{
    const struct address *a = &l->addresses[l->address++];
    char text[NI_MAXHOST];

    if (getnameinfo((const struct sockaddr *)&a->bytes, a->len, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0)
        connect_to(l, text);
    else attempt_failed(l, "its address cannot be written");
}

static void looked_up(struct op *op)
{
    struct host *h = op->owner;

    h->looking_up = false;
    for (struct lane *l = lanes.first; l; l = l->next) {
        if (!l->naming || &lanes.hosts[l->host] != h) continue;
        l->naming = false;
        l->address = l->addresses_len = 0;
        for (struct addrinfo *a = h->look_up.found; a && l->addresses_len < ADDRESSES_MAX; a = a->ai_next) {
            struct address *to = &l->addresses[l->addresses_len++];

            *to = (struct address){.family = a->ai_family, .len = a->ai_addrlen};
            memcpy(&to->bytes, a->ai_addr, a->ai_addrlen);
        }
        if (l->addresses_len) connect_to_next(l);
        else attempt_failed(l, "its name leads nowhere");
    }
    if (h->look_up.found) freeaddrinfo(h->look_up.found);
    h->look_up.found = NULL;
}

/* Trap: DNS on the loop. PQconnectStart would look the name up in place, unless it is given an address: so a thread does it. */
static void look_up(struct lane *l)
{
    struct host *h = &lanes.hosts[l->host];

    l->state = DB_LANE_CONNECTING;
    l->naming = true;
    deadline(l, CONNECT_NS);
    if (h->looking_up) return;
    h->look_up.host = h->name;
    h->look_up.port = h->port;
    h->look_up.op = (struct op){.done = looked_up, .what = "name", .owner = h};
    h->looking_up = names_look_up(&h->look_up);
    if (!h->looking_up) attempt_failed(l, "its name cannot be looked up: no memory");
}

static void begin(struct lane *l)
{
    const struct host *h = &lanes.hosts[l->host];

    if (l->address < l->addresses_len) connect_to_next(l);
    else if (h->address[0]) connect_to(l, h->address);
    else if (!h->name[0] || h->name[0] == '/' || h->name[0] == '@') connect_to(l, NULL); /* a socket of this machine */
    else look_up(l);
}

static void warned(void *of, const PGresult *result)
{
    struct lane *l = of;
    const char *severity = pq.PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

    /* Trap: the cancelled wait acknowledges. Whoever cancels the wait for a standby makes a success of it, with no more than a warning that the
     * standby may not have it. We never cancel a write; when somebody else does, it is not told as done. */
    if (severity && strcmp(severity, "WARNING") == 0) l->doubtful = true;
}

static void connected(struct lane *l)
{
    pq.PQsetNoticeReceiver(l->conn, warned, l);
    if (pq.PQsetnonblocking(l->conn, 1) != 0 || !pq.PQenterPipelineMode(l->conn)) {
        attempt_failed(l, pq.PQerrorMessage(l->conn));
        return;
    }
    l->preparing = true;
    want(l, EPOLLIN);
    clear_results(l);
    l->user->prepare(l);
    lane_sync(l, PREPARE_NS);
}

/* TLS and SCRAM are work: a step of them can hold the loop for some milliseconds. So lanes are few, and kept; and of all lanes one takes a step
 * in a lap. The others are still ready in the next. */
static void connecting_ready(struct lane *l, uint32_t events)
{
    static int64_t stepped_ns;

    if (events & EPOLLIN && !l->far) {
        l->far = true;
        deadline(l, PREPARE_NS);
    }
    if (stepped_ns == loop_now_ns()) return;
    stepped_ns = loop_now_ns();
    watch_forget(&l->watch);
    switch (pq.PQconnectPoll(l->conn)) {
    case PGRES_POLLING_READING: want(l, EPOLLIN); break;
    case PGRES_POLLING_WRITING: want(l, EPOLLOUT); break;
    case PGRES_POLLING_OK: connected(l); break;
    default: attempt_failed(l, pq.PQerrorMessage(l->conn));
    }
}

/* ---- at work ----------------------------------------------------------------------------------------------------------------------------------- */

static void broken(struct lane *l, const char *why)
{
    if (l->preparing) attempt_failed(l, why);
    else lane_lose(l, why);
}

static void flush(struct lane *l)
{
    int left = pq.PQflush(l->conn);

    if (left < 0) {
        broken(l, pq.PQerrorMessage(l->conn));
        return;
    }
    /* Trap: EPOLLOUT left armed. Only while there is something that the kernel did not take. */
    want(l, left ? EPOLLIN | EPOLLOUT : EPOLLIN);
    if (!l->preparing) l->state = left ? DB_LANE_SENDING : DB_LANE_WAITING;
}

void lane_put(struct lane *l, int sent)
{
    assert(l->put < LANE_GROUP_MAX);
    if (sent) l->put++;
    else l->doubtful = true; /* no memory: with the rest of the group it has no meaning */
}

void lane_sync(struct lane *l, int64_t answer_ns)
{
    bool whole = !l->doubtful && pq.PQpipelineSync(l->conn);

    deadline(l, answer_ns);
    if (!l->preparing) l->state = DB_LANE_SENDING;
    if (whole) flush(l);
    else l->deadline_ns = 0, timer_start(&l->timer, 0); /* not in the middle of whoever sends */
}

static void keep_result(struct lane *l, PGresult *result)
{
    bool good = pq.PQresultStatus(result) == PGRES_TUPLES_OK || pq.PQresultStatus(result) == PGRES_COMMAND_OK;

    if (!good && !l->error) {
        l->error = result;
        l->culprit = l->came;
    }
    if (l->came < l->put) l->results[l->came++] = result;
    else if (l->error != result || l->culprit != l->put) pq.PQclear(result);
}

/* Here is somebody who can be written to: whoever rests need not try the others first. */
static void call_others(const struct lane *there)
{
    for (struct lane *l = lanes.first; l; l = l->next) {
        if (l->state == DB_LANE_BACKING_OFF && l->fails >= lanes.hosts_len) go(l, there->host);
    }
}

/* What was sent is answered, one way or the other. */
static void synced(struct lane *l)
{
    bool good = !l->error && !l->doubtful, prepared = l->preparing;

    if (prepared) {
        const char *wrong = l->error ? pq.PQerrorMessage(l->conn) : l->user->prepared(l);

        if (wrong) {
            attempt_failed(l, wrong);
            return;
        }
        if (l->fails >= lanes.hosts_len) trace_note("PostgreSQL at %s (%s) is there", lane_host(l->host), l->name);
        l->preparing = false;
        call_others(l);
    } else if (good) {
        l->fails = 0;
    }
    l->answered_ns = clock_ns();
    l->state = DB_LANE_IDLE;
    if (l->rest_until_ns > loop_now_ns()) timer_start(&l->timer, l->rest_until_ns); /* so that somebody is awake then */
    if (!prepared) l->user->answered(l);
    if (l->state != DB_LANE_IDLE) return;
    clear_results(l);
    if (l->leaving) go(l, (l->host + 1) % lanes.hosts_len);
}

static void take_results(struct lane *l)
{
    while (l->conn && !pq.PQisBusy(l->conn)) {
        PGresult *result = pq.PQgetResult(l->conn);

        if (pq.PQstatus(l->conn) == CONNECTION_BAD) {
            char why[128];

            snprintf(why, sizeof why, "%s", pq.PQerrorMessage(l->conn));
            pq.PQclear(result);
            broken(l, why);
            return;
        }
        if (result && pq.PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
            pq.PQclear(result);
            synced(l);
            return;
        }
        if (result) keep_result(l, result); /* NULL ends the results of each statement */
    }
}

static void hear(struct lane *l)
{
    PGnotify *notice;

    while (l->conn && (notice = pq.PQnotifies(l->conn))) {
        l->user->heard(l, notice);
        pq.PQfreemem(notice);
    }
}

static void lane_ready(struct watch *w, uint32_t events)
{
    struct lane *l = (struct lane *)((char *)w - offsetof(struct lane, watch));

    if (l->state == DB_LANE_CONNECTING && !l->preparing) {
        connecting_ready(l, events);
        return;
    }
    if (!pq.PQconsumeInput(l->conn)) {
        char why[128];

        snprintf(why, sizeof why, "%s", pq.PQerrorMessage(l->conn));
        broken(l, why);
        return;
    }
    if (events & EPOLLOUT) flush(l);
    if (l->conn && l->state == DB_LANE_IDLE) {
        pq.PQisBusy(l->conn); /* takes in what nobody has asked for */
        l->doubtful = false;  /* and a warning that comes now is about nothing */
    } else if (l->conn) {
        take_results(l);
    }
    hear(l);
}

/* ---- in time ------------------------------------------------------------------------------------------------------------------------------------- */

static void lane_due(struct timer *t)
{
    struct lane *l = (struct lane *)((char *)t - offsetof(struct lane, timer));

    timer_start(t, clock_ns() + QUIET_NS); /* always pending, so that it can always be moved: that needs no memory */
    if (l->state == DB_LANE_IDLE) return;
    if (clock_ns() < l->deadline_ns) timer_start(t, l->deadline_ns);
    else if (l->state == DB_LANE_BACKING_OFF) begin(l);
    else if (l->state == DB_LANE_CONNECTING) attempt_failed(l, "no answer within its time");
    else lane_lose(l, "no answer within its time");
}

bool lane_open(struct lane *l)
{
    l->watch.fd = -1;
    l->timer.fired = lane_due;
    l->state = DB_LANE_BACKING_OFF;
    l->answered_ns = clock_ns();
    l->opened = timer_start(&l->timer, clock_ns());
    l->next = lanes.first;
    lanes.first = l;
    return l->opened;
}

void lane_close(struct lane *l)
{
    if (!l->opened) return;
    drop(l);
    timer_cancel(&l->timer);
    l->opened = false;
}
