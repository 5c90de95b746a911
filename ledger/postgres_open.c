/* postgres_open.c: before the first client, and instead of clients: is the server there, is the database ours, is it as we know it; and the audit.
 *
 * All of this waits in place, with a deadline for every step. The subtle thing is what it says when something is wrong: one line, and what to do
 * about it; never the password. */
#include "ledger/postgres.h"

#include "ledger/audit.h"
#include "ledger/road.h"

#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_NS (3 * NS_PER_S)           /* for each host; twice as long if there is no other: a busy machine needs it */
#define STATEMENT_NS (60 * NS_PER_S)        /* for a step of a migration */
#define AUDIT_NS (3600 * NS_PER_S)          /* for a rule of the audit */
#define LIKE_SESSION "SET search_path = ''" /* postgres.sql says why */
#define LOCK "1181708910" /* "Forn", among the advisory locks: two that start at once bring it up to date one after the other */

static char complaint[400];
static int64_t statement_ns = STATEMENT_NS;

static const char *complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *complain(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(complaint, sizeof complaint, format, args);
    va_end(args);
    return complaint;
}

/* ---- in place ---------------------------------------------------------------------------------------------------------------------------------- */

/* Until the socket is ready. False: the time is over. */
static bool wait_for(PGconn *conn, short events, int64_t until_ns)
{
    struct pollfd socket = {.fd = pq.PQsocket(conn), .events = events};
    int64_t left_ns = until_ns - clock_ns();

    return left_ns > 0 && poll(&socket, 1, (int)(left_ns / NS_PER_MS) + 1) > 0;
}

/* What the server or libpq says, and what to do about it. */
static const char *advice(const char *said)
{
    static const struct {
        const char *when, *then;
    } known[] = {
        {"password", "give the right user and password in the URL, or in ~/.pgpass"},
        {"authentication", "give the right user and password in the URL, or in ~/.pgpass"},
        {"no pg_hba.conf entry", "the server's pg_hba.conf must let us in"},
        {"role \"", "name an existing user in the URL"},
        {"database \"", "make it first, with createdb, or name another one in the URL"},
        {"read-only", "name all servers in the URL, so that the one that can be written to is among them"},
        {"hot standby", "name all servers in the URL, so that the one that can be written to is among them"},
        {"permission denied", "the user in the URL must be allowed to create a schema there, or be the one that did"},
        {"invalid ", "correct it in the URL"},
        {"SSL", "see sslmode in the URL"},
        {"certificate", "see sslmode and sslrootcert in the URL"},
        {"Connection refused", "start the server, or correct host and port in the URL"},
        {"No such file", "start the server, or name its host in the URL"},
        {"definition of service", "define it in ~/.pg_service.conf, or name the host in the URL"},
        {"translate host name", "correct the host in the URL"},
        {"no answer", "start the server, or correct host and port in the URL"},
        {"already exists", "a pooler in transaction mode stands between: go past it, or set it to session mode"},
        {"does not exist", "a pooler in transaction mode stands between: go past it, or set it to session mode"},
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strstr(said, known[i].when)) return known[i].then;
    }
    return "see the server's log";
}

/* libpq begins with where it was: that is said already. */
static const char *complain_as(const char *said)
{
    const char *end, *fatal = strstr(said, "FATAL:"), *error = strstr(said, "ERROR:");
    const char *failed = strstr(said, "failed: ");

    if (fatal) said = fatal + 6;
    else if (error) said = error + 6;
    else if (failed) said = failed + 8;
    while (*said == ' ') said++;
    if (!*said || *said == '\n') said = "no answer"; /* libpq has said where it was, and did not come to say more */
    end = strchr(said, '\n');
    return complain("%.*s: %s", (int)(end ? end - said : (int)strlen(said)), said, advice(said));
}

/* Connect to this host. NULL: see *wrong. */
static PGconn *connect_to(unsigned host, const char **wrong)
{
    PGconn *conn = lane_connect(host, NULL);
    PostgresPollingStatusType next = PGRES_POLLING_WRITING;
    int64_t until_ns = clock_ns() + (lanes_hosts() > 1 ? CONNECT_NS : 2 * CONNECT_NS);

    while (conn && pq.PQstatus(conn) != CONNECTION_BAD && next != PGRES_POLLING_OK) {
        if (!wait_for(conn, next == PGRES_POLLING_READING ? POLLIN : POLLOUT, until_ns)) break;
        next = pq.PQconnectPoll(conn);
        if (next == PGRES_POLLING_FAILED) break;
    }
    if (conn && next == PGRES_POLLING_OK) return conn;
    const char *said = conn ? pq.PQerrorMessage(conn) : "no memory";
    *wrong = complain_as(said);
    pq.PQfinish(conn);
    return NULL;
}

