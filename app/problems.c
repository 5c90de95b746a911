/* problems.c: every error the service can answer with, in one table (RFC 9457), and the pages that explain them. */
#include "app/app.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* clang-format off */
static const struct {
    int status;
    const char *name, *title, *text;
} problems[PROBLEMS] = {
    [PROBLEM_MALFORMED_REQUEST] = {400, "malformed-request", "The request is not valid HTTP",
        "RFC 9112 gives these bytes no meaning, or more than one. The connection is closed, since nobody can tell where the next "
        "request would begin."},
    [PROBLEM_BAD_JSON] = {400, "bad-json", "The body is not valid JSON", "See RFC 8259. Names must not occur twice in an object."},
    [PROBLEM_BAD_PARAMETER] = {400, "bad-parameter", "A query parameter or field is wrong",
        "Its value is outside of what it may be, it occurs twice, or it is not known at this path."},
    [PROBLEM_KEY_REQUIRED] = {400, "idempotency-key-required", "An Idempotency-Key is required",
        "Money must not move twice because an answer got lost. Send a fresh key, such as a UUID, with each transfer, and the same "
        "key when you try the same transfer again."},
    [PROBLEM_BAD_KEY] = {400, "bad-idempotency-key", "The Idempotency-Key is not usable",
        "One key, 1 to 128 visible ASCII characters."},
    [PROBLEM_UNAUTHORIZED] = {401, "unauthorized", "Who are you?",
        "Send the token that you were given with your account: Authorization: Bearer TOKEN."},
    [PROBLEM_INVALID_TOKEN] = {401, "invalid-token", "This token is nobody's",
        "Tokens are shown once, when the account is opened, and cannot be recovered."},
    [PROBLEM_FORBIDDEN] = {403, "forbidden", "This account is not yours",
        "You see your own balance, never your colleague's. Whether there is such an account is not told either."},
    [PROBLEM_CROSS_SITE] = {403, "cross-site", "This is not for pages of other sites",
        "The lab and /loop are open only because nobody but this machine can reach this server, and a browser brings pages of "
        "other sites to this machine. Open them from our own page, type their address, or use curl, at localhost or 127.0.0.1. If "
        "the server is meant to be reached by another name, start it with --host NAME, or with --lab."},
    [PROBLEM_NOT_FOUND] = {404, "not-found", "There is nothing here", "No such page, or nothing of yours by that name."},
    [PROBLEM_NO_RECEIVER] = {404, "no-such-receiver", "There is no such account to pay to", "Nothing has moved."},
    [PROBLEM_METHOD_NOT_ALLOWED] = {405, "method-not-allowed", "This cannot be done here", "The Allow field lists what can."},
    [PROBLEM_TIMEOUT] = {408, "request-timeout", "The request took too long to arrive",
        "The head has 10 seconds; a body may not stall for 10 seconds."},
    [PROBLEM_INSUFFICIENT_FUNDS] = {409, "insufficient-funds", "There is not enough money for this", "Nothing has moved."},
    [PROBLEM_ALREADY_READY] = {409, "already-ready", "The pizza is out of the oven", "It is too late to cancel."},
    [PROBLEM_ALREADY_CANCELLED] = {409, "already-cancelled", "The order was cancelled before", "The money is back already."},
    [PROBLEM_BODY_TOO_LARGE] = {413, "body-too-large", "The body is too large", "At most 64 KiB."},
    [PROBLEM_TARGET_TOO_LONG] = {414, "target-too-long", "The request line is too long", "At most 8 KiB."},
    [PROBLEM_MEDIA_TYPE] = {415, "unsupported-media-type", "The body must be application/json",
        "With curl, add: -H 'Content-Type: application/json'"},
    [PROBLEM_EXPECTATION] = {417, "expectation-failed", "This expectation cannot be met", "Only Expect: 100-continue is known here."},
    [PROBLEM_INVALID_BODY] = {422, "invalid-body", "The body is JSON, but not what is wanted here",
        "A member is missing, unknown, of the wrong type or out of range."},
    [PROBLEM_KEY_REUSED] = {422, "idempotency-key-reused", "This Idempotency-Key came with another request before",
        "A key stands for one request. Use a fresh one."},
    [PROBLEM_TO_ONESELF] = {422, "transfer-to-oneself", "This transfer leads back to its sender", "Nothing has moved."},
    [PROBLEM_TOO_MUCH] = {422, "too-much-money", "The balance would be beyond exact numbers",
        "A balance is at most 2^53 - 1 cents: the receiver's, or yours when an order is to be refunded. Nothing has moved."},
    [PROBLEM_HEAD_TOO_LARGE] = {431, "head-too-large", "The header fields are too large or too many", "At most 16 KiB, at most 100."},
    [PROBLEM_INTERNAL] = {500, "internal-error", "Something is wrong on our side", "It is not your fault."},
    [PROBLEM_UNKNOWN_METHOD] = {501, "unknown-method", "This method is not known here", "See OPTIONS."},
    [PROBLEM_OVERLOADED] = {503, "overloaded", "Too much is waiting already",
        "The queue to the database is full. Nothing was done; try again a little later."},
    [PROBLEM_NO_MEMORY] = {503, "out-of-memory", "There is no memory for this request right now", "Nothing was done; try again later."},
    [PROBLEM_DATABASE_LOCKED] = {503, "database-locked", "Another process holds the database", "Nothing was done; try again later."},
    [PROBLEM_DATABASE_MISSING] = {503, "database-missing", "The database file is not in its place",
        "Nothing was done. When the file is back, the service goes on by itself."},
    [PROBLEM_DATABASE_BROKEN] = {503, "database-failed", "The database cannot be read or written",
        "Nothing was done. The operator should look at the disk."},
    [PROBLEM_DATABASE_UNREACHABLE] = {503, "database-unreachable", "The database cannot be reached",
        "Nothing was done. The service goes on trying, and goes on by itself when a database server answers."},
    [PROBLEM_OUTCOME_UNKNOWN] = {503, "outcome-unknown", "Nobody knows whether this was done",
        "The database failed in the middle of it. Ask again with the same Idempotency-Key: what was done is not done twice. Without "
        "a key, look first whether it was done."},
    [PROBLEM_DRAINING] = {503, "draining", "The server is leaving", "Another one may already be taking its place."},
    [PROBLEM_WOULD_DEADLOCK] = {409, "would-deadlock", "This would wait for ever",
        "The loop would wait in place for an answer that it has to give itself. Start a second server as the courier: "
        "./server --port 8001 --db courier.db   and then   ./server --courier http://127.0.0.1:8001"},
    [PROBLEM_COURIER_UNREACHABLE] = {502, "courier-unreachable", "The courier cannot be reached",
        "It takes no connection, or broke it off in the middle."},
    [PROBLEM_COURIER_NONSENSE] = {502, "courier-nonsense", "The courier talks nonsense", "Its answer is not what was agreed."},
    [PROBLEM_COURIER_BUSY] = {503, "courier-busy", "Too many calls to the courier are out already", "Try again a little later."},
    [PROBLEM_COURIER_SLOW] = {504, "courier-slow", "The courier is too slow", "It has 5 seconds."},
    [PROBLEM_HTTP_VERSION] = {505, "http-version", "This version of HTTP is not spoken here", "HTTP/1.1 and HTTP/1.0 are."},
    [PROBLEM_DISK_FULL] = {507, "disk-full", "The disk is full", "Nothing was done. The operator should make room."},
};
/* clang-format on */

