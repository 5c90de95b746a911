/* http.c: HTTP/1.1 as a state machine, and the writer of its answers. No descriptors, no waiting.
 *
 * It owns the meaning of bytes. The subtle thing is that it may be interrupted anywhere: all it knows between two calls is
 * in struct http_message, and a message fed byte by byte must come out as if it had been fed whole. Where many bytes of one
 * kind follow each other (a name, a value, a body) a state runs over them in a tight loop; no byte is looked at twice. */
#include "http.h"
#include "text/grammar.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

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

/* RFC 3986 3.3: what may stand in a target as it is: pchar and '/', but not '?' and '%', which mean something. */
static const bool uri_plain[256] = {
    ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1, ['0' ... '9'] = 1, ['-'] = 1, ['.'] = 1, ['_'] = 1, ['~'] = 1, ['!'] = 1, ['$'] = 1,
    ['&'] = 1, ['\''] = 1, ['('] = 1, [')'] = 1, ['*'] = 1, ['+'] = 1, [','] = 1, [';'] = 1, ['='] = 1, [':'] = 1, ['@'] = 1,
    ['/'] = 1,
};
/* clang-format on */

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

/* Fields that may stand once: bits of http_message.once. */
enum { ONCE_HOST = 1, ONCE_LENGTH = 2, ONCE_ENCODING = 4, ONCE_TYPE = 8, ONCE_AUTHORIZATION = 16 };

#define TEXT_FIRST 512 /* holds the head of a curl request with a token */
#define TEXT_KEPT 2048 /* a message that grew larger gives its memory back */
#define FIELDS_FIRST 12

void http_begin(struct http_message *m, enum http_role role)
{
    char *text = m->text;
    struct http_field *fields = m->fields;
    uint32_t text_cap = m->text_cap;
    uint8_t fields_cap = m->fields_cap;

    if (text_cap > TEXT_KEPT) {
        free(text);
        text = NULL;
        text_cap = 0;
    }
    *m = (struct http_message){
        .role = role,
        .state = role == HTTP_REQUEST ? AT_START : STATUS_VERSION,
        .room = HTTP_LINE_MAX,
        .ext_room = HTTP_CHUNK_EXT_MAX,
        .body_limit = HTTP_BODY_MAX,
        .text = text,
        .text_cap = text_cap,
        .fields = fields,
        .fields_cap = fields_cap,
    };
}

void http_free(struct http_message *m)
{
    free(m->text);
    free(m->fields);
    *m = (struct http_message){0};
}

static bool fail(struct http_message *m, int status, const char *error)
{
    m->phase = HTTP_FAILED;
    m->status = status;
    m->error = error;
    m->keep_alive = false;
    return false;
}

static bool text_grow(struct http_message *m)
{
    size_t cap = m->text_cap ? 2 * (size_t)m->text_cap : TEXT_FIRST;
    char *text = cap <= UINT32_MAX ? realloc(m->text, cap) : NULL;

    if (!text) return fail(m, 503, "There is no memory for this message right now.");
    m->text = text;
    m->text_cap = (uint32_t)cap;
    return true;
}

static bool fields_push(struct http_message *m)
{
    if (m->fields_len == HTTP_FIELDS_COUNT) return fail(m, 431, "There are more than 100 header fields.");
    if (m->fields_len == m->fields_cap) {
        unsigned cap = m->fields_cap ? m->fields_cap * 3u : FIELDS_FIRST;
        struct http_field *fields;

        if (cap > HTTP_FIELDS_COUNT) cap = HTTP_FIELDS_COUNT;
        fields = realloc(m->fields, cap * sizeof *fields);
        if (!fields) return fail(m, 503, "There is no memory for this message right now.");
        m->fields = fields;
        m->fields_cap = (uint8_t)cap;
    }
    m->fields[m->fields_len++] = (struct http_field){.name = (uint16_t)m->name,
                                                     .name_len = (uint16_t)m->name_len,
                                                     .value = (uint16_t)m->value,
                                                     .value_len = (uint16_t)(m->text_len - m->value)};
    return true;
}

static struct slice text_slice(const struct http_message *m, uint32_t at, uint32_t len)
{
    return (struct slice){m->text ? m->text + at : NULL, len}; /* a request that had no memory for its first byte has no text */
}

/* ---- the request line ------------------------------------------------------------------------------------------------ */

