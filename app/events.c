/* events.c: what happens to an account's orders, as server-sent events (WHATWG HTML 9.2).
 *
 * Events have no table: they follow from the orders, and their ids say up to where a listener has heard them. The subtle thing is the crowd:
 * all who have heard the same ask the database once, and are told the same bytes. */
#include "app/app.h"
#include "app/start.h"
#include "text/grammar.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HEARTBEAT_NS (15 * NS_PER_S)
#define EVENTS_AT_ONCE 16

/* What has happened to the orders of an account since some point, read once for all who have heard everything up to there. */
struct news {
    struct question question;
    struct db_events events;
    struct order_event rows[EVENTS_AT_ONCE];
    struct buf text; /* as it goes out to each of them */
};

struct subscriber {
    struct news *news; /* being read */
    struct waiter waiter;
    int64_t account_id;         /* 0: not known yet */
    struct event_cursor cursor; /* what has been told up to now */
    int64_t heartbeat_ns;       /* when the next one is due */
    bool stale;                 /* what was missed cannot be told */
};

static step_fn events_fetched, events_awaited;

void events_open(struct req *r)
{
    respond_field(r, "Cache-Control", "no-store");
    respond_field(r, "X-Accel-Buffering",
                  "no"); /* nginx would keep the events to itself until it had 4 KiB of them (docs/proxies.md) */
    stream_begin(r, 200, "text/event-stream");
}

void put_event(struct buf *out, const char *name, cJSON *data)
{
    char *text = json_text(data);

    buf_printf(out, "event: %s\ndata: ", name);
    if (text) buf_puts(out, text);
    else out->failed = true;
    buf_puts(out, "\n\n");
    free(text);
}

bool stream_text(struct req *r, struct buf *text)
{
    bool told = !text->failed && stream_put(r, text->mem + text->start, buf_len(text));

    buf_free(text);
    return told;
}

static void put_cursor(struct buf *out, const struct event_cursor *c)
{
    buf_printf(out, "id: %" PRId64 "-%" PRId64 "-%d\n", c->at_ms, c->order_id, c->kind);
}

/* Last-Event-ID is what we gave as `id:`. False: it is not ours. */
static bool cursor_from(struct slice id, struct event_cursor *cursor)
{
    uint64_t n[3];

    for (int i = 0; i < 3; i++) {
        const char *end = i < 2 ? memchr(id.at, '-', id.len) : id.at + id.len;

        if (!end || !whole_number((struct slice){id.at, (size_t)(end - id.at)}, &n[i]) || n[i] > INT64_MAX) return false;
        if (i < 2) id = (struct slice){end + 1, id.len - (size_t)(end + 1 - id.at)};
    }
    if (n[2] > EVENT_CANCELLED) return false;
    *cursor = (struct event_cursor){.at_ms = (int64_t)n[0], .order_id = (int64_t)n[1], .kind = (int)n[2]};
    return true;
}

static struct news *news_new(int64_t account_id, struct event_cursor cursor)
{
    struct news *n = calloc(1, sizeof *n);

    if (n) n->events = (struct db_events){.account_id = account_id, .cursor = cursor, .rows = n->rows, .limit = EVENTS_AT_ONCE};
    return n;
}

static void news_ask(struct question *q)
{
    db_order_events(&HOLDER(news, question, q)->events, &q->op);
}

static void news_leave(struct news *n)
{
    if (!question_leave(&n->question)) return;
    buf_free(&n->text);
    free(n);
}

void get_order_events(struct req *r)
{
    struct subscriber *s = req_alloc(r, sizeof *s);
    struct slice last = http_field(&r->msg, "last-event-id");

    if (!s) return;
    s->stale = last.at && !cursor_from(last, &s->cursor);
    s->news = news_new(0, s->cursor);
    if (!s->news) {
        respond_no_memory(r);
        return;
    }
    s->news->events.from_now = !last.at || s->stale;
    s->news->events.token = bearer_token(r);
    s->news->question.refs = 1; /* the first time everybody asks for himself, and so shows his token */
    db_order_events(&s->news->events, await(r, events_fetched));
}

static void put_order_event(struct buf *out, const struct order_event *e)
{
    static const char *const names[] = {[EVENT_PLACED] = "placed", [EVENT_READY] = "ready", [EVENT_CANCELLED] = "cancelled"};
    static const enum order_status status[] = {
        [EVENT_PLACED] = ORDER_BAKING, [EVENT_READY] = ORDER_READY, [EVENT_CANCELLED] = ORDER_CANCELLED};

    put_cursor(out, &e->cursor);
    put_event(out, names[e->cursor.kind], order_json(&e->order, status[e->cursor.kind], e->cursor.at_ms));
}

