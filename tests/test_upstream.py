"""test_upstream.py: calls to the courier, an external service that may do anything at all: it harms nobody but the one
who asked for it, and whatever goes wrong is told apart."""

import ctypes
import errno
import os
import re
import resource
import socket
import struct
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest
from wire import IS_SANITIZED, start_together, together, wait_until

TOTAL = 5.0  # seconds that a call may take: UPSTREAM_TOTAL_MS
CONNECT = 1.5  # seconds that one address may take: UPSTREAM_CONNECT_MS
ACTIVE, WAITING = 64, 256  # calls out, calls in line
PROMPT = 3.0 if IS_SANITIZED else 1.5  # seconds: what fails at once has failed by then, with all others at work
UNDISTURBED = 1.0 if IS_SANITIZED else 0.5  # seconds: the same for /healthz
RICH = ("--opening-credit", "1000000000")

QUOTE = b'{"price_cents":700,"eta_minutes":9}'
OK, UNREACHABLE, NONSENSE, SLOW, BUSY = (
    (200, None), (502, "courier-unreachable"), (502, "courier-nonsense"), (504, "courier-slow"), (503, "courier-busy"))


def answer(body=QUOTE, status="HTTP/1.1 200 OK", *fields):
    return "\r\n".join([status, *fields, f"Content-Length: {len(body)}", "", ""]).encode() + body


class Courier:
    """Does as it is told: serve(sock, target) for each request, a thread for each connection, which is kept as long as
    serve says so by returning True."""

    def __init__(self, serve, host="127.0.0.1"):
        self.serve, self.sockets, self.targets = serve, [], []
        self.listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512)
        self.port = self.listener.getsockname()[1]
        self.options = "--courier", f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                self.sockets.append(sock)
                threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock):
        with sock, suppress(OSError):
            while (request := _read_head(sock)) and self._serve(sock, request):
                pass

    def _serve(self, sock, request):
        method, target, version = request.split(b"\r\n")[0].decode().split(" ")
        assert (method, version) == ("GET", "HTTP/1.1") and b"\r\nHost: " in request, f"got {request}"
        self.targets.append(target)
        return self.serve(sock, target)

    def close(self, reset=False):
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self.sockets:
            with suppress(OSError):
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RDWR)


def _read_head(sock):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(65536)
        if not byte:
            return b""
        head += byte
    return head


@pytest.fixture
def start_courier():
    started = []

    def start(serve, **rest):
        started.append(Courier(serve, **rest))
        return started[-1]

    yield start
    for courier in started:
        courier.close()


def deliver(customer, order):
    return customer.api("GET", f"/orders/{order}/delivery")


def verdict(r):
    return r.status, r.problem


def open_descriptors(server):
    return len(os.listdir(f"/proc/{server.pid}/fd"))


@contextmanager
def assert_nothing_leaks(server, *couriers):
    """When all is over and the couriers have hung up, there is as much as before."""
    server.assert_back_to_idle()
    before = open_descriptors(server)
    yield
    for courier in couriers:
        courier.close()
    server.assert_back_to_idle()
    wait_until(lambda: open_descriptors(server) <= before, lambda: f"{open_descriptors(server)} descriptors, not {before}")


@contextmanager
def assert_others_undisturbed(server):
    stop, slowest = threading.Event(), [0.0]

    def ask():
        with server.connect() as client:
            while not stop.wait(0.02):
                began = time.monotonic()
                assert client.api("GET", "/healthz").status == 200
                slowest[0] = max(slowest[0], time.monotonic() - began)

    join = start_together(1, lambda i: ask())
    yield
    stop.set()
    join()
    assert slowest[0] < UNDISTURBED, f"expected /healthz at once, it took {slowest[0]:.3f} s"


def crowd(server, customer, count):
    """So many clients who have asked for a delivery, and the order it is about."""
    order = customer.order().json()["id"]
    clients = [server.connect().ask("GET", f"/orders/{order}/delivery", token=customer.token) for _ in range(count)]
    server.wait_for_metric("forno_requests_live", lambda n: n >= count)
    return clients, order


# ---------------------------------------------------------------- every way to answer

