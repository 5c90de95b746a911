"""test_life.py: leaving, dying, starving. What was acknowledged is never lost; who misbehaves harms nobody else."""

import fcntl
import os
import re
import resource
import signal
import sqlite3
import time

import pytest
from wire import (DEADLINE, IS_SANITIZED, assert_ledger_is_sound, seconds_since_epoch, start_together, together,
                  wait_until)

ORDER = {"flavor": "margherita", "pizzas": 1}
PRICE = 3500
MIB = 1 << 20
OUTPUT_MAX = 256 * 1024  # bytes that may wait for a slow reader


def laps_told(r):
    return int(re.search(r"^forno_lap_seconds_count (\d+)$", r.body.decode(), re.MULTILINE)[1])


def assert_no_spin(server, client, ms=1000):
    """While a client naps and nothing else can be done, next to nothing is done. Laps are counted: where the CPU is shared with others,
    a spin is hard to tell by its CPU time. The client naps on, so that he is not the one to make room for a newcomer."""
    before, began = server.cpu_seconds(), time.monotonic()
    client.ask("GET", "/metrics").ask("GET", f"/lab/timer?ms={ms}").ask("GET", "/metrics").ask("GET", "/lab/timer?ms=60000")
    first, _, last = (client.response() for _ in range(3))
    laps, used = laps_told(last) - laps_told(first), server.cpu_seconds() - before
    assert laps < 100, f"expected no spin, it turned {laps} laps in {ms} ms"
    assert used <= 0.2 * (time.monotonic() - began), f"expected no spin, it used {used:.2f} s of CPU in {ms} ms"


def assert_alive(server, within=1.0):
    began = time.monotonic()
    assert server.api("GET", "/healthz").status == 200
    assert time.monotonic() - began < within, f"expected /healthz at once, it took {time.monotonic() - began:.2f} s"


# ---------------------------------------------------------------- clients that leave

@pytest.mark.contract
def test_a_vanished_client_still_gets_its_pizza_baked(start_server):
    """500 close right after sending, 250 reset right after sending, 250 reset while they wait for the oven. A reset can
    overtake the request itself, so of the second kind any number may have ordered; of the others all have."""
    server = start_server("--bake-ms", "2000", "--opening-credit", str(1000 * PRICE))
    ana = server.customer()
    idle = server.metric("forno_requests_live")

    def order(**headers):
        return server.connect().ask("POST", "/orders", ORDER, ana.token, **headers)

    def leave(i):
        for _ in range(10):
            order().close()
            order().close()
            order().reset()

    together(25, leave)
    waiting = [order(prefer="wait=30") for _ in range(250)]
    server.wait_for_metric("forno_requests_live", lambda n: n >= idle + 250)
    for client in waiting:
        client.reset()
    server.assert_back_to_idle()
    orders = ana.orders()
    assert 750 <= len(orders) <= 1000, f"expected the orders of all that were heard, got {len(orders)}"
    assert ana.balance() == ana.opening - PRICE * len(orders), "expected every order paid, and nothing else"
    last = max(seconds_since_epoch(order["ready_at"]) for order in orders)
    wait_until(lambda: time.time() > last)
    assert len(ana.orders("&status=ready")) == len(orders), "expected every pizza baked"


def test_a_connection_of_every_fate_leaves_nothing_behind(start_server):
    """Churn: connections that say nothing, half a request, nonsense, or leave amid a long answer."""
    server = start_server()
    sent = [b"", b"GET /menu HT", b"\0\0\0\r\n\r\n", b"GET /problems HTTP/1.1\r\nHost: a\r\n\r\n" * 50,
            b"POST /accounts HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"]

    def churn(i):
        for round in range(40):
            client = server.connect()
            client.send(sent[(i + round) % len(sent)])
            (client.close if round % 2 else client.reset)()

    together(25, churn)
    server.assert_back_to_idle()


def test_who_leaves_while_his_answer_is_made_kills_nobody(start_server):
    """Trap: SIGPIPE. He has said all, and then resets: the answer is sent before epoll can tell that nobody is there."""
    server = start_server()
    with server.connect() as client, server.connect() as other:
        client.ask("GET", "/lab/block?ms=1000").finish_sending()
        assert not other.ask("GET", "/healthz").is_readable_within(0.1), "expected the loop to stand still"
        client.reset()
        assert other.response().status == 200


