/* ops.c: the front door, and what an operator asks. */
#include "app.h"

#include <stdio.h>
#include <string.h>

/* ---- GET / ------------------------------------------------------------------------------------------------------------------------- */

/* Each line works as printed, in this order, in one shell. $URL stands for our address. */
static const char front[] =
    "Forno: a pizzeria and its bank. Everything here is yours to try.\n"
    "\n"
    "The bank\n"
    "  open an account, keep its token\n"
    "    TOKEN=$(curl -s $URL/accounts -H 'Content-Type: application/json' -d '{\"name\":\"Ana\"}' | sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/')\n"
    "  and one for a friend (in a fresh database, yours is number 1 and this is number 2)\n"
    "    curl $URL/accounts -H 'Content-Type: application/json' -d '{\"name\":\"Bia\"}'\n"
    "  your balance and your ledger\n"
    "    curl $URL/accounts/1 -H \"Authorization: Bearer $TOKEN\"\n"
    "    curl $URL/accounts/1/entries -H \"Authorization: Bearer $TOKEN\"\n"
    "  pay your friend; the key makes sure that it happens once\n"
    "    curl $URL/transfers -H \"Authorization: Bearer $TOKEN\" -H \"Idempotency-Key: $(date +%s%N)\" "
    "-H 'Content-Type: application/json' -d '{\"to\":2,\"amount_cents\":1500,\"note\":\"for the pizza\"}'\n"
    "\n"
    "The pizzeria\n"
    "  the menu\n"
    "    curl $URL/menu\n"
    "  order, and come back later\n"
    "    curl -i $URL/orders -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' -d '{\"flavor\":\"margherita\",\"pizzas\":1}'\n"
    "  look at it, and cancel it while it bakes\n"
    "    curl $URL/orders/1 -H \"Authorization: Bearer $TOKEN\"\n"
    "    curl -X DELETE $URL/orders/1 -H \"Authorization: Bearer $TOKEN\"\n"
    "  order, and wait for it\n"
    "    curl -i $URL/orders -H \"Authorization: Bearer $TOKEN\" -H 'Prefer: wait=5' -H 'Content-Type: application/json' "
    "-d '{\"flavor\":\"calabresa\",\"pizzas\":1}'\n"
    "  all your orders, and what happens to them, live\n"
    "    curl $URL/orders -H \"Authorization: Bearer $TOKEN\"\n"
    "    curl -N -m 10 $URL/orders/events -H \"Authorization: Bearer $TOKEN\"\n"
    "\n"
    "The courier, an external service\n"
    "    curl $URL/orders/1/delivery -H \"Authorization: Bearer $TOKEN\"\n"
    "\n"
    "The lab: three ways to wait, and a fourth that is a mistake\n"
    "    curl '$URL/lab/timer?ms=500'\n"
    "    curl '$URL/lab/thread?ms=500'\n"
    "    curl -H 'Accept: text/plain' '$URL/lab/socket?n=20&ms=300&mode=together'\n"
    "    curl -H 'Accept: text/plain' '$URL/lab/socket?n=20&ms=300&mode=limit&limit=5'\n"
    "    curl '$URL/lab/block?ms=500'\n"
    "    curl $URL/lab/lost-update\n"
    "\n"
    "The operator\n"
    "    curl $URL/loop\n"
    "    curl $URL/healthz\n"
    "    curl $URL/readyz\n"
    "    curl $URL/metrics\n"
    "    curl $URL/problems\n"
    "    curl $URL/openapi.json\n";

/* Host may hold quotes, $ and ; (RFC 3986 calls them sub-delims): nothing of that kind gets into a line meant for a shell. */
void address_used(const struct req *r, char *text, size_t size)
{
    struct slice host = http_field(&r->msg, "host");
    bool plain = host.at && host.len < size - 8;

    for (size_t i = 0; i < host.len && plain; i++) {
        char c = host.at[i];

        plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr(".-:[]", c);
    }
    snprintf(text, size, "http://%.*s", plain ? (int)host.len : 14, plain ? host.at : "localhost:8000");
}

static void put_menu(struct buf *out, const char *url)
{
    const char *p = front, *next;

    for (; (next = strstr(p, "$URL")); p = next + 4) {
        buf_put(out, p, (size_t)(next - p));
        buf_puts(out, url);
    }
    buf_puts(out, p);
}

