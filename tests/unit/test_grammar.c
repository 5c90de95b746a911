/* test_grammar.c: what text/grammar.c says of slices: the predicates as tables of what is valid and what is not, each with its RFC. A slice
 * stands in memory of exactly its size, so that the address sanitizer sees a reader that looks one byte too far. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* after the headers that it needs */

#include "text/grammar.h"

static struct slice of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

/* What is valid, what is not, and the paragraph that rules it. The texts end with their NUL, so they hold none. */
struct claims {
    const char *rfc;
    bool (*holds)(struct slice s);
    const char *const *valid, *const *invalid;
};

static void check_all(const struct claims *c, const char *const *texts, bool expected)
{
    for (; *texts; texts++) {
        size_t n = strlen(*texts);
        char *exact = malloc(n ? n : 1);

        assert_non_null(exact);
        memcpy(exact, *texts, n);
        if (c->holds((struct slice){exact, n}) != expected)
            fail_msg("%s: \"%s\" ought to be %s", c->rfc, *texts, expected ? "valid" : "invalid");
        free(exact);
    }
}

static void check(const struct claims *c)
{
    check_all(c, c->valid, true);
    check_all(c, c->invalid, false);
}

#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Every sequence of bytes that goes on from here and ends one character, counted by how many bytes more it has. */
static void count_characters(struct utf8 u, int len, unsigned long count[5])
{
    for (int c = 0; c < 256; c++) {
        struct utf8 next = u;

        if (!utf8_push(&next, (char)c)) continue;
        if (next.left) count_characters(next, len + 1, count);
        else count[len + 1]++;
    }
}

static void test_utf8_has_exactly_the_characters_of_unicode(void **state)
{
    unsigned long count[5] = {0};

    (void)state;
    count_characters((struct utf8){0}, 0, count);
    assert_int_equal(count[1], 0x80);
    assert_int_equal(count[2], 0x800 - 0x80);
    assert_int_equal(count[3], 0x10000 - 0x800 - 0x800); /* without the surrogates */
    assert_int_equal(count[4], 0x110000 - 0x10000);
}

static bool spells_utf8(struct slice s)
{
    struct utf8 utf8 = {0};

    for (size_t i = 0; i < s.len; i++) {
        if (!utf8_push(&utf8, s.at[i])) return false;
    }
    return utf8.left == 0;
}

static void test_utf8_is_in_its_shortest_form_and_has_no_surrogates(void **state)
{
    (void)state;
    check(&(struct claims){"RFC 3629 4", spells_utf8,
                           TEXTS("", "a", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf",
                                 "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "p\xc3\xa3o \xf0\x9f\x8d\x95"),
                           TEXTS("\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2z", "\xe0\x9f\xbf", "\xe0\xa0",
                                 "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf0\x90\x80", "\xf4\x90\x80\x80",
                                 "\xf5\x80\x80\x80", "\xfe", "\xff", "\xc3\xa3\xa3")});
}

static void test_a_number_is_digits_and_nothing_else(void **state)
{
    static const char *const wrong[] = {"", "-1", "+1", " 1", "1 ", "1.0", "0x1", "1e3", "18446744073709551616x"};
    uint64_t n;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) assert_false(whole_number(of(wrong[i]), &n));
    assert_false(whole_number((struct slice){0}, &n));
    assert_true(whole_number(of("007"), &n) && n == 7);
    assert_true(whole_number(of("18446744073709551614"), &n) && n == UINT64_MAX - 1);
    assert_true(whole_number(of("18446744073709551616"), &n) && n == UINT64_MAX);
    assert_true(whole_number(of("184467440737095516160"), &n) && n == UINT64_MAX); /* and it stays there */
    for (int c = 0; c < 256; c++) {
        char text[] = {(char)c, '\0'};
        assert_int_equal(hex_value((char)c), c && strchr("0123456789abcdefABCDEF", c) ? (int)strtol(text, NULL, 16) : -1);
    }
}

/* RFC 9110 5.5: every byte, at every place of a line that is gathered eight bytes at a time. */
static void test_text_ends_before_the_first_control_byte(void **state)
{
    char from[40], to[40];

    (void)state;
    for (size_t n = 0; n <= sizeof from; n++) {
        for (size_t at = 0; at < n; at++) {
            for (int c = 0; c < 256; c++) {
                bool is_text = (c >= 0x20 && c != 0x7f) || c == '\t';

                memset(from, '~', n);
                memset(to, 0, sizeof to);
                from[at] = (char)c;
                if (at + 1 < n) from[at + 1] = '\x80'; /* whose neighbour must not be taken for another */
                assert_int_equal(copy_text(to, from, n), is_text ? n : at);
                assert_memory_equal(to, from, is_text ? n : at);
            }
        }
    }
}

