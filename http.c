/* http.c: HTTP/1.1 as a machine of lines, and the writer of its answers. No descriptors, no waiting.
 *
 * A message is a start line, field lines and a body; a body in chunks is lines again. A line is gathered to its end wherever the
 * bytes were cut, then read by one function, once; which bytes may stand where, text/grammar.c knows. The subtle thing is what ends a
 * line: LF, and as well the first byte with which it cannot be a line any more, a control byte or what follows a CR without being LF.
 * So what is gathered holds no control byte but HTAB before its end, and a peer who speaks another protocol is told at once. */
#include "http.h"
#include "text/grammar.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- a message and its memory --------------------------------------------------------------------------------------- */

enum state { START_LINE, FIELD_LINE, BODY, CHUNK_LINE, CHUNK_DATA, CHUNK_END, TRAILER_LINE };

/* Fields that may stand once: bits of http_message.once. */
enum { ONCE_HOST = 1, ONCE_LENGTH = 2, ONCE_ENCODING = 4, ONCE_TYPE = 8, ONCE_AUTHORIZATION = 16 };

#define TEXT_FIRST 512 /* holds the head of a curl request with a token */
#define TEXT_KEPT 2048 /* a message that grew larger gives its memory back */
#define FIELDS_FIRST 12

#define CHUNK_DIGITS_MAX 16
#define CHUNK_LINE_MAX (CHUNK_DIGITS_MAX + 2) /* with CRLF, without extensions */

_Static_assert(HTTP_LINE_MAX + HTTP_FIELDS_MAX <= UINT16_MAX, "a head is smaller than struct http_span can tell");

void http_begin(struct http_message *m, enum http_role role)
{
    if (m->text_cap > TEXT_KEPT) {
        free(m->text);
        m->text = NULL;
        m->text_cap = 0;
    }
    *m = (struct http_message){
        .role = role,
        .room = HTTP_LINE_MAX,
        .ext_room = HTTP_CHUNK_EXT_MAX,
        .body_limit = HTTP_BODY_MAX,
        .text = m->text,
        .text_cap = m->text_cap,
        .fields = m->fields,
        .fields_cap = m->fields_cap,
    };
}

void http_free(struct http_message *m)
{
    free(m->text);
    free(m->fields);
    *m = (struct http_message){0};
}

static enum http_method method_of(struct slice s)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"};

    for (unsigned i = 0; i < HTTP_OTHER; i++) {
        if (slice_is(s, names[i])) return (enum http_method)i;
    }
    return HTTP_OTHER;
}

static bool fail(struct http_message *m, int status, const char *error)
{
    /* Whoever asks by HEAD wants no body with a refusal either, though his line may never be read to its end. */
    if (m->state == START_LINE && m->line_len && m->role == HTTP_REQUEST)
        m->method = method_of(take_token(&(struct slice){m->text + m->text_len, m->line_len}));
    m->phase = HTTP_FAILED;
    m->status = status;
    m->error = error;
    m->keep_alive = false;
    return false;
}

void http_give_up(struct http_message *m, int status, const char *error)
{
    fail(m, status, error);
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

/* Offsets, for m->text moves as it grows. */
static struct http_span span_of(const struct http_message *m, struct slice s)
{
    return s.at ? (struct http_span){(uint16_t)(s.at - m->text), (uint16_t)s.len} : (struct http_span){0};
}

static struct slice slice_of(const struct http_message *m, struct http_span s)
{
    return (struct slice){m->text ? m->text + s.at : NULL, s.len}; /* a request that had no memory for its first byte has no text */
}

static bool fields_push(struct http_message *m, struct slice name, struct slice value)
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
    m->fields[m->fields_len++] = (struct http_field){span_of(m, name), span_of(m, value)};
    return true;
}

/* What comes next, and how many bytes of it there may be. */
static bool state_enter(struct http_message *m, enum state state, uint32_t room)
{
    m->state = (uint8_t)state;
    m->room = room;
    return true;
}

