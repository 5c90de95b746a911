/* fuzz_routes.c: the application without a server: a request in, steps, an answer out.
 *
 * The parser, the router and the handlers are real. Below them stand-ins: conn.c's part only keeps the rules, db.h's,
 * upstream.h's and loop.h's only remember what they were asked and check it; what they answer, and when, and whether the client
 * is still there, the input decides. An input is one line of choices (any characters; none left: always the first choice), then
 * the bytes of one request. Asserted: a step ends waiting or answered; whatever is asked of the database is what db.h allows;
 * nothing is left behind; and the answer is one that API.md allows. Whoever adds to those headers adds a stand-in here. */
#include "../../app/app.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STEPS_MAX 60    /* then the client leaves: what never ends by itself must end then */
#define ENDING_MAX 2000 /* completions that may still take */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition) __builtin_trap();
}

/* ---- choices ------------------------------------------------------------------------------------------------------------- */

static const uint8_t *choices, *choices_end;

static unsigned choose(unsigned n)
{
    if (choices == choices_end) return 0;
    return (unsigned)(uint8_t)(*choices++ - '0') % n;
}

static const int64_t numbers[] = {1, 2, 3500, 1700000000000, DB_AMOUNT_MAX, 0};

static int64_t choose_number(void)
{
    return numbers[choose(sizeof numbers / sizeof *numbers)];
}

static const char *choose_text(void)
{
    static const char *const texts[] = {"Ana", "", "\"Zo\xc3\xab\" \\ </script> %s \xf0\x9f\x8d\x95"};

    return texts[choose(3)];
}

/* ---- what is out: operations of all kinds, and timers ------------------------------------------------------------------------ */

enum kind {
    POSTED,
    TIMER,
    CALL,
    OPEN_ACCOUNT,
    GET_ACCOUNT,
    AUTHENTICATE,
    ENTRIES,
    TRANSFER,
    PLACE,
    GET_ORDER,
    CANCEL,
    ORDERS,
    EVENTS,
    PING,
    SLOW
};

static struct pending {
    enum kind kind;
    struct op *op; /* NULL: a timer */
    void *what;
} pending[1024];
static size_t pending_len;

static void push(enum kind kind, struct op *op, void *what)
{
    must(pending_len < sizeof pending / sizeof *pending);
    pending[pending_len++] = (struct pending){kind, op, what};
}

static struct pending take(size_t i)
{
    struct pending p = pending[i];

    pending[i] = pending[--pending_len];
    return p;
}

/* ---- loop.h ---------------------------------------------------------------------------------------------------------------------- */

static int64_t now_ns;

int64_t clock_ns(void)
{
    return now_ns += 1000;
}

int64_t loop_now_ns(void)
{
    return now_ns;
}

void loop_post(struct op *list)
{
    for (; list; list = list->next) push(POSTED, list, NULL);
}

bool timer_start(struct timer *t, int64_t due_ns)
{
    if (choose(8) == 7) return false;
    must(!t->slot);
    t->slot = 1;
    t->due_ns = due_ns;
    push(TIMER, NULL, t);
    return true;
}

bool timer_cancel(struct timer *t)
{
    if (!t->slot) return false;
    t->slot = 0;
    for (size_t i = 0; i < pending_len; i++) {
        if (pending[i].what != t) continue;
        take(i);
        return true;
    }
    must(false);
    return false;
}

void loop_observe(const struct loop_observer *observer)
{
    (void)observer;
}

size_t loop_timers(void)
{
    return 0;
}

size_t loop_watches(void)
{
    return 0;
}

/* /lab/block, without the waiting. */
int nanosleep(const struct timespec *asked, struct timespec *left)
{
    (void)left;
    must(asked->tv_sec >= 0 && asked->tv_sec <= 10 && asked->tv_nsec >= 0 && asked->tv_nsec < NS_PER_S);
    return 0;
}

/* ---- db.h: what may be asked --------------------------------------------------------------------------------------------------------- */