static void test_an_escape_is_a_percent_sign_and_two_digits(void **state)
{
    (void)state;
    assert_int_equal(percent_value(of("%fFx")), 0xff);
    assert_int_equal(percent_value(of("%00")), 0);
    assert_int_equal(percent_value(of("%0")), -1);
    assert_int_equal(percent_value(of("%0g")), -1);
    assert_int_equal(percent_value(of("a%00")), -1);
    assert_int_equal(percent_value((struct slice){0}), -1);
}

static void test_white_space_around_is_no_part(void **state)
{
    (void)state;
    assert_true(slice_is(slice_trim(SLICE(" \t a b\t ")), "a b"));
    assert_true(slice_is(slice_trim(SLICE(" \t ")), ""));
    assert_true(slice_is(slice_trim(SLICE("\n")), "\n"));
    assert_int_equal(slice_trim((struct slice){0}).len, 0);
}

static void test_a_list_gives_its_elements(void **state)
{
    struct slice list = SLICE(", a,b ,,\tc d , "), element;

    (void)state;
    assert_true(slice_next_element(&list, &element) && slice_is(element, "a"));
    assert_true(slice_next_element(&list, &element) && slice_is(element, "b"));
    assert_true(slice_next_element(&list, &element) && slice_is(element, "c d"));
    assert_false(slice_next_element(&list, &element));
    assert_false(slice_next_element(&list, &element));
    list = (struct slice){0};
    assert_false(slice_next_element(&list, &element));
}

static bool is_token(struct slice s)
{
    return take_token(&s).len > 0 && s.len == 0;
}

static void test_a_token_is_letters_digits_and_some_marks(void **state)
{
    char one = 0;

    (void)state;
    check(&(struct claims){
        "RFC 9110 5.6.2", is_token, TEXTS("a", "Content-Type", "!#$%&'*+-.^_`|~09azAZ"),
        TEXTS("", "a b", "a\t", "a:", "a/b", "(a", "\"a\"", "a,b", "{a}", "a@b", "a;b", "a=b", "\x7f", "\xc3\xa3")});
    for (int c = 0; c < 256; c++) {
        one = (char)c;
        bool holds = c > 0x20 && c < 0x7f && !strchr("\"(),/:;<=>?@[\\]{}", c);
        assert_int_equal(is_token((struct slice){&one, 1}), holds);
        assert_int_equal(lower_token(&one, 1), holds);
        assert_int_equal((unsigned char)one, c >= 'A' && c <= 'Z' ? c + 32 : c);
    }
}

static void test_what_is_taken_is_gone(void **state)
{
    struct slice s = SLICE("a=b&&c"), absent = {0};
    char mixed[] = "X-Oven:HOT";

    (void)state;
    assert_true(slice_is(take_until(&s, '='), "a"));
    assert_true(slice_is(take_until(&s, '&'), "b"));
    assert_true(slice_is(take_until(&s, '&'), "") && slice_is(s, "c"));
    assert_false(take_byte(&s, 'd'));
    assert_true(slice_is(take_until(&s, '&'), "c") && s.len == 0 && s.at);
    assert_false(take_byte(&s, 'c'));
    assert_int_equal(take_until(&absent, '&').len, 0);
    s = SLICE("to-ken token");
    assert_true(slice_is(take_token(&s), "to-ken") && slice_is(take_token(&s), "") && take_byte(&s, ' '));
    assert_int_equal(lower_token(mixed, sizeof mixed - 1), 6);
    assert_string_equal(mixed, "x-oven:HOT");
}

static void test_an_authority_is_a_host_and_perhaps_a_port(void **state)
{
    struct authority a;

    (void)state;
    assert_true(authority_read(of("Pizza.example:80"), &a) && slice_is(a.host, "Pizza.example") && slice_is(a.port, "80"));
    assert_true(authority_read(of("[::1]:443"), &a) && slice_is(a.host, "[::1]") && slice_is(a.port, "443"));
    assert_true(authority_read(of("a:"), &a) && slice_is(a.host, "a") && slice_is(a.port, ""));
    assert_true(authority_read(of("[v1.a:b]"), &a) && slice_is(a.host, "[v1.a:b]") && slice_is(a.port, ""));
    assert_false(authority_read(of(":80"), &a));
    assert_false(authority_read(of("u@a"), &a));
    assert_false(authority_read((struct slice){"[::1\0]", 6}, &a));
}