/* Is this all that is left of the line, its CRLF? `wrong` says what anything else is. */
static bool line_ends(struct http_message *m, struct slice rest, const char *wrong)
{
    if (rest.len == 2 && rest.at[0] == '\r' && rest.at[1] == '\n') return true;
    return fail(m, 400, rest.len && rest.at[0] == '\r' ? "A CR is not followed by LF." : wrong);
}

/* Take what stands before the end of the line, which is one byte or a CR and one: it holds no control byte but HTAB. */
static struct slice take_text(struct slice *rest)
{
    size_t end = rest->len > 1 && rest->at[rest->len - 2] == '\r' ? 2 : rest->len > 0;
    struct slice text = {rest->at, rest->len - end};

    *rest = (struct slice){text.at + text.len, end};
    return text;
}

/* ---- the start line -------------------------------------------------------------------------------------------------- */

static bool version_read(struct http_message *m, struct slice *rest)
{
    int major, minor;

    if (!take_version(rest, &major, &minor)) return fail(m, 400, "The HTTP version is malformed.");
    if (major != 1) return fail(m, 505, "This server speaks HTTP/1.1 and HTTP/1.0.");
    m->minor = minor > 0; /* RFC 9110 2.5: 1.2 and up is treated as the highest 1.x we know */
    return true;
}

/* Does the target have the form that its method wants? RFC 9112 3.2. */
static bool target_fits(struct http_message *m, struct target *t)
{
    struct authority a;

    if (m->method == HTTP_CONNECT) { /* RFC 9110 9.3.6: a port there must be */
        if (!authority_read(t->whole, &a) || !a.port.len) return fail(m, 400, "CONNECT takes host:port as its target.");
    } else if (t->whole.at[0] == '/') {
        if (t->bracket) return fail(m, 400, "A square bracket in the target must be percent-encoded.");
    } else if (slice_is(t->whole, "*")) {
        if (m->method != HTTP_OPTIONS) return fail(m, 400, "Only OPTIONS may have * as its target.");
        m->asterisk = true;
    } else {
        if (!target_is_absolute(t)) return fail(m, 400, "The request target is neither a path nor an http:// address.");
        /* "OPTIONS http://host" asks about the server as a whole, RFC 9112 3.2.4 */
        m->asterisk = m->method == HTTP_OPTIONS && !t->path.len && !t->query.at;
    }
    m->host = span_of(m, t->host);
    m->path = span_of(m, t->path);
    m->query = span_of(m, t->query);
    return true;
}

static bool request_line(struct http_message *m, struct slice rest)
{
    struct slice method = take_token(&rest);
    struct target target;
    const char *wrong;

    if (method.len > HTTP_METHOD_MAX) return fail(m, 501, "This method is not known here.");
    if (!method.len || !take_byte(&rest, ' ')) return fail(m, 400, "The method is not a token.");
    m->method = method_of(method);
    m->method_name = span_of(m, method);
    if ((wrong = take_target(&rest, &target)) != NULL) return fail(m, 400, wrong);
    if (!take_byte(&rest, ' '))
        return fail(m, 400,
                    rest.at[0] == '\r' || rest.at[0] == '\n' ? "The request line has no HTTP version."
                                                             : "The request target holds a byte that must be percent-encoded.");
    if (!target.whole.len) return fail(m, 400, "The request target is empty.");
    m->target = span_of(m, target.whole);
    return version_read(m, &rest) && line_ends(m, rest, "The HTTP version is not followed by CRLF.") && target_fits(m, &target);
}

static bool status_line(struct http_message *m, struct slice rest)
{
    if (!version_read(m, &rest)) return false;
    if (!take_byte(&rest, ' ')) return fail(m, 400, "The status line is malformed.");
    for (int i = 0; i < 3; i++, rest.at++, rest.len--) {
        if (!is_digit(rest.at[0])) return fail(m, 400, "The status is not a number.");
        m->status = m->status * 10 + (rest.at[0] - '0');
    }
    if (!take_byte(&rest, ' ')) return fail(m, 400, "The status line is malformed.");
    if (m->status < 100) return fail(m, 400, "The status is below 100.");
    take_text(&rest);
    return line_ends(m, rest, "The reason phrase holds a control byte.");
}

