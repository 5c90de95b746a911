/* orders.c: the pizzeria. It takes the next order while the last one bakes.
 *
 * An order's fate is fixed in the database when it is placed: nothing here has to happen for a pizza to become ready. What is
 * kept here is only who is waiting: for the time to pass, or for a knock. Whoever is woken looks in the database again. */
#include "app/app.h"
#include "app/start.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIZZAS_MAX 1000

/* A real oven has a size; ours does not: the lesson is the waiting. */
/* clang-format off */
static const struct pizza {
    const char *flavor;
    int64_t price_cents, bake_ms;
} menu[] = {
    {"margherita", 3500, 3000},
    {"calabresa", 3800, 3000},
    {"portuguesa", 4200, 4000},
    {"quatro-queijos", 4500, 3500},
    {"frango-com-catupiry", 4400, 4000},
    {"napolitana", 3900, 3500},
};
/* clang-format on */

#define FLAVORS (sizeof menu / sizeof *menu)

static int64_t bake_ms(const struct pizza *p)
{
    return app_options->bake_ms >= 0 ? app_options->bake_ms : p->bake_ms;
}

/* Something has happened to an order: tell whoever waits for it, and whoever watches the account's orders. */
static void order_changed(int64_t id, int64_t account_id)
{
    knock(id);
    knock(-account_id);
}

/* Another process has changed this order, or something. */
static void changed_elsewhere(int64_t order_id, int64_t account_id)
{
    if (order_id) order_changed(order_id, account_id);
    else knock_everywhere();
}

/* ---- the oven ---------------------------------------------------------------------------------------------------------------------- */

/* A pizza that bakes, seen from here: a timer, and a knock when it is due. It is a courtesy to whoever waits or watches: what
 * makes the pizza ready is the clock, so after a restart nothing is missing but this, and beyond a bound it is left out. */
#define OVEN_SEEN 10000

struct bake {
    struct timer timer;
    int64_t order_id, account_id, began_ns;
    bool told; /* it is in the recording */
    char what[40];
    LIST_ENTRY(bake) beside;
};

static LIST_HEAD(shelf, bake) oven[1024];
static size_t baking;

size_t orders_baking(void)
{
    return baking;
}

static struct shelf *shelf_of(int64_t order_id)
{
    return &oven[(uint64_t)order_id % (sizeof oven / sizeof *oven)];
}

static void oven_remove(struct bake *b)
{
    LIST_REMOVE(b, beside);
    baking--;
    free(b);
}

static void pizza_ready(struct timer *t)
{
    struct bake *b = HOLDER(bake, timer, t);

    if (b->told) trace(TRACE_BAKED, (uint32_t)b->order_id, 0, NULL, 0);
    order_changed(b->order_id, b->account_id);
    oven_remove(b);
}

static void oven_bake(const struct order *o, int64_t due_ns)
{
    struct bake *b = baking < OVEN_SEEN ? malloc(sizeof *b) : NULL;

    if (!b) return;
    *b = (struct bake){
        .timer.fired = pizza_ready, .order_id = o->id, .account_id = o->account_id, .began_ns = clock_ns(), .told = trace_order()};
    if (!timer_start(&b->timer, due_ns)) {
        free(b);
        return;
    }
    LIST_INSERT_HEAD(shelf_of(o->id), b, beside);
    baking++;
    snprintf(b->what, sizeof b->what, "%" PRId64 " × %s", o->pizzas, o->flavor);
    if (b->told) trace(TRACE_BAKE, (uint32_t)o->id, 0, b->what, due_ns - b->began_ns);
}

void oven_tell(void (*tell)(const struct baking *b, void *to), void *to, unsigned max)
{
    for (size_t i = 0; i < sizeof oven / sizeof *oven; i++) {
        for (struct bake *b = LIST_FIRST(&oven[i]); b && max; b = LIST_NEXT(b, beside), max--) {
            b->told = true;
            tell(&(struct baking){.order_id = b->order_id, .what = b->what, .began_ns = b->began_ns, .due_ns = b->timer.due_ns},
                 to);
        }
    }
}

