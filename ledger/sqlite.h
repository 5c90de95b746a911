/* sqlite.h: what the two files of the thread road share: sqlite.c has the file, its transactions and the worker; bank.c what is done in them.
 * Worker thread, all of it. */
#ifndef FORNO_SQLITE_H
#define FORNO_SQLITE_H

#include "db.h"

#include <sqlite3.h>

/* The statements of sqlite.sql, by their names there. */
/* clang-format off */
#define STATEMENTS(S) \
    S(BEGIN_READ) S(BEGIN_WRITE) S(COMMIT) S(ROLLBACK) S(SAVEPOINT) S(RELEASE) S(ROLLBACK_TO) S(ACCOUNT_BY_TOKEN) \
    S(BALANCE_OF) S(ACCOUNT_OPEN) S(ACCOUNT_ADD) S(ENTRY_FIRST) S(ENTRY_SECOND) S(ENTRIES_OF) S(LATEST) S(KEY_FIND) \
    S(KEY_KEEP) S(ORDER_PLACE) S(ORDER_OF) S(ORDER_CANCEL) S(ORDERS_OF) S(ORDERS_BAKING) S(ORDERS_READY) S(ORDERS_CANCELLED) \
    S(EVENTS_AFTER) S(EVENTS_LEFT) S(EVENTS_NEXT) S(PROBE) S(DATA_VERSION) S(USER_VERSION) S(SLOW)
/* clang-format on */

#define S(name) name,
enum statement { STATEMENTS(S) STATEMENT_COUNT };
#undef S

/* What an operation needs of its transaction. READS_LONG: what was read before it should not wait for it. The last kind sees all that was committed by anybody, and nobody will commit what happened
 * earlier: it takes its turn among the writes, with their lock. */
enum how { READS, READS_LONG, WRITES, READS_LAST };

struct operation {
    enum db_rc (*run)(struct db_job *job);
    enum how how;
};
extern const struct operation operations[DB_WHATS];

/* The transaction in progress. */
extern struct transaction {
    sqlite3 *handle;
    sqlite3_stmt *prepared[STATEMENT_COUNT];
    struct db_instant now;
    enum db_rc last_write; /* the worst that became of the last group of writes */
    const struct db_options *options;
} tx;

/* SQL function: while the slow query has time left, and somebody waits for it. */
void still_busy(sqlite3_context *context, int argc, sqlite3_value **argv);

/* Bind the arguments in order: i int64_t, t text, h 32 bytes of hash. They must live until the statement is done. */
sqlite3_stmt *sql_bind(enum statement which, const char *types, ...);

/* To the next row: DB_OK, or DB_NOT_FOUND when there is none (then the statement is done), or trouble. */
enum db_rc sql_fetch(sqlite3_stmt *s);

/* Run to the end, whatever it returns. */
enum db_rc sql_run(sqlite3_stmt *s);

/* After a loop over rows that ended in rc: at the end of the rows, or before it. */
enum db_rc sql_end(sqlite3_stmt *s, enum db_rc rc);

/* One number that a statement returns. */
enum db_rc sql_number(sqlite3_stmt *s, int64_t *number);

/* No column that we read is NULL: where SQLite has no text, it had no memory for it: DB_NO_MEMORY. */
enum db_rc sql_text(char *to, size_t size, sqlite3_stmt *s, int column);

/* Is this the machine's trouble, as opposed to an answer? */
static inline bool is_trouble(enum db_rc rc)
{
    return rc >= DB_QUEUE_FULL;
}

#endif
