/* lane.h: one connection to PostgreSQL, and its life: finding the host, connecting, preparing, working, waiting for better times. One
 * descriptor in the loop, no thread. Knows no statement: who uses it puts them, and is told when the Sync is back.
 *
 * A group is what is put between two Syncs. The server makes one transaction of it, so the Sync is the group commit: none of its results is
 * given out before the Sync has come back (trap: the row before the commit). Loop thread, all of it. */
#ifndef FORNO_LANE_H
#define FORNO_LANE_H

#include "db.h"
#include "ledger/libpq.h"
#include "reactor/loop.h"
#include "reactor/names.h"

#define LANE_GROUP_MAX 64

struct lane;

struct lane_user {
    void (*prepare)(struct lane *l);         /* a new connection: put what it needs before anything else; the lane adds the Sync */
    const char *(*prepared)(struct lane *l); /* its results are in l->results. Returns NULL, or what is wrong with them */
    void (*answered)(struct lane *l);        /* the Sync is back: see results and error */
    void (*lost)(struct lane *l, bool working); /* the connection is gone; working: with it, what was put since the last Sync */
    void (*heard)(struct lane *l, const PGnotify *notice);
};

struct lane {
    const char *name; /* set by the user, like the next two */
    const struct lane_user *user;
    bool writes; /* what is under way when another lane is lost is worth waiting for */

    enum db_lane_state state;
    bool naming, preparing, opened, leaving; /* naming: its host's name is being looked up */
    bool far;                                /* while it connects: its host has said something, so it is there */
    struct watch watch;
    uint32_t wanted;                    /* what to watch for as soon as there is a watch again */
    struct timer timer;                 /* always pending: a deadline, or the end of a rest */
    int64_t deadline_ns, rest_until_ns; /* rest: nothing is sent before */
    unsigned host, fails; /* which one; attempts that failed and connections that broke since a group was last answered */
    struct lane *next;
    struct address addresses[ADDRESSES_MAX];
    size_t addresses_len, address;
    int64_t answered_ns; /* when it last showed a sign of life */

    PGconn *conn;
    PGresult *results[LANE_GROUP_MAX]; /* of what was put, in order */
    size_t put, came;
    PGresult *error; /* the first result that is one; NULL: none */
    size_t culprit;  /* whose it is; == put: the Sync's own */
    bool undone;     /* for lost(): an error had come, so the server has done nothing of what was put */
    bool doubtful;   /* trap: the cancelled wait acknowledges. The server has warned that it has not waited for the standby */
};

/* The hosts of a URL, for all lanes, and everything else that it says. Returns NULL, or what is wrong with it. */
const char *lanes_open(const char *url);
void lanes_close(void);

/* How many hosts there are, and the i-th as it is told to people: "db1:5432". */
unsigned lanes_hosts(void);
const char *lane_host(unsigned i);

/* Begin to connect to host i, at `hostaddr`, the URL's, or wherever its name leads: the first step alone, see PQconnectStart. NULL: no
 * memory. */
PGconn *lane_connect(unsigned i, const char *hostaddr);

bool lane_open(struct lane *l); /* false: no memory */
void lane_close(struct lane *l);

/* Ready for a group? */
static inline bool lane_idle(const struct lane *l)
{
    return l->state == DB_LANE_IDLE && loop_now_ns() >= l->rest_until_ns;
}

/* Count one more statement that the user has sent on l->conn; `sent` as libpq has it. What cannot be sent loses the lane with the Sync. */
void lane_put(struct lane *l, int sent);
void lane_sync(struct lane *l, int64_t answer_ns); /* who has not answered by then is lost */

/* What could not be done a moment ago is not tried again at once: longer each time. */
void lane_rest(struct lane *l, unsigned times);

/* Away from here, to another host: it is of no use. */
void lane_lose(struct lane *l, const char *why);

/* Another lane has lost its connection. Trap: the idle lane on the dethroned primary, which goes on telling what was true. Reconnect, at once
 * or after the group that is under way. */
void lane_follow(struct lane *l, const struct lane *lost);

#endif
