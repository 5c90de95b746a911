/* routes.c: the table of everything that can be asked for, the tiny router, and how to read the parts of a request that many
 * handlers want. */
#include "app.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* MEMBER: wants a token. JSON: wants a JSON body. LAB: not for strangers on a network. VIEWER: asked by whoever watches the
 * loop, for that purpose, and so not counted among what he watches. */
enum { OPEN = 0, MEMBER = 1, JSON = 2, LAB = 4, VIEWER = 8 };

#define STEP(fn) fn, #fn

static const struct route {
    enum http_method method;
    const char *pattern; /* {id}: a number; {name}: anything that is not empty */
    step_fn *handler;
    const char *name; /* the handler's, as the log and the page call it */
    int wants;
} routes[] = {
    {HTTP_GET, "/healthz", STEP(get_healthz), OPEN},
    {HTTP_GET, "/", STEP(get_front), VIEWER},

    {HTTP_POST, "/accounts", STEP(post_account), JSON},
    {HTTP_GET, "/accounts/{id}", STEP(get_account), MEMBER},
    {HTTP_GET, "/accounts/{id}/entries", STEP(get_entries), MEMBER},
    {HTTP_POST, "/transfers", STEP(post_transfer), MEMBER | JSON},

    {HTTP_GET, "/menu", STEP(get_menu), OPEN},
    {HTTP_POST, "/orders", STEP(post_order), MEMBER | JSON},
    {HTTP_GET, "/orders", STEP(get_orders), MEMBER},
    {HTTP_GET, "/orders/events", STEP(get_order_events), MEMBER},
    {HTTP_GET, "/orders/{id}", STEP(get_order), MEMBER},
    {HTTP_DELETE, "/orders/{id}", STEP(delete_order), MEMBER},

    {HTTP_GET, "/orders/{id}/delivery", STEP(get_delivery), MEMBER},
    {HTTP_GET, "/courier/quote", STEP(get_courier_quote), OPEN},

    {HTTP_GET, "/lab/timer", STEP(get_lab_timer), LAB},
    {HTTP_GET, "/lab/thread", STEP(get_lab_thread), LAB},
    {HTTP_GET, "/lab/socket", STEP(get_lab_socket), LAB},
    {HTTP_GET, "/lab/block", STEP(get_lab_block), LAB},
    {HTTP_GET, "/lab/lost-update", STEP(get_lab_lost_update), LAB},

    {HTTP_GET, "/loop", STEP(get_loop), LAB | VIEWER},
    {HTTP_GET, "/loop/events", STEP(get_loop_events), LAB | VIEWER},
    {HTTP_GET, "/page.js", STEP(get_page_js), VIEWER},
    {HTTP_GET, "/words.js", STEP(get_words_js), VIEWER},
    {HTTP_GET, "/page.css", STEP(get_page_css), VIEWER},

    {HTTP_GET, "/readyz", STEP(get_readyz), OPEN},
    {HTTP_GET, "/metrics", STEP(get_metrics), OPEN},
    {HTTP_GET, "/openapi.json", STEP(get_openapi), OPEN},
    {HTTP_GET, "/problems", STEP(get_problems), OPEN},
    {HTTP_GET, "/problems/{name}", STEP(get_problem), OPEN},
};

#define ROUTES (sizeof routes / sizeof *routes)

const struct options *app_options;
static bool lab_open;

bool app_start(const struct options *options, char *error, size_t error_size)
{
    const struct db_options db = {
        .path = options->db_path, .blocking = options->blocking, .group_max = options->group_max, .hurried = loop_heeded};

    app_options = options;
    if (sodium_init() < 0) {
        snprintf(error, error_size, "libsodium cannot start: is there no source of random numbers?");
        return false;
    }
    json_start();
    waits_start(options->blocking);
    orders_start();
    pages_start();
    return db_open(&db, error, error_size) == 0;
}

bool app_listening(const char *own_url, const char *own_door, bool loopback, char *error, size_t error_size)
{
    const char *courier = app_options->courier;

    lab_open = app_options->lab == LAB_ON || (app_options->lab == LAB_ON_LOOPBACK && loopback);
    return upstream_open(courier ? courier : own_door, app_options->blocking, error, error_size);
}

bool app_is_calling(const struct sockaddr_in *from)
{
    return upstream_is_calling(from);
}

void app_stop(void)
{
    upstream_close();
    db_close();
}

int app_audit(const char *path)
{
    return db_audit(path, stdout);
}

/* ---- the tiny router ------------------------------------------------------------------------------------------------------------- */

