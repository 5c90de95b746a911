/* postgres.c: the native road: PostgreSQL in the loop.
 *
 * libpq need not block: a connection is one more descriptor in the same epoll, and no thread waits for anything. It owns the lanes (lane.c), what
 * waits for each, and what is sent together. The subtle thing is the group: what waits when a lane is free is sent at once, with one Sync
 * behind it. The server makes one transaction of that and writes its log to the disk once, for everybody in it; and nobody is told before the
 * Sync is back. What becomes of a group whose lane breaks is decided here: it is sent again where that is harmless. */
#include "ledger/postgres.h"

#include "ledger/road.h"
#include "reactor/loop.h"
#include "text/embed.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WRITE_LANES 2 /* measured with 64 customers: 1 lane 5,100 orders a second, 2: 9,100, 8: 9,600 */
#define LANES (PG_WRITES + WRITE_LANES)
#define PATIENCE_NS (5 * NS_PER_S) /* for which a job waits for better times */
/* Trap: nobody confirms. When commits wait for a standby, and there is none any more, they wait for ever: it takes a deadline. */
#define ANSWER_NS (4 * NS_PER_S) /* for which a group waits for the Sync */
#define LOCK_NS (2 * NS_PER_S)   /* lock_timeout, see SESSION in postgres.sql */
#define LOOK_NS NS_PER_S         /* how often we look what others have changed, when they cannot tell us */

EMBED(postgres_sql, "ledger/postgres.sql");

static struct {
    struct lane lanes[LANES];
    struct queue {
        struct ops ops;
        struct op *group[LANE_GROUP_MAX]; /* under way */
        size_t group_len;
        int64_t sent_ns;
        bool doubt; /* what was last written there, has failed: whether one can write, a ping has to try out */
    } queues[LANES];
    size_t group_max;
    struct timer patience;
    bool open;
    struct db_stats stats;
} road;

/* What stands in postgres.sql under a name. */
char *pg_text(const char *name)
{
    char line[64];

    snprintf(line, sizeof line, "-- name: %s\n", name);
    const char *at = strstr(postgres_sql, line), *next = at ? strstr(at + 1, "\n-- name: ") : NULL;
    return at ? strndup(at, (size_t)((next ? next : postgres_sql_end) - at)) : NULL;
}

static struct queue *queue_of(const struct lane *l)
{
    return &road.queues[l - road.lanes];
}

static bool is_write(const struct db_job *job)
{
    return pg_operations[job->what].way == PG_WRITES;
}

/* ---- what waits ------------------------------------------------------------------------------------------------------------------------------ */

static struct db_job *job_of(const struct op *op)
{
    return op->owner;
}

static void queue_push(struct queue *q, struct op *op)
{
    if (!timer_pending(&road.patience)) timer_start(&road.patience, loop_now_ns() + PATIENCE_NS);
    ops_push(&q->ops, op);
}

static void queue_put_back(struct queue *q, struct op *op)
{
    if (!timer_pending(&road.patience)) timer_start(&road.patience, loop_now_ns() + PATIENCE_NS / 50);
    if (!q->ops.first) q->ops.last = &op->next;
    op->next = q->ops.first;
    q->ops.first = op;
    q->ops.count++;
}

/* By way of the loop: whoever is told may ask something, and would not be heard in the middle of a lane's end. */
static void give_up(struct op *op, enum db_rc rc)
{
    job_of(op)->rc = rc;
    op->next = NULL;
    loop_post(op);
}

/* Has it waited for too long? While its lane goes on answering, a queue is only a queue. */
static bool out_of_patience(const struct db_job *job, const struct lane *l, int64_t now_ns)
{
    int64_t since_ns = job->tries || l->answered_ns < job->asked_ns ? job->asked_ns : l->answered_ns;

    return now_ns - since_ns >= PATIENCE_NS;
}

static void patience_over(struct timer *t)
{
    int64_t now_ns = loop_now_ns();
    bool more = false;

    for (struct lane *l = road.lanes; l < road.lanes + LANES; l++) {
        struct queue *q = queue_of(l);

        while (q->ops.first && out_of_patience(job_of(q->ops.first), l, now_ns)) {
            struct op *op = ops_take(&q->ops);

            give_up(op, job_of(op)->doubtful ? DB_UNKNOWN : DB_UNREACHABLE);
        }
        more = more || q->ops.first;
    }
    if (more) timer_start(t, now_ns + PATIENCE_NS / 50);
}

static int trouble_of(size_t writer)
{
    return 2 * road.queues[PG_WRITES + writer].doubt + (road.lanes[PG_WRITES + writer].state >= DB_LANE_CONNECTING);
}