static cJSON *problem_json(enum problem p, const char *what, const char *text)
{
    char type[64];
    cJSON *json = cJSON_CreateObject();

    snprintf(type, sizeof type, "/problems/%s", problems[p].name);
    cJSON_AddStringToObject(json, "type", type);
    cJSON_AddStringToObject(json, "title", problems[p].title);
    json_add_integer(json, "status", problems[p].status);
    cJSON_AddStringToObject(json, what, text);
    return json;
}

/* detail "": there is nothing to add to the general explanation. */
static void answer(struct req *r, enum problem p, const char *detail)
{
    if (problems[p].status == 401)
        respond_field(r, "WWW-Authenticate", "Bearer realm=\"forno\"%s",
                      p == PROBLEM_INVALID_TOKEN ? ", error=\"invalid_token\"" : "");
    if (problems[p].status == 503) respond_field(r, "Retry-After", "1");
    respond_json(r, problems[p].status, problem_json(p, "detail", detail[0] ? detail : problems[p].text));
}

bool respond_problem(struct req *r, enum problem p, const char *detail, ...)
{
    char text[512] = "";
    va_list args;

    va_start(args, detail);
    if (detail) vsnprintf(text, sizeof text, detail, args);
    va_end(args);
    answer(r, p, text);
    return false;
}

/* ---- a refusal that waits for the token to be looked up -------------------------------------------------------------------------- */

