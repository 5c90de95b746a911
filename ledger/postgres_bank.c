/* postgres_bank.c: what is asked of the database, and what its answers mean: each operation is one statement, the writes one function each.
 *
 * It owns the order of arguments and columns. What is true is decided in postgres.sql; when it may be told, in postgres.c. Numbers travel as
 * they are (big-endian), text and hashes as bytes: nothing is quoted, nothing parsed. */
#include "ledger/postgres.h"

#include <assert.h>
#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define EVENTS_TOLD 1000 /* events that a subscriber may have missed and still be told, one by one */
#define NAP_MS 100       /* of the slow query, at a time */
#define ARGS_MAX 8

#define S(name, takes, returns) [PG_##name] = {#name, takes, returns},
const struct pg_form pg_forms[PG_STATEMENT_COUNT] = {PG_STATEMENTS(S)};
#undef S

/* ---- there --------------------------------------------------------------------------------------------------------------------------------- */

int pg_send(PGconn *conn, enum pg_statement which, ...)
{
    static const int binary[ARGS_MAX] = {1, 1, 1, 1, 1, 1, 1, 1};
    const struct pg_form *form = &pg_forms[which];
    const char *values[ARGS_MAX];
    int lengths[ARGS_MAX], n = 0;
    uint64_t numbers[ARGS_MAX];
    char flags[ARGS_MAX];
    va_list args;

    va_start(args, which);
    for (const char *type = form->takes; *type; type++, n++) {
        switch (*type) {
        case 'i':
            numbers[n] = htobe64((uint64_t)va_arg(args, int64_t));
            values[n] = (const char *)&numbers[n];
            lengths[n] = 8;
            break;
        case 'b':
            flags[n] = va_arg(args, int) != 0;
            values[n] = &flags[n];
            lengths[n] = 1;
            break;
        case 't':
            values[n] = va_arg(args, const char *);
            lengths[n] = values[n] ? (int)strlen(values[n]) : 0;
            break;
        case 'h':
            values[n] = va_arg(args, const char *);
            lengths[n] = 32;
            break;
        default: assert(false);
        }
    }
    va_end(args);
    return pq.PQsendQueryPrepared(conn, form->name, n, values, lengths, binary, 1);
}

const unsigned char *pg_hash(const struct db_job *job)
{
    static_assert(offsetof(struct db_account, token) == sizeof *job && offsetof(struct db_entries, token) == sizeof *job &&
                      offsetof(struct db_transfer, token) == sizeof *job && offsetof(struct db_order, token) == sizeof *job &&
                      offsetof(struct db_orders, token) == sizeof *job,
                  "who asks comes right after the job");
    return (const unsigned char *)(job + 1);
}

/* ---- and back ------------------------------------------------------------------------------------------------------------------------------ */

/* The types of the columns have been looked at when the statement was prepared, and none of them is NULL. */
static int64_t number(const PGresult *rows, int row, int column)
{
    uint64_t n = 0;

    if (pq.PQgetlength(rows, row, column) == 8) memcpy(&n, pq.PQgetvalue(rows, row, column), 8);
    return (int64_t)be64toh(n);
}

static bool flag(const PGresult *rows, int row, int column)
{
    return pq.PQgetvalue(rows, row, column)[0] != 0;
}

static void text(char *to, size_t size, const PGresult *rows, int row, int column)
{
    snprintf(to, size, "%s", pq.PQgetvalue(rows, row, column));
}

/* As the functions of postgres.sql name it. */
static enum db_rc outcome(const PGresult *rows)
{
    static const char *const names[] = {
        [DB_OK] = "ok",
        [DB_NO_ACCOUNT] = "no-account",
        [DB_INSUFFICIENT_FUNDS] = "insufficient-funds",
        [DB_TOO_MUCH] = "too-much",
        [DB_TO_ONESELF] = "to-oneself",
        [DB_KEY_REUSED] = "key-reused",
        [DB_ALREADY_READY] = "already-ready",
        [DB_ALREADY_CANCELLED] = "already-cancelled",
    };
    const char *name = pq.PQgetvalue(rows, 0, 0);

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i] && strcmp(names[i], name) == 0) return (enum db_rc)i;
    }
    return strcmp(name, "not-found") == 0 || strcmp(name, "no-receiver") == 0 ? DB_NOT_FOUND : DB_BROKEN;
}

/* Eight columns from `first` on. */
static void read_order(struct order *o, const PGresult *rows, int row, int first)
{
    o->id = number(rows, row, first);
    o->account_id = number(rows, row, first + 1);
    text(o->flavor, sizeof o->flavor, rows, row, first + 2);
    o->pizzas = number(rows, row, first + 3);
    o->price_cents = number(rows, row, first + 4);
    o->placed_at_ms = number(rows, row, first + 5);
    o->ready_at_ms = number(rows, row, first + 6);
    o->cancelled_at_ms = number(rows, row, first + 7);
}

