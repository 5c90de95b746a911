/* db.h: accounts, money and orders, kept truthfully. The seam at which another database can be put: nothing here speaks of
 * SQLite, and nothing above it knows SQL.
 *
 * Every operation is one whole transaction. It takes a struct (plain data, filled in by the caller) and an op; it reads the
 * "in" members, works on another thread, fills in the "out" members and `job.rc`, and completes the op on the loop thread:
 * exactly once, and never inside the call. Until then the struct belongs to the database: hands off. The caller owns the
 * memory throughout. A write that ends in DB_OK is on the disk, fsync and all.
 *
 * Money is int64_t cents; instants are int64_t milliseconds since 1970 UTC; ids are positive. */
#ifndef FORNO_DB_H
#define FORNO_DB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct op; /* reactor/loop.h */

enum db_rc {
    DB_OK,
    /* the answer is no, and nothing has changed */
    DB_NO_ACCOUNT, /* the token is nobody's */
    DB_NOT_YOURS,  /* an account that is not the token's, whether it exists or not */
    DB_NOT_FOUND,  /* no such order of yours; no such receiver */
    DB_INSUFFICIENT_FUNDS,
    DB_TOO_MUCH, /* a balance would leave the range of exact JSON numbers: a receiver's, or one's own by a refund */
    DB_TO_ONESELF,
    DB_KEY_REUSED, /* this idempotency key came with another request before */
    DB_ALREADY_READY,
    DB_ALREADY_CANCELLED,
    /* no answer could be had, and nothing has changed */
    DB_QUEUE_FULL, /* too many jobs are waiting */
    DB_LOCKED,     /* another process holds the file */
    DB_DISK_FULL,
    DB_NO_MEMORY,
    DB_MISSING,     /* the file was moved or deleted under us */
    DB_BROKEN,      /* corrupt, unreadable, I/O error, of a newer schema */
    DB_UNREACHABLE, /* no server can be reached, or none that answers */
    /* a write may have been done, or not: the commit failed half-way, or went into a file that was being moved away, or was sent to a
     * server that has not answered. Told only where to do it again would be to do it twice */
    DB_UNKNOWN,
};

#define DB_NAME_MAX 320 /* bytes: 80 characters of UTF-8 */
#define DB_NOTE_MAX 560 /* bytes: 140 characters */
#define DB_KEY_MAX 128  /* bytes of an idempotency key */
#define DB_FLAVOR_MAX 24
#define DB_AMOUNT_MAX INT64_C(9007199254740991) /* 2^53 - 1: beyond it JSON numbers are guesses */
/* Jobs waiting for the worker, or for one lane; beyond it the first operation of a request gets DB_QUEUE_FULL: an unbounded queue is
 * latency that nobody sees. */
#define DB_QUEUE_MAX 1024

enum db_what {
    DB_OPEN_ACCOUNT,
    DB_GET_ACCOUNT,
    DB_AUTHENTICATE,
    DB_LIST_ENTRIES,
    DB_TRANSFER_MONEY,
    DB_PLACE_ORDER,
    DB_GET_ORDER,
    DB_CANCEL_ORDER,
    DB_LIST_ORDERS,
    DB_ORDER_EVENTS,
    DB_PING,
    DB_SLOW_QUERY,
    DB_COMPARE_VERSION, /* a road's own, like the next one */
    DB_TELL_OTHERS,
    DB_WHATS
};

/* The first member of every operation. Only `rc` is for the caller, and only once the op is done. */
struct db_job {
    enum db_what what;
    enum db_rc rc;
    /* a road's own */
    unsigned tries; /* how often it was begun before */
    bool doubtful;  /* one of these may have been done */
    int64_t asked_ns;
};

/* What time it is, by the database's calendar: the only one that instants of this header are compared with. It never turns back, not
 * even when the machine's clock does; then it is ahead of that clock until both agree again. */
struct db_instant {
    int64_t ms; /* since 1970 UTC */
    int64_t ns; /* the same moment on clock_ns() */
};

/* Who asks: the hash of a bearer token. The token itself never gets here. */
struct db_token {
    unsigned char hash[32];
};

/* An Idempotency-Key, with a fingerprint of the request it came with. The first outcome under a key that was decided by the
 * data (not by a full disk) is kept, and is the outcome of every later request with that key and fingerprint. */
struct db_key {
    bool given;
    char text[DB_KEY_MAX + 1];
    unsigned char fingerprint[32];
};

struct db_options {
    const char *path;      /* a file, or the URL of a PostgreSQL: postgresql://… */
    bool blocking;         /* every operation runs at once on the calling thread, and the op completes in a later lap:
                               the loop waits for the disk, as a synchronous server does. For comparison */
    unsigned group_max;    /* writes committed together at most; 0: as many as are waiting. 1: for comparison */
    bool (*hurried)(void); /* with `blocking`: asked during a long operation; true: end it early */
};