static bool start_line(struct http_message *m, struct slice line)
{
    if (m->phase == HTTP_FRESH) { /* RFC 9112 2.2: one empty line is forgiven */
        m->forgiven = true;
        return line_ends(m, line, NULL);
    }
    m->text_len += (uint32_t)line.len;
    return (m->role == HTTP_REQUEST ? request_line(m, line) : status_line(m, line)) && state_enter(m, FIELD_LINE, HTTP_FIELDS_MAX);
}

/* ---- fields ----------------------------------------------------------------------------------------------------------- */

static bool once(struct http_message *m, uint8_t which, const char *error)
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
    return true;
}

static bool transfer_encoding_read(struct http_message *m, struct slice v)
{
    if (!once(m, ONCE_ENCODING, "There are two Transfer-Encoding fields.")) return false;
    return slice_is_nocase(v, "chunked") || fail(m, 400, "The only Transfer-Encoding understood here is chunked.");
}

static bool host_read(struct http_message *m, struct slice v)
{
    struct authority a;

    if (!once(m, ONCE_HOST, "There are two Host fields.")) return false;
    return authority_read(v, &a) || fail(m, 400, "The Host field is not a host with an optional port.");
}

static bool connection_read(struct http_message *m, struct slice v)
{
    struct slice option;

    while (slice_next_element(&v, &option)) {
        if (slice_is_nocase(option, "close")) m->says_close = true;
        else if (slice_is_nocase(option, "keep-alive")) m->says_keep_alive = true;
    }
    return true;
}

static bool expect_read(struct http_message *m, struct slice v)
{
    if (!slice_is_nocase(v, "100-continue")) m->expect_unknown = true;
    else m->expect_continue = m->minor >= 1; /* HTTP/1.0 knows no 100 */
    return true;
}

/* Does this field rule the message itself? The length rules out nearly everything before a byte is compared. */
static bool field_done(struct http_message *m, struct slice name, struct slice value)
{
    switch (name.len) {
    case 4: return m->role == HTTP_RESPONSE || !slice_is(name, "host") || host_read(m, value);
    case 6: return !slice_is(name, "expect") || expect_read(m, value);
    case 10: return !slice_is(name, "connection") || connection_read(m, value);
    case 12: return !slice_is(name, "content-type") || once(m, ONCE_TYPE, "There are two Content-Type fields.");
    case 13: return !slice_is(name, "authorization") || once(m, ONCE_AUTHORIZATION, "There are two Authorization fields.");
    case 14: return !slice_is(name, "content-length") || content_length_read(m, value);
    case 17: return !slice_is(name, "transfer-encoding") || transfer_encoding_read(m, value);
    default: return true;
    }
}

/* What is left of a field line is its value, which may stand between white space. */
static bool value_read(struct http_message *m, struct slice rest, struct slice *value)
{
    *value = slice_trim(take_text(&rest));
    return line_ends(m, rest, rest.at[0] == '\n' ? "A field line ends in a bare LF." : "A field value holds a control byte.");
}

/* name ":" value, RFC 9112 5. The name is put in lower case where it stands. */
static bool field_read(struct http_message *m, struct slice line, struct slice *name, struct slice *value)
{
    size_t n = lower_token(m->text + m->text_len, line.len);

    *name = (struct slice){line.at, n};
    if (n == 0) return fail(m, 400, "A field has no name.");
    if (line.at[n] != ':') return fail(m, 400, "A field name is not a token followed by a colon.");
    return value_read(m, (struct slice){line.at + n + 1, line.len - n - 1}, value);
}

/* RFC 9112 5.2: a request that is folded over two lines is refused, a response is read with a space for each fold. */
static bool folded_line(struct http_message *m, struct slice line, struct slice *more)
{
    if (!m->may_fold) return fail(m, 400, "A header field is folded over two lines.");
    return value_read(m, line, more);
}

/* The last field goes on: its value moves up to what it already has, over the end of the line between them. */
static void field_append(struct http_message *m, struct slice more)
{
    struct http_span *value = &m->fields[m->fields_len - 1].value;
    char *at = m->text + value->at;

    if (!more.len) return;
    if (value->len) at[value->len++] = ' ';
    memmove(at + value->len, more.at, more.len);
    value->len = (uint16_t)(value->len + more.len);
}

