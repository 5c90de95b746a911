/* bytes.h: borrowed bytes (slice) and growing ones (buf). */
#ifndef FORNO_BYTES_H
#define FORNO_BYTES_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Somebody else's bytes, for as long as they live. Not NUL-terminated. */
struct slice {
    const char *at; /* NULL: absent */
    size_t len;
};

#define SLICE(literal) ((struct slice){literal, sizeof(literal) - 1})

/* The same bytes? Inline, for the length of a literal is known then: the parser asks at every field. */
static inline bool slice_same(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline bool slice_is(struct slice s, const char *text)
{
    return slice_same(s, (struct slice){text, strlen(text)});
}

bool slice_is_nocase(struct slice s, const char *text); /* the same but for ASCII case */

/* Bytes that grow at the end and are consumed from the front. When memory is out, `failed` is set, what did not fit is
 * gone, and it stays set: check once, at the end. */
struct buf {
    char *mem;
    uint32_t start, end, cap; /* mem[start..end) is the content */
    bool failed;
};

char *buf_reserve(struct buf *b, size_t n); /* room for n bytes after the content; NULL: failed */
void buf_put(struct buf *b, const void *bytes, size_t n);
void buf_puts(struct buf *b, const char *text);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
void buf_put_ms(struct buf *b, int64_t ns); /* as milliseconds: "12.345", without floating point */
void buf_consume(struct buf *b, size_t n);  /* gives the memory back when the last byte goes */
void buf_free(struct buf *b);

/* An instant, in milliseconds since 1970, as RFC 3339: UTC, with milliseconds. */
#define INSTANT_SIZE 32
const char *instant(char text[INSTANT_SIZE], int64_t ms);

static inline size_t buf_len(const struct buf *b)
{
    return b->end - b->start;
}

#endif
