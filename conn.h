/* conn.h: the life of a connection, as server.c sees it. Belongs to the loop thread. */
#ifndef FORNO_CONN_H
#define FORNO_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* Serve a freshly accepted nonblocking socket. Takes fd in any case. */
void conn_open(int fd, const struct sockaddr_storage *address);

/* Called whenever a connection has closed: a descriptor is free again. */
void conns_on_close(void (*hook)(void));

/* Leave: answer what has been read, close what is idle, cut the long waits short. New answers close their connection. */
void conns_drain(void);

#endif
