"""test_postgres.py: the native road's own: what is said at start, what becomes of everybody while the database is in trouble, groups, and
several Fornos in front of one database. What clients may rely on otherwise is tested on both roads: see conftest.py.

Turns and seconds are few here; FORNO_KILLS=100 and FORNO_SECONDS=60 ask for as many as one wants. FORNO_QUIET=1 says that nobody else is
using the machine: then the loop is held to what it promises, 20 ms a lap."""

import errno
import os
import re
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pg
import pytest
import roads
from test_orders import Listener
from test_upstream import NAME, a_file_of_hosts, hold_look_up
from wire import BINARY, IS_SANITIZED, Customer, Server, assert_ledger_is_sound, run, start_together, together, wait_until

KILLS = int(os.environ.get("FORNO_KILLS", 3))
SECONDS = float(os.environ.get("FORNO_SECONDS", 3))
QUIET = bool(os.environ.get("FORNO_QUIET"))
LONG_LAP = 0.016384 if QUIET else 1.04858 if IS_SANITIZED else 0.262144  # seconds: a bound of the histogram of laps
SLACK = 0.5 if QUIET else 5.0  # seconds
ORDER = {"flavor": "margherita", "pizzas": 1}
PRICE = 3500
RICH = "--opening-credit", "100000000000", "--log", "off"
SOON = 12.0  # seconds until all is well again by itself, at most: a lane waits a second between two attempts, the machine may be busy


pytestmark = pytest.mark.usefixtures("workshop")


@pytest.fixture
def cluster(workshop):
    """One of the test's own, to do harm to."""
    cluster = workshop.cluster()
    yield cluster
    cluster.destroy()


@pytest.fixture
def road(request):
    return roads.Postgres(request.getfixturevalue("cluster" if "cluster" in request.fixturenames else "shared_cluster"))


@pytest.fixture
def url(shared_cluster):
    """A database where no harm is done."""
    url = shared_cluster.new_database()
    yield url
    shared_cluster.drop(url)


def on(server, customer):
    """The same customer, who asks another server."""
    there = Customer.__new__(Customer)
    there.__dict__ = {**customer.__dict__, "server": server}
    return there


# ---------------------------------------------------------------- at start

def refusal(url, *words, **popen):
    """It ends at once, and says why in one line that does not give away the password."""
    began = time.monotonic()
    status, out, err = run("--port", "0", "--db", url, timeout=30, **popen)
    assert status == 1 and out == "", f"expected exit status 1, got {status} {out!r} {err!r}"
    assert err.count("\n") == 1 and err.endswith("\n"), f"expected exactly one line on stderr, got {err!r}"
    assert pg.PASSWORD not in err, f"expected the password to stay a secret, got {err!r}"
    for word in words:
        assert re.search(word, err, re.IGNORECASE), f"expected the line to speak of {word!r}, got {err!r}"
    return time.monotonic() - began


@contextmanager
def libpq_is(tmp_path, content):
    """What stands where libpq should: bytes, or None for a library without any function."""
    library = tmp_path / "libpq.so.5"
    if content is None:
        subprocess.run(["cc", "-shared", "-o", library, "-x", "c", "/dev/null"], check=True)
    else:
        library.write_bytes(content)
    yield {"LD_LIBRARY_PATH": str(tmp_path)}


@pytest.mark.parametrize("content", [b"", b"not a library", None], ids=["empty", "nonsense", "too old"])
def test_without_libpq_it_says_what_to_install(tmp_path, url, content):
    with libpq_is(tmp_path, content) as env:
        refusal(url, "libpq", env=env)


def test_whoever_wants_a_file_needs_no_libpq(tmp_path):
    with libpq_is(tmp_path, b"not a library") as env:
        server = Server(tmp_path / "forno.db", tmp_path / "log", env=env)
        assert server.customer().order().status == 202
        server.stop()
    linked = subprocess.run(["ldd", BINARY], capture_output=True, text=True).stdout
    assert "libsqlite3" in linked and "libpq" not in linked, f"expected libpq to be loaded when it is wanted, got {linked}"


@pytest.mark.parametrize("url", [
    "postgresql://", "postgresql://[::1", "postgresql://u:{password}@127.0.0.1:1:2/x", "postgresql://u:{password}@127.0.0.1:99999/x",
    "postgresql://u:{password}@127.0.0.1/x?no_such_option=1", "postgresql://u:{password}@127.0.0.1/x?sslmode=perhaps",
    "postgresql://u:{password}%@127.0.0.1/x", "postgresql://u:{password}@127.0.0.1/x?connect_timeout",
    "postgresql://u:{password}@127.0.0.1,a,b,c,d,e,f,g,h/x"])
def test_a_url_that_cannot_be_is_one_clear_line(workshop, url):
    refusal(url.format(password=pg.PASSWORD))


def test_a_password_with_a_slash_is_not_taken_for_a_port_and_told():
    status, out, err = run("--port", "0", "--db", "postgresql://u:secret/word@127.0.0.1/x")
    assert status == 1 and out == "" and err.count("\n") == 1 and "secret" not in err and "%2F" in err, f"got {status} {out!r} {err!r}"


def test_who_may_not_come_in_is_told_so(shared_cluster, url):
    name = pg.database_of(url)
    refusal(shared_cluster.url(name, password="wrong"), "password")
    refusal(shared_cluster.url(name, user="nobody_at_all"), "nobody_at_all")
    refusal(shared_cluster.url("no_such_database"), "no_such_database")


def test_a_database_where_nothing_may_be_created_is_refused(shared_cluster, url):
    name = pg.database_of(url)
    with shared_cluster.admin() as sql:
        sql(f"ALTER DATABASE {name} OWNER TO {pg.ADMIN}")
    refusal(url, "permission")
    with shared_cluster.admin() as sql:
        sql(f"ALTER DATABASE {name} OWNER TO {pg.USER}")


def test_nobody_at_the_door_is_one_clear_line():
    assert refusal(f"postgresql://u:{pg.PASSWORD}@127.0.0.1:{pg.free_port()}/x", "127.0.0.1") < 15


def test_who_may_only_look_is_refused(start_server, shared_cluster, url):
    start_server(db=url).stop()
    with shared_cluster.admin(pg.database_of(url)) as sql:
        sql(f"CREATE ROLE visitor LOGIN PASSWORD '{pg.PASSWORD}'; GRANT USAGE ON SCHEMA forno TO visitor; "
            "GRANT SELECT ON ALL TABLES IN SCHEMA forno TO visitor")
    refusal(shared_cluster.url(pg.database_of(url), user="visitor"), "right to change")


def test_operators_of_others_are_not_taken_for_the_systems(start_server, shared_cluster, url):
    """Whoever may create something in "public" could make our clock his, or run what he likes as us."""
    with shared_cluster.admin(pg.database_of(url)) as sql:
        sql("CREATE FUNCTION public.never(float8, int) RETURNS float8 LANGUAGE sql AS 'SELECT 0::float8'; "
            "CREATE OPERATOR public.* (LEFTARG = float8, RIGHTARG = int, FUNCTION = public.never)")
    order = start_server(db=url).customer().order().json()
    assert order["placed_at"] > "2020", f"got {order}"


@contextmanager
def a_black_hole(accepts):
    """A port where nothing is ever answered: by a program that does not read, or, once its queue is full, not even by the kernel."""
    with socket.create_server(("127.0.0.1", 0), backlog=100 if accepts else 0) as silent:
        waiting = []
        for _ in range(0 if accepts else 8):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(silent.getsockname())
            waiting.append(sock)
        yield silent.getsockname()[1]
        for sock in waiting:
            sock.close()


@pytest.mark.parametrize("accepts", [True, False], ids=["says nothing", "does not even answer the call"])
def test_a_host_that_swallows_everything_is_one_clear_line(accepts):
    """Trap: the black hole."""
    with a_black_hole(accepts) as port:
        assert refusal(f"postgresql://u:{pg.PASSWORD}@127.0.0.1:{port}/x", "127.0.0.1", "no answer") < 15


