/* ops.c: the front door, and what an operator asks. */
#include "app/app.h"
#include "app/routes.h"

#include <stdio.h>
#include <string.h>

/* ---- GET / ------------------------------------------------------------------------------------------------------------------------- */

/* Host may hold quotes, $ and ; (RFC 3986 calls them sub-delims): nothing of that kind gets into a line meant for a shell. No scheme:
 * whether a proxy before us speaks TLS we do not know, and curl does without. */
void address_used(const struct req *r, char *text, size_t size)
{
    struct slice host = http_host(&r->msg);
    bool plain = host.at && host.len < size;

    for (size_t i = 0; i < host.len && plain; i++) {
        char c = host.at[i];

        plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr(".-:[]", c);
    }
    snprintf(text, size, "%.*s", plain ? (int)host.len : 14, plain ? host.at : "localhost:8000");
}

void get_front(struct req *r)
{
    struct buf out = {0};
    char url[ADDRESS_SIZE];

    respond_field(r, "Vary", "Accept");
    if (prefers(r, "text/html", "text/plain")) {
        get_page_file(r);
        return;
    }
    r->viewer = false; /* the menu is for whoever asks, not for whoever watches */
    address_used(r, url, sizeof url);
    put_menu(&out, r, url);
    respond_text(r, "text/plain; charset=utf-8", &out);
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

/* The connections to a database that is no file. */
static void put_lanes(struct buf *out)
{
    struct db_lane lanes[16];
    size_t n = db_lanes(lanes, 16);

    if (n)
        buf_puts(out,
                 "# HELP forno_db_lane_jobs Jobs under way on a connection to the database.\n# TYPE forno_db_lane_jobs gauge\n");
    for (size_t i = 0; i < n && i < 16; i++)
        buf_printf(out, "forno_db_lane_jobs{lane=\"%s\",state=\"%s\"} %zu\n", lanes[i].name, lane_state(&lanes[i]), lanes[i].jobs);
}

void get_metrics(struct req *r)
{
    struct buf out = {0};
    struct db_stats db;

    db_stats(&db);
    trace_metrics(&out);
    put_metric(&out, "db_queue_depth", "gauge", "Jobs waiting for the database worker.", db_queue_depth());
    put_metric(&out, "db_busy", "gauge", "1 while the database worker is at work.", db_worker_busy());
    put_metric(&out, "orders_baking", "gauge", "Orders in the oven, as far as this process has placed them.", orders_baking());
    put_metric(&out, "db_reads_total", "counter", "Reads done.", db.reads);
    put_metric(&out, "db_writes_total", "counter", "Writes done, each in its own savepoint.", db.writes);
    put_metric(&out, "db_batches_total", "counter", "Times that the worker took the whole queue.", db.batches);
    put_metric(&out, "db_commits_total", "counter", "Commits; writes divided by commits is the mean group.", db.commits);
    put_metric(&out, "db_group_max", "gauge", "The largest number of writes committed together.", db.group_max);
    put_metric(&out, "db_refused_total", "counter", "Jobs refused because the queue was full.", db.refused);
#define METRIC(member, type, help) put_metric(&out, "upstream_" #member IS_##type, #type, help, upstream_stats.member);
#define IS_gauge ""
#define IS_counter "_total"
    UPSTREAM_STATS(METRIC)
    put_lanes(&out);
    respond_field(r, "Cache-Control", "no-store");
    respond_text(r, "text/plain; version=0.0.4; charset=utf-8", &out);
}