static int hex_value(char c)
{
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* The next byte of a path, decoded. *literal: it stood there as it is, so a '/' separates segments. The parser has seen to it
 * that escapes are complete, valid UTF-8 and never NUL. */
static char next_byte(struct slice *path, bool *literal)
{
    char c = path->at[0];

    *literal = c != '%';
    if (!*literal) c = (char)(hex_value(path->at[1]) << 4 | hex_value(path->at[2]));
    path->at += *literal ? 1 : 3;
    path->len -= *literal ? 1 : 3;
    return c;
}

/* Take one segment off the path, decoded. False: it is empty, or longer than any that we know. */
static bool take_segment(struct slice *path, char *segment, size_t size)
{
    size_t n = 0;

    while (path->len && path->at[0] != '/') {
        bool literal;

        if (n + 1 == size) return false;
        segment[n++] = next_byte(path, &literal);
    }
    segment[n] = '\0';
    return n > 0;
}

static bool is_number(const char *text)
{
    return text[strspn(text, "0123456789")] == '\0' && text[0] != '0';
}

static bool matches(const char *pattern, struct slice path, char param[sizeof((struct req *)0)->param])
{
    while (*pattern) {
        bool literal;

        if (*pattern == '{') {
            if (!take_segment(&path, param, sizeof((struct req *)0)->param)) return false;
            if (pattern[1] == 'i' && !is_number(param)) return false;
            pattern = strchr(pattern, '}') + 1;
            continue;
        }
        if (!path.len) return false;
        char c = next_byte(&path, &literal);
        if (c != *pattern++ || (c == '/' && !literal)) return false;
    }
    return path.len == 0;
}

/* "OPTIONS *" is about no path at all; and a lab that is closed is not there. */
static bool fits(const struct route *route, const struct req *r, char param[sizeof r->param])
{
    return !r->msg.asterisk && (!(route->wants & LAB) || lab_open) && matches(route->pattern, http_path(&r->msg), param);
}

static bool method_fits(const struct route *route, enum http_method method)
{
    return route->method == method || (route->method == HTTP_GET && method == HTTP_HEAD);
}

/* What may be done with this path, for Allow. Empty: there is no such path. */
static void allowed_methods(const struct req *r, char *text, size_t size)
{
    static const char *const names[] = {[HTTP_GET] = "GET, HEAD", [HTTP_POST] = "POST", [HTTP_DELETE] = "DELETE"};
    char param[sizeof r->param];

    text[0] = '\0';
    for (size_t i = 0; i < ROUTES; i++) {
        size_t n = strlen(text);

        if ((r->msg.asterisk || fits(&routes[i], r, param)) && !strstr(text, names[routes[i].method]))
            snprintf(text + n, size - n, "%s, ", names[routes[i].method]);
    }
    size_t n = strlen(text);
    if (n) snprintf(text + n, size - n, "OPTIONS");
}

/* ---- refusals: what is wrong can be seen from the head alone ------------------------------------------------------------------------ */

static void refuse_malformed(struct req *r)
{
    respond_parse_problem(r);
}

static void refuse_expectation(struct req *r)
{
    respond_problem(r, PROBLEM_EXPECTATION, NULL);
}

static void refuse_method(struct req *r)
{
    respond_problem(r, PROBLEM_UNKNOWN_METHOD, "%.*s is not known here.", (int)http_method_text(&r->msg).len,
                    http_method_text(&r->msg).at);
}

static void refuse_path(struct req *r)
{
    char allow[64];

    allowed_methods(r, allow, sizeof allow);
    if (!allow[0]) {
        respond_problem(r, PROBLEM_NOT_FOUND, "There is nothing at this path. GET / lists what there is.");
        return;
    }
    respond_field(r, "Allow", "%s", allow);
    if (r->msg.method == HTTP_OPTIONS) respond(r, 204, NULL, NULL, 0);
    else respond_problem(r, PROBLEM_METHOD_NOT_ALLOWED, "This path takes %s.", allow);
}

static void refuse_stranger(struct req *r)
{
    bool has_token = http_field(&r->msg, "authorization").at != NULL;

    respond_problem(r, has_token ? PROBLEM_INVALID_TOKEN : PROBLEM_UNAUTHORIZED, NULL);
}

static void refuse_media_type(struct req *r)
{
    respond_problem(r, PROBLEM_MEDIA_TYPE, "The body must be JSON and say so. With curl, add: -H 'Content-Type: application/json'");
}

static step_fn *refused(struct req *r, step_fn *step, const char *name)
{
    r->refused = true;
    r->step_name = name;
    return step;
}

/* "Bearer TOKEN", RFC 6750 2.1. Absent if it is anything else. */
static struct slice bearer(const struct req *r)
{
    struct slice value = http_field(&r->msg, "authorization");

    if (value.len != 7 + TOKEN_LEN || !slice_is_nocase((struct slice){value.at, 7}, "Bearer ")) return (struct slice){0};
    return (struct slice){value.at + 7, TOKEN_LEN};
}

/* application/json, perhaps with charset=utf-8 (RFC 9110 8.3.1). A request without a body needs none. */
static bool is_json(const struct req *r)
{
    struct slice type = http_field(&r->msg, "content-type"), rest;
    const char *semicolon = type.at ? memchr(type.at, ';', type.len) : NULL;

    if (!type.at) return r->msg.phase == HTTP_DONE && http_body(&r->msg).len == 0;
    rest = semicolon ? (struct slice){semicolon + 1, type.len - (size_t)(semicolon + 1 - type.at)} : (struct slice){0};
    if (semicolon) type.len = (size_t)(semicolon - type.at);
    rest = slice_trim(rest);
    return slice_is_nocase(slice_trim(type), "application/json") &&
           (!rest.len || slice_is_nocase(rest, "charset=utf-8") || slice_is_nocase(rest, "charset=\"utf-8\""));
}

step_fn *app_route(struct req *r)
{
    const struct route *route = NULL;

    if (r->msg.phase == HTTP_FAILED) return refused(r, STEP(refuse_malformed));
    if (r->msg.expect_unknown) return refused(r, STEP(refuse_expectation));
    if (r->msg.method == HTTP_OTHER || r->msg.method == HTTP_CONNECT) return refused(r, STEP(refuse_method));
    for (size_t i = 0; i < ROUTES && !route; i++) {
        if (method_fits(&routes[i], r->msg.method) && fits(&routes[i], r, r->param)) route = &routes[i];
    }
    if (!route) return refused(r, STEP(refuse_path));
    r->route = route->pattern;
    r->step_name = route->name;
    r->viewer = route->wants & VIEWER;
    if (route->wants & MEMBER && !bearer(r).at) return refused(r, STEP(refuse_stranger));
    if (route->wants & JSON && !is_json(r)) return refused(r, STEP(refuse_media_type));
    return route->handler;
}

/* ---- reading what many handlers want ---------------------------------------------------------------------------------------------------- */

struct db_token bearer_token(const struct req *r)
{
    struct slice token = bearer(r);
    struct db_token hashed = {0};

    if (token.at) crypto_generichash(hashed.hash, sizeof hashed.hash, (const unsigned char *)token.at, token.len, NULL, 0);
    return hashed;
}

int64_t param_id(const struct req *r)
{
    return strtoll(r->param, NULL, 10); /* overflows to INT64_MAX, which is nobody's */
}

struct slice query_param(const struct req *r, const char *name)
{
    struct slice query = http_query(&r->msg);
    size_t n = strlen(name);

    while (query.len) {
        const char *end = memchr(query.at, '&', query.len);
        size_t len = end ? (size_t)(end - query.at) : query.len;

        if (len > n && query.at[n] == '=' && memcmp(query.at, name, n) == 0) return (struct slice){query.at + n + 1, len - n - 1};
        if (end) len++;
        query.at += len;
        query.len -= len;
    }
    return (struct slice){0};
}

/* Digits and nothing else; -1 for anything that is no number, INT64_MAX for what is beyond all numbers. */
static int64_t whole_number(struct slice s)
{
    int64_t n = 0;

    if (!s.len) return -1;
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] < '0' || s.at[i] > '9') return -1;
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, s.at[i] - '0', &n)) n = INT64_MAX;
    }
    return n;
}

