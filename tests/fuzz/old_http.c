/* old_http.c: the parser as it was when it went byte by byte, under another name, for fuzz_differ.c to compare with. */
#include "tests/fuzz/old_http.h"
#include "text/grammar.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool old_is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* ---- which byte may stand where ------------------------------------------------------------------------------------- */

/* clang-format off */
/* RFC 9110 5.6.2: token characters, each as its lower case; 0 for every other byte. */
static const char token_lower[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*', ['+'] = '+',
    ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`', ['|'] = '|', ['~'] = '~',
    ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6', ['7'] = '7',
    ['8'] = '8', ['9'] = '9',
    ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g', ['h'] = 'h',
    ['i'] = 'i', ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p',
    ['q'] = 'q', ['r'] = 'r', ['s'] = 's', ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w', ['x'] = 'x',
    ['y'] = 'y', ['z'] = 'z',
    ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd', ['E'] = 'e', ['F'] = 'f', ['G'] = 'g', ['H'] = 'h',
    ['I'] = 'i', ['J'] = 'j', ['K'] = 'k', ['L'] = 'l', ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p',
    ['Q'] = 'q', ['R'] = 'r', ['S'] = 's', ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x',
    ['Y'] = 'y', ['Z'] = 'z',
};

enum {
    URI_PLAIN = 1, /* may stand in a target as it is: pchar and '/', but not '?' and '%', which mean something */
    HOST_PLAIN = 2 /* may stand in a reg-name: unreserved and sub-delims */
};

/* RFC 3986 2.2, 2.3, 3.3. */
static const uint8_t uri_class[256] = {
    ['A' ... 'Z'] = URI_PLAIN | HOST_PLAIN, ['a' ... 'z'] = URI_PLAIN | HOST_PLAIN, ['0' ... '9'] = URI_PLAIN | HOST_PLAIN,
    ['-'] = URI_PLAIN | HOST_PLAIN, ['.'] = URI_PLAIN | HOST_PLAIN, ['_'] = URI_PLAIN | HOST_PLAIN,
    ['~'] = URI_PLAIN | HOST_PLAIN, ['!'] = URI_PLAIN | HOST_PLAIN, ['$'] = URI_PLAIN | HOST_PLAIN,
    ['&'] = URI_PLAIN | HOST_PLAIN, ['\''] = URI_PLAIN | HOST_PLAIN, ['('] = URI_PLAIN | HOST_PLAIN,
    [')'] = URI_PLAIN | HOST_PLAIN, ['*'] = URI_PLAIN | HOST_PLAIN, ['+'] = URI_PLAIN | HOST_PLAIN,
    [','] = URI_PLAIN | HOST_PLAIN, [';'] = URI_PLAIN | HOST_PLAIN, ['='] = URI_PLAIN | HOST_PLAIN,
    [':'] = URI_PLAIN, ['@'] = URI_PLAIN, ['/'] = URI_PLAIN,
};
/* clang-format on */

static int hex_digit(unsigned char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool old_is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

/* RFC 9110 5.5: VCHAR, obs-text, SP and HTAB. */
static bool is_value_byte(unsigned char c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

/* ---- a message and its memory --------------------------------------------------------------------------------------- */

/* clang-format off */
enum state {
    AT_START, START_LF, METHOD, TARGET, PERCENT_HIGH, PERCENT_LOW, VERSION, LINE_CR, LINE_LF, /* the request line … */
    STATUS_VERSION, STATUS_CODE, REASON,                                               /* … or the status line */
    FIELD_START, NAME, BEFORE_VALUE, VALUE, VALUE_LF, AFTER_VALUE, FOLD, END_LF,       /* fields, and trailers again */
    BODY, CHUNK_FIRST_DIGIT, CHUNK_SIZE, EXT_NAME_FIRST, EXT_NAME, EXT_VALUE_FIRST, EXT_TOKEN, EXT_QUOTED, EXT_ESCAPED,
    EXT_END, CHUNK_SIZE_LF, CHUNK_DATA, CHUNK_DATA_CR, CHUNK_DATA_LF
};
/* clang-format on */

/* Fields that may stand once: bits of old_http_message.once. */
enum { ONCE_HOST = 1, ONCE_LENGTH = 2, ONCE_ENCODING = 4, ONCE_TYPE = 8, ONCE_AUTHORIZATION = 16 };

#define TEXT_FIRST 512 /* holds the head of a curl request with a token */
#define TEXT_KEPT 2048 /* a message that grew larger gives its memory back */
#define FIELDS_FIRST 12

void old_http_begin(struct old_http_message *m, enum old_http_role role)
{
    char *text = m->text;
    struct old_http_field *fields = m->fields;
    uint32_t text_cap = m->text_cap;
    uint8_t fields_cap = m->fields_cap;

    if (text_cap > TEXT_KEPT) {
        free(text);
        text = NULL;
        text_cap = 0;
    }
    *m = (struct old_http_message){
        .role = role,
        .state = role == OLD_HTTP_REQUEST ? AT_START : STATUS_VERSION,
        .room = OLD_HTTP_LINE_MAX,
        .ext_room = OLD_HTTP_CHUNK_EXT_MAX,
        .body_limit = OLD_HTTP_BODY_MAX,
        .text = text,
        .text_cap = text_cap,
        .fields = fields,
        .fields_cap = fields_cap,
    };
}

void old_http_free(struct old_http_message *m)
{
    free(m->text);
    free(m->fields);
    *m = (struct old_http_message){0};
}

static bool fail(struct old_http_message *m, int status, const char *error)
{
    m->phase = OLD_HTTP_FAILED;
    m->status = status;
    m->error = error;
    m->keep_alive = false;
    return false;
}

static bool text_grow(struct old_http_message *m)
{
    size_t cap = m->text_cap ? 2 * (size_t)m->text_cap : TEXT_FIRST;
    char *text = cap <= UINT32_MAX ? realloc(m->text, cap) : NULL;

    if (!text) return fail(m, 503, "There is no memory for this message right now.");
    m->text = text;
    m->text_cap = (uint32_t)cap;
    return true;
}

static bool fields_push(struct old_http_message *m)
{
    if (m->fields_len == OLD_HTTP_FIELDS_COUNT) return fail(m, 431, "There are more than 100 header fields.");
    if (m->fields_len == m->fields_cap) {
        unsigned cap = m->fields_cap ? m->fields_cap * 3u : FIELDS_FIRST;
        struct old_http_field *fields;

        if (cap > OLD_HTTP_FIELDS_COUNT) cap = OLD_HTTP_FIELDS_COUNT;
        fields = realloc(m->fields, cap * sizeof *fields);
        if (!fields) return fail(m, 503, "There is no memory for this message right now.");
        m->fields = fields;
        m->fields_cap = (uint8_t)cap;
    }
    m->fields[m->fields_len++] = (struct old_http_field){.name = (uint16_t)m->name,
                                                         .name_len = (uint16_t)m->name_len,
                                                         .value = (uint16_t)m->value,
                                                         .value_len = (uint16_t)(m->text_len - m->value)};
    return true;
}

static struct slice text_slice(const struct old_http_message *m, uint32_t at, uint32_t len)
{
    return (struct slice){m->text ? m->text + at : NULL, len}; /* a request that had no memory for its first byte has no text */
}

/* ---- the request line ------------------------------------------------------------------------------------------------ */

static enum old_http_method method_of(struct slice s)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"};

    for (unsigned i = 0; i < OLD_HTTP_OTHER; i++) {
        if (slice_is(s, names[i])) return (enum old_http_method)i;
    }
    return OLD_HTTP_OTHER;
}

/* Percent-escapes must spell valid UTF-8 (RFC 3629: shortest form, no surrogates) and no NUL. One decoded byte. */
static bool old_utf8_push(struct old_http_message *m, unsigned char c)
{
    if (m->utf8_left) {
        if (c < m->utf8_low || c > m->utf8_high) return false;
        m->utf8_left--;
        m->utf8_low = 0x80;
        m->utf8_high = 0xbf;
        return true;
    }
    if (c < 0x80) return c != 0;
    if (c < 0xc2 || c > 0xf4) return false;
    m->utf8_left = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    m->utf8_low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    m->utf8_high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    return true;
}

static bool ip_literal_valid(struct slice s) /* what stands between the brackets, RFC 3986 3.2.2 */
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;

    if (s.len > 1 && (s.at[0] == 'v' || s.at[0] == 'V')) {
        size_t i = 1;

        while (i < s.len && hex_digit((unsigned char)s.at[i]) >= 0) i++;
        if (i == 1 || i + 1 >= s.len || s.at[i] != '.') return false;
        for (i++; i < s.len; i++) {
            unsigned char c = (unsigned char)s.at[i];
            if (c != ':' && !(uri_class[c] & HOST_PLAIN)) return false;
        }
        return true;
    }
    if (s.len >= sizeof text) return false;
    memcpy(text, s.at, s.len);
    text[s.len] = '\0';
    return memchr(s.at, '\0', s.len) == NULL && inet_pton(AF_INET6, text, &address) == 1;
}

/* uri-host [ ":" port ], RFC 9110 7.2. Userinfo has no place in it: '@' is not of a host. */
static bool authority_valid(struct slice s)
{
    size_t i = 0, port = 0;

    if (s.len && s.at[0] == '[') {
        const char *close = memchr(s.at, ']', s.len);

        if (!close || !ip_literal_valid((struct slice){s.at + 1, (size_t)(close - s.at - 1)})) return false;
        i = (size_t)(close - s.at) + 1;
    } else {
        for (; i < s.len && s.at[i] != ':'; i++) {
            if (s.at[i] == '%') {
                if (s.len - i < 3 || hex_digit((unsigned char)s.at[i + 1]) < 0 || hex_digit((unsigned char)s.at[i + 2]) < 0)
                    return false;
                i += 2;
            } else if (!(uri_class[(unsigned char)s.at[i]] & HOST_PLAIN)) {
                return false;
            }
        }
        if (i == 0) return false; /* RFC 9110 4.2.1: an http URI with an empty host is invalid */
    }
    if (i == s.len) return true;
    if (s.at[i++] != ':') return false;
    for (; i < s.len; i++) {
        if (!old_is_digit((unsigned char)s.at[i])) return false;
        port = port * 10 + (size_t)(s.at[i] - '0');
        if (port > 65535) return false;
    }
    return true;
}

/* RFC 9112 3.2.2: absolute-form. A scheme other than http is somebody else's. */
static bool absolute_target_valid(struct old_http_message *m)
{
    struct slice t = text_slice(m, 0, m->target_len);
    const char *after = t.at + 7;
    size_t left, authority = 0;

    if (t.len < 8 || strncasecmp(t.at, "http://", 7) != 0) return false;
    left = t.len - 7;
    while (authority < left && after[authority] != '/' && after[authority] != '?') authority++;
    if (!authority_valid((struct slice){after, authority})) return false;
    if (memchr(after + authority, '[', left - authority) || memchr(after + authority, ']', left - authority)) return false;
    m->path = (uint32_t)(7 + authority);
    m->path_len = (m->has_query ? m->query - 1 : m->target_len) - m->path;
    /* "OPTIONS http://host" asks about the server as a whole, RFC 9112 3.2.4 */
    if (m->path_len == 0 && !m->has_query && m->method == OLD_HTTP_OPTIONS) m->asterisk = true;
    return true;
}

/* The request line is complete: does its target have the form that its method wants? RFC 9112 3.2. */
static bool request_line_done(struct old_http_message *m)
{
    struct slice t;

    m->method = method_of((struct slice){m->method_text, m->method_len});
    m->query_len = m->has_query ? m->target_len - m->query : 0;
    m->path_len = m->has_query ? m->query - 1 : m->target_len;
    t = text_slice(m, 0, m->target_len);

    if (m->method == OLD_HTTP_CONNECT) {
        /* RFC 9110 9.3.6: a port there must be */
        if (!authority_valid(t) || m->has_query || !memchr(t.at, ':', t.len) || !old_is_digit((unsigned char)t.at[t.len - 1]))
            return fail(m, 400, "CONNECT takes host:port as its target.");
        return true;
    }
    if (t.at[0] == '/') {
        if (m->bracketed) return fail(m, 400, "A square bracket in the target must be percent-encoded.");
        return true;
    }
    if (slice_is(t, "*")) {
        if (m->method != OLD_HTTP_OPTIONS) return fail(m, 400, "Only OPTIONS may have * as its target.");
        m->asterisk = true;
        return true;
    }
    if (!absolute_target_valid(m)) return fail(m, 400, "The request target is neither a path nor an http:// address.");
    return true;
}

/* "HTTP/1.x", byte by byte: `matched` is how many of them have been right. False: failed. */
static bool version_push(struct old_http_message *m, unsigned char c)
{
    static const char expected[] = "HTTP/";
    unsigned at = m->matched++;

    if (at < 5) return c == (unsigned char)expected[at] || fail(m, 400, "The HTTP version is malformed.");
    if (at == 6) return c == '.' || fail(m, 400, "The HTTP version is malformed.");
    if (!old_is_digit(c)) return fail(m, 400, "The HTTP version is malformed.");
    if (at == 5) m->status = c - '0'; /* kept until the minor digit: "HTTP/2" is malformed, HTTP/2.0 is unsupported */
    if (at == 7) {
        if (m->status != 1) return fail(m, 505, "This server speaks HTTP/1.1 and HTTP/1.0.");
        m->status = 0;
        m->minor = c == '0' ? 0 : 1; /* RFC 9110 2.5: 1.2 and up is treated as the highest 1.x we know */
    }
    return true;
}

/* ---- fields ----------------------------------------------------------------------------------------------------------- */

static bool once(struct old_http_message *m, uint32_t which, const char *error)
{
    if (m->once & which) return fail(m, 400, error);
    m->once |= which;
    return true;
}

static bool content_length_read(struct old_http_message *m, struct slice v)
{
    uint64_t length = 0;

    if (!once(m, ONCE_LENGTH, "There are two Content-Length fields.")) return false;
    if (v.len == 0) return fail(m, 400, "Content-Length is empty.");
    for (size_t i = 0; i < v.len; i++) {
        unsigned char c = (unsigned char)v.at[i];

        if (!old_is_digit(c)) return fail(m, 400, "Content-Length is not a number.");
        if (length > (UINT64_MAX - 9) / 10) return fail(m, 400, "Content-Length is beyond all numbers.");
        length = length * 10 + (uint64_t)(c - '0');
    }
    m->has_length = true;
    m->length = length;
    return true;
}

static bool transfer_encoding_read(struct old_http_message *m, struct slice v)
{
    if (!once(m, ONCE_ENCODING, "There are two Transfer-Encoding fields.")) return false;
    if (!slice_is_nocase(v, "chunked")) return fail(m, 400, "The only Transfer-Encoding understood here is chunked.");
    m->chunked = true;
    return true;
}

static void connection_read(struct old_http_message *m, struct slice v)
{
    struct slice option;

    while (slice_next_element(&v, &option)) {
        if (slice_is_nocase(option, "close")) m->says_close = true;
        else if (slice_is_nocase(option, "keep-alive")) m->says_keep_alive = true;
    }
}

/* RFC 9110 6.5.1: what frames, routes or authenticates a message has no business in its trailers. */
static bool old_trailer_forbidden(struct slice name)
{
    static const char *const forbidden[] = {
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "max-forwards",
        "pragma",
        "prefer",
        "proxy-authenticate",
        "proxy-authorization",
        "range",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "www-authenticate",
        "idempotency-key",
    };

    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++) {
        if (slice_is(name, forbidden[i])) return true;
    }
    return false;
}

/* A field line is complete: keep it, and read those that rule the message itself. */
static bool field_done(struct old_http_message *m)
{
    struct slice name = text_slice(m, m->name, m->name_len);
    struct slice value = text_slice(m, m->value, m->text_len - m->value);

    if (!fields_push(m)) return false;
    switch (name.len) { /* the length rules out nearly everything before a byte is compared */
    case 4:
        if (!slice_is(name, "host") || m->role == OLD_HTTP_RESPONSE) break;
        if (!once(m, ONCE_HOST, "There are two Host fields.")) return false;
        if (!authority_valid(value)) return fail(m, 400, "The Host field is not a host with an optional port.");
        break;
    case 6:
        if (!slice_is(name, "expect")) break;
        if (slice_is_nocase(value, "100-continue")) m->expect_continue = m->minor >= 1; /* HTTP/1.0 knows no 100 */
        else m->expect_unknown = true;
        break;
    case 10:
        if (slice_is(name, "connection")) connection_read(m, value);
        break;
    case 12:
        if (slice_is(name, "content-type")) return once(m, ONCE_TYPE, "There are two Content-Type fields.");
        break;
    case 13:
        if (slice_is(name, "authorization")) return once(m, ONCE_AUTHORIZATION, "There are two Authorization fields.");
        break;
    case 14:
        if (slice_is(name, "content-length")) return content_length_read(m, value);
        break;
    case 17:
        if (slice_is(name, "transfer-encoding")) return transfer_encoding_read(m, value);
        break;
    }
    return true;
}

static bool trailer_done(struct old_http_message *m)
{
    if (old_trailer_forbidden(text_slice(m, m->name, m->name_len)))
        return fail(m, 400, "A trailer holds a field that may only stand in the header.");
    if (++m->matched > OLD_HTTP_FIELDS_COUNT) return fail(m, 431, "There are more than 100 header fields.");
    m->text_len = m->trailer_start; /* trailers are checked, then dropped: nothing here has a use for them */
    return true;
}

static bool field_line_done(struct old_http_message *m)
{
    m->state = FIELD_START;
    return m->in_trailer ? trailer_done(m) : field_done(m);
}

/* RFC 9112 6.3: how long is the body? Sets the state that reads it, or OLD_HTTP_DONE. */
static bool head_done(struct old_http_message *m)
{
    bool body_impossible =
        m->no_body || (m->role == OLD_HTTP_RESPONSE && (m->status < 200 || m->status == 204 || m->status == 304));

    if (m->role == OLD_HTTP_REQUEST && m->minor >= 1 && !(m->once & ONCE_HOST))
        return fail(m, 400, "HTTP/1.1 requires a Host field.");
    if (m->chunked && m->has_length) return fail(m, 400, "Content-Length and Transfer-Encoding contradict each other.");
    if (m->chunked && m->minor == 0) return fail(m, 400, "HTTP/1.0 has no Transfer-Encoding.");

    m->keep_alive = !m->says_close && (m->minor >= 1 || m->says_keep_alive);
    if (m->role == OLD_HTTP_RESPONSE && m->status == 101) m->keep_alive = false; /* what follows is not HTTP, RFC 9110 15.2.2 */
    m->body = m->text_len;
    m->phase = OLD_HTTP_IN_BODY;
    if (body_impossible) {
        m->phase = OLD_HTTP_DONE;
    } else if (m->chunked) {
        m->state = CHUNK_FIRST_DIGIT;
        m->length = 0;
    } else if (m->has_length) {
        if (m->length > m->body_limit) return fail(m, 413, "The body is too large.");
        m->state = BODY;
        if (m->length == 0) m->phase = OLD_HTTP_DONE;
    } else if (m->role == OLD_HTTP_RESPONSE) {
        m->state = BODY;
        m->until_close = true;
        m->keep_alive = false;
        m->length = (uint64_t)m->body_limit + 1; /* the byte that would be too many */
    } else {
        m->phase = OLD_HTTP_DONE;
    }
    return true;
}

/* ---- the body ---------------------------------------------------------------------------------------------------------- */

static bool chunk_digit_push(struct old_http_message *m, int digit)
{
    m->length = m->length * 16 + (uint64_t)digit;
    if (++m->matched > 16) return fail(m, 400, "The chunk size has too many digits.");
    if (m->length > m->body_limit - (m->text_len - m->body)) return fail(m, 413, "The body is too large.");
    return true;
}

static bool extension_push(struct old_http_message *m)
{
    if (m->ext_room-- == 0) return fail(m, 400, "The chunk extensions are too long.");
    return true;
}

/* A chunk's size line is complete; size 0 is the last chunk, after which come trailers (RFC 9112 7.1). */
static void chunk_begin(struct old_http_message *m)
{
    if (m->length) {
        m->state = CHUNK_DATA;
        return;
    }
    m->state = FIELD_START;
    m->in_trailer = true;
    m->trailer_start = m->text_len;
    m->matched = m->fields_len; /* trailers count as fields, but are not kept */
}

/* ---- the machine -------------------------------------------------------------------------------------------------------- */

/* Copy value bytes up to the first that is none. Eight at a time while none of them is a control byte: a field value is
 * most of a head, and this halves the time it takes. */
static const char *copy_value(char **to, const char *p, const char *end)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones * 0x80;
    char *out = *to;

    while (end - p >= 8) {
        uint64_t word;

        memcpy(&word, p, 8);
        uint64_t below_space = (word - ones * 0x20) & ~word;
        uint64_t without_del = word ^ (ones * 0x7f);
        uint64_t is_del = (without_del - ones) & ~without_del;
        if ((below_space | is_del) & highs) break;
        memcpy(out, &word, 8);
        out += 8;
        p += 8;
    }
    while (p < end && is_value_byte((unsigned char)*p)) *out++ = *p++;
    *to = out;
    return p;
}

/* Run over [p, end), which is short enough for m->text to take all of it. Returns where it stopped: at the end, or just
 * behind a line, head or message that became complete, or at an error (phase tells). */
static const char *run(struct old_http_message *m, const char *p, const char *end)
{
    char *out = m->text + m->text_len;
    unsigned char c;
    int digit;

/* Leave with an error; the byte it happened at no longer matters. */
#define FAIL(status, error)         \
    do {                            \
        fail(m, (status), (error)); \
        return p;                   \
    } while (0)

    while (p < end) {
        c = (unsigned char)*p;
        switch ((enum state)m->state) {
        case AT_START:
            if (c == '\r' && m->phase == OLD_HTTP_FRESH && !m->matched) { /* RFC 9112 2.2: one empty line is forgiven */
                m->state = START_LF;
                p++;
                break;
            }
            m->phase = OLD_HTTP_IN_HEAD;
            m->matched = 0;
            m->state = METHOD;
            break;
        case START_LF:
            if (c != '\n') FAIL(400, "A CR is not followed by LF.");
            m->matched = 1;
            m->state = AT_START;
            p++;
            break;
        case METHOD:
            if (c == ' ' && m->method_len) {
                m->state = TARGET;
                p++;
                break;
            }
            if (!token_lower[c]) FAIL(400, "The method is not a token.");
            if (m->method_len == OLD_HTTP_METHOD_MAX) FAIL(501, "This method is not known here.");
            do m->method_text[m->method_len++] = *p++;
            while (p < end && token_lower[(unsigned char)*p] && m->method_len < OLD_HTTP_METHOD_MAX);
            break;

        case TARGET:
            if (m->utf8_left && c != '%') FAIL(400, "A percent-escape in the target is not valid UTF-8.");
            while (p < end && uri_class[(unsigned char)*p] & URI_PLAIN) *out++ = *p++;
            m->text_len = (uint32_t)(out - m->text);
            if (p == end) break;
            c = (unsigned char)*p++;
            if (c == ' ') {
                if (!m->text_len) FAIL(400, "The request target is empty.");
                m->target_len = m->text_len;
                m->state = VERSION;
                m->matched = 0;
                break;
            }
            if (c == '%') m->state = PERCENT_HIGH;
            else if (c == '?' && !m->has_query) m->has_query = true, m->query = m->text_len + 1;
            else if ((c == '[' || c == ']') && !m->has_query) m->bracketed = true;
            else if (c == '\r' || c == '\n') FAIL(400, "The request line has no HTTP version.");
            else if (c != '?') FAIL(400, "The request target holds a byte that must be percent-encoded.");
            *out++ = (char)c;
            m->text_len++;
            break;
        case PERCENT_HIGH:
            digit = hex_digit(c);
            if (digit < 0) FAIL(400, "A percent sign in the target is not followed by two hexadecimal digits.");
            m->matched = (uint8_t)(digit << 4);
            *out++ = (char)c;
            m->text_len++;
            m->state = PERCENT_LOW;
            p++;
            break;
        case PERCENT_LOW:
            digit = hex_digit(c);
            if (digit < 0) FAIL(400, "A percent sign in the target is not followed by two hexadecimal digits.");
            if (!old_utf8_push(m, (unsigned char)(m->matched | digit)))
                FAIL(400, "A percent-escape in the target is NUL or not valid UTF-8.");
            *out++ = (char)c;
            m->text_len++;
            m->state = TARGET;
            p++;
            break;
        case VERSION:
            /* Nearly always it is this, and here as a whole. With the method in one loop it saves a sixth of a curl GET. */
            if (m->matched == 0 && end - p >= 9 && memcmp(p, "HTTP/1.1\r", 9) == 0) {
                m->minor = 1;
                m->matched = 8;
                m->state = LINE_LF;
                p += 9;
                break;
            }
            if (!version_push(m, c)) return p;
            if (m->matched == 8) m->state = LINE_CR;
            p++;
            break;
        case LINE_CR:
            if (c != '\r') FAIL(400, "The HTTP version is not followed by CRLF.");
            m->state = LINE_LF;
            p++;
            break;
        case LINE_LF:
            if (c != '\n') FAIL(400, "A CR is not followed by LF.");
            p++;
            if (m->role == OLD_HTTP_REQUEST && !request_line_done(m)) return p;
            m->state = FIELD_START;
            return p;

        case STATUS_VERSION:
            m->phase = OLD_HTTP_IN_HEAD;
            if (m->matched == 8) {
                if (c != ' ') FAIL(400, "The status line is malformed.");
                m->state = STATUS_CODE;
                m->matched = 0;
            } else if (!version_push(m, c)) {
                return p;
            }
            p++;
            break;
        case STATUS_CODE:
            if (m->matched == 3) {
                if (c != ' ') FAIL(400, "The status line is malformed.");
                if (m->status < 100) FAIL(400, "The status is below 100.");
                m->state = REASON;
            } else {
                if (!old_is_digit(c)) FAIL(400, "The status is not a number.");
                m->status = m->status * 10 + (c - '0');
                m->matched++;
            }
            p++;
            break;
        case REASON:
            while (p < end && is_value_byte((unsigned char)*p)) p++;
            if (p == end) break;
            if (*p != '\r') FAIL(400, "The reason phrase holds a control byte.");
            m->state = LINE_LF;
            p++;
            break;

        case FIELD_START:
            if (c == '\r') {
                m->state = END_LF;
                p++;
                break;
            }
            if (old_is_blank((char)c)) FAIL(400, "A header field is folded over two lines."); /* RFC 9112 5.2 */
            m->name = m->text_len;
            m->state = NAME;
            break;
        case NAME:
            while (p < end && (*out = token_lower[(unsigned char)*p]) != 0) out++, p++;
            m->text_len = (uint32_t)(out - m->text);
            if (p == end) break;
            m->name_len = m->text_len - m->name;
            if (m->name_len == 0) FAIL(400, "A field has no name.");
            if (*p != ':') FAIL(400, "A field name is not a token followed by a colon.");
            m->state = BEFORE_VALUE;
            p++;
            break;
        case BEFORE_VALUE:
            while (p < end && old_is_blank(*p)) p++;
            if (p == end) break;
            m->value = m->text_len;
            m->state = VALUE;
            break;
        case VALUE:
            p = copy_value(&out, p, end);
            m->text_len = (uint32_t)(out - m->text);
            if (p == end) break;
            if (*p != '\r') FAIL(400, *p == '\n' ? "A field line ends in a bare LF." : "A field value holds a control byte.");
            m->state = VALUE_LF;
            p++;
            break;
        case VALUE_LF:
            if (c != '\n') FAIL(400, "A CR is not followed by LF.");
            p++;
            while (m->text_len > m->value && old_is_blank(m->text[m->text_len - 1])) m->text_len--;
            out = m->text + m->text_len;
            if (m->role == OLD_HTTP_RESPONSE) {
                m->state = AFTER_VALUE; /* it may go on in the next line */
                break;
            }
            if (!field_line_done(m)) return p;
            out = m->text + m->text_len;
            break;
        /* RFC 9112 5.2: a request that is folded over two lines is refused, a response is read with a space for each fold. */
        case AFTER_VALUE:
            if (!old_is_blank((char)c)) {
                if (!field_line_done(m)) return p;
                out = m->text + m->text_len;
                break;
            }
            if (m->text_len > m->value) *out++ = ' ', m->text_len++;
            m->state = FOLD;
            p++;
            break;
        case FOLD:
            while (p < end && old_is_blank(*p)) p++;
            if (p < end) m->state = VALUE;
            break;
        case END_LF:
            if (c != '\n') FAIL(400, "A CR is not followed by LF.");
            p++;
            if (m->in_trailer) m->phase = OLD_HTTP_DONE;
            else head_done(m);
            return p;

        case BODY:
        case CHUNK_DATA: {
            size_t n = (size_t)(end - p);

            if (n > m->length) n = (size_t)m->length;
            memcpy(out, p, n);
            out += n;
            p += n;
            m->text_len += (uint32_t)n;
            m->length -= n;
            if (m->length) break;
            if (m->until_close) FAIL(413, "The body is too large.");
            if (m->state == BODY) {
                m->phase = OLD_HTTP_DONE;
                return p;
            }
            m->state = CHUNK_DATA_CR;
            break;
        }
        case CHUNK_DATA_CR:
            if (c != '\r') FAIL(400, "Chunk data is longer than its size, or not ended by CRLF.");
            m->state = CHUNK_DATA_LF;
            p++;
            break;
        case CHUNK_DATA_LF:
            if (c != '\n') FAIL(400, "A CR is not followed by LF.");
            m->state = CHUNK_FIRST_DIGIT;
            p++;
            break;
        case CHUNK_FIRST_DIGIT:
            digit = hex_digit(c);
            if (digit < 0) FAIL(400, "A chunk does not begin with its size in hexadecimal.");
            m->length = 0;
            m->matched = 0;
            m->state = CHUNK_SIZE;
            break;
        case CHUNK_SIZE:
            digit = hex_digit(c);
            if (digit >= 0) {
                if (!chunk_digit_push(m, digit)) return p;
            } else if (c == ';') {
                m->state = EXT_NAME_FIRST;
            } else if (c == '\r') {
                m->state = CHUNK_SIZE_LF;
            } else {
                FAIL(400, "The chunk size is not a hexadecimal number.");
            }
            p++;
            break;
        /* RFC 9112 7.1.1: *( ";" token [ "=" ( token / quoted-string ) ] ), ignored. The grammar's "bad white space" is
         * not accepted: no sender needs it, and two readers may disagree about it. */
        case EXT_NAME_FIRST:
        case EXT_VALUE_FIRST:
            if (!extension_push(m)) return p;
            if (c == '"' && m->state == EXT_VALUE_FIRST) m->state = EXT_QUOTED;
            else if (token_lower[c]) m->state = m->state == EXT_NAME_FIRST ? EXT_NAME : EXT_TOKEN;
            else FAIL(400, "A chunk extension is malformed.");
            p++;
            break;
        case EXT_NAME:
        case EXT_TOKEN:
        case EXT_END:
            if (!extension_push(m)) return p;
            if (c == '\r') m->state = CHUNK_SIZE_LF;
            else if (c == ';') m->state = EXT_NAME_FIRST;
            else if (c == '=' && m->state == EXT_NAME) m->state = EXT_VALUE_FIRST;
            else if (!token_lower[c] || m->state == EXT_END) FAIL(400, "A chunk extension is malformed.");
            p++;
            break;
        case EXT_QUOTED:
            if (!extension_push(m)) return p;
            if (c == '"') m->state = EXT_END;
            else if (c == '\\') m->state = EXT_ESCAPED;
            else if (!is_value_byte(c)) FAIL(400, "A chunk extension is malformed.");
            p++;
            break;
        case EXT_ESCAPED:
            if (!extension_push(m)) return p;
            if (!is_value_byte(c)) FAIL(400, "A chunk extension is malformed.");
            m->state = EXT_QUOTED;
            p++;
            break;
        case CHUNK_SIZE_LF:
            if (c != '\n') FAIL(400, "A CR is not followed by LF.");
            p++;
            chunk_begin(m);
            if (m->in_trailer) return p;
            break;
        }
    }
    return p;
#undef FAIL
}

/* The parts of a message that have a size limit of their own. */
enum section { IN_LINE, IN_FIELDS, IN_BODY };

static enum section section_of(const struct old_http_message *m)
{
    if (m->state < FIELD_START) return IN_LINE;
    return m->state <= END_LF ? IN_FIELDS : IN_BODY;
}

static void fail_for_room(struct old_http_message *m, enum section section)
{
    if (section == IN_LINE) fail(m, 414, "The start line is longer than 8 KiB.");
    else fail(m, 431, "The header fields are larger than 16 KiB.");
}

size_t old_http_feed(struct old_http_message *m, const char *bytes, size_t n)
{
    const char *p = bytes, *end = bytes + n;

    while (p < end && m->phase < OLD_HTTP_DONE) {
        enum section section = section_of(m);
        bool in_head = m->phase < OLD_HTTP_IN_BODY;
        size_t piece = (size_t)(end - p);

        /* What is kept of a byte is at most that byte: a piece that fits the text cannot overflow it. */
        if (m->text_len == m->text_cap && !text_grow(m)) break;
        if (piece > m->text_cap - m->text_len) piece = m->text_cap - m->text_len;
        if (section != IN_BODY && piece > m->room) piece = m->room;

        const char *stopped = run(m, p, p + piece);
        m->room -= section != IN_BODY ? (uint32_t)(stopped - p) : 0;
        p = stopped;
        if (m->phase >= OLD_HTTP_DONE) break;
        if (section_of(m) != section) m->room = OLD_HTTP_FIELDS_MAX;
        else if (section != IN_BODY && m->room == 0) fail_for_room(m, section);
        if (in_head && m->phase == OLD_HTTP_IN_BODY) break;
    }
    return (size_t)(p - bytes);
}

bool old_http_end_of_input(struct old_http_message *m)
{
    if (m->phase == OLD_HTTP_IN_BODY && m->until_close) m->phase = OLD_HTTP_DONE;
    return m->phase == OLD_HTTP_DONE;
}

/* ---- what a message says ------------------------------------------------------------------------------------------------- */

struct slice old_http_method_text(const struct old_http_message *m)
{
    return (struct slice){m->method_text, m->method_len};
}

struct slice old_http_target(const struct old_http_message *m)
{
    return text_slice(m, 0, m->target_len);
}

struct slice old_http_path(const struct old_http_message *m)
{
    return m->path_len ? text_slice(m, m->path, m->path_len) : SLICE("/");
}

struct slice old_http_query(const struct old_http_message *m)
{
    return m->has_query ? text_slice(m, m->query, m->query_len) : (struct slice){0};
}

/* RFC 9112 3.2.2: the authority of an absolute target stands in place of Host. */
struct slice old_http_host(const struct old_http_message *m)
{
    return m->path > 7 ? text_slice(m, 7, m->path - 7) : old_http_field(m, "host");
}

struct slice old_http_body(const struct old_http_message *m)
{
    return text_slice(m, m->body, m->text_len - m->body);
}

bool old_http_next_field(const struct old_http_message *m, const char *name, unsigned *i, struct slice *value)
{
    while (*i < m->fields_len) {
        const struct old_http_field *f = &m->fields[(*i)++];

        if (slice_is(text_slice(m, f->name, f->name_len), name)) {
            *value = text_slice(m, f->value, f->value_len);
            return true;
        }
    }
    return false;
}

struct slice old_http_field(const struct old_http_message *m, const char *name)
{
    struct slice value = {0};
    unsigned i = 0;

    old_http_next_field(m, name, &i, &value);
    return value;
}
