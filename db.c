/* db.c: the worker thread, its queue, and all SQL.
 *
 * SQLite blocks: a query waits for the disk, a commit waits for the platter. So one thread does nothing but wait for it, and the
 * results come back to the loop over its eventfd (loop_post). The subtle thing is the group commit: the worker takes the whole
 * queue, answers the reads, runs every write in a savepoint of one transaction, and commits once. One fsync serves everyone who
 * waited for it; a write that fails undoes only itself; a commit that fails, fails all of them, and they are told so. */
#include "db.h"

#include "reactor/loop.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define BUSY_MS 1000                /* how long another process may hold the file before we say so */
#define REOPEN_NS (100 * NS_PER_MS) /* how often a database in trouble is tried again */
#define EVENTS_TOLD 1000            /* events that a subscriber may have missed and still be told, one by one */
#define OTHERS_NS NS_PER_S          /* how often we look whether another process has changed the file */
#define DISK_RESERVE (1024 * 1024)  /* bytes: with less room left on the disk we are not ready for more */
#define APPLICATION_ID 0x466f726e   /* "Forn": what kind of database this is (PRAGMA application_id) */

#define BANK 0    /* where opening credits come from; its balance is what the bank owes: negative */
#define TILL (-1) /* where the money for pizzas goes */

/* ---- the schema --------------------------------------------------------------------------------------------------------------- */

/* Number n takes the schema from version n to n + 1. Never edit one that has been released: append. */
static const char *const migrations[] = {
    "CREATE TABLE accounts ("
    "  id            INTEGER PRIMARY KEY,"
    "  name          TEXT NOT NULL,"
    "  token_hash    BLOB," /* NULL: the house, nobody can sign in */
    "  balance_cents INTEGER NOT NULL CHECK (balance_cents >= 0 OR id <= 0),"
    "  opened_at_ms  INTEGER NOT NULL"
    ") STRICT;"
    "CREATE UNIQUE INDEX accounts_by_token ON accounts (token_hash);"

    "CREATE TABLE orders ("
    "  id              INTEGER PRIMARY KEY,"
    "  account_id      INTEGER NOT NULL REFERENCES accounts (id),"
    "  flavor          TEXT NOT NULL,"
    "  pizzas          INTEGER NOT NULL CHECK (pizzas > 0),"
    "  price_cents     INTEGER NOT NULL CHECK (price_cents > 0),"
    "  placed_at_ms    INTEGER NOT NULL,"
    "  ready_at_ms     INTEGER NOT NULL CHECK (ready_at_ms >= placed_at_ms),"
    "  cancelled_at_ms INTEGER CHECK (cancelled_at_ms < ready_at_ms)"
    ") STRICT;"
    "CREATE INDEX orders_by_account ON orders (account_id);" /* and by id: every index ends with the rowid */
    "CREATE INDEX orders_by_ready ON orders (account_id, ready_at_ms) WHERE cancelled_at_ms IS NULL;"
    "CREATE INDEX orders_by_cancelled ON orders (account_id, cancelled_at_ms) WHERE cancelled_at_ms IS NOT NULL;"
    "CREATE INDEX orders_cancelled ON orders (account_id) WHERE cancelled_at_ms IS NOT NULL;"

    /* The ledger. Every movement of money is two entries that share a movement_id, the id of the first, and sum to zero. */
    "CREATE TABLE entries ("
    "  id           INTEGER PRIMARY KEY,"
    "  movement_id  INTEGER NOT NULL,"
    "  account_id   INTEGER NOT NULL REFERENCES accounts (id),"
    "  peer_id      INTEGER NOT NULL,"
    /* not IN (…): SQLite would build a b-tree of the four at every insert, a third of an order's instructions */
    "  kind         TEXT NOT NULL CHECK (kind = 'order' OR kind = 'transfer' OR kind = 'opening' OR kind = 'refund'),"
    "  amount_cents INTEGER NOT NULL CHECK (amount_cents <> 0),"
    "  order_id     INTEGER REFERENCES orders (id),"
    "  note         TEXT,"
    "  at_ms        INTEGER NOT NULL"
    ") STRICT;"
    "CREATE INDEX entries_by_account ON entries (account_id) WHERE account_id > 0;" /* nobody pages through the house's */

    /* The first outcome under each Idempotency-Key. Kept for ever: the simplest promise. A service that lives for years would
     * forget them after some days. */
    "CREATE TABLE keys ("
    "  account_id    INTEGER NOT NULL REFERENCES accounts (id),"
    "  key           TEXT NOT NULL,"
    "  fingerprint   BLOB NOT NULL,"
    "  outcome       TEXT NOT NULL,"
    "  subject_id    INTEGER NOT NULL," /* the order, or the transfer's movement */
    "  balance_cents INTEGER NOT NULL,"
    "  PRIMARY KEY (account_id, key)"
    ") STRICT, WITHOUT ROWID;"

    "INSERT INTO accounts (id, name, balance_cents, opened_at_ms) VALUES (0, 'the bank', 0, 0), (-1, 'the till', 0, 0);",
};

#define SCHEMA_VERSION ((int)(sizeof migrations / sizeof *migrations))

#define ORDER_COLUMNS "id, account_id, flavor, pizzas, price_cents, placed_at_ms, ready_at_ms, coalesce(cancelled_at_ms, 0)"

/* clang-format off */
enum statement {
    BEGIN_READ, BEGIN_WRITE, COMMIT, ROLLBACK, SAVEPOINT, RELEASE, ROLLBACK_TO,
    ACCOUNT_BY_TOKEN, BALANCE_OF, ACCOUNT_OPEN, ACCOUNT_ADD,
    ENTRY_FIRST, ENTRY_SECOND, ENTRIES_OF,
    KEY_FIND, KEY_KEEP,
    ORDER_PLACE, ORDER_OF, ORDER_CANCEL, ORDERS_OF, ORDERS_BAKING, ORDERS_READY, ORDERS_CANCELLED,
    EVENTS_AFTER, EVENTS_LEFT, EVENTS_NEXT,
    PROBE, SLOW, LATEST, DATA_VERSION, USER_VERSION,
    STATEMENTS
};
/* clang-format on */

