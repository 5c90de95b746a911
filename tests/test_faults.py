"""test_faults.py: the kernel, the disk and the allocator fail on demand. What one client cannot have, the others still
get; what is answered is right; and afterwards nothing is left behind.

The binary is build/…/server-faults, in which tests/faults/wrap.c stands between the server and its libraries."""

import errno
import mmap
import os
import struct

import pytest
import wire
from test_life import assert_alive, assert_no_spin
from wire import assert_ledger_is_sound, together

FAULTY = wire.BINARY + "-faults"
ORDER = {"flavor": "margherita", "pizzas": 2}

assert os.path.exists(FAULTY), f"there is no {FAULTY}: make test builds it"


class Faults:
    """What wrap.c shall do, in a file that the server maps: one struct fault for each of NAMES."""

    NAMES = ("accept", "recv", "send", "epoll_wait", "epoll_add", "memory", "disk_write", "disk_sync")
    FAULT = struct.Struct("=5q")

    def __init__(self, path):
        self.path = str(path)
        with open(path, "w+b") as file:
            file.truncate(len(self.NAMES) * self.FAULT.size)
            self.memory = mmap.mmap(file.fileno(), 0)

    def set(self, name, every=0, at=0, error=0, bytes=0):
        """From now on, and count from 0."""
        self.FAULT.pack_into(self.memory, self.NAMES.index(name) * self.FAULT.size, 0, every, at, error, bytes)

    def calls(self, name):
        return self.FAULT.unpack_from(self.memory, self.NAMES.index(name) * self.FAULT.size)[0]

    def clear(self):
        for name in self.NAMES:
            self.set(name)


@pytest.fixture
def faults(tmp_path):
    return Faults(tmp_path / "faults")


@pytest.fixture
def server(start_server, faults, monkeypatch):
    monkeypatch.setattr(wire, "BINARY", FAULTY)
    server = start_server("--bake-ms", "60000", env={"FORNO_FAULTS": faults.path})
    yield server
    faults.clear()
    assert_alive(server, wire.DEADLINE)
    server.assert_back_to_idle()
    server.stop()
    assert_ledger_is_sound(server.db)


# ---------------------------------------------------------------- a dinner, and what may become of it

class LetGo(Exception):
    """The connection was closed before a byte of the answer: that is how a server without memory says no."""


class Guest:
    """Asks one thing after the other on one connection, as long as that lasts. Each answer is the right one, or 503."""

    def __init__(self, server, fallible):
        self.server, self.fallible, self.client = server, fallible, server.connect()

    def ask(self, status, method, path, body=None, token=None, **headers):
        """The JSON of the answer; None if there was no memory for it."""
        try:
            self.client.ask(method, path, body, token, **headers)
            if not self.client.receive():
                raise LetGo
        except (ConnectionResetError, BrokenPipeError, LetGo):
            assert self.fallible and not self.client.leftover, f"let go: {method} {path}"
            self.leave()
            self.client = self.server.connect()
            return None
        r = self.client.response()
        if r["Connection"] == "close":
            self.leave()
            self.client = self.server.connect()
        if r.status in (503, 507) and self.fallible:
            return None
        assert r.status == status, f"expected {status} for {method} {path}, got {r}"
        return r.json()

    def first_event(self, token):
        """The first event of the stream, from the beginning of time; None if there was no memory to tell it."""
        with self.server.connect() as client:
            try:
                client.ask("GET", "/orders/events", token=token, last_event_id="0-0-0")
                if not client.receive():
                    raise LetGo
                head = client.head()
                if head.status == 503 and self.fallible:
                    return None
                for event in client.events(head):
                    if "event" in event:
                        client.reset()  # a mere FIN from a subscriber is noticed at the next heartbeat only
                        return event
            except (ConnectionResetError, LetGo):
                pass
        assert self.fallible, "expected an event"
        return None

    def leave(self):
        self.client.close()