static void oven_take_back(int64_t order_id)
{
    struct bake *b = LIST_FIRST(shelf_of(order_id));

    while (b && b->order_id != order_id) b = LIST_NEXT(b, beside);
    if (!b) return;
    timer_cancel(&b->timer);
    if (b->told) trace(TRACE_TAKEN_BACK, (uint32_t)order_id, 0, NULL, 0);
    oven_remove(b);
}

/* ---- GET /menu --------------------------------------------------------------------------------------------------------------------- */

static struct page menu_page = {.type = "application/json"};

void orders_start(void)
{
    db_on_change(changed_elsewhere);
    cJSON *json = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(json, "pizzas");

    for (size_t i = 0; i < FLAVORS; i++) {
        cJSON *pizza = cJSON_CreateObject();

        cJSON_AddStringToObject(pizza, "flavor", menu[i].flavor);
        json_add_integer(pizza, "price_cents", menu[i].price_cents);
        json_add_integer(pizza, "bake_ms", bake_ms(&menu[i]));
        json_append(list, pizza);
    }
    if (!page_of_json(&menu_page, json)) abort(); /* out of memory before the first customer */
}

void get_menu(struct req *r)
{
    respond_unchanging(r, &menu_page);
}

/* ---- one order: place it, look at it, wait for it ------------------------------------------------------------------------------------ */

struct order_state {
    struct db_order order;
    struct waiter waiter;
    struct look *look; /* being taken */
    int64_t wait_s;    /* Prefer: wait=N; -1: none */
    int64_t until_ns;  /* when that is over */
    bool placing;      /* POST: 201 or 202; GET: 200 */
};

static const char *status_name(enum order_status s)
{
    static const char *const names[] = {[ORDER_BAKING] = "baking", [ORDER_READY] = "ready", [ORDER_CANCELLED] = "cancelled"};

    return names[s];
}

cJSON *order_json(const struct order *o, enum order_status status, int64_t now_ms)
{
    cJSON *json = cJSON_CreateObject();
    char text[INSTANT_SIZE];

    json_add_integer(json, "id", o->id);
    cJSON_AddStringToObject(json, "status", status_name(status));
    cJSON_AddStringToObject(json, "flavor", o->flavor);
    json_add_integer(json, "pizzas", o->pizzas);
    json_add_integer(json, "price_cents", o->price_cents);
    cJSON_AddStringToObject(json, "placed_at", instant(text, o->placed_at_ms));
    cJSON_AddStringToObject(json, "ready_at", instant(text, o->ready_at_ms));
    json_add_integer(json, "ready_in_ms", status == ORDER_BAKING ? o->ready_at_ms - now_ms : 0);
    if (status == ORDER_CANCELLED) cJSON_AddStringToObject(json, "cancelled_at", instant(text, o->cancelled_at_ms));
    return json;
}

static void order_answer(struct req *r)
{
    struct order_state *s = req_state(r);
    const struct order *o = &s->order.order;
    enum order_status status = order_status(o, s->order.now.ms);
    int http_status = !s->placing ? 200 : status == ORDER_READY ? 201 : 202;
    int64_t left_ms = o->ready_at_ms - s->order.now.ms;

    if (s->placing) respond_field(r, "Location", "/orders/%" PRId64, o->id);
    if (s->placing && s->order.replayed) respond_field(r, "Idempotent-Replayed", "true");
    if (s->wait_s >= 0) respond_field(r, "Preference-Applied", "wait=%" PRId64, s->wait_s);
    if (status == ORDER_BAKING) respond_field(r, "Retry-After", "%" PRId64, (left_ms + 999) / 1000);
    respond_field(r, "Cache-Control", "no-store");
    respond_json(r, http_status, order_json(o, status, s->order.now.ms));
}

static step_fn order_awaited, order_looked_at;

