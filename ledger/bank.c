/* bank.c: what is done with the ledger: each operation is one transaction, or a savepoint in one.
 *
 * It owns the meaning of the tables: who may see what, what moves money, which outcome a key keeps. When the disk is written is none of its
 * business (sqlite.c). The subtle thing is trouble in the middle: an answer of "no" has written nothing, trouble undoes what it did. */
#include "ledger/sqlite.h"
#include "reactor/loop.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#define EVENTS_TOLD 1000           /* events that a subscriber may have missed and still be told, one by one */
#define DISK_RESERVE (1024 * 1024) /* bytes: with less room left on the disk we are not ready for more */

#define BANK 0    /* where opening credits come from; its balance is what the bank owes: negative */
#define TILL (-1) /* where the money for pizzas goes */

/* ---- parts of operations ---------------------------------------------------------------------------------------------------------------- */

/* Whose token is this? A hash that differs in one bit is found in no less time than one that differs in all: the index compares
 * hashes, not tokens, and what it finds is compared again in constant time. */
static enum db_rc find_account(const struct db_token *token, struct db_account *a)
{
    sqlite3_stmt *s = sql_bind(ACCOUNT_BY_TOKEN, "h", token->hash);
    enum db_rc rc = sql_fetch(s);

    if (rc == DB_NOT_FOUND) return DB_NO_ACCOUNT;
    if (rc != DB_OK) return rc;
    bool same = sqlite3_column_bytes(s, 3) == 32 && sodium_memcmp(sqlite3_column_blob(s, 3), token->hash, 32) == 0;
    a->id = sqlite3_column_int64(s, 0);
    rc = sql_text(a->name, sizeof a->name, s, 1);
    a->balance_cents = sqlite3_column_int64(s, 2);
    sqlite3_reset(s);
    return rc == DB_OK && !same ? DB_NO_ACCOUNT : rc;
}

struct movement {
    const char *kind;
    int64_t from, to, amount_cents;
    int64_t order_id; /* 0: none */
    const char *note; /* "": none */
};

/* Double entry: what leaves one account arrives in another, in the same transaction. *id: the movement's. */
static enum db_rc move_money(const struct movement *m, int64_t *id)
{
    enum db_rc rc = sql_run(sql_bind(ACCOUNT_ADD, "ii", -m->amount_cents, m->from));

    if (rc == DB_OK) rc = sql_run(sql_bind(ACCOUNT_ADD, "ii", m->amount_cents, m->to));
    if (rc == DB_OK)
        rc = sql_run(sql_bind(ENTRY_FIRST, "iitiiti", m->from, m->to, m->kind, -m->amount_cents, m->order_id, m->note, tx.now.ms));
    if (rc != DB_OK) return rc;
    if (id) *id = sqlite3_last_insert_rowid(tx.handle);
    return sql_run(sql_bind(ENTRY_SECOND, "iitiiti", m->to, m->from, m->kind, m->amount_cents, m->order_id, m->note, tx.now.ms));
}

/* The outcomes that are kept under an idempotency key, as the file names them. */
static const char *const outcomes[] = {
    [DB_OK] = "ok",
    [DB_NOT_FOUND] = "no-receiver",
    [DB_INSUFFICIENT_FUNDS] = "insufficient-funds",
    [DB_TOO_MUCH] = "too-much",
    [DB_TO_ONESELF] = "to-oneself",
};

struct outcome {
    bool found;
    enum db_rc rc;
    int64_t subject_id, balance_cents;
};

/* Has this key been used? DB_OK (see o->found), DB_KEY_REUSED, or trouble. */
static enum db_rc find_key(const struct db_key *key, int64_t account_id, struct outcome *o)
{
    *o = (struct outcome){0};
    if (!key->given) return DB_OK;

