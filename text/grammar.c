/* grammar.c: which bytes may stand where, as pure functions of a slice. No state, no message, no verdict on it. */
#include "text/grammar.h"

#include <arpa/inet.h>
#include <endian.h>
#include <string.h>
#include <strings.h>

enum {
    TOKEN = 1,        /* RFC 9110 5.6.2 */
    URI = 2,          /* may stand in a target as it is: pchar and '/', but not '?' and '%', which mean something; RFC 3986 3.3 */
    NAME = 4,         /* may stand in the name of a host: unreserved and sub-delims, RFC 3986 3.2.2 */
    UPPER = 'a' - 'A' /* the bit that puts it in lower case */
};

/* clang-format off */
static const uint8_t byte_class[256] = {
    ['A' ... 'Z'] = TOKEN | URI | NAME | UPPER, ['a' ... 'z'] = TOKEN | URI | NAME, ['0' ... '9'] = TOKEN | URI | NAME,
    ['!'] = TOKEN | URI | NAME, ['$'] = TOKEN | URI | NAME, ['&'] = TOKEN | URI | NAME, ['\''] = TOKEN | URI | NAME,
    ['*'] = TOKEN | URI | NAME, ['+'] = TOKEN | URI | NAME, ['-'] = TOKEN | URI | NAME, ['.'] = TOKEN | URI | NAME,
    ['_'] = TOKEN | URI | NAME, ['~'] = TOKEN | URI | NAME,
    ['#'] = TOKEN, ['%'] = TOKEN, ['^'] = TOKEN, ['`'] = TOKEN, ['|'] = TOKEN,
    ['('] = URI | NAME, [')'] = URI | NAME, [','] = URI | NAME, [';'] = URI | NAME, ['='] = URI | NAME,
    [':'] = URI, ['@'] = URI, ['/'] = URI,
};
/* clang-format on */

static bool is_a(char c, uint8_t class)
{
    return byte_class[(unsigned char)c] & class;
}

/* ---- bytes and numbers --------------------------------------------------------------------------------------------------- */

int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool whole_number(struct slice s, uint64_t *n)
{
    *n = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (!is_digit(s.at[i])) return false;
        if (__builtin_mul_overflow(*n, 10, n) || __builtin_add_overflow(*n, s.at[i] - '0', n)) *n = UINT64_MAX;
    }
    return s.len > 0;
}

/* VCHAR, obs-text, SP and HTAB. */
static bool is_text(char c)
{
    return c == '\t' || ((unsigned char)c >= ' ' && c != 0x7f);
}

/* Eight at a time, for all bytes of a head pass here. */
size_t copy_text(char *to, const char *from, size_t n)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones * 0x80;
    size_t i = 0;

    while (n - i >= 8) {
        uint64_t word;

        memcpy(&word, from + i, 8);
        memcpy(to + i, &word, 8);
        word = le64toh(word);
        /* The high bit of each byte: DEL, or below SP. A borrow can only make more of them behind the first. */
        uint64_t control = (((word & ~highs) + ones) | (word - ones * 0x20)) & ~word & highs;
        if (!control) {
            i += 8;
            continue;
        }
        i += (size_t)__builtin_ctzll(control) / 8;
        if (from[i] != '\t') return i;
        to[i++] = '\t';
    }
    for (; i < n && is_text(from[i]); i++) to[i] = from[i];
    return i;
}

/* ---- characters ---------------------------------------------------------------------------------------------------------- */

bool utf8_push(struct utf8 *u, char byte)
{
    unsigned char c = (unsigned char)byte;

    if (u->left) {
        if (c < u->low || c > u->high) return false;
        *u = (struct utf8){.left = u->left - 1, .low = 0x80, .high = 0xbf};
        return true;
    }
    if (c < 0x80) return true;
    if (c < 0xc2 || c > 0xf4) return false;
    u->left = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    u->low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    u->high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    return true;
}

int percent_value(struct slice s)
{
    int high, low;

    if (s.len < 3 || s.at[0] != '%' || (high = hex_value(s.at[1])) < 0 || (low = hex_value(s.at[2])) < 0) return -1;
    return high << 4 | low;
}

/* ---- taking a slice apart ------------------------------------------------------------------------------------------------ */

static struct slice take(struct slice *s, size_t n)
{
    struct slice taken = {s->at, n};