# ---------------------------------------------------------------- kill -9

class Diary:
    """What one customer was told: the orders and transfers that were acknowledged in one round."""

    def __init__(self, customer):
        self.customer, self.orders, self.transfers = customer, [], []

    def act_until_the_end(self, server, round, to):
        """Order and pay in turn until the connection breaks."""
        try:
            with server.connect() as client:
                for i in range(1000):
                    r = client.api("POST", "/orders", ORDER, self.customer.token)
                    assert r.status == 202, f"expected the order taken, got {r}"
                    self.orders.append(r.json())
                    body, key = {"to": to.id, "amount_cents": 100}, f"{round}-{i}"
                    r = client.api("POST", "/transfers", body, self.customer.token, idempotency_key=key)
                    assert r.status == 201, f"expected the transfer done, got {r}"
                    self.transfers.append((body, key, r.json()))
        except (OSError, AssertionError) as end:
            assert isinstance(end, OSError) or "the end" in str(end), end  # the connection's, that is

    def check(self, server):
        """After the restart: each order is there as it was; each transfer, asked for again, is answered as done."""
        with server.connect() as client:
            for order in self.orders:
                client.ask("GET", f"/orders/{order['id']}", token=self.customer.token)
            for order in self.orders:
                r = client.response()
                assert r.status == 200, f"expected the acknowledged order {order['id']}, got {r}"
                assert r.json()["ready_at"] == order["ready_at"], "expected it ready when it was promised"
            for body, key, _ in self.transfers:
                client.ask("POST", "/transfers", body, self.customer.token, idempotency_key=key)
            for _, _, answer in self.transfers:
                r = client.response()
                assert r["Idempotent-Replayed"] == "true", f"expected the acknowledged transfer {answer}, got {r}"
                assert r.json() == answer


def test_nothing_acknowledged_is_lost_by_twenty_times_kill_9(start_server):
    """64 clients order and pay; then the plug is pulled. Twenty times, one database."""
    options = "--opening-credit", "100000000", "--log", "off"
    server = start_server(*options)
    db = server.db
    customers = [server.customer(f"Number {i}") for i in range(64)]
    told = 0
    for round in range(20):
        diaries = [Diary(customer) for customer in customers]
        join = start_together(64, lambda i: diaries[i].act_until_the_end(server, round, customers[(i + 1) % 64]))
        wait_until(lambda: sum(len(diary.orders) for diary in diaries) >= 100 + 10 * round)
        server.kill()
        join()
        assert_ledger_is_sound(db)
        server = start_server(*options, db=db)
        together(8, lambda i: [diary.check(server) for diary in diaries[i::8]])
        told += sum(len(diary.orders) + len(diary.transfers) for diary in diaries)
    assert told >= 20 * 100, "expected something to have been acknowledged in every round"


@pytest.mark.contract
def test_a_baking_order_survives_kill_9_and_is_ready_when_promised(start_server):
    server = start_server("--bake-ms", "1500")
    ana = server.customer()
    order = ana.order(1).json()
    server.kill()
    ana.server = start_server("--bake-ms", "60000", db=server.db)  # not asked again: the promise stands
    asked = time.time()
    r = ana.api("GET", f"/orders/{order['id']}", prefer="wait=10")
    arrived, ready = time.time(), seconds_since_epoch(order["ready_at"])
    assert r.json()["status"] == "ready" and r.json()["ready_at"] == order["ready_at"], f"expected it ready, got {r}"
    assert arrived >= ready - 0.001 and arrived - max(ready, asked) < 5, "expected it ready when promised, not a minute later"


# ---------------------------------------------------------------- SIGTERM

@pytest.mark.contract
def test_sigterm_under_load_answers_every_request_that_was_read(start_server):
    """An order that was executed was read; so after the restart there must be exactly those that were answered."""
    server = start_server("--opening-credit", "100000000")
    customers = [server.customer(f"Number {i}") for i in range(32)]
    answered = [0] * 32

    def act(i):
        with server.connect() as client:
            try:
                while True:
                    client.ask("POST", "/orders", ORDER, customers[i].token)
                    if not client.receive():
                        return  # closed before a byte of an answer: it was not read, then
                    r = client.response()
                    assert r.status in (202, 503), f"expected an order or a refusal, got {r}"
                    answered[i] += r.status == 202
                    if r["Connection"] == "close":
                        return client.assert_closed()
            except (ConnectionResetError, BrokenPipeError):
                assert client.leftover == b"", f"expected a whole answer or none, got {client.leftover!r}"

    join = start_together(32, act)
    wait_until(lambda: sum(answered) >= 200)
    server.terminate()
    join()
    server.stop()
    restarted = start_server(db=server.db)
    for i, customer in enumerate(customers):
        customer.server = restarted
        placed = len(customer.orders())
        assert placed == answered[i], f"expected the {answered[i]} orders that were answered, got {placed}"


