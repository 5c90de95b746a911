/* fuzz_http.c: the parser against itself. However the bytes are cut, they must mean the same.
 *
 * An input is one line of control characters, then what a peer sends. The first character is the role: q requests,
 * r responses, h responses to HEAD; in capitals with a small limit for bodies. Each further one is the size of a piece ('1' is
 * one byte, '9' nine, 'z' 74), round and round. What is read whole and what is read in those pieces is written down in full,
 * message by message, and the two accounts are compared. So a seed reads as: "q13", then a request. */
#include "http.h"
#include "text/grammar.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_BODY 24

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert(): it must stand whatever NDEBUG says, and libFuzzer wants a crash. */
static void must(bool condition)
{
    if (!condition) __builtin_trap();
}

static void write_down(struct buf *account, struct slice s)
{
    buf_printf(account, "%zu:", s.len);
    buf_put(account, s.at, s.len);
    buf_puts(account, "\n");
}

static void check_field(struct slice name, struct slice value)
{
    must(name.len > 0);
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.at[i];
        must(c > 0x20 && c < 0x7f && !isupper(c) && !strchr("\"(),/:;<=>?@[\\]{}", c));
    }
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.at[i];
        must((c >= 0x20 && c != 0x7f) || c == '\t');
    }
    if (value.len) must(value.at[0] != ' ' && value.at[value.len - 1] != ' ');
    if (value.len) must(value.at[0] != '\t' && value.at[value.len - 1] != '\t');
}

static void check_request(const struct http_message *m)
{
    struct slice target = http_target(m), path = http_path(m);

    must(target.len > 0 && target.len < HTTP_LINE_MAX);
    for (size_t i = 0; i < target.len; i++)
        must(target.at[i] > 0x20 && target.at[i] < 0x7f && !strchr("\"#<>\\^`{|}", target.at[i]));
    if (m->method != HTTP_CONNECT && !m->asterisk) must(path.len && path.at[0] == '/');
    if (m->minor) must(http_field(m, "host").at != NULL);
    must(m->method != HTTP_OTHER || http_method_text(m).len > 0);
}

/* The head is complete: everything it says, in the account. */
static void write_head(struct buf *account, const struct http_message *m)
{
    if (m->role == HTTP_REQUEST) {
        check_request(m);
        write_down(account, http_method_text(m));
        write_down(account, http_target(m));
        write_down(account, http_path(m));
        write_down(account, http_query(m));
    }
    must(m->fields_len <= HTTP_FIELDS_COUNT);
    for (unsigned i = 0; i < m->fields_len; i++) {
        const struct http_field *f = &m->fields[i];
        struct slice name = {m->text + f->name.at, f->name.len}, value = {m->text + f->value.at, f->value.len};

        check_field(name, value);
        write_down(account, name);
        write_down(account, value);
    }
    struct slice element, list;
    unsigned i = 0;
    while (http_next_field(m, "connection", &i, &list)) {
        while (slice_next_element(&list, &element)) must(element.len > 0);
    }
    buf_printf(account, "%d 1.%d %d keep_alive=%d continue=%d unknown=%d asterisk=%d\n", (int)m->method, m->minor, m->status,
               m->keep_alive, m->expect_continue, m->expect_unknown, m->asterisk);
}

static void begin(struct http_message *m, uint8_t control)
{
    http_begin(m, tolower(control) == 'q' ? HTTP_REQUEST : HTTP_RESPONSE);
    m->no_body = tolower(control) == 'h';
    if (isupper(control)) m->body_limit = SMALL_BODY;
}

/* The pieces: sizes[0..n) round and round; none: all at once. */
struct cut {
    const uint8_t *sizes;
    size_t n, at;
};

static size_t next_piece(struct cut *cut, size_t left)
{
    if (!cut->n) return left;
    uint8_t size = (uint8_t)(cut->sizes[cut->at++ % cut->n] - '0');
    if (!size) size = 1;
    return size < left ? size : left;
}

/* Read it all, one message after the other, and write down what was read. */
static struct buf read_all(uint8_t control, const char *bytes, size_t n, struct cut cut)
{
    struct http_message m = {0};
    struct buf account = {0};
    size_t at = 0;
    bool head_written = false;

    begin(&m, control);
    while (at < n) {
        size_t size = next_piece(&cut, n - at), used = 0;
        char *piece = malloc(size); /* its own, so that ASan sees a byte too many */

        must(piece != NULL);
        memcpy(piece, bytes + at, size);
        while (used < size) {
            size_t fed = http_feed(&m, piece + used, size - used);

            must(fed <= size - used);
            used += fed;
            if (m.phase >= HTTP_IN_BODY && m.phase != HTTP_FAILED && !head_written) {
                write_head(&account, &m);
                head_written = true;
            }
            if (m.phase < HTTP_DONE) continue;
            if (m.phase == HTTP_FAILED) {
                must(m.error && m.status >= 400 && m.status < 600 && !m.keep_alive);
                buf_printf(&account, "failed at %zu: %d %s\n", at + used, m.status, m.error);
                free(piece);
                goto end;
            }
            must(http_body(&m).len <= m.body_limit);
            buf_printf(&account, "done at %zu, body ", at + used);
            write_down(&account, http_body(&m));
            begin(&m, control);
            head_written = false;
        }
        free(piece);
        at += size;
    }
    buf_printf(&account, "left in phase %d, ", (int)m.phase);
    if (http_end_of_input(&m)) write_down(&account, http_body(&m));
end:
    must(!account.failed);
    http_free(&m);
    return account;
}

static void compare(const struct buf *whole, const struct buf *cut)
{
    if (buf_len(whole) == buf_len(cut) && memcmp(whole->mem, cut->mem, buf_len(whole)) == 0) return;
    fprintf(stderr, "read whole:\n%.*s\nread in pieces:\n%.*s\n", (int)buf_len(whole), whole->mem, (int)buf_len(cut), cut->mem);
    must(false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;

    if (!newline || newline == data) return -1;
    size_t controls = (size_t)(newline - data);
    const char *bytes = (const char *)newline + 1;
    size_t n = size - controls - 1;
    struct buf whole = read_all(data[0], bytes, n, (struct cut){0});
    struct buf cut = read_all(data[0], bytes, n, (struct cut){.sizes = data + 1, .n = controls - 1});
    struct buf single = read_all(data[0], bytes, n, (struct cut){.sizes = (const uint8_t *)"1", .n = 1});

    compare(&whole, &cut);
    compare(&whole, &single);
    buf_free(&whole);
    buf_free(&cut);
    buf_free(&single);
    return 0;
}
