/* audit.c: proves a ledger: every rule of audit.sql; a file's, over a handle of its own that can only read. */
#include "ledger/audit.h"

#include "ledger/road.h"
#include "text/embed.h"

#include <sqlite3.h>
#include <string.h>

#define BUSY_MS 1000 /* how long another process may hold the file before we say so */

EMBED(audit_sql, "ledger/audit.sql");

/* Each begins with a line that says it in words, "-- rule: …" or "-- rule of a file: …", and ends before the next. */
bool audit_rules(const char *kind, long (*faults_of)(void *of, const char *sql, size_t len, FILE *out), void *of, FILE *out)
{
    static const char mark[] = "-- rule";
    char own[32];
    bool good = true;
    const char *next;

    snprintf(own, sizeof own, " of a %s: ", kind);
    for (const char *rule = strstr(audit_sql, mark); rule; rule = next) {
        const char *words = rule + sizeof mark - 1, *sql = strchr(words, '\n');

        next = strstr(sql, mark);
        if (strncmp(words, ": ", 2) == 0) words += 2;
        else if (strncmp(words, own, strlen(own)) == 0) words += strlen(own);
        else continue;
        long faults = faults_of(of, sql, (size_t)((next ? next : audit_sql_end) - sql), out);
        fprintf(out, "%s  %.*s", faults == 0 ? "ok   " : "WRONG", (int)(sql - words), words);
        fprintf(out, faults > 0 ? " (%ld faults)\n" : "\n", faults);
        good = good && faults == 0;
    }
    return good;
}

static long faults_of(void *handle, const char *sql, size_t len, FILE *out)
{
    sqlite3_stmt *s;
    long faults = 0;
    int rc = sqlite3_prepare_v2(handle, sql, (int)len, &s, NULL);

    while (rc == SQLITE_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        if (faults++ < AUDIT_FAULTS_SHOWN) fprintf(out, "  FAULT: %s\n", (const char *)sqlite3_column_text(s, 0));
        rc = SQLITE_OK;
    }
    sqlite3_finalize(s);
    if (rc == SQLITE_DONE) return faults;
    fprintf(out, "  FAULT: %s\n", sqlite3_errmsg(handle));
    return -1;
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
    bool good = audit_rules("file", faults_of, handle, out);
    sqlite3_close(handle);
    return good ? 0 : 1;
}