/* The order is known as it was a moment ago: answer, or wait and look again. */
static void order_show(struct req *r)
{
    struct order_state *s = req_state(r);
    const struct order *o = &s->order.order;
    int64_t due_ns = ns_of(o->ready_at_ms, s->order.now);

    if (s->wait_s < 0 || order_status(o, s->order.now.ms) != ORDER_BAKING || clock_ns() >= s->until_ns || req_cut_short(r)) {
        order_answer(r);
        return;
    }
    if (due_ns > s->until_ns) due_ns = s->until_ns;
    db_listen(due_ns);
    wait_for(&s->waiter, "oven", o->id, due_ns, await(r, order_awaited));
}

static void order_fetched(struct req *r)
{
    struct order_state *s = req_state(r);

    if (s->order.job.rc == DB_OK) order_show(r);
    /* Placed it is, and paid, whatever has become of this look: the answer is what was known before. */
    else if (s->placing) order_answer(r);
    else respond_db_problem(r, s->order.job.rc);
}

/* A look at an order that any number wait for. */
struct look {
    struct question question;
    struct db_order order;
};

static void look_ask(struct question *q)
{
    db_get_order(&HOLDER(look, question, q)->order, &q->op);
}

static void order_awaited(struct req *r)
{
    struct order_state *s = req_state(r);
    int64_t id = s->order.order.id;

    if (!req_conn(r)) { /* nobody wants to know any more */
        order_answer(r);
        return;
    }
    wait_heed(&s->waiter, id);
    s->look = (struct look *)(void *)question_find(id, NULL, NULL);
    if (!s->look && (s->look = calloc(1, sizeof *s->look))) {
        s->look->order.token = s->order.token; /* they have all shown it, or they would not be waiting for this order */
        s->look->order.order.id = id;
        question_begin(&s->look->question, id, look_ask);
    }
    if (s->look) question_join(&s->look->question, await(r, order_looked_at));
    else db_get_order(&s->order, await(r, order_fetched));
}

static void order_looked_at(struct req *r)
{
    struct order_state *s = req_state(r);
    struct look *l = s->look;

    s->order.job.rc = l->order.job.rc;
    if (l->order.job.rc == DB_OK) {
        s->order.order = l->order.order;
        s->order.now = l->order.now;
    }
    if (question_leave(&l->question)) free(l);
    order_fetched(r);
}

static struct order_state *order_begin(struct req *r)
{
    struct order_state *s = req_alloc(r, sizeof *s);

    if (!s) return NULL;
    s->order.token = bearer_token(r);
    s->wait_s = prefer_wait(r);
    if (app_options->blocking && s->wait_s > STAND_STILL_MAX_S) s->wait_s = STAND_STILL_MAX_S;
    s->until_ns = clock_ns() + s->wait_s * NS_PER_S;
    return s;
}

void get_order(struct req *r)
{
    struct order_state *s = order_begin(r);

    if (!s) return;
    s->order.order.id = param_id(r);
    wait_heed(&s->waiter, s->order.order.id);
    db_get_order(&s->order, await(r, order_fetched));
}

static void order_placed(struct req *r);

static const struct pizza *pizza_named(const char *flavor)
{
    for (size_t i = 0; i < FLAVORS; i++) {
        if (strcmp(menu[i].flavor, flavor) == 0) return &menu[i];
    }
    return NULL;
}

static bool order_from_json(struct req *r, struct db_order *o)
{
    const struct json_member members[] = {
        {.name = "flavor",
         .required = true,
         .text = o->order.flavor,
         .text_size = sizeof o->order.flavor,
         .min = 1,
         .max = DB_FLAVOR_MAX},
        {.name = "pizzas", .required = true, .number = &o->order.pizzas, .min = 1, .max = PIZZAS_MAX},
    };
    if (!json_read(r, members, 2)) return false;

    const struct pizza *pizza = pizza_named(o->order.flavor);
    if (!pizza) return refuse(r, PROBLEM_INVALID_BODY, "There is no pizza of this \"flavor\". GET /menu lists what there is.");
    o->order.price_cents = pizza->price_cents * o->order.pizzas;
    o->bake_ms = bake_ms(pizza) * o->order.pizzas;
    return true;
}