void get_front(struct req *r)
{
    struct buf out = {0};
    char url[ADDRESS_SIZE];

    respond_field(r, "Vary", "Accept");
    if (prefers_html(r)) {
        respond_page(r);
        return;
    }
    r->viewer = false; /* the menu is for whoever asks, not for whoever watches */
    address_used(r, url, sizeof url);
    put_menu(&out, url);
    if (out.failed) respond_problem(r, PROBLEM_NO_MEMORY, NULL);
    else respond(r, 200, "text/plain; charset=utf-8", out.mem + out.start, buf_len(&out));
    buf_free(&out);
}

/* ---- the operator ---------------------------------------------------------------------------------------------------------------------- */

/* Answered by the loop itself: if this is slow, the loop is. */
void get_healthz(struct req *r)
{
    static const char text[] = "{\"status\":\"ok\"}\n";

    respond(r, 200, "application/json", text, sizeof text - 1);
}

static void database_pinged(struct req *r);

void get_readyz(struct req *r)
{
    struct db_ping *p;

    if (server_draining()) {
        respond_problem(r, PROBLEM_DRAINING, NULL);
        return;
    }
    p = req_alloc(r, sizeof *p);
    if (p) db_ping(p, await(r, database_pinged));
}

static void database_pinged(struct req *r)
{
    static const char text[] = "{\"status\":\"ready\"}\n";
    struct db_ping *p = req_state(r);

    if (p->job.rc == DB_OK) {
        respond(r, 200, "application/json", text, sizeof text - 1);
    } else if (p->job.rc == DB_DISK_FULL) {
        respond_problem(r, PROBLEM_DATABASE_BROKEN, "The disk is full."); /* whatever it is, not ready is 503 */
    } else {
        respond_db_problem(r, p->job.rc);
    }
}

static void metric(struct buf *out, const char *name, const char *type, const char *help, uint64_t value)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %llu\n", name, help, name, type, name, (unsigned long long)value);
}

void get_metrics(struct req *r)
{
    struct buf out = {0};
    struct db_stats db;
    struct upstream_stats up;

    db_stats(&db);
    upstream_stats(&up);
    trace_metrics(&out);
    metric(&out, "forno_db_queue_depth", "gauge", "Jobs waiting for the database worker.", db_queue_depth());
    metric(&out, "forno_db_busy", "gauge", "1 while the database worker is at work.", db_worker_busy());
    metric(&out, "forno_db_reads_total", "counter", "Reads done.", db.reads);
    metric(&out, "forno_db_writes_total", "counter", "Writes done, each in its own savepoint.", db.writes);
    metric(&out, "forno_db_batches_total", "counter", "Times that the worker took the whole queue.", db.batches);
    metric(&out, "forno_db_commits_total", "counter", "Commits; writes divided by commits is the mean group.", db.commits);
    metric(&out, "forno_db_group_max", "gauge", "The largest number of writes committed together.", db.group_max);
    metric(&out, "forno_db_refused_total", "counter", "Jobs refused because the queue was full.", db.refused);
    metric(&out, "forno_orders_baking", "gauge", "Orders in the oven, as far as this process has placed them.", orders_baking());
    metric(&out, "forno_upstream_active", "gauge", "Calls to the courier that are out now.", up.active);
    metric(&out, "forno_upstream_waiting", "gauge", "Calls that wait for one of those to end.", up.waiting);
    metric(&out, "forno_upstream_idle", "gauge", "Connections to the courier kept for the next call.", up.idle);
    metric(&out, "forno_upstream_calls_total", "counter", "Calls to the courier.", up.calls);
    metric(&out, "forno_upstream_failed_total", "counter", "Calls that brought no response.", up.failed);
    metric(&out, "forno_upstream_connects_total", "counter", "Connections to the courier attempted.", up.connects);
    metric(&out, "forno_upstream_reused_total", "counter", "Calls over a connection that was kept.", up.reused);
    metric(&out, "forno_upstream_retried_total", "counter", "Calls repeated because a kept connection had gone.", up.retried);
    respond_field(r, "Cache-Control", "no-store");
    if (out.failed) respond_problem(r, PROBLEM_NO_MEMORY, NULL);
    else respond(r, 200, "text/plain; version=0.0.4; charset=utf-8", out.mem + out.start, buf_len(&out));
    buf_free(&out);
}