/* A customer's writes all go by the same lane: two lanes would wait for each other at his account. Ready is only who can serve everybody: so
 * it is the worst lane that is pinged. */
static struct lane *lane_for(const struct db_job *job)
{
    enum pg_way way = pg_operations[job->what].way;
    size_t i = 0;

    if (job->what == DB_PING) {
        for (size_t k = 1; k < WRITE_LANES; k++) i = trouble_of(k) > trouble_of(i) ? k : i;
    } else if (way == PG_WRITES) {
        i = pg_hash(job)[0] % WRITE_LANES;
    }
    return &road.lanes[way + i];
}

static void submit(struct db_job *job, struct op *op)
{
    struct lane *l = lane_for(job);

    op->owner = job;
    job->asked_ns = loop_now_ns();
    bool full = op->first && queue_of(l)->ops.count >= DB_QUEUE_MAX;
    if (full || (!l->opened && !lane_open(l))) {
        road.stats.refused += full;
        give_up(op, full ? DB_QUEUE_FULL : DB_NO_MEMORY); /* trap: completing inside the call that started it */
        return;
    }
    queue_push(queue_of(l), op);
}

/* ---- groups ---------------------------------------------------------------------------------------------------------------------------------- */

/* Trap: groups that deadlock. Two processes with the same customers each hold an account that the other waits for, unless both lock them in the
 * same order: that of the hashes. What comes with the same hash stays in its order. */
static void sort_group(struct queue *q)
{
    for (size_t i = 1; i < q->group_len; i++) {
        struct op *op = q->group[i];
        size_t at = i;

        for (; at && memcmp(pg_hash(job_of(q->group[at - 1])), pg_hash(job_of(op)), 32) > 0; at--) q->group[at] = q->group[at - 1];
        q->group[at] = op;
    }
}

static void send_group(struct lane *l)
{
    struct queue *q = queue_of(l);
    enum pg_way way = (enum pg_way)(l - road.lanes);
    size_t most = way == PG_NEWS || way == PG_SLOW ? 1 : way == PG_READS ? LANE_GROUP_MAX : road.group_max;

    if (!lane_idle(l) || !q->ops.first) return;
    q->group_len = 0;
    while (q->ops.first && q->group_len < most) {
        const struct db_job *job = job_of(q->ops.first);
        /* A ping has no hash to be sorted by. And who was in a group that failed: whoever made it fail takes nobody along once more. */
        bool alone = pg_operations[job->what].alone || job->what == DB_PING || job->tries;

        if (alone && q->group_len) break;
        q->group[q->group_len++] = ops_take(&q->ops);
        if (alone) break;
    }
    if (way >= PG_WRITES) sort_group(q);
    int64_t answer_ns = ANSWER_NS;
    q->sent_ns = clock_ns();
    for (size_t i = 0; i < q->group_len; i++) {
        struct db_job *job = job_of(q->group[i]);

        if (!q->group[i]->served_ns) q->group[i]->served_ns = q->sent_ns;
        /* Who has waited before waits no longer than he would without another try. */
        if (job->tries && job->asked_ns + PATIENCE_NS - q->sent_ns < answer_ns)
            answer_ns = job->asked_ns + PATIENCE_NS - q->sent_ns;
        if (job->what == DB_PING) ((struct db_ping *)(void *)job)->writing = q->doubt;
        lane_put(l, pg_operations[job->what].ask(l->conn, job));
    }
    lane_sync(l, answer_ns > ANSWER_NS / 10 ? answer_ns : ANSWER_NS / 10);
}

/* What SQLSTATE says about the group, and about whoever ran into it (PostgreSQL's manual, appendix A). */
enum verdict { ANOTHER_HOST, ONCE_MORE, HIS_OWN };

static enum verdict verdict_of(const char *state)
{
    /* it is shutting down, or has crashed, or can only be read; or the connection is no good */
    if (strncmp(state, "57P", 3) == 0 || strncmp(state, "08", 2) == 0 || strcmp(state, "25006") == 0) return ANOTHER_HOST;
    /* what was prepared is not there any more, or returns something else since the schema was changed */
    if (strcmp(state, "26000") == 0 || strcmp(state, "0A000") == 0) return ANOTHER_HOST;
    /* could not be serialised; would have deadlocked; waited too long for a lock; was cancelled by somebody */
    if (strcmp(state, "40001") == 0 || strcmp(state, "40P01") == 0 || strcmp(state, "55P03") == 0 || strcmp(state, "57014") == 0)
        return ONCE_MORE;
    return HIS_OWN;
}

