/* bytes.c: borrowed bytes and growing ones, for whoever puts two of them together. Knows no meaning of any. */
#include "text/bytes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

bool slice_is_nocase(struct slice s, const char *text)
{
    size_t n = strlen(text);

    return s.len == n && (n == 0 || strncasecmp(s.at, text, n) == 0);
}

/* Small enough to come from malloc's fastest bins, large enough for most answers. */
#define BUF_FIRST 1024

char *buf_reserve(struct buf *b, size_t n)
{
    if (b->failed) return NULL;
    if (b->mem && b->cap - b->end >= n) return b->mem + b->end;
    if (b->start) { /* move the content to the front before asking for more */
        memmove(b->mem, b->mem + b->start, b->end - b->start);
        b->end -= b->start;
        b->start = 0;
        if (b->cap - b->end >= n) return b->mem + b->end;
    }
    size_t cap = b->cap ? b->cap : BUF_FIRST;
    while (cap <= UINT32_MAX && cap - b->end < n) cap *= 2;
    char *mem = cap <= UINT32_MAX ? realloc(b->mem, cap) : NULL;
    if (!mem) {
        b->failed = true;
        return NULL;
    }
    b->mem = mem;
    b->cap = (uint32_t)cap;
    return mem + b->end;
}

void buf_put(struct buf *b, const void *bytes, size_t n)
{
    char *at = n ? buf_reserve(b, n) : NULL;

    if (!at) return;
    memcpy(at, bytes, n);
    b->end += (uint32_t)n;
}

void buf_puts(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    buf_vprintf(b, format, args);
    va_end(args);
}

void buf_vprintf(struct buf *b, const char *format, va_list args)
{
    size_t room = 256;

    for (int attempt = 0; attempt < 2; attempt++) {
        char *at = buf_reserve(b, room);
        if (!at) return;
        va_list again;
        va_copy(again, args);
        int n = vsnprintf(at, room, format, again);
        va_end(again);
        if (n < 0) break;
        if ((size_t)n < room) {
            b->end += (uint32_t)n;
            return;
        }
        room = (size_t)n + 1;
    }
    b->failed = true;
}

void buf_put_ms(struct buf *b, int64_t ns)
{
    buf_printf(b, "%" PRId64 ".%03d", ns / 1000000, (int)(ns / 1000 % 1000));
}

const char *instant(char text[INSTANT_SIZE], int64_t ms)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm utc;
    size_t n = gmtime_r(&seconds, &utc) ? strftime(text, INSTANT_SIZE, "%Y-%m-%dT%H:%M:%S", &utc) : 0;

    snprintf(text + n, INSTANT_SIZE - n, ".%03dZ", (int)(ms % 1000));
    return text;
}

void buf_consume(struct buf *b, size_t n)
{
    b->start += (uint32_t)n;
    if (b->start < b->end) return;
    free(b->mem);
    *b = (struct buf){.failed = b->failed};
}

void buf_free(struct buf *b)
{
    free(b->mem);
    *b = (struct buf){0};
}
