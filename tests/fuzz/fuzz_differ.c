/* fuzz_differ.c: the parser of lines against the one that went byte by byte (old_http.c). The same bytes, cut in the same way, must mean
 * the same to both: every call consumes as much and leads to the same phase, and whatever a message says, it says to both.
 *
 * An error may show later, at the end of its line, but not beyond. Four differences are meant, and no others:
 *
 * - A line that is longer than its limit is too long, whatever else may be wrong within it: 414 (RFC 9110 15.5.15), 431 (RFC 6585 5).
 * - Chunk extensions that are too long and malformed are the one or the other. Both are 400.
 * - A trailer of a response that may not be there (RFC 9110 6.5.1), and the field beyond the hundredth, are refused at the end of
 *   their line, before it is known whether the next one goes on with them.
 * - A length is digits (RFC 9110 8.6). The old one gave up at those that begin like a number beyond all numbers, even if they were none,
 *   and at the last five below 2^64 - 1, which are numbers.
 *
 * Inputs are those of fuzz_http.c. */
#include "http.h"
#include "tests/fuzz/old_http.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_BODY 24

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert(): it must stand whatever NDEBUG says, and libFuzzer wants a crash. */
static void must(bool condition, const char *what)
{
    if (condition) return;
    fprintf(stderr, "they differ: %s\n", what);
    __builtin_trap();
}

static bool same(struct slice a, struct slice b)
{
    return !a.at == !b.at && slice_same(a, b);
}

struct both {
    struct http_message m;
    struct old_http_message old;
    uint8_t control;
    size_t fed; /* to the new one, since the message began */
};

static void begin(struct both *b)
{
    bool request = tolower(b->control) == 'q';

    http_begin(&b->m, request ? HTTP_REQUEST : HTTP_RESPONSE);
    old_http_begin(&b->old, request ? OLD_HTTP_REQUEST : OLD_HTTP_RESPONSE);
    b->m.no_body = b->old.no_body = tolower(b->control) == 'h';
    if (isupper(b->control)) b->m.body_limit = b->old.body_limit = SMALL_BODY;
    b->fed = 0;
}

static void compare_start(const struct both *b)
{
    must(same(http_method_text(&b->m), old_http_method_text(&b->old)), "the method's text");
    must(same(http_target(&b->m), old_http_target(&b->old)), "target");
}

static void compare_head(const struct both *b)
{
    const struct http_message *m = &b->m;
    const struct old_http_message *old = &b->old;

    if (m->role == HTTP_REQUEST) {
        compare_start(b);
        must(m->method == (enum http_method)old->method, "method");
        must(same(http_path(m), old_http_path(old)), "path");
        must(same(http_query(m), old_http_query(old)), "query");
    }
    must(same(http_host(m), old_http_host(old)), "host");
    must(m->minor == old->minor, "version");
    must(m->status == old->status, "status");
    must(m->keep_alive == old->keep_alive, "keep_alive");
    must(m->asterisk == old->asterisk, "asterisk");
    must(m->expect_continue == old->expect_continue && m->expect_unknown == old->expect_unknown, "expectation");
    must(m->fields_len == old->fields_len, "number of fields");
    for (unsigned i = 0; i < m->fields_len; i++) {
        const struct http_field *f = &m->fields[i];
        const struct old_http_field *o = &old->fields[i];

        must(same((struct slice){m->text + f->name.at, f->name.len}, (struct slice){old->text + o->name, o->name_len}), "name");
        must(same((struct slice){m->text + f->value.at, f->value.len}, (struct slice){old->text + o->value, o->value_len}),
             "value");
    }
}

static bool about_extensions(const char *error)
{
    return strstr(error, "chunk extension") != NULL;
}

static bool about_unfolded(const struct both *b)
{
    return b->m.role == HTTP_RESPONSE && (strstr(b->m.error, "A trailer holds") || strstr(b->m.error, "more than 100"));
}

/* May the new one say this where the old one says that? */
static void compare_errors(const struct both *b)
{
    const char *new = b->m.error, *old = b->old.error;

    if (strstr(old, "beyond all numbers")) return;
    if (http_target(&b->m).len) compare_start(b);
    must(!b->m.keep_alive && !b->old.keep_alive, "keep_alive after an error");
    if (b->m.status == b->old.status && strcmp(new, old) == 0) return;
    if (strstr(new, "longer than 8 KiB") && b->fed >= HTTP_LINE_MAX) return;
    if (strstr(new, "larger than 16 KiB") && b->fed >= HTTP_FIELDS_MAX) return;
    if (about_extensions(new) && about_extensions(old) && b->old.status == 400) return;
    if (about_unfolded(b)) return;
    fprintf(stderr, "new: %d %s\nold: %d %s\n", b->m.status, new, b->old.status, old);
    must(false, "errors");
}