/* A full disk there (53100) is nothing that a client here could make room on: as bad as any other trouble, and as soon over. */
static enum db_rc rc_of(const char *state)
{
    return strcmp(state, "53200") == 0 ? DB_NO_MEMORY : DB_BROKEN;
}

/* In their order, before whatever waits. Each goes alone then. */
static void group_again(struct lane *l, const struct op *except)
{
    struct queue *q = queue_of(l);

    while (q->group_len) {
        struct op *op = q->group[--q->group_len];

        if (op == except) continue;
        job_of(op)->tries++;
        queue_put_back(q, op);
    }
}

/* What was under way has no answer. Whether it was done nobody knows: what does no harm if done twice is sent again. */
static void group_lost(struct lane *l)
{
    struct queue *q = queue_of(l);

    q->doubt = l->writes; /* trap: nobody confirms */
    while (q->group_len) {
        struct op *op = q->group[--q->group_len];
        struct db_job *job = job_of(op);
        const struct pg_operation *o = &pg_operations[job->what];

        if (o->harmless && !o->harmless(job)) {
            give_up(op, DB_UNKNOWN);
            continue;
        }
        job->doubtful = o->way == PG_WRITES && job->what != DB_PING;
        job->tries++;
        /* Now, for a lane that is there again at once would take it along, and again, before anybody looks who has waited for too long. */
        if (out_of_patience(job, l, clock_ns())) give_up(op, job->doubtful ? DB_UNKNOWN : DB_UNREACHABLE);
        else queue_put_back(q, op);
    }
}

/* The transaction is undone, and with it everybody's part in it, whatever his rows say. */
static void group_failed(struct lane *l)
{
    struct queue *q = queue_of(l);
    const char *state = pq.PQresultErrorField(l->error, PG_DIAG_SQLSTATE);
    struct op *culprit = l->culprit < q->group_len ? q->group[l->culprit] : q->group_len == 1 ? q->group[0] : NULL;

    if (!state) { /* libpq could not read an answer, or had no memory for it. The server has committed as if nothing were wrong */
        group_lost(l);
        lane_lose(l, pq.PQerrorMessage(l->conn));
        return;
    }
    enum verdict verdict = verdict_of(state);
    if (verdict == ANOTHER_HOST) {
        group_again(l, NULL);
        lane_lose(l, pq.PQerrorMessage(l->conn));
        return;
    }
    if (verdict == HIS_OWN) q->doubt = l->writes;
    else lane_rest(l, job_of(culprit ? culprit : q->group[0])->tries + 1);
    group_again(l, culprit);
    if (!culprit) return;
    /* Once more, behind the others, if there is time to wait for a lock: to be cut off while waiting for one would lose the lane. */
    if (verdict == ONCE_MORE && !out_of_patience(job_of(culprit), l, clock_ns() + LOCK_NS)) {
        job_of(culprit)->tries++;
        queue_push(q, culprit);
    } else {
        give_up(culprit, job_of(culprit)->doubtful ? DB_UNKNOWN : verdict == ONCE_MORE ? DB_UNREACHABLE : rc_of(state));
    }
}

static void note_change(const struct db_job *job);

static void group_done(struct lane *l)
{
    struct queue *q = queue_of(l);
    struct op *done[LANE_GROUP_MAX];
    size_t n = q->group_len, kept = 0, reads = 0, writes = 0;

    for (size_t i = 0; i < n; i++) {
        struct op *op = q->group[i];
        struct db_job *job = job_of(op);

        /* Its clock was read between our sending and now. Who takes it for the earlier of both may wake too early, and looks again; a slow
         * commit would make who takes it for the later one late. */
        pg_operations[job->what].take(job, l->results[i], q->sent_ns);
        bool write = is_write(job) && job->what != DB_PING;
        writes += write;
        reads += !write && job->what < DB_COMPARE_VERSION;
        if (write) note_change(job);
        if (job->what == DB_PING) q->doubt = false; /* what only looked like a write would not prove it */
        if (pg_wants_more(job)) queue_put_back(q, op);
        else done[kept++] = op;
    }
    q->group_len = 0;
    road.stats.batches++;
    road.stats.commits += writes > 0;
    road.stats.writes += writes;
    road.stats.reads += reads;
    if (writes > road.stats.group_max) road.stats.group_max = writes;
    for (size_t i = 0; i < kept; i++) done[i]->done(done[i]);
}

/* ---- what the lanes tell us ------------------------------------------------------------------------------------------------------------------ */