static const char *const sql[STATEMENTS] = {
    [BEGIN_READ] = "BEGIN",
    [BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [SAVEPOINT] = "SAVEPOINT job",
    [RELEASE] = "RELEASE job",
    [ROLLBACK_TO] = "ROLLBACK TO job",

    [ACCOUNT_BY_TOKEN] = "SELECT id, name, balance_cents, token_hash FROM accounts WHERE token_hash = ?",
    [BALANCE_OF] = "SELECT balance_cents FROM accounts WHERE id = ? AND id > 0",
    [ACCOUNT_OPEN] = "INSERT INTO accounts (name, token_hash, balance_cents, opened_at_ms) VALUES (?, ?, 0, ?)",
    [ACCOUNT_ADD] = "UPDATE accounts SET balance_cents = balance_cents + ? WHERE id = ?",

    [ENTRY_FIRST] = "INSERT INTO entries (movement_id, account_id, peer_id, kind, amount_cents, order_id, note, at_ms) "
                    "VALUES ((SELECT coalesce(max(id), 0) + 1 FROM entries), ?, ?, ?, ?, nullif(?, 0), nullif(?, ''), ?)",
    [ENTRY_SECOND] = "INSERT INTO entries (movement_id, account_id, peer_id, kind, amount_cents, order_id, note, at_ms) "
                     "VALUES (last_insert_rowid(), ?, ?, ?, ?, nullif(?, 0), nullif(?, ''), ?)",
    [ENTRIES_OF] = "SELECT id, kind, amount_cents, at_ms, coalesce(order_id, 0), movement_id, peer_id, coalesce(note, '') "
                   "FROM entries WHERE account_id = ? AND account_id > 0 AND id < ? ORDER BY id DESC LIMIT ?",

    [KEY_FIND] = "SELECT fingerprint, outcome, subject_id, balance_cents FROM keys WHERE account_id = ? AND key = ?",
    [KEY_KEEP] = "INSERT INTO keys (account_id, key, fingerprint, outcome, subject_id, balance_cents) VALUES (?, ?, ?, ?, ?, ?)",

    [ORDER_PLACE] = "INSERT INTO orders (account_id, flavor, pizzas, price_cents, placed_at_ms, ready_at_ms) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
    [ORDER_OF] = "SELECT " ORDER_COLUMNS " FROM orders WHERE id = ? AND account_id = ?",
    [ORDER_CANCEL] = "UPDATE orders SET cancelled_at_ms = ? WHERE id = ?",
/* A page of orders, newest first. What has to be sorted to find it are ids in an index, not rows. */
#define PAGE(index, rule)                                                                       \
    "SELECT " ORDER_COLUMNS " FROM orders WHERE id IN (SELECT id FROM orders INDEXED BY " index \
    "  WHERE account_id = ?1 AND " rule " AND id < ?3 ORDER BY id DESC LIMIT ?4) ORDER BY id DESC"
    [ORDERS_OF] = PAGE("orders_by_account", "?2"),
    [ORDERS_BAKING] = PAGE("orders_by_ready", "ready_at_ms > ?2 AND cancelled_at_ms IS NULL"),
    [ORDERS_CANCELLED] = PAGE("orders_cancelled", "cancelled_at_ms IS NOT NULL AND ?2"),
    /* Walks over what is baking or cancelled on its way: the price of no index for a rare question. */
    [ORDERS_READY] = PAGE("orders_by_account", "ready_at_ms <= ?2 AND cancelled_at_ms IS NULL"),

/* What happened to the orders of ?1 after (?2, ?4, ?5) and before ?3. An index by placed_at_ms would make every order dearer by
     * half, so what was placed is found by walking back from the newest order: to the first that is too old, or over ?7 of them. */
#define NEWEST "FROM orders INDEXED BY orders_by_account WHERE account_id = ?1 AND placed_at_ms < ?3"
#define TOO_OLD "SELECT id FROM (SELECT id, placed_at_ms " NEWEST " ORDER BY id DESC LIMIT ?7) WHERE placed_at_ms < ?2 LIMIT 1"
#define PLACED                                                 \
    "SELECT placed_at_ms AS happened_ms, 0 AS event, * FROM (" \
    "  SELECT * " NEWEST " AND id > coalesce((" TOO_OLD "), 0) ORDER BY id DESC LIMIT ?7)"
#define READY                                                         \
    "SELECT ready_at_ms, 1, * FROM orders INDEXED BY orders_by_ready" \
    "  WHERE account_id = ?1 AND ready_at_ms >= ?2 AND ready_at_ms < ?3 AND cancelled_at_ms IS NULL"
#define CANCELLED                                                             \
    "SELECT cancelled_at_ms, 2, * FROM orders INDEXED BY orders_by_cancelled" \
    "  WHERE account_id = ?1 AND cancelled_at_ms >= ?2 AND cancelled_at_ms < ?3"
#define EVENTS "WITH events AS (" PLACED " UNION ALL " READY " UNION ALL " CANCELLED ") "
    [EVENTS_LEFT] = EVENTS "SELECT count(*) FROM (SELECT id FROM events WHERE (happened_ms, id, event) > (?2, ?4, ?5) LIMIT ?6)",
    [EVENTS_AFTER] = EVENTS "SELECT " ORDER_COLUMNS ", happened_ms, event FROM events "
                            "WHERE (happened_ms, id, event) > (?2, ?4, ?5) ORDER BY happened_ms, id, event LIMIT ?6",
    [EVENTS_NEXT] = "SELECT min(at_ms) FROM ("
                    "  SELECT placed_at_ms AS at_ms FROM (SELECT placed_at_ms FROM orders INDEXED BY orders_by_account"
                    "  WHERE account_id = ?1 ORDER BY id DESC LIMIT 1) WHERE placed_at_ms >= ?2"
                    "  UNION ALL SELECT min(ready_at_ms) FROM orders INDEXED BY orders_by_ready"
                    "  WHERE account_id = ?1 AND ready_at_ms >= ?2 AND cancelled_at_ms IS NULL"
                    "  UNION ALL SELECT min(cancelled_at_ms) FROM orders INDEXED BY orders_by_cancelled"
                    "  WHERE account_id = ?1 AND cancelled_at_ms >= ?2)",

    [PROBE] = "PRAGMA application_id = 1181708910", /* to what it is: changes nothing, and yet has to be written */
    [LATEST] = "SELECT at_ms FROM entries WHERE id = (SELECT max(id) FROM entries)",
    [DATA_VERSION] = "PRAGMA data_version",
    [USER_VERSION] = "PRAGMA user_version",
    [SLOW] = "WITH RECURSIVE spin (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM spin WHERE still_busy()) SELECT max(n) FROM spin",
};

/* ---- what the worker owns -------------------------------------------------------------------------------------------------------- */

/* Jobs in order, and how many. */
struct jobs {
    struct db_job *first, **last;
    size_t count;
};

/* Which file a name leads to. */
struct file_id {
    dev_t device;
    ino_t inode;
};

static struct {
    struct jobs gathered; /* the loop's: submitted in this lap */

    /* the queue: shared, under the lock */
    pthread_mutex_t lock;
    pthread_cond_t not_empty;
    struct jobs queue;
    bool closing;

    pthread_t thread;
    struct db_options options;

    /* the worker's alone */
    sqlite3 *handle;
    sqlite3_stmt *prepared[STATEMENTS];
    char log_path[PATH_MAX], shared_path[PATH_MAX];
    struct file_id log, shared; /* the files that were there when we opened ours */
    struct db_instant now;      /* of the transaction in progress */
    int64_t ahead_ns;           /* our calendar, as seen from CLOCK_BOOTTIME */
    int64_t tried_open_ns;
    int64_t data_version; /* changes when another process has written */
    enum db_rc open_rc;   /* why the last try failed */
    enum db_rc write_rc;  /* the worst that became of the last group of writes */
    bool hopeless;        /* the handle has seen corruption, or another schema: open afresh */
    struct db_slow *slow;

    /* for those who look on */
    atomic_bool busy;
    atomic_size_t depth; /* gathered and queued */
    atomic_uint_fast64_t reads, writes, batches, commits, refused, group_max;
} db = {.lock = PTHREAD_MUTEX_INITIALIZER, .not_empty = PTHREAD_COND_INITIALIZER};

enum order_status order_status(const struct order *o, int64_t now_ms)
{
    if (o->cancelled_at_ms) return ORDER_CANCELLED;
    return o->ready_at_ms <= now_ms ? ORDER_READY : ORDER_BAKING;
}

/* ---- SQLite, in a few words --------------------------------------------------------------------------------------------------------- */

/* Is this the machine's trouble, as opposed to an answer? */
static bool is_trouble(enum db_rc rc)
{
    return rc >= DB_QUEUE_FULL;
}

/* What kind of trouble has the last call run into? errno still tells why the disk refused: sqlite3_system_errno() does not know
 * when it was a COMMIT that failed. */
static enum db_rc trouble(void)
{
    int error = errno;

    switch (sqlite3_errcode(db.handle) & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL: /* lost a race for the locks too often */ return DB_LOCKED;
    case SQLITE_FULL: return DB_DISK_FULL;
    case SQLITE_NOMEM: return DB_NO_MEMORY;
    case SQLITE_IOERR:
        if (error == ENOSPC || error == EDQUOT || error == EFBIG) return DB_DISK_FULL;
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: db.hopeless = true; break;
    }
    return DB_BROKEN;
}

/* Bind the arguments in order: i int64_t, t text, h 32 bytes of hash. They must live until the statement is done. */
static sqlite3_stmt *bind(enum statement which, const char *types, ...)
{
    sqlite3_stmt *s = db.prepared[which];
    va_list args;

    va_start(args, types);
    for (int i = 1; *types; i++, types++) {
        switch (*types) {
        case 'i': sqlite3_bind_int64(s, i, va_arg(args, int64_t)); break;
        case 't': sqlite3_bind_text(s, i, va_arg(args, const char *), -1, SQLITE_STATIC); break;
        case 'h': sqlite3_bind_blob(s, i, va_arg(args, const void *), 32, SQLITE_STATIC); break;
        default: assert(false);
        }
    }
    va_end(args);
    return s;
}

/* To the next row: DB_OK, or DB_NOT_FOUND when there is none (then the statement is done), or trouble. */
static enum db_rc fetch(sqlite3_stmt *s)
{
    errno = 0;
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) return DB_OK;
    enum db_rc result = rc == SQLITE_DONE ? DB_NOT_FOUND : trouble();
    sqlite3_reset(s);
    return result;
}