/* ---- the operations ------------------------------------------------------------------------------------------------------------------------ */

#define OPERATION(type, job) ((struct type *)(void *)(job))
#define ASKED(type, job) ((const struct type *)(const void *)(job))

static int ask_open_account(PGconn *conn, struct db_job *job)
{
    struct db_account *a = OPERATION(db_account, job);

    return pg_send(conn, PG_ACCOUNT_OPEN, a->name, a->token.hash, a->balance_cents);
}

static void take_open_account(struct db_job *job, const PGresult *rows, int64_t ns)
{
    (void)ns;
    OPERATION(db_account, job)->id = number(rows, 0, 0);
    job->rc = DB_OK;
}

static int ask_account(PGconn *conn, struct db_job *job)
{
    return pg_send(conn, PG_ACCOUNT_BY_TOKEN, pg_hash(job));
}

static void take_account(struct db_job *job, const PGresult *rows, int64_t ns)
{
    struct db_account *a = OPERATION(db_account, job);

    (void)ns;
    job->rc = DB_NO_ACCOUNT;
    if (pq.PQntuples(rows) == 0) return;
    bool same = job->what == DB_AUTHENTICATE || a->id == number(rows, 0, 0);
    job->rc = same ? DB_OK : DB_NOT_YOURS;
    a->id = number(rows, 0, 0);
    text(a->name, sizeof a->name, rows, 0, 1);
    a->balance_cents = number(rows, 0, 2);
}

static int ask_entries(PGconn *conn, struct db_job *job)
{
    struct db_entries *e = OPERATION(db_entries, job);

    /* one more than there is room for, to see whether there are more */
    return pg_send(conn, PG_ENTRIES_OF, e->token.hash, e->account_id, e->before ? e->before : INT64_MAX, (int64_t)e->limit + 1);
}

static enum db_kind kind_of(const char *name)
{
    if (strcmp(name, "opening") == 0) return DB_OPENING;
    if (strcmp(name, "order") == 0) return DB_ORDER;
    return strcmp(name, "refund") == 0 ? DB_REFUND : DB_TRANSFER;
}

static void take_entries(struct db_job *job, const PGresult *rows, int64_t ns)
{
    struct db_entries *e = OPERATION(db_entries, job);
    int n = pq.PQntuples(rows);

    (void)ns;
    e->count = 0;
    e->more = false;
    job->rc = n == 0 ? DB_NO_ACCOUNT : number(rows, 0, 0) == e->account_id ? DB_OK : DB_NOT_YOURS;
    for (int i = 0; i < n && job->rc == DB_OK && number(rows, i, 1); i++) {
        if (e->count == e->limit) {
            e->more = true;
            break;
        }
        struct db_entry *row = &e->rows[e->count++];
        *row = (struct db_entry){
            .id = number(rows, i, 1),
            .kind = kind_of(pq.PQgetvalue(rows, i, 2)),
            .amount_cents = number(rows, i, 3),
            .at_ms = number(rows, i, 4),
            .order_id = number(rows, i, 5),
        };
        if (row->kind == DB_TRANSFER) {
            row->transfer_id = number(rows, i, 6);
            row->peer_id = number(rows, i, 7);
        }
        text(row->note, sizeof row->note, rows, i, 8);
    }
}

static int ask_transfer(PGconn *conn, struct db_job *job)
{
    struct db_transfer *t = OPERATION(db_transfer, job);

    return pg_send(conn, PG_TRANSFER, t->token.hash, t->key.given ? t->key.text : NULL, t->key.fingerprint, t->to, t->amount_cents,
                   t->note);
}

static void take_transfer(struct db_job *job, const PGresult *rows, int64_t ns)
{
    struct db_transfer *t = OPERATION(db_transfer, job);

    (void)ns;
    job->rc = outcome(rows);
    t->replayed = flag(rows, 0, 1) && !job->doubtful; /* what comes again may be our own first try, of which nobody was told */
    t->id = number(rows, 0, 2);
    t->balance_cents = number(rows, 0, 3);
}

static bool transfer_has_key(const struct db_job *job)
{
    return ASKED(db_transfer, job)->key.given;
}

static int ask_place_order(PGconn *conn, struct db_job *job)
{
    struct db_order *o = OPERATION(db_order, job);

    return pg_send(conn, PG_ORDER_PLACE, o->token.hash, o->key.given ? o->key.text : NULL, o->key.fingerprint, o->order.flavor,
                   o->order.pizzas, o->order.price_cents, o->bake_ms);
}