static enum http_method method_of(struct slice s)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"};

    for (unsigned i = 0; i < HTTP_OTHER; i++) {
        if (slice_is(s, names[i])) return (enum http_method)i;
    }
    return HTTP_OTHER;
}

/* RFC 9112 3.2.2: absolute-form. A scheme other than http is somebody else's. */
static bool absolute_target_valid(struct http_message *m)
{
    struct slice t = text_slice(m, 0, m->target_len);
    const char *after = t.at + 7;
    size_t left, authority = 0;
    struct authority a;

    if (t.len < 8 || strncasecmp(t.at, "http://", 7) != 0) return false;
    left = t.len - 7;
    while (authority < left && after[authority] != '/' && after[authority] != '?') authority++;
    if (!authority_read((struct slice){after, authority}, &a)) return false;
    if (memchr(after + authority, '[', left - authority) || memchr(after + authority, ']', left - authority)) return false;
    m->path = (uint32_t)(7 + authority);
    m->path_len = (m->has_query ? m->query - 1 : m->target_len) - m->path;
    /* "OPTIONS http://host" asks about the server as a whole, RFC 9112 3.2.4 */
    if (m->path_len == 0 && !m->has_query && m->method == HTTP_OPTIONS) m->asterisk = true;
    return true;
}

/* The request line is complete: does its target have the form that its method wants? RFC 9112 3.2. */
static bool request_line_done(struct http_message *m)
{
    struct authority a;
    struct slice t;

    m->method = method_of((struct slice){m->method_text, m->method_len});
    m->query_len = m->has_query ? m->target_len - m->query : 0;
    m->path_len = m->has_query ? m->query - 1 : m->target_len;
    t = text_slice(m, 0, m->target_len);

    if (m->method == HTTP_CONNECT) {
        /* RFC 9110 9.3.6: a port there must be */
        if (!authority_read(t, &a) || m->has_query || !a.port.len) return fail(m, 400, "CONNECT takes host:port as its target.");
        return true;
    }
    if (t.at[0] == '/') {
        if (m->bracketed) return fail(m, 400, "A square bracket in the target must be percent-encoded.");
        return true;
    }
    if (slice_is(t, "*")) {
        if (m->method != HTTP_OPTIONS) return fail(m, 400, "Only OPTIONS may have * as its target.");
        m->asterisk = true;
        return true;
    }
    if (!absolute_target_valid(m)) return fail(m, 400, "The request target is neither a path nor an http:// address.");
    return true;
}

/* "HTTP/1.x", byte by byte: `matched` is how many of them have been right. False: failed. */
static bool version_push(struct http_message *m, unsigned char c)
{
    static const char expected[] = "HTTP/";
    unsigned at = m->matched++;

    if (at < 5) return c == (unsigned char)expected[at] || fail(m, 400, "The HTTP version is malformed.");
    if (at == 6) return c == '.' || fail(m, 400, "The HTTP version is malformed.");
    if (!is_digit((char)c)) return fail(m, 400, "The HTTP version is malformed.");
    if (at == 5) m->status = c - '0'; /* kept until the minor digit: "HTTP/2" is malformed, HTTP/2.0 is unsupported */
    if (at == 7) {
        if (m->status != 1) return fail(m, 505, "This server speaks HTTP/1.1 and HTTP/1.0.");
        m->status = 0;
        m->minor = c == '0' ? 0 : 1; /* RFC 9110 2.5: 1.2 and up is treated as the highest 1.x we know */
    }
    return true;
}

/* ---- fields ----------------------------------------------------------------------------------------------------------- */

static bool once(struct http_message *m, uint32_t which, const char *error)
{
    if (m->once & which) return fail(m, 400, error);
    m->once |= which;
    return true;
}

static bool content_length_read(struct http_message *m, struct slice v)
{
    if (!once(m, ONCE_LENGTH, "There are two Content-Length fields.")) return false;
    if (v.len == 0) return fail(m, 400, "Content-Length is empty.");
    if (!whole_number(v, &m->length)) return fail(m, 400, "Content-Length is not a number.");
    if (m->length == UINT64_MAX) return fail(m, 400, "Content-Length is beyond all numbers.");
    m->has_length = true;
    return true;
}

static bool transfer_encoding_read(struct http_message *m, struct slice v)
{
    if (!once(m, ONCE_ENCODING, "There are two Transfer-Encoding fields.")) return false;
    if (!slice_is_nocase(v, "chunked")) return fail(m, 400, "The only Transfer-Encoding understood here is chunked.");
    m->chunked = true;
    return true;
}