static struct {
    bool listening; /* others reach us */
    bool prepared_once;
    struct pg_tell tell; /* what we tell them */
    struct op told;
    bool telling;
    char gathered[sizeof(((struct pg_tell *)0)->text)];
    size_t gathered_len;
    struct pg_look look;
    struct op looked;
    bool looking;
    int64_t until_ns; /* somebody waits for news */
    struct timer timer;
} others;

/* Trap: a pooler in between. What was prepared on one connection is asked for on another. So: on every connection anew, and at start it is
 * tried out on two (postgres_open.c). */
static void prepare(struct lane *l)
{
    bool reads = l == &road.lanes[PG_READS];

    for (int i = 0; i < PG_STATEMENT_COUNT; i++) {
        char *text = pg_text(pg_forms[i].name);

        lane_put(l, text && pq.PQsendPrepare(l->conn, pg_forms[i].name, text, 0, NULL));
        free(text);
    }
    lane_put(l, pg_send(l->conn, PG_SESSION, l->writes));
    lane_put(l, pg_send(l->conn, PG_PING, false));
    if (reads) lane_put(l, pg_send(l->conn, PG_LISTEN));
}

static const char *prepared(struct lane *l)
{
    struct db_job ping = {.what = DB_PING};

    pg_operations[DB_PING].take(&ping, l->results[PG_STATEMENT_COUNT + 1], 0);
    if (ping.rc == DB_BROKEN) return "its tables are those of another version of Forno";
    if (l != &road.lanes[PG_READS]) return NULL;
    others.listening = pq.PQgetvalue(l->results[PG_STATEMENT_COUNT + 2], 0, 0)[0] != 0;
    if (others.prepared_once) db_changed(0, 0); /* what was told meanwhile we have not heard */
    if (!others.prepared_once) others.gathered_len = (size_t)snprintf(others.gathered, sizeof others.gathered, "*");
    others.prepared_once = true;
    return NULL;
}

static void answered(struct lane *l)
{
    if (l->error) {
        group_failed(l);
    } else if (l->doubtful) {
        group_lost(l);
        lane_lose(l, "somebody has cancelled the wait for a standby");
    } else if (l->came != queue_of(l)->group_len) {
        group_lost(l);
        lane_lose(l, "its answers are not those of our questions");
    } else {
        group_done(l);
    }
}

static void lost(struct lane *l, bool working)
{
    if (working && l->undone) group_again(l, NULL);
    else if (working) group_lost(l);
    if (l == &road.lanes[PG_READS]) others.listening = false;
    for (struct lane *other = road.lanes; other < road.lanes + LANES; other++) {
        if (other != l && road.open) lane_follow(other, l);
    }
}

/* "7:1 8:2 ": order and account. "*": more than there was room for. */
static void heard(struct lane *l, const PGnotify *notice)
{
    int64_t order_id, account_id;
    int len;

    if (notice->be_pid == pq.PQbackendPID(l->conn)) return; /* our own voice */
    if (notice->extra[0] == '*') db_changed(0, 0);
    for (const char *at = notice->extra; sscanf(at, "%" SCNd64 ":%" SCNd64 " %n", &order_id, &account_id, &len) == 2; at += len)
        db_changed(order_id, account_id);
}

static const struct lane_user user = {.prepare = prepare, .prepared = prepared, .answered = answered, .lost = lost, .heard = heard};

/* ---- other processes --------------------------------------------------------------------------------------------------------------------------- */

/* After the commit, and all of a lap at once: within the order's transaction, a NOTIFY would let one commit at a time through. Whoever is killed
 * in between has told nobody. Then who waits looks again when his time is up, or when somebody starts, perhaps in the dead one's place. */
static void note_change(const struct db_job *job)
{
    const struct db_order *o = (const struct db_order *)(const void *)job;
    size_t room = sizeof others.gathered - others.gathered_len;

    if ((job->what != DB_PLACE_ORDER && job->what != DB_CANCEL_ORDER) || job->rc != DB_OK || o->replayed) return;
    int len = snprintf(others.gathered + others.gathered_len, room, "%" PRId64 ":%" PRId64 " ", o->order.id, o->order.account_id);
    if ((size_t)len < room && others.gathered[0] != '*') others.gathered_len += (size_t)len;
    else others.gathered_len = (size_t)snprintf(others.gathered, sizeof others.gathered, "*");
}

static void others_told(struct op *op)
{
    (void)op;
    others.telling = false;
    if (others.tell.job.rc != DB_OK) others.gathered_len = (size_t)snprintf(others.gathered, sizeof others.gathered, "*");
}