def shape(value):
    """What a JSON value is made of: an answer must not have holes."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, float):
        return "int"  # a duration, which may come out even
    known = "Ana", "margherita", "baking", "order", "opening", "transfer", "placed", "ready"
    return value if value in known else type(value).__name__


def dine(server, friend, fallible=False):
    """An account, an order, a look at everything, a transfer, a cancellation. Returns the shapes of all answers."""
    guest = Guest(server, fallible)
    told = {}

    def ask(name, *args, **headers):
        answer = guest.ask(*args, **headers)
        told[name] = answer and shape(answer)
        return answer

    account = ask("account", 201, "POST", "/accounts", {"name": "Ana"})
    if account:
        token, path = account["token"], f"/accounts/{account['id']}"
        order = ask("order", 202, "POST", "/orders", ORDER, token, idempotency_key="dinner")
        again = ask("again", 202, "POST", "/orders", ORDER, token, idempotency_key="dinner")
        if order and again:
            assert again["id"] == order["id"], f"expected one order for one key, got {order} and {again}"
        tip = {"to": friend.id, "amount_cents": 1, "note": "tip"}
        ask("transfer", 201, "POST", "/transfers", tip, token, idempotency_key="tip")
        ask("menu", 200, "GET", "/menu")
        orders = ask("orders", 200, "GET", "/orders", token=token)
        if orders and order:
            assert [o["id"] for o in orders["orders"]] == [order["id"]], f"expected the one order, got {orders}"
        if order and told["transfer"]:
            ask("entries", 200, "GET", path + "/entries", token=token)
        event = guest.first_event(token)
        if event:
            told["event"] = {**event, "id": "id", "data": shape(wire.json.loads(event["data"]))}
        if order or again:
            ask("cancel", 200, "DELETE", f"/orders/{(order or again)['id']}", token=token)
        after = ask("balance", 200, "GET", path, token=token)
        if after and told.get("cancel") and told.get("transfer"):
            assert after["balance_cents"] == account["balance_cents"] - 1, f"expected all but the tip, got {after}"
        ask("ready", 200, "GET", "/readyz")
        ask("unknown", 404, "GET", "/nothing")
        ask("bad", 422, "POST", "/accounts", {"name": 1, "x": {}})
    guest.leave()
    return told


# ---------------------------------------------------------------- storms

STORMS = {
    "one byte at a time": {"send": dict(bytes=1), "recv": dict(bytes=1)},
    "sends of seven bytes, every other one EAGAIN": {"send": dict(bytes=7, every=2, error=errno.EAGAIN)},
    "receives of three bytes, every other one EAGAIN": {"recv": dict(bytes=3, every=2, error=errno.EAGAIN)},
    "EINTR everywhere": {name: dict(every=2, error=errno.EINTR) for name in ("recv", "send", "epoll_wait", "accept")},
    "all at once": {"send": dict(bytes=11, every=3, error=errno.EINTR),
                    "recv": dict(bytes=5, every=2, error=errno.EAGAIN),
                    "epoll_wait": dict(every=2, error=errno.EINTR),
                    "accept": dict(every=2, error=errno.ECONNABORTED)},
}


@pytest.mark.parametrize("storm", STORMS)
def test_answers_stay_right_in_a_storm(storm, server, faults):
    friend = server.customer("Bob")
    calm, page = dine(server, friend), server.api("GET", "/problems").body
    for name, fault in STORMS[storm].items():
        faults.set(name, **fault)
    assert dine(server, friend) == calm
    assert server.api("GET", "/problems").body == page
    pipelined = 20
    with server.connect() as client:
        client.send(b"GET /menu HTTP/1.1\r\nHost: a\r\n\r\n" * pipelined)
        assert len({client.response().body for _ in range(pipelined)}) == 1
    assert all(faults.calls(name) > 10 for name in STORMS[storm] if name != "accept"), "expected the storm to blow"


# ---------------------------------------------------------------- newcomers

@pytest.mark.parametrize("error", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"])
def test_when_accept_fails_for_want_accepting_pauses_and_resumes(error, server, faults):
    faults.set("accept", every=3, error=getattr(errno, error))
    assert together(8, lambda i: server.api("GET", "/healthz").status) == [200] * 8
    assert server.metric("forno_accept_pauses_total") >= 2
    with server.connect() as inside:
        assert inside.api("GET", "/healthz").status == 200
        faults.set("accept", every=1, error=getattr(errno, error))
        with server.connect() as client:
            client.ask("GET", "/healthz")
            assert_no_spin(server, inside, 500)
            assert faults.calls("accept") < 20, f"expected some five tries in half a second, got {faults.calls('accept')}"
            faults.clear()
            assert client.response().status == 200, "expected it to come in as soon as that is possible"


def test_without_memory_for_the_pause_accepting_goes_on(server, faults):
    """The pause ends with a timer. If there is none to be had, it must not begin: nobody would ever end it."""
    faults.set("accept", at=1, error=errno.EMFILE)
    faults.set("memory", every=1, error=errno.ENOMEM)
    with server.connect() as client:
        client.ask("GET", "/healthz")
        wire.wait_until(lambda: faults.calls("memory") >= 1)
        faults.set("memory")
        try:
            assert not client.receive() or client.response().status in (200, 503), "expected it to come in, whatever then"
        except ConnectionResetError:
            pass


@pytest.mark.parametrize("error", ["ECONNABORTED", "EPROTO", "EPERM", "EINTR"])
def test_a_newcomer_who_has_left_already_does_not_keep_the_next_one_out(error, server, faults):
    faults.set("accept", every=2, error=getattr(errno, error))
    assert together(8, lambda i: server.api("GET", "/healthz").status) == [200] * 8
    faults.clear()
    assert server.metric("forno_accept_pauses_total") == 0


def test_a_newcomer_whom_epoll_cannot_take_is_let_go(server, faults):
    faults.set("epoll_add", every=2, error=errno.ENOSPC)
    answered = 0
    for _ in range(10):
        with server.connect() as client:
            try:
                client.ask("GET", "/healthz")
                answered += bool(client.receive()) and client.response().status == 200
            except (ConnectionResetError, BrokenPipeError):
                pass
    assert answered == 5, f"expected every other one to be served, got {answered}"


# ---------------------------------------------------------------- connections that break

@pytest.mark.parametrize("error", ["EPIPE", "ECONNRESET", "ETIMEDOUT", "ENOMEM"])
@pytest.mark.parametrize("call", ["send", "recv"])
def test_a_connection_that_breaks_takes_nobody_with_it(call, error, server, faults):
    ana = server.customer()
    with server.connect() as before, server.connect() as broken, server.connect() as after:
        for client in (before, broken, after):
            assert client.api("GET", "/healthz").status == 200
        faults.set(call, at=1, error=getattr(errno, error))
        broken.ask("POST", "/orders", ORDER, ana.token)
        try:
            assert not broken.receive(), f"expected the connection to be closed, got {broken.leftover!r}"
        except ConnectionResetError:
            pass
        for client in (before, after):
            assert client.api("GET", "/healthz").status == 200
    assert len(ana.orders()) == (call == "send"), "expected the order placed if it was heard, answer or no answer"


def test_who_has_said_all_is_not_read_any_more_and_gets_all_that_is_his(server, faults):
    """Traps: the end of input taken for the end of the connection; the end of input, which is always readable, left armed. His answers
    are on their way when the end is read."""
    with server.connect() as client:
        whole = client.api("GET", "/menu").body
        faults.set("recv")
        faults.set("send", every=1, error=errno.EAGAIN)
        client.send(b"GET /menu HTTP/1.1\r\nHost: a\r\n\r\n" * 3).finish_sending()
        wire.wait_until(lambda: faults.calls("recv") >= 2, lambda: f"it has read {faults.calls('recv')} times")
        tried = faults.calls("send")
        wire.wait_until(lambda: faults.calls("send") >= tried + 10)
        assert faults.calls("recv") == 2, f"expected the requests to be read, and the end, it read {faults.calls('recv')} times"
        faults.clear()
        assert [client.response().body for _ in range(3)] == [whole] * 3
        client.assert_closed()


# ---------------------------------------------------------------- the disk

@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("call", ["disk_write", "disk_sync"])
def test_each_write_to_the_disk_may_fail_and_costs_no_more_than_its_request(call, error, server, faults):
    friend = server.customer("Bob")
    calm = dine(server, friend)
    failed = n = 0
    while faults.calls(call) >= n:
        n += 1
        faults.set(call, at=n, error=getattr(errno, error))
        told = dine(server, friend, fallible=True)
        for name, answer in told.items():
            assert answer in (None, calm[name]), f"not whole with write {n} failing: {name}: {answer}"
        assert list(told.values()).count(None) <= 1, f"expected one failure to cost one request, got {told}"
        failed += told != calm
    assert failed >= 3, f"expected some of {n} failures to be noticed, got {failed}"
    faults.clear()
    assert dine(server, friend) == calm


def test_a_disk_that_fails_for_a_while_is_good_again_afterwards(server, faults):
    """Writing fails for a while, and many ask. The loop goes on, reads go on, and nothing half done is left."""
    friend = server.customer("Bob")
    calm = dine(server, friend)
    ana = server.customer()
    faults.set("disk_write", every=1, error=errno.ENOSPC)
    assert ana.order().status == 507
    assert ana.balance() == ana.opening and ana.orders() == []
    for every in (1, 2, 5):
        faults.set("disk_write", every=every, error=errno.ENOSPC)
        faults.set("disk_sync", every=3, error=errno.EIO)
        together(4, lambda i: dine(server, friend, fallible=True))
        assert_alive(server)
    faults.clear()
    assert dine(server, friend) == calm


# ---------------------------------------------------------------- memory

def assert_logs_again(server):
    """A log that has lost a line for want of memory goes on with the next."""
    assert server.api("GET", "/healthz?after-the-famine").status == 200
    wire.wait_until(lambda: "after-the-famine" in server.stderr(), lambda: server.stderr())


def test_each_allocation_may_fail_and_costs_no_more_than_its_request(server, faults):
    """The same dinner again and again; each time another allocation fails, ours, cJSON's or SQLite's."""
    friend = server.customer("Bob")
    dine(server, friend)
    faults.set("memory")
    calm = dine(server, friend)
    failed = n = 0
    while faults.calls("memory") >= n:
        n += 1
        faults.set("memory", at=n, error=errno.ENOMEM)
        told = dine(server, friend, fallible=True)
        for name, answer in told.items():
            assert answer in (None, calm[name]), f"not whole with allocation {n} failing: {name}: {answer}"
        assert list(told.values()).count(None) <= 1, f"expected one failure to cost one request, got {told}"
        assert server.process.poll() is None, f"it died when allocation {n} failed"
        failed += told != calm
    print(f"{n} allocations, {failed} of which were missed")
    assert failed > 50, f"expected some of {n} failures to be noticed, got {failed}"
    faults.clear()
    assert dine(server, friend) == calm
    assert_logs_again(server)


def test_each_allocation_of_an_external_call_may_fail(server, faults):
    """The server calls itself: a failure may befall it as the client or as the courier."""
    guest = Guest(server, fallible=True)
    n = failed = 0
    while faults.calls("memory") >= n:
        n += 1
        faults.set("memory", at=n, error=errno.ENOMEM)
        answer = guest.ask(200, "GET", "/lab/socket?n=2&ms=0")
        assert answer is None or len(answer["calls"]) == 2, f"expected two calls told of, got {answer}"
        failed += not answer or answer["failed"]
    guest.leave()
    assert failed > 10, f"expected some of {n} failures to be noticed, got {failed}"


def test_a_famine_is_survived(server, faults):
    """For a while, every so manieth allocation fails, and many ask at once."""
    friend = server.customer("Bob")
    calm = dine(server, friend)
    for every in (50, 7, 2, 1):
        faults.set("memory", every=every, error=errno.ENOMEM)
        together(4, lambda i: dine(server, friend, fallible=True))
        assert server.process.poll() is None, f"it died when every {every}th allocation failed"
    faults.clear()
    assert dine(server, friend) == calm
    assert_logs_again(server)
