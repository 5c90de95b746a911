/* sqlite.c: the thread road: SQLite behind a worker.
 *
 * SQLite blocks: a query waits for the disk, a commit waits for the platter. So one thread does nothing but wait for it (worker.c). It owns the
 * file and its transactions. The subtle thing is the group commit: of all that was waiting it answers the reads, runs every write in a
 * savepoint of one transaction, and commits once. One fsync serves everyone who waited for it; a write that fails undoes only itself; a
 * commit that fails, fails all of them, and they are told so. */
#include "ledger/sqlite.h"

#include "ledger/road.h"
#include "reactor/loop.h"
#include "reactor/worker.h"
#include "text/embed.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BUSY_MS 1000                /* how long another process may hold the file before we say so */
#define REOPEN_NS (100 * NS_PER_MS) /* how often a database in trouble is tried again */
#define TOLD_NS (NS_PER_MS / 2)     /* a read that is done is told after so much more reading at the latest */
#define OTHERS_NS NS_PER_S          /* how often we look whether another process has changed the file */
#define APPLICATION_ID 0x466f726e   /* "Forn": what kind of database this is (PRAGMA application_id) */
#define SCHEMA_VERSION 1            /* scripts SCHEMA_1 and up in sqlite.sql; number n takes the schema from version n - 1 to n */

EMBED(sqlite_sql, "ledger/sqlite.sql");

struct transaction tx;

static struct {
    struct db_options options;
    char log_path[PATH_MAX], shared_path[PATH_MAX];
    struct stat log, shared; /* the files that were there when we opened ours */
    int64_t ahead_ns;        /* our calendar, as seen from CLOCK_BOOTTIME */
    int64_t tried_open_ns;
    enum db_rc open_rc; /* why the last try failed */
    bool hopeless;      /* the handle has seen corruption, or another schema: open afresh */
    atomic_uint_fast64_t reads, writes, batches, commits, refused, group_max;
} road;

/* ---- SQLite, in a few words --------------------------------------------------------------------------------------------------------- */

/* What kind of trouble has the last call run into? errno still tells why the disk refused: sqlite3_system_errno() does not know
 * when it was a COMMIT that failed. */
static enum db_rc trouble(void)
{
    int error = errno;

    switch (sqlite3_errcode(tx.handle) & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL: /* lost a race for the locks too often */ return DB_LOCKED;
    case SQLITE_FULL: return DB_DISK_FULL;
    case SQLITE_NOMEM: return DB_NO_MEMORY;
    case SQLITE_IOERR:
        if (error == ENOSPC || error == EDQUOT || error == EFBIG) return DB_DISK_FULL;
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: road.hopeless = true; break;
    }
    return DB_BROKEN;
}

sqlite3_stmt *sql_bind(enum statement which, const char *types, ...)
{
    sqlite3_stmt *s = tx.prepared[which];
    va_list args;

    va_start(args, types);
    for (int i = 1; *types; i++, types++) {
        switch (*types) {
        case 'i': sqlite3_bind_int64(s, i, va_arg(args, int64_t)); break;
        case 't': sqlite3_bind_text(s, i, va_arg(args, const char *), -1, SQLITE_STATIC); break;
        case 'h': sqlite3_bind_blob(s, i, va_arg(args, const void *), 32, SQLITE_STATIC); break;
        default: assert(false);
        }
    }
    va_end(args);
    return s;
}

enum db_rc sql_fetch(sqlite3_stmt *s)
{
    errno = 0;
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) return DB_OK;
    enum db_rc result = rc == SQLITE_DONE ? DB_NOT_FOUND : trouble();
    sqlite3_reset(s);
    return result;
}

enum db_rc sql_run(sqlite3_stmt *s)
{
    enum db_rc rc;

    while ((rc = sql_fetch(s)) == DB_OK)
        ;
    return rc == DB_NOT_FOUND ? DB_OK : rc;
}

enum db_rc sql_text(char *to, size_t size, sqlite3_stmt *s, int column)
{
    const char *text = (const char *)sqlite3_column_text(s, column);

    snprintf(to, size, "%s", text ? text : "");
    return text ? DB_OK : DB_NO_MEMORY;
}

enum db_rc sql_end(sqlite3_stmt *s, enum db_rc rc)
{
    sqlite3_reset(s);
    return rc == DB_NOT_FOUND ? DB_OK : rc;
}

enum db_rc sql_number(sqlite3_stmt *s, int64_t *number)
{
    enum db_rc rc = sql_fetch(s);

    if (rc != DB_OK) return rc;
    *number = sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    return DB_OK;
}