static bool is_utf8(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;

    while (*p) {
        int more = *p < 0x80 ? 0 : *p < 0xc2 ? -1 : *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : *p < 0xf5 ? 3 : -1;

        if (more < 0 || (*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) ||
            (*p == 0xf4 && p[1] > 0x8f))
            return false;
        for (p++; more > 0; more--, p++) {
            if ((*p & 0xc0) != 0x80) return false;
        }
    }
    return true;
}

static void check_text(const char *text, size_t min, size_t max)
{
    size_t characters = 0;

    for (const char *p = text; *p; p++) {
        must((unsigned char)*p >= 0x20 && *p != 0x7f);
        characters += (*p & 0xc0) != 0x80;
    }
    must(characters >= min && characters <= max && is_utf8(text));
}

static void check_key(const struct db_key *key)
{
    must(strlen(key->text) <= DB_KEY_MAX && key->given == (key->text[0] != '\0'));
    for (const char *p = key->text; *p; p++) must(*p > 0x20 && *p < 0x7f);
}

static void check_page(int64_t before, size_t limit, const void *rows, size_t row)
{
    must(before >= 0 && limit >= 1 && limit <= 100);
    memset((void *)(uintptr_t)rows, 0, limit * row); /* ASan says whether there is so much room */
}

static void asked(struct db_job *job, struct op *op, enum kind kind)
{
    *job = (struct db_job){.op = op};
    op->what = "db";
    push(kind, op, job);
}

void db_open_account(struct db_account *a, struct op *op)
{
    check_text(a->name, 1, 80);
    must(a->balance_cents >= 0);
    asked(&a->job, op, OPEN_ACCOUNT);
}

void db_get_account(struct db_account *a, struct op *op)
{
    must(a->id > 0);
    asked(&a->job, op, GET_ACCOUNT);
}

void db_authenticate(struct db_account *a, struct op *op)
{
    asked(&a->job, op, AUTHENTICATE);
}

void db_list_entries(struct db_entries *e, struct op *op)
{
    must(e->account_id > 0);
    check_page(e->before, e->limit, e->rows, sizeof *e->rows);
    asked(&e->job, op, ENTRIES);
}

void db_transfer(struct db_transfer *t, struct op *op)
{
    must(t->to >= 1 && t->to <= DB_AMOUNT_MAX && t->amount_cents >= 1 && t->amount_cents <= DB_AMOUNT_MAX);
    check_text(t->note, 0, 140);
    check_key(&t->key);
    asked(&t->job, op, TRANSFER);
}

void db_place_order(struct db_order *o, struct op *op)
{
    must(strlen(o->order.flavor) > 0 && o->order.pizzas >= 1 && o->order.pizzas <= 1000 && o->order.price_cents > 0 &&
         o->bake_ms >= 0);
    check_key(&o->key);
    asked(&o->job, op, PLACE);
}

void db_get_order(struct db_order *o, struct op *op)
{
    must(o->order.id > 0);
    asked(&o->job, op, GET_ORDER);
}

void db_cancel_order(struct db_order *o, struct op *op)
{
    must(o->order.id > 0);
    asked(&o->job, op, CANCEL);
}

void db_list_orders(struct db_orders *l, struct op *op)
{
    must(!l->filtered || l->status <= ORDER_CANCELLED);
    check_page(l->before, l->limit, l->rows, sizeof *l->rows);
    asked(&l->job, op, ORDERS);
}

void db_order_events(struct db_events *e, struct op *op)
{
    must(e->from_now || (e->cursor.at_ms >= 0 && e->cursor.order_id >= 0));
    check_page(0, e->limit, e->rows, sizeof *e->rows);
    asked(&e->job, op, EVENTS);
}

void db_ping(struct db_ping *p, struct op *op)
{
    asked(&p->job, op, PING);
}

void db_slow_query(struct db_slow *s, struct op *op)
{
    must(s->ms >= 0 && s->ms <= 10000);
    asked(&s->job, op, SLOW);
}

/* ---- db.h: what is answered ------------------------------------------------------------------------------------------------------------- */

int64_t wall_ms(void)
{
    return 1700000000000 + now_ns / NS_PER_MS;
}