/* To the first host that can be written to. If there is none: what is wrong with the first. */
static PGconn *connect_to_any(const char **wrong)
{
    char first[sizeof complaint] = "";

    for (unsigned i = 0; i < lanes_hosts(); i++) {
        PGconn *conn = connect_to(i, wrong);

        if (conn) return conn;
        if (i == 0) snprintf(first, sizeof first, "%s", *wrong);
    }
    *wrong = complain("%s", first);
    return NULL;
}

/* The results of what was sent: the last of them, or NULL, see *wrong. PQclear() it. */
static PGresult *result_of(PGconn *conn, int sent, const char **wrong)
{
    int64_t until_ns = clock_ns() + statement_ns;
    PGresult *last = NULL, *next;

    *wrong = NULL;
    for (;;) {
        while (sent && pq.PQisBusy(conn)) {
            if (!wait_for(conn, POLLIN, until_ns)) {
                pq.PQclear(last);
                *wrong = complain_as("no answer");
                return NULL;
            }
            sent = pq.PQconsumeInput(conn);
        }
        if (!sent || !(next = pq.PQgetResult(conn))) break;
        pq.PQclear(last);
        last = next;
        ExecStatusType status = pq.PQresultStatus(last);
        if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) sent = 0;
    }
    if (sent && last) return last;
    *wrong = complain_as(pq.PQerrorMessage(conn));
    pq.PQclear(last);
    return NULL;
}

/* One number that a query returns; `otherwise` if it returns no row. */
static const char *number_of(PGconn *conn, const char *sql, int64_t otherwise, int64_t *number)
{
    const char *wrong;
    PGresult *rows = result_of(conn, pq.PQsendQuery(conn, sql), &wrong);

    if (!rows) return wrong;
    *number = pq.PQntuples(rows) ? strtoll(pq.PQgetvalue(rows, 0, 0), NULL, 10) : otherwise;
    pq.PQclear(rows);
    return NULL;
}

static const char *run(PGconn *conn, const char *sql)
{
    const char *wrong;
    PGresult *rows = result_of(conn, pq.PQsendQuery(conn, sql), &wrong);

    pq.PQclear(rows);
    return wrong;
}

/* ---- is it ours ---------------------------------------------------------------------------------------------------------------------------------- */

/* In one transaction: a crash leaves a version that exists. */
static const char *bring_up_to_date(PGconn *conn)
{
    int64_t schema = 0, ours = 0, version = 0;
    const char *wrong =
        run(conn, "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '30s'; "
                  "SELECT pg_advisory_xact_lock(" LOCK ")");

    if (!wrong) wrong = number_of(conn, "SELECT count(*) FROM pg_namespace WHERE nspname = 'forno'", 0, &schema);
    if (!wrong && schema)
        wrong = number_of(conn, "SELECT count(*) FROM pg_tables WHERE schemaname = 'forno' AND tablename = 'meta'", 0, &ours);
    if (!wrong && schema && !ours) return "it has a schema forno that is some other program's: use another database";
    if (!wrong && ours) wrong = number_of(conn, "SELECT version FROM forno.meta WHERE application = 'forno'", -1, &version);
    if (wrong) return wrong;
    if (version < 0) return "it has a schema forno that is some other program's: use another database";
    if (version > PG_SCHEMA_VERSION) return "it was made by a newer version of Forno: use that one, or another database";
    for (; version < PG_SCHEMA_VERSION && !wrong; version++) {
        char name[32];

        snprintf(name, sizeof name, "SCHEMA_%d", (int)version + 1);
        char *script = pg_text(name);
        wrong = script ? run(conn, script) : "this server was built without one of its scripts";
        free(script);
    }
    return wrong ? wrong : run(conn, "COMMIT");
}

static bool fits(char form, Oid type)
{
    return type == (form == 'i' ? 20U : form == 't' ? 25U : form == 'h' ? 17U : form == 'b' ? 16U : 2278U);
}

static const char *try_statement(PGconn *conn, const struct pg_form *form)
{
    const char *wrong;
    char *text = pg_text(form->name);
    PGresult *r = text ? result_of(conn, pq.PQsendPrepare(conn, form->name, text, 0, NULL), &wrong) : NULL;

    if (!text) return complain("this server was built without its statement %s", form->name);
    free(text);
    if (!r) return wrong;
    pq.PQclear(r);
    r = result_of(conn, pq.PQsendDescribePrepared(conn, form->name), &wrong);
    if (!r) return wrong;
    bool good = pq.PQnparams(r) == (int)strlen(form->takes) && pq.PQnfields(r) == (int)strlen(form->returns);
    for (int i = 0; good && form->takes[i]; i++) good = fits(form->takes[i], pq.PQparamtype(r, i));
    for (int i = 0; good && form->returns[i]; i++) good = fits(form->returns[i], pq.PQftype(r, i));
    pq.PQclear(r);
    return good ? NULL : complain("its tables are not as we made them: %s does not return what it should", form->name);
}

