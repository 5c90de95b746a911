"""test_steps.py: the eight small servers of the guide (docs/guide/steps), held to the same promises by the same client.

They are built here, with sanitizers. What they may differ in is who waits for whom, and that is what the table STEPS says."""

import ctypes
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest
from wire import DEADLINE, SANITIZER, is_readable, missing, needs_io_uring, wait_until

SOURCE = Path(__file__).parent.parent / "docs" / "guide" / "steps"
STEPS = ["1-blocking", "2-fork", "3-threads", "4-poll", "5-epoll", "5-edge", "6-coroutine", "7-uring"]
MANY = STEPS[1:]  # those who can have more than one client
ONE_PROCESS = STEPS[2:]  # those for whom a client is a descriptor of the server's own
FORBIDDEN = 69  # how 7-uring ends if the kernel forbids it
ASAN = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"

if not Path("/usr/include/liburing.h").exists():
    missing("no liburing-dev")
if not shutil.which("make"):
    missing("no make")


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """As the project is built elsewhere: with its warnings as errors, and with sanitizers."""
    out = tmp_path_factory.mktemp("steps")
    made = subprocess.run(["make", "-s", f"-j{os.cpu_count()}", "-C", SOURCE, f"OUT={out}", f"CFLAGS={ASAN}", "WERROR=-Werror"],
                          capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return out


class Step:
    def __init__(self, name, binary, log):
        self.name, self.log = name, log
        if name == "7-uring":
            needs_io_uring()
        with log.open("wb") as stderr:
            self.process = subprocess.Popen([binary, "0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
                                            text=True, start_new_session=True)
        self.port = int(re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+)\n", self.process.stdout.readline())[1])
        self.at_rest = self.sockets()

    def stop(self):
        """All of it, children too. It knows no goodbye: a signal is its end, and nothing else may have been."""
        assert self.process.poll() is None, f"{self.name} ended by itself: {self.process.returncode}\n{self.log.read_text()}"
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(DEADLINE)
        self.process.stdout.close()
        assert not SANITIZER.search(self.log.read_text()), self.log.read_text()

    def sockets(self):
        """Of the whole family: children have their clients in descriptors of their own."""
        count = 0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.getpgid(int(process.name)) == self.process.pid:
                    count += sum(os.readlink(fd).startswith("socket:") for fd in (process / "fd").iterdir())
            except OSError:
                pass  # it has just ended
        return count

    def client(self):
        return Client(self.port)

    def get(self, path):
        with self.client() as c:
            return c.ask(path).answer()


class Client:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), DEADLINE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unread, self.asked_at = b"", 0

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.sock.close()

    def ask(self, path):
        self.asked_at = time.monotonic()
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return self

    def more(self):
        data = self.sock.recv(4096)
        assert data, f"hung up upon after {self.unread!r}"
        self.unread += data

    def answer(self):
        """(status, body)"""
        while b"\r\n\r\n" not in self.unread:
            self.more()
        head, _, self.unread = self.unread.partition(b"\r\n\r\n")
        length = int(re.search(rb"Content-Length: (\d+)", head)[1])
        while len(self.unread) < length:
            self.more()
        body, self.unread = self.unread[:length], self.unread[length:]
        return int(head.split()[1]), body.decode()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@pytest.fixture
def step(request, built, tmp_path):
    s = Step(request.param, built / request.param, tmp_path / "log")
    yield s
    s.stop()


each = pytest.mark.parametrize("step", STEPS, indirect=True)
each_of_many = pytest.mark.parametrize("step", MANY, indirect=True)
each_process = pytest.mark.parametrize("step", ONE_PROCESS, indirect=True)

NOW, PIZZA_50 = (200, "now\n"), (200, "a pizza, after 50 ms\n")


@each
def test_the_same_two_requests(step):
    with step.client() as c:
        assert c.ask("/now").answer() == NOW
        assert c.ask("/50").answer() == PIZZA_50 and time.monotonic() - c.asked_at >= 0.050
        assert c.ask("/pizza?ms=50").answer() == PIZZA_50 and time.monotonic() - c.asked_at >= 0.050
        for path in "/", "/x", "/-1", "/5x", "/pizza?ms=", "/99999999999", "/nowhere":
            assert c.ask(path).answer()[0] == 404, path
        assert c.ask("/0").answer() == NOW
        c.sock.sendall(b"X" * 1000)  # never a request, and as long as any may be
        assert c.answer()[0] == 404
        assert c.ask("/now").answer() == NOW


@each
def test_bytes_not_messages(step):
    with step.client() as c:
        for byte in b"GET /50 HTTP/1.1\r\nHost: x\r\n\r\n":
            c.sock.send(bytes([byte]))
        assert c.answer() == PIZZA_50
        c.sock.sendall(b"".join(b"GET /%s HTTP/1.1\r\n\r\n" % what for what in (b"now", b"50", b"now", b"50", b"n")))
        assert [c.answer() for _ in range(4)] == [NOW, PIZZA_50, NOW, PIZZA_50] and c.answer()[0] == 404
        c.sock.sendall(b"GET /now HTTP/1.1\r\n\r\n" * 300)  # more than their buffers hold
        assert [c.answer() for _ in range(300)] == [NOW] * 300
        assert not c.unread and not is_readable(c.sock, 0)


@each
def test_who_waits_for_whom(step):
    """Who has a waiter for each, or one who waits for nobody, serves who came later and wants less; a single waiter does not."""
    blocking = step.name == "1-blocking"
    longest = "/200" if blocking else "/5000"
    with step.client().ask(longest) as first, step.client().ask("/50") as second, step.client().ask("/now") as third:
        if blocking:
            for before, after in (first, second), (second, third):
                before.answer()
                assert not is_readable(after.sock, 0), "he is with the one before as long as that one is there"
                before.sock.close()
        assert third.answer() == NOW
        assert blocking or (second.answer() == PIZZA_50 and not is_readable(first.sock, 0))


@each
def test_a_silent_client_keeps_only_the_blocking_one_from_work(step):
    with step.client() as silent, step.client().ask("/now") as other:
        assert is_readable(other.sock, 0.3 if step.name == "1-blocking" else DEADLINE) == (step.name != "1-blocking")
        silent.sock.close()
        assert other.answer() == NOW


@each
def test_clients_who_leave(step):
    """In the middle of their request; while their pizza bakes, politely or not; with a crowd of answers unread. None of them costs
    the others anything, and nothing is left of any of them."""
    for leave in Client.reset, lambda c: c.sock.close():
        for words in b"", b"GET /no", b"GET /30 HTTP/1.1\r\n\r\n", b"GET /now HTTP/1.1\r\n\r\n" * 300:
            c = step.client()
            c.sock.sendall(words)
            leave(c)
    with step.client() as last:  # who has said all that he will say still waits for his answer
        last.ask("/50").sock.shutdown(socket.SHUT_WR)
        assert last.answer() == PIZZA_50
    assert step.get("/now") == NOW
    wait_until(lambda: step.sockets() == step.at_rest, lambda: f"{step.sockets()} sockets, {step.at_rest} at rest")


@each_of_many
def test_a_client_who_leaves_while_his_pizza_bakes(step):
    """He is reset when it is surely in the oven: who asked later is answered."""
    with step.client().ask("/200") as other:
        for _ in range(3):
            leaving = step.client().ask("/100")
            assert step.get("/now") == NOW
            leaving.reset()
        assert other.answer()[0] == 200
    wait_until(lambda: step.sockets() == step.at_rest, lambda: f"{step.sockets()} sockets, {step.at_rest} at rest")
    assert step.get("/50") == PIZZA_50


def test_the_door_is_the_parents(built, tmp_path):
    """Or a child with a client in it would keep the port."""
    step = Step("2-fork", built / "2-fork", tmp_path / "log")
    try:
        with step.client() as c:
            assert c.ask("/now").answer() == NOW
            step.process.kill()
            step.process.wait(DEADLINE)
            with pytest.raises(ConnectionRefusedError):
                step.client()
            assert c.ask("/now").answer() == NOW
    finally:
        os.killpg(step.process.pid, signal.SIGKILL)
        step.process.stdout.close()


@each_of_many
def test_two_hundred_at_once(step):
    clients = [step.client() for _ in range(200)]
    for c in clients:
        c.ask("/300")
    for c in clients:
        assert c.answer() == (200, "a pizza, after 300 ms\n") and time.monotonic() - c.asked_at >= 0.3
        c.sock.close()
    assert time.monotonic() - clients[0].asked_at < 6, "one after the other they would have taken a minute"
    assert step.get("/now") == NOW


def test_two_hundred_one_after_the_other(built, tmp_path):
    step = Step("1-blocking", built / "1-blocking", tmp_path / "log")
    clients = [step.client().ask("/now") for _ in range(200)]
    for c in clients:
        assert c.answer() == NOW
        c.sock.close()
    step.stop()


def cpu_seconds(pid):
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")


@each_process
def test_it_sleeps_while_pizzas_bake(step):
    """Also beside clients who have more to say meanwhile, or have said all."""
    with step.client() as talker, step.client() as silent, step.client() as patient:
        patient.ask("/500")
        talker.ask("/450").ask("/now")
        silent.ask("/450").sock.shutdown(socket.SHUT_WR)
        assert step.get("/now") == NOW
        busy = cpu_seconds(step.process.pid)
        is_readable(patient.sock, 0.3)  # as long as the pizzas bake, and no longer
        assert cpu_seconds(step.process.pid) - busy < 0.15, "it spins"
        assert talker.answer()[0] == silent.answer()[0] == patient.answer()[0] == 200 and talker.answer() == NOW


@each_process
def test_more_clients_than_descriptors(step):
    """EMFILE: those who are in stay in, those who are too many are told, and it is over when it is over."""
    resource.prlimit(step.process.pid, resource.RLIMIT_NOFILE, (30, 30))
    inside = []
    while True:
        c = step.client()
        try:
            if c.ask("/now").answer()[0] == 503:
                break
        except ConnectionError:  # or reset by an answer that came before his question
            break
        inside.append(c)
    assert len(inside) >= 15
    for c in inside:
        assert c.ask("/now").answer() == NOW
    busy = cpu_seconds(step.process.pid)
    assert not is_readable(inside[0].sock, 0.3) and cpu_seconds(step.process.pid) - busy < 0.15, "it spins"
    for c in inside[:10]:
        c.sock.close()

    def served():
        try:
            return step.get("/now") == NOW
        except (OSError, AssertionError):
            return False

    wait_until(served)
    for c in inside[10:]:
        assert c.ask("/now").answer() == NOW
        c.sock.close()
    assert "EMFILE" in step.log.read_text()


@each
def test_stopped_and_continued(step):
    """Ctrl-Z and fg: a wait that ends with EINTR is no reason to end."""
    def state():
        return Path(f"/proc/{step.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]

    with step.client() as c:
        assert c.ask("/now").answer() == NOW
        wait_until(lambda: state() == "S")
        step.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: state() == "T")
        step.process.send_signal(signal.SIGCONT)
        wait_until(lambda: state() != "T")
        assert c.ask("/50").answer() == PIZZA_50


def forbid_io_uring():
    """seccomp, as containers do it: io_uring_setup (425 everywhere) fails with EPERM. Load its number; equal? fail : allow."""
    rules = struct.pack("HBBIHBBIHBBIHBBI", 0x20, 0, 0, 0, 0x15, 0, 1, 425, 0x06, 0, 0, 0x50001, 0x06, 0, 0, 0x7FFF0000)
    rules = ctypes.create_string_buffer(rules, len(rules))

    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("rules", ctypes.c_void_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    if libc.prctl(22, 2, ctypes.byref(Program(4, ctypes.addressof(rules))), 0, 0) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        os._exit(1)


def test_a_kernel_that_forbids_io_uring(built):
    done = subprocess.run([built / "7-uring", "0"], capture_output=True, text=True, preexec_fn=forbid_io_uring, timeout=DEADLINE)
    assert done.returncode == FORBIDDEN and "the kernel forbids io_uring (Operation not permitted)" in done.stderr, f"got {done}"


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_short(name):
    assert len((SOURCE / f"{name}.c").read_text().splitlines()) < 150
