/* LDFLAGS: -Wl,--wrap=clock_gettime -Wl,--wrap=sqlite3_prepare_v3 -Wl,--wrap=statvfs */
/* test_db.c: what the database promises, each promise a test, over a real file, a real worker and a real loop.
 *
 * Nothing sleeps so that something else may happen. The wall clock is ours, and stands still until a test moves it. A slow
 * query holds the worker while a test fills the queue; disks fail because SQLite's own system calls are ours to fail; a
 * second handle plays the other process. Should an operation get lost, alarm(2) ends the program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "db.h"
#include "reactor/loop.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define EVENTS_TOLD 1000 /* as in ledger/bank.c */

/* ---- the wall clock ------------------------------------------------------------------------------------------------------ */

static _Atomic int64_t now_ms = INT64_C(1700000000000), up_ms = 1000;

int __real_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);

int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
    if (clock == CLOCK_BOOTTIME) { /* the clock that nobody can set */
        *t = (struct timespec){.tv_sec = up_ms / 1000, .tv_nsec = up_ms % 1000 * NS_PER_MS};
        return 0;
    }
    if (clock != CLOCK_REALTIME) return __real_clock_gettime(clock, t);
    *t = (struct timespec){.tv_sec = now_ms / 1000, .tv_nsec = now_ms % 1000 * NS_PER_MS};
    return 0;
}

/* ---- every statement that is prepared ---------------------------------------------------------------------------------- */

static const char *statements[64];
static size_t statement_count;

int __real_sqlite3_prepare_v3(sqlite3 *h, const char *sql, int n, unsigned flags, sqlite3_stmt **s, const char **tail);
int __wrap_sqlite3_prepare_v3(sqlite3 *h, const char *sql, int n, unsigned flags, sqlite3_stmt **s, const char **tail);

int __wrap_sqlite3_prepare_v3(sqlite3 *h, const char *sql, int n, unsigned flags, sqlite3_stmt **s, const char **tail)
{
    bool known = statement_count == COUNT(statements);

    for (size_t i = 0; i < statement_count; i++) known = known || statements[i] == sql;
    if (!known) statements[statement_count++] = sql;
    return __real_sqlite3_prepare_v3(h, sql, n, flags, s, tail);
}

/* ---- a disk that fails when it is told to -------------------------------------------------------------------------------- */

static char dir[64], path[128];

static atomic_int write_error;  /* 0: all is well */
static atomic_bool write_moves; /* somebody moves the file away, just then */
static atomic_int syncs;

static const char *beside(const char *name)
{
    static _Thread_local char text[4][128];
    static _Thread_local unsigned turn;
    char *at = text[turn++ % 4];

    snprintf(at, sizeof text[0], "%s/%s", dir, name);
    return at;
}

/* SQLite calls the C library's; the linker prefers ours. */
int fdatasync(int fd)
{
    syncs++;
    return (int)syscall(SYS_fdatasync, fd);
}

static ssize_t disk_pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    if (atomic_exchange(&write_moves, false)) rename(path, beside("away.db"));
    errno = write_error;
    return errno ? -1 : pwrite(fd, bytes, n, at);
}

static atomic_ulong blocks_left = 1 << 20;

int __wrap_statvfs(const char *of, struct statvfs *disk);
int __wrap_statvfs(const char *of, struct statvfs *disk)
{
    assert_string_equal(of, path);
    *disk = (struct statvfs){.f_frsize = 4096, .f_bavail = blocks_left};
    return 0;
}

static ssize_t disk_write(int fd, const void *bytes, size_t n)
{
    errno = write_error;
    return errno ? -1 : write(fd, bytes, n);
}

static void own_the_disk(void)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

    assert_int_equal(vfs->xSetSystemCall(vfs, "pwrite", (sqlite3_syscall_ptr)disk_pwrite), SQLITE_OK);
    assert_int_equal(vfs->xSetSystemCall(vfs, "pwrite64", (sqlite3_syscall_ptr)disk_pwrite), SQLITE_OK);
    assert_int_equal(vfs->xSetSystemCall(vfs, "write", (sqlite3_syscall_ptr)disk_write), SQLITE_OK);
}

/* ---- waiting -------------------------------------------------------------------------------------------------------------- */

static struct waiter {
    struct op op;
    unsigned done; /* its place in the order of completions; 0: not yet */
} waiters[DB_QUEUE_MAX + 64];

static size_t started, completed;
static bool in_loop;

static void op_done(struct op *op)
{
    struct waiter *w = (struct waiter *)(void *)op;

    assert_true(in_loop); /* never inside the call */
    assert_int_equal(w->done, 0);
    w->done = (unsigned)++completed;
    if (completed == started) loop_stop();
}

static struct op *await(void)
{
    struct waiter *w = &waiters[started++];

    assert_true(started <= COUNT(waiters));
    *w = (struct waiter){.op.done = op_done};
    return &w->op;
}

/* Until everything that was started is done. Then the counting begins anew. */
static void finish(void)
{
    in_loop = true;
    if (started > completed) assert_int_equal(loop_run(), 0);
    in_loop = false;
    assert_int_equal(completed, started);
    started = completed = 0;
}

static void stop(struct op *op)
{
    (void)op;
    loop_stop();
}

/* What has been started goes to the worker at the end of a lap. */
static void one_lap(void)
{
    struct op op = {.done = stop};

    loop_post(&op);
    assert_int_equal(loop_run(), 0);
}

/* While the worker is held, what is started waits in the queue; released, it takes all of it at once. */
static struct db_slow slow;

static void hold_worker(void)
{
    slow = (struct db_slow){.ms = 60000};
    db_slow_query(&slow, await());
    one_lap();
    while (db_queue_depth() > 0) sched_yield();
    assert_true(db_worker_busy());
}

static void release_worker(void)
{
    atomic_store(&slow.forsaken, true);
    finish();
    assert_int_equal(slow.job.rc, DB_OK);
}

/* ---- operations in one line ------------------------------------------------------------------------------------------------ */

static int64_t id_of[2048]; /* the account of person n; everybody's token is their number */

static struct db_token token(unsigned who)
{
    struct db_token t = {.hash = {(unsigned char)who, (unsigned char)(who >> 8), 7}};

    return t;
}

static struct db_key key(const char *text, unsigned char fingerprint)
{
    struct db_key k = {.given = true, .fingerprint = {fingerprint}};

    snprintf(k.text, sizeof k.text, "%s", text);
    return k;
}

static enum db_rc open_account(unsigned who, int64_t cents)
{
    struct db_account a = {.token = token(who), .name = "José 🍕", .balance_cents = cents};

    db_open_account(&a, await());
    finish();
    id_of[who] = a.id;
    return a.job.rc;
}

static struct db_account get_account(unsigned who)
{
    struct db_account a = {.token = token(who), .id = id_of[who]};

    db_get_account(&a, await());
    finish();
    return a;
}

static int64_t balance(unsigned who)
{
    struct db_account a = get_account(who);

    assert_int_equal(a.job.rc, DB_OK);
    return a.balance_cents;
}

static struct db_order pizza(unsigned who, int64_t cents)
{
    return (struct db_order){
        .token = token(who),
        .order = {.flavor = "margherita", .pizzas = 1, .price_cents = cents},
        .bake_ms = 1000,
    };
}

static struct db_order place(struct db_order o)
{
    db_place_order(&o, await());
    finish();
    return o;
}

static struct db_order get_order(unsigned who, int64_t id)
{
    struct db_order o = {.token = token(who), .order.id = id};

    db_get_order(&o, await());
    finish();
    return o;
}

static struct db_order cancel(unsigned who, int64_t id)
{
    struct db_order o = {.token = token(who), .order.id = id};

    db_cancel_order(&o, await());
    finish();
    return o;
}

static struct db_transfer sending(unsigned from, int64_t to, int64_t cents, struct db_key k)
{
    return (struct db_transfer){.token = token(from), .key = k, .to = to, .amount_cents = cents, .note = "grazie"};
}

static struct db_transfer transfer(struct db_transfer t)
{
    db_transfer(&t, await());
    finish();
    return t;
}

static enum db_rc ping(void)
{
    struct db_ping p;

    db_ping(&p, await());
    finish();
    return p.job.rc;
}

/* It is tried again every 100 ms. */
static void until_it_works(void)
{
    while (ping() != DB_OK) sched_yield();
}

/* ---- the other process, and the file ---------------------------------------------------------------------------------------- */

static sqlite3 *other_open(const char *file)
{
    sqlite3 *h;

    assert_int_equal(sqlite3_open(file, &h), SQLITE_OK);
    sqlite3_busy_timeout(h, 10000);
    return h;
}

static void other_run(sqlite3 *h, const char *sql)
{
    if (sqlite3_exec(h, sql, NULL, NULL, NULL) != SQLITE_OK) fail_msg("%s: %s", sql, sqlite3_errmsg(h));
}

/* In a process of its own, so to speak: open, run, close. */
static void other_does(const char *file, const char *sql)
{
    sqlite3 *h = other_open(file);

    other_run(h, sql);
    sqlite3_close(h);
}