enum order_status order_status(const struct order *o, int64_t now_ms)
{
    return o->cancelled_at_ms ? ORDER_CANCELLED : o->ready_at_ms <= now_ms ? ORDER_READY : ORDER_BAKING;
}

static enum db_rc choose_rc(enum kind kind)
{
    /* Of the refusals, those that db.h names for the operation; trouble may befall them all. */
    static const enum db_rc refusals[][8] = {
        [GET_ACCOUNT] = {DB_NO_ACCOUNT, DB_NOT_YOURS},
        [AUTHENTICATE] = {DB_NO_ACCOUNT},
        [ENTRIES] = {DB_NO_ACCOUNT, DB_NOT_YOURS},
        [TRANSFER] = {DB_NO_ACCOUNT, DB_NOT_FOUND, DB_TO_ONESELF, DB_INSUFFICIENT_FUNDS, DB_TOO_MUCH, DB_KEY_REUSED},
        [PLACE] = {DB_NO_ACCOUNT, DB_INSUFFICIENT_FUNDS, DB_KEY_REUSED},
        [GET_ORDER] = {DB_NO_ACCOUNT, DB_NOT_FOUND},
        [CANCEL] = {DB_NO_ACCOUNT, DB_NOT_FOUND, DB_ALREADY_READY, DB_ALREADY_CANCELLED},
        [ORDERS] = {DB_NO_ACCOUNT},
        [EVENTS] = {DB_NO_ACCOUNT},
        [SLOW] = {DB_OK},
    };
    unsigned how = choose(4);

    if (how == 3) return DB_QUEUE_FULL + choose(DB_BROKEN - DB_QUEUE_FULL + 1);
    return how == 2 ? refusals[kind][choose(8)] : DB_OK;
}

static void fill_order(struct order *o)
{
    int64_t id = o->id > 0 ? o->id : 1 + choose(9);
    static const int64_t ready_in_ms[] = {60000, -1, 1, INT64_C(86400000) * 1000};

    *o = (struct order){.id = id, .account_id = 1 + choose(3), .pizzas = 1 + choose(1000), .price_cents = 3500};
    snprintf(o->flavor, sizeof o->flavor, "%s", "margherita");
    o->placed_at_ms = wall_ms() - 1000;
    o->ready_at_ms = wall_ms() + ready_in_ms[choose(4)];
    if (choose(4) == 3) o->cancelled_at_ms = o->placed_at_ms + 1;
}

static void fill_entry(struct db_entry *e)
{
    *e = (struct db_entry){
        .id = 1 + choose_number(), .kind = choose(4), .amount_cents = choose(2) ? -3500 : 3500, .at_ms = wall_ms()};
    if (e->kind == DB_ORDER) e->order_id = 1;
    if (e->kind == DB_TRANSFER) e->transfer_id = e->peer_id = 2;
    snprintf(e->note, sizeof e->note, "%s", choose_text());
}

static void fill_events(struct db_events *e)
{
    e->account_id = 1;
    e->count = e->from_now ? 0 : choose((unsigned)e->limit + 1);
    e->more = choose(4) == 3;
    e->lost = choose(8) == 7;
    e->next_ms = choose(2) ? wall_ms() + 10 : 0;
    if (e->from_now || e->lost) e->cursor = (struct event_cursor){wall_ms() - 1, INT64_MAX, EVENT_CANCELLED};
    for (size_t i = 0; i < e->count; i++) {
        fill_order(&e->rows[i].order);
        e->rows[i].cursor = (struct event_cursor){wall_ms(), e->rows[i].order.id, (int)choose(3)};
        if (e->rows[i].cursor.kind == EVENT_CANCELLED) e->rows[i].order.cancelled_at_ms = wall_ms();
    }
}