def slowly(sock, data, pause):
    for at in range(len(data)):
        sock.sendall(data[at:at + 1])
        time.sleep(pause)


def forever(sock, data, head=b""):
    sock.sendall(head)
    while True:
        sock.sendall(data)


def reset(sock, data=b""):
    sock.sendall(data)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: "
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

WAYS = {  # what the courier does, and what the customer is told
    "answers, and keeps the connection": (lambda s: s.sendall(answer()) or True, OK),
    "answers, and closes": (lambda s: s.sendall(answer(QUOTE, "HTTP/1.1 200 OK", "Connection: close")), OK),
    "answers, and closes without a word": (lambda s: s.sendall(answer()), OK),
    "answers in HTTP/1.0 until it closes": (lambda s: s.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + QUOTE), OK),
    "answers in HTTP/1.0 by length": (lambda s: s.sendall(answer(QUOTE, "HTTP/1.0 200 OK")), OK),
    "answers in HTTP/1.1 until it closes": (lambda s: s.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + QUOTE), OK),
    "answers in chunks": (lambda s: s.sendall(CHUNKED + b"5;a=b\r\n" + QUOTE[:5] + b"\r\n%x\r\n" % len(QUOTE[5:]) +
                                              QUOTE[5:] + b"\r\n0\r\nX: y\r\n\r\n") or True, OK),
    "says 100 and 103 first": (lambda s: s.sendall(INTERIM + answer()) or True, OK),
    "says 100, and a little later the rest": (lambda s: s.sendall(INTERIM) or time.sleep(0.1) or s.sendall(answer()), OK),
    "folds its fields": (lambda s: s.sendall(b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length:\r\n\t%d\r\n\r\n" % len(QUOTE) +
                                             QUOTE) or True, OK),
    "takes half a second for its head": (lambda s: slowly(s, answer(), 0.5 / len(answer())) or True, OK),
    "says more than was asked": (lambda s: s.sendall(answer() + answer(b"{}")) or True, OK),
    "answers 1024 bytes": (lambda s: s.sendall(answer(QUOTE + b" " * (1024 - len(QUOTE)))) or True, OK),

    "closes without an answer": (lambda s: None, UNREACHABLE),
    "resets": (reset, UNREACHABLE),
    "resets amid its head": (lambda s: reset(s, HEAD), UNREACHABLE),
    "closes amid its head": (lambda s: s.sendall(HEAD), UNREACHABLE),
    "closes after 100": (lambda s: s.sendall(INTERIM), UNREACHABLE),
    "closes amid the body": (lambda s: s.sendall(answer()[:-1]), UNREACHABLE),
    "closes amid a chunk": (lambda s: s.sendall(CHUNKED + b"5\r\n{}"), UNREACHABLE),
    "closes before the last chunk": (lambda s: s.sendall(CHUNKED + b"2\r\n{}\r\n"), UNREACHABLE),

    "talks garbage": (lambda s: s.sendall(b"\0\1\2garbage\r\n\r\n"), NONSENSE),
    "talks TLS": (lambda s: s.sendall(b"\x15\x03\x01\0\2\2\x46"), NONSENSE),
    "talks HTTP/2": (lambda s: s.sendall(b"HTTP/2.0 200 OK\r\n\r\n"), NONSENSE),
    "gives two lengths": (lambda s: s.sendall(HEAD + b"2\r\nContent-Length: 3\r\n\r\n{} "), NONSENSE),
    "gives a length and chunks": (lambda s: s.sendall(CHUNKED[:-2] + b"Content-Length: 2\r\n\r\n{}"), NONSENSE),
    "answers 100 MB by length": (lambda s: forever(s, bytes(1 << 16), HEAD + b"100000000\r\n\r\n"), NONSENSE),
    "answers in endless chunks": (lambda s: forever(s, b"10\r\n" + b" " * 16 + b"\r\n", CHUNKED), NONSENSE),
    "answers without end": (lambda s: forever(s, bytes(1 << 16), b"HTTP/1.1 200 OK\r\n\r\n"), NONSENSE),
    "sends an endless field": (lambda s: forever(s, b"a" * 4096, b"HTTP/1.1 200 OK\r\nA: "), NONSENSE),
    "sends endless fields": (lambda s: forever(s, b"A: b\r\n", b"HTTP/1.1 200 OK\r\n"), NONSENSE),
    "sends an endless reason": (lambda s: forever(s, b"a" * 4096, b"HTTP/1.1 200 "), NONSENSE),
    "answers 1025 bytes": (lambda s: s.sendall(answer(QUOTE + b" " * (1025 - len(QUOTE)))), NONSENSE),
    **{f"answers {status}": (lambda s, status=status: s.sendall(answer(QUOTE, f"HTTP/1.1 {status}")) or True, NONSENSE)
       for status in ("201 Created", "301 Moved Permanently", "404 Not Found", "500 Oops", "503 Service Unavailable")},
    "changes the protocol": (lambda s: s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + answer()) or
                             hang(s), NONSENSE),
    "answers 204": (lambda s: s.sendall(b"HTTP/1.1 204 No Content\r\n\r\n") or True, NONSENSE),
    **{f"answers {body}": (lambda s, body=body: s.sendall(answer(body)) or True, NONSENSE)
       for body in (b"", b"{", b"{}", b"[1]", b"null", b"[" * 1000, b"\xff", QUOTE + b"x", QUOTE + QUOTE,
                    QUOTE.replace(b"700", b"-1"), QUOTE.replace(b"700", b"7.5"), QUOTE.replace(b"700", b"1e300"),
                    QUOTE.replace(b"700", b'"7"'), QUOTE.replace(b"eta", b"ETA"))},

    "hangs": (lambda s: hang(s), SLOW),
    "hangs amid the body": (lambda s: s.sendall(answer()[:-1]) or hang(s), SLOW),
    "drips one byte a second": (lambda s: slowly(s, answer(), 1), SLOW),
    "says 100 for ever": (lambda s: slowly(s, INTERIM * 100, 0.01), SLOW),
}
NAMES = list(WAYS)