static int64_t other_counts(const char *sql)
{
    sqlite3 *h = other_open(path);
    sqlite3_stmt *s;

    assert_int_equal(sqlite3_prepare_v2(h, sql, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(h);
    return n;
}

static void write_file(const char *file, const char *bytes, size_t n)
{
    FILE *f = fopen(file, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static bool exists(const char *file)
{
    return access(file, F_OK) == 0;
}

/* Returns what db_audit() returns; its text is in `audited`. */
static char audited[8192];

static int audit(void)
{
    FILE *out = fmemopen(audited, sizeof audited, "w");

    assert_non_null(out);
    int rc = db_audit(path, out);
    fclose(out);
    return rc;
}

static bool is_open;

static void open_db(struct db_options options)
{
    char error[512] = "";

    options.path = path;
    if (db_open(&options, error, sizeof error) != 0) fail_msg("%s", error);
    is_open = true;
}

static void close_db(void)
{
    if (is_open) db_close();
    is_open = false;
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/forno-db-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/forno.db", dir);
    started = completed = 0;
    write_error = 0;
    if (loop_open() != 0) return -1;
    open_db((struct db_options){0});
    return 0;
}

/* Whatever a test has done to the file, its ledger is sound at the end. */
static int teardown(void **state)
{
    char command[128];

    (void)state;
    atomic_store(&slow.forsaken, true);
    write_error = 0;
    close_db();
    loop_close();
    int rc = audit() == 0 ? 0 : -1;
    if (rc != 0) print_error("%s", audited);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) == 0 ? rc : -1;
}

/* ---- the bank ------------------------------------------------------------------------------------------------------------------ */

static void test_an_account_is_opened_with_its_credit(void **state)
{
    (void)state;
    assert_int_equal(open_account(1, 5000), DB_OK);
    assert_int_equal(open_account(2, 0), DB_OK);
    struct db_account a = get_account(1);
    assert_int_equal(a.job.rc, DB_OK);
    assert_int_equal(a.balance_cents, 5000);
    assert_string_equal(a.name, "José 🍕");
    assert_int_equal(balance(2), 0);
    a = (struct db_account){.token = token(2)};
    db_authenticate(&a, await());
    finish();
    assert_int_equal(a.job.rc, DB_OK);
    assert_int_equal(a.id, id_of[2]);
    assert_int_not_equal(open_account(2, 0), DB_OK); /* a token is one account's */
}

static void test_a_stranger_is_nobody_everywhere(void **state)
{
    struct db_account a = {.token = token(9), .id = 1}, b = a;
    struct db_entries e = {.token = token(9), .account_id = 1};
    struct db_transfer t = sending(9, 1, 1, key("k", 1));
    struct db_order place_it = pizza(9, 1), get_it = {.token = token(9), .order.id = 1}, cancel_it = get_it;
    struct db_orders l = {.token = token(9)};
    struct db_events v = {.token = token(9)};

    (void)state;
    assert_int_equal(open_account(1, 5000), DB_OK);
    db_get_account(&a, await());
    db_authenticate(&b, await());
    db_list_entries(&e, await());
    db_transfer(&t, await());
    db_place_order(&place_it, await());
    db_get_order(&get_it, await());
    db_cancel_order(&cancel_it, await());
    db_list_orders(&l, await());
    db_order_events(&v, await());
    finish();
    const enum db_rc answers[] = {a.job.rc,      b.job.rc,         e.job.rc, t.job.rc, place_it.job.rc,
                                  get_it.job.rc, cancel_it.job.rc, l.job.rc, v.job.rc};
    for (size_t i = 0; i < COUNT(answers); i++) assert_int_equal(answers[i], DB_NO_ACCOUNT);
    assert_int_equal(other_counts("SELECT count(*) FROM keys"), 0);
}

static void test_my_colleagues_account_is_not_mine_whether_it_exists_or_not(void **state)
{
    struct db_entries e = {.token = token(1)};

    (void)state;
    open_account(1, 5000);
    open_account(2, 7000);
    const int64_t not_mine[] = {id_of[2], 999, 0, -1};
    for (size_t i = 0; i < COUNT(not_mine); i++) {
        id_of[1] = e.account_id = not_mine[i];
        assert_int_equal(get_account(1).job.rc, DB_NOT_YOURS);
        db_list_entries(&e, await());
        finish();
        assert_int_equal(e.job.rc, DB_NOT_YOURS);
    }
}

static void test_money_moves_once_per_key(void **state)
{
    (void)state;
    open_account(1, 5000);
    open_account(2, 0);
    struct db_transfer first = transfer(sending(1, id_of[2], 1000, key("k", 1)));
    assert_int_equal(first.job.rc, DB_OK);
    assert_false(first.replayed);
    assert_int_equal(first.balance_cents, 4000);
    transfer(sending(1, id_of[2], 500, key("another", 1)));

    struct db_transfer again = transfer(sending(1, id_of[2], 1000, key("k", 1)));
    assert_int_equal(again.job.rc, DB_OK);
    assert_true(again.replayed);
    assert_int_equal(again.id, first.id);
    assert_int_equal(again.balance_cents, 4000); /* as it was told the first time, whatever has happened since */
    assert_int_equal(balance(1), 3500);
    assert_int_equal(balance(2), 1500);
}

static void test_a_pizza_is_ordered_once_per_key(void **state)
{
    struct db_order o = pizza(1, 1000);

    (void)state;
    open_account(1, 5000);
    o.key = key("k", 1);
    struct db_order first = place(o);
    now_ms += 400;
    struct db_order again = place(o);
    assert_int_equal(first.job.rc, DB_OK);
    assert_int_equal(again.job.rc, DB_OK);
    assert_false(first.replayed);
    assert_true(again.replayed);
    assert_memory_equal(&again.order, &first.order, sizeof first.order);
    assert_int_equal(again.now.ms, first.now.ms + 400);
    assert_int_equal(balance(1), 4000);
}

static void test_the_same_key_twice_in_one_group_is_one_order(void **state)
{
    struct db_order o[2] = {pizza(1, 1000), pizza(1, 1000)};

    (void)state;
    open_account(1, 5000);
    o[0].key = o[1].key = key("k", 1);
    hold_worker();
    for (int i = 0; i < 2; i++) db_place_order(&o[i], await());
    release_worker();
    assert_int_equal(o[1].job.rc, DB_OK);
    assert_true(!o[0].replayed && o[1].replayed);
    assert_int_equal(o[0].order.id, o[1].order.id);
    assert_int_equal(balance(1), 4000);
}

static void test_a_key_with_another_request_is_refused(void **state)
{
    struct db_order o = pizza(1, 1000);

    (void)state;
    open_account(1, 5000);
    open_account(2, 0);
    transfer(sending(1, id_of[2], 1000, key("k", 1)));
    assert_int_equal(transfer(sending(1, id_of[2], 2000, key("k", 2))).job.rc, DB_KEY_REUSED);
    o.key = key("k", 3);
    assert_int_equal(place(o).job.rc, DB_KEY_REUSED);
    assert_int_equal(balance(1), 4000);
    assert_int_equal(transfer(sending(2, id_of[1], 1000, key("k", 2))).job.rc, DB_OK); /* a key is its account's */
}

static void test_a_refusal_is_kept_under_its_key(void **state)
{
    struct db_order o = pizza(2, 100);

    (void)state;
    open_account(1, 5000);
    open_account(2, 0);
    o.key = key("o", 1);
    assert_int_equal(place(o).job.rc, DB_INSUFFICIENT_FUNDS);
    assert_int_equal(transfer(sending(2, id_of[1], 1, key("t", 1))).job.rc, DB_INSUFFICIENT_FUNDS);
    transfer(sending(1, id_of[2], 1000, key("k", 1)));
    assert_int_equal(place(o).job.rc, DB_INSUFFICIENT_FUNDS);
    struct db_transfer t = transfer(sending(2, id_of[1], 1, key("t", 1)));
    assert_int_equal(t.job.rc, DB_INSUFFICIENT_FUNDS);
    assert_true(t.replayed);
}

static void test_a_refusal_leaves_nothing_but_its_outcome(void **state)
{
    struct db_order o = pizza(1, 5001);

    (void)state;
    open_account(1, 5000);
    open_account(2, DB_AMOUNT_MAX);
    o.key = key("a", 1);
    for (int i = 0; i < 2; i++) { /* the second time from the kept outcomes */
        assert_int_equal(place(o).job.rc, DB_INSUFFICIENT_FUNDS);
        assert_int_equal(transfer(sending(1, id_of[2], 5001, key("b", 1))).job.rc, DB_INSUFFICIENT_FUNDS);
        assert_int_equal(transfer(sending(1, id_of[2], 1, key("c", 1))).job.rc, DB_TOO_MUCH);
        assert_int_equal(transfer(sending(1, id_of[1], 1, key("d", 1))).job.rc, DB_TO_ONESELF);
        assert_int_equal(transfer(sending(1, 999, 1, key("e", 1))).job.rc, DB_NOT_FOUND);
        assert_int_equal(transfer(sending(1, 0, 1, key("f", 1))).job.rc, DB_NOT_FOUND); /* the house takes no presents */
    }
    assert_int_equal(balance(1), 5000);
    assert_int_equal(balance(2), DB_AMOUNT_MAX);
    assert_int_equal(other_counts("SELECT count(*) FROM entries WHERE kind <> 'opening'"), 0);
    assert_int_equal(other_counts("SELECT count(*) FROM orders"), 0);
    assert_int_equal(other_counts("SELECT count(*) FROM keys"), 6);
}

static void test_the_house_cannot_owe_more_than_it_can_count(void **state)
{
    static struct db_account a[1025];
    size_t opened = 0;

    (void)state;
    for (unsigned i = 0; i < COUNT(a); i++) {
        a[i] = (struct db_account){.token = token(i), .name = "rich", .balance_cents = DB_AMOUNT_MAX};
        db_open_account(&a[i], await());
        if (i % 512 == 511) finish();
    }
    finish();
    while (opened < COUNT(a) && a[opened].job.rc == DB_OK) opened++;
    assert_int_equal(opened, 1024); /* 1024 * (2^53 - 1) fits, one more does not */
    assert_int_equal(a[1024].job.rc, DB_BROKEN);
}

static void test_entries_come_in_pages_newest_first(void **state)
{
    struct db_entry rows[3];
    struct db_entries e = {.limit = 3, .rows = rows};
    struct db_order o;

    (void)state;
    open_account(1, 5000);
    open_account(2, 0);
    o = place(pizza(1, 1000));
    cancel(1, o.order.id);
    now_ms++;
    struct db_transfer t = transfer(sending(1, id_of[2], 700, key("k", 1)));

    e.token = token(1);
    e.account_id = id_of[1];
    db_list_entries(&e, await());
    finish();
    assert_int_equal(e.job.rc, DB_OK);
    assert_int_equal(e.count, 3);
    assert_true(e.more);
    assert_int_equal(rows[0].kind, DB_TRANSFER);
    assert_int_equal(rows[0].amount_cents, -700);
    assert_int_equal(rows[0].transfer_id, t.id);
    assert_int_equal(rows[0].peer_id, id_of[2]);
    assert_int_equal(rows[0].at_ms, now_ms);
    assert_string_equal(rows[0].note, "grazie");
    assert_int_equal(rows[1].kind, DB_REFUND);
    assert_int_equal(rows[1].amount_cents, 1000);
    assert_int_equal(rows[1].peer_id, 0);
    assert_int_equal(rows[1].transfer_id, 0);
    assert_int_equal(rows[2].kind, DB_ORDER);
    assert_int_equal(rows[2].order_id, o.order.id);
    assert_string_equal(rows[2].note, "");

    e.before = rows[2].id; /* the same struct again: count and more begin anew */
    db_list_entries(&e, await());
    finish();
    assert_int_equal(e.count, 1);
    assert_false(e.more);
    assert_int_equal(rows[0].kind, DB_OPENING);
    assert_int_equal(rows[0].amount_cents, 5000);
    assert_int_equal(rows[0].order_id, 0);

    e = (struct db_entries){.token = token(2), .account_id = id_of[2], .limit = 3, .rows = rows};
    db_list_entries(&e, await());
    finish();
    assert_int_equal(e.count, 1);
    assert_int_equal(rows[0].transfer_id, t.id); /* the same transfer seen from the other side */
    assert_int_equal(rows[0].amount_cents, 700);
    assert_int_equal(rows[0].peer_id, id_of[1]);
}

/* ---- the pizzeria ---------------------------------------------------------------------------------------------------------------- */

static void test_a_pizza_is_ready_when_the_clock_says_so(void **state)
{
    (void)state;
    open_account(1, 5000);
    struct db_order o = place(pizza(1, 1000));
    assert_int_equal(o.job.rc, DB_OK);
    assert_int_equal(o.order.account_id, id_of[1]);
    assert_int_equal(o.order.placed_at_ms, now_ms);
    assert_int_equal(o.order.ready_at_ms, now_ms + 1000);
    assert_int_equal(o.order.cancelled_at_ms, 0);
    now_ms += 999;
    struct db_order got = get_order(1, o.order.id);
    assert_memory_equal(&got.order, &o.order, sizeof o.order);
    assert_int_equal(order_status(&got.order, got.now.ms), ORDER_BAKING);
    now_ms += 1;
    got = get_order(1, o.order.id);
    assert_int_equal(order_status(&got.order, got.now.ms), ORDER_READY);
    assert_int_equal(cancel(1, o.order.id).job.rc, DB_ALREADY_READY);
    assert_int_equal(balance(1), 4000);
}

static void test_a_cancelled_order_is_refunded_once(void **state)
{
    (void)state;
    open_account(1, 5000);
    struct db_order o = place(pizza(1, 1000));
    now_ms += 999; /* the last moment */
    struct db_order c = cancel(1, o.order.id);
    assert_int_equal(c.job.rc, DB_OK);
    assert_int_equal(c.order.cancelled_at_ms, now_ms);
    assert_int_equal(balance(1), 5000);
    now_ms += 5;
    struct db_order again = cancel(1, o.order.id);
    assert_int_equal(again.job.rc, DB_ALREADY_CANCELLED);
    assert_memory_equal(&again.order, &c.order, sizeof c.order);
    assert_int_equal(order_status(&again.order, again.now.ms), ORDER_CANCELLED);
    assert_int_equal(balance(1), 5000);
}

static void test_somebody_elses_order_is_not_found(void **state)
{
    (void)state;
    open_account(1, 5000);
    open_account(2, 5000);
    struct db_order o = place(pizza(1, 1000));
    assert_int_equal(get_order(2, o.order.id).job.rc, DB_NOT_FOUND);
    assert_int_equal(cancel(2, o.order.id).job.rc, DB_NOT_FOUND);
    assert_int_equal(cancel(1, 999).job.rc, DB_NOT_FOUND);
    assert_int_equal(balance(1), 4000);
}

static void list(struct db_orders *l, int status, int64_t before)
{
    l->token = token(1);
    l->filtered = status >= 0;
    l->status = status >= 0 ? (enum order_status)status : 0;
    l->before = before;
    db_list_orders(l, await());
    finish();
    assert_int_equal(l->job.rc, DB_OK);
}

static void test_orders_come_in_pages_newest_first_by_status(void **state)
{
    struct order rows[4];
    struct db_orders l = {.limit = 4, .rows = rows};
    int64_t ids[12];

    (void)state;
    open_account(1, 50000);
    open_account(2, 50000);
    for (int i = 0; i < 12; i++) { /* four of each, turn about */
        struct db_order o = pizza(1, 1000);

        o.bake_ms = i % 3 == 0 ? 10 : 10000;
        ids[i] = place(o).order.id;
        place(pizza(2, 1000));
        if (i % 3 == 1) cancel(1, ids[i]);
    }
    now_ms += 10;
    static const enum order_status status_of[] = {ORDER_READY, ORDER_CANCELLED, ORDER_BAKING};
    for (int kind = 0; kind < 3; kind++) {
        list(&l, (int)status_of[kind], 0);
        assert_int_equal(l.count, 4);
        assert_false(l.more);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(rows[i].id, ids[9 + kind - 3 * i]);
            assert_int_equal(order_status(&rows[i], l.now.ms), status_of[kind]);
        }
        list(&l, (int)status_of[kind], ids[3 + kind]);
        assert_int_equal(l.count, 1);
        assert_int_equal(rows[0].id, ids[kind]);
    }
    list(&l, -1, 0);
    assert_true(l.more);
    list(&l, -1, ids[8]);
    assert_true(l.more);
    list(&l, -1, ids[4]);
    assert_false(l.more);
    for (int i = 0; i < 4; i++) assert_int_equal(rows[i].id, ids[3 - i]);
    list(&l, -1, ids[0]);
    assert_int_equal(l.count, 0);
}

/* ---- events -------------------------------------------------------------------------------------------------------------------------- */

static struct order_event told[16];

static void listen(struct db_events *e)
{
    e->limit = COUNT(told);
    e->rows = told;
    db_order_events(e, await());
    finish();
    assert_int_equal(e->job.rc, DB_OK);
}

static void check_event(size_t i, enum event_kind kind, int64_t order_id, int64_t at_ms)
{
    assert_int_equal(told[i].cursor.kind, kind);
    assert_int_equal(told[i].cursor.order_id, order_id);
    assert_int_equal(told[i].cursor.at_ms, at_ms);
    assert_int_equal(told[i].order.id, order_id);
}

static void test_events_are_told_in_order_once_their_millisecond_is_over(void **state)
{
    struct db_events e = {.token = token(1), .from_now = true};
    int64_t t = ++now_ms;

    (void)state;
    open_account(1, 50000);
    listen(&e);
    assert_int_equal(e.account_id, id_of[1]);
    assert_int_equal(e.count, 0);
    assert_int_equal(e.next_ms, 0);
    e.from_now = false;

    int64_t a = place(pizza(1, 1000)).order.id;
    now_ms = t + 1;
    int64_t b = place(pizza(1, 1000)).order.id;
    listen(&e);
    assert_int_equal(e.count, 1);
    check_event(0, EVENT_PLACED, a, t);
    assert_int_equal(e.next_ms, t + 2); /* when this millisecond is over, b can be told */
    now_ms = t + 2;
    cancel(1, a);
    listen(&e);
    assert_int_equal(e.count, 1);
    check_event(0, EVENT_PLACED, b, t + 1);
    assert_int_equal(e.next_ms, t + 3);
    now_ms = t + 3;
    listen(&e);
    assert_int_equal(e.count, 1);
    check_event(0, EVENT_CANCELLED, a, t + 2);
    assert_int_equal(e.next_ms, t + 1001 + 1); /* b is ready at t + 1001; a never will be */
    now_ms = t + 1001;
    listen(&e);
    assert_int_equal(e.count, 0);
    now_ms = t + 1002;
    listen(&e);
    assert_int_equal(e.count, 1);
    check_event(0, EVENT_READY, b, t + 1001);
    assert_int_equal(e.next_ms, 0);

    e.cursor = (struct event_cursor){t, a, EVENT_PLACED}; /* a subscriber comes back with its last event */
    listen(&e);
    assert_int_equal(e.count, 3);
    assert_false(e.lost || e.more);
    check_event(0, EVENT_PLACED, b, t + 1);
    check_event(1, EVENT_CANCELLED, a, t + 2);
    check_event(2, EVENT_READY, b, t + 1001);
}

static void test_events_of_one_millisecond_come_in_the_order_of_ids_and_kinds(void **state)
{
    struct db_events e = {.token = token(1)};
    struct db_order o = pizza(1, 1000);
    int64_t t = ++now_ms;

    (void)state;
    open_account(1, 50000);
    o.bake_ms = 0;
    int64_t a = place(o).order.id, b = place(pizza(1, 1000)).order.id;
    cancel(1, b);
    now_ms++;
    listen(&e);
    assert_int_equal(e.count, 4);
    check_event(0, EVENT_PLACED, a, t);
    check_event(1, EVENT_READY, a, t);
    check_event(2, EVENT_PLACED, b, t);
    check_event(3, EVENT_CANCELLED, b, t);
    e.cursor = told[1].cursor;
    listen(&e);
    assert_int_equal(e.count, 2);
    check_event(0, EVENT_PLACED, b, t);
}

/* All placed in one group, in the present millisecond. */
static void place_many(int count)
{
    static struct db_order o[DB_QUEUE_MAX];

    for (int i = 0; i < count; i++) {
        o[i] = pizza(1, 1);
        db_place_order(&o[i], await());
    }
    finish();
    for (int i = 0; i < count; i++) assert_int_equal(o[i].job.rc, DB_OK);
}

static void test_who_has_missed_too_much_is_told_so(void **state)
{
    struct db_events e = {.token = token(1), .from_now = true};

    (void)state;
    open_account(1, 50000);
    listen(&e);
    e.from_now = false;
    struct event_cursor beginning = e.cursor;
    place_many(EVENTS_TOLD);
    now_ms++;
    size_t count = 0;
    do {
        listen(&e);
        assert_false(e.lost);
        count += e.count;
    } while (e.more);
    assert_int_equal(count, EVENTS_TOLD);

    place_many(EVENTS_TOLD / 2); /* with a thousand in the oven, whoever listens misses nothing */
    now_ms++;
    for (count = 0; e.more || count == 0; count += e.count) {
        listen(&e);
        assert_false(e.lost);
    }
    assert_int_equal(count, EVENTS_TOLD / 2);

    e.cursor = beginning;
    listen(&e);
    assert_true(e.lost);
    assert_int_equal(e.count, 0);
    now_ms++;
    listen(&e); /* the cursor is the present */
    assert_false(e.lost);
    assert_int_equal(e.count, 0);
    assert_true(e.next_ms > now_ms);
}

/* ---- a storm, and a small model of everything ------------------------------------------------------------------------------------------ */

#define PEOPLE 5
#define STORM 3000

static struct {
    int64_t balance[PEOPLE];
    struct order orders[STORM + 1];
    int64_t order_count;
    struct {
        unsigned who;
        bool is_order;
        enum db_rc rc;
        int64_t amount, balance, order_id;
    } keys[STORM];
    size_t key_count;
} model;

static uint64_t chance_state = 20190;

static int64_t chance(int64_t below)
{
    chance_state ^= chance_state << 13;
    chance_state ^= chance_state >> 7;
    chance_state ^= chance_state << 17;
    return (int64_t)(chance_state % (uint64_t)below);
}

/* One operation, and what must come of it. */
static struct {
    enum { STORM_ORDER, STORM_TRANSFER, STORM_CANCEL } what;
    struct db_order order;
    struct db_transfer transfer;
    enum db_rc rc;
    int64_t order_id, balance;
    bool replayed;
} storm[32];

static enum db_rc model_order(unsigned who, const struct db_order *o, int64_t *id)
{
    if (o->order.price_cents > model.balance[who]) return DB_INSUFFICIENT_FUNDS;
    model.balance[who] -= o->order.price_cents;
    *id = ++model.order_count;
    model.orders[*id] = o->order;
    model.orders[*id].id = *id;
    model.orders[*id].account_id = id_of[who];
    model.orders[*id].placed_at_ms = now_ms;
    model.orders[*id].ready_at_ms = now_ms + o->bake_ms;
    return DB_OK;
}

static enum db_rc model_cancel(unsigned who, int64_t id)
{
    struct order *o = &model.orders[id];

    if (id < 1 || id > model.order_count || o->account_id != id_of[who]) return DB_NOT_FOUND;
    if (o->cancelled_at_ms) return DB_ALREADY_CANCELLED;
    if (o->ready_at_ms <= now_ms) return DB_ALREADY_READY;
    o->cancelled_at_ms = now_ms;
    model.balance[who] += o->price_cents;
    return DB_OK;
}

static enum db_rc model_transfer(unsigned from, unsigned to, int64_t cents)
{
    if (from == to) return DB_TO_ONESELF;
    if (to == PEOPLE) return DB_NOT_FOUND;
    if (cents > model.balance[from]) return DB_INSUFFICIENT_FUNDS;
    model.balance[from] -= cents;
    model.balance[to] += cents;
    return DB_OK;
}

/* A key out of the past, mostly by who had it, sometimes with the other kind of request. NULL: a new one. */
static struct db_key storm_key(unsigned who, bool is_order, size_t *known)
{
    char text[32];

    *known = model.key_count > 0 && chance(4) == 0 ? (size_t)chance((int64_t)model.key_count) : model.key_count;
    if (*known < model.key_count && model.keys[*known].who != who) *known = model.key_count;
    snprintf(text, sizeof text, "key-%zu", *known);
    return key(text, is_order);
}

static void storm_one(size_t i)
{
    unsigned who = (unsigned)chance(PEOPLE), to = (unsigned)chance(PEOPLE + 1);
    int64_t what = chance(10);
    size_t known;

    storm[i].replayed = false;
    storm[i].order_id = 0;
    if (what < 2) {
        storm[i].what = STORM_CANCEL;
        storm[i].order = (struct db_order){.token = token(who), .order.id = 1 + chance(model.order_count + 2)};
        if (what == 0) storm[i].order.order.id = model.order_count; /* one that may still be baking */
        storm[i].rc = model_cancel(who, storm[i].order.order.id);
        db_cancel_order(&storm[i].order, await());
        return;
    }
    bool is_order = what < 7;
    struct db_key k = storm_key(who, is_order, &known);
    storm[i].what = is_order ? STORM_ORDER : STORM_TRANSFER;
    storm[i].order = pizza(who, 1 + chance(900));
    storm[i].order.bake_ms = chance(60);
    storm[i].order.key = k;
    storm[i].transfer = sending(who, to == PEOPLE ? 999 : id_of[to], 1 + chance(1500), k);
    if (known < model.key_count) {
        bool same = model.keys[known].is_order == is_order;

        storm[i].rc = same ? model.keys[known].rc : DB_KEY_REUSED;
        storm[i].replayed = same;
        storm[i].order_id = model.keys[known].order_id;
        storm[i].balance = model.keys[known].balance;
    } else {
        storm[i].rc = is_order ? model_order(who, &storm[i].order, &storm[i].order_id)
                               : model_transfer(who, to, storm[i].transfer.amount_cents);
        storm[i].balance = model.balance[who];
        model.keys[known].who = who;
        model.keys[known].is_order = is_order;
        model.keys[known].rc = storm[i].rc;
        model.keys[known].order_id = storm[i].order_id;
        model.keys[known].balance = storm[i].balance;
        model.key_count++;
    }
    if (is_order) db_place_order(&storm[i].order, await());
    else db_transfer(&storm[i].transfer, await());
}

static void storm_check(size_t i)
{
    if (storm[i].what == STORM_TRANSFER) {
        assert_int_equal(storm[i].transfer.job.rc, storm[i].rc);
        assert_int_equal(storm[i].transfer.replayed, storm[i].replayed);
        if (storm[i].rc == DB_OK) assert_int_equal(storm[i].transfer.balance_cents, storm[i].balance);
        return;
    }
    assert_int_equal(storm[i].order.job.rc, storm[i].rc);
    if (storm[i].what == STORM_CANCEL) return;
    assert_int_equal(storm[i].order.replayed, storm[i].replayed);
    if (storm[i].rc == DB_OK) assert_int_equal(storm[i].order.order.id, storm[i].order_id);
}

static int by_cursor(const void *a, const void *b)
{
    const struct event_cursor *x = a, *y = b;

    if (x->at_ms != y->at_ms) return x->at_ms < y->at_ms ? -1 : 1;
    if (x->order_id != y->order_id) return x->order_id < y->order_id ? -1 : 1;
    return x->kind - y->kind;
}

/* Every event of one account, in order. Returns how many lie before the present; *next: the first that does not, or 0. */
static size_t model_events(unsigned who, struct event_cursor *events, int64_t *next)
{
    size_t count = 0, past = 0;

    for (int64_t id = 1; id <= model.order_count; id++) {
        const struct order *o = &model.orders[id];

        if (o->account_id != id_of[who]) continue;
        events[count++] = (struct event_cursor){o->placed_at_ms, id, EVENT_PLACED};
        events[count++] = o->cancelled_at_ms ? (struct event_cursor){o->cancelled_at_ms, id, EVENT_CANCELLED}
                                             : (struct event_cursor){o->ready_at_ms, id, EVENT_READY};
    }
    qsort(events, count, sizeof *events, by_cursor);
    while (past < count && events[past].at_ms < now_ms) past++;
    *next = past < count ? events[past].at_ms : 0;
    return past;
}

static void test_a_storm_leaves_what_the_model_says(void **state)
{
    static struct event_cursor events[2 * STORM];
    struct db_events listeners[PEOPLE];
    size_t heard[PEOPLE] = {0};
    int64_t total = 0, next;

    (void)state;
    for (unsigned who = 0; who < PEOPLE; who++) {
        open_account(who, 20000);
        model.balance[who] = 20000;
        listeners[who] = (struct db_events){.token = token(who), .from_now = true};
        listen(&listeners[who]);
        listeners[who].from_now = false;
    }
    for (size_t done = 0; done < STORM;) {
        size_t batch = 1 + (size_t)chance(COUNT(storm));

        for (size_t i = 0; i < batch && done < STORM; i++, done++) storm_one(i);
        size_t sent = started;
        finish();
        for (size_t i = 0; i < sent; i++) storm_check(i);
        now_ms += chance(8);

        unsigned who = (unsigned)chance(PEOPLE);
        assert_int_equal(balance(who), model.balance[who]);
        listen(&listeners[who]);
        assert_false(listeners[who].lost);
        size_t past = model_events(who, events, &next);
        for (size_t i = 0; i < listeners[who].count; i++) assert_int_equal(by_cursor(&told[i].cursor, &events[heard[who]++]), 0);
        assert_int_equal(listeners[who].more, heard[who] < past);
        assert_int_equal(listeners[who].next_ms, next ? next + 1 : 0);
    }
    for (int64_t id = 1; id <= model.order_count; id++) {
        unsigned who = 0;

        while (id_of[who] != model.orders[id].account_id) who++;
        struct db_order o = get_order(who, id);
        assert_int_equal(o.job.rc, DB_OK);
        assert_memory_equal(&o.order, &model.orders[id], sizeof o.order);
    }
    for (unsigned who = 0; who < PEOPLE; who++) total += balance(who);
    assert_int_equal(total + other_counts("SELECT sum(balance_cents) FROM accounts WHERE id <= 0"), 0);
    assert_int_equal(other_counts("SELECT count(*) FROM orders"), model.order_count);
}

/* ---- the group commit --------------------------------------------------------------------------------------------------------------------- */

static uint64_t commits(void)
{
    struct db_stats s;

    db_stats(&s);
    return s.commits;
}

static void test_one_commit_serves_a_group_and_a_failure_in_it_is_its_own(void **state)
{
    struct db_order o[5];
    struct db_transfer t;

    (void)state;
    open_account(1, 5000);
    open_account(2, 0);
    /* trouble in the middle of a movement, after money has left its account */
    other_does(path, "CREATE TRIGGER trouble AFTER INSERT ON entries WHEN new.note = 'trouble' BEGIN SELECT RAISE(FAIL, 'x'); END");
    until_it_works();
    uint64_t before = commits();
    int synced = syncs;
    hold_worker();
    for (int i = 0; i < 5; i++) o[i] = pizza(1, i == 1 ? 99999 : 100);
    o[3].order.pizzas = 0; /* against a CHECK */
    t = sending(1, id_of[2], 1000, key("k", 1));
    snprintf(t.note, sizeof t.note, "trouble");
    for (int i = 0; i < 5; i++) {
        if (i == 2) db_transfer(&t, await());
        db_place_order(&o[i], await());
    }
    release_worker();
    assert_int_equal(o[0].job.rc, DB_OK);
    assert_int_equal(o[1].job.rc, DB_INSUFFICIENT_FUNDS);
    assert_int_equal(o[2].job.rc, DB_OK);
    assert_int_equal(o[3].job.rc, DB_BROKEN);
    assert_int_equal(o[4].job.rc, DB_OK);
    assert_int_equal(t.job.rc, DB_BROKEN);
    assert_int_equal(commits(), before + 1);
    assert_int_equal(syncs, synced + 1); /* on the disk, and all of it at once */
    assert_int_equal(balance(1), 4700);
    assert_int_equal(other_counts("SELECT count(*) FROM orders"), 3);
    assert_int_equal(other_counts("SELECT count(*) FROM keys"), 0); /* trouble is not an outcome */
    snprintf(t.note, sizeof t.note, "grazie");
    assert_int_equal(transfer(t).job.rc, DB_OK);
}

/* Three orders, the second of this flavor; what it needs is made by `sql`. Everybody is told `rc`, and then all is well. */
static void everybody_fails_by(const char *flavor, const char *sql, int error, enum db_rc rc)
{
    struct db_order o[3];
    int64_t before = balance(1);

    other_does(path, sql);
    until_it_works();
    hold_worker();
    for (int i = 0; i < 3; i++) o[i] = pizza(1, 100);
    snprintf(o[1].order.flavor, sizeof o[1].order.flavor, "%s", flavor);
    for (int i = 0; i < 3; i++) db_place_order(&o[i], await());
    write_error = error;
    release_worker();
    write_error = 0;
    for (int i = 0; i < 3; i++) assert_int_equal(o[i].job.rc, rc);
    assert_int_equal(balance(1), before);
    assert_int_equal(place(pizza(1, 100)).job.rc, DB_OK);
    assert_int_equal(balance(1), before - 100);
}

static void test_when_everything_is_rolled_back_everybody_is_told(void **state)
{
    (void)state;
    open_account(1, 5000);
    everybody_fails_by("away",
                       "CREATE TRIGGER away BEFORE INSERT ON orders WHEN new.flavor = 'away' BEGIN "
                       "SELECT RAISE(ROLLBACK, 'x'); END",
                       0, DB_BROKEN);
    /* the disk is full before the commit, since so much does not fit into the cache */
    everybody_fails_by("large",
                       "CREATE TABLE ballast (b); CREATE TRIGGER large BEFORE INSERT ON orders WHEN new.flavor = 'large' BEGIN "
                       "INSERT INTO ballast VALUES (zeroblob(8000000)); END",
                       EDQUOT, DB_DISK_FULL);
    /* a commit that fails and leaves its transaction open */
    everybody_fails_by("orphan",
                       "CREATE TABLE orphans (parent REFERENCES accounts (id) DEFERRABLE INITIALLY DEFERRED);"
                       "CREATE TRIGGER orphan BEFORE INSERT ON orders WHEN new.flavor = 'orphan' BEGIN "
                       "INSERT INTO orphans VALUES (999); END",
                       0, DB_BROKEN);
}

static void test_reads_are_answered_before_the_commit_of_their_batch(void **state)
{
    struct db_order o = pizza(1, 1000);
    struct db_account a = {.token = token(1)};

    (void)state;
    open_account(1, 5000);
    a.id = id_of[1];
    hold_worker();
    struct waiter *written = (struct waiter *)(void *)await();
    db_place_order(&o, &written->op);
    struct waiter *read = (struct waiter *)(void *)await();
    db_get_account(&a, &read->op);
    release_worker();
    assert_true(read->done < written->done);
    assert_int_equal(a.balance_cents, 5000);
    assert_true(read->op.served_ns > 0);
    assert_int_equal(balance(1), 4000);
}

static void test_groups_can_be_bounded(void **state)
{
    struct db_order o[7];

    (void)state;
    open_account(1, 5000);
    close_db();
    open_db((struct db_options){.group_max = 3});
    place(pizza(1, 100)); /* a new log has syncs of its own */
    hold_worker();
    for (int i = 0; i < 7; i++) {
        o[i] = pizza(1, 100);
        db_place_order(&o[i], await());
    }
    uint64_t before = commits();
    int synced = syncs;
    release_worker();
    assert_int_equal(syncs, synced + 3);
    for (int i = 0; i < 7; i++) assert_int_equal(o[i].job.rc, DB_OK);
    for (int i = 1; i < 7; i++) assert_int_equal(o[i].order.id, o[i - 1].order.id + 1);
    assert_int_equal(commits(), before + 3);
}

/* ---- trouble with the disk ---------------------------------------------------------------------------------------------------------------- */

static void test_a_failed_commit_fails_everybody_and_is_over_when_its_cause_is(void **state)
{
    static const struct {
        int error;
        enum db_rc rc;
    } cases[] = {{ENOSPC, DB_DISK_FULL}, {EDQUOT, DB_DISK_FULL}, {EFBIG, DB_DISK_FULL}, {EIO, DB_UNKNOWN}};

    (void)state;
    open_account(1, 5000);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct db_order o[2] = {pizza(1, 100), pizza(1, 100)};
        struct db_order refused = pizza(1, 9999);

        o[0].key = key("k", (unsigned char)i);
        snprintf(o[0].key.text, sizeof o[0].key.text, "key %zu", i);
        int64_t before = balance(1);
        hold_worker();
        db_place_order(&o[0], await());
        db_place_order(&refused, await());
        db_place_order(&o[1], await());
        write_error = cases[i].error;
        release_worker();
        assert_int_equal(o[0].job.rc, cases[i].rc);
        assert_int_equal(o[1].job.rc, cases[i].rc);
        assert_int_equal(refused.job.rc, cases[i].rc);
        assert_int_equal(balance(1), before); /* reading goes on */
        assert_int_equal(ping(), cases[i].rc);
        write_error = 0;
        assert_int_equal(ping(), DB_OK);
        o[0] = place(o[0]); /* nothing was kept under its key */
        assert_int_equal(o[0].job.rc, DB_OK);
        assert_false(o[0].replayed);
        assert_int_equal(balance(1), before - 100);
    }
}

static void test_a_file_at_its_limit_is_a_full_disk(void **state)
{
    struct rlimit limit, small;
    struct stat wal;

    (void)state;
    open_account(1, 5000);
    assert_int_equal(stat(beside("forno.db-wal"), &wal), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = (rlim_t)wal.st_size + 100;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum db_rc rc = place(pizza(1, 100)).job.rc, pinged = ping();
    int64_t left = balance(1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(rc, DB_DISK_FULL);
    assert_int_equal(pinged, DB_DISK_FULL);
    assert_int_equal(left, 5000);
    assert_int_equal(place(pizza(1, 100)).job.rc, DB_OK);
    assert_int_equal(ping(), DB_OK);
}

static void test_whoever_else_holds_the_file_is_waited_for_and_then_named(void **state)
{
    struct db_order o = pizza(1, 100);
    struct db_account a = {.token = token(1)};
    struct db_ping p;

    (void)state;
    open_account(1, 5000);
    a.id = id_of[1];
    sqlite3 *h = other_open(path);
    other_run(h, "BEGIN IMMEDIATE");
    hold_worker();
    db_place_order(&o, await());
    db_ping(&p, await());
    db_get_account(&a, await());
    release_worker();
    other_run(h, "ROLLBACK");
    sqlite3_close(h);
    assert_int_equal(o.job.rc, DB_LOCKED);
    assert_int_equal(p.job.rc, DB_LOCKED);
    assert_int_equal(a.job.rc, DB_OK);
    assert_int_equal(a.balance_cents, 5000);
    assert_int_equal(ping(), DB_OK);
    assert_int_equal(place(o).job.rc, DB_OK);
}

static void test_a_ping_writes_nothing_while_all_is_well(void **state)
{
    struct stat before, after;

    (void)state;
    open_account(1, 5000);
    assert_int_equal(stat(beside("forno.db-wal"), &before), 0);
    for (int i = 0; i < 3; i++) assert_int_equal(ping(), DB_OK);
    assert_int_equal(stat(beside("forno.db-wal"), &after), 0);
    assert_int_equal(after.st_size, before.st_size);
}

/* ---- trouble with the file ---------------------------------------------------------------------------------------------------------------- */

/* A whole copy of the database as it is now, under another name. */
static const char *backup(void)
{
    char sql[192];

    snprintf(sql, sizeof sql, "VACUUM INTO '%s'", beside("backup.db"));
    other_does(path, sql);
    other_does(beside("backup.db"), "PRAGMA journal_mode = WAL");
    return beside("backup.db");
}

static void expect_nothing_works_but(enum db_rc rc)
{
    assert_int_equal(get_account(1).job.rc, rc);
    assert_int_equal(place(pizza(1, 100)).job.rc, rc);
    assert_int_equal(ping(), rc);
}

static void test_a_file_that_was_moved_is_missed_and_found_again(void **state)
{
    (void)state;
    open_account(1, 5000);
    place(pizza(1, 100));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rename(path, beside("away.db")), 0);
        expect_nothing_works_but(DB_MISSING);
        assert_false(exists(path)); /* nothing was put in its place */
        assert_int_equal(rename(beside("away.db"), path), 0);
        until_it_works();
        assert_int_equal(balance(1), 4900 - 100 * i);
        assert_int_equal(place(pizza(1, 100)).job.rc, DB_OK);
    }
}

static void test_no_success_is_told_of_a_file_without_a_name(void **state)
{
    (void)state;
    open_account(1, 5000);
    write_moves = true;                                        /* after all checks, during the commit */
    assert_int_equal(place(pizza(1, 100)).job.rc, DB_UNKNOWN); /* it is in the file that is away: not "nothing was done" */
    assert_false(exists(path));
    assert_int_equal(place(pizza(1, 100)).job.rc, DB_MISSING); /* now it is */
    assert_int_equal(rename(beside("away.db"), path), 0);
    until_it_works();
    assert_int_equal(balance(1), 4900);
}

static void test_a_moved_file_takes_all_that_was_written_with_it(void **state)
{
    (void)state;
    open_account(1, 5000);
    place(pizza(1, 100));
    assert_int_equal(rename(path, beside("away.db")), 0);
    expect_nothing_works_but(DB_MISSING);
    assert_int_equal(rename(beside("away.db"), path), 0);
    unlink(beside("forno.db-wal"));
    unlink(beside("forno.db-shm"));
    until_it_works();
    assert_int_equal(balance(1), 4900);
}

static void test_a_backup_put_in_place_is_served_as_it_is(void **state)
{
    (void)state;
    open_account(1, 5000);
    for (int deleted = 0; deleted < 2; deleted++) {
        const char *copy = backup();
        int64_t then = balance(1);

        for (int i = 0; i < 10; i++) assert_int_equal(place(pizza(1, 100)).job.rc, DB_OK); /* in the log, not in the file */
        if (deleted) {
            assert_int_equal(unlink(path), 0);
            expect_nothing_works_but(DB_MISSING);
            assert_false(exists(path));
        }
        assert_int_equal(rename(copy, path), 0);
        until_it_works();
        assert_int_equal(balance(1), then);
        assert_int_equal(place(pizza(1, 100)).job.rc, DB_OK);
        assert_int_equal(balance(1), then - 100);
        if (audit() != 0) fail_msg("%s", audited);
    }
}

static void test_a_lost_log_loses_nothing(void **state)
{
    (void)state;
    open_account(1, 5000);
    place(pizza(1, 100));
    assert_int_equal(unlink(beside("forno.db-wal")), 0);
    assert_int_equal(unlink(beside("forno.db-shm")), 0);
    until_it_works();
    assert_int_equal(place(pizza(1, 100)).job.rc, DB_OK);
    assert_int_equal(other_counts("SELECT count(*) FROM orders"), 2);
    assert_true(exists(beside("forno.db-wal")));
}

/* The log of an open file is deleted, and a passer-by makes another: then there is a log, but not ours. */
static void test_what_is_told_is_not_in_a_log_without_a_name(void **state)
{
    (void)state;
    open_account(1, 5000);
    place(pizza(1, 100));
    assert_int_equal(unlink(beside("forno.db-wal")), 0);
    write_file(beside("forno.db-wal"), "", 0);
    until_it_works();
    assert_int_equal(place(pizza(1, 100)).job.rc, DB_OK);
    assert_int_equal(other_counts("SELECT count(*) FROM orders"), 2); /* a stranger sees them all */
}

static void test_a_newer_schema_put_under_us_is_noticed(void **state)
{
    (void)state;
    open_account(1, 5000);
    other_does(path, "PRAGMA user_version = 999");
    assert_int_equal(place(pizza(1, 100)).job.rc, DB_BROKEN);
    other_does(path, "PRAGMA user_version = 1");
    until_it_works();
    assert_int_equal(balance(1), 5000);
}

static void test_a_refund_that_would_burst_a_balance_waits_until_there_is_room(void **state)
{
    (void)state;
    open_account(1, DB_AMOUNT_MAX);
    open_account(2, 100);
    struct db_order o = place(pizza(1, 100));
    assert_int_equal(
        transfer((struct db_transfer){.token = token(2), .to = id_of[1], .amount_cents = 1, .key = key("a", 1)}).job.rc, DB_OK);
    struct db_order c = cancel(1, o.order.id);
    assert_int_equal(c.job.rc, DB_TOO_MUCH);
    assert_int_equal(c.order.cancelled_at_ms, 0);
    assert_int_equal(balance(1), DB_AMOUNT_MAX - 99);
    assert_int_equal(
        transfer((struct db_transfer){.token = token(1), .to = id_of[2], .amount_cents = 1, .key = key("b", 1)}).job.rc, DB_OK);
    assert_int_equal(cancel(1, o.order.id).job.rc, DB_OK);
    assert_int_equal(balance(1), DB_AMOUNT_MAX);
    if (audit() != 0) fail_msg("%s", audited);
}

static void test_what_is_not_our_database_is_not_touched(void **state)
{
    static const char *const strangers[] = {"newer", "foreign", "empty", "garbage"};

    (void)state;
    open_account(1, 5000);
    const char *newer = beside("newer");
    assert_int_equal(rename(backup(), newer), 0);
    other_does(newer, "PRAGMA user_version = 999");
    other_does(beside("foreign"), "CREATE TABLE cats (name TEXT)");
    write_file(beside("empty"), "", 0);
    write_file(beside("garbage"), "Not a database, whatever its name may say.\n", 43);
    assert_int_equal(rename(path, beside("good")), 0);
    for (size_t i = 0; i < COUNT(strangers); i++) {
        struct stat before, after;

        assert_int_equal(stat(beside(strangers[i]), &before), 0);
        assert_int_equal(rename(beside(strangers[i]), path), 0);
        struct db_ping p;
        do { /* until it has looked at this one */
            db_ping(&p, await());
            finish();
        } while (p.job.rc == DB_MISSING);
        expect_nothing_works_but(DB_BROKEN);
        assert_int_equal(stat(path, &after), 0);
        assert_int_equal(after.st_size, before.st_size);
        assert_int_equal(unlink(path), 0);
        while (ping() != DB_MISSING) sched_yield();
    }
    assert_int_equal(rename(beside("good"), path), 0);
    until_it_works();
    assert_int_equal(balance(1), 5000);
}

static void test_a_corrupt_file_is_broken_until_it_is_restored(void **state)
{
    static char good[64 * 4096], bad[64 * 4096];

    (void)state;
    open_account(1, 5000);
    const char *copy = backup();
    close_db();
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    ssize_t n = read(fd, good, sizeof good);
    assert_true(n > 4096 && n < (ssize_t)sizeof good);
    memcpy(bad, good, 4096); /* the header is right, and the schema */
    memset(bad + 4096, 0xa5, sizeof bad - 4096);
    for (int in_place = 1; in_place >= 0; in_place--) {
        assert_int_equal(pwrite(fd, bad, (size_t)n, 0), n);
        open_db((struct db_options){0});
        for (int i = 0; i < 3; i++) {
            assert_int_equal(get_account(1).job.rc, DB_BROKEN);
            assert_int_equal(place(pizza(1, 100)).job.rc, DB_BROKEN);
            assert_int_equal(ping(), DB_BROKEN);
        }
        assert_int_equal(audit(), 1);
        if (in_place) assert_int_equal(pwrite(fd, good, (size_t)n, 0), n);
        else assert_int_equal(rename(copy, path), 0);
        while (get_account(1).job.rc != DB_OK) sched_yield();
        assert_int_equal(place(pizza(1, 100)).job.rc, DB_OK);
        assert_int_equal(balance(1), 4900);
        close_db();
    }
    close(fd);
}

/* ---- the queue and the worker --------------------------------------------------------------------------------------------------------------- */

static void test_a_full_queue_says_so_to_what_is_new(void **state)
{
    static struct db_ping p[DB_QUEUE_MAX + 2];
    struct db_stats s;

    (void)state;
    db_stats(&s);
    uint64_t refused = s.refused;
    hold_worker();
    for (size_t i = 0; i <= DB_QUEUE_MAX + 1; i++) {
        struct op *op = await();

        op->first = i != DB_QUEUE_MAX; /* whoever is in the middle of something goes on, full or not */
        db_ping(&p[i], op);
    }
    assert_int_equal(db_queue_depth(), DB_QUEUE_MAX + 1);
    release_worker();
    for (size_t i = 0; i <= DB_QUEUE_MAX; i++) assert_int_equal(p[i].job.rc, DB_OK);
    assert_int_equal(p[DB_QUEUE_MAX + 1].job.rc, DB_QUEUE_FULL);
    assert_int_equal(db_queue_depth(), 0);
    db_stats(&s);
    assert_int_equal(s.refused, refused + 1);
    assert_int_equal(ping(), DB_OK);
}

static void test_a_slow_query_ends_in_its_time_or_when_forsaken(void **state)
{
    struct db_slow s = {.ms = 20};

    (void)state;
    int64_t from_ns = clock_ns();
    db_slow_query(&s, await());
    finish();
    assert_int_equal(s.job.rc, DB_OK);
    assert_true(s.rows > 1);
    assert_true(clock_ns() - from_ns >= 20 * NS_PER_MS);
    s = (struct db_slow){.ms = 60000};
    atomic_store(&s.forsaken, true);
    db_slow_query(&s, await());
    finish(); /* or alarm(2) */
    assert_int_equal(s.rows, 1);
    hold_worker(); /* forsaken while it runs */
    release_worker();
}

static void test_close_finishes_what_is_queued(void **state)
{
    struct db_order o[10];

    (void)state;
    open_account(1, 5000);
    hold_worker();
    for (int i = 0; i < 10; i++) {
        o[i] = pizza(1, 100);
        db_place_order(&o[i], await());
    }
    atomic_store(&slow.forsaken, true);
    close_db();
    assert_int_equal(other_counts("SELECT count(*) FROM orders"), 10);
    assert_int_equal(completed, 0); /* the laps that follow deliver */
    finish();
    for (int i = 0; i < 10; i++) assert_int_equal(o[i].job.rc, DB_OK);
    open_db((struct db_options){0});
    assert_int_equal(balance(1), 4000);
}

static void test_blocking_mode_works_in_the_call_and_completes_after_it(void **state)
{
    struct db_order o[2] = {pizza(1, 100), pizza(1, 99999)};
    struct db_account a = {.token = token(1)};

    (void)state;
    open_account(1, 5000);
    a.id = id_of[1];
    close_db();
    open_db((struct db_options){.blocking = true});
    db_place_order(&o[0], await());
    assert_int_equal(other_counts("SELECT count(*) FROM orders"), 1);
    db_place_order(&o[1], await());
    db_get_account(&a, await());
    assert_int_equal(completed, 0);
    finish();
    assert_int_equal(o[0].job.rc, DB_OK);
    assert_int_equal(o[1].job.rc, DB_INSUFFICIENT_FUNDS);
    assert_int_equal(a.balance_cents, 4900);
}

/* What the database says when it is. */
static int64_t its_time(void)
{
    struct db_orders l = {.token = token(1)};

    db_list_orders(&l, await());
    finish();
    return l.now.ms;
}

static void test_the_calendar_goes_on_when_the_clock_is_set_back(void **state)
{
    (void)state;
    open_account(1, 5000);
    int64_t before = its_time();
    now_ms -= 3600 * 1000;
    assert_int_equal(its_time(), before);
    up_ms += 500;
    assert_int_equal(its_time(), before + 500); /* neither back nor standing still */
    now_ms += 3600 * 1000 + 499;
    assert_int_equal(its_time(), before + 500);
    now_ms += 10 * 1000; /* put forward, it is followed */
    assert_int_equal(its_time(), before + 500 + 9999);
    up_ms -= 500;
    now_ms -= 499; /* as it was, but for the ten seconds */
}

static void test_after_a_restart_time_goes_on_behind_what_has_happened(void **state)
{
    (void)state;
    open_account(1, 5000);
    int64_t then = place(pizza(1, 100)).order.placed_at_ms;
    close_db();
    now_ms -= 3600 * 1000;
    open_db((struct db_options){0});
    assert_int_equal(its_time(), then);
    assert_int_equal(place(pizza(1, 100)).order.placed_at_ms, then);
    now_ms += 3600 * 1000;
}

/* What stands before a slow query in its batch does not wait for it. */
static void test_each_read_is_told_as_it_ends(void **state)
{
    struct db_account a = {.token = token(1)};
    struct db_slow next = {.ms = 60000};

    (void)state;
    open_account(1, 5000);
    a.id = id_of[1];
    hold_worker();
    struct waiter *read = (struct waiter *)(void *)await();
    db_get_account(&a, &read->op);
    db_slow_query(&next, await());
    one_lap();
    atomic_store(&slow.forsaken, true);
    in_loop = true;
    while (!read->done) one_lap(); /* or alarm(2) */
    assert_true(db_worker_busy());
    atomic_store(&next.forsaken, true);
    finish();
}

/* Room for a probe is not room for an order. */
static void test_a_nearly_full_disk_is_not_ready(void **state)
{
    (void)state;
    open_account(1, 5000);
    assert_int_equal(ping(), DB_OK);
    blocks_left = 16;
    assert_int_equal(ping(), DB_DISK_FULL);
    assert_int_equal(place(pizza(1, 100)).job.rc, DB_OK); /* what fits is not refused */
    blocks_left = 1 << 20;
    assert_int_equal(ping(), DB_OK);
}

/* ---- what others do ---------------------------------------------------------------------------------------------------------------------------- */

static unsigned changes_heard;

static void others_changed(int64_t order_id, int64_t account_id)
{
    assert_true(order_id == 0 && account_id == 0); /* nobody knows which */
    changes_heard++;
    loop_stop();
}

static void test_what_another_process_does_is_heard_while_somebody_listens(void **state)
{
    (void)state;
    open_account(1, 5000);
    db_on_change(others_changed);
    db_listen(clock_ns() + 60 * NS_PER_S);
    changes_heard = 0;
    place(pizza(1, 100)); /* what we do ourselves, we know */
    other_does(path, "UPDATE accounts SET name = 'Bia' WHERE id = 1");
    assert_int_equal(loop_run(), 0); /* or alarm(2) */
    assert_int_equal(changes_heard, 1);
    db_on_change(NULL);
}

/* ---- no request scans a table ------------------------------------------------------------------------------------------------------------------ */

static void no_such_luck(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    (void)argc;
    (void)argv;
    sqlite3_result_int(context, 0);
}

static void test_no_statement_scans_a_table(void **state)
{
    static const char *const tables[] = {"accounts", "orders", "entries", "keys"};
    sqlite3 *h = other_open(path);
    size_t steps = 0;

    (void)state;
    sqlite3_create_function(h, "still_busy", 0, SQLITE_UTF8, NULL, no_such_luck, NULL, NULL);
    assert_true(statement_count > 20 && statement_count < COUNT(statements));
    for (size_t i = 0; i < statement_count; i++) {
        sqlite3_stmt *s;
        char *sql = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", statements[i]);

        if (sqlite3_prepare_v2(h, sql, -1, &s, NULL) != SQLITE_OK) fail_msg("%s: %s", sql, sqlite3_errmsg(h));
        while (sqlite3_step(s) == SQLITE_ROW) {
            const char *step = (const char *)sqlite3_column_text(s, 3);

            steps++;
            if (strstr(step, "AUTOMATIC")) fail_msg("%s: %s", step, statements[i]);
            for (size_t t = 0; t < COUNT(tables) && strncmp(step, "SCAN ", 5) == 0; t++) {
                size_t n = strlen(tables[t]);

                if (strncmp(step + 5, tables[t], n) == 0 && !step[5 + n + strspn(step + 5 + n, " ")])
                    fail_msg("%s: %s", step, statements[i]);
                if (strncmp(step + 5, tables[t], n) == 0 && strstr(step, "USING")) fail_msg("%s: %s", step, statements[i]);
            }
        }
        sqlite3_finalize(s);
        sqlite3_free(sql);
    }
    assert_true(steps > 20);
    sqlite3_close(h);
}

/* ---- opening ---------------------------------------------------------------------------------------------------------------------------------------- */

static void expect_refusal(const char *file, const char *what)
{
    struct db_options options = {.path = file};
    char error[512] = "";

    assert_int_equal(db_open(&options, error, sizeof error), -1);
    if (!strstr(error, what) || !strstr(error, file)) fail_msg("expected \"%s\", got: %s", what, error);
}

static void test_a_database_that_cannot_be_used_says_why(void **state)
{
    (void)state;
    close_db();
    expect_refusal("/nowhere/forno.db", "No such file or directory");
    expect_refusal(dir, "directory");
    expect_refusal(":memory:", "write-ahead log"); /* as on a file system without shared memory */
    write_file(beside("text.db"), "Not a database, whatever its name may say.\n", 43);
    expect_refusal(beside("text.db"), "not a database");
    other_does(beside("cats.db"), "CREATE TABLE cats (name TEXT)");
    expect_refusal(beside("cats.db"), "some other program's");
    assert_int_equal(rename(backup(), beside("newer.db")), 0);
    other_does(beside("newer.db"), "PRAGMA user_version = 999");
    expect_refusal(beside("newer.db"), "newer version");

    sqlite3 *h = other_open(path);
    other_run(h, "BEGIN IMMEDIATE");
    expect_refusal(path, "another process holds it");
    sqlite3_close(h);

    /* root may write whatever it likes, so be somebody else */
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(chmod(path, 0444), 0);
    if (geteuid() == 0) assert_int_equal(seteuid(65534), 0);
    struct db_options options = {.path = path};
    char error[512] = "";
    int rc = db_open(&options, error, sizeof error);
    if (getuid() == 0) assert_int_equal(seteuid(0), 0);
    assert_int_equal(rc, -1);
    assert_non_null(strstr(error, "can only be read"));
    assert_int_equal(chmod(path, 0644), 0);
    open_db((struct db_options){0});
}

static void test_an_empty_file_becomes_a_database_when_the_service_starts(void **state)
{
    (void)state;
    close_db();
    unlink(path);
    write_file(path, "", 0);
    open_db((struct db_options){0});
    assert_int_equal(open_account(1, 5000), DB_OK);
    close_db();
    open_db((struct db_options){0});
    assert_int_equal(balance(1), 5000);
}

static void test_two_services_over_one_file_agree(void **state)
{
    (void)state;
    open_account(1, 5000);
    struct db_order o = place(pizza(1, 100));
    /* what the other one would write for a cancelled order */
    char sql[512];
    snprintf(
        sql, sizeof sql,
        "BEGIN IMMEDIATE; UPDATE orders SET cancelled_at_ms = %lld;"
        "UPDATE accounts SET balance_cents = balance_cents + 100 WHERE id = 1;"
        "UPDATE accounts SET balance_cents = balance_cents - 100 WHERE id = -1;"
        "INSERT INTO entries VALUES (5, 5, -1, 1, 'refund', -100, 1, NULL, %lld), (6, 5, 1, -1, 'refund', 100, 1, NULL, %lld); COMMIT",
        (long long)now_ms, (long long)now_ms, (long long)now_ms);
    other_does(path, sql);
    assert_int_equal(balance(1), 5000);
    assert_int_equal(cancel(1, o.order.id).job.rc, DB_ALREADY_CANCELLED);
}

/* ---- --audit ------------------------------------------------------------------------------------------------------------------------------------------ */

static void test_the_audit_finds_every_planted_fault(void **state)
{
    static const char *const faults[][2] = {
        {"UPDATE accounts SET balance_cents = balance_cents + 1 WHERE id = 1", "WRONG  every balance"},
        {"UPDATE entries SET amount_cents = amount_cents + 1 WHERE id = 1", "WRONG  every movement"},
        {"UPDATE entries SET amount_cents = amount_cents + 1 WHERE id = 1", "WRONG  all entries"},
        {"DELETE FROM entries WHERE id = 2", "WRONG  every movement"},
        {"UPDATE entries SET kind = 'order' WHERE id = 1", "WRONG  both sides"},
        {"UPDATE entries SET peer_id = 2 WHERE id = 1", "WRONG  both sides"},
        {"DELETE FROM entries WHERE kind = 'order' AND order_id = 1", "WRONG  every order is paid"},
        {"UPDATE orders SET price_cents = 101 WHERE id = 1", "WRONG  every order is paid"},
        {"UPDATE orders SET cancelled_at_ms = placed_at_ms WHERE id = 1", "WRONG  every cancelled order is refunded"},
        {"UPDATE orders SET cancelled_at_ms = NULL WHERE id = 2", "WRONG  every cancelled order is refunded"},
        {"PRAGMA ignore_check_constraints = 1; UPDATE accounts SET balance_cents = -1 WHERE id = 1", "WRONG  no customer owes"},
        {"UPDATE orders SET account_id = 77 WHERE id = 1", "WRONG  every reference"},
        {"UPDATE keys SET account_id = 77", "WRONG  every reference"},
        {"PRAGMA writable_schema = 1; DELETE FROM sqlite_schema WHERE name = 'orders_by_ready'", "WRONG  the file is sound"},
    };
    struct db_order o = pizza(1, 100);

    (void)state;
    open_account(1, 5000);
    o.key = key("k", 1);
    place(o);
    cancel(1, place(pizza(1, 100)).order.id);
    assert_int_equal(audit(), 0);
    assert_non_null(strstr(audited, "1 accounts, 2 orders, 8 entries"));
    assert_null(strstr(audited, "WRONG"));
    for (size_t i = 0; i < COUNT(faults); i++) {
        const char *copy = backup();

        other_does(copy, faults[i][0]);
        char ledger[128];
        snprintf(ledger, sizeof ledger, "%s", path);
        snprintf(path, sizeof path, "%s", copy);
        int rc = audit();
        snprintf(path, sizeof path, "%s", ledger);
        if (rc != 1 || !strstr(audited, faults[i][1])) fail_msg("%s:\n%s", faults[i][0], audited);
        assert_int_equal(unlink(copy), 0);
    }
}

static void test_the_audit_of_what_is_no_ledger_fails(void **state)
{
    (void)state;
    close_db();
    unlink(path);
    assert_int_equal(audit(), 1);
    assert_non_null(strstr(audited, "cannot be audited"));
    assert_false(exists(path));
    other_does(path, "CREATE TABLE cats (name TEXT)");
    assert_int_equal(audit(), 1);
    unlink(path);
    open_db((struct db_options){0});
}

#define WITH_A_DATABASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_A_DATABASE(test_an_account_is_opened_with_its_credit),
        WITH_A_DATABASE(test_a_stranger_is_nobody_everywhere),
        WITH_A_DATABASE(test_my_colleagues_account_is_not_mine_whether_it_exists_or_not),
        WITH_A_DATABASE(test_money_moves_once_per_key),
        WITH_A_DATABASE(test_a_pizza_is_ordered_once_per_key),
        WITH_A_DATABASE(test_the_same_key_twice_in_one_group_is_one_order),
        WITH_A_DATABASE(test_a_key_with_another_request_is_refused),
        WITH_A_DATABASE(test_a_refusal_is_kept_under_its_key),
        WITH_A_DATABASE(test_a_refusal_leaves_nothing_but_its_outcome),
        WITH_A_DATABASE(test_the_house_cannot_owe_more_than_it_can_count),
        WITH_A_DATABASE(test_entries_come_in_pages_newest_first),
        WITH_A_DATABASE(test_a_pizza_is_ready_when_the_clock_says_so),
        WITH_A_DATABASE(test_a_cancelled_order_is_refunded_once),
        WITH_A_DATABASE(test_somebody_elses_order_is_not_found),
        WITH_A_DATABASE(test_orders_come_in_pages_newest_first_by_status),
        WITH_A_DATABASE(test_events_are_told_in_order_once_their_millisecond_is_over),
        WITH_A_DATABASE(test_events_of_one_millisecond_come_in_the_order_of_ids_and_kinds),
        WITH_A_DATABASE(test_who_has_missed_too_much_is_told_so),
        WITH_A_DATABASE(test_a_storm_leaves_what_the_model_says),
        WITH_A_DATABASE(test_one_commit_serves_a_group_and_a_failure_in_it_is_its_own),
        WITH_A_DATABASE(test_when_everything_is_rolled_back_everybody_is_told),
        WITH_A_DATABASE(test_reads_are_answered_before_the_commit_of_their_batch),
        WITH_A_DATABASE(test_groups_can_be_bounded),
        WITH_A_DATABASE(test_a_failed_commit_fails_everybody_and_is_over_when_its_cause_is),
        WITH_A_DATABASE(test_a_file_at_its_limit_is_a_full_disk),
        WITH_A_DATABASE(test_whoever_else_holds_the_file_is_waited_for_and_then_named),
        WITH_A_DATABASE(test_a_ping_writes_nothing_while_all_is_well),
        WITH_A_DATABASE(test_a_file_that_was_moved_is_missed_and_found_again),
        WITH_A_DATABASE(test_no_success_is_told_of_a_file_without_a_name),
        WITH_A_DATABASE(test_a_moved_file_takes_all_that_was_written_with_it),
        WITH_A_DATABASE(test_a_backup_put_in_place_is_served_as_it_is),
        WITH_A_DATABASE(test_a_lost_log_loses_nothing),
        WITH_A_DATABASE(test_what_is_not_our_database_is_not_touched),
        WITH_A_DATABASE(test_a_corrupt_file_is_broken_until_it_is_restored),
        WITH_A_DATABASE(test_a_full_queue_says_so_to_what_is_new),
        WITH_A_DATABASE(test_a_slow_query_ends_in_its_time_or_when_forsaken),
        WITH_A_DATABASE(test_close_finishes_what_is_queued),
        WITH_A_DATABASE(test_blocking_mode_works_in_the_call_and_completes_after_it),
        WITH_A_DATABASE(test_the_calendar_goes_on_when_the_clock_is_set_back),
        WITH_A_DATABASE(test_what_is_told_is_not_in_a_log_without_a_name),
        WITH_A_DATABASE(test_a_newer_schema_put_under_us_is_noticed),
        WITH_A_DATABASE(test_a_refund_that_would_burst_a_balance_waits_until_there_is_room),
        WITH_A_DATABASE(test_each_read_is_told_as_it_ends),
        WITH_A_DATABASE(test_a_nearly_full_disk_is_not_ready),
        WITH_A_DATABASE(test_what_another_process_does_is_heard_while_somebody_listens),
        WITH_A_DATABASE(test_after_a_restart_time_goes_on_behind_what_has_happened),
        WITH_A_DATABASE(test_no_statement_scans_a_table),
        WITH_A_DATABASE(test_a_database_that_cannot_be_used_says_why),
        WITH_A_DATABASE(test_an_empty_file_becomes_a_database_when_the_service_starts),
        WITH_A_DATABASE(test_two_services_over_one_file_agree),
        WITH_A_DATABASE(test_the_audit_finds_every_planted_fault),
        WITH_A_DATABASE(test_the_audit_of_what_is_no_ledger_fails),
    };

    alarm(120);
    own_the_disk();
    return cmocka_run_group_tests_name("db", tests, NULL, NULL);
}
