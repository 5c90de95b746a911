/* 3-threads.c: one waiter for each client, and all of them in one house.
 *
 * New since 2-fork: pthread_create(). read_request() and bake() are the same; serve() gets its client as a thread gets
 * anything, by a pointer. Memory is shared, so a client costs a stack and not a process; and from now on whatever two of them
 * write needs a lock. Here they share nothing. */
#include "step.h"

#include <pthread.h>

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

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    struct request q = {0};

    while (read_request(fd, &q)) {
        bake(q.ms);
        if (!answer(fd, &q)) break; /* waits, if the client does not read */
    }
    close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    int listener = listen_on(argc, argv, 0);
    pthread_attr_t detached; /* nobody waits for their end */
    pthread_t thread;

    if (pthread_attr_init(&detached) != 0 || pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED) != 0)
        die("pthread_attr_init");
    for (;;) {
        int fd = accept_client(listener, 0); /* waits: for somebody to come */
        int rc = fd < 0 ? 0 : pthread_create(&thread, &detached, serve, (void *)(intptr_t)fd);

        if (rc != 0) {
            complain("pthread_create", rc); /* EAGAIN: as many threads as we may have */
            turn_away(fd);
        }
    }
}
