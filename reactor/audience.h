/* audience.h: a request as its connection sees it: whoever reads requests off a wire includes this, a handler has no use for it.
 *
 * A request outlives its audience. Belongs to the loop thread. */
#ifndef FORNO_AUDIENCE_H
#define FORNO_AUDIENCE_H

#include "reactor/req.h"

/* Whoever is listening. A connection is one; it goes into the request as a borrowed pointer, until req_left(). */
struct audience {
    struct buf out;   /* what it is to be sent */
    struct req *req;  /* being read, or out; NULL: none */
    int64_t since_ns; /* its last progress, or the first byte of the head being read */
    uint32_t id;
    bool running;                       /* req is out: its steps are at work or waiting */
    bool ending;                        /* what is in out is the last of it */
    bool shut;                          /* it sends no more, but may still be reading */
    bool traced;                        /* what goes out next is an answer that is in the recording */
    void (*go_on)(struct audience *a);  /* a step has run, after a wait: send, begin what comes next */
    void (*let_go)(struct audience *a); /* it falls too far behind */
};

/* The first step of a request whose head is complete, or which has failed (r->msg.phase == HTTP_FAILED: r->msg.status and r->msg.error say
 * why). Sets r->route, r->param, r->viewer, r->needs_no_body. */
typedef struct step route_fn(struct req *r);

/* A request whose first byte is about to be read. NULL: memory is out. */
struct req *req_begin(struct audience *a);

void req_route(struct req *r, route_fn *route);

/* Run the first step. Returns how long that took, as trace_step() does. */
int64_t req_run(struct req *r);

/* Its audience has left. What has been begun goes on without; what has not is forgotten. */
void req_left(struct req *r);

/* Cut its waiting short, if there is any reason to. */
void req_hurry(struct req *r);

/* From now on nothing is waited for longer than it must, and answers are the last of their connection. */
void reqs_drain(void);

#endif