/* ---- what time it is: the database's own calendar -------------------------------------------------------------------------------- */

/* Trap: the wall clock taken for time. It can be set. Our calendar goes on with a clock that cannot be, from where it is: it follows
 * the wall clock forward, and when that is put back, it does not turn back with it, nor does it stand still. Worker thread. */
static struct db_instant present(void)
{
    struct timespec wall, boot;

    clock_gettime(CLOCK_REALTIME, &wall); /* this one first: if we are held up in between, we come out behind, never ahead */
    clock_gettime(CLOCK_BOOTTIME, &boot);
    int64_t boot_ns = (int64_t)boot.tv_sec * NS_PER_S + boot.tv_nsec;
    int64_t ahead_ns = (int64_t)wall.tv_sec * NS_PER_S + wall.tv_nsec - boot_ns;
    if (ahead_ns > road.ahead_ns) road.ahead_ns = ahead_ns;
    return (struct db_instant){.ms = (boot_ns + road.ahead_ns) / NS_PER_MS, .ns = clock_ns()};
}

/* What has happened already, in this process, an earlier one or another, lies behind us: so instants are in the order of commits, and
 * whoever has been told of one is never told of an earlier one that came later. Within the transaction that will use the instant. */
static enum db_rc present_after(void)
{
    int64_t latest_ms;
    enum db_rc rc = sql_number(tx.prepared[LATEST], &latest_ms);