/* The last field does not go on. */
static bool unfolded(struct http_message *m)
{
    const struct http_field *f = &m->fields[m->fields_len - 1];

    m->may_fold = false;
    return field_done(m, slice_of(m, f->name), slice_of(m, f->value));
}

/* RFC 9112 6.3: how long is the body? */
static bool head_done(struct http_message *m)
{
    bool is_request = m->role == HTTP_REQUEST, chunked = m->once & ONCE_ENCODING, has_length = m->once & ONCE_LENGTH;
    bool has_none = m->no_body || (is_request ? !chunked && !has_length : m->status < 200 || m->status == 204 || m->status == 304);

    if (is_request && m->minor >= 1 && !(m->once & ONCE_HOST)) return fail(m, 400, "HTTP/1.1 requires a Host field.");
    if (chunked && has_length) return fail(m, 400, "Content-Length and Transfer-Encoding contradict each other.");
    if (chunked && m->minor == 0) return fail(m, 400, "HTTP/1.0 has no Transfer-Encoding.");

    m->keep_alive = !m->says_close && (m->minor >= 1 || m->says_keep_alive);
    if (!is_request && m->status == 101) m->keep_alive = false; /* what follows is not HTTP, RFC 9110 15.2.2 */
    m->body = m->text_len;
    m->phase = HTTP_IN_BODY;
    if (has_none || (has_length && m->length == 0)) {
        m->phase = HTTP_DONE;
        return true;
    }
    if (chunked) return state_enter(m, CHUNK_LINE, CHUNK_LINE_MAX + m->ext_room);
    if (has_length) {
        if (m->length > m->body_limit) return fail(m, 413, "The body is too large.");
        return state_enter(m, BODY, (uint32_t)m->length);
    }
    m->until_close = true;
    m->keep_alive = false;
    return state_enter(m, BODY, m->body_limit + 1); /* the byte that would be too many */
}

static bool field_line(struct http_message *m, struct slice line)
{
    struct slice name, value;

    if (is_blank(line.at[0])) {
        if (!folded_line(m, line, &value)) return false;
        m->text_len += (uint32_t)line.len;
        field_append(m, value);
        return true;
    }
    if (m->may_fold && !unfolded(m)) return false;
    if (line.at[0] == '\r') return line_ends(m, line, NULL) && head_done(m);
    if (!field_read(m, line, &name, &value) || !fields_push(m, name, value)) return false;
    m->text_len += (uint32_t)line.len;
    m->may_fold = m->role == HTTP_RESPONSE;
    return m->may_fold || field_done(m, name, value);
}

/* Trailers are checked, then dropped: nothing here has a use for them. They count as fields. */
static bool trailer_line(struct http_message *m, struct slice line)
{
    struct slice name, value;

    if (is_blank(line.at[0])) return folded_line(m, line, &value);
    if (line.at[0] == '\r') {
        if (line_ends(m, line, NULL)) m->phase = HTTP_DONE;
        return true;
    }
    if (!field_read(m, line, &name, &value)) return false;
    if (trailer_forbidden(name)) return fail(m, 400, "A trailer holds a field that may only stand in the header.");
    if (m->fields_len + ++m->trailers > HTTP_FIELDS_COUNT) return fail(m, 431, "There are more than 100 header fields.");
    m->may_fold = m->role == HTTP_RESPONSE;
    return true;
}

/* ---- chunks, RFC 9112 7.1 ----------------------------------------------------------------------------------------------- */

/* Behind a semicolon: extensions are checked, and ignored. */
static bool extensions_read(struct http_message *m, struct slice rest)
{
    struct slice extensions = take_text(&rest);

    if (extensions.len >= m->ext_room) return fail(m, 400, "The chunk extensions are too long.");
    m->ext_room -= (uint32_t)extensions.len + 1; /* the end of the line is counted, so that many small ones are not free */
    if (!chunk_extensions_valid(extensions)) return fail(m, 400, "A chunk extension is malformed.");
    return line_ends(m, rest, "A chunk extension is malformed.");
}