static void take_place_order(struct db_job *job, const PGresult *rows, int64_t ns)
{
    struct db_order *o = OPERATION(db_order, job);
    bool again = flag(rows, 0, 1);

    job->rc = outcome(rows);
    o->replayed = again && !job->doubtful; /* as with transfers */
    o->now = (struct db_instant){number(rows, 0, 2), ns};
    if (job->rc != DB_OK) return;
    read_order(&o->order, rows, 0, 3);
    /* Our own first try: this is the answer that it would have had, and tells of that moment. */
    if (again && job->doubtful)
        o->now = (struct db_instant){o->order.placed_at_ms, ns - (o->now.ms - o->order.placed_at_ms) * NS_PER_MS};
}

static bool order_has_key(const struct db_job *job)
{
    return ASKED(db_order, job)->key.given;
}

static int ask_get_order(PGconn *conn, struct db_job *job)
{
    return pg_send(conn, PG_ORDER_OF, pg_hash(job), OPERATION(db_order, job)->order.id);
}

static void take_get_order(struct db_job *job, const PGresult *rows, int64_t ns)
{
    struct db_order *o = OPERATION(db_order, job);

    job->rc = DB_NO_ACCOUNT;
    if (pq.PQntuples(rows) == 0) return;
    o->now = (struct db_instant){number(rows, 0, 0), ns};
    job->rc = number(rows, 0, 1) ? DB_OK : DB_NOT_FOUND;
    if (job->rc == DB_OK) read_order(&o->order, rows, 0, 1);
}

static int ask_cancel_order(PGconn *conn, struct db_job *job)
{
    return pg_send(conn, PG_ORDER_CANCEL, pg_hash(job), OPERATION(db_order, job)->order.id);
}

static void take_cancel_order(struct db_job *job, const PGresult *rows, int64_t ns)
{
    struct db_order *o = OPERATION(db_order, job);

    job->rc = outcome(rows);
    o->now = (struct db_instant){number(rows, 0, 1), ns};
    if (number(rows, 0, 2)) read_order(&o->order, rows, 0, 2);
    /* The first time it may have been done, and the answer got lost: then this is the answer. */
    if (job->rc == DB_ALREADY_CANCELLED && job->doubtful) job->rc = DB_OK;
}

static int ask_list_orders(PGconn *conn, struct db_job *job)
{
    static const enum pg_statement by_status[] = {
        [ORDER_BAKING] = PG_ORDERS_BAKING, [ORDER_READY] = PG_ORDERS_READY, [ORDER_CANCELLED] = PG_ORDERS_CANCELLED};
    struct db_orders *l = OPERATION(db_orders, job);

    return pg_send(conn, l->filtered ? by_status[l->status] : PG_ORDERS_OF, l->token.hash, l->before ? l->before : INT64_MAX,
                   (int64_t)l->limit + 1);
}

static void take_list_orders(struct db_job *job, const PGresult *rows, int64_t ns)
{
    struct db_orders *l = OPERATION(db_orders, job);
    int n = pq.PQntuples(rows);

    l->count = 0;
    l->more = false;
    job->rc = n ? DB_OK : DB_NO_ACCOUNT;
    if (n) l->now = (struct db_instant){number(rows, 0, 0), ns};
    for (int i = 0; i < n && number(rows, i, 1); i++) {
        if (l->count == l->limit) l->more = true;
        else read_order(&l->rows[l->count++], rows, i, 1);
    }
}

static int ask_events(PGconn *conn, struct db_job *job)
{
    struct db_events *e = OPERATION(db_events, job);

    return pg_send(conn, PG_EVENTS, e->token.hash, e->account_id, !e->from_now, e->cursor.at_ms, e->cursor.order_id,
                   (int64_t)e->cursor.kind, (int64_t)e->limit, (int64_t)EVENTS_TOLD);
}

