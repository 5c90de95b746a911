/* loopview.c: the loop, shown while it runs: GET /loop for a terminal, GET /loop/events for the page.
 *
 * The one who looks is part of what he looks at: his own requests are marked, and not counted among the others. */
#include "app/app.h"
#include "app/start.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>

/* ---- GET /loop: one screen of text -------------------------------------------------------------------------------------------- */

#define LANES_TOLD 16

const char *lane_state(const struct db_lane *l)
{
    static const char *const names[] = {[DB_LANE_IDLE] = "idle",
                                        [DB_LANE_SENDING] = "sending",
                                        [DB_LANE_WAITING] = "waiting",
                                        [DB_LANE_CONNECTING] = "connecting",
                                        [DB_LANE_BACKING_OFF] = "backing off"};

    return names[l->state];
}

/* What a worker is on the other road. */
static void print_lanes(struct buf *out)
{
    struct db_lane lanes[LANES_TOLD];
    size_t n = db_lanes(lanes, LANES_TOLD);

    for (size_t i = 0; i < n && i < LANES_TOLD; i++)
        buf_printf(out, "  %-10s%10zu   under way, %zu behind; %s%s, %s\n", lanes[i].name, lanes[i].jobs, lanes[i].waiting,
                   lane_state(&lanes[i]), lanes[i].state == DB_LANE_WAITING ? " for the Sync" : "", lanes[i].host);
}

static void print_alive(const struct req_told *t, void *out)
{
    buf_printf(out, "  %-24s %9.1f ms  %s()%s%s%s\n", t->r->route, (double)(clock_ns() - t->began_ns) / 1e6, t->step,
               t->what ? " will follow: it waits for " : "", t->what ? t->what : "", req_conn(t->r) ? "" : "; the client is gone");
}

void get_loop(struct req *r)
{
    struct buf out = {0};
    const struct upstream_stats *up = &upstream_stats;
    double lived_ns = (double)(counters.slept_ns + counters.worked_ns);
    char url[ADDRESS_SIZE];

    address_used(r, url, sizeof url);
    buf_printf(&out, "forno %s   watch -n1 curl -s %s/loop\n\n", FORNO_VERSION, url);
    buf_printf(&out, "laps        %10" PRIu64 "   %5.1f %% of the time asleep in epoll_wait\n", counters.laps,
               lived_ns > 0 ? (double)counters.slept_ns / lived_ns * 100 : 0);
    buf_printf(&out, "ready       %10" PRIu64 "   %5.2f descriptors a lap\n", counters.ready,
               counters.laps ? (double)counters.ready / (double)counters.laps : 0);
    buf_printf(&out, "answers     %10" PRIu64 "   and %" PRIu64 " to viewers like you\n", counters.answers,
               counters.viewer_answers);
    buf_printf(&out, "connections %10" PRIu64 "   accepted %" PRIu64 ", %zu descriptors in the interest list\n",
               counters.connections, counters.accepted, loop_watches());
    buf_printf(&out, "requests    %10" PRIu64 "   alive now\n", counters.requests);
    buf_printf(&out, "timers      %10zu   pending; %" PRIu64 " have fired\n", loop_timers(), counters.timers_fired);
    buf_printf(&out, "oven        %10zu   orders baking\n", orders_baking());
    buf_printf(&out, "database    %10zu   jobs in the queue, %s is %s; %" PRIu64 " completions over the eventfd\n",
               db_queue_depth(), db_lanes(NULL, 0) ? "it" : "the worker", db_worker_busy() ? "at work" : "idle",
               counters.completions);
    print_lanes(&out);
    buf_printf(&out, "courier     %10" PRIu64 "   calls out, %" PRIu64 " waiting, %" PRIu64 " idle connections\n", up->active,
               up->waiting, up->idle);
    buf_printf(&out, "stalls      %10" PRIu64 "\n\nwork in one lap\n", counters.stalls);
    trace_lap_bars(&out);
    buf_puts(&out, "\nrequests alive\n");
    reqs_tell(print_alive, &out, 12);
    respond_field(r, "Cache-Control", "no-store");
    respond_text(r, "text/plain; charset=utf-8", &out);
}

/* ---- GET /loop/events: what was recorded, ten times a second, while somebody watches and something happens ------------------------ */

#define TICK_NS (100 * NS_PER_MS)
#define REST_NS NS_PER_S /* while nothing is on its way: the loop should sleep, and who watches it should not keep it awake */
#define RECORDS_MAX 3000 /* in a tick: the ends of three samples (trace.c) */
#define BAKING_TOLD 100  /* of what is in the oven, a newcomer is told of so many, */
#define ALIVE_TOLD 40    /* and of so many requests: as many as a sample has */

struct viewer {
    struct waiter waiter;
    LIST_ENTRY(viewer) link;
    bool resting;
    struct lap_watch laps;
    uint64_t next; /* the record to go on with */
    int64_t due_ns;
    struct trace_counters counters; /* as they were at the last tick */
};

