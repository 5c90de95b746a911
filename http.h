/* http.h: HTTP/1.1 as a state machine: bytes in, messages out. No descriptors, no waiting.
 *
 * RFC 9112 (message syntax) and RFC 9110 (semantics), read strictly: every byte has one valid meaning, or the message has
 * failed and nothing after it is interpreted. The same machine reads requests (server) and responses (client). */
#ifndef FORNO_HTTP_H
#define FORNO_HTTP_H

#include "text/bytes.h"

/* ---- limits: what one message may cost, and the status when it wants more -------------------------------------------- */

#define HTTP_LINE_MAX 8192      /* request line with its CRLF; RFC 9112 3 asks for at least 8000. 414 */
#define HTTP_FIELDS_MAX 16384   /* all field lines with the empty line; the trailer section again. 431 */
#define HTTP_FIELDS_COUNT 100   /* 431 */
#define HTTP_BODY_MAX 65536     /* 413 for a request */
#define HTTP_CHUNK_EXT_MAX 4096 /* all chunk extensions of a message together, RFC 9112 7.1.1. 400 */
#define HTTP_METHOD_MAX 32      /* 501 */

/* ---- reading -------------------------------------------------------------------------------------------------------- */

enum http_role { HTTP_REQUEST, HTTP_RESPONSE };

/* clang-format off */
enum http_method {
    HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_DELETE, HTTP_PATCH, HTTP_OPTIONS, HTTP_TRACE, HTTP_CONNECT,
    HTTP_OTHER /* a valid token that we do not know: 501 */
};
/* clang-format on */

enum http_phase {
    HTTP_FRESH, /* no byte of it has been seen (the one tolerated empty line does not count) */
    HTTP_IN_HEAD,
    HTTP_IN_BODY, /* the head is complete and valid, the body is not here yet */
    HTTP_DONE,
    HTTP_FAILED /* see `status` and `error`; the connection can only be closed */
};

struct http_span {
    uint16_t at, len; /* in text; at 0: absent, but for the method */
};

struct http_field {
    struct http_span name, value;
};

/* One message. It copies what it keeps into `text`, so the bytes fed may vanish at once. */
struct http_message {
    /* for everybody to read */
    enum http_phase phase;
    enum http_method method;
    int minor;            /* HTTP/1.minor, 0 or 1 */
    int status;           /* response: its status; failed request: the status to answer (400, 413, 414, 431, …) */
    const char *error;    /* failed: what was wrong, in words; a constant */
    bool keep_alive;      /* may the connection carry another message, RFC 9112 9.3 */
    bool expect_continue; /* Expect: 100-continue, RFC 9110 10.1.1 */
    bool expect_unknown;  /* any other expectation: 417 */
    bool asterisk;        /* OPTIONS * */
    uint32_t body_limit;  /* bytes; http_begin() sets HTTP_BODY_MAX, the caller may change it */
    bool no_body;         /* caller sets it for the response to a HEAD, RFC 9112 6.3 */

    /* http.c's own */
    enum http_role role;
    uint8_t state;
    uint8_t once; /* which fields that may stand once have stood */
    bool forgiven, may_fold, says_close, says_keep_alive, until_close;
    uint8_t fields_len, fields_cap, trailers;
    struct http_span method_name, target, host, path, query;
    uint32_t room;     /* bytes that what is being read may still take */
    uint32_t ext_room; /* … and the chunk extensions to come */
    uint64_t length;   /* Content-Length */
    char *text;        /* the lines of the head as they came, then the body; then, not kept yet, the line in hand */
    uint32_t text_len, text_cap, line_len, body;
    struct http_field *fields;
};

/* Start (again): forgets the last message, keeps its memory if that is small. `m` must be zeroed before the first time. */
void http_begin(struct http_message *m, enum http_role role);
void http_free(struct http_message *m);

/* Feed bytes as they arrive, in pieces of any size. Returns how many were consumed. Stops early at the end of the head if
 * a body follows (phase has become HTTP_IN_BODY: the caller may look at the head, then feeds the rest), at the end of the
 * message, and at an error. What comes out does not depend on how the bytes were cut. */
size_t http_feed(struct http_message *m, const char *bytes, size_t n);

/* It does not go on, for a reason of the caller's: HTTP_FAILED, with this status and error. */
void http_give_up(struct http_message *m, int status, const char *error);

/* The peer has closed its side. True when that completes the message (a response whose body ends there). */
bool http_end_of_input(struct http_message *m);

/* Valid once the head is complete, until the next http_begin(). Field names in lower case. */
struct slice http_method_text(const struct http_message *m);
struct slice http_target(const struct http_message *m); /* as sent */
struct slice http_path(const struct http_message *m);   /* still percent-encoded; "/" at least */
struct slice http_query(const struct http_message *m);  /* without the '?'; absent when there was none */
struct slice http_host(const struct http_message *m);   /* whom the request is for: host[:port]; absent in some HTTP/1.0 */
struct slice http_body(const struct http_message *m);   /* valid when HTTP_DONE */
struct slice http_field(const struct http_message *m, const char *name); /* the first of that name, or absent */

/* Every field of that name: start with *i = 0. */
bool http_next_field(const struct http_message *m, const char *name, unsigned *i, struct slice *value);

/* ---- writing --------------------------------------------------------------------------------------------------------- */

const char *http_reason(int status);

/* Status line and Date (RFC 9110 6.6.1; made once a second). */
void http_write_status(struct buf *b, int status);
/* One field line. The caller vouches for the value: no CR, LF or NUL. */
void http_write_field(struct buf *b, const char *name, struct slice value);
void http_write_length(struct buf *b, size_t content_length);
void http_write_end(struct buf *b); /* the empty line */

#endif
