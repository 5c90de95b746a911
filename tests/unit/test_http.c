/* LDFLAGS: -Wl,--wrap=realloc */
/* test_http.c: what http.c reads and writes, as tables of claims: a name, the paragraph that rules it, bytes, an outcome.
 *
 * The outcome is text: a line for each message that came out, or the status and words of the failure. Every case goes
 * through one harness, check(), which feeds it whole, byte by byte, cut in two at every offset, and ending at a page that
 * cannot be read: the outcome must be the same each time. Pieces are copied to memory of exactly their size, so that the
 * address sanitizer sees a reader that looks one byte ahead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h> /* after the headers that it needs */

#include "http.h"

/* ---- memory that runs out on demand ---------------------------------------------------------------------------------- */

static int reallocs_left = -1; /* how many more will succeed; -1: all */

void *__real_realloc(void *mem, size_t n);
void *__wrap_realloc(void *mem, size_t n);

void *__wrap_realloc(void *mem, size_t n)
{
    if (reallocs_left == 0) return NULL;
    if (reallocs_left > 0) reallocs_left--;
    return __real_realloc(mem, n);
}

/* ---- the harness: bytes in, an outcome in words ---------------------------------------------------------------------- */

struct input {
    const char *claim, *rfc;
    const char *bytes;
    size_t len;
    const char *outcome;
    uint32_t body_limit; /* 0: as it is */
    bool no_body;
    enum http_role role;
};

#define BYTES(literal) .bytes = (literal), .len = sizeof(literal) - 1

struct outcome {
    size_t len;
    uint64_t ends; /* where the messages ended, mixed into one number */
    char text[1 << 18];
};

static void say_bytes(struct outcome *o, const char *bytes, size_t n)
{
    char line[64];
    size_t same = 0;

    while (same < n && bytes[same] == bytes[0]) same++;
    if (n > 64 && same == n) { /* "65536*x" says as much and can be written in a table */
        n = (size_t)snprintf(line, sizeof line, "%zu*%c", n, bytes[0]);
        bytes = line;
    }
    assert_true(o->len + n < sizeof o->text);
    if (n) memcpy(o->text + o->len, bytes, n);
    o->len += n;
    o->text[o->len] = '\0';
}

static void say(struct outcome *o, const char *text)
{
    say_bytes(o, text, strlen(text));
}

static void say_slice(struct outcome *o, const char *before, struct slice s, const char *after)
{
    say(o, before);
    say_bytes(o, s.at, s.len);
    say(o, after);
}

/* GET http://h/a?b HTTP/1.1 keep path=/a query=b host=h {host: x, …} "body" */
static void say_message(struct outcome *o, const struct http_message *m)
{
    char text[48];
    struct slice path = http_path(m), target = http_target(m), body = http_body(m), host = http_host(m);

    if (m->role == HTTP_REQUEST) {
        say_slice(o, "", http_method_text(m), " ");
        say_slice(o, "", target, " ");
    } else {
        snprintf(text, sizeof text, "%d ", m->status);
        say(o, text);
    }
    snprintf(text, sizeof text, "HTTP/1.%d %s", m->minor, m->keep_alive ? "keep" : "close");
    say(o, text);
    if (m->role == HTTP_REQUEST && (path.len != target.len || memcmp(path.at, target.at, path.len) != 0))
        say_slice(o, " path=", path, "");
    if (m->role == HTTP_REQUEST && http_query(m).at) say_slice(o, " query=", http_query(m), "");
    if (host.at != http_field(m, "host").at) say_slice(o, " host=", host, "");
    if (m->asterisk) say(o, " server-wide");
    if (m->expect_continue) say(o, " continue");
    if (m->expect_unknown) say(o, " unknown-expectation");
    say(o, " {");
    for (unsigned i = 0; i < m->fields_len; i++) {
        const struct http_field *f = &m->fields[i];
        say_slice(o, i ? ", " : "", (struct slice){m->text + f->name.at, f->name.len}, ": ");
        say_slice(o, "", (struct slice){m->text + f->value.at, f->value.len}, "");
    }
    say(o, "}");
    if (body.len) say_slice(o, " \"", body, "\"");
}

struct reader {
    const struct input *in;
    struct outcome *o;
    struct http_message m;
    size_t offset;
};

static void begin(struct reader *r)
{
    http_begin(&r->m, r->in->role);
    if (r->in->body_limit) r->m.body_limit = r->in->body_limit;
    r->m.no_body = r->in->no_body;
}

static struct reader reader_open(const struct input *in, struct outcome *o)
{
    struct reader r = {.in = in, .o = o};

    o->len = 0;
    o->ends = 0;
    o->text[0] = '\0';
    begin(&r);
    return r;
}

static void message_read(struct reader *r)
{
    r->o->ends = r->o->ends * 31 + r->offset;
    say(r->o, r->o->len ? "\n" : "");
    say_message(r->o, &r->m);
    begin(r);
}

static void read_piece(struct reader *r, const char *bytes, size_t n)
{
    while (n && r->m.phase != HTTP_FAILED) {
        size_t used = http_feed(&r->m, bytes, n);

        assert_true(used <= n);
        assert_true(used > 0 || r->m.phase == HTTP_FAILED); /* or a caller would turn for ever */
        bytes += used;
        n -= used;
        r->offset += used;
        if (r->m.phase == HTTP_DONE) message_read(r);
    }
}

static void reader_close(struct reader *r)
{
    char status[16];

    if (r->m.phase == HTTP_FAILED) {
        assert_false(http_end_of_input(&r->m));
        assert_int_equal(http_feed(&r->m, "GET", 3), 0); /* nothing after an error is interpreted */
        assert_false(r->m.keep_alive);
        snprintf(status, sizeof status, "%s%d ", r->o->len ? "\n" : "", r->m.status);
        say(r->o, status);
        say(r->o, r->m.error);
    } else if (http_end_of_input(&r->m)) {
        message_read(r);
    } else if (r->m.phase != HTTP_FRESH) {
        say(r->o, r->o->len ? "\n" : "");
        say(r->o, r->m.phase == HTTP_IN_HEAD ? "unfinished head" : "unfinished body");
    }
    http_free(&r->m);
}

/* xorshift64: the same "random" numbers in every run. */
static uint64_t random_state = 1;

static size_t random_below(size_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (size_t)((random_state >> 11) % n);
}

#define RANDOM_CUTS 0

/* A first piece of `first` bytes, then pieces of `rest` bytes, each in memory of its own. */
static void read_cut(const struct input *in, size_t first, size_t rest, struct outcome *o)
{
    struct reader r = reader_open(in, o);

    for (size_t at = 0, n = first; at < in->len; at += n, n = rest) {
        if (n == RANDOM_CUTS) n = random_below(random_below(8) ? 12 : in->len) + 1;
        if (n > in->len - at) n = in->len - at;
        char *copy = malloc(n ? n : 1);
        assert_non_null(copy);
        memcpy(copy, in->bytes + at, n);
        read_piece(&r, copy, n);
        free(copy);
    }
    reader_close(&r);
}

/* The last byte is the last of its page, and the next page cannot be read. */
static void read_guarded(const struct input *in, struct outcome *o)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = (in->len / page + 1) * page;
    char *mem = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct reader r = reader_open(in, o);

    assert_ptr_not_equal(mem, MAP_FAILED);
    assert_int_equal(mprotect(mem + size, page, PROT_NONE), 0);
    memcpy(mem + size - in->len, in->bytes, in->len);
    read_piece(&r, mem + size - in->len, in->len);
    reader_close(&r);
    munmap(mem, size + page);
}

static void expect_same(const struct input *in, const struct outcome *want, const struct outcome *got, const char *how, size_t at)
{
    if (strcmp(want->text, got->text) == 0 && want->ends == got->ends) return;
    fail_msg("%s (%s)\n  %s %zu: %s\n  whole: %s", in->claim, in->rfc, how, at, got->text, want->text);
}

static void check(const struct input *in)
{
    static struct outcome whole, cut;
    size_t step = in->len > 2000 ? 61 : 1; /* a long case is long because of one run of equal bytes */

    read_cut(in, in->len, in->len, &whole);
    if (strcmp(whole.text, in->outcome) != 0)
        fail_msg("%s (%s)\n  outcome:  %s\n  expected: %s", in->claim, in->rfc, whole.text, in->outcome);
    read_guarded(in, &cut);
    expect_same(in, &whole, &cut, "at the end of a page", in->len);
    read_cut(in, 1, 1, &cut);
    expect_same(in, &whole, &cut, "bytes of", 1);
    for (size_t at = 1; at < in->len; at += at + 80 < in->len ? step : 1) {
        read_cut(in, at, in->len, &cut);
        expect_same(in, &whole, &cut, "cut at", at);
    }
}

static void check_table(const struct input *table, size_t n, enum http_role role)
{
    for (size_t i = 0; i < n; i++) {
        struct input in = table[i];

        in.role = role;
        check(&in);
    }
}

#define CHECK_REQUESTS(table) check_table((table), sizeof(table) / sizeof *(table), HTTP_REQUEST)
#define CHECK_RESPONSES(table) check_table((table), sizeof(table) / sizeof *(table), HTTP_RESPONSE)

/* ---- the request line -------------------------------------------------------------------------------------------------- */

#define REST " HTTP/1.1\r\nHost: a\r\n\r\n"

#define NOT_A_TOKEN "400 The method is not a token."
#define NO_LF "400 A CR is not followed by LF."
#define NO_VERSION "400 The request line has no HTTP version."
#define BAD_VERSION "400 The HTTP version is malformed."
#define NO_CRLF "400 The HTTP version is not followed by CRLF."
#define OTHER_VERSION "505 This server speaks HTTP/1.1 and HTTP/1.0."

