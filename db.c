/* db.c: what can be asked of a database, and the road that the question takes. Who asks cannot tell which one that was. */
#include "db.h"

#include "ledger/road.h"
#include "reactor/loop.h"

#include <string.h>

static const struct road *road = &sqlite_road;
static void (*on_change)(int64_t order_id, int64_t account_id);

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* By the form of what --db says. NULL: it is the URL of something else. */
static const struct road *road_to(const char *path)
{
    if (begins(path, "postgresql://") || begins(path, "postgres://")) return &postgres_road;
    return strstr(path, "://") ? NULL : &sqlite_road;
}

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

void db_close(void) { road->close(); }
size_t db_queue_depth(void) { return road->waiting(); }
bool db_worker_busy(void) { return road->busy(); }
void db_stats(struct db_stats *stats) { road->stats(stats); }
size_t db_lanes(struct db_lane *lanes, size_t max) { return road->lanes ? road->lanes(lanes, max) : 0; }
/* clang-format on */

void db_slow_query(struct db_slow *s, struct op *op)
{
    s->rows = 0;
    s->left_ms = s->ms;
    ask(DB_SLOW_QUERY, &s->job, op);
}

static const char no_road[] = "the database can be a file, or the URL of a PostgreSQL: postgresql://USER@HOST/DATABASE";

int db_open(const struct db_options *options, char *error, size_t error_size)
{
    const struct road *to = road_to(options->path);

    if (to) return (road = to)->open(options, error, error_size);
    snprintf(error, error_size, "%s", no_road);
    return -1;
}

int db_audit(const char *path, FILE *out)
{
    const struct road *to = road_to(path);

    if (to) return to->audit(path, out);
    fprintf(out, "%s\n", no_road);
    return 1;
}

void db_on_change(void (*changed)(int64_t order_id, int64_t account_id))
{
    on_change = changed;
}

void db_changed(int64_t order_id, int64_t account_id)
{
    if (on_change) on_change(order_id, account_id);
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