    sqlite3_stmt *s = sql_bind(KEY_FIND, "it", account_id, key->text);
    enum db_rc rc = sql_fetch(s);
    if (rc == DB_NOT_FOUND) return DB_OK;
    if (rc != DB_OK) return rc;
    bool same = sqlite3_column_bytes(s, 0) == 32 && memcmp(sqlite3_column_blob(s, 0), key->fingerprint, 32) == 0;
    char name[24];
    rc = sql_text(name, sizeof name, s, 1);
    o->rc = DB_BROKEN;
    for (size_t i = 0; i < sizeof outcomes / sizeof *outcomes; i++) {
        if (outcomes[i] && strcmp(outcomes[i], name) == 0) o->rc = (enum db_rc)i;
    }
    o->subject_id = sqlite3_column_int64(s, 2);
    o->balance_cents = sqlite3_column_int64(s, 3);
    o->found = true;
    sqlite3_reset(s);
    return rc == DB_OK && !same ? DB_KEY_REUSED : rc;
}

/* Keep what the data decided, for whoever asks again. Returns the outcome itself, or trouble. */
static enum db_rc keep_outcome(const struct db_key *key, int64_t account_id, const struct outcome *o)
{
    if (!key->given || is_trouble(o->rc)) return o->rc;
    enum db_rc rc = sql_run(
        sql_bind(KEY_KEEP, "ithtii", account_id, key->text, key->fingerprint, outcomes[o->rc], o->subject_id, o->balance_cents));
    return rc == DB_OK ? o->rc : rc;
}

/* The columns that ORDER_COLUMNS names. */
static enum db_rc read_order(struct order *o, sqlite3_stmt *s)
{
    o->id = sqlite3_column_int64(s, 0);
    o->account_id = sqlite3_column_int64(s, 1);
    o->pizzas = sqlite3_column_int64(s, 3);
    o->price_cents = sqlite3_column_int64(s, 4);
    o->placed_at_ms = sqlite3_column_int64(s, 5);
    o->ready_at_ms = sqlite3_column_int64(s, 6);
    o->cancelled_at_ms = sqlite3_column_int64(s, 7);
    return sql_text(o->flavor, sizeof o->flavor, s, 2);
}

static enum db_rc find_order(int64_t id, int64_t account_id, struct order *o)
{
    sqlite3_stmt *s = sql_bind(ORDER_OF, "ii", id, account_id);
    enum db_rc rc = sql_fetch(s);

    if (rc != DB_OK) return rc;
    rc = read_order(o, s);
    sqlite3_reset(s);
    return rc;
}

/* ---- the operations: each is one transaction, or a savepoint in one. Worker thread. ------------------------------------------------------- */

/* The operation that a job is the first member of. */
#define OPERATION(type, job) ((struct type *)(void *)(job))

static enum db_rc open_account(struct db_job *job)
{
    struct db_account *a = OPERATION(db_account, job);
    enum db_rc rc = sql_run(sql_bind(ACCOUNT_OPEN, "thi", a->name, a->token.hash, tx.now.ms));

    a->id = sqlite3_last_insert_rowid(tx.handle);
    if (rc != DB_OK || a->balance_cents == 0) return rc;
    return move_money(&(struct movement){"opening", BANK, a->id, a->balance_cents, 0, ""}, NULL);
}

static enum db_rc authenticate(struct db_job *job)
{
    struct db_account *a = OPERATION(db_account, job);

    return find_account(&a->token, a);
}

static enum db_rc get_account(struct db_job *job)
{
    struct db_account *a = OPERATION(db_account, job);
    int64_t wanted = a->id;
    enum db_rc rc = find_account(&a->token, a);

    return rc == DB_OK && a->id != wanted ? DB_NOT_YOURS : rc;
}

static enum db_kind kind_of(const char *name)
{
    if (strcmp(name, "opening") == 0) return DB_OPENING;
    if (strcmp(name, "order") == 0) return DB_ORDER;
    return strcmp(name, "refund") == 0 ? DB_REFUND : DB_TRANSFER;
}

/* The columns of ENTRIES_OF. */
static enum db_rc read_entry(struct db_entry *row, sqlite3_stmt *s)
{
    char kind[16];
    enum db_rc rc = sql_text(kind, sizeof kind, s, 1);

    row->id = sqlite3_column_int64(s, 0);
    row->kind = kind_of(kind);
    row->amount_cents = sqlite3_column_int64(s, 2);
    row->at_ms = sqlite3_column_int64(s, 3);
    row->order_id = sqlite3_column_int64(s, 4);
    row->transfer_id = row->kind == DB_TRANSFER ? sqlite3_column_int64(s, 5) : 0;
    row->peer_id = row->kind == DB_TRANSFER ? sqlite3_column_int64(s, 6) : 0;
    return rc == DB_OK ? sql_text(row->note, sizeof row->note, s, 7) : rc;
}

