/* names.h: where a name leads, looked up on a thread of its own, never on the loop (getaddrinfo(3) blocks). The courier's is known
 * and kept fresh; any other is looked up when it is wanted. */
#ifndef FORNO_NAMES_H
#define FORNO_NAMES_H

#include "reactor/loop.h"

#include <sys/socket.h>

#define ADDRESSES_MAX 8

struct address {
    struct sockaddr_storage bytes;
    socklen_t len;
    int family;
};

/* We listen here ourselves. Copies. Before names_open(). */
void names_home(const struct sockaddr_storage *address);

/* Look it up for the first time. Blocks: before the first client. A name that cannot be found at the moment is no error. Borrows, for
 * ever: a look-up may outlive the loop. */
void names_open(const char *host, const char *port);
void names_close(void);

/* What is known now: *n addresses. Names change hands: if this is old, it is looked up again meanwhile, for the next one who asks. */
const struct address *names_known(size_t *n);

/* Is one of these our own? */
bool names_lead_home(void);

/* Any other name, once. While a thread works on it nobody else does; then op.done is called on the loop thread. It cannot be called off, so it
 * must live for ever. */
struct look_up {
    struct op op;
    const char *host, *port;
    struct addrinfo *found; /* out; NULL: it leads nowhere at the moment. freeaddrinfo(3) */
};

/* False: no thread can be had, and it is still the caller's. */
bool names_look_up(struct look_up *l);

#endif