struct refusal {
    struct db_account who;
    enum problem problem;
    char detail[512];
};

static void refusal_authenticated(struct req *r)
{
    struct refusal *f = req_state(r);

    if (f->who.job.rc == DB_NO_ACCOUNT) answer(r, PROBLEM_INVALID_TOKEN, "");
    else answer(r, f->problem, f->detail);
}

bool refuse(struct req *r, enum problem p, const char *detail, ...)
{
    va_list args;

    r->state = NULL; /* what the handler had begun is of no use any more */
    struct refusal *f = req_alloc(r, sizeof *f);
    if (!f) return false;
    f->problem = p;
    va_start(args, detail);
    if (detail) vsnprintf(f->detail, sizeof f->detail, detail, args);
    va_end(args);
    f->who.token = bearer_token(r);
    if (http_field(&r->msg, "authorization").at) db_authenticate(&f->who, await(r, refusal_authenticated));
    else answer(r, p, f->detail);
    return false;
}

/* ---- whose problem is it? ------------------------------------------------------------------------------------------------------------ */

void respond_db_problem(struct req *r, enum db_rc rc)
{
    static const enum problem of[] = {
        [DB_NO_ACCOUNT] = PROBLEM_INVALID_TOKEN,
        [DB_NOT_YOURS] = PROBLEM_FORBIDDEN,
        [DB_NOT_FOUND] = PROBLEM_NOT_FOUND,
        [DB_INSUFFICIENT_FUNDS] = PROBLEM_INSUFFICIENT_FUNDS,
        [DB_TOO_MUCH] = PROBLEM_TOO_MUCH,
        [DB_TO_ONESELF] = PROBLEM_TO_ONESELF,
        [DB_KEY_REUSED] = PROBLEM_KEY_REUSED,
        [DB_ALREADY_READY] = PROBLEM_ALREADY_READY,
        [DB_ALREADY_CANCELLED] = PROBLEM_ALREADY_CANCELLED,
        [DB_QUEUE_FULL] = PROBLEM_OVERLOADED,
        [DB_LOCKED] = PROBLEM_DATABASE_LOCKED,
        [DB_DISK_FULL] = PROBLEM_DISK_FULL,
        [DB_NO_MEMORY] = PROBLEM_NO_MEMORY,
        [DB_MISSING] = PROBLEM_DATABASE_MISSING,
        [DB_BROKEN] = PROBLEM_DATABASE_BROKEN,
        [DB_UNREACHABLE] = PROBLEM_DATABASE_UNREACHABLE,
        [DB_UNKNOWN] = PROBLEM_OUTCOME_UNKNOWN,
    };

    answer(r, of[rc], "");
}

bool db_said_no(struct req *r, enum db_rc rc)
{
    if (rc != DB_OK) respond_db_problem(r, rc);
    return rc != DB_OK;
}

void respond_text(struct req *r, const char *type, struct buf *text)
{
    if (text->failed) respond_problem(r, PROBLEM_NO_MEMORY, NULL);
    else respond(r, 200, type, text->mem + text->start, buf_len(text));
    buf_free(text);
}

void refuse_malformed(struct req *r)
{
    enum problem p = PROBLEM_MALFORMED_REQUEST;

    switch (r->msg.status) {
    case 408: p = PROBLEM_TIMEOUT; break;
    case 413: p = PROBLEM_BODY_TOO_LARGE; break;
    case 414: p = PROBLEM_TARGET_TOO_LONG; break;
    case 431: p = PROBLEM_HEAD_TOO_LARGE; break;
    case 501: p = PROBLEM_UNKNOWN_METHOD; break;
    case 503: p = PROBLEM_NO_MEMORY; break;
    case 505: p = PROBLEM_HTTP_VERSION; break;
    }
    answer(r, p, r->msg.error);
}

/* ---- GET /problems, GET /problems/{name} ---------------------------------------------------------------------------------------------- */

void get_problems(struct req *r)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(json, "problems");

    for (enum problem p = 0; p < PROBLEMS; p++) json_append(list, problem_json(p, "explanation", problems[p].text));
    respond_json(r, 200, json);
}

void get_problem(struct req *r)
{
    for (enum problem p = 0; p < PROBLEMS; p++) {
        if (strcmp(problems[p].name, r->param) == 0) {
            respond_json(r, 200, problem_json(p, "explanation", problems[p].text));
            return;
        }
    }
    respond_problem(r, PROBLEM_NOT_FOUND, "There is no problem of that name. GET /problems lists them all.");
}