static void take_events(struct db_job *job, const PGresult *rows, int64_t ns)
{
    struct db_events *e = OPERATION(db_events, job);
    int n = pq.PQntuples(rows);

    e->count = 0;
    e->more = e->lost = false;
    job->rc = n ? DB_OK : DB_NO_ACCOUNT;
    if (!n) return;
    int64_t now_ms = number(rows, 0, 1), next_ms = number(rows, 0, 2), missed = number(rows, 0, 3);
    e->account_id = number(rows, 0, 0);
    e->now = (struct db_instant){now_ms, ns};
    e->next_ms = next_ms ? next_ms + 1 : 0; /* what happens in a millisecond can be told when it is over */
    /* From the future of a database that was put back: nobody knows what this listener has heard. */
    e->lost = !e->from_now && (e->cursor.at_ms >= now_ms || missed > EVENTS_TOLD);
    for (int i = 0; i < n && !e->lost && number(rows, i, 6) && e->count < e->limit; i++) {
        struct order_event *row = &e->rows[e->count++];

        read_order(&row->order, rows, i, 6);
        row->cursor = (struct event_cursor){number(rows, i, 4), row->order.id, (int)number(rows, i, 5)};
        e->cursor = row->cursor;
    }
    e->more = !e->lost && missed > (int64_t)e->count;
    /* The present: everything before this millisecond has been told, or is not going to be. */
    if (e->from_now || e->lost) e->cursor = (struct event_cursor){now_ms - 1, INT64_MAX, EVENT_CANCELLED};
}

static int ask_ping(PGconn *conn, struct db_job *job)
{
    return pg_send(conn, PG_PING, OPERATION(db_ping, job)->writing);
}

static void take_ping(struct db_job *job, const PGresult *rows, int64_t ns)
{
    (void)ns;
    job->rc = number(rows, 0, 1) != PG_SCHEMA_VERSION ? DB_BROKEN : flag(rows, 0, 0) ? DB_OK : DB_UNREACHABLE;
}

static int ask_slow_query(PGconn *conn, struct db_job *job)
{
    struct db_slow *s = OPERATION(db_slow, job);

    return pg_send(conn, PG_NAP, s->left_ms < NAP_MS ? s->left_ms : (int64_t)NAP_MS);
}

/* Nothing that runs can be called off without waiting for it, in libpq 15. So a slow query is many naps, and between them it is seen whether
 * anybody still waits. */
static void take_slow_query(struct db_job *job, const PGresult *rows, int64_t ns)
{
    struct db_slow *s = OPERATION(db_slow, job);

    (void)ns;
    s->rows += number(rows, 0, 0);
    s->left_ms -= NAP_MS;
    job->rc = DB_OK;
}

bool pg_wants_more(struct db_job *job)
{
    struct db_slow *s = OPERATION(db_slow, job);

    return job->what == DB_SLOW_QUERY && s->left_ms > 0 && !atomic_load(&s->forsaken);
}

static int ask_look(PGconn *conn, struct db_job *job)
{
    (void)job;
    return pg_send(conn, PG_LOOK);
}

static void take_look(struct db_job *job, const PGresult *rows, int64_t ns)
{
    struct pg_look *l = OPERATION(pg_look, job);
    int64_t seen = number(rows, 0, 0);

    (void)ns;
    l->found = seen != l->seen;
    l->seen = seen;
    job->rc = DB_OK;
}

static int ask_tell(PGconn *conn, struct db_job *job)
{
    return pg_send(conn, PG_NOTIFY, OPERATION(pg_tell, job)->text);
}

static void take_tell(struct db_job *job, const PGresult *rows, int64_t ns)
{
    (void)rows;
    (void)ns;
    job->rc = DB_OK;
}

/* ---- by their names ------------------------------------------------------------------------------------------------------------------------ */

const struct pg_operation pg_operations[DB_WHATS] = {
    [DB_OPEN_ACCOUNT] = {ask_open_account, take_open_account, NULL, PG_WRITES, false},
    [DB_GET_ACCOUNT] = {ask_account, take_account, NULL, PG_READS, false},
    [DB_AUTHENTICATE] = {ask_account, take_account, NULL, PG_READS, false},
    [DB_LIST_ENTRIES] = {ask_entries, take_entries, NULL, PG_READS, false},
    [DB_TRANSFER_MONEY] = {ask_transfer, take_transfer, transfer_has_key, PG_WRITES, true},
    [DB_PLACE_ORDER] = {ask_place_order, take_place_order, order_has_key, PG_WRITES, false},
    [DB_GET_ORDER] = {ask_get_order, take_get_order, NULL, PG_READS, false},
    [DB_CANCEL_ORDER] = {ask_cancel_order, take_cancel_order, NULL, PG_WRITES, false},
    [DB_LIST_ORDERS] = {ask_list_orders, take_list_orders, NULL, PG_READS, false},
    [DB_ORDER_EVENTS] = {ask_events, take_events, NULL, PG_NEWS, false},
    [DB_PING] = {ask_ping, take_ping, NULL, PG_WRITES, false},
    [DB_SLOW_QUERY] = {ask_slow_query, take_slow_query, NULL, PG_SLOW, false},
    [DB_COMPARE_VERSION] = {ask_look, take_look, NULL, PG_READS, false},
    [DB_TELL_OTHERS] = {ask_tell, take_tell, NULL, PG_READS, false},
};
