/* asked.c: what a request says beside its method and its path, for all handlers: whose it is, its query, its preferences. */
#include "app/app.h"
#include "text/grammar.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct slice bearer(const struct req *r)
{
    struct slice value = http_field(&r->msg, "authorization");

    if (value.len != 7 + TOKEN_LEN || !slice_is_nocase((struct slice){value.at, 7}, "Bearer ")) return (struct slice){0};
    return (struct slice){value.at + 7, TOKEN_LEN};
}

struct db_token bearer_token(const struct req *r)
{
    struct slice token = bearer(r);
    struct db_token hashed = {0};

    if (token.at) crypto_generichash(hashed.hash, sizeof hashed.hash, (const unsigned char *)token.at, token.len, NULL, 0);
    return hashed;
}

int64_t param_id(const struct req *r)
{
    if (r->param[0] == '0') return INT64_MAX; /* an id has one spelling: 0, 00 and 007 are nobody's, */
    return strtoll(r->param, NULL, 10);       /* and so is INT64_MAX, to which this overflows */
}

/* ---- the query ------------------------------------------------------------------------------------------------------------------------- */

/* Take the next parameter off a query string, still encoded. False when there is none. */
static bool next_parameter(struct slice *query, struct slice *name, struct slice *value)
{
    while (query->len) {
        *value = take_until(query, '&');
        if (!value->len) continue;
        *name = take_until(value, '=');
        return true;
    }
    return false;
}

struct slice wrong_parameter(const struct req *r, const char *taken, bool *unknown)
{
    struct slice query = http_query(&r->msg), name, value;

    for (unsigned seen = 0; next_parameter(&query, &name, &value);) {
        struct slice list = {taken, strlen(taken)}, known;
        unsigned bit = 1;

        *unknown = true;
        while (*unknown && slice_next_element(&list, &known)) {
            *unknown = !slice_same(known, name);
            if (*unknown) bit <<= 1;
        }
        if (*unknown || seen & bit) return name;
        seen |= bit;
    }
    return (struct slice){0};
}

struct slice query_param(const struct req *r, const char *name)
{
    struct slice query = http_query(&r->msg), this, value;

    while (next_parameter(&query, &this, &value)) {
        if (slice_is(this, name)) return value;
    }
    return (struct slice){0};
}

bool query_number(struct req *r, const char *name, int64_t fallback, int64_t min, int64_t max, int64_t *out)
{
    struct slice value = query_param(r, name);
    uint64_t n = (uint64_t)fallback;

    if (value.at && (!whole_number(value, &n) || n < (uint64_t)min || n > (uint64_t)max))
        return refuse(r, PROBLEM_BAD_PARAMETER, "\"%s\" must be a whole number from %" PRId64 " to %" PRId64 ".", name, min, max);
    *out = (int64_t)n;
    return true;
}

/* What cannot be honoured is ignored (RFC 7240 2). */
int64_t prefer_wait(const struct req *r)
{
    struct slice line;
    unsigned i = 0;

    while (http_next_field(&r->msg, "prefer", &i, &line)) {
        struct slice value = preference(line, "wait");
        uint64_t seconds;

        if (value.at && !whole_number(value, &seconds)) break;
        if (value.at) return seconds > PREFER_WAIT_MAX ? PREFER_WAIT_MAX : (int64_t)seconds;
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

/* How much the client wants a media type, in thousandths. */
static int wanted(const struct req *r, const char *type)
{
    struct wish wish = {0};
    struct slice line;
    unsigned i = 0;

    while (http_next_field(&r->msg, "accept", &i, &line)) accept_read(line, type, &wish);
    return wish.quality;
}

bool prefers(const struct req *r, const char *type, const char *other)
{
    return wanted(r, type) > wanted(r, other);
}

bool idempotency_key(struct req *r, bool required, struct db_key *key)
{
    /* What makes it the same request: method, path and body, to the byte. */
    const struct slice parts[] = {http_method_text(&r->msg), SLICE(" "), http_path(&r->msg), SLICE(" "), http_body(&r->msg)};
    struct slice value, second;
    crypto_generichash_state hash;
    unsigned i = 0;

    if (!http_next_field(&r->msg, "idempotency-key", &i, &value)) return !required || refuse(r, PROBLEM_KEY_REQUIRED, NULL);
    bool usable = value.len >= 1 && value.len <= DB_KEY_MAX && !http_next_field(&r->msg, "idempotency-key", &i, &second);
    for (size_t at = 0; at < value.len && usable; at++) usable = value.at[at] > 0x20 && value.at[at] < 0x7f;
    if (!usable) return refuse(r, PROBLEM_BAD_KEY, NULL);
    key->given = true;
    memcpy(key->text, value.at, value.len);
    key->text[value.len] = '\0';
    crypto_generichash_init(&hash, NULL, 0, sizeof key->fingerprint);
    for (size_t part = 0; part < sizeof parts / sizeof *parts; part++)
        crypto_generichash_update(&hash, (const unsigned char *)parts[part].at, parts[part].len);
    crypto_generichash_final(&hash, key->fingerprint, sizeof key->fingerprint);
    return true;
}
