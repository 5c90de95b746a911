/* LDFLAGS: -Wl,--wrap=realloc */
/* test_bytes.c: borrowed bytes and growing ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* after the headers that it needs */

#include "text/bytes.h"

static bool memory_is_out;

void *__real_realloc(void *mem, size_t n);
void *__wrap_realloc(void *mem, size_t n);

void *__wrap_realloc(void *mem, size_t n)
{
    return memory_is_out ? NULL : __real_realloc(mem, n);
}

static uint64_t random_state = 1;

static size_t random_below(size_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (size_t)((random_state >> 11) % n);
}

static void test_slices_compare_whole(void **state)
{
    (void)state;
    assert_true(slice_is(SLICE("abc"), "abc"));
    assert_false(slice_is(SLICE("abc"), "ab"));
    assert_false(slice_is(SLICE("abc"), "abcd"));
    assert_false(slice_is(SLICE("a\0c"), "a"));
    assert_false(slice_is(SLICE("abc"), "ABC"));
    assert_true(slice_is_nocase(SLICE("aBc"), "AbC"));
    assert_false(slice_is_nocase(SLICE("abc"), "abd"));
    assert_false(slice_is((struct slice){0}, "x"));
    assert_true(slice_is((struct slice){0}, "")); /* absent is empty, too: ask for .at to know */
    assert_true(slice_is_nocase((struct slice){0}, ""));
    assert_true(slice_same(SLICE("a\0c"), SLICE("a\0c")));
    assert_false(slice_same(SLICE("a\0c"), SLICE("a\0d")));
    assert_false(slice_same(SLICE("ab"), SLICE("abc")));
    assert_true(slice_same((struct slice){0}, SLICE("")));
}

static void test_a_buffer_is_a_queue_of_bytes(void **state)
{
    static char model[1 << 16];
    size_t first = 0, last = 0;
    struct buf b = {0};

    (void)state;
    random_state = 7;
    for (int turn = 0; turn < 20000; turn++) {
        size_t n = random_below(random_below(50) ? 30 : 3000);

        if (last + n < sizeof model && random_below(2)) {
            for (size_t i = 0; i < n; i++) model[last + i] = (char)random_below(256);
            buf_put(&b, model + last, n);
            last += n;
        } else {
            if (n > last - first) n = last - first;
            buf_consume(&b, n);
            first += n;
        }
        assert_int_equal(buf_len(&b), last - first);
        if (last > first) assert_memory_equal(b.mem + b.start, model + first, last - first);
        else if (last + 3000 > sizeof model) first = last = 0;
    }
    assert_false(b.failed);
    buf_free(&b);
}

static void test_an_empty_buffer_owns_nothing(void **state)
{
    struct buf b = {0};

    (void)state;
    buf_put(&b, NULL, 0);
    buf_consume(&b, 0);
    assert_null(b.mem);
    assert_non_null(buf_reserve(&b, 0)); /* NULL would mean: failed */
    buf_puts(&b, "pizza");
    buf_consume(&b, 2);
    assert_non_null(b.mem);
    buf_consume(&b, 3);
    assert_null(b.mem);
    assert_int_equal(b.cap, 0);
    buf_free(&b);
}

static void test_a_buffer_that_failed_stays_failed(void **state)
{
    static const char more[4096];
    struct buf b = {0};

    (void)state;
    buf_puts(&b, "kept");
    memory_is_out = true;
    buf_put(&b, more, sizeof more);
    memory_is_out = false;
    assert_true(b.failed);
    buf_puts(&b, "lost");
    buf_printf(&b, "%s", "lost");
    assert_null(buf_reserve(&b, 1));
    assert_int_equal(buf_len(&b), 4);
    buf_consume(&b, 4);
    assert_true(b.failed);
    buf_free(&b);
    assert_false(b.failed);
}

static void test_a_buffer_refuses_what_cannot_be(void **state)
{
    static const size_t absurd[] = {SIZE_MAX, SIZE_MAX / 2, (size_t)UINT32_MAX + 1, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof absurd / sizeof *absurd; i++) {
        struct buf b = {0};

        buf_puts(&b, "x");
        assert_null(buf_reserve(&b, absurd[i]));
        assert_true(b.failed);
        buf_free(&b);
    }
}

static void test_printing_takes_the_room_it_needs(void **state)
{
    struct buf b = {0};

    (void)state;
    for (int n = 0; n < 2000; n += 51) {
        buf_printf(&b, "%*d|", n, 7);
        assert_int_equal(buf_len(&b), (n ? n : 1) + 1);
        assert_int_equal(b.mem[b.start + buf_len(&b) - 1], '|');
        buf_consume(&b, buf_len(&b));
    }
    assert_false(b.failed);
    buf_free(&b);
}

static void test_milliseconds_have_three_places(void **state)
{
    static const struct {
        int64_t ns;
        const char *text;
    } cases[] = {
        {0, "0.000"},
        {999, "0.000"},
        {1000, "0.001"},
        {1999999, "1.999"},
        {12345678901, "12345.678"},
        {INT64_MAX, "9223372036854.775"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};

        buf_put_ms(&b, cases[i].ns);
        assert_int_equal(buf_len(&b), strlen(cases[i].text));
        assert_memory_equal(b.mem, cases[i].text, buf_len(&b));
        buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slices_compare_whole),
        cmocka_unit_test(test_a_buffer_is_a_queue_of_bytes),
        cmocka_unit_test(test_an_empty_buffer_owns_nothing),
        cmocka_unit_test(test_a_buffer_that_failed_stays_failed),
        cmocka_unit_test(test_a_buffer_refuses_what_cannot_be),
        cmocka_unit_test(test_printing_takes_the_room_it_needs),
        cmocka_unit_test(test_milliseconds_have_three_places),
    };

    return cmocka_run_group_tests_name("bytes", tests, NULL, NULL);
}