static enum db_rc list_entries(struct db_job *job)
{
    struct db_entries *e = OPERATION(db_entries, job);
    struct db_account who;
    enum db_rc rc = find_account(&e->token, &who);

    e->count = 0;
    e->more = false;
    if (rc != DB_OK) return rc;
    if (who.id != e->account_id) return DB_NOT_YOURS;
    /* one more than there is room for, to see whether there are more */
    sqlite3_stmt *s = sql_bind(ENTRIES_OF, "iii", who.id, e->before ? e->before : INT64_MAX, (int64_t)e->limit + 1);
    while ((rc = sql_fetch(s)) == DB_OK) {
        if (e->count == e->limit) e->more = true;
        else if ((rc = read_entry(&e->rows[e->count++], s)) != DB_OK) break;
    }
    return sql_end(s, rc);
}

/* Is there such a customer, and would the balance stay an exact number? DB_NOT_FOUND, DB_TOO_MUCH. */
static enum db_rc money_fits(int64_t account_id, int64_t amount_cents)
{
    int64_t has_cents;
    enum db_rc rc = sql_number(sql_bind(BALANCE_OF, "i", account_id), &has_cents);

    if (rc != DB_OK) return rc;
    return amount_cents > DB_AMOUNT_MAX - has_cents ? DB_TOO_MUCH : DB_OK;
}

/* May `amount` go from this account to that one? */
static enum db_rc transfer_allowed(const struct db_account *from, int64_t to, int64_t amount_cents)
{
    if (to == from->id) return DB_TO_ONESELF;
    enum db_rc rc = money_fits(to, amount_cents);
    return rc != DB_NOT_FOUND && amount_cents > from->balance_cents ? DB_INSUFFICIENT_FUNDS : rc;
}

static enum db_rc transfer(struct db_job *job)
{
    struct db_transfer *t = OPERATION(db_transfer, job);
    struct db_account from;
    struct outcome o;
    enum db_rc rc = find_account(&t->token, &from);

    t->replayed = false;
    if (rc == DB_OK) rc = find_key(&t->key, from.id, &o);
    if (rc != DB_OK) return rc;
    t->replayed = o.found;
    if (!o.found) {
        o.rc = transfer_allowed(&from, t->to, t->amount_cents);
        if (o.rc == DB_OK)
            o.rc = move_money(&(struct movement){"transfer", from.id, t->to, t->amount_cents, 0, t->note}, &o.subject_id);
        o.balance_cents = from.balance_cents - (o.rc == DB_OK ? t->amount_cents : 0);
        o.rc = keep_outcome(&t->key, from.id, &o);
    }
    t->id = o.subject_id;
    t->balance_cents = o.balance_cents;
    return o.rc;
}

static enum db_rc insert_order(struct db_order *job, int64_t account_id)
{
    struct order *o = &job->order;

    o->account_id = account_id;
    o->placed_at_ms = tx.now.ms;
    o->ready_at_ms = tx.now.ms + job->bake_ms;
    o->cancelled_at_ms = 0;
    sqlite3_stmt *s = sql_bind(ORDER_PLACE, "itiiii", account_id, o->flavor, o->pizzas, o->price_cents, tx.now.ms, o->ready_at_ms);
    enum db_rc rc = sql_run(s);
    if (rc != DB_OK) return rc;
    o->id = sqlite3_last_insert_rowid(tx.handle);
    return move_money(&(struct movement){"order", account_id, TILL, o->price_cents, o->id, ""}, NULL);
}

static enum db_rc place_order(struct db_job *job)
{
    struct db_order *o = OPERATION(db_order, job);
    struct db_account who;
    struct outcome first;
    enum db_rc rc = find_account(&o->token, &who);