/* Open or create the database, bring its schema up to date, start the worker. Blocks. The loop must be open.
 * Returns 0, or -1 with a sentence in `error` that says what is wrong and what to do about it. */
int db_open(const struct db_options *options, char *error, size_t error_size);

/* Let the worker finish everything that is queued, stop it, close the file. Blocks; completions still on their way to the
 * loop are delivered by the laps that follow. */
void db_close(void);

/* Prove the ledger of the database at `path`: every movement is a pair, sums are zero, balances are the sums of their
 * entries, every order is paid and every cancelled one refunded. Opens read-only; prints what it checked and every fault to
 * `out`. Returns 0 if all is well, 1 if not (or if the file cannot be read). */
int db_audit(const char *path, FILE *out);

/* Jobs waiting, and whether the worker is at work: for those who look on. Any thread. */
size_t db_queue_depth(void);
bool db_worker_busy(void);

/* For /metrics. Counted since the process started; commits: the successful ones. Any thread. */
struct db_stats {
    uint64_t reads, writes, batches, commits, refused; /* refused: DB_QUEUE_FULL */
    uint64_t group_max;                                /* the largest number of writes committed together */
};
void db_stats(struct db_stats *stats);

/* The connections to a database that is reached by some, for those who look on. */
enum db_lane_state { DB_LANE_IDLE, DB_LANE_SENDING, DB_LANE_WAITING, DB_LANE_CONNECTING, DB_LANE_BACKING_OFF };

struct db_lane {
    const char *name;         /* "reads", "writes 1" */
    const char *host;         /* "db1:5432" */
    enum db_lane_state state; /* waiting: for the Sync */
    size_t jobs, waiting;     /* in the group that is under way; behind it */
};

/* Fills in `max` of them at most, returns how many there are; 0: this database is a file. Loop thread. */
size_t db_lanes(struct db_lane *lanes, size_t max);

/* Whoever waits for news of the database says until when (on clock_ns()); `changed` is called on the loop thread, at once or within a second
 * or so, whenever another process may have changed something meanwhile: this order of this account, or anything at all (0, 0). Of what
 * this process does itself, its callers know. */
void db_on_change(void (*changed)(int64_t order_id, int64_t account_id));
void db_listen(int64_t until_ns);

/* ---- the bank --------------------------------------------------------------------------------------------------------- */

struct db_account {
    struct db_job job;
    struct db_token token;      /* in */
    int64_t id;                 /* out; in for db_get_account */
    char name[DB_NAME_MAX + 1]; /* in for db_open_account, else out */
    int64_t balance_cents;      /* out; in for db_open_account: the opening credit, 0 or more */
};

void db_open_account(struct db_account *a, struct op *op); /* write. DB_OK: id, balance_cents */
void db_get_account(struct db_account *a, struct op *op);  /* read. DB_OK, DB_NO_ACCOUNT, DB_NOT_YOURS */
void db_authenticate(struct db_account *a, struct op *op); /* read. DB_OK: id, name, balance_cents; DB_NO_ACCOUNT */

enum db_kind { DB_OPENING, DB_ORDER, DB_REFUND, DB_TRANSFER };

struct db_entry {
    int64_t id;
    enum db_kind kind;
    int64_t amount_cents; /* from the account's point of view: negative when money left it */
    int64_t at_ms;
    int64_t order_id;           /* 0: none */
    int64_t transfer_id;        /* 0: none */
    int64_t peer_id;            /* the other account of a transfer; 0: the house */
    char note[DB_NOTE_MAX + 1]; /* "": none */
};

struct db_entries {
    struct db_job job;
    struct db_token token; /* in */
    int64_t account_id;    /* in */
    int64_t before;        /* in: entries with a smaller id; 0: from the newest */
    size_t limit;          /* in: how many `rows` has room for */
    struct db_entry *rows; /* in: the room; out: newest first */
    size_t count;          /* out */
    bool more;             /* out: there are older ones */
};

void db_list_entries(struct db_entries *e, struct op *op); /* read. DB_OK, DB_NO_ACCOUNT, DB_NOT_YOURS */

struct db_transfer {
    struct db_job job;
    struct db_token token;      /* in */
    struct db_key key;          /* in */
    int64_t to, amount_cents;   /* in: amount 1 to DB_AMOUNT_MAX */
    char note[DB_NOTE_MAX + 1]; /* in */
    int64_t id, balance_cents;  /* out: the sender's balance right after it */
    bool replayed;              /* out: this is the first answer again */
};

/* write. DB_OK, DB_NO_ACCOUNT, DB_NOT_FOUND (receiver), DB_TO_ONESELF, DB_INSUFFICIENT_FUNDS, DB_TOO_MUCH, DB_KEY_REUSED */
void db_transfer(struct db_transfer *t, struct op *op);

