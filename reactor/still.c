/* still.c: waiting in place. The loop never does; --blocking and the lab do, to show what that costs. */
#include "reactor/still.h"

#include <poll.h>
#include <time.h>

static struct pollfd heeded = {.fd = -1, .events = POLLIN}; /* -1 is ignored by poll(2) */

void still_heed(int fd)
{
    heeded.fd = fd;
}

bool still_heeded(void)
{
    return poll(&heeded, 1, 0) == 1;
}

void stand_still(int64_t due_ns)
{
    for (int64_t left_ns; (left_ns = due_ns - clock_ns()) > 0;) {
        struct timespec left = {.tv_sec = left_ns / NS_PER_S, .tv_nsec = left_ns % NS_PER_S};

        if (ppoll(&heeded, 1, &left, NULL) == 1) return;
    }
}
