/* 2-fork.c: one waiter for each client: a copy of the whole process.
 *
 * New since 1-blocking: fork(). read_request(), bake() and serve() are the same to the letter: each waits in place, but now
 * it keeps nobody else waiting. The price is a process for each client, even for one who says nothing. */
#include "step.h"

#include <signal.h>

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

    signal(SIGCHLD, SIG_IGN); /* Trap: zombies. Nobody asks how the children ended, so the kernel need not keep it */
    for (;;) {
        int fd = accept_client(listener, 0); /* waits: for somebody to come */
        pid_t child = fd < 0 ? -1 : fork();

        if (child == 0) {
            close(listener); /* or it would stay open, and its port taken, as long as any child lives */
            serve(fd);
            _exit(0);
        }
        if (child > 0) close(fd); /* the child has its own copy */
        else if (fd >= 0) {
            complain("fork", errno); /* EAGAIN: as many processes as we may have */
            turn_away(fd);
        }
    }
}
