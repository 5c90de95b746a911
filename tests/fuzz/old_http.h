/* old_http.h: see old_http.c. */
#ifndef FORNO_OLD_HTTP_H
#define FORNO_OLD_HTTP_H

#include "text/bytes.h"

/* ---- limits: what one message may cost, and the status when it wants more -------------------------------------------- */

#define OLD_HTTP_LINE_MAX 8192      /* request line with its CRLF; RFC 9112 3 asks for at least 8000. 414 */
#define OLD_HTTP_FIELDS_MAX 16384   /* all field lines with the empty line; the trailer section again. 431 */
#define OLD_HTTP_FIELDS_COUNT 100   /* 431 */
#define OLD_HTTP_BODY_MAX 65536     /* 413 for a request */
#define OLD_HTTP_CHUNK_EXT_MAX 4096 /* all chunk extensions of a message together, RFC 9112 7.1.1. 400 */
#define OLD_HTTP_METHOD_MAX 32      /* 501 */

/* ---- reading -------------------------------------------------------------------------------------------------------- */

enum old_http_role { OLD_HTTP_REQUEST, OLD_HTTP_RESPONSE };

/* clang-format off */
enum old_http_method {
    OLD_HTTP_GET, OLD_HTTP_HEAD, OLD_HTTP_POST, OLD_HTTP_PUT, OLD_HTTP_DELETE, OLD_HTTP_PATCH, OLD_HTTP_OPTIONS, OLD_HTTP_TRACE, OLD_HTTP_CONNECT,
    OLD_HTTP_OTHER /* a valid token that we do not know: 501 */
};
/* clang-format on */

enum old_http_phase {
    OLD_HTTP_FRESH, /* no byte of it has been seen (the one tolerated empty line does not count) */
    OLD_HTTP_IN_HEAD,
    OLD_HTTP_IN_BODY, /* the head is complete and valid, the body is not here yet */
    OLD_HTTP_DONE,
    OLD_HTTP_FAILED /* see `status` and `error`; the connection can only be closed */
};

struct old_http_field {
    uint16_t name, name_len, value, value_len; /* in text */
};

/* One message. It copies what it keeps into `text`, so the bytes fed may vanish at once. */
struct old_http_message {
    /* for everybody to read */
    enum old_http_phase phase;
    enum old_http_method method;
    int minor;            /* HTTP/1.minor, 0 or 1 */
    int status;           /* response: its status; failed request: the status to answer (400, 413, 414, 431, …) */
    const char *error;    /* failed: what was wrong, in words; a constant */
    bool keep_alive;      /* may the connection carry another message, RFC 9112 9.3 */
    bool expect_continue; /* Expect: 100-continue, RFC 9110 10.1.1 */
    bool expect_unknown;  /* any other expectation: 417 */
    bool asterisk;        /* OPTIONS * */
    uint32_t body_limit;  /* bytes; old_http_begin() sets OLD_HTTP_BODY_MAX, the caller may change it */
    bool no_body;         /* caller sets it for the response to a HEAD, RFC 9112 6.3 */

    /* http.c's own */
    enum old_http_role role;
    uint8_t state, matched, utf8_left, utf8_low, utf8_high;
    bool chunked, has_length, says_close, says_keep_alive, in_trailer, until_close, bracketed, has_query;
    uint8_t fields_len, fields_cap, method_len;
    char method_text[OLD_HTTP_METHOD_MAX];
    uint32_t once; /* which fields that may stand once have stood */
    uint32_t room; /* bytes the section in hand may still take */
    uint32_t ext_room;
    uint64_t length; /* Content-Length, or what is left of the body or chunk */
    char *text;      /* target, names, values, then the body */
    uint32_t text_len, text_cap;
    uint32_t path, path_len, query, query_len, target_len, body, trailer_start;
    uint32_t name, name_len, value; /* the field line in hand */
    struct old_http_field *fields;
};

/* Start (again): forgets the last message, keeps its memory if that is small. `m` must be zeroed before the first time. */
void old_http_begin(struct old_http_message *m, enum old_http_role role);
void old_http_free(struct old_http_message *m);

/* Feed bytes as they arrive, in pieces of any size. Returns how many were consumed. Stops early at the end of the head if
 * a body follows (phase has become OLD_HTTP_IN_BODY: the caller may look at the head, then feeds the rest), at the end of the
 * message, and at an error. What comes out does not depend on how the bytes were cut. */
size_t old_http_feed(struct old_http_message *m, const char *bytes, size_t n);

/* The peer has closed its side. True when that completes the message (a response whose body ends there). */
bool old_http_end_of_input(struct old_http_message *m);

/* Valid once the head is complete, until the next old_http_begin(). Field names in lower case. */
struct slice old_http_method_text(const struct old_http_message *m);
struct slice old_http_target(const struct old_http_message *m); /* as sent */
struct slice old_http_path(const struct old_http_message *m);   /* still percent-encoded; "/" at least */
struct slice old_http_query(const struct old_http_message *m);  /* without the '?'; absent when there was none */
struct slice old_http_host(const struct old_http_message *m);   /* whom the request is for: host[:port]; absent in some HTTP/1.0 */
struct slice old_http_body(const struct old_http_message *m);   /* valid when OLD_HTTP_DONE */
struct slice old_http_field(const struct old_http_message *m, const char *name); /* the first of that name, or absent */

/* Every field of that name: start with *i = 0. */
bool old_http_next_field(const struct old_http_message *m, const char *name, unsigned *i, struct slice *value);

#endif