    s->at += n;
    s->len -= n;
    return taken;
}

struct slice take_until(struct slice *s, char c)
{
    const char *found = s->len ? memchr(s->at, c, s->len) : NULL;
    struct slice taken = take(s, found ? (size_t)(found - s->at) : s->len);

    if (found) take(s, 1);
    return taken;
}

struct slice take_token(struct slice *s)
{
    size_t n = 0;

    while (n < s->len && is_a(s->at[n], TOKEN)) n++;
    return take(s, n);
}

size_t lower_token(char *at, size_t n)
{
    size_t i = 0;

    for (uint8_t class; i < n && (class = byte_class[(unsigned char)at[i]]) & TOKEN; i++) at[i] |= (char)(class & UPPER);
    return i;
}

struct slice slice_trim(struct slice s)
{
    while (s.len && is_blank(s.at[0])) s.at++, s.len--;
    while (s.len && is_blank(s.at[s.len - 1])) s.len--;
    return s;
}

bool slice_next_element(struct slice *list, struct slice *element)
{
    while (list->len) {
        *element = slice_trim(take_until(list, ','));
        if (element->len) return true;
    }
    return false;
}

/* ---- the target of a request, and whom it is for --------------------------------------------------------------------------- */

/* What stands between the brackets, RFC 3986 3.2.2. */
static bool ip_literal_valid(struct slice s)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;

    if (s.len > 1 && (s.at[0] == 'v' || s.at[0] == 'V')) {
        size_t i = 1;

        while (i < s.len && hex_value(s.at[i]) >= 0) i++;
        if (i == 1 || i + 1 >= s.len || s.at[i] != '.') return false;
        for (i++; i < s.len; i++) {
            if (s.at[i] != ':' && !is_a(s.at[i], NAME)) return false;
        }
        return true;
    }
    if (s.len >= sizeof text || memchr(s.at, '\0', s.len)) return false;
    memcpy(text, s.at, s.len);
    text[s.len] = '\0';
    return inet_pton(AF_INET6, text, &address) == 1;
}

/* How many of its bytes are a name, escapes included, RFC 3986 3.2.2. Userinfo has no place in it: '@' is not of a name. */
static size_t reg_name_len(struct slice s)
{
    size_t n = 0;

    while (n < s.len) {
        if (is_a(s.at[n], NAME)) n++;
        else if (percent_value((struct slice){s.at + n, s.len - n}) >= 0) n += 3;
        else break;
    }
    return n;
}

bool authority_read(struct slice s, struct authority *a)
{
    const char *close = s.len && s.at[0] == '[' ? memchr(s.at, ']', s.len) : NULL;
    uint64_t port;

    if (close && !ip_literal_valid((struct slice){s.at + 1, (size_t)(close - s.at - 1)})) return false;
    a->host = take(&s, close ? (size_t)(close + 1 - s.at) : reg_name_len(s));
    if (a->host.len == 0) return false; /* RFC 9110 4.2.1: an http URI with an empty host is invalid */
    a->port = s;
    if (s.len == 0) return true;
    if (!take_byte(&a->port, ':')) return false;
    return a->port.len == 0 || (whole_number(a->port, &port) && port <= 65535);
}

/* One character of percent-escapes, at p. NULL: all is well, and p is behind it. */
static const char *escapes_wrong(const char **p, const char *end)
{
    struct utf8 utf8 = {0};

    do {
        int byte = percent_value((struct slice){*p, (size_t)(end - *p)});

        if (byte < 0) return "A percent sign in the target is not followed by two hexadecimal digits.";
        if (byte == 0 || !utf8_push(&utf8, (char)byte)) return "A percent-escape in the target is NUL or not valid UTF-8.";
        *p += 3;
    } while (utf8.left && *p < end && **p == '%');
    return utf8.left ? "A percent-escape in the target is not valid UTF-8." : NULL;
}

const char *take_target(struct slice *s, struct target *t)
{
    const char *p = s->at, *end = p + s->len, *query = NULL, *wrong;

    *t = (struct target){0};
    while (p < end) {
        if (is_a(*p, URI)) {
            p++;
        } else if (*p == '%') {
            if ((wrong = escapes_wrong(&p, end)) != NULL) return wrong;
        } else if (*p == '?') {
            p++;
            if (!query) query = p;
        } else if ((*p == '[' || *p == ']') && !query) {
            t->bracket = p++;
        } else {
            break;
        }
    }
    t->whole = take(s, (size_t)(p - s->at));
    t->path = (struct slice){t->whole.at, query ? (size_t)(query - 1 - t->whole.at) : t->whole.len};
    if (query) t->query = (struct slice){query, (size_t)(p - query)};
    return NULL;
}

