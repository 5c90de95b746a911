/* peers.h: how many connections each client has, for --max-conns-per-ip. Belongs to the loop thread. */
#ifndef FORNO_PEERS_H
#define FORNO_PEERS_H

#include <stdbool.h>
#include <sys/socket.h>

struct peer;

/* From now on no address may have more connections than this at a time. 0: as many as it likes, and nothing is counted. */
void peers_limit(unsigned max);

/* One connection more from this address. False: it has as many as it may (or memory is out). *peer is what to give back
 * when the connection closes; NULL when nothing is counted. */
bool peer_enter(const struct sockaddr_storage *address, struct peer **peer);
void peer_leave(struct peer *peer); /* NULL is fine */

#endif