def judge(customer, name):
    """An order of n pizzas makes the courier answer in the nth way."""
    order = customer.order(NAMES.index(name) + 1).json()["id"]
    began = time.monotonic()
    r = deliver(customer, order)
    took, expected = time.monotonic() - began, WAYS[name][1]
    assert verdict(r) == expected, f"a courier that {name}: expected {expected}, got {r}"
    assert took < PROMPT if expected != SLOW else TOTAL - 0.1 < took < TOTAL + PROMPT, f"a courier that {name} took {took:.3f} s"
    if expected == OK:
        assert r.json() == {"order_id": order, "price_cents": 700, "eta_minutes": 9}


def hang(sock, target=None):
    time.sleep(2 * TOTAL)


def serve_in_many_ways(sock, target):
    pizzas = int(target.removeprefix("/courier/quote?pizzas="))
    return WAYS[NAMES[pizzas - 1]][0](sock)


def ask_in_every_way_at_once(server, courier):
    ana = server.customer()
    with assert_nothing_leaks(server, courier), assert_others_undisturbed(server):
        together(len(NAMES), lambda i: judge(ana, NAMES[i]))


def ask_in_every_way_in_place(server, courier):
    """--blocking: one after the other, so only one of those that take five seconds, and with it the worst."""
    ana = server.customer()
    with assert_nothing_leaks(server, courier):
        for name in NAMES:
            if WAYS[name][1] != SLOW or name == "drips one byte a second":
                judge(ana, name)


def wait_in_line_for_a_courier_that_hangs(server, courier):
    """Those in line are told after five seconds like those whose call is out; of both, every second one has left before."""
    with assert_nothing_leaks(server, courier), assert_others_undisturbed(server):
        began = time.monotonic()
        clients, _ = crowd(server, server.customer(), 2 * ACTIVE)
        for client in clients[::2]:
            client.reset()
        assert {verdict(client.response()) for client in clients[1::2]} == {SLOW}
        assert TOTAL - 0.1 < time.monotonic() - began < TOTAL + PROMPT
        for client in clients[1::2]:
            client.close()


