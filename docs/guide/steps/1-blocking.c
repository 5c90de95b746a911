/* 1-blocking.c: one waiter, who stays with a client until that client leaves.
 *
 * It reads as it happens, top to bottom, and waits in four places; while it waits in any of them, nobody else is served. */
#include "step.h"

static bool read_request(int fd, struct request *q)
{
    while (!request_whole(q)) {
        ssize_t n = recv(fd, q->bytes + q->len, REQUEST_MAX - q->len, 0); /* waits: for the client to say something */

        if (n <= 0) return false; /* he has left */
        q->len += (size_t)n;
    }
    return true;
}

static void bake(int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * NS_PER_MS};

    if (ms > 0) clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL); /* waits: for the oven */
}

static void serve(int fd)
{
    struct request q = {0};

    while (read_request(fd, &q)) {
        bake(q.ms);
        if (!answer(fd, &q)) break; /* waits, if the client does not read */
    }
    close(fd);
}

int main(int argc, char **argv)
{
    int listener = listen_on(argc, argv, 0);

    for (;;) {
        int fd = accept_client(listener, 0); /* waits: for somebody to come */

        if (fd >= 0) serve(fd);
    }
}
