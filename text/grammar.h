/* grammar.h: which bytes may stand where. Pure predicates on slices, and readers that take what they understand off the front of one;
 * the paragraph that rules each is named. Nothing here remembers anything, or knows of a message. */
#ifndef FORNO_GRAMMAR_H
#define FORNO_GRAMMAR_H

#include "text/bytes.h"

/* ---- bytes and numbers ------------------------------------------------------------------------------------------------- */

/* SP and HTAB, RFC 9110 5.6.3. */
static inline bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

int hex_value(char c); /* of a hexadecimal digit; -1: it is none */

/* Digits and nothing else: 1*DIGIT, as Content-Length has it (RFC 9110 8.6). What is beyond all numbers is UINT64_MAX. */
bool whole_number(struct slice s, uint64_t *n);

/* Copy bytes up to the first that has no place in a field value, RFC 9110 5.5: a control byte other than HTAB. Returns how many. */
size_t copy_text(char *to, const char *from, size_t n);

/* ---- characters ---------------------------------------------------------------------------------------------------------- */

/* UTF-8, byte by byte, RFC 3629: each character in its shortest form, and no surrogates. `left` is how many bytes its last
 * character still wants: begin with zeros, and see that none is left in the end. */
struct utf8 {
    uint8_t left, low, high; /* the next byte must be from low to high */
};

bool utf8_push(struct utf8 *u, char c); /* false: this byte cannot stand here */

/* The byte that the percent-escape at the front of a slice stands for, RFC 3986 2.1. -1: there is none. */
int percent_value(struct slice s);

/* ---- taking a slice apart ------------------------------------------------------------------------------------------------ */

/* False: it begins with something else, or is used up. */
static inline bool take_byte(struct slice *s, char c)
{
    if (!s->len || s->at[0] != c) return false;
    s->at++;
    s->len--;
    return true;
}

/* Take what stands before the first such byte, and that byte; all of it when there is none. */
struct slice take_until(struct slice *s, char c);

/* Take a token, RFC 9110 5.6.2. Empty: there is none. */
struct slice take_token(struct slice *s);

/* Put the token at the front of these bytes in lower case, for names that do not mind (RFC 9110 5.1). Returns its length. */
size_t lower_token(char *at, size_t n);

struct slice slice_trim(struct slice s); /* without optional white space around it, RFC 9110 5.6.3 */

/* Take the next element off a comma-separated list (RFC 9110 5.6.1), trimmed; empty elements are skipped.
 * False when the list is used up. Not for lists whose elements may hold quoted commas. */
bool slice_next_element(struct slice *list, struct slice *element);

/* ---- the target of a request, and whom it is for --------------------------------------------------------------------------- */

/* uri-host [ ":" port ], RFC 9110 7.2. */
struct authority {
    struct slice host, port; /* an address of IPv6 with its brackets; no port is an empty one */
};

bool authority_read(struct slice s, struct authority *a);

/* A target in any of its forms, RFC 9112 3.2. It points into what it was taken from. */
struct target {
    struct slice whole, path, query; /* still percent-encoded. The query without its '?', absent when there is none */
    struct slice host;               /* the authority of the absolute form, absent in every other */
    const char *bracket;             /* the last square bracket before the query: only an authority may have them */
};

/* Take all that may stand in a target, where its escapes spell UTF-8 without NUL. Returns what is wrong, in words, or NULL. */
const char *take_target(struct slice *s, struct target *t);

/* http://host/path?query: finds the host, and where the path begins. False: it has another form (RFC 9112 3.2.2). */
bool target_is_absolute(struct target *t);

/* ---- what only HTTP has ------------------------------------------------------------------------------------------------------ */

/* Take "HTTP/x.y", RFC 9112 2.3. */
bool take_version(struct slice *s, int *major, int *minor);

/* Extensions of a chunk, without the first semicolon, RFC 9112 7.1.1. The grammar's "bad white space" is not accepted: no
 * sender needs it, and two readers may disagree about it. */
bool chunk_extensions_valid(struct slice s);

/* What frames, routes or authenticates a message has no business in its trailers, RFC 9110 6.5.1. `name` in lower case. */
bool trailer_forbidden(struct slice name);

/* How much a client wants a media type (RFC 9110 12.5.1): what speaks of it most exactly counts. */
struct wish {
    int exactness; /* 3: it is named; 2: its kind is; 1: all are; 0: nothing speaks of it */
    int quality;   /* in thousandths */
};

/* One line of Accept; begin with zeros. What has a weight that is none says nothing; other parameters are not looked at. */
void accept_read(struct slice line, const char *type, struct wish *wish);

/* What one line of Prefer sets a preference to, RFC 7240 2; absent: it does not speak of it. The first to speak counts. */
struct slice preference(struct slice line, const char *name);

#endif
