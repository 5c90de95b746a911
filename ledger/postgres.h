/* postgres.h: what the files of the native road share: postgres.c has the lanes, the queues and the groups; postgres_bank.c what is asked of the
 * database and what its answers mean; postgres_open.c the start, and the audit. */
#ifndef FORNO_POSTGRES_H
#define FORNO_POSTGRES_H

#include "db.h"
#include "ledger/lane.h"

/* The statements of postgres.sql, by their names there, with the types of what they take and what they return: i bigint, t text, h bytea,
 * b boolean. */
/* clang-format off */
#define PG_STATEMENTS(S) \
    S(SESSION, "b", "tttttttttttt") S(LISTEN, "", "b") S(NOTIFY, "t", "v") S(LOOK, "", "i") S(ACCOUNT_OPEN, "thi", "i") \
    S(ACCOUNT_BY_TOKEN, "h", "iti") S(TRANSFER, "hthiit", "tbii") S(ENTRIES_OF, "hiii", "iitiiiiit") \
    S(ORDER_PLACE, "hthtiii", "tbiiitiiiii") S(ORDER_CANCEL, "hi", "tiiitiiiii") S(ORDER_OF, "hi", "iiitiiiii") \
    S(ORDERS_OF, "hii", "iiitiiiii") S(ORDERS_BAKING, "hii", "iiitiiiii") S(ORDERS_READY, "hii", "iiitiiiii") \
    S(ORDERS_CANCELLED, "hii", "iiitiiiii") S(EVENTS, "hibiiiii", "iiiiiiiitiiiii") S(PING, "b", "bi") S(NAP, "i", "i")
/* clang-format on */

#define S(name, takes, returns) PG_##name,
enum pg_statement { PG_STATEMENTS(S) PG_STATEMENT_COUNT };
#undef S

extern const struct pg_form {
    const char *name, *takes, *returns;
} pg_forms[PG_STATEMENT_COUNT];

#define PG_SCHEMA_VERSION 1 /* scripts SCHEMA_1 and up in postgres.sql; number n takes the schema from version n - 1 to n */

/* What stands in postgres.sql under this name. NULL: nothing does. free() it. */
char *pg_text(const char *name);

/* Which lane an operation goes by: reads share one; what waits for a writer (NEWS), or is slow on purpose, has one of its own, so that no
 * other read waits behind it. */
enum pg_way { PG_READS, PG_NEWS, PG_SLOW, PG_WRITES };

struct pg_operation {
    int (*ask)(PGconn *conn, struct db_job *job);                       /* sends it: as PQsendQueryPrepared returns it */
    void (*take)(struct db_job *job, const PGresult *rows, int64_t ns); /* its rows have come, and are true; ns: when it was sent */
    bool (*harmless)(const struct db_job *job);                         /* to do once more what may have been done. NULL: always */
    enum pg_way way;
    bool alone; /* it touches accounts that are not its token's: no group with others */
};
extern const struct pg_operation pg_operations[DB_WHATS];

/* Send a prepared statement, with its arguments as its form has them: int64_t, const char *, const void * of 32 bytes, int. */
int pg_send(PGconn *conn, enum pg_statement which, ...);

/* The hash that an operation comes with, after its job. */
const unsigned char *pg_hash(const struct db_job *job);

/* Other threads of the story, whose operations are the road's own. */
struct pg_tell {
    struct db_job job;
    char text[7900];
};
struct pg_look {
    struct db_job job;
    int64_t seen; /* in: the last time; out: now */
    bool found;   /* out: it is something else now */
};

/* It has been answered in part: ask once more. */
bool pg_wants_more(struct db_job *job);

/* Connect, look whether it is ours, bring it up to date, try all statements. Blocks, with deadlines. Returns 0, or -1 with a sentence. */
int pg_prepare_database(const char *url, char *error, size_t error_size);

#endif