def test_whatever_the_courier_does_is_told_apart_and_harms_nobody_else(start_server, start_courier):
    """Side by side, since each takes the five seconds that a call may take."""
    scenes = []
    for scene, serve, *options in ((ask_in_every_way_at_once, serve_in_many_ways),
                                   (ask_in_every_way_in_place, serve_in_many_ways, "--blocking"),
                                   (wait_in_line_for_a_courier_that_hangs, hang)):
        courier = start_courier(serve)
        scenes.append((scene, start_server(*RICH, *courier.options, *options), courier))
    together(len(scenes), lambda i: scenes[i][0](*scenes[i][1:]))


# ---------------------------------------------------------------- connections that are kept

def test_a_connection_is_kept_for_the_next_call(start_server, start_courier):
    courier = start_courier(lambda sock, target: sock.sendall(answer()) or True)
    server = start_server(*courier.options)
    ana = server.customer()
    order = ana.order().json()["id"]
    for _ in range(5):
        assert deliver(ana, order).status == 200
    assert len(courier.targets) == 5 and len(courier.sockets) == 1, f"got {len(courier.sockets)} connections"


def test_a_connection_on_which_too_much_was_said_is_not_kept(start_server, start_courier):
    courier = start_courier(lambda sock, target: sock.sendall(answer() + answer()) or True)
    server = start_server(*courier.options)
    ana = server.customer()
    order = ana.order().json()["id"]
    assert verdict(deliver(ana, order)) == OK and verdict(deliver(ana, order)) == OK
    assert len(courier.sockets) == 2, "expected a fresh connection"


def test_a_call_on_a_kept_connection_that_breaks_is_repeated_once_on_a_fresh_one(start_server, start_courier):
    """The courier hangs up right after the nth request of a connection has come. The first time nobody need know; if the
    fresh connection breaks as well, it is told."""
    lives = [2, 2, 1, 1]  # requests that a connection hears, the last of them in vain

    def serve(sock, target):
        lives[0] -= 1
        if lives[0]:
            return sock.sendall(answer()) or True
        lives.pop(0)

    courier = start_courier(serve)
    server = start_server(*courier.options)
    ana = server.customer()
    order = ana.order().json()["id"]
    with assert_nothing_leaks(server, courier):
        assert verdict(deliver(ana, order)) == OK
        assert verdict(deliver(ana, order)) == OK and len(courier.sockets) == 2  # repeated
        assert verdict(deliver(ana, order)) == UNREACHABLE and len(courier.sockets) == 3  # repeated, in vain
        assert verdict(deliver(ana, order)) == UNREACHABLE and len(courier.sockets) == 4  # not repeated
    assert len(courier.targets) == 1 + 2 + 2 + 1


@pytest.mark.parametrize("parting", [b"", answer(b"{}", "HTTP/1.1 408 Request Timeout")], ids=["nothing", "an answer"])
def test_what_comes_unasked_on_a_kept_connection_is_no_answer(start_server, start_courier, parting):
    """While the loop stands still, the next call is asked for, and then the courier speaks, or just hangs up: epoll tells
    of both in one batch."""
    courier = start_courier(lambda sock, target: sock.sendall(answer()) or True)
    server = start_server(*courier.options)
    with server.connect() as client, server.connect() as blocker:
        call = "/lab/socket?n=1&ms=0"
        assert client.api("GET", call).json()["failed"] == 0
        blocker.ask("GET", "/lab/block?ms=400")
        time.sleep(0.1)
        client.ask("GET", call)
        time.sleep(0.1)
        courier.sockets[0].sendall(parting)
        courier.sockets[0].shutdown(socket.SHUT_RDWR)
        assert client.response().json()["failed"] == 0, "expected the answer to what was asked"
        assert len(courier.sockets) == 2, "expected a fresh connection"


def test_a_kept_connection_that_the_courier_closes_is_closed(start_server, start_courier):
    courier = start_courier(lambda sock, target: sock.sendall(answer()))
    server = start_server(*courier.options)
    ana = server.customer()
    order = ana.order().json()["id"]
    with assert_nothing_leaks(server):
        for _ in range(20):
            assert verdict(deliver(ana, order)) == OK


# ---------------------------------------------------------------- couriers that take no connection

