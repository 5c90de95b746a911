/* kitchen.h: a loop of the smallest kind, which the programs beside it share: things take some time, and when they are
 * done, the loop calls back. Its time is a number: nobody really sleeps. */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PENDING_MAX 16

struct op {
    void (*done)(void *of);
    void *of;
    int due_ms;
};

static struct op pending[PENDING_MAX];
static size_t pending_len;
static int now_ms;

/* Takes so long; then done(of) is called. */
static inline void takes(int ms, void (*done)(void *of), void *of)
{
    pending[pending_len++] = (struct op){done, of, now_ms + ms};
}

static inline void run_loop(void)
{
    while (pending_len) {
        size_t next = 0;

        for (size_t i = 1; i < pending_len; i++)
            if (pending[i].due_ms < pending[next].due_ms) next = i;
        struct op op = pending[next];
        memmove(pending + next, pending + next + 1, (--pending_len - next) * sizeof op);
        now_ms = op.due_ms;
        op.done(op.of);
    }
}

static inline void tell(const char *who, const char *what)
{
    printf("%4d ms  %s %s\n", now_ms, who, what);
}

static inline void kept(size_t bytes)
{
    if (bytes < 1024) printf("kept for each who waits: %zu bytes\n", bytes);
    else printf("kept for each who waits: %zu KiB\n", (bytes + 512) / 1024);
}
