/* parse.c: how long http.c takes over one request. Prints nanoseconds per request, for each request, the median of many runs.
 *
 * The request is fed as a server feeds it: whole, out of a buffer that is warm, into a message that has been used before.
 * Linked with the very http.o and those of text/ that are in the server. */
#include "http.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RUNS 101
#define REPEATS 20000 /* in each run, some milliseconds */

/* What curl sends: 86 bytes. */
static const char small[] = "GET /healthz HTTP/1.1\r\n"
                            "Host: localhost:18000\r\n"
                            "User-Agent: curl/8.14.1\r\n"
                            "Accept: */*\r\n"
                            "\r\n";

/* What a browser sends: 600 bytes. */
static const char large[] =
    "GET /orders/events?since=1574596800000 HTTP/1.1\r\n"
    "Host: localhost:18000\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Accept-Language: pt-BR,pt;q=0.9,en-US;q=0.8,en;q=0.7\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Authorization: Bearer aFZcfvFe2hf_Kod_22cAks8Zq5x_Kw2AYC02qAz7VvY\r\n"
    "Connection: keep-alive\r\n"
    "Cookie: theme=dark; lang=pt-BR; seen=1574596800000\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Cache-Control: no-cache\r\n"
    "\r\n";

_Static_assert(sizeof small - 1 == 86 && sizeof large - 1 == 600, "the results speak of 86 and 600 bytes");

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void measure(const char *request, size_t len)
{
    struct http_message m = {0};
    double took_ns[RUNS];

    for (int run = 0; run < RUNS; run++) {
        double from_ns = now_ns();

        for (int i = 0; i < REPEATS; i++) {
            http_begin(&m, HTTP_REQUEST);
            size_t used = http_feed(&m, request, len);
            if (used != len || m.phase != HTTP_DONE) abort();
        }
        took_ns[run] = (now_ns() - from_ns) / REPEATS;
    }
    http_free(&m);
    qsort(took_ns, RUNS, sizeof *took_ns, ascending);
    printf("%zu %.1f %.1f %.1f\n", len, took_ns[RUNS / 2], took_ns[0], took_ns[RUNS - 1]); /* median, min, max */
}

int main(void)
{
    measure(small, sizeof small - 1);
    measure(large, sizeof large - 1);
    return 0;
}