/* The old one has failed. The new one must, before this line is over; where it is not all here, it ends now. */
static void fail_new(struct both *b, const char *rest, size_t n)
{
    const char *lf = n ? memchr(rest, '\n', n) : NULL;
    size_t line = lf ? (size_t)(lf - rest) + 1 : n;

    must(!b->m.until_close || b->m.phase == HTTP_FAILED, "the old one fails first, and not in a line");
    for (size_t at = 0, fed; at < line && b->m.phase < HTTP_DONE; at += fed, b->fed += fed)
        fed = http_feed(&b->m, rest + at, line - at);
    if (!lf && b->m.phase < HTTP_DONE) http_feed(&b->m, "\n", 1);
    must(b->m.phase == HTTP_FAILED || strstr(b->old.error, "beyond all numbers"), "only the old one fails");
}

/* The new one has failed. The old one must when it is known where the field ends: where that is not in the input, it ends now. */
static void fail_old(struct both *b, const char *rest, size_t n)
{
    must(about_unfolded(b), "the new one fails first");
    for (size_t at = 0; at < n && b->old.phase < OLD_HTTP_DONE;) at += old_http_feed(&b->old, rest + at, n - at);
    if (b->old.phase < OLD_HTTP_DONE) old_http_feed(&b->old, "\r\nx", 3);
    must(b->old.phase == OLD_HTTP_FAILED, "only the new one fails");
}

static void compare_bodies(const struct both *b)
{
    must(same(http_body(&b->m), old_http_body(&b->old)), "body");
}

/* Feed one piece to both. False: they have failed. `rest` is what follows it. */
static bool feed(struct both *b, const char *piece, size_t n, const char *rest, size_t rest_len)
{
    for (size_t used = 0; used < n;) {
        size_t by_new = http_feed(&b->m, piece + used, n - used), by_old = old_http_feed(&b->old, piece + used, n - used);

        must(by_new <= n - used && by_old <= n - used, "more was consumed than there is");
        b->fed += by_new;
        if (b->m.phase == HTTP_FAILED || b->old.phase == OLD_HTTP_FAILED) {
            if (b->m.phase != HTTP_FAILED) {
                /* What of this piece is left, and what follows it, lie together in the input. */
                fail_new(b, rest - (n - used - by_new), rest_len + (n - used - by_new));
            } else if (b->old.phase != OLD_HTTP_FAILED) {
                fail_old(b, rest - (n - used - by_old), rest_len + (n - used - by_old));
            }
            compare_errors(b);
            return false;
        }
        must(by_new == by_old, "bytes consumed");
        must(b->m.phase == (enum http_phase)b->old.phase, "phase");
        used += by_new;
        if (b->m.phase >= HTTP_IN_BODY) compare_head(b);
        if (b->m.phase < HTTP_DONE) continue;
        compare_bodies(b);
        begin(b);
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;

    if (!newline || newline == data) return -1;
    struct both b = {.control = data[0]};
    const uint8_t *sizes = data + 1;
    size_t cuts = (size_t)(newline - sizes), left = size - (size_t)(newline + 1 - data), turn = 0;
    const char *bytes = (const char *)newline + 1;
    bool well = true;

    begin(&b);
    while (left && well) {
        size_t n = cuts ? (uint8_t)(sizes[turn++ % cuts] - '0') : left;
        if (n == 0) n = 1;
        if (n > left) n = left;
        char *piece = malloc(n); /* its own, so that ASan sees a byte too many */
        must(piece != NULL, "memory");
        memcpy(piece, bytes, n);
        bytes += n;
        left -= n;
        well = feed(&b, piece, n, bytes, left);
        free(piece);
    }
    if (well) {
        must(http_end_of_input(&b.m) == old_http_end_of_input(&b.old), "the end of input");
        must(b.m.phase == (enum http_phase)b.old.phase, "phase at the end");
        if (b.m.phase == HTTP_DONE) compare_bodies(&b);
    }
    http_free(&b.m);
    old_http_free(&b.old);
    return 0;
}