static void complete_db(struct pending p)
{
    struct db_job *job = p.what; /* the first member of them all */
    struct db_account *a = p.what;
    struct db_entries *e = p.what;
    struct db_transfer *t = p.what;
    struct db_order *o = p.what;
    struct db_orders *l = p.what;

    job->rc = choose_rc(p.kind);
    p.op->served_ns = clock_ns();
    bool ok = job->rc == DB_OK, known = ok || job->rc == DB_ALREADY_READY || job->rc == DB_ALREADY_CANCELLED;
    switch (p.kind) {
    case OPEN_ACCOUNT:
        if (ok) a->id = 1 + choose(9);
        break;
    case GET_ACCOUNT:
    case AUTHENTICATE:
        snprintf(a->name, sizeof a->name, "%s", choose_text());
        a->balance_cents = choose_number();
        if (!a->id) a->id = 1;
        break;
    case ENTRIES:
        e->count = ok ? choose((unsigned)e->limit + 1) : 0;
        e->more = ok && e->count && choose(2);
        for (size_t i = 0; i < e->count; i++) fill_entry(&e->rows[i]);
        break;
    case TRANSFER:
        t->replayed = t->key.given && choose(4) == 3;
        t->id = 1 + choose_number();
        t->balance_cents = choose_number();
        break;
    case PLACE: o->replayed = o->key.given && choose(4) == 3; __attribute__((fallthrough));
    case GET_ORDER:
    case CANCEL:
        o->now_ms = wall_ms();
        if (known) fill_order(&o->order);
        if (p.kind == CANCEL && ok) o->order.cancelled_at_ms = wall_ms();
        break;
    case ORDERS:
        l->now_ms = wall_ms();
        l->count = ok ? choose((unsigned)l->limit + 1) : 0;
        l->more = ok && l->count && choose(2);
        for (size_t i = 0; i < l->count; i++) fill_order(&l->rows[i]);
        break;
    case EVENTS:
        if (ok) fill_events(p.what);
        break;
    default: break;
    }
}

int db_open(const struct db_options *options, char *error, size_t error_size)
{
    (void)options, (void)error, (void)error_size;
    return 0;
}

void db_close(void)
{
}

int db_audit(const char *path, FILE *out)
{
    (void)path, (void)out;
    return 0;
}

size_t db_queue_depth(void)
{
    return 0;
}

bool db_worker_busy(void)
{
    return false;
}

void db_stats(struct db_stats *stats)
{
    *stats = (struct db_stats){0};
}

/* ---- upstream.h ----------------------------------------------------------------------------------------------------------------------- */

bool upstream_open(const char *url, bool blocking, char *error, size_t error_size)
{
    (void)url, (void)blocking, (void)error, (void)error_size;
    return true;
}

void upstream_close(void)
{
}

static bool leads_home;

bool upstream_leads_home(void)
{
    return leads_home;
}

void upstream_stats(struct upstream_stats *stats)
{
    *stats = (struct upstream_stats){0};
}

void upstream_get(struct upstream_call *u, struct op *op)
{
    must(u->target[0] == '/' && strlen(u->target) < sizeof u->target);
    u->began_ns = clock_ns();
    op->what = "upstream";
    push(CALL, op, u);
}

static void complete_call(struct upstream_call *u)
{
    static const char *const bodies[] = {
        "{\"price_cents\":550,\"eta_minutes\":20}\n", "",      "[]", "{\"price_cents\":1e99,\"eta_minutes\":-1}",
        "{\"price_cents\":0.5,\"eta_minutes\":\"\"}", "\"\xff"};

    u->rc = choose(3) == 2 ? choose(UPSTREAM_LIMIT + 1) : UPSTREAM_OK;
    u->status = choose(4) == 3 ? 500 : 200;
    u->body_len = (size_t)snprintf(u->body, sizeof u->body, "%s", bodies[choose(6)]);
    u->ended_ns = clock_ns();
}

void upstream_get_in_place(struct upstream_call *u, struct op *op)
{
    u->began_ns = clock_ns();
    complete_call(u);
    op->what = "upstream";
    push(POSTED, op, NULL);
}

/* ---- server.h: the rules, and the answer --------------------------------------------------------------------------------------------------- */

static struct {
    bool gone, draining;
    struct buf body;
    const char *type;
} client;

struct req_block {
    struct req_block *next;
    _Alignas(16) char bytes[];
};