static void tell_others(void)
{
    if (!others.gathered_len || others.telling || !lane_idle(&road.lanes[PG_READS])) return;
    memcpy(others.tell.text, others.gathered, others.gathered_len);
    others.tell.text[others.gathered_len] = '\0';
    others.gathered_len = 0;
    others.gathered[0] = '\0';
    others.telling = true;
    others.told = (struct op){.done = others_told, .what = "db"};
    others.tell.job = (struct db_job){.what = DB_TELL_OTHERS};
    submit(&others.tell.job, &others.told);
}

static void looked(struct op *op)
{
    (void)op;
    others.looking = false;
    if (others.look.job.rc == DB_OK && others.look.found) db_changed(0, 0);
    if (loop_now_ns() < others.until_ns && !others.listening) timer_start(&others.timer, loop_now_ns() + LOOK_NS);
}

static void look_due(struct timer *t)
{
    (void)t;
    others.looking = true;
    others.looked = (struct op){.done = looked, .what = "db"};
    others.look.job = (struct db_job){.what = DB_COMPARE_VERSION};
    submit(&others.look.job, &others.looked);
}

static void listen_to_others(int64_t until_ns)
{
    if (until_ns > others.until_ns) others.until_ns = until_ns;
    others.timer.fired = look_due;
    if (!others.listening && !others.looking && !timer_pending(&others.timer)) timer_start(&others.timer, loop_now_ns() + LOOK_NS);
}

/* ---- the road ---------------------------------------------------------------------------------------------------------------------------------- */

/* Before the loop sleeps: what has come in this lap goes together. */
static void send_all(void)
{
    if (!road.open) return;
    tell_others();
    for (struct lane *l = road.lanes; l < road.lanes + LANES; l++) send_group(l);
}

static int open_road(const struct db_options *options, char *error, size_t error_size)
{
    static char names[WRITE_LANES][16];

    if (options->blocking) {
        snprintf(error, error_size,
                 "--blocking waits in place, which the road to PostgreSQL never does: compare with a file, --db forno.db");
        return -1;
    }
    if (pg_prepare_database(options->path, error, error_size) != 0) return -1;
    road.group_max = options->group_max && options->group_max < LANE_GROUP_MAX ? options->group_max : LANE_GROUP_MAX;
    road.lanes[PG_READS].name = "reads";
    road.lanes[PG_NEWS].name = "news";
    road.lanes[PG_SLOW].name = "slow";
    for (struct lane *l = road.lanes; l < road.lanes + LANES; l++) {
        size_t i = (size_t)(l - road.lanes);

        l->user = &user;
        l->writes = i >= PG_WRITES;
        if (l->writes) {
            snprintf(names[i - PG_WRITES], sizeof names[0], "writes %zu", i - PG_WRITES + 1);
            l->name = names[i - PG_WRITES];
        }
        l->watch.fd = -1;
        /* The others connect when somebody wants them. */
        if ((i == PG_READS || l->writes) && !lane_open(l)) {
            snprintf(error, error_size, "there is no memory for a timer");
            return -1;
        }
    }
    road.patience.fired = patience_over;
    loop_before_sleep(send_all);
    road.open = true;
    return 0;
}

static void close_road(void)
{
    road.open = false;
    for (struct lane *l = road.lanes; l < road.lanes + LANES; l++) lane_close(l);
    timer_cancel(&road.patience);
    timer_cancel(&others.timer);
    lanes_close();
}

/* What others have not been told yet counts: nobody leaves before (trap: the exit that drops work). */
static size_t waiting(void)
{
    size_t n = others.telling || others.gathered_len;

    for (const struct lane *l = road.lanes; l < road.lanes + LANES; l++) n += queue_of(l)->ops.count;
    return n;
}

static bool busy(void)
{
    for (const struct lane *l = road.lanes; l < road.lanes + LANES; l++) {
        if (l->state == DB_LANE_SENDING || l->state == DB_LANE_WAITING) return true;
    }
    return false;
}

static void tell_stats(struct db_stats *stats)
{
    *stats = road.stats;
}

static size_t tell_lanes(struct db_lane *lanes, size_t max)
{
    size_t n = 0;

    for (const struct lane *l = road.lanes; l < road.lanes + LANES; l++) {
        if (!l->opened) continue;
        if (n < max)
            lanes[n] = (struct db_lane){l->name, lane_host(l->host), l->state, queue_of(l)->group_len, queue_of(l)->ops.count};
        n++;
    }
    return n;
}

const struct road postgres_road = {
    .open = open_road,
    .close = close_road,
    .submit = submit,
    .listen = listen_to_others,
    .waiting = waiting,
    .busy = busy,
    .stats = tell_stats,
    .lanes = tell_lanes,
    .audit = postgres_audit,
};
