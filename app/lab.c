/* lab.c: the tutorial's demonstration, done right: three ways to wait, and what becomes of everybody else meanwhile. */
#include "app/app.h"
#include "app/start.h"
#include "reactor/still.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- GET /lab/timer ------------------------------------------------------------------------------------------------------------- */

struct nap {
    struct waiter waiter;
    int64_t ms, began_ns;
};

static void nap_over(struct req *r);

void get_lab_timer(struct req *r)
{
    struct nap *n = req_alloc(r, sizeof *n);

    if (!n || !query_number(r, "ms", 1000, 0, app_options->blocking ? STAND_STILL_MAX_S * 1000 : 60000, &n->ms)) return;
    n->began_ns = clock_ns();
    wait_for(&n->waiter, "timer", 0, n->began_ns + n->ms * NS_PER_MS, await(r, nap_over));
}

static double ms_of(int64_t ns)
{
    return (double)(ns / 1000) / 1000.0;
}

static void respond_waited(struct req *r, const char *how, int64_t began_ns)
{
    cJSON *json = cJSON_CreateObject();

    cJSON_AddStringToObject(json, "waited_for", how);
    cJSON_AddNumberToObject(json, "waited_ms", ms_of(clock_ns() - began_ns));
    respond_json(r, 200, json);
}

static void nap_over(struct req *r)
{
    const struct nap *n = req_state(r);

    respond_waited(r, "the timerfd; everybody else was served meanwhile", n->began_ns);
}

/* ---- GET /lab/thread -------------------------------------------------------------------------------------------------------------- */

struct slow {
    struct db_slow query;
    int64_t began_ns;
};

static void slow_done(struct req *r);

static void slow_cut_short(struct op *op)
{
    struct db_slow *query = op->owner;

    atomic_store(&query->forsaken, true);
}

void get_lab_thread(struct req *r)
{
    struct slow *s = req_alloc(r, sizeof *s);

    if (!s || !query_number(r, "ms", 1000, 0, 10000, &s->query.ms)) return;
    s->began_ns = clock_ns();
    struct op *op = await(r, slow_done);
    op->cut_short = slow_cut_short;
    db_slow_query(&s->query, op);
}

static void slow_done(struct req *r)
{
    const struct slow *s = req_state(r);

    if (s->query.job.rc != DB_OK) respond_db_problem(r, s->query.job.rc);
    else respond_waited(r, "the database worker; other queries stood in line, everybody else was served meanwhile", s->began_ns);
}

/* ---- GET /lab/block ----------------------------------------------------------------------------------------------------------------- */

#define BLOCK_MAX_MS (STAND_STILL_MAX_S * 1000)

void get_lab_block(struct req *r)
{
    int64_t ms, began_ns = clock_ns();

    if (!query_number(r, "ms", 1000, 0, BLOCK_MAX_MS, &ms)) return;
    stand_still(began_ns + ms * NS_PER_MS);
    respond_waited(r, "nothing: the loop itself stood still, and everybody with it", began_ns);
}

/* ---- GET /lab/socket: n calls to the courier, a few ways ------------------------------------------------------------------------------- */

#define CALLS_MAX 256

struct call {
    struct part part;
    struct upstream_call upstream;
};

struct fan_out {
    const char *mode;
    int64_t n, ms, limit;
    bool in_place; /* the loop itself waits, and everybody with it */
    int64_t begun; /* calls started so far */
    int64_t began_ns;
    struct all all;
    struct lap_watch laps;
    struct call *calls;
    int64_t total_ns, sum_ns, longest_lap_ns;
    int failed;
};

static void fanned_out(struct req *r);

/* One more call, if any is left. Started when another ends, it keeps as many out as the mode allows. */
static void fan_out_next(struct fan_out *f);

static void call_done(struct part *part)
{
    fan_out_next(HOLDER(fan_out, all, part->all));
}

static void fan_out_next(struct fan_out *f)
{
    if (f->begun == f->n) return;
    struct call *c = &f->calls[f->begun++];
    struct op *op = all_add(&f->all, &c->part, call_done);
    snprintf(c->upstream.target, sizeof c->upstream.target, "/courier/quote?pizzas=1&ms=%" PRId64, f->ms);
    if (!f->in_place) {
        upstream_get(&c->upstream, op);
        return;
    }
    upstream_get_in_place(&c->upstream, op);
    if (c->upstream.rc != UPSTREAM_OK) f->n = f->begun; /* it may have cost everybody seconds: it is the last one */
}

/* The client has left: let the calls that are out end, and begin no others. */
static void fan_out_cut_short(struct op *op)
{
    struct fan_out *f = op->owner;

    f->n = f->begun;
}

