/* still.h: to wait in place, and everything that the loop serves with it: what a synchronous program does, for comparison. */
#ifndef FORNO_STILL_H
#define FORNO_STILL_H

#include "reactor/loop.h"

/* Until due_ns (on clock_ns()), or until the descriptor that is heeded becomes readable: even such a program must hear its signals. */
void stand_still(int64_t due_ns);
void still_heed(int fd); /* -1: none */
bool still_heeded(void); /* it is readable: whoever keeps the loop waiting should make an end */

#endif
