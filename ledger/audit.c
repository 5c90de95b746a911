/* audit.c: proves a ledger: every rule of audit.sql, over a handle of its own that can only read. */
#include "ledger/road.h"
#include "text/embed.h"

#include <sqlite3.h>
#include <string.h>

#define FAULTS_SHOWN 10
#define BUSY_MS 1000 /* how long another process may hold the file before we say so */

EMBED(audit_sql, "ledger/audit.sql");

/* Returns how many faults there are, -1 if the query cannot be run. */
static long faults_of(sqlite3 *handle, const char *sql, FILE *out)
{
    sqlite3_stmt *s;
    long faults = 0;
    int rc = sqlite3_prepare_v2(handle, sql, -1, &s, NULL);

    while (rc == SQLITE_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        if (faults++ < FAULTS_SHOWN) fprintf(out, "  FAULT: %s\n", (const char *)sqlite3_column_text(s, 0));
        rc = SQLITE_OK;
    }
    sqlite3_finalize(s);
    if (rc == SQLITE_DONE) return faults;
    fprintf(out, "  FAULT: %s\n", sqlite3_errmsg(handle));
    return -1;
}

/* Each begins with a line that says it in words, "-- rule: …", and ends before the next. */
static bool check_rules(sqlite3 *handle, FILE *out)
{
    static const char mark[] = "-- rule: ";
    bool good = true;

    for (const char *rule = strstr(audit_sql, mark); rule; rule = strstr(rule + 1, mark)) {
        const char *words = rule + sizeof mark - 1, *sql = strchr(words, '\n');
        long faults = faults_of(handle, sql, out);

        fprintf(out, "%s  %.*s", faults == 0 ? "ok   " : "WRONG", (int)(sql - words), words);
        fprintf(out, faults > 0 ? " (%ld faults)\n" : "\n", faults);
        good = good && faults == 0;
    }
    return good;
}

int sqlite_audit(const char *path, FILE *out)
{
    static const char counts[] =
        "SELECT (SELECT count(*) FROM accounts WHERE id > 0), (SELECT count(*) FROM orders), (SELECT count(*) FROM entries)";
    sqlite3 *handle;
    sqlite3_stmt *s;

    if (sqlite3_open_v2(path, &handle, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
        sqlite3_busy_timeout(handle, BUSY_MS) != SQLITE_OK || sqlite3_exec(handle, "BEGIN", NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(handle, counts, -1, &s, NULL) != SQLITE_OK) {
        fprintf(out, "%s cannot be audited: %s\n", path, sqlite3_errmsg(handle));
        sqlite3_close(handle);
        return 1;
    }
    if (sqlite3_step(s) == SQLITE_ROW)
        fprintf(out, "%s: %lld accounts, %lld orders, %lld entries\n", path, sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1),
                sqlite3_column_int64(s, 2));
    sqlite3_finalize(s);
    bool good = check_rules(handle, out);
    sqlite3_close(handle);
    return good ? 0 : 1;
}