/* False: it has been refused. */
static bool fan_out_mode(struct req *r, struct fan_out *f)
{
    static const char *const modes[] = {"together", "sequence", "limit", "blocking"};
    struct slice mode = query_param(r, "mode");

    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (mode.at ? slice_is(mode, modes[i]) : i == 0) f->mode = modes[i];
    }
    if (!f->mode) return respond_problem(r, PROBLEM_BAD_PARAMETER, "\"mode\" must be together, sequence, limit or blocking.");
    if (strcmp(f->mode, "together") == 0 || strcmp(f->mode, "blocking") == 0) f->limit = f->n;
    if (strcmp(f->mode, "sequence") == 0) f->limit = 1;
    f->in_place = app_options->blocking || strcmp(f->mode, "blocking") == 0;
    if (f->in_place && upstream_leads_home()) return respond_problem(r, PROBLEM_WOULD_DEADLOCK, NULL);
    if (f->in_place && f->n * f->ms > BLOCK_MAX_MS)
        return respond_problem(r, PROBLEM_BAD_PARAMETER,
                               "Everybody else would have to wait: \"n\" times \"ms\" must be at most %d.", BLOCK_MAX_MS);
    return true;
}

void get_lab_socket(struct req *r)
{
    struct fan_out *f = req_alloc(r, sizeof *f);

    if (!f || !query_number(r, "n", 20, 1, CALLS_MAX, &f->n) || !query_number(r, "ms", 300, 0, 4000, &f->ms) ||
        !query_number(r, "limit", 5, 1, CALLS_MAX, &f->limit) || !fan_out_mode(r, f))
        return;
    f->calls = req_alloc(r, (size_t)f->n * sizeof *f->calls);
    if (!f->calls) return;
    f->began_ns = clock_ns();
    trace_laps_watch(&f->laps);
    struct op *whole = await(r, fanned_out);
    whole->owner = f;
    whole->cut_short = fan_out_cut_short;
    all_begin(&f->all, "upstream", whole);
    for (int64_t i = 0; i < f->limit; i++) fan_out_next(f);
}

static cJSON *waterfall_json(const struct fan_out *f)
{
    cJSON *json = cJSON_CreateObject(), *calls;

    cJSON_AddStringToObject(json, "mode", f->mode);
    json_add_integer(json, "n", f->n);
    json_add_integer(json, "ms", f->ms);
    cJSON_AddNumberToObject(json, "total_ms", ms_of(f->total_ns));
    cJSON_AddNumberToObject(json, "sum_ms", ms_of(f->sum_ns));
    cJSON_AddNumberToObject(json, "longest_lap_ms", ms_of(f->longest_lap_ns));
    json_add_integer(json, "failed", f->failed);
    calls = cJSON_AddArrayToObject(json, "calls");
    for (int64_t i = 0; i < f->n; i++) {
        const struct upstream_call *u = &f->calls[i].upstream;
        cJSON *call = cJSON_CreateObject();

        cJSON_AddNumberToObject(call, "start_ms", ms_of(u->began_ns - f->began_ns));
        cJSON_AddNumberToObject(call, "end_ms", ms_of(u->ended_ns - f->began_ns));
        cJSON_AddBoolToObject(call, "ok", u->rc == UPSTREAM_OK && u->status == 200);
        json_append(calls, call);
    }
    return json;
}

#define BAR_WIDTH 60

static void waterfall_text(struct buf *out, const struct fan_out *f)
{
    for (int64_t i = 0; i < f->n; i++) {
        const struct upstream_call *u = &f->calls[i].upstream;
        int64_t total = f->total_ns ? f->total_ns : 1;
        int start = (int)((u->began_ns - f->began_ns) * (BAR_WIDTH - 1) / total),
            end = (int)((u->ended_ns - f->began_ns) * BAR_WIDTH / total);

        buf_printf(out, "%4" PRId64 " |", i + 1);
        for (int at = 0; at < BAR_WIDTH; at++) buf_puts(out, at >= start && (at < end || at == start) ? "=" : " ");
        buf_printf(out, "| %8.1f to %8.1f ms%s\n", ms_of(u->began_ns - f->began_ns), ms_of(u->ended_ns - f->began_ns),
                   u->rc == UPSTREAM_OK && u->status == 200 ? "" : "  failed");
    }
    buf_printf(out, "%s: %" PRId64 " calls took %.1f ms; one after the other they would take %.1f ms.\n", f->mode, f->n,
               ms_of(f->total_ns), ms_of(f->sum_ns));
    buf_printf(out, "The longest lap of the loop meanwhile was %.3f ms: so long did everybody else wait at most.\n",
               ms_of(f->longest_lap_ns));
}

static void fanned_out(struct req *r)
{
    struct fan_out *f = req_state(r);

    f->longest_lap_ns = trace_laps_unwatch(&f->laps);
    for (int64_t i = 0; i < f->n; i++) {
        const struct upstream_call *u = &f->calls[i].upstream;

        if (u->ended_ns - f->began_ns > f->total_ns) f->total_ns = u->ended_ns - f->began_ns;
        f->sum_ns += u->ended_ns - u->began_ns;
        f->failed += u->rc != UPSTREAM_OK || u->status != 200;
    }
    respond_field(r, "Vary", "Accept");
    if (!prefers(r, "text/plain", "application/json")) {
        respond_json(r, 200, waterfall_json(f));
        return;
    }
    struct buf text = {0};
    waterfall_text(&text, f);
    respond_text(r, "text/plain; charset=utf-8", &text);
}

