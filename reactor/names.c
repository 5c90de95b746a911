/* names.c: names are looked up on a thread of their own, never on the loop (trap: blocking getaddrinfo).
 *
 * It owns what is known of one name. The subtle thing is its end: a look-up cannot be called off, so its thread may outlive whoever wanted
 * the result. */
#include "reactor/names.h"

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define HOMES_MAX 9 /* eight listeners, and the door for our own calls */
#define LOOK_UP_AGAIN_NS (30 * NS_PER_S)

static struct {
    struct look_up courier;                  /* the name that is kept fresh */
    struct address addresses[ADDRESSES_MAX]; /* what is known */
    struct address home[HOMES_MAX];          /* where we listen */
    size_t addresses_len, home_len;
    bool lead_home;
    bool running;    /* a look-up is under way */
    bool numeric;    /* the host is an address: nothing to look up */
    int64_t next_ns; /* when it is worth doing again */
    pthread_mutex_t lock;
    bool closed; /* under the lock: nobody wants the result any more */
} names = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Is it ourselves whom we call? What counts is where it leads, not how it is spelled. IPv4 as within IPv6 (RFC 4291 2.5.5.2), and
 * both addresses that mean "everywhere" as one. */
static struct in6_addr host_of(const struct address *a)
{
    struct in6_addr host = {.s6_addr = {[10] = 0xff, [11] = 0xff}};

    if (a->family == AF_INET6) return ((const struct sockaddr_in6 *)&a->bytes)->sin6_addr;
    host.s6_addr32[3] = ((const struct sockaddr_in *)&a->bytes)->sin_addr.s_addr;
    return host.s6_addr32[3] == INADDR_ANY ? in6addr_any : host;
}

/* Is it an address of this machine? One that can be bound to is. */
static bool is_local(struct address a)
{
    int fd = socket(a.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    ((struct sockaddr_in *)&a.bytes)->sin_port = 0; /* it stands at the same place in both families */
    bool local = fd >= 0 && bind(fd, (const struct sockaddr *)&a.bytes, a.len) == 0;
    if (fd >= 0) close(fd);
    return local;
}

/* Who listens everywhere is called by any address of this machine; and who calls everywhere reaches this machine. */
static bool is_home(const struct address *a)
{
    struct in6_addr host = host_of(a);

    for (const struct address *h = names.home; h < names.home + names.home_len; h++) {
        struct in6_addr home = host_of(h);

        if (((const struct sockaddr_in *)&h->bytes)->sin_port != ((const struct sockaddr_in *)&a->bytes)->sin_port) continue;
        if (IN6_ARE_ADDR_EQUAL(&host, &home) || IN6_IS_ADDR_UNSPECIFIED(&host)) return true;
        if (IN6_IS_ADDR_UNSPECIFIED(&home) && is_local(*a)) return true;
    }
    return false;
}

static void take_addresses(const struct addrinfo *list)
{
    names.addresses_len = 0;
    names.lead_home = false;
    for (; list && names.addresses_len < ADDRESSES_MAX; list = list->ai_next) {
        struct address *a = &names.addresses[names.addresses_len++];

        *a = (struct address){.family = list->ai_family, .len = list->ai_addrlen};
        memcpy(&a->bytes, list->ai_addr, list->ai_addrlen);
        names.lead_home = names.lead_home || is_home(a);
    }
}

static void look_up(struct look_up *l, int flags)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags};

    if (getaddrinfo(l->host, l->port, &hints, &l->found) != 0) l->found = NULL;
}

static void *look_up_thread(void *of)
{
    struct look_up *l = of;

    look_up(l, 0);
    pthread_mutex_lock(&names.lock);
    if (!names.closed) loop_post(&l->op);
    pthread_mutex_unlock(&names.lock);
    return NULL;
}

bool names_look_up(struct look_up *l)
{
    pthread_t thread;
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool running = pthread_create(&thread, NULL, look_up_thread, l) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (running) pthread_detach(thread);
    return running;
}

static void looked_up(struct op *op)
{
    struct addrinfo *found = names.courier.found;

    (void)op;
    names.running = false;
    names.next_ns = loop_now_ns() + (found ? LOOK_UP_AGAIN_NS : NS_PER_S);
    if (!found) return; /* what we knew before may still be right */
    take_addresses(found);
    freeaddrinfo(found);
}

static void look_up_again(void)
{
    if (names.numeric || names.running || loop_now_ns() < names.next_ns) return;
    names.courier.op = (struct op){.done = looked_up};
    names.running = names_look_up(&names.courier);
}

const struct address *names_known(size_t *n)
{
    look_up_again();
    *n = names.addresses_len;
    return names.addresses;
}

void names_home(const struct sockaddr_storage *address)
{
    if (names.home_len < HOMES_MAX)
        names.home[names.home_len++] = (struct address){.bytes = *address, .len = sizeof *address, .family = address->ss_family};
}

bool names_lead_home(void)
{
    return names.lead_home;
}

void names_open(const char *host, const char *port)
{
    struct look_up *l = &names.courier;

    *l = (struct look_up){.host = host, .port = port};
    names.closed = false;
    look_up(l, AI_NUMERICHOST);
    names.numeric = l->found != NULL;
    if (!l->found) look_up(l, 0);
    if (l->found) names.next_ns = clock_ns() + LOOK_UP_AGAIN_NS;
    take_addresses(l->found);
    if (l->found) freeaddrinfo(l->found);
}

void names_close(void)
{
    pthread_mutex_lock(&names.lock);
    names.closed = true;
    pthread_mutex_unlock(&names.lock);
}
