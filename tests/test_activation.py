"""test_activation.py: started, watched and restarted by somebody else: sockets that are passed in, readiness that is
told, and limits per client. systemd is not needed for it: a launcher of a few lines and a datagram socket will do."""

import fcntl
import itertools
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
import wire
from wire import Client, assert_ledger_is_sound, is_readable, start_together, wait_until

ORDER = {"flavor": "margherita", "pizzas": 1}


# ---------------------------------------------------------------- socket activation

LAUNCHER = """#!{python}
import os, sys
for number, fd in enumerate({fds}, 3):
    os.dup2(fd, number)
os.environ.update(LISTEN_PID=str({pid}), LISTEN_FDS="{count}")
os.execv("{binary}", ["{binary}", *sys.argv[1:]])
"""


@pytest.fixture
def launcher(tmp_path):
    """launcher(sockets): a program that becomes the server with these as descriptors 3 and up, as sd_listen_fds(3) has it; and
    the descriptors that it must be given."""
    numbers, copies = itertools.count(), []

    def launcher(sockets, pid="os.getpid()", count=None):
        fds = [fcntl.fcntl(s.fileno(), fcntl.F_DUPFD_CLOEXEC, 100) for s in sockets]  # out of the way of 3, 4, …
        copies.extend(fds)
        path = tmp_path / f"launcher-{next(numbers)}"
        path.write_text(LAUNCHER.format(python=sys.executable, fds=fds, pid=pid, count=count or len(fds), binary=wire.BINARY))
        path.chmod(0o755)
        return str(path), fds

    yield launcher
    for fd in copies:
        os.close(fd)


@pytest.fixture
def start_activated(start_server, launcher, monkeypatch):
    """start(sockets, …): the server with these sockets passed to it."""

    def start(sockets, *options, pid="os.getpid()", **rest):
        path, fds = launcher(sockets, pid)
        with monkeypatch.context() as patch:
            patch.setattr(wire, "BINARY", path)
            return start_server(*options, pass_fds=fds, **rest)

    return start


@pytest.fixture
def listen():
    """listen(address): a socket that listens, on a free port."""
    sockets = []

    def listen(address="127.0.0.1"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sockets.append(socket.create_server((address, 0), family=family, backlog=1024))
        return sockets[-1]

    yield listen
    for s in sockets:
        s.close()


def port_of(listening):
    return listening.getsockname()[1]


def test_a_passed_socket_is_served_and_no_other(start_activated, listen):
    listening = listen()
    server = start_activated([listening], "--port", "1")  # which would be refused
    assert server.port == port_of(listening)
    assert server.api("GET", "/healthz").status == 200


def test_several_passed_sockets_are_all_served(start_activated, listen):
    listening = [listen(), listen(), listen("::1")]
    server = start_activated(listening)
    assert server.port == port_of(listening[0])
    for s in listening:
        with Client(port_of(s), host=s.getsockname()[0]) as client:
            assert client.api("GET", "/healthz").status == 200


def test_who_connected_before_the_start_is_served_after_it(start_activated, listen):
    listening = listen()
    early = [Client(port_of(listening)).ask("GET", "/healthz") for _ in range(10)]
    start_activated([listening])
    for client in early:
        assert client.response().status == 200
        client.close()


def test_sockets_passed_to_somebody_else_are_left_alone(start_activated, listen):
    listening = listen()
    server = start_activated([listening], pid=1)
    assert server.port != port_of(listening)
    with Client(port_of(listening)) as client:
        client.ask("GET", "/healthz")
        assert server.api("GET", "/healthz").status == 200
        assert not client.is_readable_within(0.1)


def datagrams(tmp_path):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 0))
    return s


def deaf(tmp_path):
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    return s


def connected(tmp_path):
    return socket.socketpair()[0]