static bool chunk_line(struct http_message *m, struct slice rest)
{
    uint32_t left = m->body_limit - (m->text_len - m->body);
    uint64_t size = 0;
    int digits = 0;

    for (int digit; rest.len && (digit = hex_value(rest.at[0])) >= 0; rest.at++, rest.len--) {
        if (++digits > CHUNK_DIGITS_MAX) return fail(m, 400, "The chunk size has too many digits.");
        size = size * 16 + (uint64_t)digit;
        if (size > left) return fail(m, 413, "The body is too large.");
    }
    if (!digits) return fail(m, 400, "A chunk does not begin with its size in hexadecimal.");
    if (take_byte(&rest, ';') ? !extensions_read(m, rest) : !line_ends(m, rest, "The chunk size is not a hexadecimal number."))
        return false;
    return size ? state_enter(m, CHUNK_DATA, (uint32_t)size) : state_enter(m, TRAILER_LINE, HTTP_FIELDS_MAX);
}

static bool chunk_end(struct http_message *m, struct slice line)
{
    return line_ends(m, line, "Chunk data is longer than its size, or not ended by CRLF.") &&
           state_enter(m, CHUNK_LINE, CHUNK_LINE_MAX + m->ext_room);
}

/* ---- the machine -------------------------------------------------------------------------------------------------------- */

/* A line is here, behind what m->text keeps. The lines of a head stay where they have been gathered, the others go. */
static void line_done(struct http_message *m)
{
    static bool (*const readers[])(struct http_message *, struct slice) = {
        [START_LINE] = start_line, [FIELD_LINE] = field_line,     [CHUNK_LINE] = chunk_line,
        [CHUNK_END] = chunk_end,   [TRAILER_LINE] = trailer_line,
    };
    struct slice line = {m->text + m->text_len, m->line_len};

    m->line_len = 0;
    readers[m->state](m, line);
}

/* The room is used up, and the line has not ended. That of a chunk has room for any that is well-formed: its reader says what is
 * wrong with this one. */
static void line_too_long(struct http_message *m)
{
    if (m->state == START_LINE) fail(m, 414, "The start line is longer than 8 KiB.");
    else if (m->state == FIELD_LINE || m->state == TRAILER_LINE) fail(m, 431, "The header fields are larger than 16 KiB.");
    else line_done(m);
}

/* Gather a line; there is memory for n bytes. Returns how many were taken. */
static size_t feed_line(struct http_message *m, const char *bytes, size_t n)
{
    char *to = m->text + m->text_len + m->line_len;
    bool after_cr = m->line_len && to[-1] == '\r';
    size_t i = 0;

    if (n > m->room) n = m->room;
    if (m->phase == HTTP_FRESH && !m->line_len && (bytes[0] != '\r' || m->role == HTTP_RESPONSE || m->forgiven))
        m->phase = HTTP_IN_HEAD;
    if (!after_cr) {
        i = copy_text(to, bytes, n);
        if (i < n && bytes[i] == '\r') to[i++] = '\r';
    }
    bool ended = i < n; /* by what cannot go on, or stands behind a CR */
    if (ended) to[i] = bytes[i], i++;
    m->line_len += (uint32_t)i;
    m->room -= (uint32_t)i;
    if (ended) line_done(m);
    if (m->room == 0 && m->phase < HTTP_DONE) line_too_long(m);
    return i;
}

static size_t feed_data(struct http_message *m, const char *bytes, size_t n)
{
    if (n > m->room) n = m->room;
    memcpy(m->text + m->text_len, bytes, n);
    m->text_len += (uint32_t)n;
    m->room -= (uint32_t)n;
    if (m->room) return n;
    if (m->until_close) fail(m, 413, "The body is too large.");
    else if (m->state == CHUNK_DATA) state_enter(m, CHUNK_END, 2);
    else m->phase = HTTP_DONE;
    return n;
}