@pytest.mark.contract
def test_sigterm_answers_long_polls_with_what_is_true_now(start_server):
    server = start_server("--bake-ms", "60000", "--drain", "30")
    ana = server.customer()
    order = ana.order().json()
    idle = server.metric("forno_requests_live")
    with server.connect() as placing, server.connect() as looking, server.connect() as listening:
        placing.ask("POST", "/orders", ORDER, ana.token, prefer="wait=60")
        looking.ask("GET", f"/orders/{order['id']}", token=ana.token, prefer="wait=60")
        head = listening.ask("GET", "/orders/events", token=ana.token).head()
        server.wait_for_metric("forno_requests_live", lambda n: n >= idle + 2)
        began = time.monotonic()
        server.terminate()
        for client, status in ((placing, 202), (looking, 200)):
            r = client.response()
            assert r.status == status and r.json()["status"] == "baking", f"expected {status}, baking, got {r}"
            client.assert_closed()
        for _ in listening.events(head):
            pass  # up to the orderly end of the stream
        listening.assert_closed()
    server.stop()
    assert time.monotonic() - began < 5, "expected it to leave as soon as all is answered"


def test_sigterm_closes_idle_connections_and_the_door(start_server):
    server = start_server("--drain", "30")
    with server.connect() as fresh, server.connect() as idle:
        assert idle.api("GET", "/healthz").status == 200
        server.terminate()
        idle.assert_closed()
        fresh.assert_closed()
        with pytest.raises(OSError):
            server.connect()
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 5


def never_read(server, path=b"/problems", patience=0.5):
    """A client that asks on and on and reads nothing, until nothing more can be sent."""
    client = server.connect(receive_buffer=4096)
    client.sock.settimeout(patience)
    request = b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    try:
        while True:
            client.sock.sendall(request * 1000)
    except TimeoutError:
        return client


