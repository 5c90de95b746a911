/* waits.c: waiting for the time, for a knock at a door, and for several things at once.
 *
 * A timer is only a promise to look again: whoever is woken here looks for himself how things stand. */
#include "app/app.h"
#include "reactor/still.h"

#define BUCKETS 4096

static struct waiter *doors[BUCKETS]; /* those who wait for a knock; who waits for the time alone stands in none */
static uint32_t knocks[BUCKETS];
static bool in_place;

static void ask_all(void);

void waits_start(bool blocking)
{
    in_place = blocking;
    loop_before_sleep(ask_all);
}

static struct waiter **door(int64_t key)
{
    return &doors[(uint64_t)key % BUCKETS];
}

static struct op *waiter_leave(struct waiter *w)
{
    struct op *op = w->op;

    if (w->prev) w->prev->next = w->next;
    else if (w->key) *door(w->key) = w->next;
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
    *w = (struct waiter){.op = op, .key = key, .heard = w->heard, .timer.fired = waiter_due};
    if (key) {
        struct waiter **first = door(key);

        w->next = *first;
        if (w->next) w->next->prev = w;
        *first = w;
    }
    op->what = what;
    op->owner = w;
    op->cut_short = waiter_cut_short;
}

void wait_on_loop(struct waiter *w, const char *what, int64_t key, int64_t due_ns, struct op *op)
{
    waiter_enter(w, what, key, op);
    /* Trap: the knock at a door where nobody stands yet. Who looked before it must look again. Or there is no memory to wait with. */
    bool missed = key && w->heard != knocks[(uint64_t)key % BUCKETS];
    if (missed || !timer_start(&w->timer, due_ns)) waiter_wake(w);
}

void wait_for(struct waiter *w, const char *what, int64_t key, int64_t due_ns, struct op *op)
{
    if (!in_place) {
        wait_on_loop(w, what, key, due_ns, op);
        return;
    }
    waiter_enter(w, what, key, op);
    if (!server_draining()) stand_still(due_ns); /* what a synchronous server does: nobody else is served meanwhile */
    waiter_wake(w);
}

void wait_heed(struct waiter *w, int64_t key)
{
    w->heard = knocks[(uint64_t)key % BUCKETS];
}

void knock(int64_t key)
{
    struct waiter *next;

    knocks[(uint64_t)key % BUCKETS]++;
    for (struct waiter *w = *door(key); w; w = next) {
        next = w->next;
        if (w->key != key) continue;
        if (w->op) w->op->crowd = next || w->prev;
        waiter_wake(w);
    }
}

void knock_everywhere(void)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        knocks[i]++;
        while (doors[i]) waiter_wake(doors[i]);
    }
}

/* ---- the same question, asked once ----------------------------------------------------------------------------------------------- */

#define QUESTIONS 1024

/* Not asked yet: they go to the database when the lap ends. Who comes later asks anew: what has woken him may have happened after this
 * one was asked. */
static struct question *gathered[QUESTIONS], *first_gathered;

static struct question **question_place(int64_t key)
{
    return &gathered[(uint64_t)key % QUESTIONS];
}

struct question *question_find(int64_t key, bool (*same)(const struct question *q, const void *as), const void *as)
{
    struct question *q = *question_place(key);

    while (q && !(q->key == key && (!same || same(q, as)))) q = q->next_here;
    return q;
}

static void question_answered(struct op *op)
{
    struct question *q = (struct question *)((char *)op - offsetof(struct question, op));

    for (struct op *asker = q->askers; asker; asker = asker->next) {
        asker->served_ns = op->served_ns;
        asker->crowd = q->askers->next != NULL;
    }
    loop_post(q->askers);
}

void question_begin(struct question *q, int64_t key, void (*ask)(struct question *q))
{
    struct question **place = question_place(key);

    q->key = key;
    q->ask = ask;
    q->askers_end = &q->askers;
    q->op.done = question_answered;
    q->next_here = *place;
    *place = q;
    q->next = first_gathered;
    first_gathered = q;
}

void question_join(struct question *q, struct op *op)
{
    op->what = "db";
    op->next = NULL;
    *q->askers_end = op;
    q->askers_end = &op->next;
    q->refs++;
}

bool question_leave(struct question *q)
{
    return --q->refs == 0;
}

/* Before the loop sleeps, and before the jobs of the lap are handed over. */
static void ask_all(void)
{
    while (first_gathered) {
        struct question *q = first_gathered;

        first_gathered = q->next;
        *question_place(q->key) = NULL;
        q->ask(q);
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