bool query_number(struct req *r, const char *name, int64_t fallback, int64_t min, int64_t max, int64_t *out)
{
    struct slice value = query_param(r, name);

    *out = value.at ? whole_number(value) : fallback;
    if (!value.at || (*out >= min && *out <= max)) return true;
    refuse(r, PROBLEM_BAD_PARAMETER, "\"%s\" must be a whole number from %lld to %lld.", name, (long long)min, (long long)max);
    return false;
}

/* What "wait" is set to by one preference, which may be quoted and have parameters of its own: wait=5; x="y" (RFC 7240 2). Absent
 * if it is another preference. */
static struct slice wait_value(struct slice preference)
{
    const char *semicolon = memchr(preference.at, ';', preference.len), *equals;
    struct slice value;

    if (semicolon) preference.len = (size_t)(semicolon - preference.at);
    equals = memchr(preference.at, '=', preference.len);
    if (!equals || !slice_is_nocase(slice_trim((struct slice){preference.at, (size_t)(equals - preference.at)}), "wait"))
        return (struct slice){0};
    value = slice_trim((struct slice){equals + 1, preference.len - (size_t)(equals + 1 - preference.at)});
    if (value.len >= 2 && value.at[0] == '"' && value.at[value.len - 1] == '"') value.at++, value.len -= 2;
    return value;
}

