/* peers.c: how many connections each client has.
 *
 * It owns one small record for each address that is connected at the moment, and none for the rest. An IPv6 client is a /64:
 * whoever has one address of it has them all. */
#include "reactor/peers.h"

#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 1024

struct peer {
    struct peer *next;
    unsigned char address[8];
    unsigned conns;
};

static struct peer *buckets[BUCKETS];
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

static struct peer **bucket(const unsigned char client[8])
{
    uint64_t bits;

    memcpy(&bits, client, sizeof bits);
    return &buckets[bits * UINT64_C(0x9e3779b97f4a7c15) >> 54]; /* Fibonacci hashing: the top 10 bits */
}

bool peer_enter(const struct sockaddr_storage *address, struct peer **peer)
{
    unsigned char client[8];

    *peer = NULL;
    if (!max_conns) return true;
    client_of(address, client);
    struct peer **first = bucket(client), *p = *first;
    while (p && memcmp(p->address, client, sizeof client) != 0) p = p->next;
    if (!p) {
        p = calloc(1, sizeof *p);
        if (!p) return false;
        memcpy(p->address, client, sizeof client);
        p->next = *first;
        *first = p;
    }
    if (p->conns >= max_conns) return false;
    p->conns++;
    *peer = p;
    return true;
}

void peer_leave(struct peer *peer)
{
    if (!peer || --peer->conns > 0) return;
    struct peer **link = bucket(peer->address);
    while (*link != peer) link = &(*link)->next;
    *link = peer->next;
    free(peer);
}