/* Run to the end, whatever it returns. */
static enum db_rc run(sqlite3_stmt *s)
{
    enum db_rc rc;

    while ((rc = fetch(s)) == DB_OK)
        ;
    return rc == DB_NOT_FOUND ? DB_OK : rc;
}

/* No column that we read is NULL: where SQLite has no text, it had no memory for it. */
static enum db_rc copy_text(char *to, size_t size, sqlite3_stmt *s, int column)
{
    const char *text = (const char *)sqlite3_column_text(s, column);

    snprintf(to, size, "%s", text ? text : "");
    return text ? DB_OK : DB_NO_MEMORY;
}

/* After a loop over rows that ended in rc: at the end of the rows, or before it. */
static enum db_rc end_of_rows(sqlite3_stmt *s, enum db_rc rc)
{
    sqlite3_reset(s);
    return rc == DB_NOT_FOUND ? DB_OK : rc;
}

/* One number that a statement returns. */
static enum db_rc fetch_number(sqlite3_stmt *s, int64_t *number)
{
    enum db_rc rc = fetch(s);

    if (rc != DB_OK) return rc;
    *number = sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    return DB_OK;
}

/* ---- what time it is: the database's own calendar -------------------------------------------------------------------------------- */

/* Trap: the wall clock taken for time. It can be set. Our calendar goes on with a clock that cannot be, from where it is: it follows
 * the wall clock forward, and when that is put back, it does not turn back with it, nor does it stand still. Worker thread. */
static struct db_instant present(void)
{
    struct timespec wall, boot;

    clock_gettime(CLOCK_REALTIME, &wall); /* this one first: if we are held up in between, we come out behind, never ahead */
    clock_gettime(CLOCK_BOOTTIME, &boot);
    int64_t boot_ns = (int64_t)boot.tv_sec * NS_PER_S + boot.tv_nsec;
    int64_t ahead_ns = (int64_t)wall.tv_sec * NS_PER_S + wall.tv_nsec - boot_ns;
    if (ahead_ns > db.ahead_ns) db.ahead_ns = ahead_ns;
    return (struct db_instant){.ms = (boot_ns + db.ahead_ns) / NS_PER_MS, .ns = clock_ns()};
}

/* What has happened already, in this process, an earlier one or another, lies behind us: so instants are in the order of commits, and
 * whoever has been told of one is never told of an earlier one that came later. Within the transaction that will use the instant. */
static enum db_rc present_after(void)
{
    int64_t latest_ms;
    enum db_rc rc = fetch_number(db.prepared[LATEST], &latest_ms);

    db.now = present();
    if (rc == DB_NOT_FOUND) return DB_OK;
    if (rc != DB_OK || latest_ms <= db.now.ms) return rc;
    db.ahead_ns += (latest_ms - db.now.ms) * NS_PER_MS;
    db.now.ms = latest_ms;
    return DB_OK;
}

/* ---- parts of operations ---------------------------------------------------------------------------------------------------------------- */

/* Whose token is this? A hash that differs in one bit is found in no less time than one that differs in all: the index compares
 * hashes, not tokens, and what it finds is compared again in constant time. */
static enum db_rc find_account(const struct db_token *token, struct db_account *a)
{
    sqlite3_stmt *s = bind(ACCOUNT_BY_TOKEN, "h", token->hash);
    enum db_rc rc = fetch(s);

    if (rc == DB_NOT_FOUND) return DB_NO_ACCOUNT;
    if (rc != DB_OK) return rc;
    bool same = sqlite3_column_bytes(s, 3) == 32 && sodium_memcmp(sqlite3_column_blob(s, 3), token->hash, 32) == 0;
    a->id = sqlite3_column_int64(s, 0);
    rc = copy_text(a->name, sizeof a->name, s, 1);
    a->balance_cents = sqlite3_column_int64(s, 2);
    sqlite3_reset(s);
    if (rc != DB_OK) return rc;
    return same ? DB_OK : DB_NO_ACCOUNT;
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
    enum db_rc rc = run(bind(ACCOUNT_ADD, "ii", -m->amount_cents, m->from));

    if (rc == DB_OK) rc = run(bind(ACCOUNT_ADD, "ii", m->amount_cents, m->to));
    if (rc == DB_OK)
        rc = run(bind(ENTRY_FIRST, "iitiiti", m->from, m->to, m->kind, -m->amount_cents, m->order_id, m->note, db.now.ms));
    if (rc != DB_OK) return rc;
    if (id) *id = sqlite3_last_insert_rowid(db.handle);
    return run(bind(ENTRY_SECOND, "iitiiti", m->to, m->from, m->kind, m->amount_cents, m->order_id, m->note, db.now.ms));
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

    sqlite3_stmt *s = bind(KEY_FIND, "it", account_id, key->text);
    enum db_rc rc = fetch(s);
    if (rc == DB_NOT_FOUND) return DB_OK;
    if (rc != DB_OK) return rc;
    bool same = sqlite3_column_bytes(s, 0) == 32 && memcmp(sqlite3_column_blob(s, 0), key->fingerprint, 32) == 0;
    char name[24];
    rc = copy_text(name, sizeof name, s, 1);
    o->rc = DB_BROKEN;
    for (size_t i = 0; i < sizeof outcomes / sizeof *outcomes; i++) {
        if (outcomes[i] && strcmp(outcomes[i], name) == 0) o->rc = (enum db_rc)i;
    }
    o->subject_id = sqlite3_column_int64(s, 2);
    o->balance_cents = sqlite3_column_int64(s, 3);
    o->found = true;
    sqlite3_reset(s);
    if (rc != DB_OK) return rc;
    return same ? DB_OK : DB_KEY_REUSED;
}

