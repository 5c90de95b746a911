/* app.h: what the files of the application share. No descriptor, no epoll, no mutex, no SQL: only steps. */
#ifndef FORNO_APP_H
#define FORNO_APP_H

#include "db.h"
#include "reactor/req.h"
#include "reactor/upstream.h"

#include <cjson/cJSON.h>
#include <sys/queue.h>

extern const struct app_options *app_options;

/* ---- asked.c ------------------------------------------------------------------------------------------------------------------- */

/* The {id} of the route. The router has seen to it that these are digits; what cannot be an id is INT64_MAX, which is nobody's. */
int64_t param_id(const struct req *r);

/* A whole number from the query string; `fallback` when it is not there. False: it has been refused, 400. */
bool query_number(struct req *r, const char *name, int64_t fallback, int64_t min, int64_t max, int64_t *out);

/* The value of a query parameter, still encoded; absent when it is not there. */
struct slice query_param(const struct req *r, const char *name);

/* The first parameter that is not among those `taken`, "such, as, these" (then *unknown), or has been there before. Absent: all is
 * well. */
struct slice wrong_parameter(const struct req *r, const char *taken, bool *unknown);

/* Prefer: wait=N (RFC 7240 4.3), in seconds, at most PREFER_WAIT_MAX. -1: no such preference. */
#define PREFER_WAIT_MAX 60
#define STAND_STILL_MAX_S 10 /* with --blocking: everybody else can bear to wait so long */
int64_t prefer_wait(const struct req *r);

/* A version of some text, as a strong validator (RFC 9110 8.8.3), with its quotes. */
#define ETAG_SIZE 24
void etag_make(char etag[ETAG_SIZE], const char *text, size_t len);

/* Does the client know this version already (If-None-Match, RFC 9110 13.1.2)? `etag` with its quotes. */
bool etag_matches(const struct req *r, const char *etag);

/* Does the client like this media type better than the other one (Accept)? */
bool prefers(const struct req *r, const char *type, const char *other);

/* The bearer token, RFC 6750 2.1. Absent if there is none, or what there is cannot be one of ours. */
struct slice bearer(const struct req *r);

/* The hash of the bearer token. Only for routes that want one: the router has looked. */
struct db_token bearer_token(const struct req *r);

/* Idempotency-Key, with a fingerprint of the request. False: it has been refused. */
bool idempotency_key(struct req *r, bool required, struct db_key *key);

/* ---- problems.c: errors, RFC 9457 ------------------------------------------------------------------------------------------------ */

/* clang-format off */
enum problem {
    PROBLEM_MALFORMED_REQUEST, PROBLEM_BAD_JSON, PROBLEM_BAD_PARAMETER, PROBLEM_KEY_REQUIRED, PROBLEM_BAD_KEY,
    PROBLEM_UNAUTHORIZED, PROBLEM_INVALID_TOKEN, PROBLEM_FORBIDDEN, PROBLEM_CROSS_SITE, PROBLEM_NOT_FOUND, PROBLEM_NO_RECEIVER,
    PROBLEM_METHOD_NOT_ALLOWED, PROBLEM_TIMEOUT, PROBLEM_INSUFFICIENT_FUNDS, PROBLEM_ALREADY_READY, PROBLEM_ALREADY_CANCELLED,
    PROBLEM_BODY_TOO_LARGE, PROBLEM_TARGET_TOO_LONG, PROBLEM_MEDIA_TYPE, PROBLEM_EXPECTATION, PROBLEM_INVALID_BODY,
    PROBLEM_KEY_REUSED, PROBLEM_TO_ONESELF, PROBLEM_TOO_MUCH, PROBLEM_HEAD_TOO_LARGE, PROBLEM_INTERNAL,
    PROBLEM_UNKNOWN_METHOD, PROBLEM_OVERLOADED, PROBLEM_NO_MEMORY, PROBLEM_DATABASE_LOCKED, PROBLEM_DATABASE_MISSING,
    PROBLEM_DATABASE_BROKEN, PROBLEM_DATABASE_UNREACHABLE, PROBLEM_OUTCOME_UNKNOWN, PROBLEM_DRAINING, PROBLEM_HTTP_VERSION, PROBLEM_DISK_FULL, PROBLEM_WOULD_DEADLOCK,
    PROBLEM_COURIER_UNREACHABLE, PROBLEM_COURIER_NONSENSE, PROBLEM_COURIER_BUSY, PROBLEM_COURIER_SLOW,
    PROBLEMS
};
/* clang-format on */

/* Answer with a problem. `detail` says what is wrong this time; NULL: nothing to add to the general explanation. Returns false, for whoever
 * says the same with it. */
bool respond_problem(struct req *r, enum problem p, const char *detail, ...) __attribute__((format(printf, 3, 4)));

/* The same for a request that claims to be somebody's: a wrong token is told first, so that strangers learn nothing. */
bool refuse(struct req *r, enum problem p, const char *detail, ...) __attribute__((format(printf, 3, 4)));

/* What the database said, when it was not DB_OK; and whether that was so. */
void respond_db_problem(struct req *r, enum db_rc rc);
bool db_said_no(struct req *r, enum db_rc rc);

/* A step: what the parser said. */
void refuse_malformed(struct req *r);

/* Answer 200 with this text, and free it. */
void respond_text(struct req *r, const char *type, struct buf *text);

/* ---- events.c: server-sent events, WHATWG HTML 9.2 -------------------------------------------------------------------------------- */

void events_open(struct req *r);                                /* begin the answer */
void put_event(struct buf *out, const char *name, cJSON *data); /* takes data */

/* Put what was gathered, and free it. False: nobody is listening any more, or there was no memory; then nothing has been put. */
bool stream_text(struct req *r, struct buf *text);