static LIST_HEAD(viewers, viewer) viewers;
static uint64_t viewers_len;

static void tick(struct req *r);

static void viewer_enter(struct viewer *v)
{
    LIST_INSERT_HEAD(&viewers, v, link);
    viewers_len++;
    trace_watched(true);
    trace_laps_watch(&v->laps);
}

static void viewer_leave(struct viewer *v)
{
    LIST_REMOVE(v, link);
    viewers_len--;
    trace_laps_unwatch(&v->laps);
    trace_watched(viewers_len > 0);
}

/* Nothing will happen, until somebody asks for something. */
static bool nothing_is_on_its_way(void)
{
    return counters.requests == viewers_len && !orders_baking() && !db_queue_depth() && !db_worker_busy() && !upstream_stats.active;
}

void loop_viewers_wake(void)
{
    for (struct viewer *v = LIST_FIRST(&viewers); v; v = LIST_NEXT(v, link)) {
        if (!v->resting || !timer_pending(&v->waiter.timer)) continue;
        v->resting = false;
        v->due_ns = loop_now_ns() + TICK_NS;
        timer_start(&v->waiter.timer, v->due_ns); /* sooner than it was: it is pending, so it cannot fail */
    }
}

static void wait_for_tick(struct req *r)
{
    struct viewer *v = req_state(r);

    wait_on_loop(&v->waiter, "timer", 0, v->due_ns, await(r, tick));
}

static int64_t trace_us(int64_t at_ns) /* of an instant on clock_ns(): when it was on the recording's clock */
{
    return (trace_clock_ns() - (clock_ns() - at_ns)) / 1000;
}

static cJSON *tell_row(void *list, int64_t number)
{
    cJSON *json = cJSON_CreateArray();

    json_append(json, json_integer(number));
    json_append(list, json);
    return json;
}

/* [order, what, from_us, due_us] */
static void tell_baking(const struct baking *b, void *list)
{
    cJSON *json = tell_row(list, b->order_id);

    json_append(json, cJSON_CreateString(b->what));
    json_append(json, json_integer(trace_us(b->began_ns)));
    json_append(json, json_integer(trace_us(b->due_ns)));
}

/* [req, conn, method and target, what it waits for, since_us] */
static void tell_alive(const struct req_told *t, void *list)
{
    struct slice method = http_method_text(&t->r->msg), target = http_target(&t->r->msg);
    char head[sizeof((struct trace_record *)0)->name];

    if (!t->what || t->r->viewer) return;
    cJSON *json = tell_row(list, t->r->recorded);
    snprintf(head, sizeof head, "%.*s %.*s", (int)method.len, method.at, (int)target.len, target.at);
    json_append(json, json_integer(req_conn(t->r)));
    json_append(json, cJSON_CreateString(head));
    json_append(json, cJSON_CreateString(t->what));
    json_append(json, json_integer(trace_us(t->since_ns)));
}

void get_loop_events(struct req *r)
{
    struct viewer *v = req_alloc(r, sizeof *v);
    struct buf text = {0};
    static uint32_t run; /* which process this is, among those that have been here */
    cJSON *hello;

    if (!v) return;
    if (!run) randombytes_buf(&run, sizeof run);
    events_open(r);
    if (r->msg.method == HTTP_HEAD) {
        stream_end(r);
        return;
    }
    hello = cJSON_CreateObject();
    cJSON_AddStringToObject(hello, "version", "forno " FORNO_VERSION);
    json_add_integer(hello, "run", run);
    cJSON_AddBoolToObject(hello, "blocking", app_options->blocking);
    cJSON_AddBoolToObject(hello, "own_courier", upstream_leads_home());
    cJSON_AddBoolToObject(hello, "lanes", db_lanes(NULL, 0) > 0);
    json_add_integer(hello, "tick_ms", TICK_NS / NS_PER_MS);
    json_add_integer(hello, "rest_ms", REST_NS / NS_PER_MS);
    json_add_integer(hello, "stall_ms", app_options->stall_ms);
    json_add_integer(hello, "conn", req_conn(r));
    r->recorded = 0; /* the telling itself is not told, but for its laps */
    viewer_enter(v);
    oven_tell(tell_baking, cJSON_AddArrayToObject(hello, "baking"), BAKING_TOLD);
    reqs_tell(tell_alive, cJSON_AddArrayToObject(hello, "alive"), ALIVE_TOLD);
    buf_puts(&text, "retry: 1000\n\n");
    put_event(&text, "hello", hello);
    stream_text(r, &text);
    trace_read(&v->next, NULL, 0, &(uint64_t){0}); /* he goes on from the newest */
    v->counters = counters;
    v->due_ns = clock_ns() + TICK_NS;
    wait_for_tick(r);
}