/* Keep what the data decided, for whoever asks again. Returns the outcome itself, or trouble. */
static enum db_rc keep_outcome(const struct db_key *key, int64_t account_id, const struct outcome *o)
{
    if (!key->given || is_trouble(o->rc)) return o->rc;
    enum db_rc rc =
        run(bind(KEY_KEEP, "ithtii", account_id, key->text, key->fingerprint, outcomes[o->rc], o->subject_id, o->balance_cents));
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
    return copy_text(o->flavor, sizeof o->flavor, s, 2);
}

static enum db_rc find_order(int64_t id, int64_t account_id, struct order *o)
{
    sqlite3_stmt *s = bind(ORDER_OF, "ii", id, account_id);
    enum db_rc rc = fetch(s);

    if (rc != DB_OK) return rc;
    rc = read_order(o, s);
    sqlite3_reset(s);
    return rc;
}

/* ---- the operations: each is one transaction, or a savepoint in one. Worker thread. ------------------------------------------------------- */

/* The operation that a job is the first member of. */
#define OPERATION(type, job) ((struct type *)(void *)(job))

static void open_account(struct db_job *job)
{
    struct db_account *a = OPERATION(db_account, job);
    enum db_rc rc = run(bind(ACCOUNT_OPEN, "thi", a->name, a->token.hash, db.now.ms));

    a->id = sqlite3_last_insert_rowid(db.handle);
    if (rc == DB_OK && a->balance_cents > 0)
        rc = move_money(&(struct movement){"opening", BANK, a->id, a->balance_cents, 0, ""}, NULL);
    job->rc = rc;
}

static void authenticate(struct db_job *job)
{
    struct db_account *a = OPERATION(db_account, job);

    job->rc = find_account(&a->token, a);
}

static void get_account(struct db_job *job)
{
    struct db_account *a = OPERATION(db_account, job);
    int64_t wanted = a->id;

    job->rc = find_account(&a->token, a);
    if (job->rc == DB_OK && a->id != wanted) job->rc = DB_NOT_YOURS;
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
    enum db_rc rc = copy_text(kind, sizeof kind, s, 1);

    row->id = sqlite3_column_int64(s, 0);
    row->kind = kind_of(kind);
    row->amount_cents = sqlite3_column_int64(s, 2);
    row->at_ms = sqlite3_column_int64(s, 3);
    row->order_id = sqlite3_column_int64(s, 4);
    row->transfer_id = row->kind == DB_TRANSFER ? sqlite3_column_int64(s, 5) : 0;
    row->peer_id = row->kind == DB_TRANSFER ? sqlite3_column_int64(s, 6) : 0;
    return rc == DB_OK ? copy_text(row->note, sizeof row->note, s, 7) : rc;
}

static void list_entries(struct db_job *job)
{
    struct db_entries *e = OPERATION(db_entries, job);
    struct db_account who;
    enum db_rc rc = find_account(&e->token, &who);

    e->count = 0;
    e->more = false;
    if (rc == DB_OK && who.id != e->account_id) rc = DB_NOT_YOURS;
    if (rc == DB_OK) {
        /* one more than there is room for, to see whether there are more */
        sqlite3_stmt *s = bind(ENTRIES_OF, "iii", who.id, e->before ? e->before : INT64_MAX, (int64_t)e->limit + 1);

        while ((rc = fetch(s)) == DB_OK) {
            if (e->count == e->limit) e->more = true;
            else if ((rc = read_entry(&e->rows[e->count++], s)) != DB_OK) break;
        }
        rc = end_of_rows(s, rc);
    }
    job->rc = rc;
}

/* Is there such a customer, and would the balance stay an exact number? DB_NOT_FOUND, DB_TOO_MUCH. */
static enum db_rc money_fits(int64_t account_id, int64_t amount_cents)
{
    int64_t has_cents;
    enum db_rc rc = fetch_number(bind(BALANCE_OF, "i", account_id), &has_cents);

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

static void transfer(struct db_job *job)
{
    struct db_transfer *t = OPERATION(db_transfer, job);
    struct db_account from;
    struct outcome o;
    enum db_rc rc = find_account(&t->token, &from);

    t->replayed = false;
    if (rc == DB_OK) rc = find_key(&t->key, from.id, &o);
    if (rc == DB_OK && !o.found) {
        o.rc = transfer_allowed(&from, t->to, t->amount_cents);
        if (o.rc == DB_OK)
            o.rc = move_money(&(struct movement){"transfer", from.id, t->to, t->amount_cents, 0, t->note}, &o.subject_id);
        o.balance_cents = from.balance_cents - (o.rc == DB_OK ? t->amount_cents : 0);
        rc = keep_outcome(&t->key, from.id, &o);
    } else if (rc == DB_OK) {
        t->replayed = true;
        rc = o.rc;
    }
    if (rc == DB_OK) {
        t->id = o.subject_id;
        t->balance_cents = o.balance_cents;
    }
    job->rc = rc;
}

static enum db_rc insert_order(struct db_order *job, int64_t account_id)
{
    struct order *o = &job->order;
    enum db_rc rc;

    o->account_id = account_id;
    o->placed_at_ms = db.now.ms;
    o->ready_at_ms = db.now.ms + job->bake_ms;
    o->cancelled_at_ms = 0;
    rc = run(bind(ORDER_PLACE, "itiiii", account_id, o->flavor, o->pizzas, o->price_cents, o->placed_at_ms, o->ready_at_ms));
    if (rc != DB_OK) return rc;
    o->id = sqlite3_last_insert_rowid(db.handle);
    return move_money(&(struct movement){"order", account_id, TILL, o->price_cents, o->id, ""}, NULL);
}

static void place_order(struct db_job *job)
{
    struct db_order *o = OPERATION(db_order, job);
    struct db_account who;
    struct outcome first;
    enum db_rc rc = find_account(&o->token, &who);

    o->now = db.now;
    o->replayed = false;
    if (rc == DB_OK) rc = find_key(&o->key, who.id, &first);
    if (rc == DB_OK && !first.found) {
        first.rc = o->order.price_cents > who.balance_cents ? DB_INSUFFICIENT_FUNDS : insert_order(o, who.id);
        if (first.rc == DB_OK) first.subject_id = o->order.id;
        rc = keep_outcome(&o->key, who.id, &first);
    } else if (rc == DB_OK) {
        o->replayed = true;
        rc = first.rc == DB_OK ? find_order(first.subject_id, who.id, &o->order) : first.rc;
    }
    job->rc = rc;
}

static void get_order(struct db_job *job)
{
    struct db_order *o = OPERATION(db_order, job);
    struct db_account who;

    o->now = db.now;
    job->rc = find_account(&o->token, &who);
    if (job->rc == DB_OK) job->rc = find_order(o->order.id, who.id, &o->order);
}

static void cancel_order(struct db_job *job)
{
    struct db_order *o = OPERATION(db_order, job);
    enum db_rc rc;

    get_order(job);
    if (job->rc != DB_OK) return;
    switch (order_status(&o->order, db.now.ms)) {
    case ORDER_READY: job->rc = DB_ALREADY_READY; return;
    case ORDER_CANCELLED: job->rc = DB_ALREADY_CANCELLED; return;
    case ORDER_BAKING: break;
    }
    /* Who has been paid up to the limit meanwhile keeps the pizza until he has spent some. */
    rc = money_fits(o->order.account_id, o->order.price_cents);
    if (rc == DB_OK) rc = run(bind(ORDER_CANCEL, "ii", db.now.ms, o->order.id));
    if (rc == DB_OK)
        rc = move_money(&(struct movement){"refund", TILL, o->order.account_id, o->order.price_cents, o->order.id, ""}, NULL);
    if (rc == DB_OK) o->order.cancelled_at_ms = db.now.ms;
    job->rc = rc;
}

static void list_orders(struct db_job *job)
{
    static const enum statement by_status[] = {
        [ORDER_BAKING] = ORDERS_BAKING, [ORDER_READY] = ORDERS_READY, [ORDER_CANCELLED] = ORDERS_CANCELLED};
    struct db_orders *l = OPERATION(db_orders, job);
    struct db_account who;
    enum db_rc rc = find_account(&l->token, &who);

    l->count = 0;
    l->more = false;
    l->now = db.now;
    if (rc == DB_OK) {
        sqlite3_stmt *s = bind(l->filtered ? by_status[l->status] : ORDERS_OF, "iiii", who.id, l->now.ms,
                               l->before ? l->before : INT64_MAX, (int64_t)l->limit + 1);

        while ((rc = fetch(s)) == DB_OK) {
            if (l->count == l->limit) l->more = true;
            else if ((rc = read_order(&l->rows[l->count++], s)) != DB_OK) break;
        }
        rc = end_of_rows(s, rc);
    }
    job->rc = rc;
}

static sqlite3_stmt *bind_events(enum statement which, const struct db_events *e, size_t limit)
{
    return bind(which, "iiiiiii", e->account_id, e->cursor.at_ms, db.now.ms, e->cursor.order_id, (int64_t)e->cursor.kind,
                (int64_t)limit, (int64_t)EVENTS_TOLD + 1);
}

/* What comes after the cursor and before the present millisecond, as far as there is room. */
static enum db_rc read_events(struct db_events *e)
{
    sqlite3_stmt *s = bind_events(EVENTS_AFTER, e, e->limit + 1);
    enum db_rc rc;