static bool is_authority(struct slice s)
{
    struct authority a;

    return authority_read(s, &a);
}

static void test_a_host_is_a_name_or_an_address(void **state)
{
    (void)state;
    check(&(struct claims){"RFC 9110 7.2, RFC 3986 3.2.2", is_authority,
                           TEXTS("a", "a.b.", "a-b_c~d!$&'()*+,;=", "127.0.0.1", "%41%ff", "a:0", "a:65535", "a:0000080", "[::]",
                                 "[::1]:", "[2001:db8::ffff:1.2.3.4]:80", "[v1.a]", "[V1F.a:b]:1"),
                           TEXTS("", ":", ":80", "a:x", "a:-1", "a:65536", "a:18446744073709551617", "a:1:2", "a b", "a/b", "a?b",
                                 "a#b", "a@b", "%4", "%4g", "%", "\xc3\xa3", "[", "[]", "[::1", "::1", "[::1]x", "[::1]]",
                                 "[1.2.3.4]", "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]", "[::1%25lo]", "[v.a]", "[v1.]",
                                 "[v1]", "[vg.a]", "[v1.a/]")});
}

static bool is_target(struct slice s)
{
    struct target t;

    return !take_target(&s, &t) && s.len == 0 && t.whole.len > 0;
}

static bool is_absolute(struct slice s)
{
    struct target t;

    return !take_target(&s, &t) && s.len == 0 && target_is_absolute(&t);
}

static void test_a_target_holds_what_may_stand_in_one(void **state)
{
    struct target t;
    struct slice s = of("HTTP://a:1/b?c?d e");

    (void)state;
    check(&(struct claims){
        "RFC 9112 3.2, RFC 3986 3.3", is_target,
        TEXTS("/", "*", "a:80", "/a//b/../c", "/?", "/?a?b/c", "/%20", "/%C3%A3", "/[", "http://[::1]/", "/~!$&'()*+,;=:@-._"),
        TEXTS("", " ", "/ ", "/a b", "/#a", "/\"", "/<", "/>", "/\\", "/^", "/`", "/{", "/|", "/}", "/\x7f", "/\xc3\xa3", "/?[",
              "/?#", "/%", "/%4", "/%4g", "/%00", "/%C3", "/%C3a", "/%C3%28", "/%ED%A0%80", "/?%FF")});
    check(&(struct claims){
        "RFC 9112 3.2.2", is_absolute, TEXTS("http://a", "HTTP://a:1/b?c", "http://a?b", "http://[::1]:80/"),
        TEXTS("/", "*", "a:80", "http:/a", "http://", "http:///b", "https://a", "http://a/[", "http://a]/", "http://u@a")});
    assert_null(take_target(&s, &t));
    assert_true(slice_is(s, " e") && slice_is(t.whole, "HTTP://a:1/b?c?d") && slice_is(t.query, "c?d") && !t.host.at);
    assert_true(target_is_absolute(&t) && slice_is(t.host, "a:1") && slice_is(t.path, "/b"));
    s = of("/a");
    assert_null(take_target(&s, &t));
    assert_true(slice_is(t.path, "/a") && !t.query.at && !t.bracket);
}

static bool is_version(struct slice s)
{
    int major, minor;

    return take_version(&s, &major, &minor) && s.len == 0;
}

static bool may_be_trailer(struct slice name)
{
    return !trailer_forbidden(name);
}