void post_order(struct req *r)
{
    struct order_state *s = order_begin(r);

    if (!s) return;
    s->placing = true;
    if (!idempotency_key(r, false, &s->order.key)) return;
    if (!order_from_json(r, &s->order)) return;
    db_place_order(&s->order, await(r, order_placed));
}

/* It is paid and will bake, whether or not the client is still there. */
static void order_placed(struct req *r)
{
    struct order_state *s = req_state(r);
    struct db_order *o = &s->order;

    if (o->job.rc != DB_OK) {
        if (o->replayed) respond_field(r, "Idempotent-Replayed", "true");
        respond_db_problem(r, o->job.rc);
        return;
    }
    if (!o->replayed) {
        oven_bake(&o->order, ns_of(o->order.ready_at_ms, o->now));
        order_changed(o->order.id, o->order.account_id);
    }
    wait_heed(&s->waiter, o->order.id); /* whoever cancels it does so after us: their answers come in the order of their commits */
    /* The first answer again: the order as it was when it was placed. Whoever waits wants to know how it is now. */
    if (o->replayed && s->wait_s < 0) {
        o->now.ms = o->order.placed_at_ms;
        o->order.cancelled_at_ms = 0;
    }
    order_show(r);
}

/* ---- DELETE /orders/{id} ---------------------------------------------------------------------------------------------------------------- */

static void order_cancelled(struct req *r);

void delete_order(struct req *r)
{
    struct order_state *s = order_begin(r);

    if (!s) return;
    s->wait_s = -1;
    s->order.order.id = param_id(r);
    db_cancel_order(&s->order, await(r, order_cancelled));
}

static void order_cancelled(struct req *r)
{
    struct order_state *s = req_state(r);

    if (db_said_no(r, s->order.job.rc)) return;
    oven_take_back(s->order.order.id);
    order_changed(s->order.order.id, s->order.order.account_id);
    order_answer(r);
}

/* ---- GET /orders --------------------------------------------------------------------------------------------------------------------------- */

static void orders_fetched(struct req *r);

void get_orders(struct req *r)
{
    struct db_orders *l = req_alloc(r, sizeof *l);
    struct slice status = query_param(r, "status");
    int64_t limit;

    if (!l) return;
    if (!query_number(r, "limit", 20, 1, 100, &limit)) return;
    if (!query_number(r, "before", 0, 1, INT64_MAX, &l->before)) return;
    l->filtered = status.at != NULL;
    while (l->filtered && l->status <= ORDER_CANCELLED && !slice_is(status, status_name(l->status))) l->status++;
    if (l->status > ORDER_CANCELLED) {
        refuse(r, PROBLEM_BAD_PARAMETER, "\"status\" must be baking, ready or cancelled.");
        return;
    }
    l->limit = (size_t)limit;
    l->rows = req_alloc(r, l->limit * sizeof *l->rows);
    if (!l->rows) return;
    l->token = bearer_token(r);
    db_list_orders(l, await(r, orders_fetched));
}

static void orders_fetched(struct req *r)
{
    struct db_orders *l = req_state(r);
    char query[32] = "";

    if (db_said_no(r, l->job.rc)) return;
    cJSON *json = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(json, "orders");
    for (size_t i = 0; i < l->count; i++)
        json_append(list, order_json(&l->rows[i], order_status(&l->rows[i], l->now.ms), l->now.ms));
    if (l->filtered) snprintf(query, sizeof query, "status=%s&", status_name(l->status));
    json_next(r, json, "/orders", query, (int64_t)l->limit, l->more, l->count ? l->rows[l->count - 1].id : 0);
    respond_field(r, "Cache-Control", "no-store");
    respond_json(r, 200, json);
}