/* ---- POST /lab/lost-update ----------------------------------------------------------------------------------------------------------------- */

/* "One thread, so no races" is the costliest misbelief about event loops. Between a read and a write lies a wait, and in every
 * wait somebody else runs. First the toy: read, wait, write. Then the ledger, where reading and writing are one transaction. */

#define WITHDRAWALS 50
#define START_CENTS 10000
#define STEP_CENTS 100

struct withdrawal {
    struct part part;
    struct waiter waiter; /* of the toy */
    int64_t read_cents;
    struct db_transfer transfer; /* of the ledger */
};

struct lost_update {
    struct all all;
    int64_t toy_cents;
    struct part opened[2];
    struct db_account accounts[2]; /* whose money it is, and where it goes */
    struct withdrawal withdrawals[WITHDRAWALS];
};

static step_fn toys_withdrawn, accounts_opened, transfers_made, payer_fetched;

/* The wait is over, and the balance that was read is old news. */
static void toy_waited(struct part *part)
{
    HOLDER(lost_update, all, part->all)->toy_cents = HOLDER(withdrawal, part, part)->read_cents - STEP_CENTS;
}

void post_lab_lost_update(struct req *r)
{
    struct lost_update *l = req_alloc(r, sizeof *l);

    if (!l) return;
    l->toy_cents = START_CENTS;
    all_begin(&l->all, "timer", await(r, toys_withdrawn));
    for (int i = 0; i < WITHDRAWALS; i++) {
        struct withdrawal *w = &l->withdrawals[i];

        w->read_cents = l->toy_cents;
        wait_for(&w->waiter, "timer", 0, clock_ns() + (i % 5 + 1) * NS_PER_MS, all_add(&l->all, &w->part, toy_waited));
    }
}

static void open_lab_account(struct db_account *a, const char *name, struct op *op)
{
    char token[TOKEN_SIZE]; /* nobody is told: this account is the lab's */

    snprintf(a->name, sizeof a->name, "%s", name);
    fresh_token(token, &a->token);
    a->balance_cents = START_CENTS;
    db_open_account(a, op);
}

static void toys_withdrawn(struct req *r)
{
    struct lost_update *l = req_state(r);

    all_begin(&l->all, "db", await(r, accounts_opened));
    open_lab_account(&l->accounts[0], "lab: lost update, payer", all_add(&l->all, &l->opened[0], NULL));
    open_lab_account(&l->accounts[1], "lab: lost update, receiver", all_add(&l->all, &l->opened[1], NULL));
}

static void accounts_opened(struct req *r)
{
    struct lost_update *l = req_state(r);

    if (db_said_no(r, l->accounts[0].job.rc) || db_said_no(r, l->accounts[1].job.rc)) return;
    all_begin(&l->all, "db", await(r, transfers_made));
    for (int i = 0; i < WITHDRAWALS; i++) {
        struct db_transfer *t = &l->withdrawals[i].transfer;

        t->token = l->accounts[0].token;
        t->to = l->accounts[1].id;
        t->amount_cents = STEP_CENTS;
        db_transfer(t, all_add(&l->all, &l->withdrawals[i].part, NULL));
    }
}

static void transfers_made(struct req *r)
{
    struct lost_update *l = req_state(r);

    db_get_account(&l->accounts[0], await(r, payer_fetched));
}

static void tell_balance(cJSON *json, const char *whose, int64_t withdrawals, int64_t balance_cents, const char *why)
{
    cJSON *told = cJSON_AddObjectToObject(json, whose);
    int64_t expected_cents = START_CENTS - withdrawals * STEP_CENTS;

    json_add_integer(told, "expected_cents", expected_cents);
    json_add_integer(told, "balance_cents", balance_cents);
    json_add_integer(told, "missing_cents", balance_cents - expected_cents);
    cJSON_AddStringToObject(told, "why", why);
}

static void payer_fetched(struct req *r)
{
    struct lost_update *l = req_state(r);
    int64_t made = 0;

    if (db_said_no(r, l->accounts[0].job.rc)) return;
    for (int i = 0; i < WITHDRAWALS; i++) made += l->withdrawals[i].transfer.job.rc == DB_OK;
    cJSON *json = cJSON_CreateObject();
    json_add_integer(json, "withdrawals", WITHDRAWALS);
    json_add_integer(json, "each_cents", STEP_CENTS);
    json_add_integer(json, "start_cents", START_CENTS);
    tell_balance(json, "read_wait_write", WITHDRAWALS, l->toy_cents,
                 "Each read the balance, waited, and wrote what it had read, less its own: the others' withdrawals were lost. One "
                 "thread does not help: every wait lets somebody else in.");
    tell_balance(json, "ledger", made, l->accounts[0].balance_cents,
                 "Reading and writing are one transaction, with no wait inside that anybody could slip into.");
    respond_json(r, 200, json);
}