/* The first one counts, and what cannot be honoured is ignored (RFC 7240 2). */
int64_t prefer_wait(const struct req *r)
{
    struct slice list, preference;
    unsigned i = 0;

    while (http_next_field(&r->msg, "prefer", &i, &list)) {
        while (slice_next_element(&list, &preference)) {
            struct slice value = wait_value(preference);
            int64_t seconds = whole_number(value);

            if (value.at) return seconds > PREFER_WAIT_MAX ? PREFER_WAIT_MAX : seconds;
        }
    }
    return -1;
}

void etag_make(char etag[ETAG_SIZE], const char *text, size_t len)
{
    unsigned char hash[16];
    char hex[17];

    crypto_generichash(hash, sizeof hash, (const unsigned char *)text, len, NULL, 0);
    sodium_bin2hex(hex, sizeof hex, hash, 8);
    snprintf(etag, ETAG_SIZE, "\"%s\"", hex);
}

bool etag_matches(const struct req *r, const char *etag)
{
    struct slice list, tag;
    unsigned i = 0;

    while (http_next_field(&r->msg, "if-none-match", &i, &list)) {
        while (slice_next_element(&list, &tag)) {
            if (tag.len > 2 && memcmp(tag.at, "W/", 2) == 0) tag.at += 2, tag.len -= 2; /* weak comparison, RFC 9110 8.8.3.2 */
            if (slice_is(tag, etag) || slice_is(tag, "*")) return true;
        }
    }
    return false;
}

/* How much a media range of Accept wants a type: its quality in thousandths, RFC 9110 12.5.1. */
static int quality(struct slice range)
{
    const char *q = memmem(range.at, range.len, "q=", 2);
    int thousandths = 0, digit = 1000;

    if (!q) return 1000;
    for (q += 2; q < range.at + range.len && digit; q++) {
        if (*q == '.') continue;
        if (*q < '0' || *q > '9') break;
        thousandths += (*q - '0') * digit;
        digit /= 10;
    }
    return thousandths;
}

bool prefers_html(const struct req *r)
{
    struct slice list = http_field(&r->msg, "accept"), range;
    int html = 0, plain = 0;

    while (slice_next_element(&list, &range)) {
        const char *semicolon = memchr(range.at, ';', range.len);
        struct slice type = slice_trim((struct slice){range.at, semicolon ? (size_t)(semicolon - range.at) : range.len});

        if (slice_is_nocase(type, "text/html")) html = quality(range);
        if (slice_is_nocase(type, "text/plain")) plain = quality(range);
    }
    return html > plain;
}

bool idempotency_key(struct req *r, bool required, struct db_key *key)
{
    struct slice value, second, method = http_method_text(&r->msg), path = http_path(&r->msg), body = http_body(&r->msg);
    crypto_generichash_state hash;
    unsigned i = 0;

    if (!http_next_field(&r->msg, "idempotency-key", &i, &value)) {
        if (required) refuse(r, PROBLEM_KEY_REQUIRED, NULL);
        return !required;
    }
    bool usable = value.len >= 1 && value.len <= DB_KEY_MAX && !http_next_field(&r->msg, "idempotency-key", &i, &second);
    for (size_t at = 0; at < value.len && usable; at++) usable = value.at[at] > 0x20 && value.at[at] < 0x7f;
    if (!usable) {
        refuse(r, PROBLEM_BAD_KEY, NULL);
        return false;
    }
    key->given = true;
    memcpy(key->text, value.at, value.len);
    key->text[value.len] = '\0';
    /* What makes it the same request: method, path and body, to the byte. */
    crypto_generichash_init(&hash, NULL, 0, sizeof key->fingerprint);
    crypto_generichash_update(&hash, (const unsigned char *)method.at, method.len);
    crypto_generichash_update(&hash, (const unsigned char *)" ", 1);
    crypto_generichash_update(&hash, (const unsigned char *)path.at, path.len);
    crypto_generichash_update(&hash, (const unsigned char *)" ", 1);
    crypto_generichash_update(&hash, (const unsigned char *)body.at, body.len);
    crypto_generichash_final(&hash, key->fingerprint, sizeof key->fingerprint);
    return true;
}
