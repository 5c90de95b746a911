/* verdicts.c: what our parser makes of the first request in each of the files named. For llhttp.js, which asks another parser.
 *
 * A file is an input of fuzz_http or fuzz_server: a line of controls, then the bytes. A line for each: the file, "done", "failed" or
 * "more" (it is not all there), how many bytes were consumed, and the body in hexadecimal or what is wrong. */
#include "http.h"

#include <stdio.h>
#include <string.h>

static char bytes[1 << 20];

static void judge(const char *path, const char *at, size_t n)
{
    struct http_message m = {0};
    size_t used = 0;

    http_begin(&m, HTTP_REQUEST);
    while (used < n && m.phase < HTTP_DONE) used += http_feed(&m, at + used, n - used);
    printf("%s\t%s\t%zu\t", path, m.phase == HTTP_DONE ? "done" : m.phase == HTTP_FAILED ? "failed" : "more", used);
    if (m.phase == HTTP_DONE) {
        for (size_t i = 0; i < http_body(&m).len; i++) printf("%02x", (unsigned char)http_body(&m).at[i]);
    } else if (m.phase == HTTP_FAILED) {
        printf("%s", m.error);
    }
    putchar('\n');
    http_free(&m);
}

int main(void)
{
    char path[4096];

    while (fgets(path, sizeof path, stdin)) {
        path[strcspn(path, "\n")] = '\0';
        FILE *file = fopen(path, "rb");
        size_t n = file ? fread(bytes, 1, sizeof bytes, file) : 0;
        const char *newline = n ? memchr(bytes, '\n', n) : NULL;

        if (file) fclose(file);
        if (newline) judge(path, newline + 1, n - (size_t)(newline + 1 - bytes));
    }
    return 0;
}