    o->now = tx.now;
    o->replayed = false;
    if (rc == DB_OK) rc = find_key(&o->key, who.id, &first);
    if (rc != DB_OK) return rc;
    o->replayed = first.found;
    if (first.found) return first.rc == DB_OK ? find_order(first.subject_id, who.id, &o->order) : first.rc;
    first.rc = o->order.price_cents > who.balance_cents ? DB_INSUFFICIENT_FUNDS : insert_order(o, who.id);
    if (first.rc == DB_OK) first.subject_id = o->order.id;
    return keep_outcome(&o->key, who.id, &first);
}

static enum db_rc get_order(struct db_job *job)
{
    struct db_order *o = OPERATION(db_order, job);
    struct db_account who;
    enum db_rc rc = find_account(&o->token, &who);

    o->now = tx.now;
    return rc == DB_OK ? find_order(o->order.id, who.id, &o->order) : rc;
}

static enum db_rc cancel_order(struct db_job *job)
{
    struct db_order *o = OPERATION(db_order, job);
    enum db_rc rc = get_order(job);

    if (rc != DB_OK) return rc;
    switch (order_status(&o->order, tx.now.ms)) {
    case ORDER_READY: return DB_ALREADY_READY;
    case ORDER_CANCELLED: return DB_ALREADY_CANCELLED;
    case ORDER_BAKING: break;
    }
    /* Who has been paid up to the limit meanwhile keeps the pizza until he has spent some. */
    rc = money_fits(o->order.account_id, o->order.price_cents);
    if (rc == DB_OK) rc = sql_run(sql_bind(ORDER_CANCEL, "ii", tx.now.ms, o->order.id));
    if (rc == DB_OK)
        rc = move_money(&(struct movement){"refund", TILL, o->order.account_id, o->order.price_cents, o->order.id, ""}, NULL);
    if (rc == DB_OK) o->order.cancelled_at_ms = tx.now.ms;
    return rc;
}

static enum db_rc list_orders(struct db_job *job)
{
    static const enum statement by_status[] = {
        [ORDER_BAKING] = ORDERS_BAKING, [ORDER_READY] = ORDERS_READY, [ORDER_CANCELLED] = ORDERS_CANCELLED};
    struct db_orders *l = OPERATION(db_orders, job);
    struct db_account who;
    enum db_rc rc = find_account(&l->token, &who);

    l->count = 0;
    l->more = false;
    l->now = tx.now;
    if (rc != DB_OK) return rc;
    sqlite3_stmt *s = sql_bind(l->filtered ? by_status[l->status] : ORDERS_OF, "iiii", who.id, l->now.ms,
                               l->before ? l->before : INT64_MAX, (int64_t)l->limit + 1);
    while ((rc = sql_fetch(s)) == DB_OK) {
        if (l->count == l->limit) l->more = true;
        else if ((rc = read_order(&l->rows[l->count++], s)) != DB_OK) break;
    }
    return sql_end(s, rc);
}

static sqlite3_stmt *bind_events(enum statement which, const struct db_events *e, size_t limit)
{
    return sql_bind(which, "iiiiiii", e->account_id, e->cursor.at_ms, tx.now.ms, e->cursor.order_id, (int64_t)e->cursor.kind,
                    (int64_t)limit, (int64_t)EVENTS_TOLD + 1);
}

/* What comes after the cursor and before the present millisecond, as far as there is room. */
static enum db_rc read_events(struct db_events *e)
{
    sqlite3_stmt *s = bind_events(EVENTS_AFTER, e, e->limit + 1);
    enum db_rc rc;

    while ((rc = sql_fetch(s)) == DB_OK) {
        if (e->count == e->limit) {
            e->more = true;
            continue;
        }
        struct order_event *row = &e->rows[e->count++];
        if ((rc = read_order(&row->order, s)) != DB_OK) break;
        row->cursor = (struct event_cursor){sqlite3_column_int64(s, 8), row->order.id, sqlite3_column_int(s, 9)};
        e->cursor = row->cursor;
    }
    return sql_end(s, rc);
}

static enum db_rc order_events(struct db_job *job)
{
    struct db_events *e = OPERATION(db_events, job);
    struct event_cursor told = e->cursor;
    struct db_account who;
    int64_t left = 0;
    enum db_rc rc = DB_OK;