    while ((rc = fetch(s)) == DB_OK) {
        if (e->count == e->limit) {
            e->more = true;
            continue;
        }
        struct order_event *row = &e->rows[e->count++];
        if ((rc = read_order(&row->order, s)) != DB_OK) break;
        row->cursor = (struct event_cursor){sqlite3_column_int64(s, 8), row->order.id, sqlite3_column_int(s, 9)};
        e->cursor = row->cursor;
    }
    return end_of_rows(s, rc);
}

static void order_events(struct db_job *job)
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
    if (!e->from_now && e->cursor.at_ms >= db.now.ms) e->lost = true;
    if (rc == DB_OK && !e->from_now && !e->lost) rc = read_events(e);
    /* How many more? Only who has been away for long needs to be told. */
    if (rc == DB_OK && e->more) rc = fetch_number(bind_events(EVENTS_LEFT, e, EVENTS_TOLD + 1), &left);
    if (left + (int64_t)e->count > EVENTS_TOLD) e->lost = true;
    if (e->lost) {
        e->more = false;
        e->count = 0;
    }
    /* The present: everything before this millisecond has been told, or is not going to be. */
    if (e->from_now || e->lost) e->cursor = (struct event_cursor){db.now.ms - 1, INT64_MAX, EVENT_CANCELLED};
    if (rc == DB_OK) rc = fetch_number(bind(EVENTS_NEXT, "ii", e->account_id, db.now.ms), &e->next_ms);
    if (e->next_ms) e->next_ms++; /* what happens in a millisecond can be told when it is over */
    e->now = db.now;
    if (rc != DB_OK) e->cursor = told; /* to be told another time */
    job->rc = rc;
}

/* The disk may have room for a probe, and none for an order. */
static bool room_left(void)
{
    struct statvfs disk;

    return statvfs(db.options.path, &disk) != 0 || disk.f_bavail * disk.f_frsize >= DISK_RESERVE;
}

/* Of all writes, the one that writes nothing: that it can read shows that the file is sound, that its transaction can begin and end
 * that nobody holds it, for the price of two locks. Only when the last group has failed does it write, to see whether that is over. */
static void ping(struct db_job *job)
{
    enum db_rc rc = run(bind(BALANCE_OF, "i", INT64_C(1))); /* whether they are there does not matter */

    if (rc == DB_OK) rc = run(bind(ORDER_OF, "ii", INT64_C(1), INT64_C(1)));
    if (rc == DB_OK && db.write_rc != DB_OK) rc = run(db.prepared[PROBE]);
    if (rc == DB_OK && !room_left()) rc = DB_DISK_FULL;
    job->rc = rc;
}

/* SQL function: while the slow query has time left, and somebody waits for it. */
static void still_busy(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    const int64_t *until_ns = sqlite3_user_data(context);

    (void)argc;
    (void)argv;
    sqlite3_result_int(context,
                       clock_ns() < *until_ns && !atomic_load(&db.slow->forsaken) && !(db.options.hurried && db.options.hurried()));
}

static int64_t slow_until_ns; /* the worker's */

static void slow_query(struct db_job *job)
{
    db.slow = OPERATION(db_slow, job);
    slow_until_ns = clock_ns() + db.slow->ms * NS_PER_MS;
    job->rc = fetch_number(db.prepared[SLOW], &db.slow->rows);
}

/* ---- opening ------------------------------------------------------------------------------------------------------------------------------ */

static struct file_id file_at(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (struct file_id){st.st_dev, st.st_ino} : (struct file_id){0};
}

static bool is_file_at(const char *path, struct file_id id)
{
    struct file_id now = file_at(path);

    return now.inode && now.inode == id.inode && now.device == id.device;
}

/* Trap: the file without a name. Is the file at our path still the one that we have open, and those beside it too? That there is some
 * log is not enough: when ours is deleted, the next reader makes another one, and what we write then is never read again. */