def packets(tmp_path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.bind(str(tmp_path / "packets"))
    s.listen()
    return s


def assert_refused(launched, db, *words):
    path, fds = launched
    r = subprocess.run([path, "--port", "0", "--db", db], pass_fds=fds, capture_output=True, text=True, timeout=wire.DEADLINE)
    assert r.returncode == 1 and r.stdout == "" and r.stderr.count("\n") == 1, f"expected one clear line, got {r}"
    assert [word for word in words if word not in r.stderr] == [], f"expected it to speak of {words}, got {r.stderr!r}"
    assert not db.exists(), "expected no database to be left behind"


@pytest.mark.parametrize("made", [datagrams, deaf, connected, packets, lambda tmp_path: open(tmp_path / "file", "w"),
                                  lambda tmp_path: open("/dev/null")],
                         ids=["datagrams", "deaf", "connected", "packets", "file", "device"])
def test_a_passed_descriptor_that_does_not_listen_is_one_clear_line(made, launcher, listen, tmp_path):
    with made(tmp_path) as useless:
        assert_refused(launcher([listen(), useless]), tmp_path / "forno.db", "descriptor 4", "LISTEN_FDS=2")


def test_a_descriptor_that_was_not_passed_at_all_is_one_clear_line(launcher, listen, tmp_path):
    """Its number is then one of our own: the epoll instance's, or a timer's."""
    assert_refused(launcher([listen()], count=2), tmp_path / "forno.db", "descriptor 4", "LISTEN_FDS=2")


def test_more_sockets_than_we_take_are_refused_rather_than_left_deaf(launcher, listen, tmp_path):
    assert_refused(launcher([listen() for _ in range(9)]), tmp_path / "forno.db", "LISTEN_FDS", "8 sockets")


def test_a_restart_behind_one_socket_refuses_nobody_and_loses_nothing(start_activated, listen):
    """Three restarts under load. Nobody is refused, nobody gets half an answer; an idle connection may be closed, then
    its client comes again (RFC 9112 9.5), and what was not answered was not done."""
    listening = listen()
    rich = "--opening-credit", "100000000"
    server = start_activated([listening], *rich)
    ana, db = server.customer(), server.db
    over = threading.Event()

    def order_on_and_on(i):
        placed = again = 0
        while not over.is_set():
            with Client(port_of(listening)) as client:  # a refusal would raise here
                try:
                    while not over.is_set():
                        client.ask("POST", "/orders", ORDER, ana.token)
                        if not client.receive():
                            raise ConnectionResetError
                        r = client.response()
                        assert r.status == 202, f"expected an order, got {r}"
                        placed += 1
                        if r["Connection"] == "close":
                            break
                except (ConnectionResetError, BrokenPipeError):
                    assert client.leftover == b"", f"expected a whole answer or none, got {client.leftover!r}"
                    again += 1
        return placed, again

    join = start_together(8, order_on_and_on)
    for _ in range(3):
        time.sleep(0.2)  # under load: that is the point
        server.stop()
        server = start_activated([listening], *rich, db=db)
    time.sleep(0.2)
    over.set()
    placed, again = map(sum, zip(*join()))
    assert placed > 100 and again <= 3 * 8 * 2, f"expected few to come again, {again} did beside {placed} orders"
    ana.server = server
    orders = len(ana.orders())
    assert orders == placed, f"expected the {placed} orders that were answered, found {orders}"
    server.stop()
    assert_ledger_is_sound(db)


# ---------------------------------------------------------------- sd_notify

@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """A service manager's ear: a datagram socket, and what NOTIFY_SOCKET calls it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@forno-test-{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(name.replace("@", "\0") if request.param == "abstract" else name)
        yield ear, name


def heard(ear):
    assert is_readable(ear, wire.DEADLINE), "expected to be told something"
    return ear.recv(1000)


def test_the_manager_is_told_when_it_is_ready_and_when_it_leaves(start_server, manager):
    ear, name = manager
    server = start_server(env={"NOTIFY_SOCKET": name})
    assert heard(ear) == b"READY=1"
    assert server.api("GET", "/healthz").status == 200
    server.terminate()
    assert heard(ear) == b"STOPPING=1"
    server.stop()
    assert not is_readable(ear, 0), f"expected no more to be told, got {ear.recv(1000)}"


@pytest.mark.parametrize("name", ["/nowhere/at/all", "@nobody-listens-here", "/", "", "@", "/" + "x" * 200])
def test_a_manager_that_cannot_be_told_is_no_reason_not_to_serve(name, start_server):
    server = start_server(env={"NOTIFY_SOCKET": name})
    assert server.api("GET", "/healthz").status == 200
    server.stop()


# ---------------------------------------------------------------- limits per client

def knock(server, source):
    """A connection from this address, and whether it is served."""
    s = socket.create_connection(("127.0.0.1", server.port), wire.DEADLINE, (source, 0))
    try:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        return s, s.recv(65536).startswith(b"HTTP/1.1 200 ")
    except ConnectionError:
        return s, False


def test_a_client_has_so_many_connections_and_no_more(start_server):
    server = start_server("--max-conns-per-ip", "3")
    greedy = [knock(server, "127.0.0.9") for _ in range(5)]
    assert [served for _, served in greedy] == [True, True, True, False, False]
    assert knock(server, "127.0.0.10")[1], "expected others to be served as ever"
    assert server.metric("forno_refused_connections_total") == 2
    greedy[0][0].close()
    wait_until(lambda: knock(server, "127.0.0.9")[1])
    for s, _ in greedy:
        s.close()
    server.assert_back_to_idle()


def test_a_hundred_clients_are_counted_apart(start_server):
    server = start_server("--max-conns-per-ip", "1")
    first = [knock(server, f"127.0.1.{i}") for i in range(1, 101)]
    assert all(served for _, served in first)
    assert not any(knock(server, f"127.0.1.{i}")[1] for i in range(1, 101))
    for s, _ in first:
        s.close()
    server.assert_back_to_idle()
    assert all(knock(server, f"127.0.1.{i}")[1] for i in range(1, 101)), "expected all to be forgotten"


def test_without_the_option_there_is_no_such_limit(start_server):
    server = start_server()
    assert all(served for _, served in [knock(server, "127.0.0.9") for _ in range(50)])