static const char *try_out(PGconn *conn)
{
    const char *wrong = NULL;
    int64_t utf8 = 0;
    char *text = pg_text("WRONG");
    PGresult *rows = text ? result_of(conn, pq.PQsendQuery(conn, text), &wrong) : NULL;

    free(text);
    if (!rows) return wrong ? wrong : "this server was built without one of its statements";
    if (pq.PQntuples(rows)) wrong = complain("its tables are not as we made them: there is no %s", pq.PQgetvalue(rows, 0, 0));
    pq.PQclear(rows);
    if (!wrong) wrong = number_of(conn, "SELECT (current_setting('server_encoding') = 'UTF8')::int", 0, &utf8);
    if (!wrong && !utf8) wrong = "its encoding is not UTF8: make it with createdb -E UTF8 -T template0";
    for (int i = 0; i < PG_STATEMENT_COUNT && !wrong; i++) wrong = try_statement(conn, &pg_forms[i]);
    return wrong;
}

/* NULL: a connection to it, see `conn`. */
static const char *open_database(const char *url, PGconn **conn)
{
    const char *wrong;

    *conn = NULL;
    if (!libpq_load())
        return "libpq.so.5 is missing, or older than 14: install PostgreSQL's client library (Debian: apt install libpq5)";
    wrong = lanes_open(url);
    if (wrong) return wrong;
    *conn = connect_to_any(&wrong);
    return *conn ? run(*conn, LIKE_SESSION) : wrong;
}

static void put_error(char *error, size_t size, const char *wrong)
{
    snprintf(error, size, "PostgreSQL at %s cannot be used: %s", lanes_hosts() ? lane_host(0) : "the URL that --db names", wrong);
}

int pg_prepare_database(const char *url, char *error, size_t error_size)
{
    PGconn *conn, *second = NULL;
    const char *wrong = open_database(url, &conn);

    if (!wrong) wrong = bring_up_to_date(conn);
    if (!wrong) wrong = try_out(conn);
    /* Trap: a pooler in between, which gives our second connection what the first has prepared. */
    if (!wrong && (second = connect_to_any(&wrong))) wrong = run(second, LIKE_SESSION);
    if (!wrong) wrong = try_out(second);
    if (wrong) put_error(error, error_size, wrong);
    if (conn) pq.PQfinish(conn);
    if (second) pq.PQfinish(second);
    if (wrong) lanes_close();
    return wrong ? -1 : 0;
}

/* ---- the audit ----------------------------------------------------------------------------------------------------------------------------------- */

static long faults_of(void *of, const char *sql, size_t len, FILE *out)
{
    const char *wrong = "no memory";
    char *text = strndup(sql, len);
    PGresult *rows = text ? result_of(of, pq.PQsendQuery(of, text), &wrong) : NULL;
    long faults = rows ? pq.PQntuples(rows) : -1;

    free(text);
    if (!rows) fprintf(out, "  FAULT: %s\n", wrong);
    for (int i = 0; i < faults && i < AUDIT_FAULTS_SHOWN; i++) fprintf(out, "  FAULT: %s\n", pq.PQgetvalue(rows, i, 0));
    pq.PQclear(rows);
    return faults;
}

int postgres_audit(const char *url, FILE *out)
{
    PGconn *conn;
    const char *wrong = open_database(url, &conn);
    PGresult *rows = NULL;
    int64_t ours = 0;
    bool good = false;

    statement_ns = AUDIT_NS;
    /* All rules see the same state of the world. */
    if (!wrong)
        wrong = run(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0; "
                          "SET LOCAL search_path = forno");
    if (!wrong)
        wrong = number_of(conn, "SELECT count(*) FROM pg_tables WHERE schemaname = 'forno' AND tablename = 'meta'", 0, &ours);
    if (!wrong && !ours) wrong = "there is no ledger of Forno's in it";
    if (!wrong)
        rows = result_of(conn,
                         pq.PQsendQuery(conn, "SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM orders), "
                                              "(SELECT count(*) FROM entries)"),
                         &wrong);
    if (rows) {
        fprintf(out, "%s: %s accounts, %s orders, %s entries\n", lane_host(0), pq.PQgetvalue(rows, 0, 0), pq.PQgetvalue(rows, 0, 1),
                pq.PQgetvalue(rows, 0, 2));
        pq.PQclear(rows);
        good = audit_rules("server", faults_of, conn, out);
    } else {
        fprintf(out, "%s cannot be audited: %s\n", lanes_hosts() ? lane_host(0) : "PostgreSQL", wrong);
    }
    if (conn) pq.PQfinish(conn);
    lanes_close();
    return good ? 0 : 1;
}
