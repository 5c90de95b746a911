/* waits.c: waiting for the time, for a knock at a door, and for several things at once.
 *
 * A timer is only a promise to look again: whoever is woken here looks for himself how things stand. */
#include "app/app.h"
#include "app/start.h"
#include "reactor/still.h"

#define BUCKETS 4096

static LIST_HEAD(door, waiter) doors[BUCKETS]; /* those who wait for a knock; who waits for the time alone stands in none */
static uint32_t knocks[BUCKETS];

static void ask_all(void);

void waits_start(void)
{
    loop_before_sleep(ask_all);
}

static struct door *door_of(int64_t key)
{
    return &doors[(uint64_t)key % BUCKETS];
}

static struct op *waiter_leave(struct waiter *w)
{
    struct op *op = w->op;

    if (w->key) LIST_REMOVE(w, beside);
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
    struct waiter *w = HOLDER(waiter, timer, t);
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
    if (key) LIST_INSERT_HEAD(door_of(key), w, beside);
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
    if (!app_options->blocking) {
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
    struct door *door = door_of(key);
    struct waiter *next;

    knocks[(uint64_t)key % BUCKETS]++;
    for (struct waiter *w = LIST_FIRST(door); w; w = next) {
        next = LIST_NEXT(w, beside);
        if (w->key != key) continue;
        w->op->crowd = next || w != LIST_FIRST(door);
        waiter_wake(w);
    }
}

void knock_everywhere(void)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        knocks[i]++;
        while (!LIST_EMPTY(&doors[i])) waiter_wake(LIST_FIRST(&doors[i]));
    }
}

/* ---- the same question, asked once ----------------------------------------------------------------------------------------------- */

#define QUESTIONS 1024

/* Not asked yet: they go to the database when the lap ends. Who comes later asks anew: what has woken him may have happened after this
 * one was asked. */
static SLIST_HEAD(questions, question) by_key[QUESTIONS], gathered;

static struct questions *with_key(int64_t key)
{
    return &by_key[(uint64_t)key % QUESTIONS];
}

struct question *question_find(int64_t key, bool (*same)(const struct question *q, const void *as), const void *as)
{
    struct question *q = SLIST_FIRST(with_key(key));

    while (q && !(q->key == key && (!same || same(q, as)))) q = SLIST_NEXT(q, beside);
    return q;
}

static void question_answered(struct op *op)
{
    struct question *q = HOLDER(question, op, op);

    for (struct op *asker = q->askers.first; asker; asker = asker->next) {
        asker->served_ns = op->served_ns;
        asker->crowd = q->askers.count > 1;
    }
    loop_post(q->askers.first);
}

void question_begin(struct question *q, int64_t key, void (*ask)(struct question *q))
{
    q->key = key;
    q->ask = ask;
    q->op.done = question_answered;
    SLIST_INSERT_HEAD(with_key(key), q, beside);
    SLIST_INSERT_HEAD(&gathered, q, gathered);
}

void question_join(struct question *q, struct op *op)
{
    op->what = "db";
    ops_push(&q->askers, op);
    q->refs++;
}

bool question_leave(struct question *q)
{
    return --q->refs == 0;
}

/* Before the loop sleeps, and before the jobs of the lap are handed over. */
static void ask_all(void)
{
    for (struct question *q; (q = SLIST_FIRST(&gathered));) {
        SLIST_REMOVE_HEAD(&gathered, gathered);
        SLIST_INIT(with_key(q->key));
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
    struct part *part = HOLDER(part, op, op);
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
