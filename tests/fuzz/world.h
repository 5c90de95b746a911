/* world.h: what lies around a server that is being fuzzed in this very process: a time that is not real, and peers at the other end
 * of its sockets, who do something whenever the server has nothing to do.
 *
 * The server is linked with --wrap for the few calls that tell it the time, wait, or reach out (WORLD in the Makefile). All else is
 * as it is: real descriptors, a real epoll, all of loop.c. So whatever is added to the server needs nothing to be added here. */
#ifndef WORLD_H
#define WORLD_H

#include "http.h"

#include <stdbool.h>
#include <stdint.h>

/* It must stand whatever NDEBUG says, and libFuzzer wants a crash. */
#define must(condition) ((condition) ? (void)0 : __builtin_trap())

/* Let the loop turn until nothing is to be waited for: no descriptor is ready, no peer has anything to do, no timer is pending. */
void world_run(void);

/* The fuzzer's: may do one thing at a peer's end of a socket. Called when the loop is about to sleep. False: time may pass. */
bool world_acts(void);

/* The fuzzer's: the server has connected somewhere, this is the other end; or is told that there is nobody: false. */
bool world_connected(int fd);

/* A pair of connected sockets, both nonblocking, the first with little room for what it sends. */
void world_pair(int ends[2]);

/* The next of the input's choices, 0 to n - 1; 0 when they are all made. */
unsigned choose(unsigned n);
void choices_are(const uint8_t *first, const uint8_t *end);

/* The server's allocations may fail from here on: the nth (0: none). True when one has. */
void memory_fails_at(unsigned n);
bool memory_has_failed(void);

#endif