static void connection_read(struct http_message *m, struct slice v)
{
    struct slice option;

    while (slice_next_element(&v, &option)) {
        if (slice_is_nocase(option, "close")) m->says_close = true;
        else if (slice_is_nocase(option, "keep-alive")) m->says_keep_alive = true;
    }
}

/* A field line is complete: keep it, and read those that rule the message itself. */
static bool field_done(struct http_message *m)
{
    struct slice name = text_slice(m, m->name, m->name_len);
    struct slice value = text_slice(m, m->value, m->text_len - m->value);
    struct authority a;

    if (!fields_push(m)) return false;
    switch (name.len) { /* the length rules out nearly everything before a byte is compared */
    case 4:
        if (!slice_is(name, "host") || m->role == HTTP_RESPONSE) break;
        if (!once(m, ONCE_HOST, "There are two Host fields.")) return false;
        if (!authority_read(value, &a)) return fail(m, 400, "The Host field is not a host with an optional port.");
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

static bool trailer_done(struct http_message *m)
{
    if (trailer_forbidden(text_slice(m, m->name, m->name_len)))
        return fail(m, 400, "A trailer holds a field that may only stand in the header.");
    if (++m->matched > HTTP_FIELDS_COUNT) return fail(m, 431, "There are more than 100 header fields.");
    m->text_len = m->trailer_start; /* trailers are checked, then dropped: nothing here has a use for them */
    return true;
}

static bool field_line_done(struct http_message *m)
{
    m->state = FIELD_START;
    return m->in_trailer ? trailer_done(m) : field_done(m);
}

/* RFC 9112 6.3: how long is the body? Sets the state that reads it, or HTTP_DONE. */
static bool head_done(struct http_message *m)
{
    bool body_impossible = m->no_body || (m->role == HTTP_RESPONSE && (m->status < 200 || m->status == 204 || m->status == 304));

    if (m->role == HTTP_REQUEST && m->minor >= 1 && !(m->once & ONCE_HOST)) return fail(m, 400, "HTTP/1.1 requires a Host field.");
    if (m->chunked && m->has_length) return fail(m, 400, "Content-Length and Transfer-Encoding contradict each other.");
    if (m->chunked && m->minor == 0) return fail(m, 400, "HTTP/1.0 has no Transfer-Encoding.");

    m->keep_alive = !m->says_close && (m->minor >= 1 || m->says_keep_alive);
    if (m->role == HTTP_RESPONSE && m->status == 101) m->keep_alive = false; /* what follows is not HTTP, RFC 9110 15.2.2 */
    m->body = m->text_len;
    m->phase = HTTP_IN_BODY;
    if (body_impossible) {
        m->phase = HTTP_DONE;
    } else if (m->chunked) {
        m->state = CHUNK_FIRST_DIGIT;
        m->length = 0;
    } else if (m->has_length) {
        if (m->length > m->body_limit) return fail(m, 413, "The body is too large.");
        m->state = BODY;
        if (m->length == 0) m->phase = HTTP_DONE;
    } else if (m->role == HTTP_RESPONSE) {
        m->state = BODY;
        m->until_close = true;
        m->keep_alive = false;
        m->length = (uint64_t)m->body_limit + 1; /* the byte that would be too many */
    } else {
        m->phase = HTTP_DONE;
    }
    return true;
}

/* ---- the body ---------------------------------------------------------------------------------------------------------- */

static bool chunk_digit_push(struct http_message *m, int digit)
{
    m->length = m->length * 16 + (uint64_t)digit;
    if (++m->matched > 16) return fail(m, 400, "The chunk size has too many digits.");
    if (m->length > m->body_limit - (m->text_len - m->body)) return fail(m, 413, "The body is too large.");
    return true;
}

static bool extension_push(struct http_message *m)
{
    if (m->ext_room-- == 0) return fail(m, 400, "The chunk extensions are too long.");
    return true;
}

/* A chunk's size line is complete; size 0 is the last chunk, after which come trailers (RFC 9112 7.1). */
static void chunk_begin(struct http_message *m)
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
static const char *run(struct http_message *m, const char *p, const char *end)
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
            if (c == '\r' && m->phase == HTTP_FRESH && !m->matched) { /* RFC 9112 2.2: one empty line is forgiven */
                m->state = START_LF;
                p++;
                break;
            }
            m->phase = HTTP_IN_HEAD;
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
            if (m->method_len == HTTP_METHOD_MAX) FAIL(501, "This method is not known here.");
            do m->method_text[m->method_len++] = *p++;
            while (p < end && token_lower[(unsigned char)*p] && m->method_len < HTTP_METHOD_MAX);
            break;

        case TARGET:
            if (m->utf8.left && c != '%') FAIL(400, "A percent-escape in the target is not valid UTF-8.");
            while (p < end && uri_plain[(unsigned char)*p]) *out++ = *p++;
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
            digit = hex_value((char)c);
            if (digit < 0) FAIL(400, "A percent sign in the target is not followed by two hexadecimal digits.");
            m->matched = (uint8_t)(digit << 4);
            *out++ = (char)c;
            m->text_len++;
            m->state = PERCENT_LOW;
            p++;
            break;
        case PERCENT_LOW:
            digit = hex_value((char)c);
            if (digit < 0) FAIL(400, "A percent sign in the target is not followed by two hexadecimal digits.");
            digit |= m->matched;
            if (digit == 0 || !utf8_push(&m->utf8, (char)digit))
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
            if (m->role == HTTP_REQUEST && !request_line_done(m)) return p;
            m->state = FIELD_START;
            return p;

        case STATUS_VERSION:
            m->phase = HTTP_IN_HEAD;
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
                if (!is_digit((char)c)) FAIL(400, "The status is not a number.");
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
            if (is_blank((char)c)) FAIL(400, "A header field is folded over two lines."); /* RFC 9112 5.2 */
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
            while (p < end && is_blank(*p)) p++;
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
            while (m->text_len > m->value && is_blank(m->text[m->text_len - 1])) m->text_len--;
            out = m->text + m->text_len;
            if (m->role == HTTP_RESPONSE) {
                m->state = AFTER_VALUE; /* it may go on in the next line */
                break;
            }
            if (!field_line_done(m)) return p;
            out = m->text + m->text_len;
            break;
        /* RFC 9112 5.2: a request that is folded over two lines is refused, a response is read with a space for each fold. */
        case AFTER_VALUE:
            if (!is_blank((char)c)) {
                if (!field_line_done(m)) return p;
                out = m->text + m->text_len;
                break;
            }
            if (m->text_len > m->value) *out++ = ' ', m->text_len++;
            m->state = FOLD;
            p++;
            break;
        case FOLD:
            while (p < end && is_blank(*p)) p++;
            if (p < end) m->state = VALUE;
            break;
        case END_LF:
            if (c != '\n') FAIL(400, "A CR is not followed by LF.");
            p++;
            if (m->in_trailer) m->phase = HTTP_DONE;
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
                m->phase = HTTP_DONE;
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
            digit = hex_value((char)c);
            if (digit < 0) FAIL(400, "A chunk does not begin with its size in hexadecimal.");
            m->length = 0;
            m->matched = 0;
            m->state = CHUNK_SIZE;
            break;
        case CHUNK_SIZE:
            digit = hex_value((char)c);
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

static enum section section_of(const struct http_message *m)
{
    if (m->state < FIELD_START) return IN_LINE;
    return m->state <= END_LF ? IN_FIELDS : IN_BODY;
}

static void fail_for_room(struct http_message *m, enum section section)
{
    if (section == IN_LINE) fail(m, 414, "The start line is longer than 8 KiB.");
    else fail(m, 431, "The header fields are larger than 16 KiB.");
}

size_t http_feed(struct http_message *m, const char *bytes, size_t n)
{
    const char *p = bytes, *end = bytes + n;

    while (p < end && m->phase < HTTP_DONE) {
        enum section section = section_of(m);
        bool in_head = m->phase < HTTP_IN_BODY;
        size_t piece = (size_t)(end - p);

        /* What is kept of a byte is at most that byte: a piece that fits the text cannot overflow it. */
        if (m->text_len == m->text_cap && !text_grow(m)) break;
        if (piece > m->text_cap - m->text_len) piece = m->text_cap - m->text_len;
        if (section != IN_BODY && piece > m->room) piece = m->room;

        const char *stopped = run(m, p, p + piece);
        m->room -= section != IN_BODY ? (uint32_t)(stopped - p) : 0;
        p = stopped;
        if (m->phase >= HTTP_DONE) break;
        if (section_of(m) != section) m->room = HTTP_FIELDS_MAX;
        else if (section != IN_BODY && m->room == 0) fail_for_room(m, section);
        if (in_head && m->phase == HTTP_IN_BODY) break;
    }
    return (size_t)(p - bytes);
}

bool http_end_of_input(struct http_message *m)
{
    if (m->phase == HTTP_IN_BODY && m->until_close) m->phase = HTTP_DONE;
    return m->phase == HTTP_DONE;
}

/* ---- what a message says ------------------------------------------------------------------------------------------------- */

struct slice http_method_text(const struct http_message *m)
{
    return (struct slice){m->method_text, m->method_len};
}

struct slice http_target(const struct http_message *m)
{
    return text_slice(m, 0, m->target_len);
}

struct slice http_path(const struct http_message *m)
{
    return m->path_len ? text_slice(m, m->path, m->path_len) : SLICE("/");
}

struct slice http_query(const struct http_message *m)
{
    return m->has_query ? text_slice(m, m->query, m->query_len) : (struct slice){0};
}

/* RFC 9112 3.2.2: the authority of an absolute target stands in place of Host. */
struct slice http_host(const struct http_message *m)
{
    return m->path > 7 ? text_slice(m, 7, m->path - 7) : http_field(m, "host");
}

struct slice http_body(const struct http_message *m)
{
    return text_slice(m, m->body, m->text_len - m->body);
}

bool http_next_field(const struct http_message *m, const char *name, unsigned *i, struct slice *value)
{
    while (*i < m->fields_len) {
        const struct http_field *f = &m->fields[(*i)++];

        if (slice_is(text_slice(m, f->name, f->name_len), name)) {
            *value = text_slice(m, f->value, f->value_len);
            return true;
        }
    }
    return false;
}

struct slice http_field(const struct http_message *m, const char *name)
{
    struct slice value = {0};
    unsigned i = 0;

    http_next_field(m, name, &i, &value);
    return value;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------- */

const char *http_reason(int status)
{
    switch (status) {
    case 100: return "Continue";
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 422: return "Unprocessable Content";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    case 507: return "Insufficient Storage";
    default: return "Unknown";
    }
}

/* "Date: Sun, 06 Nov 1994 08:49:37 GMT", made once a second (RFC 9110 5.6.7). Its English
 * is that of the C locale, which nobody here changes. */
static struct slice date_line(void)
{
    static char line[48];
    static size_t len;
    static time_t made_for = -1;
    time_t now = time(NULL);
    struct tm utc;

    if (now != made_for && gmtime_r(&now, &utc)) {
        len = strftime(line, sizeof line, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &utc);
        made_for = now;
    }
    return (struct slice){line, len};
}

void http_write_status(struct buf *b, int status)
{
    struct slice date = date_line();
    const char *reason = http_reason(status);
    size_t reason_len = strlen(reason);
    char *at = buf_reserve(b, strlen("HTTP/1.1 200 \r\n") + reason_len + date.len);

    if (!at) return;
    at = mempcpy(at, "HTTP/1.1 ", 9);
    *at++ = (char)('0' + status / 100 % 10);
    *at++ = (char)('0' + status / 10 % 10);
    *at++ = (char)('0' + status % 10);
    *at++ = ' ';
    at = mempcpy(at, reason, reason_len);
    at = mempcpy(at, "\r\n", 2);
    at = mempcpy(at, date.at, date.len);
    b->end = (uint32_t)(at - b->mem);
}

void http_write_field(struct buf *b, const char *name, struct slice value)
{
    size_t name_len = strlen(name);
    char *at = buf_reserve(b, name_len + value.len + 4);

    if (!at) return;
    at = mempcpy(at, name, name_len);
    at = mempcpy(at, ": ", 2);
    if (value.len) at = mempcpy(at, value.at, value.len);
    at = mempcpy(at, "\r\n", 2);
    b->end = (uint32_t)(at - b->mem);
}

void http_write_length(struct buf *b, size_t content_length)
{
    char digits[20];
    size_t at = sizeof digits;

    do digits[--at] = (char)('0' + content_length % 10);
    while (content_length /= 10);
    http_write_field(b, "Content-Length", (struct slice){digits + at, sizeof digits - at});
}

void http_write_end(struct buf *b)
{
    buf_put(b, "\r\n", 2);
}