static bool file_moved(void)
{
    int moved = 0;

    sqlite3_file_control(db.handle, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    return moved || !is_file_at(db.log_path, db.log) || !is_file_at(db.shared_path, db.shared);
}

/* The files beside ours, through which processes that share it hear of each other: its write-ahead log, and the index of that. */
static void note_files_beside(void)
{
    const char *path = sqlite3_filename_database(sqlite3_db_filename(db.handle, "main"));

    snprintf(db.log_path, sizeof db.log_path, "%s-wal", path);
    snprintf(db.shared_path, sizeof db.shared_path, "%s-shm", path);
    db.log = file_at(db.log_path);
    db.shared = file_at(db.shared_path);
}

static bool execute(const char *text)
{
    return sqlite3_exec(db.handle, text, NULL, NULL, NULL) == SQLITE_OK;
}

static void close_handle(void)
{
    /* Trap: the log that stays behind. SQLite would play it into whatever file comes next under our name, a restored backup for
     * one. What it holds belongs to the file that we have open, wherever that is now. */
    if (db.prepared[COMMIT] && file_moved()) execute("PRAGMA wal_checkpoint(TRUNCATE)");
    for (int i = 0; i < STATEMENTS; i++) {
        sqlite3_finalize(db.prepared[i]);
        db.prepared[i] = NULL;
    }
    sqlite3_close(db.handle);
    db.handle = NULL;
    db.hopeless = false;
}

static int pragma_number(const char *text)
{
    sqlite3_stmt *s;
    int number = -1;

    if (sqlite3_prepare_v2(db.handle, text, -1, &s, NULL) != SQLITE_OK) return -1;
    if (sqlite3_step(s) == SQLITE_ROW) number = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    return number;
}

/* What the handle has run into, and what to do about it. SQLite tells of the last thing that it has tried, which was something else
 * than we want to know: a folder that may not be written to is "No such file", or "a readonly database". */
static const char *complaint(void)
{
    static char text[128];
    const char *path = db.options.path, *slash = strrchr(path, '/');
    int error = sqlite3_system_errno(db.handle);
    char dir[PATH_MAX];

    switch (sqlite3_errcode(db.handle) & 0xff) {
    case SQLITE_BUSY: return "another process holds it: end that one, or use another file";
    case SQLITE_NOTADB: return "it is not a database: use another file";
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
        snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
        if (access(dir, W_OK | X_OK) != 0)
            snprintf(text, sizeof text, "%s: its directory must exist, and be ours to write", strerror(errno));
        else if (access(path, R_OK | W_OK) != 0 && errno != ENOENT)
            snprintf(text, sizeof text, "%s: it must be ours to read and write", strerror(errno));
        else if (error) snprintf(text, sizeof text, "%s", strerror(error));
        else return sqlite3_errmsg(db.handle);
        return text;
    default: return sqlite3_errmsg(db.handle);
    }
}

/* Bring the schema up to date in one transaction: a crash leaves a version that exists. NULL, or what is wrong. */
static const char *migrate(void)
{
    char text[128];

    if (pragma_number("PRAGMA user_version") > SCHEMA_VERSION)
        return "it was made by a newer version of Forno: use that one, or another file";
    if (!execute("BEGIN IMMEDIATE")) return complaint();
    for (int version = pragma_number("PRAGMA user_version"); version < SCHEMA_VERSION; version++) {
        if (version < 0) return complaint(); /* it could not be read */
        snprintf(text, sizeof text, "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION_ID, version + 1);
        if (execute(migrations[version]) && execute(text)) continue;
        return complaint();
    }
    return execute("COMMIT") ? NULL : complaint();
}

static const char *prepare_all(void)
{
    for (int i = 0; i < STATEMENTS; i++) {
        if (sqlite3_prepare_v3(db.handle, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &db.prepared[i], NULL) != SQLITE_OK)
            return complaint();
    }
    return NULL;
}

/* Open the file as we want it: NULL, or what is wrong with it. With `create` it may be new. Without, a file that has vanished
 * stays vanished: an empty ledger in its place would be a lie. */
static const char *open_handle(bool create)
{
    const char *wrong;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | (create ? SQLITE_OPEN_CREATE : 0);

    if (sqlite3_open_v2(db.options.path, &db.handle, flags, NULL) != SQLITE_OK) return complaint();
    sqlite3_busy_timeout(db.handle, BUSY_MS);
    if (sqlite3_db_readonly(db.handle, "main") == 1)
        return "it can only be read: give it to the user that runs this, or use another file";

    int tables = pragma_number("SELECT count(*) FROM sqlite_schema"), id = pragma_number("PRAGMA application_id");
    if (tables < 0) return complaint();
    if (id != APPLICATION_ID && (tables > 0 || !create)) return "it is some other program's database: use another file";
    if (!execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")) return complaint();
    if ((wrong = migrate())) return wrong;
    sqlite3_create_function(db.handle, "still_busy", 0, SQLITE_UTF8, &slow_until_ns, still_busy, NULL, NULL);
    if ((wrong = prepare_all())) return wrong;
    present_after(); /* if that fails, so will the first write, and say why */
    note_files_beside();
    return file_moved() ? "it cannot have a write-ahead log beside it: use a file on a local disk" : NULL;
}

/* Can we work? If not, and some time has passed, try to open the file again. */
static enum db_rc ready(void)
{
    bool moved = db.handle && file_moved();
    struct stat st;

    if (db.handle && !moved && !db.hopeless) return DB_OK;
    if (clock_ns() - db.tried_open_ns < REOPEN_NS) return moved ? DB_MISSING : db.open_rc;
    if (db.handle) close_handle();
    db.tried_open_ns = clock_ns();
    if (stat(db.options.path, &st) != 0) db.open_rc = DB_MISSING;
    else if (!open_handle(false)) db.open_rc = DB_OK;
    else db.open_rc = trouble();
    if (db.open_rc != DB_OK && db.handle) close_handle();
    return db.open_rc;
}

/* ---- the worker ------------------------------------------------------------------------------------------------------------------------------ */

static void jobs_push(struct jobs *jobs, struct db_job *job)
{
    if (!jobs->first) jobs->last = &jobs->first;
    job->next = NULL;
    *jobs->last = job;
    jobs->last = &job->next;
    jobs->count++;
}

/* Put all of `more` behind what is there, and leave it empty. */
static void jobs_move(struct jobs *jobs, struct jobs *more)
{
    if (!more->first) return;
    if (!jobs->first) jobs->last = &jobs->first;
    *jobs->last = more->first;
    jobs->last = more->last;
    jobs->count += more->count;
    *more = (struct jobs){0};
}

static void fail_all(struct jobs *jobs, enum db_rc rc)
{
    for (struct db_job *job = jobs->first; job; job = job->next) job->rc = rc;
}

/* Hand one result to the loop. From here on the job is not ours. */
static void post_one(struct db_job *job)
{
    job->op->next = NULL;
    loop_post(job->op);
}

/* Hand the results to the loop, all at once, with one write to its eventfd. From here on the jobs are not ours. */
static void post_all(struct jobs *jobs)
{
    struct op *list = NULL, **last = &list;

    for (struct db_job *job = jobs->first; job; job = job->next) {
        *last = job->op;
        job->op->next = NULL;
        last = &job->op->next;
    }
    if (list) loop_post(list);
    *jobs = (struct jobs){0};
}

/* All the reads of a batch see the same state of the world. Each is told as it ends: the one behind it may be a long one. */
static void run_reads(struct jobs *jobs)
{
    enum db_rc rc = ready();

    if (rc == DB_OK) rc = run(db.prepared[BEGIN_READ]);
    if (rc != DB_OK) {
        fail_all(jobs, rc);
        post_all(jobs);
        return;
    }
    db.now = present();
    atomic_fetch_add(&db.reads, jobs->count);
    for (struct db_job *job = jobs->first, *next; job; job = next) {
        next = job->next;
        job->run(job);
        post_one(job);
    }
    run(db.prepared[COMMIT]); /* nothing was written: it cannot lose anything */
    if (!sqlite3_get_autocommit(db.handle)) run(db.prepared[ROLLBACK]);
}

/* One write in its savepoint, which ends in job->rc. Returns DB_OK, or what makes an end of the whole transaction. */
static enum db_rc run_one_write(struct db_job *job)
{
    enum db_rc rc = run(db.prepared[SAVEPOINT]);

    if (rc != DB_OK) return rc;
    job->run(job);
    /* A full disk, among others, makes SQLite roll back everything: nobody's write has survived. */
    if (sqlite3_get_autocommit(db.handle)) return is_trouble(job->rc) ? job->rc : DB_BROKEN;
    /* An answer of "no" has written nothing, but perhaps kept the outcome for its key. Trouble undoes what it did. */
    if (is_trouble(job->rc)) rc = run(db.prepared[ROLLBACK_TO]);
    return rc == DB_OK ? run(db.prepared[RELEASE]) : rc;
}

/* Another process may have brought the schema further than we know it. */
static enum db_rc schema_is_ours(void)
{
    int64_t version;
    enum db_rc rc = fetch_number(db.prepared[USER_VERSION], &version);

    if (rc != DB_OK || version == SCHEMA_VERSION) return rc;
    db.hopeless = true;
    return DB_BROKEN;
}

/* Trap: the commit that failed, and was done. Its last frame may stand in the log although the call that was to make it last has
 * failed; a crash, and it counts. It has surely not been done when its transaction is still open, or when there was no room for it. */
static enum db_rc commit(void)
{
    enum db_rc rc = run(db.prepared[COMMIT]);
    int error = sqlite3_extended_errcode(db.handle);

    if (rc == DB_OK) return file_moved() ? DB_UNKNOWN : DB_OK;
    bool full = rc == DB_DISK_FULL && (error == SQLITE_FULL || error == SQLITE_IOERR_WRITE);
    return full || !sqlite3_get_autocommit(db.handle) ? rc : DB_UNKNOWN;
}

/* One transaction for the whole group, one commit, one fsync. */
static enum db_rc write_group(struct jobs *group)
{
    enum db_rc rc = ready();

    if (rc == DB_OK) rc = run(db.prepared[BEGIN_WRITE]);
    if (rc != DB_OK) return rc;
    rc = schema_is_ours();
    if (rc == DB_OK) rc = present_after(); /* the lock is ours */
    for (struct db_job *job = group->first; job && rc == DB_OK; job = job->next) {
        if (job->how == DB_WRITES) rc = run_one_write(job);
        else job->run(job);
    }
    if (rc == DB_OK) rc = commit();
    if (!sqlite3_get_autocommit(db.handle)) run(db.prepared[ROLLBACK]);
    return rc;
}

static void run_writes(struct jobs *group)
{
    enum db_rc rc = write_group(group);
    size_t writes = 0;

    /* Honestly: whatever each of them was told, it is undone, or nobody knows. */
    if (rc != DB_OK) fail_all(group, rc);
    db.write_rc = rc;
    for (struct db_job *job = group->first; job; job = job->next) {
        if (is_trouble(job->rc)) db.write_rc = job->rc;
        writes += job->how == DB_WRITES;
    }
    if (rc == DB_OK && writes) atomic_fetch_add(&db.commits, 1);
    atomic_fetch_add(&db.writes, writes);
    atomic_fetch_add(&db.reads, group->count - writes);
    if (writes > atomic_load(&db.group_max)) atomic_store(&db.group_max, writes);
}

static void run_batch(struct db_job *batch)
{
    struct jobs reads = {0}, writes = {0};
    int64_t served_ns = clock_ns();

    atomic_fetch_add(&db.batches, 1);
    for (struct db_job *job = batch, *next; job; job = next) {
        next = job->next;
        job->op->served_ns = served_ns;
        if (job->how == DB_READS) jobs_push(&reads, job);
        else jobs_push(&writes, job);
    }
    if (reads.count) run_reads(&reads); /* they need not wait for the disk */
    for (struct db_job *job = writes.first, *next; job;) {
        struct jobs group = {0};

        for (; job && (!db.options.group_max || group.count < db.options.group_max); job = next) {
            next = job->next;
            jobs_push(&group, job);
        }
        run_writes(&group);
        post_all(&group);
    }
}

static void *worker(void *unused)
{
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&db.lock);
        while (!db.queue.first && !db.closing) pthread_cond_wait(&db.not_empty, &db.lock);
        struct jobs batch = db.queue;
        db.queue = (struct jobs){0};
        atomic_store(&db.busy, batch.count > 0); /* first: who sees an empty queue shall see the worker at work */
        atomic_fetch_sub(&db.depth, batch.count);
        pthread_mutex_unlock(&db.lock);
        if (!batch.count) return NULL; /* closing, and all is done */
        run_batch(batch.first);
        atomic_store(&db.busy, false);
    }
}

/* What a lap has gathered goes to the worker at its end: one lock and one wake-up for all of them, and batches that share their
 * transaction. Against handing over each as it comes, it takes a quarter off the CPU time of GET /accounts/1 at 64 connections.
 * Loop thread. */
static void hand_over(void)
{
    if (!db.gathered.count) return;
    pthread_mutex_lock(&db.lock);
    jobs_move(&db.queue, &db.gathered);
    pthread_mutex_unlock(&db.lock);
    pthread_cond_signal(&db.not_empty);
}

/* Loop thread. */
static void submit(struct db_job *job, void (*run_job)(struct db_job *), enum db_how how, struct op *op)
{
    *job = (struct db_job){.op = op, .run = run_job, .how = how};
    op->what = "db";
    if (db.options.blocking) { /* the loop waits for the disk, and everybody with it */
        run_batch(job);
        return;
    }
    /* The bound is for new work. What has begun is bounded already, and to turn it away would waste what it has cost. */
    if (op->first && atomic_load(&db.depth) >= DB_QUEUE_MAX) {
        job->rc = DB_QUEUE_FULL;
        atomic_fetch_add(&db.refused, 1);
        op->next = NULL;
        loop_post(op); /* trap: completing inside the call that started it */
        return;
    }
    atomic_fetch_add(&db.depth, 1);
    jobs_push(&db.gathered, job);
}

/* clang-format off */
void db_open_account(struct db_account *a, struct op *op) { submit(&a->job, open_account, DB_WRITES, op); }
void db_get_account(struct db_account *a, struct op *op) { submit(&a->job, get_account, DB_READS, op); }
void db_authenticate(struct db_account *a, struct op *op) { submit(&a->job, authenticate, DB_READS, op); }
void db_list_entries(struct db_entries *e, struct op *op) { submit(&e->job, list_entries, DB_READS, op); }
void db_transfer(struct db_transfer *t, struct op *op) { submit(&t->job, transfer, DB_WRITES, op); }
void db_place_order(struct db_order *o, struct op *op) { submit(&o->job, place_order, DB_WRITES, op); }
void db_get_order(struct db_order *o, struct op *op) { submit(&o->job, get_order, DB_READS, op); }
void db_cancel_order(struct db_order *o, struct op *op) { submit(&o->job, cancel_order, DB_WRITES, op); }
void db_list_orders(struct db_orders *l, struct op *op) { submit(&l->job, list_orders, DB_READS, op); }
/* With the writers' lock, nobody is in the middle of a commit: whatever will be committed later will have happened later. */
void db_order_events(struct db_events *e, struct op *op) { submit(&e->job, order_events, DB_READS_LAST, op); }
void db_ping(struct db_ping *p, struct op *op) { submit(&p->job, ping, DB_WRITES, op); }
void db_slow_query(struct db_slow *s, struct op *op) { submit(&s->job, slow_query, DB_READS, op); }
/* clang-format on */

/* ---- what other processes do ------------------------------------------------------------------------------------------------------------ */

/* A look at the file's version from time to time, while somebody waits for news. The second road will be told. Loop thread. */
static struct {
    void (*changed)(void);
    int64_t until_ns;
    struct timer timer;
    struct op op;
    struct db_job job;
    bool out, found;
} others;

static void compare_version(struct db_job *job)
{
    int64_t before = db.data_version;

    job->rc = fetch_number(db.prepared[DATA_VERSION], &db.data_version);
    others.found = job->rc == DB_OK && db.data_version != before;
}

static void version_compared(struct op *op)
{
    (void)op;
    others.out = false;
    if (others.found) others.changed();
    if (loop_now_ns() < others.until_ns) timer_start(&others.timer, loop_now_ns() + OTHERS_NS);
}

static void others_due(struct timer *timer)
{
    (void)timer;
    others.out = true;
    others.op = (struct op){.done = version_compared};
    submit(&others.job, compare_version, DB_READS, &others.op);
}

void db_on_change(void (*changed)(void))
{
    others.changed = changed;
    others.timer.fired = others_due;
}

void db_listen(int64_t until_ns)
{
    if (!others.changed || db.options.blocking) return; /* who waits in place hears nothing anyway */
    if (until_ns > others.until_ns) others.until_ns = until_ns;
    if (!others.out && !timer_pending(&others.timer)) timer_start(&others.timer, loop_now_ns() + OTHERS_NS);
}

/* ---- opening and closing ---------------------------------------------------------------------------------------------------------------- */

int db_open(const struct db_options *options, char *error, size_t error_size)
{
    sigset_t all, before;
    int rc = 0;

    /* Nobody here asks SQLite how much memory it uses: without counting, and a lock for it, 8 % fewer instructions for an order. */
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    db.options = *options;
    db.closing = false;
    db.ahead_ns = 0; /* the wall clock's time is always more than that */
    const char *wrong = open_handle(true);
    if (wrong) {
        snprintf(error, error_size, "the database %s cannot be used: %s", options->path, wrong);
        close_handle();
        return -1;
    }
    if (options->blocking) return 0;
    loop_before_sleep(hand_over);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the loop's business */
    rc = pthread_create(&db.thread, NULL, worker, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0) return 0;
    snprintf(error, error_size, "the database worker cannot start: %s", strerror(rc));
    close_handle();
    return -1;
}

void db_close(void)
{
    if (!db.options.blocking) {
        hand_over();
        pthread_mutex_lock(&db.lock);
        db.closing = true;
        pthread_mutex_unlock(&db.lock);
        pthread_cond_signal(&db.not_empty);
        pthread_join(db.thread, NULL);
    }
    if (db.handle) close_handle();
}

size_t db_queue_depth(void)
{
    return atomic_load(&db.depth);
}

bool db_worker_busy(void)
{
    return atomic_load(&db.busy);
}

void db_stats(struct db_stats *s)
{
    *s = (struct db_stats){
        .reads = atomic_load(&db.reads),
        .writes = atomic_load(&db.writes),
        .batches = atomic_load(&db.batches),
        .commits = atomic_load(&db.commits),
        .refused = atomic_load(&db.refused),
        .group_max = atomic_load(&db.group_max),
    };
}

/* ---- --audit -------------------------------------------------------------------------------------------------------------------------------- */

/* Each query returns the id of whatever breaks the rule. */
static const struct {
    const char *rule, *sql;
} audit_rules[] = {
    {"every movement is a pair that sums to zero",
     "SELECT movement_id FROM entries GROUP BY movement_id HAVING count(*) <> 2 OR sum(amount_cents) <> 0"},
    {"both sides of a movement tell the same story",
     "SELECT a.id FROM entries a JOIN entries b ON b.id = a.movement_id WHERE a.id <> b.id AND "
     "(a.kind <> b.kind OR a.at_ms <> b.at_ms OR a.account_id <> b.peer_id OR a.peer_id <> b.account_id OR a.order_id IS NOT b.order_id)"},
    {"all entries together sum to zero", "SELECT sum(amount_cents) FROM entries HAVING sum(amount_cents) <> 0"},
    {"every balance is the sum of its entries",
     "SELECT a.id FROM accounts a LEFT JOIN (SELECT account_id, sum(amount_cents) AS total FROM entries GROUP BY account_id) e "
     "ON e.account_id = a.id WHERE a.balance_cents <> coalesce(e.total, 0)"},
    {"no balance is beyond exact numbers", "SELECT id FROM accounts WHERE id > 0 AND balance_cents > 9007199254740991"},
    {"no customer owes anything", "SELECT id FROM accounts WHERE id > 0 AND balance_cents < 0"},
    {"every order is paid, once, in full",
     "SELECT o.id FROM orders o LEFT JOIN (SELECT order_id, account_id, count(*) AS n, sum(amount_cents) AS total FROM entries "
     "WHERE kind = 'order' AND account_id > 0 GROUP BY order_id) e ON e.order_id = o.id "
     "WHERE e.n IS NOT 1 OR e.total <> -o.price_cents OR e.account_id <> o.account_id"},
    {"every cancelled order is refunded, once, in full, and no other",
     "SELECT o.id FROM orders o LEFT JOIN (SELECT order_id, account_id, count(*) AS n, sum(amount_cents) AS total FROM entries "
     "WHERE kind = 'refund' AND account_id > 0 GROUP BY order_id) e ON e.order_id = o.id "
     "WHERE CASE WHEN o.cancelled_at_ms IS NULL THEN e.n IS NOT NULL "
     "ELSE e.n IS NOT 1 OR e.total <> o.price_cents OR e.account_id <> o.account_id END"},
    {"every reference leads somewhere", "SELECT \"table\" || coalesce(' ' || rowid, '') FROM pragma_foreign_key_check"},
    {"the file is sound", "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'"},
};

#define FAULTS_SHOWN 10

/* Returns how many faults there are, -1 if the query cannot be run. */
static long audit_rule(sqlite3 *handle, const char *text, FILE *out)
{
    sqlite3_stmt *s;
    long faults = 0;
    int rc = sqlite3_prepare_v2(handle, text, -1, &s, NULL);

    while (rc == SQLITE_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        if (faults++ < FAULTS_SHOWN) fprintf(out, "  FAULT: %s\n", (const char *)sqlite3_column_text(s, 0));
        rc = SQLITE_OK;
    }
    sqlite3_finalize(s);
    if (rc == SQLITE_DONE) return faults;
    fprintf(out, "  FAULT: %s\n", sqlite3_errmsg(handle));
    return -1;
}

int db_audit(const char *path, FILE *out)
{
    sqlite3 *handle;
    sqlite3_stmt *s;
    bool good = true;

    if (sqlite3_open_v2(path, &handle, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
        sqlite3_busy_timeout(handle, BUSY_MS) != SQLITE_OK || sqlite3_exec(handle, "BEGIN", NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(handle,
                           "SELECT (SELECT count(*) FROM accounts WHERE id > 0), (SELECT count(*) FROM orders), "
                           "(SELECT count(*) FROM entries)",
                           -1, &s, NULL) != SQLITE_OK) {
        fprintf(out, "%s cannot be audited: %s\n", path, sqlite3_errmsg(handle));
        sqlite3_close(handle);
        return 1;
    }
    if (sqlite3_step(s) == SQLITE_ROW)
        fprintf(out, "%s: %lld accounts, %lld orders, %lld entries\n", path, sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1),
                sqlite3_column_int64(s, 2));
    sqlite3_finalize(s);
    for (size_t i = 0; i < sizeof audit_rules / sizeof *audit_rules; i++) {
        long faults = audit_rule(handle, audit_rules[i].sql, out);

        fprintf(out, "%s  %s", faults == 0 ? "ok   " : "WRONG", audit_rules[i].rule);
        fprintf(out, faults > 0 ? " (%ld faults)\n" : "\n", faults);
        good = good && faults == 0;
    }
    sqlite3_close(handle);
    return good ? 0 : 1;
}
