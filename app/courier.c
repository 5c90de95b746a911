/* courier.c: the external service. Its stand-in, which this same server offers, and the one who calls it.
 *
 * By default the two meet on one thread: the call goes out through a socket and comes back through another, both in the same
 * epoll. Nothing waits in place, so nothing deadlocks. */
#include "app/app.h"
#include "app/start.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- GET /courier/quote: the courier thinks for a while --------------------------------------------------------------------------- */

struct quote {
    struct waiter waiter;
    int64_t pizzas, ms;
};

static void quote_considered(struct req *r);

void get_courier_quote(struct req *r)
{
    struct quote *q = req_alloc(r, sizeof *q);

    if (!q) return;
    if (!query_number(r, "pizzas", 1, 1, 1000, &q->pizzas)) return;
    if (!query_number(r, "ms", 300, 0, 10000, &q->ms)) return;
    wait_for(&q->waiter, "timer", 0, clock_ns() + q->ms * NS_PER_MS, await(r, quote_considered));
}

static void quote_considered(struct req *r)
{
    const struct quote *q = req_state(r);
    cJSON *json = cJSON_CreateObject();

    json_add_integer(json, "price_cents", 500 + 50 * q->pizzas);
    json_add_integer(json, "eta_minutes", 20 + q->pizzas / 2);
    respond_json(r, 200, json);
}

/* ---- GET /orders/{id}/delivery: three waits, one after the other --------------------------------------------------------------------- */

struct delivery {
    struct db_order order;
    struct upstream_call call;
};

static step_fn delivery_order_fetched, delivery_quoted;

void get_delivery(struct req *r)
{
    struct delivery *d = req_alloc(r, sizeof *d);

    if (!d) return;
    if (app_options->blocking && upstream_leads_home()) {
        refuse(r, PROBLEM_WOULD_DEADLOCK, NULL);
        return;
    }
    d->order.token = bearer_token(r);
    d->order.order.id = param_id(r);
    db_get_order(&d->order, await(r, delivery_order_fetched));
}

static void delivery_order_fetched(struct req *r)
{
    struct delivery *d = req_state(r);

    if (db_said_no(r, d->order.job.rc)) return;
    snprintf(d->call.target, sizeof d->call.target, "/courier/quote?pizzas=%" PRId64, d->order.order.pizzas);
    upstream_get(&d->call, await(r, delivery_quoted));
}

static void respond_upstream_problem(struct req *r, const struct upstream_call *u)
{
    switch (u->rc) {
    case UPSTREAM_OK: respond_problem(r, PROBLEM_COURIER_NONSENSE, "The courier answered with status %d.", u->status); break;
    case UPSTREAM_REFUSED: respond_problem(r, PROBLEM_COURIER_UNREACHABLE, "The courier takes no connection."); break;
    case UPSTREAM_RESET: respond_problem(r, PROBLEM_COURIER_UNREACHABLE, "The courier broke the connection off."); break;
    case UPSTREAM_TIMED_OUT: respond_problem(r, PROBLEM_COURIER_SLOW, NULL); break;
    case UPSTREAM_MALFORMED: respond_problem(r, PROBLEM_COURIER_NONSENSE, "What the courier sent is not HTTP."); break;
    case UPSTREAM_TOO_BIG: respond_problem(r, PROBLEM_COURIER_NONSENSE, "The courier sent far more than a quote."); break;
    case UPSTREAM_LIMIT: respond_problem(r, PROBLEM_COURIER_BUSY, NULL); break;
    }
}

/* A whole, nonnegative number that the courier must have sent; -1 if not. */
static int64_t quoted_number(const cJSON *json, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, name);

    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= 1e9)) return -1;
    return item->valuedouble == (double)(int64_t)item->valuedouble ? (int64_t)item->valuedouble : -1;
}

static void delivery_quoted(struct req *r)
{
    struct delivery *d = req_state(r);

    if (d->call.rc != UPSTREAM_OK || d->call.status != 200) {
        respond_upstream_problem(r, &d->call);
        return;
    }
    cJSON *quote = cJSON_ParseWithLengthOpts(d->call.body, d->call.body_len + 1, NULL, true); /* nothing may follow it */
    int64_t price_cents = quoted_number(quote, "price_cents"), eta_minutes = quoted_number(quote, "eta_minutes");
    cJSON_Delete(quote);
    if (price_cents < 0 || eta_minutes < 0) {
        respond_problem(r, PROBLEM_COURIER_NONSENSE, "The courier's answer holds no quote.");
        return;
    }
    cJSON *json = cJSON_CreateObject();
    json_add_integer(json, "order_id", d->order.order.id);
    json_add_integer(json, "price_cents", price_cents);
    json_add_integer(json, "eta_minutes", eta_minutes);
    respond_field(r, "Cache-Control", "no-store");
    respond_json(r, 200, json);
}