    tx.now = present();
    if (rc == DB_NOT_FOUND) return DB_OK;
    if (rc != DB_OK || latest_ms <= tx.now.ms) return rc;
    road.ahead_ns += (latest_ms - tx.now.ms) * NS_PER_MS;
    tx.now.ms = latest_ms;
    return DB_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------------------------------------------ */

static bool is_file_at(const char *path, const struct stat *file)
{
    struct stat now;

    return stat(path, &now) == 0 && now.st_ino == file->st_ino && now.st_dev == file->st_dev;
}

/* Trap: the file without a name. Is the file at our path still the one that we have open, and those beside it too? That there is some
 * log is not enough: when ours is deleted, the next reader makes another one, and what we write then is never read again. */
static bool file_moved(void)
{
    int moved = 0;

    sqlite3_file_control(tx.handle, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    return moved || !is_file_at(road.log_path, &road.log) || !is_file_at(road.shared_path, &road.shared);
}

/* The files beside ours, through which processes that share it hear of each other: its write-ahead log, and the index of that. */
static void note_files_beside(void)
{
    const char *path = sqlite3_filename_database(sqlite3_db_filename(tx.handle, "main"));

    snprintf(road.log_path, sizeof road.log_path, "%s-wal", path);
    snprintf(road.shared_path, sizeof road.shared_path, "%s-shm", path);
    if (stat(road.log_path, &road.log) != 0) road.log = (struct stat){0};
    if (stat(road.shared_path, &road.shared) != 0) road.shared = (struct stat){0};
}

static bool execute(const char *text)
{
    return sqlite3_exec(tx.handle, text, NULL, NULL, NULL) == SQLITE_OK;
}

static void close_handle(void)
{
    /* Trap: the log that stays behind. SQLite would play it into whatever file comes next under our name, a restored backup for
     * one. What it holds belongs to the file that we have open, wherever that is now. */
    if (tx.prepared[COMMIT] && file_moved()) execute("PRAGMA wal_checkpoint(TRUNCATE)");
    for (int i = 0; i < STATEMENT_COUNT; i++) {
        sqlite3_finalize(tx.prepared[i]);
        tx.prepared[i] = NULL;
    }
    sqlite3_close(tx.handle);
    tx.handle = NULL;
    road.hopeless = false;
}

static int pragma_number(const char *text)
{
    sqlite3_stmt *s;
    int number = -1;

    if (sqlite3_prepare_v2(tx.handle, text, -1, &s, NULL) != SQLITE_OK) return -1;
    if (sqlite3_step(s) == SQLITE_ROW) number = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    return number;
}

/* What the handle has run into, and what to do about it. SQLite tells of the last thing that it has tried, which was something else
 * than we want to know: a folder that may not be written to is "No such file", or "a readonly database". */
static const char *complaint(void)
{
    static char text[128];
    const char *path = road.options.path, *slash = strrchr(path, '/');
    int error = sqlite3_system_errno(tx.handle);
    char dir[PATH_MAX];

    switch (sqlite3_errcode(tx.handle) & 0xff) {
    case SQLITE_BUSY: return "another process holds it: end that one, or use another file";
    case SQLITE_NOTADB: return "it is not a database: use another file";
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
        snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
        if (access(dir, W_OK | X_OK) != 0)
            snprintf(text, sizeof text, "%s: its directory must exist, and be ours to write", strerror(errno));
        else if (access(path, R_OK | W_OK) != 0 && errno != ENOENT)
            snprintf(text, sizeof text, "%s: it must be ours to read and write", strerror(errno));
        else if (error) snprintf(text, sizeof text, "%s", strerror(error));
        else return sqlite3_errmsg(tx.handle);
        return text;
    default: return sqlite3_errmsg(tx.handle);
    }
}

/* What stands in sqlite.sql under this name, *len bytes up to the next one. NULL: nothing does. */
static const char *statement_named(const char *name, size_t *len)
{
    char line[64];

    snprintf(line, sizeof line, "-- name: %s\n", name);
    const char *at = strstr(sqlite_sql, line), *next = at ? strstr(at + 1, "-- name: ") : NULL;
    *len = at ? (size_t)((next ? next : sqlite_sql_end) - at) : 0;
    return at;
}

/* Bring the schema up to date in one transaction: a crash leaves a version that exists. NULL, or what is wrong. */
static const char *migrate(void)
{
    char text[128], name[32];

    if (pragma_number("PRAGMA user_version") > SCHEMA_VERSION)
        return "it was made by a newer version of Forno: use that one, or another file";
    if (!execute("BEGIN IMMEDIATE")) return complaint();
    for (int version = pragma_number("PRAGMA user_version"); version < SCHEMA_VERSION; version++) {
        if (version < 0) return complaint(); /* it could not be read */
        snprintf(text, sizeof text, "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION_ID, version + 1);
        snprintf(name, sizeof name, "SCHEMA_%d", version + 1);
        size_t len;
        const char *at = statement_named(name, &len);
        char *script = at ? strndup(at, len) : NULL;
        bool done = script && execute(script) && execute(text);
        free(script);
        if (!done) return complaint();
    }
    return execute("COMMIT") ? NULL : complaint();
}

static const char *prepare_all(void)
{
#define S(name) #name,
    static const char *const names[] = {STATEMENTS(S)};
#undef S

    int written = 0;
    for (const char *at = sqlite_sql; (at = strstr(at, "\n-- name: ")); at++) written++;
    if (written != STATEMENT_COUNT + SCHEMA_VERSION) return "this server was built with statements that it does not know";
    for (int i = 0; i < STATEMENT_COUNT; i++) {
        size_t len;
        const char *at = statement_named(names[i], &len);

        if (!at) return "this server was built without one of its statements";
        if (sqlite3_prepare_v3(tx.handle, at, (int)len, SQLITE_PREPARE_PERSISTENT, &tx.prepared[i], NULL) != SQLITE_OK)
            return complaint();
    }
    return NULL;
}

/* Open the file as we want it: NULL, or what is wrong with it. With `create` it may be new. Without, a file that has vanished
 * stays vanished: an empty ledger in its place would be a lie. */
static const char *open_handle(bool create)
{
    const char *wrong;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | (create ? SQLITE_OPEN_CREATE : 0);

    if (sqlite3_open_v2(road.options.path, &tx.handle, flags, NULL) != SQLITE_OK) return complaint();
    sqlite3_busy_timeout(tx.handle, BUSY_MS);
    if (sqlite3_db_readonly(tx.handle, "main") == 1)
        return "it can only be read: give it to the user that runs this, or use another file";

    int tables = pragma_number("SELECT count(*) FROM sqlite_schema"), id = pragma_number("PRAGMA application_id");
    if (tables < 0) return complaint();
    if (id != APPLICATION_ID && (tables > 0 || !create)) return "it is some other program's database: use another file";
    if (!execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")) return complaint();
    if ((wrong = migrate())) return wrong;
    sqlite3_create_function(tx.handle, "still_busy", 0, SQLITE_UTF8, NULL, still_busy, NULL, NULL);
    if ((wrong = prepare_all())) return wrong;
    present_after(); /* if that fails, so will the first write, and say why */
    note_files_beside();
    return file_moved() ? "it cannot have a write-ahead log beside it: use a file on a local disk" : NULL;
}

/* Can we work? If not, and some time has passed, try to open the file again. */
static enum db_rc ready(void)
{
    bool moved = tx.handle && file_moved();
    struct stat st;

    if (tx.handle && !moved && !road.hopeless) return DB_OK;
    if (clock_ns() - road.tried_open_ns < REOPEN_NS) return moved ? DB_MISSING : road.open_rc;
    if (tx.handle) close_handle();
    road.tried_open_ns = clock_ns();
    if (stat(road.options.path, &st) != 0) road.open_rc = DB_MISSING;
    else if (!open_handle(false)) road.open_rc = DB_OK;
    else road.open_rc = trouble();
    if (road.open_rc != DB_OK && tx.handle) close_handle();
    return road.open_rc;
}

/* ---- batches and groups ---------------------------------------------------------------------------------------------------------------- */

static struct db_job *job_of(struct op *op)
{
    return op->owner;
}

static enum how how(struct op *op)
{
    return operations[job_of(op)->what].how;
}

static enum db_rc perform(struct op *op)
{
    return job_of(op)->rc = operations[job_of(op)->what].run(job_of(op));
}

static void fail_all(struct ops *ops, enum db_rc rc)
{
    for (struct op *op = ops->first; op; op = op->next) job_of(op)->rc = rc;
}

/* They are done, and from here on not ours. */
static void give_back(struct ops *ops)
{
    if (ops->first) loop_post(ops->first); /* no bell for nobody */
    *ops = (struct ops){0};
}

/* All the reads of a batch see the same state of the world. They are told together, for each ring of the bell costs both sides a system call
 * (told one by one, GET /accounts/1 took up to half as much CPU again); but not later than some time, nor after one that is long. */
static void run_reads(struct ops *reads)
{
    enum db_rc rc = ready();
    struct ops done = {0};

    if (rc == DB_OK) rc = sql_run(tx.prepared[BEGIN_READ]);
    if (rc != DB_OK) {
        fail_all(reads, rc);
        give_back(reads);
        return;
    }
    tx.now = present();
    atomic_fetch_add(&road.reads, reads->count);
    int64_t told_ns = tx.now.ns;
    for (struct op *op; (op = ops_take(reads)); ops_push(&done, op)) {
        if (how(op) == READS_LONG || clock_ns() - told_ns > TOLD_NS) {
            give_back(&done);
            told_ns = clock_ns();
        }
        perform(op);
    }
    give_back(&done);
    sql_run(tx.prepared[COMMIT]); /* nothing was written: it cannot lose anything */
    if (!sqlite3_get_autocommit(tx.handle)) sql_run(tx.prepared[ROLLBACK]);
}

/* One write in its savepoint. Returns DB_OK, or what makes an end of the whole transaction. */
static enum db_rc run_one_write(struct op *op)
{
    enum db_rc rc = sql_run(tx.prepared[SAVEPOINT]);

    if (rc != DB_OK) return rc;
    enum db_rc outcome = perform(op);
    /* A full disk, among others, makes SQLite roll back everything: nobody's write has survived. */
    if (sqlite3_get_autocommit(tx.handle)) return is_trouble(outcome) ? outcome : DB_BROKEN;
    /* An answer of "no" has written nothing, but perhaps kept the outcome for its key. Trouble undoes what it did. */
    if (is_trouble(outcome)) rc = sql_run(tx.prepared[ROLLBACK_TO]);
    return rc == DB_OK ? sql_run(tx.prepared[RELEASE]) : rc;
}

/* Another process may have brought the schema further than we know it. */
static enum db_rc schema_is_ours(void)
{
    int64_t version;
    enum db_rc rc = sql_number(tx.prepared[USER_VERSION], &version);

    if (rc != DB_OK || version == SCHEMA_VERSION) return rc;
    road.hopeless = true;
    return DB_BROKEN;
}

/* Trap: the commit that failed, and was done. Its last frame may stand in the log although the call that was to make it last has
 * failed; a crash, and it counts. It has surely not been done when its transaction is still open, or when there was no room for it. */
static enum db_rc commit(void)
{
    enum db_rc rc = sql_run(tx.prepared[COMMIT]);
    int error = sqlite3_extended_errcode(tx.handle);

    if (rc == DB_OK) return file_moved() ? DB_UNKNOWN : DB_OK;
    bool full = rc == DB_DISK_FULL && (error == SQLITE_FULL || error == SQLITE_IOERR_WRITE);
    return full || !sqlite3_get_autocommit(tx.handle) ? rc : DB_UNKNOWN;
}

/* One transaction for the whole group, one commit, one fsync. */
static enum db_rc write_group(struct ops *group)
{
    enum db_rc rc = ready();

    if (rc == DB_OK) rc = sql_run(tx.prepared[BEGIN_WRITE]);
    if (rc != DB_OK) return rc;
    rc = schema_is_ours();
    if (rc == DB_OK) rc = present_after(); /* the lock is ours */
    for (struct op *op = group->first; op && rc == DB_OK; op = op->next) {
        if (how(op) == WRITES) rc = run_one_write(op);
        else perform(op);
    }
    if (rc == DB_OK) rc = commit();
    if (!sqlite3_get_autocommit(tx.handle)) sql_run(tx.prepared[ROLLBACK]);
    return rc;
}

static void run_writes(struct ops *group)
{
    enum db_rc rc = write_group(group);
    size_t writes = 0;

    /* Honestly: whatever each of them was told, it is undone, or nobody knows. */
    if (rc != DB_OK) fail_all(group, rc);
    tx.last_write = rc;
    for (struct op *op = group->first; op; op = op->next) {
        if (is_trouble(job_of(op)->rc)) tx.last_write = job_of(op)->rc;
        writes += how(op) == WRITES;
    }
    if (rc == DB_OK && writes) atomic_fetch_add(&road.commits, 1);
    atomic_fetch_add(&road.writes, writes);
    atomic_fetch_add(&road.reads, group->count - writes);
    if (writes > atomic_load(&road.group_max)) atomic_store(&road.group_max, writes);
}

/* The reads first: they need not wait for the disk. */
static void run_batch(struct ops *batch)
{
    struct ops reads = {0}, writes = {0}, group = {0};

    atomic_fetch_add(&road.batches, 1);
    for (struct op *op; (op = ops_take(batch));) ops_push(how(op) < WRITES ? &reads : &writes, op);
    if (reads.count) run_reads(&reads);
    while (writes.first) {
        do ops_push(&group, ops_take(&writes));
        while (writes.first && group.count != road.options.group_max);
        run_writes(&group);
        give_back(&group);
    }
}

/* ---- the road ------------------------------------------------------------------------------------------------------------------------------ */

static void submit(struct db_job *job, struct op *op)
{
    op->owner = job;
    if (worker_submit(op)) return;
    job->rc = DB_QUEUE_FULL;
    atomic_fetch_add(&road.refused, 1);
    op->next = NULL;
    loop_post(op); /* trap: completing inside the call that started it */
}

/* What other processes do: a look at the file's version from time to time, while somebody waits for news. Loop thread. */
static struct {
    int64_t until_ns;
    struct timer timer;
    struct op op;
    struct db_changes changes;
    bool out;
} others;

static void version_compared(struct op *op)
{
    (void)op;
    others.out = false;
    if (others.changes.found) db_changed(0, 0);
    if (loop_now_ns() < others.until_ns) timer_start(&others.timer, loop_now_ns() + OTHERS_NS);
}

static void others_due(struct timer *timer)
{
    (void)timer;
    others.out = true;
    others.op = (struct op){.done = version_compared, .what = "db"};
    others.changes = (struct db_changes){.job.what = DB_COMPARE_VERSION};
    submit(&others.changes.job, &others.op);
}

static void listen_to_others(int64_t until_ns)
{
    if (road.options.blocking) return; /* who waits in place hears nothing anyway */
    if (until_ns > others.until_ns) others.until_ns = until_ns;
    others.timer.fired = others_due;
    if (!others.out && !timer_pending(&others.timer)) timer_start(&others.timer, loop_now_ns() + OTHERS_NS);
}

static int open_road(const struct db_options *options, char *error, size_t error_size)
{
    struct worker_options worker = {.work = run_batch, .max = DB_QUEUE_MAX, .in_place = options->blocking};

    /* Nobody here asks SQLite how much memory it uses: without counting, and a lock for it, 8 % fewer instructions for an order. */
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    road.options = *options;
    tx.options = &road.options;
    road.ahead_ns = 0; /* the wall clock's time is always more than that */
    const char *wrong = open_handle(true);
    int rc = wrong ? 0 : worker_start(&worker);
    if (!wrong && rc == 0) return 0;
    if (wrong) snprintf(error, error_size, "the database %s cannot be used: %s", options->path, wrong);
    else snprintf(error, error_size, "the database worker cannot start: %s", strerror(rc));
    close_handle();
    return -1;
}

static void close_road(void)
{
    worker_stop();
    if (tx.handle) close_handle();
}

static void tell_stats(struct db_stats *s)
{
    *s = (struct db_stats){
        .reads = atomic_load(&road.reads),
        .writes = atomic_load(&road.writes),
        .batches = atomic_load(&road.batches),
        .commits = atomic_load(&road.commits),
        .refused = atomic_load(&road.refused),
        .group_max = atomic_load(&road.group_max),
    };
}

const struct road sqlite_road = {
    .open = open_road,
    .close = close_road,
    .submit = submit,
    .listen = listen_to_others,
    .waiting = worker_waiting,
    .busy = worker_busy,
    .stats = tell_stats,
    .audit = sqlite_audit,
};
