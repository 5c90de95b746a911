/* asked.c: what a request says beside its method and its path, for all handlers: whose it is, its query, its preferences. */
#include "app/app.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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
        const char *end = memchr(query->at, '&', query->len);
        size_t len = end ? (size_t)(end - query->at) : query->len;
        const char *equals = memchr(query->at, '=', len);
        size_t name_len = equals ? (size_t)(equals - query->at) : len;

        *name = (struct slice){query->at, name_len};
        *value = (struct slice){query->at + name_len + (equals != NULL), len - name_len - (equals != NULL)};
        query->at += end ? len + 1 : len;
        query->len -= end ? len + 1 : len;
        if (len) return true;
    }
    return false;
}

static bool same(struct slice a, struct slice b)
{
    return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

struct slice wrong_parameter(const struct req *r, const char *taken, bool *unknown)
{
    struct slice query = http_query(&r->msg), name, value;

    for (unsigned seen = 0; next_parameter(&query, &name, &value);) {
        struct slice list = {taken, strlen(taken)}, known;
        unsigned bit = 1;

        *unknown = true;
        while (*unknown && slice_next_element(&list, &known)) {
            *unknown = !same(known, name);
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

/* A weight in thousandths, RFC 9110 12.4.2; -1: it is none. */
static int weight(struct slice s)
{
    int thousandths = 0, digit = 1000;

    if (!s.len || s.len > 5 || (s.len > 1 && s.at[1] != '.')) return -1;
    for (size_t i = 0; i < s.len; i++) {
        if (i == 1) continue;
        if (s.at[i] < '0' || s.at[i] > '9') return -1;
        thousandths += (s.at[i] - '0') * digit;
        digit /= 10;
    }
    return thousandths <= 1000 ? thousandths : -1;
}

/* Take what stands before the next semicolon off a list of parameters, trimmed. */
static struct slice next_part(struct slice *list)
{
    const char *semicolon = memchr(list->at, ';', list->len);
    size_t len = semicolon ? (size_t)(semicolon - list->at) : list->len;
    struct slice part = {list->at, len};

    if (semicolon) len++;
    list->at += len;
    list->len -= len;
    return slice_trim(part);
}

/* How exactly a media range speaks of a type: 3 by its name, 2 by the name of its kind and an asterisk, 1 by two, 0 not at all. */
static int range_fits(struct slice range, const char *type)
{
    size_t n = strcspn(type, "/") + 1;

    if (slice_is_nocase(range, type)) return 3;
    if (range.len == n + 1 && range.at[n] == '*' && strncasecmp(range.at, type, n) == 0) return 2;
    return slice_is(range, "*/*");
}

/* How much the client wants a type, in thousandths: what speaks of it most exactly counts (RFC 9110 12.5.1). What has a weight
 * that is none says nothing; parameters other than the weight are not looked at. */
static int wanted(const struct req *r, const char *type)
{
    struct slice list, element;
    int best = 0, quality = 0;
    unsigned i = 0;

    while (http_next_field(&r->msg, "accept", &i, &list)) {
        while (slice_next_element(&list, &element)) {
            int exact = range_fits(next_part(&element), type), q = 1000;

            while (element.len) {
                struct slice part = next_part(&element);
                if (part.len > 1 && strncasecmp(part.at, "q=", 2) == 0) q = weight((struct slice){part.at + 2, part.len - 2});
            }
            if (q < 0 || exact < best) continue;
            if (exact > best || q > quality) quality = q;
            best = exact;
        }
    }
    return best ? quality : 0;
}

bool prefers(const struct req *r, const char *type, const char *other)
{
    return wanted(r, type) > wanted(r, other);
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