@pytest.mark.parametrize("accepts", [True, False], ids=["says nothing", "does not even answer the call"])
def test_behind_a_host_that_swallows_everything_the_next_is_tried(shared_cluster, start_server, url, accepts):
    with a_black_hole(accepts) as port:
        began = time.monotonic()
        server = start_server(db=url.replace("127.0.0.1:", f"127.0.0.1:{port},127.0.0.1:"))
        assert time.monotonic() - began < 10
        assert server.customer().order().status == 202


SPOILED = {
    "a newer forno": ("UPDATE forno.meta SET version = 9999", "newer"),
    "another program": ("UPDATE forno.meta SET application = 'forge'", "another|not.*forno|forge"),
    "another program's schema": ("DROP SCHEMA forno CASCADE; CREATE SCHEMA forno; CREATE TABLE forno.horses (id int)", "another|not.*forno"),
    "a wrong type": ("ALTER TABLE forno.orders ALTER pizzas TYPE integer", r"orders.pizzas"),
    "a missing column": ("ALTER TABLE forno.entries DROP COLUMN note", r"entries.note"),
    "a missing table": ("DROP TABLE forno.keys CASCADE", r"keys"),
    "a missing function": ("DROP FUNCTION forno.move", r"function move"),
    "a missing index": ("DROP INDEX forno.entries_by_account", r"entries_by_account"),
    "tokens that need not be unique": ("ALTER TABLE forno.accounts DROP CONSTRAINT accounts_token_hash_key", r"accounts_token_hash_key"),
    "a missing sequence": ("DROP SEQUENCE forno.movements", r"movements"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_database_that_is_not_ours_is_refused_and_left_as_it_is(start_server, shared_cluster, url, how):
    start_server(db=url).stop()
    spoil, word = SPOILED[how]
    with shared_cluster.admin(pg.database_of(url)) as sql:
        sql(spoil)
        described = "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'forno' ORDER BY 1, 2, 3"
        before = sql(described)
        refusal(url, word)
        assert sql(described) == before


def test_what_else_is_in_the_database_is_left_alone(start_server, shared_cluster, url):
    with shared_cluster.admin(pg.database_of(url)) as sql:
        sql("CREATE TABLE accounts (id text); INSERT INTO accounts VALUES ('not ours')")
        server = start_server(db=url)
        assert server.customer().order().status == 202
        assert sql("SELECT * FROM public.accounts") == [("not ours",)]


def test_what_the_administrator_has_set_for_everybody_changes_nothing(start_server, shared_cluster, url):
    """Trap: "repeatable read" sees what was before the lock; and a session that is only idle must not end, nor a query that is only slow."""
    for setting in "default_transaction_isolation = 'repeatable read'", "statement_timeout = '300ms'", "idle_session_timeout = '300ms'":
        shared_cluster.alter_database(url, f"SET {setting}")
    one, two = together(2, lambda i: start_server("--opening-credit", "100", db=url))
    ana = one.customer()
    with shared_cluster.admin(pg.database_of(url)) as sql, one.connect() as here, two.connect() as there:
        sql("SELECT set_config('idle_session_timeout', '0', false), set_config('statement_timeout', '0', false)")
        sessions = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'forno' ORDER BY pid"
        wait_until(lambda: len(sql(sessions)) == 6)
        before = sql(sessions)
        sql("SELECT pg_advisory_lock(forno.lock_of(%s))", ana.id)
        for client in here, there:
            client.ask("POST", "/orders", ORDER, token=ana.token, idempotency_key="k")
        wait_until(lambda: sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == [(2,)])
        sql("SELECT pg_advisory_unlock(forno.lock_of(%s))", ana.id)
        answers = [client.response() for client in (here, there)]
        assert [r.problem for r in answers] == 2 * ["insufficient-funds"], f"got {answers}"
        assert one.api("GET", "/lab/thread?ms=700").status == 200
        assert set(before) <= set(sql(sessions)), f"expected the sessions to have been kept: {before}, {sql(sessions)}"


def test_several_may_begin_at_once(start_server, url):
    """In an empty database: one of them makes the tables."""
    servers = together(4, lambda i: start_server(db=url))
    ana = servers[0].customer()
    for server in servers:
        assert on(server, ana).order().status == 202


def test_a_restart_finds_what_there_was(start_server, url):
    ana = start_server(db=url).customer()
    order = ana.order().json()["id"]
    ana.server.stop()
    ana.server = start_server(db=url)
    assert [order] == [o["id"] for o in ana.orders()] and ana.balance() == ana.opening - PRICE


def test_a_unix_socket_will_do(start_server, shared_cluster, url):
    server = start_server(db=f"postgresql://{pg.USER}@/{pg.database_of(url)}?host={shared_cluster.folder}&port={shared_cluster.port}")
    assert server.customer().order().status == 202


@pytest.mark.parametrize("host", ["", "nowhere.invalid"])
def test_who_says_the_address_needs_no_name(start_server, shared_cluster, url, host):
    server = start_server(db=f"postgresql://{pg.USER}:{pg.PASSWORD}@{host}:{shared_cluster.port}/{pg.database_of(url)}?hostaddr=127.0.0.1")
    assert server.customer().order().status == 202


# ---------------------------------------------------------------- a customer who has been there for years

HISTORY = 10000  # orders of each


def statements():
    """What stands in ledger/postgres.sql, by name."""
    text = (Path(__file__).parents[1] / "ledger/postgres.sql").read_text()
    return dict(re.findall(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("others", [0, 500])
def test_nobody_walks_through_the_whole_past(start_server, shared_cluster, url, others):
    """A page, or what is new, costs as much after 10,000 orders as after ten: of one who has cancelled now and then, of one who has always
    cancelled, and of one who never has; beside many other customers, and beside none."""
    start_server(db=url).stop()
    with shared_cluster.admin(pg.database_of(url)) as sql:
        for number in range(3):
            sql("INSERT INTO forno.accounts (name, token_hash, balance_cents, opened_at_ms, latest_ms) VALUES ('Ana', %s, 0, 1, 1)", 32 * bytes([number]))
        sql("INSERT INTO forno.orders (account_id, flavor, pizzas, price_cents, placed_at_ms, ready_at_ms, cancelled_at_ms) "
            "SELECT 1 + i %% 3, 'margherita', 1, 1, i, i + 3, CASE WHEN i %% 3 = 1 OR i %% 24 = 0 THEN i END "
            "FROM generate_series(1, %s) i", 3 * HISTORY)
        if others:
            sql("INSERT INTO forno.orders (account_id, flavor, pizzas, price_cents, placed_at_ms, ready_at_ms) "
                "SELECT 4 + i %% %s, 'margherita', 1, 1, i, i + 3 FROM generate_series(1, %s) i", others, HISTORY)
        sql("INSERT INTO forno.entries SELECT 2 * i + k, 2 * i, CASE k WHEN 0 THEN 1 + i %% 3 ELSE -1 END, -1, 'order', 1, i, NULL, i "
            "FROM generate_series(1, %s) i, generate_series(0, 1) k", 3 * HISTORY)
        sql("DELETE FROM forno.orders WHERE account_id = 2 AND id > 3 * %s / 2; DELETE FROM forno.entries WHERE account_id = 2 AND id > 3 * %s",
            HISTORY, HISTORY)  # he has not been there for a long time
        sql("ANALYZE")
        there = statements()
        sql("SELECT " + there["SESSION"].strip().split("SELECT ", 1)[1].replace("$1", "false"))
        touched = "SELECT sum(coalesce(idx_tup_fetch, 0) + seq_tup_read) FROM pg_stat_xact_user_tables WHERE schemaname = 'forno'"
        for number in range(3):
            who = f"'\\x{32 * bytes([number]).hex()}'"
            page, events = f"{who}, 9223372036854775807, 51", f"{who}, {number + 1}, {{}}, {{}}, 1, 1, 50, 1000"
            for name, values, most in [
                    ("ORDERS_OF", page, 110), ("ORDERS_BAKING", page, 60), ("ORDERS_READY", page, 60), ("ORDERS_CANCELLED", page, 60),
                    ("ENTRIES_OF", page.replace(",", f", {number + 1},", 1), 60), ("EVENTS", events.format("false", 0), 60),
                    ("EVENTS", events.format("true", 3 * HISTORY), 60), ("EVENTS", events.format("true", 1), 6000)]:
                sql("DEALLOCATE ALL")
                sql(f"PREPARE it AS {there[name].split(';')[0]}")
                sql("BEGIN")
                before = sql(touched)[0][0]
                rows = sql(f"EXECUTE it ({values})")
                n = sql(touched)[0][0] - before
                sql("COMMIT")
                assert rows and n <= most, f"expected {name} ({values}) to touch {most} rows at most, got {n}"


# ---------------------------------------------------------------- the audit

def test_audit_tells_a_sound_ledger_from_a_cooked_one(start_server, shared_cluster, url):
    server = start_server("--bake-ms", "60000", db=url)
    ana, bob = server.customer(), server.customer()
    ana.transfer(bob.id, 100, "a")
    order = ana.order().json()["id"]
    ana.order()
    assert ana.api("DELETE", f"/orders/{order}").status == 200
    server.stop()
    assert_ledger_is_sound(url)
    for cook, undo in (("entries SET amount_cents = amount_cents + 1 WHERE id = (SELECT max(id) FROM forno.entries)",
                        "entries SET amount_cents = amount_cents - 1 WHERE id = (SELECT max(id) FROM forno.entries)"),
                       (f"accounts SET balance_cents = balance_cents + 1 WHERE id = {ana.id}",
                        f"accounts SET balance_cents = balance_cents - 1 WHERE id = {ana.id}"),
                       (f"orders SET price_cents = price_cents + 1 WHERE id = {order}",
                        f"orders SET price_cents = price_cents - 1 WHERE id = {order}"),
                       (f"orders SET cancelled_at_ms = NULL WHERE id = {order}",
                        f"orders SET cancelled_at_ms = placed_at_ms WHERE id = {order}")):
        with shared_cluster.admin(pg.database_of(url)) as sql:
            sql(f"UPDATE forno.{cook}")
            status, out, err = run("--audit", url)
            assert status == 1 and (out + err).strip(), f"expected {cook} to be found, got {status} {out}{err}"
            sql(f"UPDATE forno.{undo}")
        assert_ledger_is_sound(url)


PAIR = "INSERT INTO forno.entries VALUES (9001, 9001, {0}, {1}, '{2}', -5, NULL, NULL, 1), (9002, 9001, {1}, {0}, '{2}', 5, NULL, NULL, 1); "
RICHER = "UPDATE forno.accounts SET balance_cents = balance_cents {0} 5 WHERE id = {{ana}}"
LAST = "(SELECT max(movement_id) FROM forno.entries)"
FREE = "ALTER TABLE forno.accounts DROP CONSTRAINT accounts_balance_cents_check; UPDATE forno.accounts SET balance_cents = {0} WHERE id = {{ana}}"
COOKED = [
    PAIR.format(-1, "{ana}", "refund") + RICHER.format("+"), PAIR.format("{ana}", -1, "order") + RICHER.format("-"),
    PAIR.format(0, "{ana}", "opening") + RICHER.format("+"), PAIR.format(0, "{ana}", "transfer") + RICHER.format("+"),
    f"UPDATE forno.entries SET movement_id = 7777 WHERE movement_id = {LAST}", f"DELETE FROM forno.entries WHERE movement_id = {LAST}",
    f"DELETE FROM forno.entries WHERE id = {LAST}", f"UPDATE forno.entries SET peer_id = 999 WHERE id = {LAST}",
    f"UPDATE forno.entries SET at_ms = 999 WHERE id = {LAST}", f"UPDATE forno.entries SET kind = 'opening' WHERE id = {LAST}",
    "UPDATE forno.keys SET subject_id = {order} WHERE key = 'bob'", "UPDATE forno.keys SET subject_id = 999 WHERE key = 'ana'",
    "UPDATE forno.orders SET account_id = {bob} WHERE id = {order}", "UPDATE forno.orders SET price_cents = 1 WHERE id = {order}",
    "UPDATE forno.orders SET cancelled_at_ms = NULL WHERE id = {order}", "DELETE FROM forno.orders WHERE id = {order}",
    "DELETE FROM forno.accounts WHERE id = {ana}", FREE.format(-1), FREE.format(9007199254740992)]


def test_every_rule_of_the_audit_can_fail(start_server, shared_cluster, url):
    """Each way to cook the books is noticed, and each rule notices one."""
    server = start_server("--bake-ms", "60000", db=url)
    ana, bob = server.customer(), server.customer()
    ana.transfer(bob.id, 100, "ana")
    order = ana.order().json()["id"]
    bob.order(idempotency_key="bob")
    ana.order()
    assert ana.api("DELETE", f"/orders/{order}").status == 200
    server.stop()
    rules = set(re.findall("^ok     (.*)$", run("--audit", url)[1], re.MULTILINE))
    noticed = set()
    for cook in COOKED:
        copy = shared_cluster.new_database(options=f"TEMPLATE {pg.database_of(url)}")
        with shared_cluster.admin(pg.database_of(copy)) as sql:
            sql(cook.format(ana=ana.id, bob=bob.id, order=order))
        status, out, _ = run("--audit", copy)
        assert status == 1, f"expected {cook} to be found, got {out}"
        noticed |= set(re.findall(r"^WRONG  (.*?)(?: \(\d+ faults\))?$", out, re.MULTILINE))
        shared_cluster.drop(copy)
    assert len(rules) > 9 and noticed == rules, f"these found nothing wrong: {rules - noticed}"


def test_audit_of_nothing_is_1_and_creates_nothing(shared_cluster, url):
    for nothing in (url, shared_cluster.url("no_such_database"), f"postgresql://u:{pg.PASSWORD}@127.0.0.1:{pg.free_port()}/x"):
        status, out, err = run("--audit", nothing, timeout=30)
        assert status == 1 and (out + err).strip() and pg.PASSWORD not in out + err, f"got {status} {out!r} {err!r}"
    with shared_cluster.admin(pg.database_of(url)) as sql:
        assert sql("SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'forno'") == [(0,)]


# ---------------------------------------------------------------- trouble, later

def long_laps(server):
    """How many laps of the loop were longer than they may be."""
    text = server.api("GET", "/metrics").body.decode()
    within = int(re.search(rf'^forno_lap_seconds_bucket{{le="{re.escape(f"{LONG_LAP:g}")}"}} (\d+)$', text, re.MULTILINE)[1])
    return int(re.search(r"^forno_lap_seconds_count (\d+)$", text, re.MULTILINE)[1]) - within


class Patron:
    """Orders on and on, each order under a key of its own, which is asked for again until it is known whether it was taken. Anything but
    202, and 503 with Retry-After (response() checks that it is there), is an error."""

    def __init__(self, server, number):
        self.customer, self.number, self.count = server.customer(f"Number {number}"), number, 0
        self.taken, self.refused, self.slowest = {}, 0, 0.0

    def order(self, server):
        """One attempt at the present order. True: it was taken."""
        key, began = f"{self.number}-{self.count}", time.monotonic()
        r = server.api("POST", "/orders", ORDER, self.customer.token, idempotency_key=key)
        self.slowest = max(self.slowest, time.monotonic() - began)
        assert r.status in (202, 503), f"got {r}"
        if r.status == 202:
            self.taken[key] = r.json()
            self.count += 1
        else:
            self.refused += 1
        return r.status == 202

    def check(self, server):
        """All that was acknowledged is there, nothing else is, and each was paid once."""
        me = on(server, self.customer)
        there = {order["id"]: order["ready_at"] for order in me.orders()}
        acknowledged = {order["id"]: order["ready_at"] for order in self.taken.values()}
        lost = {id: at for id, at in acknowledged.items() if there.get(id) != at}
        assert not lost, f"lost: {lost}"
        assert len(there) <= len(acknowledged) + 1, f"expected one order under each key, got {len(there)} for {len(acknowledged)}"
        assert me.balance() == me.opening - PRICE * len(there)


@contextmanager
def patrons(server, count=8):
    """So many of them order all the while. What they were told is checked at the end, against the ledger too."""
    crowd, over = [Patron(server, i) for i in range(count)], threading.Event()

    def live(i):
        while not over.is_set():
            crowd[i].order(server)

    join = start_together(count, live)
    try:
        yield crowd
    finally:
        over.set()
        join()
    for patron in crowd:
        wait_until(lambda: patron.order(server), seconds=SOON)
        patron.check(server)


def taken(crowd):
    return sum(len(patron.taken) for patron in crowd)


def refused(crowd):
    return sum(patron.refused for patron in crowd)


class Trouble:
    """What is done to a database, and undone: a context manager for each."""

    @contextmanager
    def killed(cluster, url):
        cluster.kill()
        yield
        cluster.start()

    @contextmanager
    def frozen(cluster, url):
        cluster.freeze()
        yield
        cluster.thaw()

    @contextmanager
    def out_of_connections(cluster, url):
        cluster.alter_database(url, "CONNECTION LIMIT 0")
        cluster.cut(url)
        yield
        cluster.alter_database(url, "CONNECTION LIMIT -1")

    @contextmanager
    def wrong_password(cluster, url):
        cluster.change_password("locked_out", "another")
        cluster.cut(url)
        yield
        cluster.change_password("locked_out", pg.PASSWORD)

    @contextmanager
    def read_only(cluster, url):
        """As a primary that was dethroned."""
        cluster.alter_database(url, "SET default_transaction_read_only = on")
        cluster.cut(url)
        yield
        cluster.alter_database(url, "RESET default_transaction_read_only")

    @contextmanager
    def away(cluster, url):
        """There is no such database any more."""
        with cluster.admin() as sql:
            name = pg.database_of(url)
            sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            cluster.cut(url)
            sql(f"ALTER DATABASE {name} RENAME TO away")
            yield
            sql(f"ALTER DATABASE away RENAME TO {name}")
            sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


TROUBLES = os.environ.get("FORNO_TROUBLE", "killed frozen out_of_connections wrong_password read_only away").split()


def test_trouble_of_every_kind_is_waited_out(start_server, workshop, shared_cluster):
    """Each with a server of its own, all at the same time, since most of it is waiting. Orders are refused with 503 and Retry-After,
    /readyz says so, the loop never stands still; and all is well by itself afterwards."""
    clusters = {name: workshop.cluster() if name in ("killed", "frozen") else shared_cluster for name in TROUBLES}
    urls = {name: cluster.new_database(owner="locked_out" if name == "wrong_password" else pg.USER) for name, cluster in clusters.items()}
    servers = {name: start_server(*RICH, db=url) for name, url in urls.items()}
    with ExitStack() as evening:
        crowds = {name: evening.enter_context(patrons(server, 4)) for name, server in servers.items()}
        for name, crowd in crowds.items():
            wait_until(lambda: taken(crowd) >= 20, lambda: name, seconds=SOON)
        with ExitStack() as night:
            for name in TROUBLES:
                night.enter_context(getattr(Trouble, name)(clusters[name], urls[name]))
            for name, server in servers.items():
                wait_until(lambda: all(patron.refused for patron in crowds[name]), lambda: name, seconds=2 * SOON)
            answers = together(2 * len(TROUBLES), lambda i: look_in(servers[TROUBLES[i // 2]], crowds[TROUBLES[i // 2]][0], i % 2))
            assert all(r.status == 503 and r["Retry-After"] for r in answers), f"expected not to be ready, nor to be read, got {answers}"
        for name, server in servers.items():
            wait_until(lambda: server.api("GET", "/readyz").status == 200, lambda: name, seconds=SOON)
        counts = {name: taken(crowd) for name, crowd in crowds.items()}
        for name, crowd in crowds.items():
            wait_until(lambda: taken(crowd) >= counts[name] + 20, lambda: name, seconds=SOON)
    for name, server in servers.items():
        slowest = max(patron.slowest for patron in crowds[name])
        assert slowest < 6 + SLACK, f"{name}: expected nobody to wait for longer than a job may, it took {slowest:.1f} s"
        assert long_laps(server) == 0, f"{name}: expected the loop never to stand still"
        server.stop()
        assert_ledger_is_sound(server.db)
    for name, cluster in clusters.items():
        cluster.drop(urls[name])
        if cluster is not shared_cluster:
            cluster.destroy()


def look_in(server, patron, ready):
    return server.api("GET", "/readyz") if ready else on(server, patron.customer).api("GET", "/orders")


def test_a_database_that_restarts_is_found_again(start_server, cluster):
    """Nobody need notice more than a pause: what waits for a short time is done then."""
    server = start_server(*RICH)
    with patrons(server) as crowd:
        for _ in range(3):
            before = taken(crowd)
            wait_until(lambda: taken(crowd) >= before + 40, seconds=SOON)
            cluster.restart()
        before = taken(crowd)
        wait_until(lambda: taken(crowd) >= before + 40, seconds=SOON)
    assert long_laps(server) == 0
    server.stop()
    assert_ledger_is_sound(server.db)


def test_connections_that_are_cut_now_and_then_lose_nothing(start_server, cluster):
    server = start_server(*RICH)
    with patrons(server) as crowd:
        for _ in range(10):
            before = taken(crowd)
            wait_until(lambda: taken(crowd) >= before + 20, seconds=SOON)
            wait_until(lambda: cluster.cut(server.db) > 0)  # those 20 may be the last of a connection that is gone already
    server.stop()
    assert_ledger_is_sound(server.db)


def test_a_schema_that_is_made_newer_meanwhile_is_noticed(start_server, shared_cluster, url):
    """By /readyz at once; by a lane when it connects. Who waits for it is told so, although it is answered all the time."""
    server = start_server(db=url)
    ana = server.customer()

    def set_version(number):
        with shared_cluster.admin(pg.database_of(url)) as sql:
            sql("UPDATE forno.meta SET version = %s", number)

    assert [server.api("GET", "/readyz").status for _ in range(2)] == [200, 200]  # now both lanes for writes are connected
    set_version(9999)
    r = server.api("GET", "/readyz")
    assert r.status == 503 and r.problem == "database-failed", f"got {r}"
    shared_cluster.cut(url)
    assert ana.order(idempotency_key="k").status == 503 and "another version" in server.stderr()
    set_version(1)
    wait_until(lambda: ana.order(idempotency_key="k").status == 202)
    assert server.api("GET", "/readyz").status == 200


@pytest.fixture
def small_disk(workshop, tmp_path):
    """A file system of a few megabytes."""
    if os.getuid():
        pytest.skip("the kernel forbids mounting to all but root")
    folder = workshop.folder / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder], capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("the kernel forbids mounting here")
    os.chown(folder, workshop.user.pw_uid, workshop.user.pw_gid)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
    folder.rmdir()


def fill(file):
    """Until there is no room for a page."""
    with open(file, "wb", buffering=0) as ballast:
        for size in 1 << 20, 4096:
            try:
                while ballast.write(bytes(size)) == size:
                    pass
            except OSError as full:
                assert full.errno == errno.ENOSPC, full


def test_a_full_disk_refuses_orders_and_loses_none(start_server, cluster, small_disk):
    with cluster.admin() as sql:
        sql(f"CREATE TABLESPACE small OWNER {pg.USER} LOCATION '{small_disk}'")
    url = cluster.new_database(options="TABLESPACE small")
    server = start_server(*RICH, db=url)
    ballast = small_disk / "ballast"
    with patrons(server) as crowd:
        wait_until(lambda: taken(crowd) >= 20)
        fill(ballast)
        wait_until(lambda: refused(crowd) >= 8, seconds=60)
        assert crowd[0].customer.api("GET", "/orders").status == 200, "expected reads to go on"
        ballast.unlink()
        wait_until(lambda: server.api("GET", "/readyz").status == 200, seconds=SOON)
        before = taken(crowd)
        wait_until(lambda: taken(crowd) >= before + 20, seconds=SOON)
    server.stop()
    assert_ledger_is_sound(url)
    with cluster.admin() as sql:
        sql(f"DROP DATABASE {pg.database_of(url)} WITH (FORCE)")


def test_it_leaves_in_time_though_the_database_is_frozen(start_server, cluster):
    server = start_server("--drain", "2")
    ana = server.customer()
    cluster.freeze()
    with server.connect() as client:
        client.ask("POST", "/orders", ORDER, ana.token)
        server.wait_for_metric("forno_requests_live", lambda n: n >= 2)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 6
    cluster.thaw()


def test_a_wait_goes_on_while_the_database_is_away(start_server, cluster):
    """The pizza bakes, database or not; what cannot be looked at again was placed all the same."""
    server = start_server("--bake-ms", "1000")
    ana = server.customer()
    with server.connect() as client:
        client.ask("POST", "/orders", ORDER, ana.token, prefer="wait=30")
        wait_until(ana.orders)
        cluster.freeze()
        r = client.response()
        cluster.thaw()
    assert r.status in (201, 202) and r["Location"], f"expected it taken, got {r}"


# ---------------------------------------------------------------- groups

@pytest.fixture
def standby(workshop, cluster):
    standby = workshop.standby_of(cluster)
    cluster.confirm_by("standby")
    yield standby
    standby.destroy()


def test_nobody_is_told_before_the_group_is_committed(start_server, cluster, standby):
    """The rows are there at once, the commit waits for a standby that does not answer."""
    server = start_server(*RICH)
    crowd = [server.customer() for _ in range(16)]
    standby.freeze()
    clients = [server.connect().ask("POST", "/orders", ORDER, customer.token, idempotency_key="k") for customer in crowd]
    assert not any(client.is_readable_within(1.0 if i == 0 else 0) for i, client in enumerate(clients)), "expected no answer yet"
    standby.thaw()
    answers = [client.response() for client in clients]
    assert [r.status for r in answers] == [202] * 16, f"got {answers}"
    assert {r.json()["id"] for r in answers} == {order["id"] for customer in crowd for order in customer.orders()}


def test_a_commit_that_nobody_confirms_is_never_called_done(start_server, cluster, standby):
    """Traps: the cancelled wait acknowledges; nobody confirms. Without a key it is not known what has become of it, and that is said."""
    server = start_server(*RICH)
    ana = server.customer()
    standby.freeze()
    with server.connect() as bare, server.connect() as keyed:
        began = time.monotonic()
        bare.ask("POST", "/orders", ORDER, ana.token)
        keyed.ask("POST", "/orders", ORDER, ana.token, idempotency_key="k")
        answers = [bare.response(), keyed.response()]
        took = time.monotonic() - began
    assert [r.status for r in answers] == [503, 503] and took < 9, f"after {took:.1f} s: {answers}"
    assert answers[0].problem == "outcome-unknown" and "key" in answers[0].json()["detail"].lower(), f"got {answers[0]}"
    assert server.api("GET", "/readyz").status == 503
    standby.thaw()
    wait_until(lambda: ana.order(idempotency_key="k").status == 202, seconds=SOON)
    assert server.api("GET", "/readyz").status == 200
    assert len(ana.orders()) in (1, 2), "expected one order under the key, and one of which nobody knew"
    server.stop()
    assert_ledger_is_sound(server.db)


def test_a_cancelled_wait_is_no_commit_even_where_nobody_is_to_be_warned(start_server, cluster, standby):
    """Trap: the cancelled wait acknowledges, but for a warning."""
    url = cluster.new_database()
    cluster.alter_database(url, "SET client_min_messages = 'error'")
    server = start_server("--bake-ms", "60000", db=url)
    ana = server.customer()
    standby.freeze()
    with server.connect() as client, cluster.admin() as sql:
        client.ask("POST", "/orders", ORDER, ana.token)
        wait_until(lambda: sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = %s",
                               pg.database_of(url)))
        r = client.response()
    standby.thaw()
    assert r.status == 503 and r.problem == "outcome-unknown", f"got {r}"


def transactions(cluster, url):
    """The number of the next one that writes."""
    with cluster.admin(pg.database_of(url)) as sql:
        return int(sql("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")[0][0])


class Between:
    """A door to the database. What comes back through it can be changed, or late, on its way."""

    def __init__(self, cluster, change=lambda data: data):
        self.cluster, self.change = cluster, change
        self.listener = socket.create_server((cluster.host, 0), backlog=100)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._let_in, daemon=True).start()

    def _let_in(self):
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection((self.cluster.host, self.cluster.port))
                for way in (client, server, lambda data: data), (server, client, self.change):
                    threading.Thread(target=self._carry, args=way, daemon=True).start()

    def _carry(self, source, sink, change):
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(change(data))
        for end in source, sink:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def test_an_answer_that_cannot_be_read_is_not_taken_for_a_no(start_server, shared_cluster, url):
    """The order is placed, and its row gets spoiled on the way: to place it again would be to place it twice."""
    spoiled = []

    def spoil(data):
        row = re.search(rb"D....\0\x0b\0\0\0\x02ok", data, re.DOTALL)  # ORDER_PLACE's answer: eleven columns
        if spoiled or not row:
            return data
        spoiled.append(row)
        return data[:row.start() + 6] + b"\x0c" + data[row.start() + 7:]

    with Between(shared_cluster, spoil) as door:
        server = start_server("--bake-ms", "60000", db=shared_cluster.url(pg.database_of(url), port=door.port, sslmode="disable"))
        ana = server.customer()
        r = ana.order()
        assert spoiled and r.status == 503 and r.problem == "outcome-unknown", f"got {r}"
        wait_until(lambda: server.api("GET", "/readyz").status == 200, seconds=SOON)
        assert len(ana.orders()) == 1 and ana.balance() == ana.opening - PRICE
        spoiled.clear()
        assert ana.order(idempotency_key="k").status == 202 and spoiled and len(ana.orders()) == 2
        server.stop()


def test_a_database_that_is_far_away_can_be_reached(start_server, shared_cluster, url):
    """To come in takes several ways there and back: 0.4 s each is slow, but no reason to give up."""
    far = []

    def on_its_way(data):
        time.sleep(0.4 if far else 0)  # this is the distance
        return data

    with Between(shared_cluster, on_its_way) as door:
        server = start_server(db=shared_cluster.url(pg.database_of(url), port=door.port, sslmode="disable"))
        ana = server.customer()
        far.append("from now on")
        assert shared_cluster.cut(url) > 0
        wait_until(lambda: ana.order(idempotency_key="k").status == 202, seconds=SOON)
        server.stop()


def test_what_waits_together_is_committed_together(start_server, cluster):
    """256 orders come while the server stands still, and so are there when it goes on: each transaction of the database serves several."""
    server = start_server(*RICH)
    customers = [server.customer(f"Number {i}") for i in range(64)]
    clients = [server.connect() for _ in range(256)]
    before = transactions(cluster, server.db)
    for _ in range(2):
        with server.stopped():
            for i, client in enumerate(clients):
                client.ask("POST", "/orders", ORDER, customers[i % 64].token)
        assert {client.response().status for client in clients} == {202}
    written = transactions(cluster, server.db) - before
    assert written <= 2 * 256 / 8, f"expected groups, {2 * 256} orders took {written} transactions"
    server.stop()
    assert_ledger_is_sound(server.db)


def test_one_failure_in_a_group_undoes_only_itself(start_server, cluster):
    """Orders beyond one's means among good ones, all sent at once, many times."""
    server = start_server("--opening-credit", "7000", "--log", "off")
    for _ in range(5):
        poor, rich = server.customer("Poor"), [server.customer(f"Number {i}") for i in range(8)]
        clients = [server.connect().ask("POST", "/orders", {"flavor": "margherita", "pizzas": 3 if customer is poor else 1}, customer.token)
                   for customer in (poor, *rich) for _ in range(2)]
        statuses = [client.response().status for client in clients]
        assert statuses == [409, 409] + 16 * [202], f"got {statuses}"
        assert poor.balance() == 7000 and [customer.balance() for customer in rich] == [0] * 8


@pytest.mark.parametrize("when", ["at once", "at the end"])
def test_a_group_that_fails_is_done_without_whoever_failed_it(start_server, cluster, when):
    """Trap: the row before the commit. All rows have come, and then the Sync says that it cannot be."""
    server = start_server(*RICH)
    with cluster.admin(pg.database_of(server.db)) as sql:
        sql("CREATE FUNCTION forno.unlucky() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN IF new.pizzas = 13 THEN RAISE unique_violation; END IF; RETURN new; END'")
        sql("CREATE CONSTRAINT TRIGGER unlucky AFTER INSERT ON forno.orders DEFERRABLE "
            f"INITIALLY {'DEFERRED' if when == 'at the end' else 'IMMEDIATE'} FOR EACH ROW EXECUTE FUNCTION forno.unlucky()")
    customers = [server.customer(f"Number {i}") for i in range(20)]
    clients = [server.connect() for _ in customers]
    for turn in range(5):
        for i, (client, customer) in enumerate(zip(clients, customers)):
            client.ask("POST", "/orders", {"flavor": "margherita", "pizzas": 13 if i == 7 else 1}, customer.token)
        answers = [client.response() for client in clients]
        assert [r.status for r in answers] == [503 if i == 7 else 202 for i in range(20)], f"turn {turn}: {answers}"
        assert answers[7].problem == "database-failed"
    assert [len(customer.orders()) for customer in customers] == [0 if i == 7 else 5 for i in range(20)]
    server.stop()
    assert_ledger_is_sound(server.db)


def trip(sql, when, error):
    """From now on an order for which this holds fails by that error, and its group with it."""
    sql("CREATE SEQUENCE forno.tries; GRANT USAGE ON SEQUENCE forno.tries TO PUBLIC; "
        "CREATE FUNCTION forno.trip() RETURNS trigger LANGUAGE plpgsql AS "
        f"'BEGIN IF new.pizzas = 13 THEN IF {when} THEN RAISE {error}; END IF; END IF; RETURN new; END'; "
        "CREATE TRIGGER trip BEFORE INSERT ON forno.orders FOR EACH ROW EXECUTE FUNCTION forno.trip()")


@pytest.mark.parametrize("error", ["serialization_failure", "feature_not_supported"], ids=["to be tried again", "to be tried elsewhere"])
def test_what_fails_at_once_is_tried_again_after_a_rest(start_server, shared_cluster, url, error):
    """Trap: the retry without a rest. It goes well the fifth time, after 50, 100, 200 and 400 ms, or half of that."""
    server = start_server(*RICH, db=url)
    ana = server.customer()
    with shared_cluster.admin(pg.database_of(url)) as sql:
        trip(sql, "nextval(''forno.tries'') < 5", error)
    began = time.monotonic()
    assert ana.order(13).status == 202
    assert time.monotonic() - began > 0.35


def test_who_waits_for_a_lock_holds_up_nobody_for_long(start_server, shared_cluster, url):
    """His group fails, after two seconds. The others in it, and behind it, are served before he is tried again; and no lane is lost."""
    server = start_server("--opening-credit", "100000000000", db=url)
    ana, *others = [server.customer(f"Number {i}") for i in range(17)]
    with shared_cluster.admin(pg.database_of(url)) as sql, server.connect() as client, ExitStack() as crowd:
        sql("SELECT pg_advisory_lock(forno.lock_of(%s))", ana.id)
        client.ask("POST", "/orders", ORDER, ana.token)
        wait_until(lambda: sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        behind = [crowd.enter_context(server.connect()).ask("POST", "/orders", ORDER, customer.token) for customer in others]
        assert [waiting.response().status for waiting in behind] == [202] * 16
        assert not client.is_readable_within(0)
        assert client.response().status == 503
    assert ana.order().status == 202 and "is lost" not in server.stderr()


# ---------------------------------------------------------------- kill -9

def test_nothing_acknowledged_is_lost_by_kill_9(start_server, url):
    """32 clients order with keys and pay each other; then the plug is pulled. Each asks again under the key of which he does not know."""
    server = start_server(*RICH, db=url)
    crowd = [Patron(server, i) for i in range(32)]
    for turn in range(KILLS):
        before = taken(crowd)

        def live(i):
            try:
                while True:
                    crowd[i].order(server)
            except OSError:
                pass
            except AssertionError as end:
                assert "the end" in str(end), end

        join = start_together(32, live)
        wait_until(lambda: taken(crowd) >= before + 64 + turn % 64)
        server.kill()
        join()
        server = start_server(*RICH, db=url)

        def look(i):
            if crowd[i].count:
                key = f"{i}-{crowd[i].count - 1}"
                r = server.api("POST", "/orders", ORDER, crowd[i].customer.token, idempotency_key=key)
                assert r["Idempotent-Replayed"] == "true" and r.json()["id"] == crowd[i].taken[key]["id"], f"got {r}"
            assert crowd[i].order(server)

        together(32, look)
    for patron in crowd:
        patron.check(server)
    server.stop()
    assert_ledger_is_sound(url)


# ---------------------------------------------------------------- several Fornos

def test_two_servers_move_money_both_ways_without_a_deadlock(start_server, url):
    """Trap: groups that deadlock. The same eight customers pay each other, and order, by both servers."""
    servers = [start_server(*RICH, db=url) for _ in range(2)]
    ring = [servers[0].customer(f"Number {i}") for i in range(8)]
    end, counts = time.monotonic() + SECONDS, [0] * 32

    def pay(i):
        server = servers[i % 2]
        me, other = ring[i // 2 % 8], ring[(i // 2 + 1 + i // 16 * 6) % 8]
        with server.connect() as client:
            while time.monotonic() < end:
                counts[i] += 1
                body = {"to": other.id, "amount_cents": 1 + counts[i] % 99}
                r = client.api("POST", "/transfers", body, me.token, idempotency_key=f"{i}-{counts[i]}")
                assert r.status == 201, f"got {r}"
                if counts[i] % 5 == 0:
                    r = client.api("POST", "/orders", ORDER, me.token)
                    assert r.status == 202, f"got {r}"

    together(32, pay)
    assert min(counts) > 1, "expected everybody to have had a turn"
    orders = sum(len(customer.orders()) for customer in ring)
    assert sum(customer.balance() for customer in ring) == 8 * ring[0].opening - PRICE * orders
    for server in servers:
        server.stop()
    assert_ledger_is_sound(url)
    print(f"{sum(counts)} transfers and {orders} orders in {SECONDS:g} s")


def hearing(here, there, ana, count):
    """How long after the answer to a cancellation here a long poll and a stream there know of it: lists of seconds."""
    abroad, polls, streams = on(there, ana), [], []
    with Listener(abroad) as listener:
        for _ in range(count):
            order = ana.order(100).json()["id"]
            while listener.next() != ("placed", order):
                pass
            with there.connect() as waiting:
                reads = there.metric("forno_db_reads_total")
                waiting.ask("GET", f"/orders/{order}", token=ana.token, prefer="wait=60")
                there.wait_for_metric("forno_db_reads_total", lambda n: n > reads)  # it has looked, and waits now
                assert here.api("DELETE", f"/orders/{order}", token=ana.token).status == 200
                began = time.monotonic()
                assert waiting.response().json()["status"] == "cancelled"
                polls.append(time.monotonic() - began)
                assert listener.next() == ("cancelled", order)
                streams.append(time.monotonic() - began)
    return sorted(polls), sorted(streams)


@pytest.mark.parametrize("listen", ["on", "off"])
def test_a_change_by_one_server_is_heard_of_by_the_other(start_server, shared_cluster, url, listen):
    """By LISTEN at once; by looking again where a pooler in between does not let one listen."""
    there = url if listen == "on" else shared_cluster.url(pg.database_of(url), options="-c forno.listen=off")
    one, two = start_server("--bake-ms", "60000", db=there), start_server("--bake-ms", "60000", db=there)
    polls, streams = hearing(one, two, one.customer(), 9 if listen == "on" else 3)
    bound = (0.02 if QUIET else 0.2) if listen == "on" else 1.5
    for kind, heard in ("long poll", polls), ("stream", streams):
        assert heard[len(heard) // 2] < bound, f"expected a {kind} to know within {bound} s, got {heard}"
    print(f"LISTEN {listen}: long poll {1000 * polls[len(polls) // 2]:.1f} ms, stream {1000 * streams[len(streams) // 2]:.1f} ms")


def test_a_commit_among_many_that_are_under_way_is_noticed(start_server, shared_cluster, url, road):
    """Without LISTEN: it is the last of eighty transactions, and the only one that changes."""
    server = start_server("--bake-ms", "60000", db=shared_cluster.url(pg.database_of(url), options="-c forno.listen=off"))
    ana = server.customer()
    order = ana.order().json()["id"]
    with ExitStack() as others, server.connect() as waiting:
        def begin():
            session = others.enter_context(road.transaction(url))
            session("SELECT pg_current_xact_id()")
            return session

        for _ in range(80):
            begin()
        here = begin()
        here("UPDATE forno.orders SET cancelled_at_ms = placed_at_ms WHERE id = %s", order)
        reads = server.metric("forno_db_reads_total")
        waiting.ask("GET", f"/orders/{order}", token=ana.token, prefer="wait=60")
        server.wait_for_metric("forno_db_reads_total", lambda n: n > reads)
        begin().connection.commit()  # younger
        server.wait_for_metric("forno_db_reads_total", lambda n: n > reads + 1)  # noticed
        here.connection.commit()
        assert waiting.response().json()["status"] == "cancelled"


def test_what_could_not_be_told_for_a_while_is_told_later(start_server, cluster):
    """The lane that tells dies with the news, and for longer than one waits there is no other."""
    url = cluster.new_database()
    one = start_server("--bake-ms", "60000", db=url)
    ana = one.customer()
    order = ana.order().json()["id"]
    readers = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND query LIKE '%%ACCOUNT_BY_TOKEN%%'"
    with cluster.admin() as sql:
        wait_until(lambda: ana.balance() >= 0 and sql(readers, pg.database_of(url)))  # unless the lane has just told something
        reader = sql(readers, pg.database_of(url))[0][0]
        two = start_server("--bake-ms", "60000", db=url)
        with two.connect() as waiting:
            reads = two.metric("forno_db_reads_total")
            waiting.ask("GET", f"/orders/{order}", token=ana.token, prefer="wait=60")
            two.wait_for_metric("forno_db_reads_total", lambda n: n > reads)
            os.kill(reader, signal.SIGSTOP)
            assert ana.api("DELETE", f"/orders/{order}").status == 200
            sql(f"ALTER ROLE {pg.USER} CONNECTION LIMIT 0")
            wait_until(lambda: "(reads) is lost" in one.stderr(), seconds=SOON)
            one.wait_for_metric("forno_db_queue_depth", lambda n: n == 1)  # it waits for no lane any more, but has not been told
            sql("SELECT pg_terminate_backend(%s)", reader)
            os.kill(reader, signal.SIGCONT)
            assert not waiting.is_readable_within(0)
            sql(f"ALTER ROLE {pg.USER} CONNECTION LIMIT -1")
            assert waiting.response().json()["status"] == "cancelled"


@pytest.mark.parametrize("how", ["leaves", "is killed"])
def test_who_goes_before_all_is_told(start_server, shared_cluster, url, how):
    """News of the first order are under way by a lane that is held up, those of the second wait for it. Who leaves stays until they are told.
    Who is killed has told nobody: the others look when the next one starts."""
    one, two = start_server("--bake-ms", "60000", db=url), start_server("--bake-ms", "60000", db=url)
    ana = one.customer()
    first, second = (ana.order().json()["id"] for _ in range(2))
    readers = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '-- name: ACCOUNT_BY_TOKEN%'"
    with shared_cluster.admin(pg.database_of(url)) as sql, two.connect() as waiting:
        wait_until(lambda: ana.balance() >= 0 and sql(readers))
        reader, reads = sql(readers)[0][0], two.metric("forno_db_reads_total")
        waiting.ask("GET", f"/orders/{second}", token=ana.token, prefer="wait=60")
        two.wait_for_metric("forno_db_reads_total", lambda n: n > reads)
        os.kill(reader, signal.SIGSTOP)
        assert [ana.api("DELETE", f"/orders/{order}").status for order in (first, second)] == [200, 200]
        one.assert_back_to_idle()
        if how == "leaves":
            one.terminate()
            wait_until(lambda: "finishing what is out" in one.stderr())
        else:
            one.kill()
        os.kill(reader, signal.SIGCONT)
        if how == "is killed":
            wait_until(lambda: not sql("SELECT 1 FROM pg_stat_activity WHERE pid = %s", reader))
            assert not waiting.is_readable_within(0)
            start_server(db=url)
        assert waiting.response().json()["status"] == "cancelled"


def test_what_was_missed_by_one_server_is_replayed_by_the_other(start_server, url):
    one, two = start_server("--bake-ms", "60000", db=url), start_server("--bake-ms", "60000", db=url)
    ana = one.customer()
    with Listener(ana) as listener:
        first = ana.order().json()["id"]
        assert listener.next() == ("placed", first)
        last = listener.id
    second = ana.order().json()["id"]
    ana.api("DELETE", f"/orders/{first}")
    one.kill()
    with Listener(on(two, ana), last_event_id=last) as listener:
        assert [listener.next() for _ in range(2)] == [("placed", second), ("cancelled", first)]


# ---------------------------------------------------------------- one lane

def test_a_slow_query_keeps_its_lane_waiting_and_nobody_else(start_server, url):
    """What is asked after it is answered before it."""
    server = start_server(db=url)
    ana = server.customer()
    with server.connect() as slow:
        slow.ask("GET", "/lab/thread?ms=10000")
        server.wait_for_metric("forno_requests_live", lambda n: n >= 2)
        for _ in range(20):
            assert ana.balance() >= 0 and ana.order().status == 202 and server.api("GET", "/readyz").status == 200
        assert not slow.is_readable_within(0)
    r = server.api("GET", "/lab/thread?ms=250")
    assert r.status == 200 and r.json()["waited_ms"] >= 250 and "db;dur=2" in r["Server-Timing"], f"got {r}"
    assert long_laps(server) == 0


def test_news_that_wait_for_a_writer_keep_no_other_read_waiting(start_server, shared_cluster, url):
    server = start_server(db=url)
    ana = server.customer()
    with shared_cluster.admin(pg.database_of(url)) as sql, server.connect() as stream:
        sql("SELECT pg_advisory_lock(forno.lock_of(%s))", ana.id)
        stream.ask("GET", "/orders/events", token=ana.token)
        wait_until(lambda: sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        for _ in range(20):
            assert ana.balance() >= 0
        assert not stream.is_readable_within(0)
        sql("SELECT pg_advisory_unlock(forno.lock_of(%s))", ana.id)
        assert stream.head().status == 200


def test_a_write_lane_that_is_stuck_leaves_room_for_reads(start_server, shared_cluster, url):
    """So many may wait for each lane, not for all of them together."""
    server = start_server(*RICH, db=url)
    ana = server.customer()
    with shared_cluster.admin(pg.database_of(url)) as sql, ExitStack() as crowd:
        sql("SELECT pg_advisory_lock(forno.lock_of(%s))", ana.id)
        for _ in range(1100):
            crowd.enter_context(server.connect()).ask("POST", "/orders", ORDER, ana.token)
        server.wait_for_metric("forno_db_refused_total", lambda n: n > 0)  # 1,024 wait, and the others are told so
        r = ana.api("GET", "/orders")
        assert r.status == 200 and r.json()["orders"] == [], f"got {r}"
    server.stop()


def test_who_is_ready_can_write_by_every_lane(start_server, shared_cluster, url):
    """One of the two cannot. That is not hidden by what goes well by the other, nor by what goes well because it changes nothing."""
    server = start_server("--opening-credit", "21000", db=url)
    writers = "SELECT pid FROM pg_stat_activity WHERE application_name = 'forno' AND datname = current_database() AND query LIKE '-- name: ORDER_PLACE%'"
    crowd = []
    with shared_cluster.admin(pg.database_of(url)) as sql:
        while len(sql(writers)) < 2:
            crowd.append(server.customer())
            assert crowd[-1].order().status == 202
        sql("CREATE FUNCTION forno.trip() RETURNS trigger LANGUAGE plpgsql AS "
            f"'BEGIN IF pg_backend_pid() = {sql(writers)[0][0]} THEN RAISE disk_full; END IF; RETURN new; END'; "
            "CREATE TRIGGER trip BEFORE INSERT ON forno.orders FOR EACH ROW EXECUTE FUNCTION forno.trip(); "
            "CREATE TRIGGER trip BEFORE UPDATE ON forno.meta FOR EACH ROW EXECUTE FUNCTION forno.trip()")
        assert {customer.order().status for customer in crowd} == {202, 503}
        for _ in range(3):
            for customer in crowd:
                assert server.api("GET", "/readyz").status == 503
                assert customer.order(9).status == 409 and customer.order().status in (202, 503)
        sql("DROP FUNCTION forno.trip CASCADE")
        wait_until(lambda: server.api("GET", "/readyz").status == 200)


# ---------------------------------------------------------------- names

@contextmanager
def look_ups(tmp_path):
    """Whoever looks a name up reads /etc/resolv.conf first, which is a pipe here. Yields what a process must do to be one of them, and what
    makes them wait from then on, to the end of its with block; that yields a function which returns when somebody waits."""
    resolver, hanging, over = tmp_path / "resolver", [], threading.Event()
    os.mkfifo(resolver)

    def let_go(i):
        while not over.wait(0.005):
            if not hanging and (held := hold_look_up(resolver)):
                os.close(held)

    @contextmanager
    def hold():
        hanging.append("from now on")
        yield lambda: wait_until(lambda: (held := hold_look_up(resolver)) and hanging.append(held) is None)
        os.close(hanging.pop())
        hanging.clear()

    with a_file_of_hosts(tmp_path, f"127.0.0.1 {NAME}\n") as (_, enter):
        join = start_together(1, let_go)
        try:
            yield enter, hold
        finally:
            over.set()
            join()


def test_a_look_up_that_hangs_stops_nobody(start_server, cluster, tmp_path):
    """Trap: DNS on the loop."""
    url = cluster.new_database()
    with look_ups(tmp_path) as (enter, hold):
        server = start_server(*RICH, db=url.replace("127.0.0.1", NAME), preexec=enter)
        ana = server.customer()
        assert ana.order().status == 202
        with hold() as somebody_waits:
            assert cluster.cut(url) > 0
            somebody_waits()
            for _ in range(5):
                assert server.api("GET", "/healthz").status == 200
            assert ana.order(idempotency_key="k").status == 503
        wait_until(lambda: ana.order(idempotency_key="k").status == 202, seconds=SOON)
        assert long_laps(server) == 0
        server.stop()
    assert_ledger_is_sound(url)


@pytest.mark.parametrize("how", ["the URL", "the environment"])
def test_a_host_that_a_service_names_is_not_looked_up_on_the_loop(start_server, cluster, tmp_path, how):
    """Trap: DNS on the loop. The service is named by the URL, or by the environment; the host, by the file that describes the service."""
    url, services = cluster.new_database(), tmp_path / "services"
    services.write_text(f"[pizza]\nhost={NAME}\nport={cluster.port}\ndbname={pg.database_of(url)}\n")
    parameters, service = ("?service=pizza", "another") if how == "the URL" else ("", "pizza")
    with look_ups(tmp_path) as (enter, hold):
        server = start_server(db=f"postgresql://{pg.USER}:{pg.PASSWORD}@/{parameters}", preexec=enter,
                              env={"PGSERVICEFILE": str(services), "PGSERVICE": service})
        ana = server.customer()
        with hold() as somebody_waits:
            assert cluster.cut(url) > 0
            somebody_waits()
            assert server.api("GET", "/healthz").status == 200
        wait_until(lambda: ana.order(idempotency_key="k").status == 202, seconds=SOON)
        server.stop()


def test_a_service_that_nobody_has_described_is_one_clear_line(tmp_path):
    services = tmp_path / "services"
    services.write_text("[pizza]\nhost=127.0.0.1\n")
    refusal(f"postgresql://u:{pg.PASSWORD}@/x?service=pasta", "pasta", "pg_service.conf", env={"PGSERVICEFILE": str(services)})


# ---------------------------------------------------------------- failover

def test_when_the_primary_dies_the_standby_takes_over(start_server, cluster, standby):
    """Nothing acknowledged is lost, and nobody but the administrator does anything."""
    url = cluster.new_database()
    server = start_server(*RICH, db=cluster.url(pg.database_of(url), others=[standby]))
    with patrons(server, 16) as crowd:
        wait_until(lambda: taken(crowd) >= 100, seconds=SOON)
        cluster.kill()
        standby.promote()
        before = taken(crowd)
        wait_until(lambda: taken(crowd) >= before + 100, seconds=SOON)
    assert long_laps(server) == 0
    server.stop()
    assert_ledger_is_sound(standby.url(pg.database_of(url)))


def test_a_dethroned_primary_is_left_by_all_lanes(start_server, cluster, standby):
    """Trap: the idle lane. What was ordered from the new one is not looked for at the old one, which is still there and readable."""
    url = cluster.new_database()
    server = start_server(*RICH, db=cluster.url(pg.database_of(url), others=[standby]))
    ana = server.customer()
    assert ana.order().status == 202 and len(ana.orders()) == 1
    standby.promote()
    cluster.set(synchronous_standby_names="''", default_transaction_read_only="on")
    wait_until(lambda: ana.order(idempotency_key="k").status == 202, seconds=SOON)
    for _ in range(20):
        assert len(ana.orders()) == 2 and server.api("GET", "/readyz").status == 200


# ---------------------------------------------------------------- to be seen

def test_the_lanes_are_told_to_whoever_looks_on(start_server):
    server = start_server("--bake-ms", "60000", "--lab")
    server.customer().order()
    wait_until(lambda: 'lane="reads",state="idle"' in server.api("GET", "/metrics").body.decode(), server.api("GET", "/metrics").body.decode)
    screen = server.api("GET", "/loop").body.decode()
    assert re.search(r"^  reads +0   under way, 0 behind; idle, ", screen, re.MULTILINE) and re.search("^  writes 2 ", screen, re.MULTILINE)
    assert "worker" not in screen, screen