/* Tell one subscriber. False: he has left, or falls behind, or there is no memory to tell it with; then nothing has been told. */
static bool news_tell(struct req *r, struct news *n)
{
    struct subscriber *s = req_state(r);
    struct db_events *e = &n->events;

    if (s->stale || e->lost) { /* away for too long, or with an id that means nothing here: he goes on from the present */
        struct buf text = {0};

        put_cursor(&text, &e->cursor);
        buf_puts(&text, "event: stale\ndata: {\"detail\":\"What you missed cannot be told any more: GET /orders.\"}\n\n");
        if (!stream_text(r, &text)) return false;
        s->stale = false;
    }
    if (e->count && !buf_len(&n->text)) {
        for (size_t i = 0; i < e->count; i++) put_order_event(&n->text, &n->rows[i]);
    }
    if (n->text.failed || (e->count && !stream_put(r, n->text.mem, buf_len(&n->text)))) return false;
    s->cursor = e->cursor;
    return true;
}

/* The database has just told our present place in time; from here on, only what comes after. Whoever is cut off before the first event
 * comes back with this id. */
static bool events_begin(struct req *r)
{
    struct subscriber *s = req_state(r);
    struct buf text = {0};

    events_open(r);
    buf_puts(&text, "retry: 2000\n");
    if (s->news->events.from_now) s->cursor = s->news->events.cursor;
    put_cursor(&text, &s->cursor);
    buf_puts(&text, "\n");
    s->account_id = s->news->events.account_id;
    wait_heed(&s->waiter, -s->account_id); /* what was committed after this read is told of after it */
    s->heartbeat_ns = clock_ns() + HEARTBEAT_NS;
    return stream_text(r, &text);
}

static bool same_news(const struct question *q, const void *cursor)
{
    const struct event_cursor *a = &((const struct news *)(const void *)q)->events.cursor, *b = cursor;

    return a->at_ms == b->at_ms && a->order_id == b->order_id && a->kind == b->kind;
}

static void events_wait(struct req *r, int64_t due_ns)
{
    struct subscriber *s = req_state(r);

    if (due_ns > s->heartbeat_ns) due_ns = s->heartbeat_ns;
    db_listen(due_ns);
    wait_for(&s->waiter, "oven", -s->account_id, due_ns, await(r, events_awaited));
}

static void events_ask(struct req *r)
{
    struct subscriber *s = req_state(r);

    wait_heed(&s->waiter, -s->account_id);
    s->news = (struct news *)(void *)question_find(-s->account_id, same_news, &s->cursor);
    if (!s->news && (s->news = news_new(s->account_id, s->cursor))) question_begin(&s->news->question, -s->account_id, news_ask);
    if (s->news) question_join(&s->news->question, await(r, events_fetched));
    else events_wait(r, INT64_MAX); /* no memory: the cursor stays where it is, so nothing gets lost */
}

static void events_end(struct req *r)
{
    if (server_draining()) stream_put(r, ": the server is leaving\n\n", 25);
    stream_end(r);
}

static void events_fetched(struct req *r)
{
    struct subscriber *s = req_state(r);
    struct news *n = s->news;
    bool known = n->events.job.rc == DB_OK, more = known && n->events.more, listening = true;
    int64_t due_ns = known && n->events.next_ms ? ns_of(n->events.next_ms, n->events.now) : INT64_MAX;

    if (!r->streaming && !known) {
        respond_db_problem(r, n->events.job.rc);
        news_leave(n);
        return;
    }
    if (!r->streaming) listening = events_begin(r);
    /* Trouble with the database later on is waited out: the cursor stays where it is, so nothing gets lost. */
    if (known && listening) listening = news_tell(r, n);
    news_leave(n);
    if (!listening || req_cut_short(r) || r->msg.method == HTTP_HEAD) events_end(r);
    else if (more) events_ask(r);
    else if (app_options->blocking)
        events_end(r); /* to stand still for what may happen is more than anybody could bear: come again */
    else events_wait(r, due_ns);
}

static void events_awaited(struct req *r)
{
    struct subscriber *s = req_state(r);

    if (clock_ns() >= s->heartbeat_ns) {
        stream_put(r, ":\n\n", 3);
        s->heartbeat_ns = clock_ns() + HEARTBEAT_NS;
    }
    events_ask(r);
}