size_t http_feed(struct http_message *m, const char *bytes, size_t n)
{
    size_t at = 0;

    while (at < n && m->phase < HTTP_DONE) {
        bool in_head = m->phase < HTTP_IN_BODY, in_data = m->state == BODY || m->state == CHUNK_DATA;
        uint32_t used = m->text_len + m->line_len;

        if (used == m->text_cap && !text_grow(m)) break;
        size_t piece = n - at < m->text_cap - used ? n - at : m->text_cap - used;
        at += in_data ? feed_data(m, bytes + at, piece) : feed_line(m, bytes + at, piece);
        if (in_head && m->phase == HTTP_IN_BODY) break;
    }
    return at;
}

bool http_end_of_input(struct http_message *m)
{
    if (m->phase == HTTP_IN_BODY && m->until_close) m->phase = HTTP_DONE;
    return m->phase == HTTP_DONE;
}

/* ---- what a message says ------------------------------------------------------------------------------------------------- */

struct slice http_method_text(const struct http_message *m)
{
    return slice_of(m, m->method_name);
}

struct slice http_target(const struct http_message *m)
{
    return slice_of(m, m->target);
}

struct slice http_path(const struct http_message *m)
{
    return m->path.len ? slice_of(m, m->path) : SLICE("/");
}

struct slice http_query(const struct http_message *m)
{
    return m->query.at ? slice_of(m, m->query) : (struct slice){0};
}

/* RFC 9112 3.2.2: the authority of an absolute target stands in place of Host. */
struct slice http_host(const struct http_message *m)
{
    return m->host.at ? slice_of(m, m->host) : http_field(m, "host");
}

struct slice http_body(const struct http_message *m)
{
    return (struct slice){m->text + m->body, m->text_len - m->body};
}

bool http_next_field(const struct http_message *m, const char *name, unsigned *i, struct slice *value)
{
    while (*i < m->fields_len) {
        const struct http_field *f = &m->fields[(*i)++];

        if (slice_is(slice_of(m, f->name), name)) {
            *value = slice_of(m, f->value);
            return true;
        }
    }
    return false;
}

struct slice http_field(const struct http_message *m, const char *name)
{
    struct slice value = {0};

    http_next_field(m, name, &(unsigned){0}, &value);
    return value;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------- */

const char *http_reason(int status)
{
    /* clang-format off */
    static const char *const reasons[600] = {
        [100] = "Continue", [200] = "OK", [201] = "Created", [202] = "Accepted", [204] = "No Content", [304] = "Not Modified",
        [400] = "Bad Request", [401] = "Unauthorized", [403] = "Forbidden", [404] = "Not Found", [405] = "Method Not Allowed",
        [406] = "Not Acceptable", [408] = "Request Timeout", [409] = "Conflict", [413] = "Content Too Large",
        [414] = "URI Too Long", [415] = "Unsupported Media Type", [417] = "Expectation Failed", [422] = "Unprocessable Content",
        [431] = "Request Header Fields Too Large", [500] = "Internal Server Error", [501] = "Not Implemented",
        [502] = "Bad Gateway", [503] = "Service Unavailable", [504] = "Gateway Timeout", [505] = "HTTP Version Not Supported",
        [507] = "Insufficient Storage",
    };
    /* clang-format on */

    return status >= 0 && status < 600 && reasons[status] ? reasons[status] : "Unknown";
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
    const char code[] = {(char)('0' + status / 100), (char)('0' + status / 10 % 10), (char)('0' + status % 10), ' '};
    char *at = buf_reserve(b, strlen("HTTP/1.1 200 \r\n") + reason_len + date.len);

    if (!at) return;
    at = mempcpy(mempcpy(at, "HTTP/1.1 ", 9), code, sizeof code);
    at = mempcpy(mempcpy(at, reason, reason_len), "\r\n", 2);
    at = mempcpy(at, date.at, date.len);
    b->end = (uint32_t)(at - b->mem);
}

void http_write_field(struct buf *b, const char *name, struct slice value)
{
    size_t name_len = strlen(name);
    char *at = buf_reserve(b, name_len + value.len + 4);

    if (!at) return;
    at = mempcpy(mempcpy(at, name, name_len), ": ", 2);
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