def test_a_courier_that_refuses_is_unreachable_at_once(start_server, start_courier):
    courier = start_courier(None)
    courier.close()
    for options in (), ("--blocking",):
        server = start_server(*courier.options, *options)
        ana = server.customer()
        order = ana.order().json()["id"]
        with assert_nothing_leaks(server):
            began = time.monotonic()
            for _ in range(10):
                assert verdict(deliver(ana, order)) == UNREACHABLE
            assert time.monotonic() - began < PROMPT


def test_a_courier_that_never_accepts_is_unreachable_or_slow(start_server):
    """With room in its backlog the connection is made, and nothing follows. Without, not even that."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        queued = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(address)
            queued.append(sock)
        servers = [start_server("--courier", "http://%s:%d" % address, *options) for options in ((), ("--blocking",))]

        def ask(i):
            ana = servers[i].customer()
            order = ana.order().json()["id"]
            began = time.monotonic()
            with assert_nothing_leaks(servers[i]):
                return verdict(deliver(ana, order)), time.monotonic() - began

        for told, took in together(2, ask):
            assert (told == UNREACHABLE and CONNECT - 0.1 < took < CONNECT + PROMPT) or (told == SLOW and took > TOTAL - 0.1)
        for sock in queued:
            sock.close()


def test_want_of_descriptors_is_not_the_couriers_fault(start_server, start_courier):
    """With 80 descriptors and 38 clients there are less than 38 left to call with."""
    enough = threading.Event()
    courier = start_courier(lambda sock, target: enough.wait(TOTAL) and sock.sendall(answer()))
    server = start_server(*courier.options, preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80)))
    ana = server.customer()
    order = ana.order().json()["id"]
    with assert_nothing_leaks(server, courier):
        clients = [server.connect() for _ in range(38)]
        for client in clients:
            client.ask("GET", f"/orders/{order}/delivery", token=ana.token)
        refused = [client for client in clients if client.is_readable_within(0.5 if client is clients[0] else 0.01)]
        enough.set()
        told = {verdict(client.response()) for client in refused}
        assert told == {BUSY} and len(refused) < 38, f"got {told} for {len(refused)} of 38"
        assert {verdict(client.response()) for client in clients if client not in refused} == {OK}
        for client in clients:
            client.close()
        assert verdict(deliver(ana, order)) == OK, "expected all well again"


# ---------------------------------------------------------------- names

NAME = "courier" * 10 + ".test"  # no resolver would send such a label over the network


@contextmanager
def a_file_of_hosts(tmp_path, text):
    """Yields it, and what makes a process take it for /etc/hosts; and, if there is one, the file "resolver" for /etc/resolv.conf,
    which is read first. Skips the test where that is not allowed."""
    hosts, resolver = tmp_path / "hosts", tmp_path / "resolver"
    hosts.write_text(text)
    libc = ctypes.CDLL(None, use_errno=True)
    unshare_user_and_mounts, bind = 0x10020000, 4096

    def enter():
        if libc.unshare(unshare_user_and_mounts) or libc.mount(bytes(hosts), b"/etc/hosts", None, bind, None) or (
                resolver.exists() and libc.mount(bytes(resolver), b"/etc/resolv.conf", None, bind, None)):
            raise OSError(ctypes.get_errno(), "not allowed")

    try:
        subprocess.run(["true"], preexec_fn=enter, check=True)
    except subprocess.SubprocessError:
        pytest.skip("the kernel forbids mount namespaces here")
    yield hosts, enter


@pytest.mark.parametrize("options", [(), ("--blocking",)], ids=["async", "blocking"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_every_address_of_a_name_is_tried(start_server, start_courier, tmp_path, host, options):
    courier = start_courier(lambda sock, target: sock.sendall(answer()), host=host)
    with a_file_of_hosts(tmp_path, f"127.0.0.1 {NAME}\n127.0.0.2 {NAME}\n::1 {NAME}\n") as (_, enter):
        server = start_server("--courier", f"http://{NAME}:{courier.port}", *options, preexec=enter)
        ana = server.customer()
        assert verdict(deliver(ana, ana.order().json()["id"])) == OK


@pytest.mark.parametrize("options", [(), ("--blocking",)], ids=["async", "blocking"])
def test_a_name_that_is_not_known_is_looked_up_again(start_server, start_courier, tmp_path, options):
    courier = start_courier(lambda sock, target: sock.sendall(answer()))
    with a_file_of_hosts(tmp_path, "") as (hosts, enter):
        server = start_server("--courier", f"http://{NAME}:{courier.port}", *options, preexec=enter)
        ana = server.customer()
        order = ana.order().json()["id"]
        with assert_nothing_leaks(server, courier):
            assert verdict(deliver(ana, order)) == UNREACHABLE
            hosts.write_text(f"127.0.0.1 {NAME}\n")
            wait_until(lambda: verdict(deliver(ana, order)) == OK)


def hold_look_up(resolver):
    """The end of the pipe that somebody who looks a name up reads from at this moment; None: nobody does (fifo(7))."""
    try:
        return os.open(resolver, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        assert error.errno == errno.ENXIO, error
        return None


@contextmanager
def a_look_up_that_is_out(start_server, tmp_path, port, *options):
    """A server that is looking the courier's name up at this moment, and goes on doing so until let_go() is called; an order; and
    the client who has asked for its delivery."""
    resolver, started = tmp_path / "resolver", threading.Event()
    os.mkfifo(resolver)

    def let_it_start():
        while not started.wait(0.005):
            if held := hold_look_up(resolver):
                os.close(held)

    with a_file_of_hosts(tmp_path, "") as (hosts, enter):
        join = start_together(1, lambda i: let_it_start())
        try:
            server = start_server("--courier", f"http://{NAME}:{port}", *options, preexec=enter)
        finally:
            started.set()
            join()
        ana = server.customer()
        order = ana.order().json()["id"]
        with server.connect() as client, ExitStack() as stack:
            client.ask("GET", f"/orders/{order}/delivery", token=ana.token)
            wait_until(lambda: (held := hold_look_up(resolver)) and stack.callback(os.close, held))
            hosts.write_text(f"127.0.0.1 {NAME}\n")
            yield server, ana, order, client, stack.close


@pytest.mark.parametrize("options", [(), ("--blocking",)], ids=["async", "blocking"])
def test_a_name_that_takes_long_to_look_up_holds_nobody(start_server, start_courier, tmp_path, options):
    """Trap: blocking getaddrinfo. Not even whoever asks for the courier waits: he is told what is known."""
    courier = start_courier(lambda sock, target: sock.sendall(answer()))
    with a_look_up_that_is_out(start_server, tmp_path, courier.port, *options) as (server, ana, order, client, let_go):
        with server.connect() as other:
            other.sock.settimeout(3)
            assert other.api("GET", "/healthz").status == 200, "expected the loop to be free"
        assert verdict(client.response()) == UNREACHABLE and verdict(deliver(ana, order)) == UNREACHABLE
        let_go()
        wait_until(lambda: verdict(deliver(ana, order)) == OK)


def test_leaving_does_not_wait_for_a_name(start_server, tmp_path):
    with a_look_up_that_is_out(start_server, tmp_path, 1) as (server, _, _, client, _):
        assert verdict(client.response()) == UNREACHABLE
        client.close()
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < PROMPT


def test_a_name_that_does_not_resolve_is_unreachable(start_server):
    server = start_server("--courier", f"http://{NAME}:80")
    ana = server.customer()
    order = ana.order().json()["id"]
    for _ in range(3):
        assert verdict(deliver(ana, order)) == UNREACHABLE


@pytest.mark.parametrize("url", ["https://a", "http://", "a:80", "http://a:x", "http://a:65536", "http://a:1:2", "http://[::1",
                                 "http://[::1]x", "http://a/?b", "http://a/#b", "http://a/ b", "http://a/ã", "http://u@a", "http://" + "a" * 300])
def test_an_address_of_no_use_is_told_at_once(start_server, url):
    with pytest.raises(AssertionError, match="is no address for a courier"):
        start_server("--courier", url)


def test_the_prefix_of_the_address_is_kept(start_server, start_courier):
    courier = start_courier(lambda sock, target: sock.sendall(answer()))
    server = start_server("--courier", courier.options[1] + "/a/b/")
    ana = server.customer()
    assert verdict(deliver(ana, ana.order(3).json()["id"])) == OK
    assert courier.targets == ["/a/b/courier/quote?pizzas=3"]


# ---------------------------------------------------------------- many calls

def test_calls_beyond_the_limit_wait_in_line_and_beyond_that_are_refused(start_server, start_courier):
    go = threading.Event()
    courier = start_courier(lambda sock, target: go.wait(TOTAL) and not sock.sendall(answer()))
    server = start_server(*courier.options)
    ana = server.customer()
    with assert_nothing_leaks(server, courier):
        clients, order = crowd(server, ana, ACTIVE + WAITING)
        wait_until(lambda: len(courier.targets) == ACTIVE)
        for _ in range(3):
            assert verdict(deliver(ana, order)) == BUSY  # with its Retry-After, like every 503
        time.sleep(0.1)
        go.set()
        answers = [client.response() for client in clients]
        assert {verdict(r) for r in answers} == {OK}
        assert len(courier.sockets) == ACTIVE, "expected those in line to use the connections of the others"
        in_line = [float(re.search(r"queue;dur=([\d.]+)", r["Server-Timing"])[1]) for r in answers]
        assert sum(ms >= 100 for ms in in_line) == WAITING, f"expected the time in line told, got {in_line}"
        for client in clients:
            client.close()


def test_when_the_courier_dies_everybody_in_line_is_told(start_server, start_courier):
    courier = start_courier(hang)
    server = start_server(*courier.options)
    ana = server.customer()
    with assert_nothing_leaks(server):
        clients, _ = crowd(server, ana, ACTIVE + WAITING)
        wait_until(lambda: len(courier.targets) == ACTIVE)
        began = time.monotonic()
        courier.close(reset=True)
        assert {verdict(client.response()) for client in clients} == {UNREACHABLE}
        assert time.monotonic() - began < PROMPT
        for client in clients:
            client.close()


def test_leaving_does_not_wait_for_a_courier_beyond_the_drain(start_server, start_courier):
    """What is out when the time is over is given up: calls at work and calls in line."""
    courier = start_courier(hang)
    server = start_server(*courier.options, "--drain", "1")
    clients, _ = crowd(server, server.customer(), ACTIVE + 10)
    wait_until(lambda: len(courier.targets) == ACTIVE)
    server.stop()
    for client in clients:
        client.close()


# ---------------------------------------------------------------- the courier in the house

def test_one_thread_is_client_and_server_of_itself(start_server):
    server = start_server()
    ana = server.customer()
    order = ana.order(10).json()["id"]
    with assert_nothing_leaks(server):
        answers = together(50, lambda i: deliver(ana, order))
        assert {verdict(r) for r in answers} == {OK}
        assert all(r.json() == {"order_id": order, "price_cents": 1000, "eta_minutes": 25} for r in answers)
        assert all(r["Cache-Control"] == "no-store" for r in answers)
        assert all("db;dur=" in r["Server-Timing"] and re.search(r"upstream;dur=([3-9]\d\d|\d{4,})\.", r["Server-Timing"]) for r in answers)
        wait_until(lambda: server.metric("forno_connections") <= 1)  # the idle ones, closed after 4 s


def test_a_delivery_is_told_to_its_customer_alone(start_server):
    server = start_server()
    ana, bob = server.customer("Ana"), server.customer("Bob")
    order = ana.order().json()["id"]
    assert deliver(bob, order).status == 404 and deliver(ana, order + 1).status == 404
    assert server.api("GET", f"/orders/{order}/delivery").status == 401
    assert server.api("GET", f"/orders/{order}/delivery", token="x" * 43).status == 401


def test_the_quote_is_bounded(server):
    for query in ("pizzas=0", "pizzas=1001", "ms=10001", "ms=x", "pizzas=", "pizzas=1&ms=-1"):
        assert verdict(server.api("GET", f"/courier/quote?{query}")) == (400, "bad-parameter")
    assert server.api("GET", "/courier/quote?pizzas=2&ms=0").json() == {"price_cents": 600, "eta_minutes": 21}
