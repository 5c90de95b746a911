/* start.h: the application, as server.c sees it: how it is set up, and where it takes over. Belongs to the loop thread. */
#ifndef FORNO_APP_START_H
#define FORNO_APP_START_H

#include "reactor/req.h"

#define FORNO_VERSION "0.1" /* the one place: the Makefile, /openapi.json and the man page read it here; tests/test_project.py */

struct app_options {
    const char *host; /* the name we are meant to be reached by */
    const char *db_path;
    int64_t opening_credit_cents;
    int64_t bake_ms;     /* per pizza, for every flavor; -1: as the menu says */
    unsigned group_max;  /* see db.h */
    const char *courier; /* the external service's URL; NULL: we are our own */
    enum { LAB_ON_LOOPBACK, LAB_ON, LAB_OFF } lab;
    int64_t stall_ms;
    bool blocking; /* every wait in place, for comparison */
};

/* Called once, before the first connection, with the loop open, when it is known where we listen, and whether only this machine can reach us.
 * `own_door`: the URL at which our own calls find us when no courier was named. Borrows the options for good. False: `error` says in a
 * sentence what is wrong and what to do about it. */
bool app_start(const struct app_options *options, const char *own_door, bool loopback, char *error, size_t error_size);

/* The first step of a request: see audience.h. */
struct step app_route(struct req *r);

#endif
