/* test_grammar.c: what text/grammar.c says of slices, where test_http.c does not ask it by way of a message. */
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

/* What an Accept of one or two lines makes of text/plain. */
static int quality(const char *first, const char *second)
{
    struct wish wish = {0};

    accept_read(of(first), "text/plain", &wish);
    accept_read(of(second), "text/plain", &wish);
    return wish.quality;
}

static void test_what_speaks_of_a_type_most_exactly_counts(void **state)
{
    (void)state;
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
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_has_exactly_the_characters_of_unicode),
        cmocka_unit_test(test_a_number_is_digits_and_nothing_else),
        cmocka_unit_test(test_an_escape_is_a_percent_sign_and_two_digits),
        cmocka_unit_test(test_what_is_taken_is_gone),
        cmocka_unit_test(test_an_authority_is_a_host_and_perhaps_a_port),
        cmocka_unit_test(test_what_speaks_of_a_type_most_exactly_counts),
        cmocka_unit_test(test_the_first_word_about_a_preference_counts),
    };

    return cmocka_run_group_tests_name("grammar", tests, NULL, NULL);
}
