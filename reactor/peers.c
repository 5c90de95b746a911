/* peers.c: how many connections each client has.
 *
 * It owns one small record for each address that is connected at the moment, and none for the rest. An IPv6 client is a /64:
 * whoever has one address of it has them all. */
#include "reactor/peers.h"

#include <netinet/in.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

struct peer {
    unsigned char address[8];
    unsigned conns;
};

static void *peers; /* a tree by address, tsearch(3) */
static unsigned max_conns;

void peers_limit(unsigned max)
{
    max_conns = max;
}

/* The part of an address that makes a client. */
static void client_of(const struct sockaddr_storage *address, unsigned char client[8])
{
    memset(client, 0, 8);
    if (address->ss_family == AF_INET) {
        memcpy(client + 4, &((const struct sockaddr_in *)address)->sin_addr, 4);
    } else if (address->ss_family == AF_INET6) {
        const unsigned char *bytes = ((const struct sockaddr_in6 *)address)->sin6_addr.s6_addr;

        if (IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *)address)->sin6_addr)) memcpy(client + 4, bytes + 12, 4);
        else memcpy(client, bytes, 8);
    }
}

static int by_address(const void *a, const void *b)
{
    return memcmp(((const struct peer *)a)->address, ((const struct peer *)b)->address, sizeof((const struct peer *)a)->address);
}

bool peer_enter(const struct sockaddr_storage *address, struct peer **peer)
{
    *peer = NULL;
    if (!max_conns) return true;
    struct peer *fresh = calloc(1, sizeof *fresh);
    if (!fresh) return false;
    client_of(address, fresh->address);
    struct peer **known = tsearch(fresh, &peers, by_address);
    if (!known || *known != fresh) free(fresh);
    if (!known || (*known)->conns >= max_conns) return false;
    *peer = *known;
    (*peer)->conns++;
    return true;
}

void peer_leave(struct peer *peer)
{
    if (!peer || --peer->conns > 0) return;
    tdelete(peer, &peers, by_address);
    free(peer);
}