struct req *req_of(struct op *op)
{
    return (struct req *)(void *)((char *)op - offsetof(struct req, op));
}

bool server_draining(void)
{
    return client.draining;
}

bool req_cut_short(const struct req *r)
{
    (void)r;
    return client.gone || client.draining;
}

uint32_t req_conn(const struct req *r)
{
    (void)r;
    return !client.gone;
}

void reqs_describe(struct buf *out, unsigned max)
{
    (void)out, (void)max;
}

static void run(struct req *r, step_fn *step)
{
    r->waiting = false;
    step(r);
    must(r->waiting != r->answered);
}

static void step_done(struct op *op)
{
    struct req *r = req_of(op);

    must(r->waiting);
    run(r, r->step);
}

struct op *await_(struct req *r, step_fn *next, const char *name)
{
    must(!r->waiting && !r->answered && name && *name);
    r->waiting = true;
    r->step = next;
    r->op = (struct op){.done = step_done};
    return &r->op;
}

/* Always apart, so that ASan sees the end of each. */
void *req_alloc(struct req *r, size_t size)
{
    struct req_block *block = choose(16) == 15 ? NULL : calloc(1, sizeof *block + size);

    if (!block) {
        respond_no_memory(r);
        return NULL;
    }
    block->next = r->blocks;
    r->blocks = block;
    if (!r->state) r->state = block->bytes;
    return block->bytes;
}

void respond_field(struct req *r, const char *name, const char *format, ...)
{
    char value[512];
    va_list args;

    va_start(args, format);
    int n = vsnprintf(value, sizeof value, format, args);
    va_end(args);
    must(n >= 0 && (size_t)n < sizeof value);
    must(!strpbrk(value, "\r\n") && is_utf8(value));
    http_write_field(&r->fields, name, (struct slice){value, (size_t)n});
}

void respond(struct req *r, int status, const char *type, const void *body, size_t len)
{
    must(!r->waiting && !r->answered && !r->streaming);
    r->answered = true;
    r->status = status;
    client.type = type;
    buf_put(&client.body, body, len);
}

void respond_no_memory(struct req *r)
{
    static const char problem[] = "{\"type\":\"/problems/out-of-memory\",\"title\":\"-\",\"status\":503,\"detail\":\"-\"}\n";

    buf_free(&r->fields);
    respond_field(r, "Retry-After", "1");
    respond(r, 503, "application/problem+json", problem, sizeof problem - 1);
}

void stream_begin(struct req *r, int status, const char *type)
{
    must(!r->waiting && !r->answered && !r->streaming);
    r->streaming = true;
    r->status = status;
    client.type = type;
}

bool stream_put(struct req *r, const void *bytes, size_t len)
{
    must(r->streaming && !r->answered);
    if (client.gone) return false;
    buf_put(&client.body, bytes, len);
    return true;
}

void stream_end(struct req *r)
{
    must(r->streaming && !r->answered && !r->waiting);
    r->answered = true;
}

/* ---- the answer, held to API.md ---------------------------------------------------------------------------------------------------------------- */

static bool has_field(const struct req *r, const char *line)
{
    return r->fields.mem && memmem(r->fields.mem, r->fields.end, line, strlen(line));
}

static void check_json(const struct req *r, const char *text, size_t len)
{
    cJSON *json = cJSON_ParseWithOpts(text, NULL, true);

    must(text[len - 1] == '\n');
    must(json && (cJSON_IsObject(json) || cJSON_IsArray(json)));
    if (r->status >= 400) {
        const cJSON *type = cJSON_GetObjectItem(json, "type"), *status = cJSON_GetObjectItem(json, "status");

        must(cJSON_IsString(type) && strncmp(type->valuestring, "/problems/", 10) == 0);
        must(cJSON_IsNumber(status) && status->valueint == r->status);
        must(cJSON_IsString(cJSON_GetObjectItem(json, "title")));
        must(cJSON_IsString(cJSON_GetObjectItem(json, "detail")) && cJSON_GetObjectItem(json, "detail")->valuestring[0]);
    }
    cJSON_Delete(json);
}

