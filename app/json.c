/* json.c: JSON in and out. cJSON does the work; what it forgives is caught here first.
 *
 * cJSON takes what RFC 8259 does not (control bytes as white space, 01, 1., raw control bytes in strings, invalid UTF-8, names
 * that occur twice, numbers rounded to a double). A bank must not guess, so the bytes are looked over once before it sees them. */
#include "app/app.h"
#include "text/grammar.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 16

/* ---- memory ------------------------------------------------------------------------------------------------------------------------- */

/* cJSON leaves out what it has no memory for and goes on. So we count the failures ourselves: no answer with holes. */
static bool out_of_memory;

static void *counting_malloc(size_t size)
{
    void *at = malloc(size);

    if (!at) out_of_memory = true;
    return at;
}

/* Has cJSON run out of memory since the last time this was asked? */
static bool memory_failed(void)
{
    bool failed = out_of_memory;

    out_of_memory = false;
    return failed;
}

void json_start(void)
{
    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = counting_malloc, .free_fn = free});
}

/* ---- in --------------------------------------------------------------------------------------------------------------------------- */

/* What a look at the bytes of a JSON text finds. */
struct look {
    const char *p, *end;
    const char *wrong; /* no JSON: what is wrong */
    bool inexact;      /* JSON, but with a number that is not whole or beyond 2^53 */
};

static void look_at_string(struct look *l)
{
    struct utf8 utf8 = {0};

    for (; l->p < l->end && (utf8.left || *l->p != '"'); l->p++) {
        if (!utf8.left && (unsigned char)*l->p < 0x20) {
            l->wrong = "A string holds a raw control character.";
        } else if (!utf8.left && *l->p == '\\') {
            if (l->end - l->p >= 6 && memcmp(l->p, "\\u0000", 6) == 0) l->wrong = "A string holds the NUL character.";
            l->p++;
            if (l->p == l->end) return;
        }
        if (!l->wrong && !utf8_push(&utf8, *l->p)) l->wrong = "A string is not valid UTF-8.";
        if (l->wrong) return;
    }
    if (utf8.left) l->wrong = "A string is not valid UTF-8.";
    if (l->p < l->end) l->p++;
}

/* -? (0 | [1-9][0-9]*) and no more: every number in this service is whole. Exponents and fractions are JSON, but not exact. */
static void look_at_number(struct look *l)
{
    const char *digits = l->p + (*l->p == '-');
    const char *p = digits;

    while (p < l->end && is_digit(*p)) p++;
    if (p == digits || (*digits == '0' && p - digits > 1)) l->wrong = "A number is malformed.";
    if (p - digits > 16) l->inexact = true;
    if (p < l->end && *p == '.') {
        const char *fraction = ++p;
        while (p < l->end && is_digit(*p)) p++;
        if (p == fraction) l->wrong = "A number is malformed.";
        l->inexact = true;
    }
    if (p < l->end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < l->end && (*p == '+' || *p == '-')) p++;
        const char *exponent = p;
        while (p < l->end && is_digit(*p)) p++;
        if (p == exponent) l->wrong = "A number is malformed.";
        l->inexact = true;
    }
    l->p = p;
}

/* The tokens, but not how they follow each other: that is cJSON's part. */
static void look_over(struct look *l)
{
    int depth = 0;

    while (l->p < l->end && !l->wrong) {
        char c = *l->p;

        if (c == '"') {
            l->p++;
            look_at_string(l);
        } else if (c == '-' || is_digit(c)) {
            look_at_number(l);
        } else if (strchr(" \t\r\n{}[]:,abcdefghijklmnopqrstuvwxyz", c) && c) {
            if (c == '{' || c == '[') depth++;
            if (c == '}' || c == ']') depth--;
            if (depth > DEPTH_MAX) l->wrong = "It is nested deeper than 16 levels.";
            l->p++;
        } else {
            l->wrong = "It holds a byte that has no place in JSON.";
        }
    }
}

/* False: it has been refused. *json is to be deleted either way. */
static bool parse_body(struct req *r, cJSON **json)
{
    struct slice body = http_body(&r->msg);
    struct look look = {.p = body.at, .end = body.at + body.len};
    const char *end = body.at;

    if (body.len == 0) return refuse(r, PROBLEM_BAD_JSON, "The body is empty; a JSON object is wanted.");
    look_over(&look);
    if (look.wrong) return refuse(r, PROBLEM_BAD_JSON, "%s", look.wrong);
    *json = cJSON_ParseWithLengthOpts(body.at, body.len, &end, false);
    while (*json && end < body.at + body.len && strchr(" \t\r\n", *end)) end++;
    if (!*json && memory_failed()) return respond_problem(r, PROBLEM_NO_MEMORY, NULL);
    if (!*json || end != body.at + body.len)
        return refuse(r, PROBLEM_BAD_JSON, "It stops making sense at byte %zu.", (size_t)(end - body.at));
    if (look.inexact) return refuse(r, PROBLEM_INVALID_BODY, "Numbers here are whole, and not beyond 2^53.");
    return cJSON_IsObject(*json) || refuse(r, PROBLEM_INVALID_BODY, "A JSON object is wanted.");
}