    e->count = 0;
    e->more = e->lost = false;
    e->next_ms = 0;
    if (!e->account_id) {
        rc = find_account(&e->token, &who);
        if (rc == DB_OK) e->account_id = who.id;
    }
    /* From the future of a database that was put back: nobody knows what this listener has heard. */
    if (!e->from_now && e->cursor.at_ms >= tx.now.ms) e->lost = true;
    if (rc == DB_OK && !e->from_now && !e->lost) rc = read_events(e);
    /* How many more? Only who has been away for long needs to be told. */
    if (rc == DB_OK && e->more) rc = sql_number(bind_events(EVENTS_LEFT, e, EVENTS_TOLD + 1), &left);
    if (left + (int64_t)e->count > EVENTS_TOLD) e->lost = true;
    if (e->lost) {
        e->more = false;
        e->count = 0;
    }
    /* The present: everything before this millisecond has been told, or is not going to be. */
    if (e->from_now || e->lost) e->cursor = (struct event_cursor){tx.now.ms - 1, INT64_MAX, EVENT_CANCELLED};
    if (rc == DB_OK) rc = sql_number(sql_bind(EVENTS_NEXT, "ii", e->account_id, tx.now.ms), &e->next_ms);
    if (e->next_ms) e->next_ms++; /* what happens in a millisecond can be told when it is over */
    e->now = tx.now;
    if (rc != DB_OK) e->cursor = told; /* to be told another time */
    return rc;
}

/* The disk may have room for a probe, and none for an order. */
static bool room_left(void)
{
    struct statvfs disk;

    return statvfs(tx.options->path, &disk) != 0 || disk.f_bavail * disk.f_frsize >= DISK_RESERVE;
}

/* Of all writes, the one that writes nothing: that it can read shows that the file is sound, that its transaction can begin and end
 * that nobody holds it, for the price of two locks. Only when the last group has failed does it write, to see whether that is over. */
static enum db_rc ping(struct db_job *job)
{
    (void)job;
    enum db_rc rc = sql_run(sql_bind(BALANCE_OF, "i", INT64_C(1))); /* whether they are there does not matter */

    if (rc == DB_OK) rc = sql_run(sql_bind(ORDER_OF, "ii", INT64_C(1), INT64_C(1)));
    if (rc == DB_OK && tx.last_write != DB_OK) rc = sql_run(tx.prepared[PROBE]);
    return rc == DB_OK && !room_left() ? DB_DISK_FULL : rc;
}

static struct db_slow *slow; /* the query in progress */
static int64_t slow_until_ns;

void still_busy(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    (void)argc;
    (void)argv;
    sqlite3_result_int(context, clock_ns() < slow_until_ns && !atomic_load(&slow->forsaken) &&
                                    !(tx.options->hurried && tx.options->hurried()));
}

static enum db_rc slow_query(struct db_job *job)
{
    slow = OPERATION(db_slow, job);
    slow_until_ns = clock_ns() + slow->ms * NS_PER_MS;
    return sql_number(tx.prepared[SLOW], &slow->rows);
}

/* Has another process written since this was last asked? */
static enum db_rc compare_version(struct db_job *job)
{
    struct db_changes *c = OPERATION(db_changes, job);
    static int64_t known;
    int64_t version = known;
    enum db_rc rc = sql_number(tx.prepared[DATA_VERSION], &version);

    c->found = version != known;
    known = version;
    return rc;
}

/* ---- by their names ------------------------------------------------------------------------------------------------------------------------ */

const struct operation operations[DB_WHATS] = {
    [DB_OPEN_ACCOUNT] = {open_account, WRITES},
    [DB_GET_ACCOUNT] = {get_account, READS},
    [DB_AUTHENTICATE] = {authenticate, READS},
    [DB_LIST_ENTRIES] = {list_entries, READS},
    [DB_TRANSFER_MONEY] = {transfer, WRITES},
    [DB_PLACE_ORDER] = {place_order, WRITES},
    [DB_GET_ORDER] = {get_order, READS},
    [DB_CANCEL_ORDER] = {cancel_order, WRITES},
    [DB_LIST_ORDERS] = {list_orders, READS},
    [DB_ORDER_EVENTS] = {order_events, READS_LAST},
    [DB_PING] = {ping, WRITES},
    [DB_SLOW_QUERY] = {slow_query, READS_LONG},
    [DB_COMPARE_VERSION] = {compare_version, READS},
};