bool target_is_absolute(struct target *t)
{
    struct slice rest = t->path;
    struct authority a;

    if (rest.len < 8 || strncasecmp(take(&rest, 7).at, "http://", 7) != 0) return false; /* another scheme is somebody else's */
    const char *slash = memchr(rest.at, '/', rest.len);
    t->host = take(&rest, slash ? (size_t)(slash - rest.at) : rest.len);
    t->path = rest;
    return authority_read(t->host, &a) && (!t->bracket || t->bracket < rest.at);
}

/* ---- what only HTTP has ---------------------------------------------------------------------------------------------------- */

bool take_version(struct slice *s, int *major, int *minor)
{
    if (s->len < 8 || memcmp(s->at, "HTTP/", 5) != 0 || !is_digit(s->at[5]) || s->at[6] != '.' || !is_digit(s->at[7])) return false;
    *major = s->at[5] - '0';
    *minor = s->at[7] - '0';
    take(s, 8);
    return true;
}

/* RFC 9110 5.6.4. The same may stand between the quotes, and behind a backslash there. */
static bool take_quoted_string(struct slice *s)
{
    if (!take_byte(s, '"')) return false;
    while (!take_byte(s, '"')) {
        take_byte(s, '\\');
        if (!s->len || !is_text(take(s, 1).at[0])) return false;
    }
    return true;
}

bool chunk_extensions_valid(struct slice s)
{
    do {
        if (take_token(&s).len == 0) return false;
        if (take_byte(&s, '=') && take_token(&s).len == 0 && !take_quoted_string(&s)) return false;
    } while (take_byte(&s, ';'));
    return s.len == 0;
}

bool trailer_forbidden(struct slice name)
{
    struct slice list = SLICE("authorization, cache-control, connection, content-encoding, content-length, content-range, "
                              "content-type, cookie, expect, host, idempotency-key, keep-alive, max-forwards, pragma, prefer, "
                              "proxy-authenticate, proxy-authorization, range, set-cookie, te, trailer, transfer-encoding, "
                              "upgrade, www-authenticate");
    struct slice forbidden;

    while (slice_next_element(&list, &forbidden)) {
        if (slice_same(name, forbidden)) return true;
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
        if (!is_digit(s.at[i])) return -1;
        thousandths += (s.at[i] - '0') * digit;
        digit /= 10;
    }
    return thousandths <= 1000 ? thousandths : -1;
}

static int range_exactness(struct slice range, const char *type)
{
    size_t n = strcspn(type, "/") + 1;

    if (slice_is_nocase(range, type)) return 3;
    if (range.len == n + 1 && range.at[n] == '*' && strncasecmp(range.at, type, n) == 0) return 2;
    return slice_is(range, "*/*");
}

void accept_read(struct slice line, const char *type, struct wish *wish)
{
    struct slice element;

    while (slice_next_element(&line, &element)) {
        int exactness = range_exactness(slice_trim(take_until(&element, ';')), type), quality = 1000;

        while (element.len) {
            struct slice parameter = slice_trim(take_until(&element, ';'));
            if (parameter.len > 1 && strncasecmp(parameter.at, "q=", 2) == 0)
                quality = weight((struct slice){parameter.at + 2, parameter.len - 2});
        }
        if (!exactness || quality < 0 || exactness < wish->exactness) continue;
        if (exactness > wish->exactness || quality > wish->quality) wish->quality = quality;
        wish->exactness = exactness;
    }
}

struct slice preference(struct slice line, const char *name)
{
    struct slice element;

    while (slice_next_element(&line, &element)) {
        struct slice value = take_until(&element, ';'); /* what follows is parameters of its own */

        if (!slice_is_nocase(slice_trim(take_until(&value, '=')), name)) continue;
        value = slice_trim(value);
        if (value.len >= 2 && value.at[0] == '"' && value.at[value.len - 1] == '"') value.at++, value.len -= 2;
        return value;
    }
    return (struct slice){0};
}