/* [at_us, kind, req, conn, name, value]; durations in µs, but for the oven's, which are in ms. */
static cJSON *record_json(const struct trace_record *t)
{
    /* clang-format off */
    static const char *const kinds[] = {
        [TRACE_WOKE] = "woke", [TRACE_READY] = "ready", [TRACE_SLEEP] = "sleep", [TRACE_ACCEPT] = "accept",
        [TRACE_CLOSED] = "closed", [TRACE_BYTES] = "bytes", [TRACE_HEAD] = "head", [TRACE_STEP] = "step", [TRACE_WAIT] = "wait",
        [TRACE_QUEUED] = "queued", [TRACE_WOKEN] = "woken", [TRACE_ANSWER] = "answer", [TRACE_FLUSHED] = "flushed",
        [TRACE_DISCARDED] = "discarded", [TRACE_BAKE] = "bake", [TRACE_BAKED] = "baked", [TRACE_TAKEN_BACK] = "taken back"};
    /* clang-format on */
    cJSON *json = cJSON_CreateArray();
    int64_t value = t->value;

    switch (t->kind) {
    case TRACE_WOKE:
    case TRACE_SLEEP:
    case TRACE_STEP:
    case TRACE_QUEUED:
    case TRACE_WOKEN: value /= 1000; break;
    case TRACE_BAKE: value /= NS_PER_MS; break;
    }
    json_append(json, json_integer(t->at_ns / 1000));
    json_append(json, cJSON_CreateString(kinds[t->kind]));
    json_append(json, json_integer(t->req));
    json_append(json, json_integer(t->conn));
    json_append(json, cJSON_CreateString(t->name));
    json_append(json, json_integer(value));
    return json;
}

static void put_number(cJSON *json, const char *name, uint64_t value)
{
    json_add_integer(json, name, (int64_t)value);
}

/* [name, state, jobs under way, jobs behind]. Of a database that is a file there are none. */
static void tell_lanes(cJSON *json)
{
    struct db_lane lanes[LANES_TOLD];
    size_t n = db_lanes(lanes, LANES_TOLD);
    cJSON *list = n ? cJSON_AddArrayToObject(json, "lanes") : NULL;

    for (size_t i = 0; i < n && i < LANES_TOLD; i++) {
        cJSON *lane = cJSON_CreateArray();

        json_append(lane, cJSON_CreateString(lanes[i].name));
        json_append(lane, cJSON_CreateString(lane_state(&lanes[i])));
        json_append(lane, json_integer((int64_t)lanes[i].jobs));
        json_append(lane, json_integer((int64_t)lanes[i].waiting));
        json_append(list, lane);
    }
}

/* What has happened since the last tick, and how things are now. */
static cJSON *tick_json(struct viewer *v)
{
    static struct trace_record records[RECORDS_MAX];
    uint64_t lost;
    cJSON *json = cJSON_CreateObject(), *list;
    const struct trace_counters *was = &v->counters;

    size_t n = trace_read(&v->next, records, RECORDS_MAX, &lost);
    v->counters.skipped -= lost; /* he alone has missed these */
    v->resting = nothing_is_on_its_way();
    put_number(json, "next_ms", (uint64_t)((v->resting ? REST_NS : TICK_NS) / NS_PER_MS));
    put_number(json, "at_us", (uint64_t)(trace_clock_ns() / 1000));
    put_number(json, "worked_us", (counters.worked_ns - was->worked_ns) / 1000);
    put_number(json, "slept_us", (counters.slept_ns - was->slept_ns) / 1000);
    put_number(json, "longest_lap_us", (uint64_t)trace_laps_longest(&v->laps) / 1000);
#define NUMBER(member, type, ...) put_number(json, #member, counters.member - (*#type == 'g' ? 0 : was->member));
    COUNTERS(NUMBER)
#undef NUMBER
    put_number(json, "watches", loop_watches());
    put_number(json, "timers", loop_timers());
    put_number(json, "db_queue", db_queue_depth());
    cJSON_AddBoolToObject(json, "db_busy", db_worker_busy());
    tell_lanes(json);
    put_number(json, "baking", orders_baking());
    put_number(json, "upstream_active", upstream_stats.active);
    put_number(json, "upstream_waiting", upstream_stats.waiting);
    put_number(json, "upstream_idle", upstream_stats.idle);
    list = cJSON_AddArrayToObject(json, "records");
    for (size_t i = 0; i < n; i++) json_append(list, record_json(&records[i]));
    v->counters = counters;
    v->laps.longest_ns = 0;
    return json;
}

static void tick(struct req *r)
{
    struct viewer *v = req_state(r);
    struct buf text = {0};

    put_event(&text, "tick", tick_json(v));
    if (stream_text(r, &text) && !req_cut_short(r)) {
        int64_t step_ns = v->resting ? REST_NS : TICK_NS;

        v->due_ns += step_ns; /* trap: timer drift. The next one is due by the clock, not after this one */
        if (v->due_ns < clock_ns()) v->due_ns = clock_ns() + step_ns;
        wait_for_tick(r);
        return;
    }
    if (server_draining()) stream_put(r, "event: bye\ndata: {}\n\n", 21);
    viewer_leave(v);
    stream_end(r);
}