def test_draining_ends_with_its_time(start_server):
    server = start_server("--drain", "1")
    with never_read(server):
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 4, "expected it to leave after --drain seconds, reader or not"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_leaves_at_once(second, start_server):
    server = start_server("--drain", "60")
    with never_read(server), server.connect() as half:
        half.send(b"POST /accounts HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
        assert_alive(server)
        server.terminate()
        half.is_readable_within(0.3)
        assert server.process.poll() is None, "expected it to wait for those who have not read their answers"
        server.process.send_signal(second)
        server.process.wait(2)
        server.killed = True  # its exit status is its own


def test_ctrl_c_is_like_sigterm(start_server):
    server = start_server()
    server.customer()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(10) == 0


@pytest.mark.contract
def test_a_wait_that_begins_while_draining_is_cut_short(start_server):
    """The signal is there first, the requests come when it has not been heard yet: they are in time, and begin to wait only then."""
    server = start_server("--drain", "30", "--bake-ms", "60000")
    ana = server.customer()
    clients = [server.connect() for _ in range(3)]
    for client in clients:
        assert client.api("GET", "/healthz").status == 200
    server.process.send_signal(signal.SIGSTOP)
    server.terminate()
    clients[0].ask("GET", "/lab/thread?ms=10000")
    clients[1].ask("GET", "/lab/timer?ms=60000")
    clients[2].ask("POST", "/orders", ORDER, ana.token, prefer="wait=60")
    began = time.monotonic()
    server.process.send_signal(signal.SIGCONT)
    assert [client.response().status for client in clients] == [200, 200, 202]
    for client in clients:
        client.close()
    server.stop()
    assert time.monotonic() - began < 5, f"expected it to leave at once, it took {time.monotonic() - began:.1f} s"


@pytest.mark.file
def test_a_delivery_that_is_out_at_sigterm_is_finished(start_server):
    """We are our own courier: the call has to come in although the door is closed."""
    server = start_server("--drain", "30", "--bake-ms", "60000")
    ana = server.customer()
    order = ana.order().json()["id"]
    with server.connect() as client:
        slow = server.connect().ask("GET", "/lab/thread?ms=400")
        server.wait_for_metric("forno_db_busy", lambda busy: busy)
        client.ask("GET", f"/orders/{order}/delivery", token=ana.token)  # its first step stands behind the slow query
        server.wait_for_metric("forno_db_queue_depth", lambda n: n >= 1)
        server.terminate()
        assert client.response().status == 200
        slow.close()
    server.stop()


# ---------------------------------------------------------------- one thing at a time

@pytest.mark.file
@pytest.mark.parametrize("path", ["/orders/{}", "/lab/timer?ms=10000", "/lab/thread?ms=10000", "/lab/block?ms=10000"])
def test_ctrl_c_is_heard_by_a_synchronous_server_too(path, start_server):
    server = start_server("--blocking", "--bake-ms", "600000")
    ana = server.customer()
    path = path.format(ana.order().json()["id"])
    with server.connect() as client, server.connect() as other:
        client.ask("GET", path, token=ana.token, prefer="wait=60")
        assert not client.is_readable_within(0.2)
        assert not other.ask("GET", "/healthz").is_readable_within(0.2), "expected it to stand still"
        began = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        assert client.response().status == 200
    assert server.process.wait(5) == 0
    assert time.monotonic() - began < 2


@pytest.mark.file
def test_a_synchronous_server_stands_still_for_ten_seconds_at_most(start_server):
    server = start_server("--blocking", "--bake-ms", "600000")
    ana = server.customer()
    r = server.api("GET", "/lab/timer?ms=60000")
    assert r.status == 400, f"expected a wait of a minute to be refused, got {r}"
    r = ana.order(prefer="wait=0")
    assert r["Preference-Applied"] == "wait=0"

    def told():
        """What there is, up to the end. Of the millisecond in progress nothing is told yet."""
        with server.connect() as client:
            events = client.events(client.ask("GET", "/orders/events", token=ana.token, last_event_id="0-0-0").head())
            return [event.get("event") for event in events]

    wait_until(lambda: told()[-1] == "placed")


# ---------------------------------------------------------------- bad company

def test_a_reader_who_never_reads_is_bounded_and_harms_nobody(start_server):
    server = start_server()
    assert_alive(server)
    before = server.resident_bytes()
    clients = [never_read(server) for _ in range(4)]
    assert_alive(server)
    with server.connect() as client:
        assert_no_spin(server, client)
    grown = server.resident_bytes() - before
    if not IS_SANITIZED:  # a sanitizer's own memory is not ours
        assert grown < 8 * MIB, f"expected memory to stay bounded, it grew by {grown / MIB:.1f} MiB"
    for client in clients:
        client.close()
    server.assert_back_to_idle()


def test_no_answer_is_made_for_who_does_not_read_the_last_ones(start_server):
    """Trap: unbounded output to a slow reader. He has asked for forty times what he is owed at most, and other requests have been
    answered since."""
    server = start_server()
    size = len(server.api("GET", "/openapi.json").body)
    with server.connect(receive_buffer=4096) as client, server.connect() as other:
        client.send(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * (40 * OUTPUT_MAX // size))
        for _ in range(3):
            text = other.api("GET", "/metrics").body.decode()
        made, sent = (int(re.search(rf"^{name} (\d+)$", text, re.MULTILINE)[1]) for name in (
            'forno_requests_total{route="/openapi.json",status="200"}', "forno_sent_bytes_total"))
        assert made * size <= sent + OUTPUT_MAX, f"expected at most {OUTPUT_MAX} bytes to wait for him, got {made} answers of {size}"


AT_REST = {
    "nothing to ask": lambda client, ana: client.api("GET", "/healthz"),
    "half a head": lambda client, ana: client.send(b"GET /me"),
    "half a body": lambda client, ana: client.send(b"POST /accounts HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"),
    "a wait": lambda client, ana: client.ask("GET", "/lab/timer?ms=60000"),
    "a wait, and more to ask": lambda client, ana: client.ask("GET", "/lab/timer?ms=60000").ask("GET", "/healthz"),
    "a call that is out, and nothing more to say":
        lambda client, ana: client.ask("GET", "/lab/socket?n=1&ms=4000").finish_sending(),
    "a call that is out, more to ask, and nothing more to say":
        lambda client, ana: client.ask("GET", "/lab/socket?n=1&ms=4000").ask("GET", "/healthz").finish_sending(),
    "a subscription": lambda client, ana: client.ask("GET", "/orders/events", token=ana.token).head(),
    "a refusal he has not closed behind": lambda client, ana: client.api("GET", "/healthz", connection="close"),
}


@pytest.mark.parametrize("what", AT_REST)
def test_a_client_at_rest_costs_no_laps(what, slow_oven):
    """Traps: EPOLLOUT left armed, EPOLLRDHUP left armed. What stays true must not be asked for."""
    ana = slow_oven.customer()
    with slow_oven.connect() as client, slow_oven.connect() as other:
        AT_REST[what](client, ana)
        assert_no_spin(slow_oven, other, 300)


def test_many_long_polls_keep_nobody_waiting(start_server):
    server = start_server("--bake-ms", "60000")
    ana = server.customer()
    order = ana.order().json()["id"]
    idle = server.metric("forno_requests_live")
    waiting = [server.connect().ask("GET", f"/orders/{order}", token=ana.token, prefer="wait=60") for _ in range(1000)]
    server.wait_for_metric("forno_requests_live", lambda n: n >= idle + 1000)
    for _ in range(20):
        assert_alive(server)
    with server.connect() as client:
        assert_no_spin(server, client, 500)
    assert ana.api("DELETE", f"/orders/{order}").status == 200
    assert all(client.response().json()["status"] == "cancelled" for client in waiting)
    for client in waiting:
        client.close()
    server.assert_back_to_idle()


def test_three_thousand_long_polls_on_one_pizza_are_all_answered(start_server):
    """They come due in one lap, three times as many as the queue takes: what has begun is not new work."""
    server = start_server("--bake-ms", "3000", "--log", "off")
    ana = server.customer()
    idle = server.metric("forno_requests_live")
    clients = [server.connect() for _ in range(3000)]
    order = ana.order().json()["id"]
    reads = server.metric("forno_db_reads_total")
    for batch in range(0, 3000, 500):
        for client in clients[batch:batch + 500]:
            client.ask("GET", f"/orders/{order}", token=ana.token, prefer="wait=60")
        server.wait_for_metric("forno_db_reads_total", lambda n: n >= reads + batch + 500)
    assert server.metric("forno_requests_live") >= idle + 3000, "expected them to wait before it was ready"
    answers = [client.response() for client in clients]
    assert {r.status for r in answers} == {200} and {r.json()["status"] for r in answers} == {"ready"}
    asked = server.metric("forno_db_reads_total") - reads - 3000
    assert asked <= 300, f"expected those who wait for the same pizza to ask together, {asked:.0f} questions"
    for client in clients:
        client.close()
    server.assert_back_to_idle()


def test_a_step_that_takes_long_ends_its_connections_turn(start_server):
    """Ten seconds of standing still in one packet, for somebody who is not alone."""
    server = start_server()
    with server.connect() as hog, server.connect() as other:
        hog.send(b"GET /lab/block?ms=100 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        assert hog.response().status == 200
        began = time.monotonic()
        assert other.api("GET", "/healthz").status == 200
        assert time.monotonic() - began < 1, "expected a turn in between"
        server.terminate()
        hog.receive()
    server.stop()
    assert time.monotonic() - began < 3, "expected the signal to be heard in between"


def test_our_own_courier_has_room_when_all_places_are_taken(start_server):
    server = start_server("--max-conns", "20", "--bake-ms", "60000")
    ana = server.customer()
    order = ana.order().json()["id"]
    clients = [server.connect().ask("GET", f"/orders/{order}/delivery", token=ana.token) for _ in range(20)]
    assert [client.response().status for client in clients] == [200] * 20
    for client in clients:
        client.close()


def assert_pauses_and_resumes(server, clients):
    """More clients than the server takes, and all are busy: the last waits outside at no cost, and comes in as soon as there is room."""
    *busy, last = clients
    for client in busy[1:]:
        client.ask("GET", "/lab/timer?ms=60000")
    last.ask("GET", "/healthz")
    assert_no_spin(server, busy[0])
    assert not last.is_readable_within(0), f"expected the last of {len(clients)} connections to wait outside"
    for client in busy:
        client.close()
    assert last.response().status == 200, "expected those outside to come in"
    last.close()
    assert_alive(server, DEADLINE)
    server.assert_back_to_idle()


def test_who_has_been_idle_longest_makes_room_for_a_newcomer(start_server):
    server = start_server("--max-conns", "8")
    clients = [server.connect() for _ in range(8)]
    for client in clients:
        assert client.api("GET", "/healthz").status == 200
    busy = clients[0].ask("GET", "/lab/timer?ms=60000")
    with server.connect() as newcomer:
        assert newcomer.api("GET", "/healthz").status == 200, "expected it not to wait for somebody's minute of silence"
    clients[1].assert_closed()
    assert clients[-1].api("GET", "/healthz").status == 200, "expected the one who spoke last to have stayed"
    assert not busy.is_readable_within(0) and server.metric("forno_let_go_connections_total") >= 1


def test_max_conns_pauses_accepting_and_does_not_spin(start_server):
    server = start_server("--max-conns", "8")
    clients = [server.connect() for _ in range(14)]
    assert_pauses_and_resumes(server, clients)


def test_without_descriptors_accepting_pauses_and_does_not_spin(start_server):
    """The limit falls under what is open while it runs: then accept() itself says EMFILE."""
    server = start_server()
    assert_alive(server)
    opened = max(int(fd) for fd in os.listdir(f"/proc/{server.pid}/fd")) + 1
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (opened + 20, hard))
    clients = [server.connect() for _ in range(40)]
    assert_pauses_and_resumes(server, clients)


def test_a_small_descriptor_limit_is_respected_from_the_start(start_server):
    limit = (128, 128)
    server = start_server(preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit))
    clients = [server.connect() for _ in range(160)]
    r = clients[0].api("POST", "/accounts", {"name": "Ana"})
    assert r.status == 201, f"expected the reserve to be enough for the database, got {r}"
    assert_pauses_and_resumes(server, clients)


def test_the_soft_descriptor_limit_is_raised_to_the_hard_one(start_server):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = start_server(preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard)))
    assert resource.prlimit(server.pid, resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_log_that_nobody_reads_blocks_nobody(start_server):
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    server = start_server("--log", "text", stderr=write_end)
    os.close(write_end)
    with server.connect() as client:
        client.send(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
        assert all(client.response().status == 404 for _ in range(1000)), "expected answers, log or no log"
    assert_alive(server)
    server.stop()
    os.close(read_end)


def test_a_log_whose_reader_is_gone_kills_nobody(start_server):
    read_end, write_end = os.pipe()
    server = start_server("--log", "text", stderr=write_end)
    os.close(write_end)
    os.close(read_end)
    for _ in range(3):
        assert_alive(server)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0, "expected it not to die of SIGPIPE"


# ---------------------------------------------------------------- the database fails

def assert_writes_fail(server, customer):
    """Writes are refused with a 5xx, nothing is pretended; the loop goes on all the while."""
    with server.connect() as opening, server.connect() as ordering:
        opening.ask("POST", "/accounts", {"name": "Bob"})
        ordering.ask("POST", "/orders", ORDER, customer.token)
        for _ in range(5):
            assert_alive(server)
        for client in (opening, ordering):
            r = client.response()
            assert r.status in (500, 503, 507), f"expected a 5xx while the database fails, got {r}"
    r = server.api("GET", "/readyz")
    assert r.status == 503, f"expected not to be ready while the database fails, got {r}"
    assert_alive(server)


def assert_recovers(server, customer, balance):
    wait_until(lambda: server.api("GET", "/readyz").status == 200)
    assert customer.balance() == balance, "expected that nothing was paid for what was refused"
    assert customer.order().status == 202
    server.stop()
    assert_ledger_is_sound(server.db)


@pytest.mark.file
def test_a_locked_database_is_an_answer_not_a_standstill(start_server):
    server = start_server()
    ana = server.customer()
    other = sqlite3.connect(server.db, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert_writes_fail(server, ana)
    other.execute("ROLLBACK")
    other.close()
    assert_recovers(server, ana, ana.opening)


@pytest.mark.file
def test_a_database_that_is_moved_away_takes_no_orders_until_it_is_back(start_server, tmp_path):
    """What is written to a file without a name would be lost, so it must not be acknowledged."""
    server = start_server()
    ana = server.customer()
    away = tmp_path / "away"
    away.mkdir()
    moved = [file for file in tmp_path.iterdir() if file.name.startswith(server.db.name)]
    for file in moved:
        file.rename(away / file.name)
    assert_writes_fail(server, ana)
    for file in tmp_path.iterdir():  # what it may have created in their place
        if file.name.startswith(server.db.name):
            file.unlink()
    for file in moved:
        (away / file.name).rename(file)
    assert_recovers(server, ana, ana.opening)


@pytest.mark.file
def test_an_order_that_is_paid_is_never_called_undone(start_server, tmp_path):
    """The database goes away while the pizza bakes: it cannot be looked at again, but that it was placed is known."""
    server = start_server("--bake-ms", "1500")
    ana = server.customer()
    with server.connect() as client:
        client.ask("POST", "/orders", ORDER, ana.token, prefer="wait=30")
        wait_until(ana.orders)
        server.db.rename(tmp_path / "away.db")
        r = client.response()
        assert r.status == 202 and r.json()["status"] == "baking" and r["Location"], f"expected it taken, got {r}"
        assert ana.api("GET", r["Location"], prefer="wait=1").status == 503


@pytest.mark.file
def test_a_deleted_database_takes_no_orders(start_server, tmp_path):
    server = start_server()
    ana = server.customer()
    for file in tmp_path.iterdir():
        if file.name.startswith(server.db.name):
            file.unlink()
    assert_writes_fail(server, ana)


@pytest.mark.file
def test_a_full_disk_refuses_orders_and_loses_none(start_server):
    """Full is what RLIMIT_FSIZE makes of a file: writing beyond it is an I/O error."""
    server = start_server("--log", "off", preexec=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN))
    ana = server.customer()
    ana.order()
    full = max(os.path.getsize(f"{server.db}{suffix}") for suffix in ("", "-wal")) + 16384
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
    taken = 1
    while (r := ana.order()).status == 202:
        taken += 1
        assert taken < 1000, "expected the disk to be full at some time"
    assert r.status in (500, 503, 507), f"expected a 5xx on a full disk, got {r}"
    assert_alive(server)
    assert len(ana.orders()) == taken and ana.balance() == ana.opening - taken * PRICE, "expected reads to go on"
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert_recovers(server, ana, ana.opening - taken * PRICE)


@pytest.mark.file
def test_a_corrupt_database_is_refused_or_answered_with_5xx(start_server):
    """All pages but the first, which bears the schema, are overwritten."""
    server = start_server()
    ana = server.customer()
    server.stop()
    with sqlite3.connect(server.db) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = db.execute("PRAGMA page_size").fetchone()[0]
    db.close()
    size = server.db.stat().st_size
    with open(server.db, "r+b") as file:
        file.seek(page)
        file.write(b"\xa5" * (size - page))
    try:
        restarted = start_server(db=server.db)
    except AssertionError as refusal:
        assert str(server.db) in str(refusal), "expected a refusal that names the file"
        return
    assert restarted.api("POST", "/accounts", {"name": "Bob"}).status in (500, 503)
    assert restarted.api("GET", f"/accounts/{ana.id}", token=ana.token).status in (500, 503)
    assert restarted.api("GET", "/readyz").status == 503
    assert_alive(restarted)


def waited_ms(r):
    """What an answer says it has waited for, all in all."""
    return sum(float(ms) for ms in re.findall(r"dur=([0-9.]+)", r["Server-Timing"] or ""))


@pytest.mark.contract
def test_a_full_queue_refuses_at_once(start_server, road):
    """While another process holds the database, what has been taken waits, at most 1,024 jobs, and as
    many wait for it; or for each of two lanes, behind 64. The others are told no, and that without having waited."""
    server = start_server("--log", "off")
    with road.held(server.db):
        clients = [server.connect() for _ in range(2500)]
        for client in clients:
            client.ask("POST", "/accounts", {"name": "A"})
        wait_until(lambda: sum(client.is_readable_within(0) for client in clients) >= 100)
        assert_alive(server)
    answers = [client.response() for client in clients]
    assert {r.status for r in answers} <= {201, 503}, "expected accounts and refusals"
    at_once = [r for r in answers if r.status == 503 and waited_ms(r) < 500]
    assert len(at_once) >= 100, f"expected at least 100 refused at once, got {len(at_once)}"
    for client in clients:
        client.close()
    created = sum(r.status == 201 for r in answers)
    assert server.customer().id == created + 1, "expected an account for each 201, and no other"
