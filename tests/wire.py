"""wire.py: what the tests stand on: a client that forgives nothing, and a server process watched to its end.

Every answer read through Client.response() is held to the promises that API.md makes for all answers (Promises below),
so no test needs to repeat them. Every read has a deadline; nothing here sleeps to let something happen.
"""

import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import docs
import pytest

BINARY = os.path.abspath(os.environ.get("FORNO_SERVER") or Path(__file__).parent.parent / "server")
DEADLINE = 10.0  # seconds for any one read: longer than any honest answer, sanitizers included
TOLERANCE = 0.150  # seconds a timer may be late here; the promise is 20 ms, but not to two busy cores under ASan
SANITIZER = re.compile(r"(Address|Leak|Thread|UndefinedBehavior|Memory)Sanitizer|runtime error:|Assertion .* failed")
IS_SANITIZED = os.path.exists(BINARY) and re.search(b"__[at]san_init", Path(BINARY).read_bytes()) is not None

PROBLEMS_SEEN = set()  # every problem name that any answer carried; test_ops.py asks for the page of each


def missing(what):
    """Skip these tests for want of something that could be installed. In CI that would be a hole that looks green: there it fails."""
    __tracebackhide__ = True  # the report names the test, not this line
    assert not os.environ.get("CI"), what
    pytest.skip(what, allow_module_level=True)


def needs_io_uring():
    """Skips the test where many a container is."""
    if not docs.io_uring_is_allowed():
        pytest.skip("the kernel forbids io_uring here")


class Response:
    """A parsed answer. r["Allow"] is a field's value or None; r.problem is the name in /problems/<name>, or None."""

    def __init__(self, status, fields, method):
        self.status, self.fields, self.method = status, fields, method
        self.body = b""

    def __getitem__(self, name):
        values = self.all(name)
        assert len(values) < 2, f"expected {name} once, got {values}"
        return values[0] if values else None

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]

    @property
    def media_type(self):
        return (self["Content-Type"] or "").split(";")[0].strip().lower()

    @property
    def bodiless(self):
        return self.method == "HEAD" or self.status < 200 or self.status in (204, 304)

    @property
    def problem(self):
        return self.json()["type"].removeprefix("/problems/") if self.media_type == "application/problem+json" else None

    def json(self):
        return json.loads(self.body.decode("utf-8"), object_pairs_hook=_no_duplicates)

    def __repr__(self):
        return f"<{self.status} {self.fields} {self.body[:500]!r}>"


def _no_duplicates(pairs):
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), f"expected each JSON name once, got {names}"
    return dict(pairs)


def check_promises(r):
    """What API.md promises of every answer, whoever asked."""
    assert r["Date"] and re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", r["Date"]), f"no good Date: {r}"
    if r.status == 401:
        assert (r["WWW-Authenticate"] or "").startswith('Bearer realm="forno"'), f"401 without its challenge: {r}"
    if r.status == 405:
        assert r["Allow"], f"405 without Allow: {r}"
    if r.status == 503:
        assert re.fullmatch(r"\d+", r["Retry-After"] or ""), f"503 without Retry-After in seconds: {r}"
    if r.status >= 400:
        assert r.media_type == "application/problem+json", f"an error that is no problem+json: {r}"
    if r.bodiless:
        assert r.body == b"", f"a body where none may be: {r}"
    elif r.media_type.endswith("json"):
        assert r.body.endswith(b"\n"), f"JSON that does not end with a newline: {r}"
        value = r.json()
        if r.status >= 400:
            assert value["status"] == r.status and value["title"] and value["detail"], f"an unhelpful problem: {r}"
            assert re.fullmatch(r"/problems/[a-z0-9-]+", value["type"]), f"an unexpected problem type: {r}"
            PROBLEMS_SEEN.add(r.problem)


