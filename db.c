/* db.c: what can be asked of a database, and the road that the question takes. Who asks cannot tell which one that was. */
#include "db.h"

#include "ledger/road.h"
#include "reactor/loop.h"

static const struct road *road = &sqlite_road;
static void (*on_change)(void);

static void ask(enum db_what what, struct db_job *job, struct op *op)
{
    *job = (struct db_job){.what = what};
    op->what = "db";
    road->submit(job, op);
}

/* clang-format off */
void db_open_account(struct db_account *a, struct op *op) { ask(DB_OPEN_ACCOUNT, &a->job, op); }
void db_get_account(struct db_account *a, struct op *op) { ask(DB_GET_ACCOUNT, &a->job, op); }
void db_authenticate(struct db_account *a, struct op *op) { ask(DB_AUTHENTICATE, &a->job, op); }
void db_list_entries(struct db_entries *e, struct op *op) { ask(DB_LIST_ENTRIES, &e->job, op); }
void db_transfer(struct db_transfer *t, struct op *op) { ask(DB_TRANSFER_MONEY, &t->job, op); }
void db_place_order(struct db_order *o, struct op *op) { ask(DB_PLACE_ORDER, &o->job, op); }
void db_get_order(struct db_order *o, struct op *op) { ask(DB_GET_ORDER, &o->job, op); }
void db_cancel_order(struct db_order *o, struct op *op) { ask(DB_CANCEL_ORDER, &o->job, op); }
void db_list_orders(struct db_orders *l, struct op *op) { ask(DB_LIST_ORDERS, &l->job, op); }
void db_order_events(struct db_events *e, struct op *op) { ask(DB_ORDER_EVENTS, &e->job, op); }
void db_ping(struct db_ping *p, struct op *op) { ask(DB_PING, &p->job, op); }
void db_slow_query(struct db_slow *s, struct op *op) { ask(DB_SLOW_QUERY, &s->job, op); }

int db_open(const struct db_options *options, char *error, size_t error_size) { return road->open(options, error, error_size); }
void db_close(void) { road->close(); }
int db_audit(const char *path, FILE *out) { return road->audit(path, out); }
size_t db_queue_depth(void) { return road->waiting(); }
bool db_worker_busy(void) { return road->busy(); }
void db_stats(struct db_stats *stats) { road->stats(stats); }
/* clang-format on */

void db_on_change(void (*changed)(void))
{
    on_change = changed;
}

void db_changed(void)
{
    if (on_change) on_change();
}

void db_listen(int64_t until_ns)
{
    if (on_change) road->listen(until_ns);
}

enum order_status order_status(const struct order *o, int64_t now_ms)
{
    if (o->cancelled_at_ms) return ORDER_CANCELLED;
    return o->ready_at_ms <= now_ms ? ORDER_READY : ORDER_BAKING;
}
