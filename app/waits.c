/* waits.c: waiting for the time, for a knock at a door, and for several things at once.
 *
 * A timer is only a promise to look again: whoever is woken here looks for himself how things stand. */
#include "app.h"

#include <errno.h>
#include <time.h>

#define BUCKETS 4096

static struct waiter *doors[BUCKETS];
static bool in_place;

void waits_start(bool blocking)
{
    in_place = blocking;
}

static struct waiter **door(int64_t key)
{
    return &doors[(uint64_t)key % BUCKETS];
}

static struct op *waiter_leave(struct waiter *w)
{
    struct op *op = w->op;

    if (w->prev) w->prev->next = w->next;
    else *door(w->key) = w->next;
    if (w->next) w->next->prev = w->prev;
    timer_cancel(&w->timer);
    w->op = NULL;
    return op;
}

/* Posted, not called: whoever knocks is in the middle of a step of his own. */
static void waiter_wake(struct waiter *w)
{
    if (!w->op) return; /* it is on its way already */
    struct op *op = waiter_leave(w);
    op->next = NULL;
    loop_post(op);
}

static void waiter_due(struct timer *t)
{
    struct waiter *w = (struct waiter *)((char *)t - offsetof(struct waiter, timer));
    struct op *op = waiter_leave(w);

    op->done(op);
}

static void waiter_cut_short(struct op *op)
{
    waiter_wake(op->owner);
}

static void waiter_enter(struct waiter *w, const char *what, int64_t key, struct op *op)
{
    struct waiter **first = door(key);

    *w = (struct waiter){.op = op, .key = key, .next = *first, .timer.fired = waiter_due};
    if (w->next) w->next->prev = w;
    *first = w;
    op->what = what;
    op->owner = w;
    op->cut_short = waiter_cut_short;
}

void wait_on_loop(struct waiter *w, const char *what, int64_t key, int64_t due_ns, struct op *op)
{
    waiter_enter(w, what, key, op);
    if (!timer_start(&w->timer, due_ns)) waiter_wake(w); /* no memory to wait with: look again at once */
}

void wait_for(struct waiter *w, const char *what, int64_t key, int64_t due_ns, struct op *op)
{
    struct timespec due = {.tv_sec = due_ns / NS_PER_S, .tv_nsec = due_ns % NS_PER_S};

    if (!in_place) {
        wait_on_loop(w, what, key, due_ns, op);
        return;
    }
    waiter_enter(w, what, key, op);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
        ; /* what a synchronous server does: nobody else is served meanwhile */
    waiter_wake(w);
}

void knock(int64_t key)
{
    struct waiter *next;

    for (struct waiter *w = *door(key); w; w = next) {
        next = w->next;
        if (w->key == key) waiter_wake(w);
    }
}

/* ---- several things at once --------------------------------------------------------------------------------------------------- */

void all_begin(struct all *all, const char *what, struct op *whole)
{
    whole->what = what;
    *all = (struct all){.whole = whole};
}

static void part_done(struct op *op)
{
    struct part *part = (struct part *)((char *)op - offsetof(struct part, op));
    struct all *all = part->all;

    if (part->done) part->done(part);
    if (--all->left == 0) all->whole->done(all->whole);
}

struct op *all_add(struct all *all, struct part *part, void (*done)(struct part *part))
{
    *part = (struct part){.op.done = part_done, .all = all, .done = done};
    all->left++;
    return &part->op;
}