/* ---- json.c ------------------------------------------------------------------------------------------------------------------------ */

void json_start(void);

/* One member that a request body may have. */
struct json_member {
    const char *name;
    bool required;
    int64_t *number; /* a whole number goes here … */
    char *text;      /* … or a string here: */
    size_t text_size;
    int64_t min, max; /* of the number, or of the string's length in characters */
};

/* Read the body as one JSON object with these members and no others. False: it has been refused. */
bool json_read(struct req *r, const struct json_member *members, size_t n);

/* A whole number. cJSON knows only doubles, which it prints, reads back and compares: a fifth of the instructions of GET /accounts/1. */
void json_add_integer(cJSON *object, const char *name, int64_t n);
cJSON *json_integer(int64_t n);

/* Add an item to a list. Takes it, even when memory is out and there is no list. */
void json_append(cJSON *list, cJSON *item);

/* Print it, without white space. Takes it. NULL: memory is out, and was perhaps out when it was put together. free() it. */
char *json_text(cJSON *json);

/* The same with a newline in place of the NUL, so that the shell prompt stays where it belongs: *len bytes. */
char *json_line(cJSON *json, size_t *len);

/* Answer with this JSON and a newline. Takes it. */
void respond_json(struct req *r, int status, cJSON *json);

/* A page of a list: adds "next" to `json`, and a Link field to the answer. `before` is the last id shown. */
void json_next(struct req *r, cJSON *json, const char *path, const char *query, int64_t limit, bool more, int64_t before);

/* ---- waits.c: waiting for the time, for a knock, for several things at once ------------------------------------------------------ */

struct waiter {
    struct op *op; /* NULL: not waiting */
    struct timer timer;
    int64_t key;
    uint32_t heard;            /* how many knocks there had been when it was last asked how things stand */
    LIST_ENTRY(waiter) beside; /* at the same door */
};

void waits_start(void);

/* Complete op at due_ns (on clock_ns()), or when somebody knocks at `key`, or when it is cut short: whichever is first. The
 * waiter lives in the request's state. `what`: "oven" or "timer". Key 0: nobody knocks there. With --blocking, in place. */
void wait_for(struct waiter *w, const char *what, int64_t key, int64_t due_ns, struct op *op);
void knock(int64_t key);
void knock_everywhere(void);

/* Before asking how things stand: a knock that comes while the answer is on its way is not lost, but ends the wait that follows at once. */
void wait_heed(struct waiter *w, int64_t key);

/* The same, and never in place: for those who only look on. */
void wait_on_loop(struct waiter *w, const char *what, int64_t key, int64_t due_ns, struct op *op);

/* A question to the database that many have at the same time, asked once. Whoever asks it first allocates what holds it, zeroed, and
 * begins it; at the end of the lap ask() gives it to the database, with &q->op. Everybody joins with an op of his own, looks at the
 * answer when that is done, and leaves; who leaves last (true) frees it. */
struct question {
    SLIST_ENTRY(question) gathered, beside;
    struct op op;
    int64_t key;
    void (*ask)(struct question *q);
    struct ops askers;
    unsigned refs;
};

/* One of this lap with this key, and the same in what else matters. NULL: nobody has asked it yet. */
struct question *question_find(int64_t key, bool (*same)(const struct question *q, const void *as), const void *as);
void question_begin(struct question *q, int64_t key, void (*ask)(struct question *q));
void question_join(struct question *q, struct op *op);
bool question_leave(struct question *q);

/* The fan-out: hand out any number of ops; when the last of them is done, `whole` is. */
struct all {
    struct op *whole;
    size_t left;
};

struct part {
    struct op op;
    struct all *all;
    void (*done)(struct part *part); /* called for each, as it completes; may add further parts. NULL: nothing */
};

void all_begin(struct all *all, const char *what, struct op *whole);
struct op *all_add(struct all *all, struct part *part, void (*done)(struct part *part));

/* ---- handlers ---------------------------------------------------------------------------------------------------------------------- */

#define TOKEN_LEN 43 /* 256 bits in base64url */
#define TOKEN_SIZE (TOKEN_LEN + 1)
void fresh_token(char text[TOKEN_SIZE], struct db_token *hashed);

void orders_start(void);
cJSON *order_json(const struct order *o, enum order_status status, int64_t now_ms);

/* When the database's calendar will show this instant, on the loop's clock. */
static inline int64_t ns_of(int64_t ms, struct db_instant now)
{
    return now.ns + (ms - now.ms) * NS_PER_MS;
}

size_t orders_baking(void); /* in the oven now, as far as this process has placed them */

/* The same for whoever comes to watch: call tell(b, to) for each, at most `max` of them. Each is in the recording from now on. */
struct baking {
    int64_t order_id, began_ns, due_ns; /* on clock_ns() */
    const char *what;
};
void oven_tell(void (*tell)(const struct baking *b, void *to), void *to, unsigned max);

const char *lane_state(const struct db_lane *l); /* in a word or two */
void loop_viewers_wake(void);                    /* somebody else's request has come: there is something to tell again */

/* What does not change while we run, and is asked for again and again: answered with its ETag, or with 304. */
struct page {
    const char *name, *type, *from, *end;
    char etag[ETAG_SIZE];
};

bool page_of_json(struct page *page, cJSON *json); /* printed once. Takes json. False: no memory */
void respond_unchanging(struct req *r, const struct page *page);
void respond_page(struct req *r, const struct page *page); /* and it asks nobody else's server for anything */

void get_page_file(struct req *r); /* the file of the live page that the path names; the page itself if it names none */

/* The host and port that the client used, so that what is printed can be pasted. */
#define ADDRESS_SIZE 300
void address_used(const struct req *r, char *text, size_t size);

#endif