/* Characters of UTF-8, or -1 if one of them is a control character (C0, DEL, C1). */
static int64_t count_characters(const char *text)
{
    int64_t count = 0;

    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0)) return -1;
        if ((*p & 0xc0) != 0x80) count++;
    }
    return count;
}

static bool read_number(struct req *r, const struct json_member *m, const cJSON *item)
{
    if (!cJSON_IsNumber(item)) return refuse(r, PROBLEM_INVALID_BODY, "\"%s\" must be a number.", m->name);
    if (item->valuedouble < (double)m->min || item->valuedouble > (double)m->max)
        return refuse(r, PROBLEM_INVALID_BODY, "\"%s\" must be from %lld to %lld.", m->name, (long long)m->min, (long long)m->max);
    *m->number = (int64_t)item->valuedouble;
    return true;
}

static bool read_text(struct req *r, const struct json_member *m, const cJSON *item)
{
    if (!cJSON_IsString(item)) return refuse(r, PROBLEM_INVALID_BODY, "\"%s\" must be a string.", m->name);
    int64_t count = count_characters(item->valuestring);
    if (count < 0) return refuse(r, PROBLEM_INVALID_BODY, "\"%s\" holds a control character.", m->name);
    if (count < m->min || count > m->max || strlen(item->valuestring) >= m->text_size)
        return refuse(r, PROBLEM_INVALID_BODY, "\"%s\" must have %lld to %lld characters.", m->name, (long long)m->min,
                      (long long)m->max);
    memcpy(m->text, item->valuestring, strlen(item->valuestring) + 1);
    return true;
}

/* As much of a name as an answer wants to repeat, without half a character at the end. */
static int shown(const char *name)
{
    size_t n = strnlen(name, 100);

    while (n && (name[n] & 0xc0) == 0x80) n--;
    return (int)n;
}

/* Unknown members and members that occur twice. Names are compared to the letter; cJSON's own look-up would not. */
static bool members_known(struct req *r, const struct json_member *members, size_t n, const cJSON *object)
{
    const cJSON *item;

    cJSON_ArrayForEach (item, object) {
        bool known = false;

        for (size_t i = 0; i < n && !known; i++) known = strcmp(item->string, members[i].name) == 0;
        if (!known) return refuse(r, PROBLEM_INVALID_BODY, "\"%.*s\" is not known here.", shown(item->string), item->string);
        for (const cJSON *other = item->next; other; other = other->next) {
            if (strcmp(item->string, other->string) == 0) return refuse(r, PROBLEM_BAD_JSON, "\"%s\" occurs twice.", item->string);
        }
    }
    return true;
}

bool json_read(struct req *r, const struct json_member *members, size_t n)
{
    cJSON *json = NULL;
    bool ok = parse_body(r, &json) && members_known(r, members, n, json);

    for (size_t i = 0; i < n && ok; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, members[i].name);

        if (item) ok = members[i].number ? read_number(r, &members[i], item) : read_text(r, &members[i], item);
        else if (members[i].required) ok = refuse(r, PROBLEM_INVALID_BODY, "\"%s\" is missing.", members[i].name);
    }
    cJSON_Delete(json);
    return ok;
}

/* ---- out --------------------------------------------------------------------------------------------------------------------------- */

/* Until the next one. */
static const char *digits(int64_t n)
{
    static char text[24];

    snprintf(text, sizeof text, "%" PRId64, n);
    return text;
}

void json_add_integer(cJSON *object, const char *name, int64_t n)
{
    cJSON_AddRawToObject(object, name, digits(n));
}

cJSON *json_integer(int64_t n)
{
    return cJSON_CreateRaw(digits(n));
}

void json_append(cJSON *list, cJSON *item)
{
    if (!cJSON_AddItemToArray(list, item)) cJSON_Delete(item); /* cJSON would let it leak */
}

char *json_text(cJSON *json)
{
    char *text = json ? cJSON_PrintBuffered(json, 512, false) : NULL;

    cJSON_Delete(json);
    if (!memory_failed()) return text;
    cJSON_free(text);
    return NULL;
}

char *json_line(cJSON *json, size_t *len)
{
    char *text = json_text(json);

    if (!text) return NULL;
    *len = strlen(text) + 1;
    text[*len - 1] = '\n';
    return text;
}

void respond_json(struct req *r, int status, cJSON *json)
{
    size_t len;
    char *text = json_line(json, &len);

    if (!text) {
        respond_no_memory(r);
        return;
    }
    respond(r, status, status < 400 ? "application/json" : "application/problem+json", text, len);
    cJSON_free(text);
}

void json_next(struct req *r, cJSON *json, const char *path, const char *query, int64_t limit, bool more, int64_t before)
{
    char next[256];

    if (!more) {
        cJSON_AddNullToObject(json, "next");
        return;
    }
    snprintf(next, sizeof next, "%s?%slimit=%lld&before=%lld", path, query, (long long)limit, (long long)before);
    cJSON_AddStringToObject(json, "next", next);
    respond_field(r, "Link", "<%s>; rel=\"next\"", next);
}