static void check_answer(const struct req *r)
{
    must(strcmp(http_reason(r->status), "Unknown") != 0 && r->status >= 200);
    if (r->status == 401) must(has_field(r, "WWW-Authenticate: Bearer realm=\"forno\""));
    if (r->status == 405) must(has_field(r, "Allow: "));
    if (r->status == 503) must(has_field(r, "Retry-After: "));
    must((r->status == 204 || r->status == 304) == !client.type);
    if (r->status >= 400) must(strcmp(client.type, "application/problem+json") == 0);
    buf_put(&client.body, "", 1);
    must(!client.body.failed && !r->fields.failed);
    const char *text = client.body.mem + client.body.start;
    size_t len = buf_len(&client.body) - 1;
    must(strlen(text) == len && is_utf8(text));
    if (client.type && strstr(client.type, "json")) check_json(r, text, len);
}

/* ---- one request ------------------------------------------------------------------------------------------------------------------------------------ */

static void complete_next(void)
{
    struct pending p = take(choose((unsigned)pending_len));

    now_ns += NS_PER_MS * choose(50);
    if (p.kind == TIMER) {
        struct timer *t = p.what;

        if (now_ns < t->due_ns) now_ns = t->due_ns;
        t->slot = 0;
        t->fired(t);
        return;
    }
    if (p.kind == CALL) complete_call(p.what);
    else if (p.kind != POSTED) complete_db(p);
    p.op->done(p.op);
}

static void serve(struct req *r, step_fn *first)
{
    int completed = 0;

    client.draining = choose(16) == 15;
    run(r, first);
    while (!r->answered) {
        must(pending_len > 0); /* it waits for something that is going to happen */
        bool leaves = !client.gone && (++completed == STEPS_MAX || choose(16) == 15);
        if (leaves) {
            client.gone = true;
            choices = choices_end; /* and there are no surprises any more */
            if (r->op.cut_short) r->op.cut_short(&r->op);
        }
        must(completed < ENDING_MAX);
        if (client.gone) completed++;
        complete_next();
    }
}

/* What is left when a request is gone must have nothing to do with it: pizzas in the oven. ASan sees to that. */
static void bake_the_rest(void)
{
    while (pending_len) {
        must(pending[0].kind == TIMER);
        complete_next();
    }
    must(orders_baking() == 0);
}

/* As conn.c does. NULL: it is not whole. */
static step_fn *read_request(struct req *r, const char *bytes, size_t n)
{
    step_fn *first = NULL;

    http_begin(&r->msg, HTTP_REQUEST);
    while (n) {
        size_t used = http_feed(&r->msg, bytes, n);

        bytes += used;
        n -= used;
        if (r->msg.phase < HTTP_IN_BODY) return NULL;
        if (!first || r->msg.phase == HTTP_FAILED) {
            r->refused = false;
            first = app_route(r);
            must(first && r->step_name);
        }
        if (r->msg.phase != HTTP_IN_BODY || (r->refused && r->msg.expect_continue)) return first;
    }
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct options options = {.host = "127.0.0.1", .opening_credit_cents = 10000, .bake_ms = -1};
    static bool started;
    const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;
    char error[256];

    if (!newline) return -1;
    if (!started)
        started = app_start(&options, error, sizeof error) && app_listening("http://127.0.0.1:1", true, error, sizeof error);
    must(started);
    choices = data;
    choices_end = newline;
    now_ns = 1000 * NS_PER_S; /* each input has its own time, or no finding could be repeated */
    leads_home = choose(2);

    struct req *r = calloc(1, sizeof *r);
    must(r != NULL);
    step_fn *first = read_request(r, (const char *)newline + 1, size - (size_t)(newline + 1 - data));
    if (first) {
        serve(r, first);
        check_answer(r);
    }
    while (r->blocks) {
        struct req_block *block = r->blocks;

        r->blocks = block->next;
        free(block);
    }
    buf_free(&r->fields);
    buf_free(&client.body);
    http_free(&r->msg);
    free(r);
    memset(&client, 0, sizeof client);
    bake_the_rest();
    return 0;
}