static const struct input request_lines[] = {
    {"a request is a line, fields and an empty line", "RFC 9112 2.1", BYTES("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
     "GET / HTTP/1.1 keep {host: a}"},
    {"methods are told by their exact name", "RFC 9110 9.1", BYTES("DELETE /o/7" REST), "DELETE /o/7 HTTP/1.1 keep {host: a}"},
    {"methods are case-sensitive: get is one we do not know", "RFC 9110 9.1", BYTES("get /" REST), "get / HTTP/1.1 keep {host: a}"},
    {"an unknown method is still a message", "RFC 9110 9.1", BYTES("BREW /pot" REST), "BREW /pot HTTP/1.1 keep {host: a}"},
    {"a method of 32 bytes is read", "RFC 9112 3", BYTES("ABCDEFGHIJKLMNOPQRSTUVWXYZ-12345 /" REST),
     "ABCDEFGHIJKLMNOPQRSTUVWXYZ-12345 / HTTP/1.1 keep {host: a}"},
    {"a longer method is not implemented", "RFC 9112 3", BYTES("ABCDEFGHIJKLMNOPQRSTUVWXYZ-123456 /" REST),
     "501 This method is not known here."},
    {"HTTP/1.0 needs no Host and closes", "RFC 9112 9.3", BYTES("GET / HTTP/1.0\r\n\r\n"), "GET / HTTP/1.0 close {}"},
    {"HTTP/1.2 and up are read as 1.1", "RFC 9110 2.5", BYTES("GET / HTTP/1.9\r\nHost: a\r\n\r\n"),
     "GET / HTTP/1.1 keep {host: a}"},
    {"HTTP/1.2 is bound to Host as 1.1 is", "RFC 9110 2.5", BYTES("GET / HTTP/1.2\r\n\r\n"), "400 HTTP/1.1 requires a Host field."},
    {"one empty line before the request is forgiven", "RFC 9112 2.2", BYTES("\r\nGET /" REST), "GET / HTTP/1.1 keep {host: a}"},
    {"… before each of them", "RFC 9112 2.2", BYTES("\r\nGET /" REST "\r\nGET /b" REST),
     "GET / HTTP/1.1 keep {host: a}\nGET /b HTTP/1.1 keep {host: a}"},
    {"an empty line alone is no request", "RFC 9112 2.2", BYTES("\r\n"), ""},
    {"a message ends where its bytes end", "RFC 9112 2.1", BYTES("GET / HTTP/1.1\r\nHost: a\r\n\r"), "unfinished head"},

    {"two empty lines are not", "RFC 9112 2.2", BYTES("\r\n\r\nGET /" REST), NOT_A_TOKEN},
    {"an empty line is CRLF, not LF", "RFC 9112 2.2", BYTES("\nGET /" REST), NOT_A_TOKEN},
    {"… and not CR", "RFC 9112 2.2", BYTES("\rGET /" REST), NO_LF},
    {"white space before the method", "RFC 9112 3", BYTES(" GET /" REST), NOT_A_TOKEN},
    {"a TAB in place of a space", "RFC 9112 3", BYTES("GET\t/" REST), NOT_A_TOKEN},
    {"a method that is no token", "RFC 9110 5.6.2", BYTES("G@T /" REST), NOT_A_TOKEN},
    {"a TLS hello to a plain port", "RFC 9112 3", BYTES("\x16\x03\x01\x02\x00\x01"), NOT_A_TOKEN},
    {"a second space after the method", "RFC 9112 3", BYTES("GET  /" REST), "400 The request target is empty."},
    {"a second space before the version", "RFC 9112 3", BYTES("GET / " REST), BAD_VERSION},
    {"a space after the version", "RFC 9112 3", BYTES("GET / HTTP/1.1 \r\nHost: a\r\n\r\n"), NO_CRLF},
    {"a TAB after the version", "RFC 9112 3", BYTES("GET / HTTP/1.1\t\r\nHost: a\r\n\r\n"), NO_CRLF},
    {"HTTP/0.9, which had no version", "RFC 9112 3", BYTES("GET /\r\n"), NO_VERSION},
    {"… nor a CR", "RFC 9112 3", BYTES("GET /\n"), NO_VERSION},
    {"no target either", "RFC 9112 3", BYTES("GET\r\n"), NOT_A_TOKEN},
    {"http in lower case", "RFC 9112 2.3", BYTES("GET / http/1.1\r\nHost: a\r\n\r\n"), BAD_VERSION},
    {"another protocol", "RFC 9112 2.3", BYTES("GET / ICY/1.1\r\nHost: a\r\n\r\n"), BAD_VERSION},
    {"a version without its minor digit", "RFC 9112 2.3", BYTES("GET / HTTP/1\r\nHost: a\r\n\r\n"), BAD_VERSION},
    {"a version with a comma", "RFC 9112 2.3", BYTES("GET / HTTP/1,1\r\nHost: a\r\n\r\n"), BAD_VERSION},
    {"a version with a letter", "RFC 9112 2.3", BYTES("GET / HTTP/1.x\r\nHost: a\r\n\r\n"), BAD_VERSION},
    {"a minor version of two digits", "RFC 9112 2.3", BYTES("GET / HTTP/1.10\r\nHost: a\r\n\r\n"), NO_CRLF},
    {"a major version of two digits", "RFC 9112 2.3", BYTES("GET / HTTP/11.1\r\nHost: a\r\n\r\n"), BAD_VERSION},
    {"HTTP/2 in text does not exist", "RFC 9110 2.5", BYTES("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), OTHER_VERSION},
    {"nor HTTP/3", "RFC 9110 2.5", BYTES("GET / HTTP/3.0\r\nHost: a\r\n\r\n"), OTHER_VERSION},
    {"nor HTTP/0.9", "RFC 9110 2.5", BYTES("GET / HTTP/0.9\r\nHost: a\r\n\r\n"), OTHER_VERSION},
    {"the preface of HTTP/2", "RFC 9113 3.4", BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), OTHER_VERSION},
    {"the request line ends in CRLF, not LF", "RFC 9112 2.2", BYTES("GET / HTTP/1.1\nHost: a\r\n\r\n"), NO_CRLF},
    {"… not CR", "RFC 9112 2.2", BYTES("GET / HTTP/1.1\rHost: a\r\n\r\n"), NO_LF},
    {"… not CR CR LF", "RFC 9112 2.2", BYTES("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"), NO_LF},
};

static void test_the_request_line_is_read_to_the_letter(void **state)
{
    (void)state;
    CHECK_REQUESTS(request_lines);
}

/* ---- the target --------------------------------------------------------------------------------------------------------- */

#define MUST_ESCAPE "400 The request target holds a byte that must be percent-encoded."
#define NOT_HEX "400 A percent sign in the target is not followed by two hexadecimal digits."
#define NOT_UTF8 "400 A percent-escape in the target is not valid UTF-8."
#define NUL_OR_NOT_UTF8 "400 A percent-escape in the target is NUL or not valid UTF-8."
#define BAD_BRACKET "400 A square bracket in the target must be percent-encoded."
#define BAD_FORM "400 The request target is neither a path nor an http:// address."
#define BAD_ASTERISK "400 Only OPTIONS may have * as its target."
#define BAD_CONNECT "400 CONNECT takes host:port as its target."

static const struct input targets[] = {
    {"the query is what follows the first question mark", "RFC 3986 3.4", BYTES("GET /a/b?c=d&e" REST),
     "GET /a/b?c=d&e HTTP/1.1 keep path=/a/b query=c=d&e {host: a}"},
    {"an empty query is not an absent one", "RFC 3986 3.4", BYTES("GET /a?" REST),
     "GET /a? HTTP/1.1 keep path=/a query= {host: a}"},
    {"a query may hold / and ?", "RFC 3986 3.4", BYTES("GET /?/?a" REST), "GET /?/?a HTTP/1.1 keep path=/ query=/?a {host: a}"},
    {"every pchar may stand as it is", "RFC 3986 3.3", BYTES("GET /-._~!$&'()*+,;=:@" REST),
     "GET /-._~!$&'()*+,;=:@ HTTP/1.1 keep {host: a}"},
    {"escapes stay as they came", "RFC 3986 2.4", BYTES("GET /%2f%2F?%26" REST),
     "GET /%2f%2F?%26 HTTP/1.1 keep path=/%2f%2F query=%26 {host: a}"},
    {"escapes may spell UTF-8 of 2, 3 and 4 bytes", "RFC 3629 3", BYTES("GET /%C3%A3/%E2%82%AC/%F0%9F%8D%95" REST),
     "GET /%C3%A3/%E2%82%AC/%F0%9F%8D%95 HTTP/1.1 keep {host: a}"},
    {"the borders of UTF-8", "RFC 3629 4",
     BYTES("GET /%01%7F%C2%80%DF%BF%E0%A0%80%ED%9F%BF%EE%80%80%EF%BF%BF%F0%90%80%80%F4%8F%BF%BF" REST),
     "GET /%01%7F%C2%80%DF%BF%E0%A0%80%ED%9F%BF%EE%80%80%EF%BF%BF%F0%90%80%80%F4%8F%BF%BF HTTP/1.1 keep {host: a}"},
    {"an absolute target", "RFC 9112 3.2.2", BYTES("GET http://h.example:80/a?b" REST),
     "GET http://h.example:80/a?b HTTP/1.1 keep path=/a query=b host=h.example:80 {host: a}"},
    {"its scheme in any case", "RFC 3986 3.1", BYTES("GET HTTP://h/" REST), "GET HTTP://h/ HTTP/1.1 keep path=/ host=h {host: a}"},
    {"without a path it means /", "RFC 9110 4.2.3", BYTES("GET http://h" REST),
     "GET http://h HTTP/1.1 keep path=/ host=h {host: a}"},
    {"… with a query, too", "RFC 9110 4.2.3", BYTES("GET http://h?q" REST),
     "GET http://h?q HTTP/1.1 keep path=/ query=q host=h {host: a}"},
    {"at an IPv6 address", "RFC 3986 3.2.2", BYTES("GET http://[::1]:8080/x" REST),
     "GET http://[::1]:8080/x HTTP/1.1 keep path=/x host=[::1]:8080 {host: a}"},
    {"OPTIONS * asks about the server", "RFC 9112 3.2.4", BYTES("OPTIONS *" REST), "OPTIONS * HTTP/1.1 keep server-wide {host: a}"},
    {"so does OPTIONS of an address without a path", "RFC 9112 3.2.4", BYTES("OPTIONS http://h" REST),
     "OPTIONS http://h HTTP/1.1 keep path=/ host=h server-wide {host: a}"},
    {"OPTIONS of a path asks about the path", "RFC 9112 3.2.4", BYTES("OPTIONS http://h/" REST),
     "OPTIONS http://h/ HTTP/1.1 keep path=/ host=h {host: a}"},
    {"CONNECT takes an authority", "RFC 9112 3.2.3", BYTES("CONNECT h:443" REST), "CONNECT h:443 HTTP/1.1 keep {host: a}"},
    {"CONNECT to an IPv6 address", "RFC 9112 3.2.3", BYTES("CONNECT [::1]:443" REST), "CONNECT [::1]:443 HTTP/1.1 keep {host: a}"},

    {"a fragment", "RFC 9112 3.2", BYTES("GET /a#b" REST), MUST_ESCAPE},
    {"a fragment in the query", "RFC 9112 3.2", BYTES("GET /a?b#c" REST), MUST_ESCAPE},
    {"raw UTF-8", "RFC 3986 2", BYTES("GET /\xc3\xa3" REST), MUST_ESCAPE},
    {"NUL", "RFC 3986 2", BYTES("GET /\0" REST), MUST_ESCAPE},
    {"DEL", "RFC 3986 2", BYTES("GET /\x7f" REST), MUST_ESCAPE},
    {"a TAB", "RFC 3986 2", BYTES("GET /a\tb" REST), MUST_ESCAPE},
    {"a backslash", "RFC 3986 2", BYTES("GET /a\\b" REST), MUST_ESCAPE},
    {"a quotation mark", "RFC 3986 2", BYTES("GET /\"" REST), MUST_ESCAPE},
    {"<", "RFC 3986 2", BYTES("GET /<" REST), MUST_ESCAPE},
    {">", "RFC 3986 2", BYTES("GET /?>" REST), MUST_ESCAPE},
    {"^", "RFC 3986 2", BYTES("GET /^" REST), MUST_ESCAPE},
    {"`", "RFC 3986 2", BYTES("GET /`" REST), MUST_ESCAPE},
    {"{", "RFC 3986 2", BYTES("GET /{" REST), MUST_ESCAPE},
    {"|", "RFC 3986 2", BYTES("GET /|" REST), MUST_ESCAPE},
    {"}", "RFC 3986 2", BYTES("GET /?}" REST), MUST_ESCAPE},
    {"[ in a path", "RFC 3986 3.3", BYTES("GET /a[0" REST), BAD_BRACKET},
    {"] in a path", "RFC 3986 3.3", BYTES("GET /a]" REST), BAD_BRACKET},
    {"[ in a query", "RFC 3986 3.4", BYTES("GET /?a[0]=1" REST), MUST_ESCAPE},
    {"[ in the path of an absolute target", "RFC 3986 3.3", BYTES("GET http://h/[" REST), BAD_FORM},
    {"a percent sign at the end", "RFC 3986 2.1", BYTES("GET /%" REST), NOT_HEX},
    {"half an escape", "RFC 3986 2.1", BYTES("GET /%2" REST), NOT_HEX},
    {"an escape that is not hexadecimal", "RFC 3986 2.1", BYTES("GET /%2g" REST), NOT_HEX},
    {"an escaped escape, half", "RFC 3986 2.1", BYTES("GET /%%20" REST), NOT_HEX},
    {"an escaped NUL", "RFC 3629 10", BYTES("GET /%00" REST), NUL_OR_NOT_UTF8},
    {"an escaped NUL in the query", "RFC 3629 10", BYTES("GET /?a=%00" REST), NUL_OR_NOT_UTF8},
    {"an escaped continuation byte alone", "RFC 3629 3", BYTES("GET /%80" REST), NUL_OR_NOT_UTF8},
    {"/ spelt too long, in 2 bytes", "RFC 3629 10", BYTES("GET /%C0%AF" REST), NUL_OR_NOT_UTF8},
    {"… in 2 bytes, the other way", "RFC 3629 10", BYTES("GET /%C1%BF" REST), NUL_OR_NOT_UTF8},
    {"… in 3 bytes", "RFC 3629 10", BYTES("GET /%E0%80%AF" REST), NUL_OR_NOT_UTF8},
    {"… in 3 bytes, the longest", "RFC 3629 10", BYTES("GET /%E0%9F%BF" REST), NUL_OR_NOT_UTF8},
    {"… in 4 bytes", "RFC 3629 10", BYTES("GET /%F0%8F%BF%BF" REST), NUL_OR_NOT_UTF8},
    {"the first surrogate", "RFC 3629 3", BYTES("GET /%ED%A0%80" REST), NUL_OR_NOT_UTF8},
    {"the last surrogate", "RFC 3629 3", BYTES("GET /%ED%BF%BF" REST), NUL_OR_NOT_UTF8},
    {"beyond U+10FFFF", "RFC 3629 3", BYTES("GET /%F4%90%80%80" REST), NUL_OR_NOT_UTF8},
    {"a byte that UTF-8 does not have", "RFC 3629 3", BYTES("GET /%F5%80%80%80" REST), NUL_OR_NOT_UTF8},
    {"a byte that nothing has", "RFC 3629 3", BYTES("GET /%FF" REST), NUL_OR_NOT_UTF8},
    {"a character broken off by a plain byte", "RFC 3629 3", BYTES("GET /%E2%82x" REST), NOT_UTF8},
    {"a character broken off by another", "RFC 3629 3", BYTES("GET /%C3%C3%A3" REST), NUL_OR_NOT_UTF8},
    {"a character broken off by the query", "RFC 3629 3", BYTES("GET /%C3?%A3" REST), NOT_UTF8},
    {"a character broken off by the end", "RFC 3629 3", BYTES("GET /%F0%9F%8D" REST), NOT_UTF8},
    {"a character broken off in the query", "RFC 3629 3", BYTES("GET /?%C3" REST), NOT_UTF8},
    {"a path that does not begin with /", "RFC 9112 3.2.1", BYTES("GET menu" REST), BAD_FORM},
    {"a query alone", "RFC 9112 3.2.1", BYTES("GET ?a" REST), BAD_FORM},
    {"another scheme", "RFC 9112 3.2.2", BYTES("GET https://h/" REST), BAD_FORM},
    {"a scheme without an authority", "RFC 9112 3.2.2", BYTES("GET http:/h" REST), BAD_FORM},
    {"an empty authority", "RFC 9110 4.2.1", BYTES("GET http:///" REST), BAD_FORM},
    {"no authority at all", "RFC 9110 4.2.1", BYTES("GET http://" REST), BAD_FORM},
    {"a port without a host", "RFC 9110 4.2.1", BYTES("GET http://:80/" REST), BAD_FORM},
    {"a user in the address", "RFC 9110 4.2.4", BYTES("GET http://u@h/" REST), BAD_FORM},
    {"a user and a password", "RFC 9110 4.2.4", BYTES("GET http://u:p@h/" REST), BAD_FORM},
    {"a port beyond 65535", "RFC 9110 4.2.1", BYTES("GET http://h:65536/" REST), BAD_FORM},
    {"an unclosed bracket", "RFC 3986 3.2.2", BYTES("GET http://[::1/" REST), BAD_FORM},
    {"an authority where a path is due", "RFC 9112 3.2.3", BYTES("GET h:443" REST), BAD_FORM},
    {"* for GET", "RFC 9112 3.2.4", BYTES("GET *" REST), BAD_ASTERISK},
    {"* for a method we do not know", "RFC 9112 3.2.4", BYTES("BREW *" REST), BAD_ASTERISK},
    {"* and more", "RFC 9112 3.2.4", BYTES("OPTIONS *?" REST), BAD_FORM},
    {"CONNECT to a path", "RFC 9112 3.2.3", BYTES("CONNECT /" REST), BAD_CONNECT},
    {"CONNECT to an address", "RFC 9112 3.2.3", BYTES("CONNECT http://h:80" REST), BAD_CONNECT},
    {"CONNECT without a port", "RFC 9110 9.3.6", BYTES("CONNECT h" REST), BAD_CONNECT},
    {"CONNECT with an empty port", "RFC 9110 9.3.6", BYTES("CONNECT h:" REST), BAD_CONNECT},
    {"CONNECT to an IPv6 address without a port", "RFC 9110 9.3.6", BYTES("CONNECT [::1]" REST), BAD_CONNECT},
    {"CONNECT with a query", "RFC 9112 3.2.3", BYTES("CONNECT h:1?q" REST), BAD_CONNECT},
    {"CONNECT to an unclosed bracket", "RFC 9112 3.2.3", BYTES("CONNECT [::1:443" REST), BAD_CONNECT},
};

static void test_a_target_has_the_form_its_method_wants_and_no_stray_byte(void **state)
{
    (void)state;
    CHECK_REQUESTS(targets);
}

static void test_each_byte_stands_in_a_target_only_if_the_grammar_has_it(void **state)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/?";

    (void)state;
    for (int c = 1; c < 256; c++) {
        char bytes[] = "GET /?_ HTTP/1.0\r\n\r\n", outcome[] = "GET /?_ HTTP/1.0 close path=/ query=_ {}";
        const char *rejected = c == '%' ? NOT_HEX : c == ' ' ? BAD_VERSION : c == '\r' || c == '\n' ? NO_VERSION : MUST_ESCAPE;

        bytes[6] = outcome[6] = *strchr(outcome, '{') = (char)c;
        outcome[sizeof outcome - 5] = (char)c;
        memcpy(outcome + sizeof outcome - 4, " {}", 4);
        check(&(struct input){"a byte in the target", "RFC 3986 2", bytes, sizeof bytes - 1, strchr(plain, c) ? outcome : rejected,
                              .role = HTTP_REQUEST});
    }
}

/* ---- fields -------------------------------------------------------------------------------------------------------------- */

#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define GOT "GET / HTTP/1.1 keep {host: a"

#define FOLDED "400 A header field is folded over two lines."
#define NO_NAME "400 A field has no name."
#define BAD_NAME "400 A field name is not a token followed by a colon."
#define CONTROL "400 A field value holds a control byte."
#define BARE_LF "400 A field line ends in a bare LF."

static const struct input fields[] = {
    {"names come out in lower case, values as they are", "RFC 9110 5.1", BYTES(GET "X-Oven: HOT\r\n\r\n"), GOT ", x-oven: HOT}"},
    {"white space around a value is not part of it", "RFC 9112 5.1", BYTES(GET "X: \t a \t b \t \r\n\r\n"), GOT ", x: a \t b}"},
    {"and need not be there", "RFC 9112 5.1", BYTES(GET "X:a\r\n\r\n"), GOT ", x: a}"},
    {"a value may be empty", "RFC 9110 5.5", BYTES(GET "X:\r\nY: \t \r\n\r\n"), GOT ", x: , y: }"},
    {"a value may hold bytes above 127", "RFC 9110 5.5", BYTES(GET "X: caf\xc3\xa9 \x80\xff\r\n\r\n"),
     GOT ", x: caf\xc3\xa9 \x80\xff}"},
    {"a name may hold every token character", "RFC 9110 5.6.2", BYTES(GET "!#$%&'*+-.^_`|~09azAZ: 1\r\n\r\n"),
     GOT ", !#$%&'*+-.^_`|~09azaz: 1}"},
    {"a field that is not ours may stand twice", "RFC 9110 5.2", BYTES(GET "X: 1\r\nX: 2\r\n\r\n"), GOT ", x: 1, x: 2}"},

    {"a folded value", "RFC 9112 5.2", BYTES(GET "X: 1\r\n 2\r\n\r\n"), FOLDED},
    {"a value folded by a TAB", "RFC 9112 5.2", BYTES(GET "X: 1\r\n\t2\r\n\r\n"), FOLDED},
    {"white space before the first field", "RFC 9112 2.2", BYTES("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), FOLDED},
    {"a space before the colon", "RFC 9112 5.1", BYTES(GET "X : 1\r\n\r\n"), BAD_NAME},
    {"a TAB before the colon", "RFC 9112 5.1", BYTES(GET "X\t: 1\r\n\r\n"), BAD_NAME},
    {"a space in a name", "RFC 9112 5.1", BYTES(GET "X Y: 1\r\n\r\n"), BAD_NAME},
    {"a name without a colon", "RFC 9112 5", BYTES(GET "X\r\n\r\n"), BAD_NAME},
    {"an empty name", "RFC 9112 5.1", BYTES(GET ": 1\r\n\r\n"), NO_NAME},
    {"a name that begins with a bracket", "RFC 9110 5.1", BYTES(GET "(X: 1\r\n\r\n"), NO_NAME},
    {"a name with a slash", "RFC 9110 5.1", BYTES(GET "X/Y: 1\r\n\r\n"), BAD_NAME},
    {"a name with a byte above 127", "RFC 9110 5.1", BYTES(GET "X\xc3\xa9: 1\r\n\r\n"), BAD_NAME},
    {"a name with NUL", "RFC 9110 5.1", BYTES(GET "X\0: 1\r\n\r\n"), BAD_NAME},
    {"NUL in a value", "RFC 9110 5.5", BYTES(GET "X: a\0b\r\n\r\n"), CONTROL},
    {"DEL in a value", "RFC 9110 5.5",
     BYTES(GET "X: a\x7f"
               "b\r\n\r\n"),
     CONTROL},
    {"a vertical TAB in a value", "RFC 9110 5.5", BYTES(GET "X: a\vb\r\n\r\n"), CONTROL},
    {"a backspace far into a value", "RFC 9110 5.5", BYTES(GET "X: 0123456789abcdefghijk\b0123456789abcdef\r\n\r\n"), CONTROL},
    {"DEL among bytes above 127", "RFC 9110 5.5", BYTES(GET "X: \xff\xff\xff\x7f\xff\xff\xff\xff\xff\r\n\r\n"), CONTROL},
    {"a field line ends in CRLF, not LF", "RFC 9112 2.2", BYTES(GET "X: 1\n\r\n"), BARE_LF},
    {"… not CR", "RFC 9112 2.2", BYTES(GET "X: 1\rY: 2\r\n\r\n"), NO_LF},
    {"… not CR CR LF", "RFC 9112 2.2", BYTES(GET "X: 1\r\r\n\r\n"), NO_LF},
    {"the head ends in CRLF, not LF", "RFC 9112 2.2", BYTES(GET "\n"), NO_NAME},
    {"… not CR", "RFC 9112 2.2", BYTES(GET "\rGET /" REST), NO_LF},

    {"two of Content-Type", "RFC 9110 8.3", BYTES(GET "Content-Type: a/b\r\ncontent-type: a/b\r\n\r\n"),
     "400 There are two Content-Type fields."},
    {"two of Authorization", "RFC 9110 11.6.2", BYTES(GET "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n"),
     "400 There are two Authorization fields."},
    {"two of Host", "RFC 9112 3.2", BYTES(GET "HOST: a\r\n\r\n"), "400 There are two Host fields."},
};

static void test_fields_are_tokens_a_colon_and_no_control_bytes(void **state)
{
    (void)state;
    CHECK_REQUESTS(fields);
}

static void test_each_byte_at_each_place_of_a_value_is_judged_alike(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) { /* values are copied eight bytes at a time: no place in a word may differ */
        for (size_t at = 0; at < 10; at++) {
            char bytes[] = "GET / HTTP/1.0\r\nX: =~~~~~~~~~~~~~~~~=\r\n\r\n",
                 outcome[] = "GET / HTTP/1.0 close {x: =~~~~~~~~~~~~~~~~=}";
            bool allowed = c == '\t' || (c >= ' ' && c != 0x7f);

            bytes[20 + at] = outcome[26 + at] = (char)c;
            check(&(struct input){"a byte in a value", "RFC 9110 5.5", bytes, sizeof bytes - 1,
                                  allowed     ? outcome
                                  : c == '\n' ? BARE_LF
                                  : c == '\r' ? NO_LF
                                              : CONTROL,
                                  .role = HTTP_REQUEST});
        }
    }
}

/* ---- Host ----------------------------------------------------------------------------------------------------------------- */

#define HOST_IS(host) BYTES("GET / HTTP/1.1\r\nHost: " host "\r\n\r\n")
#define HOST_WAS(host) "GET / HTTP/1.1 keep {host: " host "}"
#define BAD_HOST "400 The Host field is not a host with an optional port."

static const struct input hosts[] = {
    {"a name", "RFC 9110 7.2", HOST_IS("forno.example"), HOST_WAS("forno.example")},
    {"a port", "RFC 9110 7.2", HOST_IS("localhost:8080"), HOST_WAS("localhost:8080")},
    {"the last port", "RFC 9110 7.2", HOST_IS("a:65535"), HOST_WAS("a:65535")},
    {"a port with leading zeros", "RFC 3986 3.2.3", HOST_IS("a:000000000000000000000080"), HOST_WAS("a:000000000000000000000080")},
    {"an empty port", "RFC 3986 3.2.3", HOST_IS("a:"), HOST_WAS("a:")},
    {"an IPv4 address", "RFC 3986 3.2.2", HOST_IS("127.0.0.1:1"), HOST_WAS("127.0.0.1:1")},
    {"an IPv6 address", "RFC 3986 3.2.2", HOST_IS("[2001:db8::7]"), HOST_WAS("[2001:db8::7]")},
    {"an IPv6 address and a port", "RFC 3986 3.2.2", HOST_IS("[::ffff:1.2.3.4]:80"), HOST_WAS("[::ffff:1.2.3.4]:80")},
    {"an address of the future", "RFC 3986 3.2.2", HOST_IS("[v1.a:b]"), HOST_WAS("[v1.a:b]")},
    {"an escaped name", "RFC 3986 3.2.2", HOST_IS("caf%C3%A9"), HOST_WAS("caf%C3%A9")},
    {"white space around it", "RFC 9112 5.1", HOST_IS("  a  "), HOST_WAS("a")},

    {"none", "RFC 9112 3.2", BYTES("GET / HTTP/1.1\r\nX: a\r\n\r\n"), "400 HTTP/1.1 requires a Host field."},
    {"a wrong one is wrong in HTTP/1.0, too", "RFC 9112 3.2", BYTES("GET / HTTP/1.0\r\nHost: a b\r\n\r\n"), BAD_HOST},
    {"two, the same", "RFC 9112 3.2", BYTES("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), "400 There are two Host fields."},
    {"an empty one", "RFC 9110 4.2.1", HOST_IS(""), BAD_HOST},
    {"two in one line", "RFC 9112 3.2", HOST_IS("a, b"), BAD_HOST},
    {"two names", "RFC 9112 3.2", HOST_IS("a b"), BAD_HOST},
    {"a user", "RFC 9110 4.2.4", HOST_IS("u@a"), BAD_HOST},
    {"a user and a password", "RFC 9110 4.2.4", HOST_IS("u:p@a"), BAD_HOST},
    {"a path", "RFC 9110 7.2", HOST_IS("a/b"), BAD_HOST},
    {"a query", "RFC 9110 7.2", HOST_IS("a?b"), BAD_HOST},
    {"a scheme", "RFC 9110 7.2", HOST_IS("http://a"), BAD_HOST},
    {"a port alone", "RFC 9110 4.2.1", HOST_IS(":80"), BAD_HOST},
    {"a port beyond 65535", "RFC 9110 7.2", HOST_IS("a:65536"), BAD_HOST},
    {"a port beyond all numbers", "RFC 9110 7.2", HOST_IS("a:18446744073709551696"), BAD_HOST},
    {"a signed port", "RFC 9110 7.2", HOST_IS("a:+80"), BAD_HOST},
    {"a port in letters", "RFC 9110 7.2", HOST_IS("a:http"), BAD_HOST},
    {"two ports", "RFC 9110 7.2", HOST_IS("a:80:80"), BAD_HOST},
    {"an IPv6 address without brackets", "RFC 3986 3.2.2", HOST_IS("::1"), BAD_HOST},
    {"an unclosed bracket", "RFC 3986 3.2.2", HOST_IS("[::1"), BAD_HOST},
    {"an unopened bracket", "RFC 3986 3.2.2", HOST_IS("::1]"), BAD_HOST},
    {"empty brackets", "RFC 3986 3.2.2", HOST_IS("[]"), BAD_HOST},
    {"a name in brackets", "RFC 3986 3.2.2", HOST_IS("[localhost]"), BAD_HOST},
    {"an IPv4 address in brackets", "RFC 3986 3.2.2", HOST_IS("[127.0.0.1]"), BAD_HOST},
    {"an IPv6 address with a zone", "RFC 3986 3.2.2", HOST_IS("[fe80::1%25eth0]"), BAD_HOST},
    {"an IPv6 address of nine groups", "RFC 3986 3.2.2", HOST_IS("[1:2:3:4:5:6:7:8:9]"), BAD_HOST},
    {"an IPv6 address that is far too long", "RFC 3986 3.2.2", HOST_IS("[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]"),
     BAD_HOST},
    {"an address of the future without a version", "RFC 3986 3.2.2", HOST_IS("[v.a]"), BAD_HOST},
    {"an address of the future without an address", "RFC 3986 3.2.2", HOST_IS("[v1.]"), BAD_HOST},
    {"something after the bracket", "RFC 3986 3.2.2", HOST_IS("[::1]a"), BAD_HOST},
    {"a second bracket", "RFC 3986 3.2.2", HOST_IS("[::1]]"), BAD_HOST},
    {"half an escape", "RFC 3986 2.1", HOST_IS("a%4"), BAD_HOST},
    {"an escape that is not hexadecimal", "RFC 3986 2.1", HOST_IS("a%zz"), BAD_HOST},
    {"bytes above 127", "RFC 3986 3.2.2", HOST_IS("caf\xc3\xa9"), BAD_HOST},
    {"a backslash", "RFC 3986 3.2.2", HOST_IS("a\\b"), BAD_HOST},
};

static void test_host_is_one_host_with_an_optional_port(void **state)
{
    (void)state;
    CHECK_REQUESTS(hosts);
}

/* ---- framing: one reading, or none --------------------------------------------------------------------------------------- */

#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
#define LENGTH(n) POST "Content-Length:" n "\r\n\r\n"
#define LENGTH_READ(n) "POST / HTTP/1.1 keep {host: a, content-length: " n "}"
#define CODING(c) POST "Transfer-Encoding:" c "\r\n\r\n"
#define NOT_A_LENGTH "400 Content-Length is not a number."
#define BOTH_FRAMINGS "400 Content-Length and Transfer-Encoding contradict each other."
#define BAD_CODING "400 The only Transfer-Encoding understood here is chunked."

static const struct input framing[] = {
    {"Content-Length counts the body", "RFC 9112 6.2", BYTES(LENGTH("5") "hello"), LENGTH_READ("5") " \"hello\""},
    {"what follows the body is the next message", "RFC 9112 9.3.2", BYTES(LENGTH("5") "helloGET /" REST),
     LENGTH_READ("5") " \"hello\"\nGET / HTTP/1.1 keep {host: a}"},
    {"a body may hold anything, a head for example", "RFC 9112 6.2", BYTES(LENGTH("17") "\r\n\0GET / HTTP/1.1GET /" REST),
     LENGTH_READ("17") " \"\r\n\0GET / HTTP/1.1\"\nGET / HTTP/1.1 keep {host: a}"},
    {"a request without Content-Length has no body", "RFC 9112 6.3", BYTES(POST "\r\n"), "POST / HTTP/1.1 keep {host: a}"},
    {"an empty body is complete at once", "RFC 9112 6.2", BYTES(LENGTH("0")), LENGTH_READ("0")},
    {"leading zeros are a number's own business", "RFC 9110 8.6", BYTES(LENGTH(" 0000000000000000000000002") "ab"),
     LENGTH_READ("0000000000000000000000002") " \"ab\""},
    {"white space around a length is legal", "RFC 9112 5.1", BYTES(LENGTH(" \t2\t ") "ab"), LENGTH_READ("2") " \"ab\""},
    {"a GET may have a body", "RFC 9110 9.3.1", BYTES(GET "Content-Length: 2\r\n\r\nab"), GOT ", content-length: 2} \"ab\""},
    {"half a body is half a message", "RFC 9112 8", BYTES(LENGTH("5") "hell"), "unfinished body"},
    {"chunked in any case", "RFC 9112 7", BYTES(CODING(" ChUnKeD ") "0\r\n\r\n"),
     "POST / HTTP/1.1 keep {host: a, transfer-encoding: ChUnKeD}"},

    {"two lengths", "RFC 9112 6.3", BYTES(POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
     "400 There are two Content-Length fields."},
    {"two lengths, the same", "RFC 9110 8.6", BYTES(POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
     "400 There are two Content-Length fields."},
    {"two lengths in one line", "RFC 9110 8.6", BYTES(LENGTH("5, 5") "hello"), NOT_A_LENGTH},
    {"no length", "RFC 9110 8.6", BYTES(LENGTH("")), "400 Content-Length is empty."},
    {"+5", "RFC 9110 8.6", BYTES(LENGTH("+5") "hello"), NOT_A_LENGTH},
    {"-5", "RFC 9110 8.6", BYTES(LENGTH("-5") "hello"), NOT_A_LENGTH},
    {"0x5", "RFC 9110 8.6", BYTES(LENGTH("0x5") "hello"), NOT_A_LENGTH},
    {"5a", "RFC 9110 8.6", BYTES(LENGTH("5a") "hello"), NOT_A_LENGTH},
    {"5.0", "RFC 9110 8.6", BYTES(LENGTH("5.0") "hello"), NOT_A_LENGTH},
    {"1 0", "RFC 9110 8.6", BYTES(LENGTH("1 0") "hello"), NOT_A_LENGTH},
    {"a length of 2^64", "RFC 9110 8.6", BYTES(LENGTH("18446744073709551616")), "400 Content-Length is beyond all numbers."},
    {"a length of 2^64 + 5, which would wrap", "RFC 9110 8.6", BYTES(LENGTH("18446744073709551621")),
     "400 Content-Length is beyond all numbers."},
    {"a length of thirty digits", "RFC 9110 8.6", BYTES(LENGTH("100000000000000000000000000005")),
     "400 Content-Length is beyond all numbers."},
    {"a large length is a number, and too much", "RFC 9110 15.5.14", BYTES(LENGTH("18446744073709551600")),
     "413 The body is too large."},
    {"both framings", "RFC 9112 6.1", BYTES(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
     BOTH_FRAMINGS},
    {"both framings, the other way round", "RFC 9112 6.1",
     BYTES(POST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"), BOTH_FRAMINGS},
    {"chunked twice", "RFC 9112 7", BYTES(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
     "400 There are two Transfer-Encoding fields."},
    {"identity, then chunked", "RFC 9112 6.1", BYTES(POST "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n"),
     BAD_CODING},
    {"chunked, chunked", "RFC 9112 7", BYTES(CODING("chunked, chunked") "0\r\n\r\n"), BAD_CODING},
    {"gzip, chunked", "RFC 9112 6.1", BYTES(CODING("gzip, chunked") "0\r\n\r\n"), BAD_CODING},
    {"chunked, as an element of a list", "RFC 9112 6.1", BYTES(CODING(",chunked") "0\r\n\r\n"), BAD_CODING},
    {"chunked with a parameter", "RFC 9112 7", BYTES(CODING("chunked;q=1") "0\r\n\r\n"), BAD_CODING},
    {"xchunked", "RFC 9112 6.1", BYTES(CODING("xchunked") "0\r\n\r\n"), BAD_CODING},
    {"chunkedx", "RFC 9112 6.1", BYTES(CODING("chunkedx") "0\r\n\r\n"), BAD_CODING},
    {"chunked in quotes", "RFC 9112 6.1", BYTES(CODING("\"chunked\"") "0\r\n\r\n"), BAD_CODING},
    {"an empty coding", "RFC 9112 6.1", BYTES(CODING("") "0\r\n\r\n"), BAD_CODING},
    {"chunked behind a control byte", "RFC 9110 5.5", BYTES(CODING("\vchunked") "0\r\n\r\n"), CONTROL},
    {"chunked behind a fold", "RFC 9112 5.2", BYTES(CODING("\r\n chunked") "0\r\n\r\n"), BAD_CODING},
    {"a coding with a space before the colon", "RFC 9112 5.1", BYTES(POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
     BAD_NAME},
    {"a coding in HTTP/1.0", "RFC 9112 6.1", BYTES("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
     "400 HTTP/1.0 has no Transfer-Encoding."},
};

static void test_framing_has_one_reading_or_none(void **state)
{
    (void)state;
    CHECK_REQUESTS(framing);
}

#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define JOINED "POST / HTTP/1.1 keep {host: a, transfer-encoding: chunked}"
#define NO_SIZE "400 A chunk does not begin with its size in hexadecimal."
#define BAD_SIZE "400 The chunk size is not a hexadecimal number."
#define BAD_EXTENSION "400 A chunk extension is malformed."
#define BAD_CHUNK_END "400 Chunk data is longer than its size, or not ended by CRLF."
#define BAD_TRAILER "400 A trailer holds a field that may only stand in the header."

static const struct input chunks[] = {
    {"chunks make one body", "RFC 9112 7.1", BYTES(CHUNKED "5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n"),
     JOINED " \"hello world\""},
    {"the last chunk may be the only one", "RFC 9112 7.1", BYTES(CHUNKED "0\r\n\r\n"), JOINED},
    {"sizes are hexadecimal in either case", "RFC 9112 7.1", BYTES(CHUNKED "a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n"),
     JOINED " \"01234567890123456789a\""},
    {"a size may have leading zeros, up to 16 digits", "RFC 9112 7.1", BYTES(CHUNKED "0000000000000002\r\nab\r\n000\r\n\r\n"),
     JOINED " \"ab\""},
    {"what follows is the next message", "RFC 9112 9.3.2", BYTES(CHUNKED "1\r\na\r\n0\r\n\r\nGET /" REST),
     JOINED " \"a\"\nGET / HTTP/1.1 keep {host: a}"},
    {"data may look like anything", "RFC 9112 7.1", BYTES(CHUNKED "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"), JOINED " \"\r\n0\r\n\r\n\""},
    {"extensions are read and forgotten", "RFC 9112 7.1.1", BYTES(CHUNKED "1;a;b=c;d=\"e;\\\"f\\\\\t\"\r\nx\r\n0;last\r\n\r\n"),
     JOINED " \"x\""},
    {"trailers are checked and dropped", "RFC 9112 7.1.2", BYTES(CHUNKED "1\r\nx\r\n0\r\nX-Sum: 1\r\nX-Other:\r\n\r\nGET /" REST),
     JOINED " \"x\"\nGET / HTTP/1.1 keep {host: a}"},
    {"without the last chunk it is not complete", "RFC 9112 8", BYTES(CHUNKED "1\r\nx\r\n"), "unfinished body"},
    {"nor without the last empty line", "RFC 9112 8", BYTES(CHUNKED "1\r\nx\r\n0\r\n"), "unfinished body"},

    {"no size", "RFC 9112 7.1", BYTES(CHUNKED "\r\nx\r\n"), NO_SIZE},
    {"+1", "RFC 9112 7.1", BYTES(CHUNKED "+1\r\nx\r\n"), NO_SIZE},
    {"-1", "RFC 9112 7.1", BYTES(CHUNKED "-1\r\nx\r\n"), NO_SIZE},
    {"a blank before the size", "RFC 9112 7.1", BYTES(CHUNKED " 1\r\nx\r\n"), NO_SIZE},
    {"a blank after the size", "RFC 9112 7.1", BYTES(CHUNKED "1 \r\nx\r\n"), BAD_SIZE},
    {"a TAB after the size", "RFC 9112 7.1", BYTES(CHUNKED "1\t\r\nx\r\n"), BAD_SIZE},
    {"0x1", "RFC 9112 7.1", BYTES(CHUNKED "0x1\r\nx\r\n"), BAD_SIZE},
    {"1_0", "RFC 9112 7.1", BYTES(CHUNKED "1_0\r\nx\r\n"), BAD_SIZE},
    {"1g", "RFC 9112 7.1", BYTES(CHUNKED "1g\r\nx\r\n"), BAD_SIZE},
    {"a size that ends in LF", "RFC 9112 2.2", BYTES(CHUNKED "1\nx\r\n"), BAD_SIZE},
    {"a size that ends in CR", "RFC 9112 2.2", BYTES(CHUNKED "1\rx\r\n"), NO_LF},
    {"a size of 17 digits", "RFC 9112 7.1", BYTES(CHUNKED "00000000000000001\r\nx\r\n"), "400 The chunk size has too many digits."},
    {"a size of 2^64 + 1, which would wrap", "RFC 9112 7.1", BYTES(CHUNKED "10000000000000001\r\nx\r\n"),
     "413 The body is too large."},
    {"a size of 2^64 - 1", "RFC 9112 7.1", BYTES(CHUNKED "FFFFFFFFFFFFFFFF\r\nx\r\n"), "413 The body is too large."},
    {"data that is longer than its size", "RFC 9112 7.1", BYTES(CHUNKED "1\r\nxy\r\n0\r\n\r\n"), BAD_CHUNK_END},
    {"data that is shorter than its size", "RFC 9112 7.1", BYTES(CHUNKED "3\r\nx\r\n0\r\n\r\n"), BAD_CHUNK_END},
    {"data that ends in LF", "RFC 9112 7.1", BYTES(CHUNKED "1\r\nx\n0\r\n\r\n"), BAD_CHUNK_END},
    {"data that ends in CR", "RFC 9112 7.1", BYTES(CHUNKED "1\r\nx\r0\r\n\r\n"), NO_LF},
    {"an extension without a name", "RFC 9112 7.1.1", BYTES(CHUNKED "1;\r\nx\r\n"), BAD_EXTENSION},
    {"an extension with an empty value", "RFC 9112 7.1.1", BYTES(CHUNKED "1;a=\r\nx\r\n"), BAD_EXTENSION},
    {"an extension with two values", "RFC 9112 7.1.1", BYTES(CHUNKED "1;a=b=c\r\nx\r\n"), BAD_EXTENSION},
    {"an extension that goes on after its quotes", "RFC 9112 7.1.1", BYTES(CHUNKED "1;a=\"b\"c\r\nx\r\n"), BAD_EXTENSION},
    {"an extension with white space", "RFC 9112 7.1.1", BYTES(CHUNKED "1; a\r\nx\r\n"), BAD_EXTENSION},
    {"an extension that ends in LF", "RFC 9112 7.1.1", BYTES(CHUNKED "1;a\nx\r\n"), BAD_EXTENSION},
    {"an extension that holds CRLF in quotes", "RFC 9112 7.1.1", BYTES(CHUNKED "1;a=\"\r\n\"\r\nx\r\n"), BAD_EXTENSION},
    {"an extension that escapes a CR", "RFC 9112 7.1.1", BYTES(CHUNKED "1;a=\"\\\r\n\"\r\nx\r\n"), BAD_EXTENSION},
    {"an extension that ends in CR", "RFC 9112 7.1.1", BYTES(CHUNKED "1;a\rx\r\n"), NO_LF},
    {"a length in the trailer", "RFC 9110 6.5.1", BYTES(CHUNKED "0\r\nContent-Length: 5\r\n\r\n"), BAD_TRAILER},
    {"a coding in the trailer", "RFC 9110 6.5.1", BYTES(CHUNKED "0\r\nTransfer-Encoding: chunked\r\n\r\n"), BAD_TRAILER},
    {"a host in the trailer", "RFC 9110 6.5.1", BYTES(CHUNKED "0\r\nhost: b\r\n\r\n"), BAD_TRAILER},
    {"a password in the trailer", "RFC 9110 6.5.1", BYTES(CHUNKED "0\r\nX: 1\r\nAUTHORIZATION: Bearer t\r\n\r\n"), BAD_TRAILER},
    {"Connection in the trailer", "RFC 9110 6.5.1", BYTES(CHUNKED "0\r\nConnection: close\r\n\r\n"), BAD_TRAILER},
    {"Content-Type in the trailer", "RFC 9110 6.5.1", BYTES(CHUNKED "0\r\nContent-Type: a/b\r\n\r\n"), BAD_TRAILER},
    {"Trailer in the trailer", "RFC 9110 6.5.1", BYTES(CHUNKED "0\r\nTrailer: X\r\n\r\n"), BAD_TRAILER},
    {"a folded trailer", "RFC 9112 5.2", BYTES(CHUNKED "0\r\nX: 1\r\n 2\r\n\r\n"), FOLDED},
    {"a trailer that ends in LF", "RFC 9112 2.2", BYTES(CHUNKED "0\r\nX: 1\n\r\n"), BARE_LF},
    {"a control byte in a trailer", "RFC 9110 5.5", BYTES(CHUNKED "0\r\nX: \1\r\n\r\n"), CONTROL},
    {"trailers that end in CR", "RFC 9112 2.2", BYTES(CHUNKED "0\r\n\rx"), NO_LF},
};

static void test_chunked_has_no_second_reading(void **state)
{
    (void)state;
    CHECK_REQUESTS(chunks);
}

/* ---- Connection and Expect ---------------------------------------------------------------------------------------------- */

#define OLD "GET / HTTP/1.0\r\n"

static const struct input connections[] = {
    {"HTTP/1.1 stays", "RFC 9112 9.3", BYTES(GET "\r\n"), GOT "}"},
    {"close closes", "RFC 9112 9.6", BYTES(GET "Connection: close\r\n\r\n"), "GET / HTTP/1.1 close {host: a, connection: close}"},
    {"in any case, anywhere in a list", "RFC 9110 7.6.1", BYTES(GET "Connection: x ,\tCLOSE , y\r\n\r\n"),
     "GET / HTTP/1.1 close {host: a, connection: x ,\tCLOSE , y}"},
    {"in any of several lines", "RFC 9110 5.3", BYTES(GET "Connection: close\r\nConnection: keep-alive\r\n\r\n"),
     "GET / HTTP/1.1 close {host: a, connection: close, connection: keep-alive}"},
    {"closed is another word", "RFC 9110 7.6.1", BYTES(GET "Connection: closed, x-close\r\n\r\n"),
     GOT ", connection: closed, x-close}"},
    {"empty elements are nothing", "RFC 9110 5.6.1", BYTES(GET "Connection: ,, ,\r\n\r\n"), GOT ", connection: ,, ,}"},
    {"HTTP/1.0 closes", "RFC 9112 9.3", BYTES(OLD "\r\n"), "GET / HTTP/1.0 close {}"},
    {"unless asked to stay", "RFC 9112 9.3", BYTES(OLD "Connection: Keep-Alive\r\n\r\n"),
     "GET / HTTP/1.0 keep {connection: Keep-Alive}"},
    {"close wins", "RFC 9112 9.3", BYTES(OLD "Connection: keep-alive, close\r\n\r\n"),
     "GET / HTTP/1.0 close {connection: keep-alive, close}"},
    {"a client may wait for 100", "RFC 9110 10.1.1", BYTES(POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx"),
     "POST / HTTP/1.1 keep continue {host: a, expect: 100-Continue, content-length: 1} \"x\""},
    {"one of HTTP/1.0 may not, and is not refused for it", "RFC 9110 10.1.1", BYTES(OLD "Expect: 100-continue\r\n\r\n"),
     "GET / HTTP/1.0 close {expect: 100-continue}"},
    {"other expectations are told", "RFC 9110 10.1.1", BYTES(GET "Expect: pizza\r\n\r\n"),
     "GET / HTTP/1.1 keep unknown-expectation {host: a, expect: pizza}"},
};

static void test_connection_and_expect_are_understood(void **state)
{
    (void)state;
    CHECK_REQUESTS(connections);
}

/* ---- limits -------------------------------------------------------------------------------------------------------------- */

static char big[1 << 18];
static size_t big_len;

static void add(const char *text)
{
    size_t n = strlen(text);

    assert_true(big_len + n < sizeof big);
    memcpy(big + big_len, text, n + 1);
    big_len += n;
}

static void start(const char *text)
{
    big_len = 0;
    add(text);
}

static void add_many(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) add(text);
}

static void check_big(const char *claim, const char *rfc, const char *outcome)
{
    check(&(struct input){claim, rfc, big, big_len, outcome, .role = HTTP_REQUEST});
}

static void test_a_request_line_may_have_8192_bytes(void **state)
{
    (void)state;
    start("GET /");
    add_many("/", HTTP_LINE_MAX - sizeof "GET / HTTP/1.1\r\n" + 1);
    add(REST);
    check_big("8192 bytes with CRLF are read", "RFC 9112 3", "GET 8177*/ HTTP/1.1 keep {host: a}");

    start("GET /");
    add_many("/", HTTP_LINE_MAX - sizeof "GET / HTTP/1.1\r\n" + 2);
    add(REST);
    check_big("8193 are not", "RFC 9110 15.5.15", "414 The start line is longer than 8 KiB.");

    start("GET /");
    add_many("%C3%A3", HTTP_LINE_MAX);
    check_big("nor any number without an end", "RFC 9110 15.5.15", "414 The start line is longer than 8 KiB.");

    start("HTTP/1.1 200 ");
    add_many("x", HTTP_LINE_MAX);
    check(&(struct input){"nor in a status line", "RFC 9112 4", big, big_len, "414 The start line is longer than 8 KiB.",
                          .role = HTTP_RESPONSE});
}

static void test_fields_may_have_16384_bytes(void **state)
{
    (void)state;
    start(GET "X: ");
    add_many("x", HTTP_FIELDS_MAX - sizeof "Host: a\r\nX: \r\n\r\n" + 1);
    add("\r\n\r\n");
    check_big("16384 bytes with the empty line are read", "RFC 6585 5", "GET / HTTP/1.1 keep {host: a, x: 16368*x}");

    start(GET "X: ");
    add_many("x", HTTP_FIELDS_MAX - sizeof "Host: a\r\nX: \r\n\r\n" + 2);
    add("\r\n\r\n");
    check_big("16385 are not", "RFC 6585 5", "431 The header fields are larger than 16 KiB.");

    start(GET);
    add_many("x", HTTP_FIELDS_MAX);
    check_big("a name is no way around", "RFC 6585 5", "431 The header fields are larger than 16 KiB.");

    start(GET "X:");
    add_many(" ", HTTP_FIELDS_MAX);
    check_big("nor is white space", "RFC 6585 5", "431 The header fields are larger than 16 KiB.");

    start(CHUNKED "0\r\n");
    for (int i = 0; i < 20; i++) {
        add("X:");
        add_many("x", 1000);
        add("\r\n");
    }
    check_big("trailers are bounded, too", "RFC 9112 7.1.2", "431 The header fields are larger than 16 KiB.");
}

static void test_a_message_may_have_100_fields(void **state)
{
    static char want[4096];
    size_t n;

    (void)state;
    start(GET);
    add_many("X:1\r\n", HTTP_FIELDS_COUNT - 1);
    add("\r\n");
    n = (size_t)snprintf(want, sizeof want, GOT);
    for (int i = 0; i < HTTP_FIELDS_COUNT - 1; i++) n += (size_t)snprintf(want + n, sizeof want - n, ", x: 1");
    snprintf(want + n, sizeof want - n, "}");
    check_big("100 fields are read", "RFC 6585 5", want);

    start(GET);
    add_many("X:1\r\n", HTTP_FIELDS_COUNT);
    add("\r\n");
    check_big("101 are not", "RFC 6585 5", "431 There are more than 100 header fields.");

    start(CHUNKED "0\r\n");
    add_many("X:1\r\n", HTTP_FIELDS_COUNT - 2);
    add("\r\n");
    check_big("trailers count, and leave nothing behind", "RFC 9112 7.1.2", JOINED);

    start(CHUNKED "0\r\n");
    add_many("X:1\r\n", HTTP_FIELDS_COUNT - 1);
    add("\r\n");
    check_big("the 101st field may be a trailer", "RFC 9112 7.1.2", "431 There are more than 100 header fields.");
}

static void test_a_body_may_have_65536_bytes(void **state)
{
    (void)state;
    start(LENGTH("65536"));
    add_many("x", HTTP_BODY_MAX);
    check_big("65536 bytes are read", "RFC 9110 15.5.14", LENGTH_READ("65536") " \"65536*x\"");

    start(LENGTH("65537"));
    check_big("65537 are refused before the first of them", "RFC 9110 15.5.14", "413 The body is too large.");

    start(CHUNKED "8000\r\n");
    add_many("x", 0x8000);
    add("\r\n8000\r\n");
    add_many("x", 0x8000);
    add("\r\n0\r\n\r\n");
    check_big("65536 bytes in chunks are read", "RFC 9110 15.5.14", JOINED " \"65536*x\"");

    start(CHUNKED "8000\r\n");
    add_many("x", 0x8000);
    add("\r\n8001\r\n");
    check_big("the chunk that goes beyond is refused when its size is told", "RFC 9110 15.5.14", "413 The body is too large.");

    check(&(struct input){"the caller may set another limit", "RFC 9110 15.5.14", BYTES(LENGTH("5") "hello"),
                          "413 The body is too large.", .body_limit = 4, .role = HTTP_REQUEST});
    check(&(struct input){"for chunks, too", "RFC 9110 15.5.14", BYTES(CHUNKED "2\r\nab\r\n3\r\ncde\r\n"),
                          "413 The body is too large.", .body_limit = 4, .role = HTTP_REQUEST});
}

static void test_chunk_extensions_may_have_4096_bytes(void **state)
{
    (void)state;
    start(CHUNKED "1;");
    add_many("x", HTTP_CHUNK_EXT_MAX - 1);
    add("\r\nx\r\n0\r\n\r\n");
    check_big("4096 bytes with their CR are read", "RFC 9112 7.1.1", JOINED " \"x\"");

    start(CHUNKED);
    add_many("1;xxxxxxx=\"xxxxxxxxxxxxxxxxxxxx\"\r\nx\r\n", 200);
    check_big("all of a message are counted together", "RFC 9112 7.1.1", "400 The chunk extensions are too long.");
}

/* ---- many messages, and one in many feeds -------------------------------------------------------------------------------- */

static void test_a_thousand_pipelined_requests_come_out_in_order(void **state)
{
    static struct outcome whole, cut;
    static char want[1 << 17];
    char text[128];
    size_t n = 0;
    struct input in = {.claim = "pipelining", .rfc = "RFC 9112 9.3.2", .bytes = big, .role = HTTP_REQUEST};

    (void)state;
    start("");
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, i % 3 ? "GET /%d" REST : "PUT /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n%04d", i, i);
        add(text);
        n += (size_t)snprintf(want + n, sizeof want - n,
                              i % 3 ? "%sGET /%d HTTP/1.1 keep {host: a}"
                                    : "%sPUT /%d HTTP/1.1 keep {host: a, content-length: 4} \"%04d\"",
                              i ? "\n" : "", i, i);
    }
    in.len = big_len;
    read_cut(&in, in.len, in.len, &whole);
    assert_string_equal(whole.text, want);
    for (int i = 0; i < 20; i++) {
        read_cut(&in, RANDOM_CUTS, RANDOM_CUTS, &cut);
        expect_same(&in, &whole, &cut, "cut at random, turn", (size_t)i);
    }
}

static void test_the_head_can_be_looked_at_before_the_body_is_fed(void **state)
{
    static const char bytes[] = LENGTH("5") "hello";
    struct http_message m = {0};
    size_t used;

    (void)state;
    http_begin(&m, HTTP_REQUEST);
    assert_int_equal(m.phase, HTTP_FRESH);
    used = http_feed(&m, bytes, sizeof bytes - 1);
    assert_int_equal(used, sizeof bytes - 1 - 5);
    assert_int_equal(m.phase, HTTP_IN_BODY);
    assert_int_equal(m.method, HTTP_POST);
    assert_true(slice_is(http_field(&m, "host"), "a"));
    assert_null(http_field(&m, "hos").at);
    assert_false(http_end_of_input(&m));
    assert_int_equal(http_feed(&m, bytes + used, 5), 5);
    assert_int_equal(m.phase, HTTP_DONE);
    assert_true(http_end_of_input(&m));
    assert_true(slice_is(http_body(&m), "hello"));
    assert_int_equal(http_feed(&m, "more", 4), 0);
    http_free(&m);
}

static void test_the_fields_of_one_name_come_in_order(void **state)
{
    static const char bytes[] = GET "X: 1\r\nY:\r\nX: 2\r\n\r\n";
    struct http_message m = {0};
    struct slice value;
    unsigned i = 0;

    (void)state;
    http_begin(&m, HTTP_REQUEST);
    http_feed(&m, bytes, sizeof bytes - 1);
    assert_true(http_next_field(&m, "x", &i, &value) && slice_is(value, "1"));
    assert_true(http_next_field(&m, "x", &i, &value) && slice_is(value, "2"));
    assert_false(http_next_field(&m, "x", &i, &value));
    value = http_field(&m, "y");
    assert_true(value.at && value.len == 0); /* empty is not absent */
    http_free(&m);
}

static void test_trailers_do_not_become_fields(void **state)
{
    static const char bytes[] = CHUNKED "0\r\nX: 1\r\n\r\n";
    struct http_message m = {0};

    (void)state;
    http_begin(&m, HTTP_REQUEST);
    for (size_t used = 0; used < sizeof bytes - 1;) used += http_feed(&m, bytes + used, sizeof bytes - 1 - used);
    assert_int_equal(m.phase, HTTP_DONE);
    assert_int_equal(m.fields_len, 2);
    assert_null(http_field(&m, "x").at);
    http_free(&m);
}

static void test_a_method_is_known_by_its_name(void **state)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"};

    (void)state;
    for (int i = HTTP_GET; i <= HTTP_OTHER; i++) {
        struct http_message m = {0};
        char bytes[64];
        int n = snprintf(bytes, sizeof bytes, "%s %s HTTP/1.0\r\n\r\n", names[i], i == HTTP_CONNECT ? "h:1" : "/");

        http_begin(&m, HTTP_REQUEST);
        http_feed(&m, bytes, (size_t)n);
        assert_int_equal(m.phase, HTTP_DONE);
        assert_int_equal((int)m.method, i);
        assert_true(slice_is(http_method_text(&m), names[i]));
        http_free(&m);
    }
}

/* ---- responses ------------------------------------------------------------------------------------------------------------- */

#define BAD_STATUS_LINE "400 The status line is malformed."

static const struct input responses[] = {
    {"a response with a length", "RFC 9112 6.3", BYTES("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
     "200 HTTP/1.1 keep {content-length: 2} \"ok\""},
    {"a response needs no Host, and may have any", "RFC 9112 3.2", BYTES("HTTP/1.1 200 OK\r\nHost: /\r\nContent-Length: 0\r\n\r\n"),
     "200 HTTP/1.1 keep {host: /, content-length: 0}"},
    {"the reason may be empty", "RFC 9112 4", BYTES("HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n"),
     "404 HTTP/1.1 keep {content-length: 0}"},
    {"the reason may be anything printable", "RFC 9112 4", BYTES("HTTP/1.1 599 N\xc3\xa3o, 100%\t!\r\nContent-Length: 0\r\n\r\n"),
     "599 HTTP/1.1 keep {content-length: 0}"},
    {"chunks", "RFC 9112 7.1", BYTES("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
     "200 HTTP/1.1 keep {transfer-encoding: chunked} \"ok\""},
    {"without either the body ends with the connection", "RFC 9112 6.3", BYTES("HTTP/1.1 200 OK\r\n\r\nok\r\n"),
     "200 HTTP/1.1 close {} \"ok\r\n\""},
    {"and may be empty", "RFC 9112 6.3", BYTES("HTTP/1.1 200 OK\r\n\r\n"), "200 HTTP/1.1 close {}"},
    {"HTTP/1.0 closes", "RFC 9112 9.3", BYTES("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
     "200 HTTP/1.0 close {content-length: 2} \"ok\""},
    {"an interim response comes before the final one", "RFC 9110 15.2",
     BYTES(
         "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
     "100 HTTP/1.1 keep {}\n103 HTTP/1.1 keep {link: x}\n200 HTTP/1.1 keep {content-length: 2} \"ok\""},
    {"204 has no body, whatever it says", "RFC 9112 6.3", BYTES("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
     "204 HTTP/1.1 keep {content-length: 5}"},
    {"304 has the length of what it does not send", "RFC 9112 6.3",
     BYTES("HTTP/1.1 304 Not Modified\r\nContent-Length: 99999999\r\n\r\n"), "304 HTTP/1.1 keep {content-length: 99999999}"},
    {"so has the answer to a HEAD", "RFC 9112 6.3", BYTES("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"),
     "200 HTTP/1.1 keep {content-length: 99999999}", .no_body = true},
    {"which may speak of chunks it does not send", "RFC 9112 6.3", BYTES("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
     "200 HTTP/1.1 keep {transfer-encoding: chunked}", .no_body = true},
    {"101 ends HTTP on its connection", "RFC 9110 15.2.2", BYTES("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
     "101 HTTP/1.1 close {upgrade: x}"},
    {"a fold stands for a space", "RFC 9112 5.2", BYTES("HTTP/1.1 204 OK\r\nX: a\r\n b\r\nY: c\r\n\r\n"),
     "204 HTTP/1.1 keep {x: a b, y: c}"},
    {"so does one with all the white space there can be", "RFC 9112 5.2", BYTES("HTTP/1.1 204 OK\r\nX: a \t\r\n \t \tb\t \r\n\r\n"),
     "204 HTTP/1.1 keep {x: a b}"},
    {"two folds", "RFC 9112 5.2", BYTES("HTTP/1.1 204 OK\r\nX: a\r\n b\r\n\tc\r\n\r\n"), "204 HTTP/1.1 keep {x: a b c}"},
    {"a fold before the value is none of it", "RFC 9112 5.2", BYTES("HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok"),
     "200 HTTP/1.1 keep {content-length: 2} \"ok\""},
    {"nor is one behind it", "RFC 9112 5.2", BYTES("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n \r\n\r\nok"),
     "200 HTTP/1.1 keep {content-length: 2} \"ok\""},
    {"a value of folds alone", "RFC 9112 5.2", BYTES("HTTP/1.1 204 OK\r\nX:\r\n \r\n\t\r\n\r\n"), "204 HTTP/1.1 keep {x: }"},
    {"a folded trailer of a response", "RFC 9112 5.2",
     BYTES("HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n2\r\nok\r\n0\r\nX: a\r\n b\r\n\r\n"),
     "200 HTTP/1.1 keep {transfer-encoding: chunked} \"ok\""},
    {"a fold of nothing", "RFC 9112 2.2", BYTES("HTTP/1.1 200 OK\r\n X: a\r\n\r\n"), FOLDED},
    {"two lengths, one of them folded", "RFC 9112 5.2", BYTES("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n 0\r\n\r\nok"),
     "400 Content-Length is not a number."},
    {"a control byte behind a fold", "RFC 9110 5.5", BYTES("HTTP/1.1 200 OK\r\nX: a\r\n \0\r\n\r\n"), CONTROL},
    {"a body of exactly the limit", "RFC 9112 6.3", BYTES("HTTP/1.1 200 OK\r\n\r\n12345678"), "200 HTTP/1.1 close {} \"12345678\"",
     .body_limit = 8},

    {"a body to the end beyond the limit", "RFC 9112 6.3", BYTES("HTTP/1.1 200 OK\r\n\r\n123456789"), "413 The body is too large.",
     .body_limit = 8},
    {"a length beyond the limit", "RFC 9112 6.3", BYTES("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
     "413 The body is too large.", .body_limit = 8},
    {"both framings", "RFC 9112 6.3", BYTES("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nok"),
     BOTH_FRAMINGS},
    {"both framings where no body can be", "RFC 9112 6.1",
     BYTES("HTTP/1.1 204 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n"), BOTH_FRAMINGS},
    {"two lengths", "RFC 9112 6.3", BYTES("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"),
     "400 There are two Content-Length fields."},
    {"half a body", "RFC 9112 8", BYTES("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"), "unfinished body"},
    {"chunks without an end", "RFC 9112 8", BYTES("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"),
     "unfinished body"},
    {"half a head", "RFC 9112 8", BYTES("HTTP/1.1 200 OK\r\n"), "unfinished head"},
    {"an empty line before it", "RFC 9112 2.2", BYTES("\r\nHTTP/1.1 200 OK\r\n\r\n"), BAD_VERSION},
    {"another version", "RFC 9112 2.3", BYTES("HTTP/2.0 200 OK\r\n\r\n"), OTHER_VERSION},
    {"a lower-case version", "RFC 9112 2.3", BYTES("http/1.1 200 OK\r\n\r\n"), BAD_VERSION},
    {"a status of two digits", "RFC 9112 4", BYTES("HTTP/1.1 20 OK\r\n\r\n"), "400 The status is not a number."},
    {"a status of four digits", "RFC 9112 4", BYTES("HTTP/1.1 2000 OK\r\n\r\n"), BAD_STATUS_LINE},
    {"a status below 100", "RFC 9110 15", BYTES("HTTP/1.1 099 OK\r\n\r\n"), "400 The status is below 100."},
    {"a status in letters", "RFC 9112 4", BYTES("HTTP/1.1 OK\r\n\r\n"), "400 The status is not a number."},
    {"two spaces before the status", "RFC 9112 4", BYTES("HTTP/1.1  200 OK\r\n\r\n"), "400 The status is not a number."},
    {"no space after the status", "RFC 9112 4", BYTES("HTTP/1.1 200\r\n\r\n"), BAD_STATUS_LINE},
    {"no space after the version", "RFC 9112 4", BYTES("HTTP/1.1\t200 OK\r\n\r\n"), BAD_STATUS_LINE},
    {"a reason that ends in LF", "RFC 9112 2.2", BYTES("HTTP/1.1 200 OK\n\r\n"), "400 The reason phrase holds a control byte."},
    {"a reason with a control byte", "RFC 9112 4", BYTES("HTTP/1.1 200 O\0K\r\n\r\n"),
     "400 The reason phrase holds a control byte."},
};

static void test_responses_are_read_as_strictly(void **state)
{
    (void)state;
    CHECK_RESPONSES(responses);
}

static void test_a_body_without_a_length_is_bounded_however_long_it_goes_on(void **state)
{
    (void)state;
    start("HTTP/1.1 200 OK\r\n\r\n");
    add_many("x", HTTP_BODY_MAX);
    check(&(struct input){"65536 bytes are read", "RFC 9112 6.3", big, big_len, "200 HTTP/1.1 close {} \"65536*x\"",
                          .role = HTTP_RESPONSE});
    add("x");
    check(&(struct input){"65537 are not", "RFC 9112 6.3", big, big_len, "413 The body is too large.", .role = HTTP_RESPONSE});
}

/* ---- at random ------------------------------------------------------------------------------------------------------------ */

struct table {
    const struct input *cases;
    size_t n;
};

#define TABLE(t)                     \
    {                                \
        (t), sizeof(t) / sizeof *(t) \
    }

static struct input random_seed(enum http_role *role)
{
    static const struct table tables[] = {TABLE(request_lines), TABLE(targets), TABLE(fields),      TABLE(hosts),    TABLE(framing),
                                          TABLE(chunks),        TABLE(chunks),  TABLE(connections), TABLE(responses)};
    size_t t = random_below(sizeof tables / sizeof *tables);

    *role = tables[t].cases == responses ? HTTP_RESPONSE : HTTP_REQUEST;
    return tables[t].cases[random_below(tables[t].n)];
}

/* Put, take, double or replace a few bytes, with a liking for those that mean something. */
static size_t mutate(char *bytes, size_t n)
{
    static const char telling[] = "\r\n\r\n :;,\t%?/[]\"\\0123456789abcdefAF\0\x7f\x80\xff";
    size_t at = random_below(n), span = random_below(n - at < 8 ? n - at : 8) + 1;
    char c = random_below(8) ? telling[random_below(sizeof telling)] : (char)random_below(256);

    switch (random_below(4)) {
    case 0: bytes[at] = c; return n;
    case 1:
        memmove(bytes + at + 1, bytes + at, n - at);
        bytes[at] = c;
        return n + 1;
    case 2: memmove(bytes + at + span, bytes + at, n - at); return n + span;
    default:
        if (span == n) return n;
        memmove(bytes + at, bytes + at + span, n - at - span);
        return n - span;
    }
}

static void test_no_mutation_is_read_differently_in_pieces(void **state)
{
    static struct outcome whole, cut;
    static char bytes[4096];

    (void)state;
    random_state = 20191025;
    for (int turn = 0; turn < 20000; turn++) {
        enum http_role role;
        struct input in = random_seed(&role), other = random_seed(&role);

        if (in.bytes == other.bytes || in.len == 0) continue;
        in.role = random_below(20) ? role : HTTP_REQUEST;
        memcpy(bytes, other.bytes, other.len);
        memcpy(bytes + other.len, in.bytes, in.len);
        in.len += other.len;
        for (size_t i = random_below(5); i > 0; i--) in.len = mutate(bytes, in.len);
        in.bytes = bytes;
        in.claim = "whole or in pieces";
        in.body_limit = random_below(4) ? 0 : 6;

        read_cut(&in, in.len, in.len, &whole);
        read_cut(&in, 1, 1, &cut);
        expect_same(&in, &whole, &cut, "byte by byte, turn", (size_t)turn);
        read_cut(&in, RANDOM_CUTS, RANDOM_CUTS, &cut);
        expect_same(&in, &whole, &cut, "cut at random, turn", (size_t)turn);
    }
}

/* ---- when memory is out --------------------------------------------------------------------------------------------------- */

static void test_without_memory_a_message_fails_with_503_and_leaks_nothing(void **state)
{
    size_t failures = 0;

    (void)state;
    start(POST "Content-Length: 3000\r\n");
    add_many("X: 0123456789012345678901234567890123456789\r\n", 50);
    add("\r\n");
    add_many("x", 3000);
    for (int n = 0;; n++) { /* the n-th allocation fails; the leak checker counts the rest */
        struct http_message m = {0};
        size_t at = 0;

        http_begin(&m, HTTP_REQUEST);
        reallocs_left = n;
        while (at < big_len && m.phase < HTTP_DONE) at += http_feed(&m, big + at, big_len - at);
        reallocs_left = -1;
        if (m.phase == HTTP_FAILED) {
            failures++;
            assert_int_equal(m.status, 503);
            assert_string_equal(m.error, "There is no memory for this message right now.");
        } else {
            assert_int_equal(m.phase, HTTP_DONE);
            assert_int_equal(http_body(&m).len, 3000);
        }
        bool done = m.phase == HTTP_DONE;
        http_begin(&m, HTTP_REQUEST); /* what failed once may be used again */
        assert_int_equal(http_feed(&m, GET "\r\n", sizeof GET "\r\n" - 1), sizeof GET "\r\n" - 1);
        assert_int_equal(m.phase, HTTP_DONE);
        http_free(&m);
        if (done) break;
    }
    assert_true(failures >= 5);
}

/* ---- the writer ------------------------------------------------------------------------------------------------------------ */

/* Seconds since the epoch that a Date line speaks of, or -1. */
static time_t date_read(struct slice date)
{
    char text[64] = "";
    struct tm utc = {0};
    const char *rest;

    if (date.len >= sizeof text) return -1;
    memcpy(text, date.at, date.len);
    rest = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &utc);
    return rest && !*rest && date.len == 29 ? timegm(&utc) : -1;
}

static void test_what_the_writer_writes_the_reader_reads(void **state)
{
    struct buf b = {0};
    struct http_message m = {0};
    time_t before = time(NULL);

    (void)state;
    http_write_status(&b, 202);
    http_write_field(&b, "Content-Type", SLICE("application/json"));
    http_write_field(&b, "X-Empty", (struct slice){0});
    http_write_length(&b, 2);
    http_write_end(&b);
    buf_puts(&b, "{}");
    assert_memory_equal(b.mem, "HTTP/1.1 202 Accepted\r\nDate: ", 29);

    http_begin(&m, HTTP_RESPONSE);
    for (size_t at = 0; at < buf_len(&b);) at += http_feed(&m, b.mem + at, buf_len(&b) - at);
    assert_int_equal(m.phase, HTTP_DONE);
    assert_int_equal(m.status, 202);
    assert_true(slice_is(http_field(&m, "content-type"), "application/json"));
    assert_true(slice_is(http_field(&m, "x-empty"), ""));
    assert_true(slice_is(http_field(&m, "content-length"), "2"));
    assert_true(slice_is(http_body(&m), "{}"));
    assert_in_range(date_read(http_field(&m, "date")), before, time(NULL));
    http_free(&m);
    buf_free(&b);
}

static void test_lengths_are_written_in_full(void **state)
{
    struct buf b = {0};

    (void)state;
    http_write_length(&b, 0);
    http_write_length(&b, 10);
    http_write_length(&b, SIZE_MAX);
    buf_put(&b, "", 1);
    assert_string_equal(b.mem, "Content-Length: 0\r\nContent-Length: 10\r\nContent-Length: 18446744073709551615\r\n");
    buf_free(&b);
}

static void test_every_status_we_answer_has_a_reason(void **state)
{
    static const int ours[] = {100, 200, 201, 202, 204, 304, 400, 401, 403, 404, 405, 406, 408, 409,
                               413, 414, 415, 417, 422, 431, 500, 501, 502, 503, 504, 505, 507};

    (void)state;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) assert_string_not_equal(http_reason(ours[i]), "Unknown");
    assert_string_equal(http_reason(404), "Not Found");
    assert_string_equal(http_reason(299), "Unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_request_line_is_read_to_the_letter),
        cmocka_unit_test(test_a_target_has_the_form_its_method_wants_and_no_stray_byte),
        cmocka_unit_test(test_each_byte_stands_in_a_target_only_if_the_grammar_has_it),
        cmocka_unit_test(test_fields_are_tokens_a_colon_and_no_control_bytes),
        cmocka_unit_test(test_each_byte_at_each_place_of_a_value_is_judged_alike),
        cmocka_unit_test(test_host_is_one_host_with_an_optional_port),
        cmocka_unit_test(test_framing_has_one_reading_or_none),
        cmocka_unit_test(test_chunked_has_no_second_reading),
        cmocka_unit_test(test_connection_and_expect_are_understood),
        cmocka_unit_test(test_a_request_line_may_have_8192_bytes),
        cmocka_unit_test(test_fields_may_have_16384_bytes),
        cmocka_unit_test(test_a_message_may_have_100_fields),
        cmocka_unit_test(test_a_body_may_have_65536_bytes),
        cmocka_unit_test(test_chunk_extensions_may_have_4096_bytes),
        cmocka_unit_test(test_a_thousand_pipelined_requests_come_out_in_order),
        cmocka_unit_test(test_the_head_can_be_looked_at_before_the_body_is_fed),
        cmocka_unit_test(test_the_fields_of_one_name_come_in_order),
        cmocka_unit_test(test_trailers_do_not_become_fields),
        cmocka_unit_test(test_a_method_is_known_by_its_name),
        cmocka_unit_test(test_responses_are_read_as_strictly),
        cmocka_unit_test(test_a_body_without_a_length_is_bounded_however_long_it_goes_on),
        cmocka_unit_test(test_no_mutation_is_read_differently_in_pieces),
        cmocka_unit_test(test_without_memory_a_message_fails_with_503_and_leaks_nothing),
        cmocka_unit_test(test_what_the_writer_writes_the_reader_reads),
        cmocka_unit_test(test_lengths_are_written_in_full),
        cmocka_unit_test(test_every_status_we_answer_has_a_reason),
    };

    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