/* ---- the pizzeria ------------------------------------------------------------------------------------------------------ */

struct order {
    int64_t id, account_id;
    char flavor[DB_FLAVOR_MAX + 1];
    int64_t pizzas, price_cents;
    int64_t placed_at_ms, ready_at_ms;
    int64_t cancelled_at_ms; /* 0: not cancelled */
};

/* A status is derived, never stored: a crash loses nothing, a restart has nothing to rebuild. */
enum order_status { ORDER_BAKING, ORDER_READY, ORDER_CANCELLED };
enum order_status order_status(const struct order *o, int64_t now_ms);

struct db_order {
    struct db_job job;
    struct db_token token; /* in */
    struct order order;    /* db_place_order: in: flavor, pizzas, price_cents; out: the rest.
                                           others: in: id; out: the rest */
    int64_t bake_ms;       /* db_place_order: in: until ready, for all pizzas */
    struct db_key key;     /* db_place_order: in */
    bool replayed;         /* db_place_order: out */
    struct db_instant now; /* out: when all this was true */
};

void db_place_order(struct db_order *o, struct op *op); /* write. DB_OK, DB_NO_ACCOUNT, DB_INSUFFICIENT_FUNDS, DB_KEY_REUSED */
void db_get_order(struct db_order *o, struct op *op);   /* read. DB_OK, DB_NO_ACCOUNT, DB_NOT_FOUND */
/* write. DB_OK, DB_NO_ACCOUNT, DB_NOT_FOUND, DB_TOO_MUCH, DB_ALREADY_READY, DB_ALREADY_CANCELLED; the order is filled in for these two */
void db_cancel_order(struct db_order *o, struct op *op);

struct db_orders {
    struct db_job job;
    struct db_token token; /* in */
    bool filtered;         /* in: only those with this status */
    enum order_status status;
    int64_t before;        /* in: orders with a smaller id; 0: from the newest */
    size_t limit;          /* in: how many `rows` has room for */
    struct order *rows;    /* in: the room; out: newest first */
    size_t count;          /* out */
    bool more;             /* out */
    struct db_instant now; /* out */
};

void db_list_orders(struct db_orders *l, struct op *op); /* read. DB_OK, DB_NO_ACCOUNT */

/* What has happened to an account's orders, in the order of (at_ms, order id, kind), derived from the orders themselves:
 * nothing is stored that could be lost. Only what lies before the current millisecond is told, so that nothing told later
 * can sort before something told already. */
enum event_kind { EVENT_PLACED, EVENT_READY, EVENT_CANCELLED };

struct event_cursor {
    int64_t at_ms, order_id;
    int kind;
};

struct order_event {
    struct event_cursor cursor; /* where to go on after this event */
    struct order order;
};

struct db_events {
    struct db_job job;
    struct db_token token;      /* in, when account_id is 0 */
    int64_t account_id;         /* in: 0: find it by the token. out */
    bool from_now;              /* in: forget `cursor`, tell nothing, just set `cursor` to the present and account_id */
    struct event_cursor cursor; /* in: tell what comes after this. out: where to go on */
    size_t limit;               /* in: how many `rows` has room for */
    struct order_event *rows;   /* in: the room; out: oldest first */
    size_t count;               /* out */
    bool more;                  /* out: more is waiting already */
    bool lost;                  /* out: more has been missed than will be told; `cursor` is the present */
    int64_t next_ms;            /* out: when it is worth looking again by itself (the next order becomes ready, or
                                           the current millisecond ends while it holds events); 0: never */
    struct db_instant now;      /* out */
};

void db_order_events(struct db_events *e, struct op *op); /* read. DB_OK, DB_NO_ACCOUNT */

/* ---- the rest ------------------------------------------------------------------------------------------------------------ */

struct db_ping {
    struct db_job job;
    bool writing; /* a road's own */
};

/* Through the queue, to the worker and the file, and back: a write transaction that reads a little, and writes nothing unless the
 * last write has failed. DB_OK, or why the database is of no use at present */
void db_ping(struct db_ping *p, struct op *op);

/* A query that keeps the worker busy, for the lab: everybody else's query waits behind it, the loop does not. */
struct db_slow {
    struct db_job job;
    int64_t ms;           /* in */
    atomic_bool forsaken; /* in: set by the loop thread when nobody waits: it ends early */
    int64_t rows;         /* out: what the query counted meanwhile */
    int64_t left_ms;      /* a road's own */
};

void db_slow_query(struct db_slow *s, struct op *op); /* read */

/* The road's own: has another process changed the database since this was last asked? */
struct db_changes {
    struct db_job job;
    bool found; /* out */
};

#endif