static void test_what_only_http_has(void **state)
{
    struct slice s = of("HTTP/2.7 x");
    int major, minor;

    (void)state;
    check(&(struct claims){
        "RFC 9112 2.3", is_version, TEXTS("HTTP/1.1", "HTTP/0.9", "HTTP/9.0"),
        TEXTS("", "HTTP/1.", "HTTP/1", "HTTP/.1", "http/1.1", "HTTP/1.10", "HTTP/11.1", "HTTP 1.1", "HTTP/a.1", "HTTP/1-1")});
    assert_true(take_version(&s, &major, &minor) && major == 2 && minor == 7 && slice_is(s, " x"));
    check(&(struct claims){
        "RFC 9112 7.1.1", chunk_extensions_valid, TEXTS("a", "a=b", "a;b", "a=\"\"", "a=\"b c\\\"\t;=\xc3\xa3\";d=e"),
        TEXTS("", ";", "a;", "a=", "=b", "a =b", "a= b", " a", "a ", "a=\"", "a=\"b", "a=\"\\\"", "a=\"b\"c", "a=b\"c\"", "a==b")});
    check(&(struct claims){"RFC 9110 6.5.1", may_be_trailer, TEXTS("x", "etag", "server-timing", "hos", "hosts", "t"),
                           TEXTS("authorization", "cache-control", "connection", "content-encoding", "content-length",
                                 "content-range", "content-type", "cookie", "expect", "host", "idempotency-key", "keep-alive",
                                 "max-forwards", "pragma", "prefer", "proxy-authenticate", "proxy-authorization", "range",
                                 "set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "www-authenticate")});
}

/* What an Accept of one or two lines makes of text/plain. */
static int quality(const char *first, const char *second)
{
    struct wish wish = {0};

    accept_read(of(first), "text/plain", &wish);
    accept_read(of(second), "text/plain", &wish);
    return wish.quality;
}

static bool has_a_weight(struct slice s)
{
    struct wish wish = {0};
    char line[64] = "text/plain;q=";

    memcpy(line + strlen(line), s.at, s.len);
    accept_read(of(line), "text/plain", &wish);
    return wish.exactness == 3;
}

static void test_what_speaks_of_a_type_most_exactly_counts(void **state)
{
    (void)state;
    check(&(struct claims){"RFC 9110 12.4.2", has_a_weight, TEXTS("0", "1", "0.", "1.", "0.5", "0.123", "1.000"),
                           TEXTS("2", "-1", "1.001", "0.1234", ".5", "00", "x", "0.x", "1.0 0")});
    assert_int_equal(quality("", ""), 0);
    assert_int_equal(quality("text/html, application/json", ""), 0);
    assert_int_equal(quality("*/*", ""), 1000);
    assert_int_equal(quality("*/*;q=0.5, text/*;q=0.3, TEXT/PLAIN ; q=0.1", ""), 100);
    assert_int_equal(quality("text/plain;q=0", "*/*"), 0);
    assert_int_equal(quality("*/*;q=0.7", "text/plain;q=0.25"), 250);
    assert_int_equal(quality("text/plain;q=0.2, text/plain;q=0.3", ""), 300);
    assert_int_equal(quality("text/plain;charset=utf-8;Q=0.125", ""), 125);
    assert_int_equal(quality("text/plain;q", ""), 1000); /* a parameter like others: it has no value */
    assert_int_equal(quality("text/plain;q=2, */*;q=0.4", ""), 400);
    assert_int_equal(quality("text/plain;q=0.1234", "*/*;q=0.4"), 400);
    assert_int_equal(quality("text/plain;q=.5", ""), 0);
    assert_int_equal(quality("textile/plain, text/plainer, */plain", ""), 0);
}

static void test_the_first_word_about_a_preference_counts(void **state)
{
    (void)state;
    assert_true(slice_is(preference(of("respond-async, WAIT = \"5\"; x=\"y\", wait=9"), "wait"), "5"));
    assert_null(preference(of("waits=5, handling=lenient"), "wait").at);
    assert_null(preference(of(""), "wait").at);
    assert_true(preference(of("wait"), "wait").at && preference(of("wait"), "wait").len == 0); /* as wait= would be */
    assert_true(slice_is(preference(of("wait=\""), "wait"), "\"") && slice_is(preference(of("wait=\"\""), "wait"), ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_has_exactly_the_characters_of_unicode),
        cmocka_unit_test(test_utf8_is_in_its_shortest_form_and_has_no_surrogates),
        cmocka_unit_test(test_a_number_is_digits_and_nothing_else),
        cmocka_unit_test(test_text_ends_before_the_first_control_byte),
        cmocka_unit_test(test_an_escape_is_a_percent_sign_and_two_digits),
        cmocka_unit_test(test_white_space_around_is_no_part),
        cmocka_unit_test(test_a_list_gives_its_elements),
        cmocka_unit_test(test_a_token_is_letters_digits_and_some_marks),
        cmocka_unit_test(test_what_is_taken_is_gone),
        cmocka_unit_test(test_an_authority_is_a_host_and_perhaps_a_port),
        cmocka_unit_test(test_a_host_is_a_name_or_an_address),
        cmocka_unit_test(test_a_target_holds_what_may_stand_in_one),
        cmocka_unit_test(test_what_only_http_has),
        cmocka_unit_test(test_what_speaks_of_a_type_most_exactly_counts),
        cmocka_unit_test(test_the_first_word_about_a_preference_counts),
    };

    return cmocka_run_group_tests_name("grammar", tests, NULL, NULL);
}