class Client:
    """One connection. Bytes go out as they are; answers are parsed strictly, and what follows them is kept."""

    def __init__(self, port, host="127.0.0.1", receive_buffer=None):
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.sock.settimeout(DEADLINE)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect((host, port))
        self.authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.leftover = b""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    # --- sending

    def send(self, data):
        self.sock.sendall(data)
        return self

    def trickle(self, data):
        """One byte per send."""
        for byte in data:
            self.sock.send(bytes([byte]))
        return self

    def finish_sending(self):
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def close(self):
        self.sock.close()

    def reset(self):
        """Leave with a RST, not a FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # --- receiving

    def receive(self):
        """Wait for more bytes and keep them; b"" at the end of the connection."""
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            raise AssertionError(f"no answer within {self.sock.gettimeout()} s; so far {self.leftover!r}") from None
        self.leftover += data
        return data

    def _line(self):
        while b"\n" not in self.leftover:
            assert self.receive(), f"expected a line, got the end of the connection after {self.leftover!r}"
        line, self.leftover = self.leftover.split(b"\n", 1)
        assert line.endswith(b"\r") and b"\r" not in line[:-1], f"expected a line ended by CRLF, got {line!r}"
        return line[:-1]

    def _take(self, count):
        while len(self.leftover) < count:
            assert self.receive(), f"expected {count} bytes of body, got the end after {self.leftover!r}"
        data, self.leftover = self.leftover[:count], self.leftover[count:]
        return data

    def head(self, method="GET"):
        """Status line and fields of the next answer, an interim one too."""
        line = self._line()
        match = re.fullmatch(rb"HTTP/1\.1 ([1-5]\d\d) [\t\x20-\x7e]*", line)
        assert match, f"expected a status line, got {line!r}"
        fields = []
        while line := self._line():
            field = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e]*?)[ \t]*", line)
            assert field, f"expected a field, got {line!r}"
            fields.append((field[1].decode(), field[2].decode()))
        return Response(int(match[1]), fields, method)

    def pieces(self, r):
        """The body of an answer, piece by piece as it comes: by Content-Length, by chunks, or up to the close."""
        length, coding = r["Content-Length"], r["Transfer-Encoding"]
        assert length is None or coding is None, f"an answer framed twice: {r}"
        if r.bodiless:
            return
        if length is not None:
            assert re.fullmatch(r"\d+", length), f"expected a length, got {length!r}"
            yield self._take(int(length))
        elif coding is not None:
            assert coding == "chunked", f"expected chunked, got {coding!r}"
            while size := int(re.fullmatch(rb"[0-9A-Fa-f]{1,8}", self._line())[0], 16):
                yield self._take(size)
                assert self._take(2) == b"\r\n", "expected CRLF after the data of a chunk"
            assert self._line() == b"", "expected no trailers"
        else:
            assert r["Connection"] == "close", f"an answer without length on a connection that stays: {r}"
            while self.leftover or self.receive():
                data, self.leftover = self.leftover, b""
                yield data

    def response(self, method="GET"):
        """The next answer, whole; method is that of the request it answers."""
        r = self.head(method)
        assert r.status >= 200, f"expected a final answer, got {r}"
        r.body = b"".join(self.pieces(r))
        check_promises(r)
        return r

    def is_readable_within(self, seconds):
        """True if bytes or the end of the connection are there, or arrive within so many seconds."""
        return bool(self.leftover) or is_readable(self.sock, seconds)

    def assert_closed(self):
        """The server has closed, and has said nothing more before that."""
        try:
            while self.receive():
                pass
        except ConnectionResetError:
            raise AssertionError("expected an orderly close, got a reset") from None
        assert self.leftover == b"", f"expected the end of the connection, got {self.leftover!r}"

    def events(self, r):
        """The server-sent events of an answer whose head has been read: dicts of event, id, data, retry, comment."""
        assert r.status == 200 and r.media_type == "text/event-stream", f"expected an event stream, got {r}"
        text = b""
        for piece in self.pieces(r):
            text += piece
            while b"\n\n" in text:
                block, text = text.split(b"\n\n", 1)
                yield _event(block.decode("utf-8"))

    # --- JSON on top

    def ask(self, method, path, body=None, token=None, **headers):
        """Send one request; body is JSON to be, or bytes as they are. content_type="x" is the field Content-Type: x."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if token:
            headers.setdefault("authorization", f"Bearer {token}")
        if body is not None:
            headers = {"content_type": "application/json", "content_length": len(body), **headers}
        headers.setdefault("host", self.authority)
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{name.replace('_', '-').title()}: {value}" for name, value in headers.items() if value is not None]
        return self.send("\r\n".join(lines + ["", ""]).encode("latin-1") + (body or b""))

    def api(self, method, path, body=None, token=None, **headers):
        return self.ask(method, path, body, token, **headers).response(method)


def _event(block):
    event = {}
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        event[name or "comment"] = value.removeprefix(" ")
    return event


