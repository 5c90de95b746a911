/* conn.h: the life of a connection, as server.c sees it. Belongs to the loop thread. */
#ifndef FORNO_CONN_H
#define FORNO_CONN_H

#include "reactor/audience.h"

#include <sys/socket.h>

/* Serve a freshly accepted nonblocking socket. Takes fd in any case. `address`: whose connection it is, for peers.h; NULL: our own. */
void conn_open(int fd, const struct sockaddr_storage *address);

/* Before the first: who finds the first step of a request, and who is called whenever a connection has closed, so that a descriptor is free
 * again. */
void conns_serve(route_fn *route, void (*on_close)(void));

/* Close those that have been idle longest, for a second at least, an eighth of all at most. Returns how many that were. A look at every connection: only for
 * when there is no room for a newcomer. */
size_t conns_make_room(void);

/* Leave: answer what has been read, close what is idle, cut the long waits short. New answers close their connection. */
void conns_drain(void);

#endif