class Server:
    """./server in a process of its own, its standard error in a file."""

    def __init__(self, db, log, *options, env=None, preexec=None, stderr=None, **popen):
        self.db, self.log, self.options = db, Path(log), options
        self.told_to_leave = self.killed = self.judged = False
        with open(log, "ab") as file:
            self.process = spawn("--port", "0", "--db", str(db), "--host", "127.0.0.1", *options, env=env,
                                 stderr=stderr or file, preexec_fn=preexec, **popen)
        self.pid = self.process.pid
        line = self._first_line()
        match = re.fullmatch(r"listening on (http://\S+:(\d+))\n", line)
        if not match:
            self.kill()
            raise AssertionError(f"expected 'listening on http://…', got {line!r} and on stderr:\n{self.stderr()}")
        self.url, self.port = match[1], int(match[2])

    def _first_line(self):
        return self.process.stdout.readline() if is_readable(self.process.stdout, DEADLINE) else ""

    def stderr(self, tail=8000):
        return self.log.read_bytes()[-tail:].decode("utf-8", "backslashreplace")

    def connect(self, **options):
        return Client(self.port, **options)

    def api(self, method, path, body=None, token=None, **headers):
        """One request on a connection of its own."""
        with self.connect() as client:
            return client.api(method, path, body, token, **headers)

    def customer(self, name="Ana"):
        return Customer(self, name)

    # --- looking inside

    def metric(self, name):
        """The sum over all labels of one metric."""
        text = self.api("GET", "/metrics").body.decode()
        values = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
        assert values, f"expected a metric {name}"
        return sum(float(value) for value in values)

    def wait_for_metric(self, name, condition):
        wait_until(lambda: condition(self.metric(name)), lambda: f"{name} is {self.metric(name)}")

    def assert_back_to_idle(self):
        """Nobody is connected but the one who asks, and no request is out but the question."""
        self.wait_for_metric("forno_connections", lambda n: n <= 1)
        self.wait_for_metric("forno_requests_live", lambda n: n <= 1)

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    # --- leaving

    def terminate(self):
        """SIGTERM, but no second one if it has had one: that means something else."""
        if not self.told_to_leave and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.told_to_leave = True

    @contextmanager
    def stopped(self):
        """Ctrl-Z, and after that fg: what was sent meanwhile is all there when it goes on."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self):
        """kill -9, and wait until it is gone."""
        self.killed = True
        self.process.kill()
        self.process.wait()

    def stop(self):
        """SIGTERM, and the verdict, once: whatever else it did, it must leave cleanly."""
        if self.judged:
            return
        self.judged = True
        self.terminate()
        try:
            status = self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still there 15 s after SIGTERM; stderr:\n{self.stderr()}") from None
        finally:
            self.process.stdout.close()
        assert self.killed or status == 0, f"expected exit status 0, got {status}; stderr:\n{self.stderr()}"
        assert not SANITIZER.search(self.log.read_text(errors="replace")), f"sanitizer report:\n{self.stderr(20000)}"


class Customer:
    """An account, its token, and what one does with them."""

    def __init__(self, server, name="Ana"):
        r = server.api("POST", "/accounts", {"name": name})
        assert r.status == 201, f"expected an account, got {r}"
        self.server, self.account = server, r.json()
        self.id, self.token, self.opening = (self.account[key] for key in ("id", "token", "balance_cents"))

    def api(self, method, path, body=None, **headers):
        return self.server.api(method, path, body, self.token, **headers)

    def balance(self):
        return self.api("GET", f"/accounts/{self.id}").json()["balance_cents"]

    def order(self, pizzas=1, flavor="margherita", **headers):
        return self.api("POST", "/orders", {"flavor": flavor, "pizzas": pizzas}, **headers)

    def transfer(self, to, cents, key, **headers):
        return self.api("POST", "/transfers", {"to": to, "amount_cents": cents}, idempotency_key=key, **headers)

    def listing(self, path, name):
        """All pages of a list, newest first."""
        items = []
        with self.server.connect() as client:
            while path:
                page = client.api("GET", path, token=self.token).json()
                items += page[name]
                path = page["next"]
        return items

    def orders(self, query=""):
        return self.listing(f"/orders?limit=100{query}", "orders")

    def entries(self):
        return self.listing(f"/accounts/{self.id}/entries?limit=100", "entries")


def spawn(*options, env=None, **popen):
    """The binary with an environment that says nothing of Forno but what the test says."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FORNO_") and name != "PORT"}
    return subprocess.Popen([BINARY, *options], env={**clean, **(env or {})}, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, text=True, **popen)


def run(*options, env=None, timeout=DEADLINE, **popen):
    """The binary run to its end: (exit status, stdout, stderr)."""
    process = spawn(*options, env=env, stderr=subprocess.PIPE, **popen)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise AssertionError(f"expected ./server {' '.join(options)} to end by itself") from None
    return process.returncode, out, err


def assert_ledger_is_sound(db):
    status, out, err = run("--audit", str(db))
    assert status == 0, f"expected --audit to find the ledger sound, got {status}: {out}{err}"


def is_readable(file, seconds):
    """poll(2), since select(2) knows no descriptors beyond 1023."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def wait_until(condition, describe=lambda: "", seconds=DEADLINE):
    """Ask again until it is so. The pause only spares the processor."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s: {describe()}"
        time.sleep(0.01)


def start_together(count, act):
    """act(0) … act(count - 1) in as many threads, released at once. Returns the function that waits for them, and
    returns their results or raises the first exception."""
    barrier, results, errors = threading.Barrier(count), [None] * count, []

    def one(i):
        try:
            barrier.wait()
            results[i] = act(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()

    def join():
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results

    return join


def together(count, act):
    return start_together(count, act)()


def seconds_since_epoch(instant):
    """An instant of the API, as time.time() counts."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", instant), f"expected an instant, got {instant!r}"
    return datetime.fromisoformat(instant.replace("Z", "+00:00")).timestamp()
