"""test_every_step.py: one dinner, again and again: at its first system call the server dies, or the call fails; then at its
second, at its third, until none is left. Each time the server is started again, and what was told must be true: what was
answered with 2xx is there, what was said not to be done is not, what nobody knows is found out by asking again with its key.

The binary is build/…/server-steps (tests/faults/steps.c): it counts the calls of the server and of SQLite, from the first
instruction of main() to its last. make test visits some of the points; FORNO_EVERY_STEP=1 visits all (make torture)."""

import errno
import mmap
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import wire
from wire import Client, wait_until

STEPPING = wire.BINARY + "-steps"
# Every how manieth point is visited, by the clock: primes, so that no rhythm in the calls is followed.
STRIDES = {True: 1, False: 1} if os.environ.get("FORNO_EVERY_STEP") else {True: 37, False: 97}
FEWEST = {"kill": 300, "fail": 400}  # points that there must be, at least: fewer, and something is not counted
OPENING = 10_000_000
HOUR = 3_600_000

assert os.path.exists(STEPPING), f"there is no {STEPPING}: make test builds it"


class Steps:
    """What steps.c shall do, and what it has seen: a struct steps in a file that the server maps."""

    LAYOUT = struct.Struct("=5q32s")

    def __init__(self, path, kill, at):
        self.path = str(path)
        with open(path, "w+b") as file:
            file.write(self.LAYOUT.pack(kill, at, 0, 0, 0, b""))
            file.flush()
            self.memory = mmap.mmap(file.fileno(), 0)

    @property
    def seen(self):
        return self.LAYOUT.unpack_from(self.memory)[2]

    @property
    def where(self):
        """The call that was meant, and its errno; "" if there was none so late."""
        *_, error, name = self.LAYOUT.unpack_from(self.memory)
        return name.rstrip(b"\0").decode() + (f" {errno.errorcode[error]}" if error else "")

    def at_peace(self):
        struct.pack_into("=q", self.memory, 8, 0)

    def set_clock(self, wrong_ms):
        struct.pack_into("=q", self.memory, 24, wrong_ms)


@pytest.fixture(scope="module")
def courier():
    """An external service that answers at once."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    quote = b'{"price_cents":550,"eta_minutes":20}'
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(quote), quote)

    def serve():
        with suppress(OSError):
            while True:
                with listener.accept()[0] as sock, suppress(OSError):
                    sock.settimeout(wire.DEADLINE)
                    if sock.recv(65536):
                        sock.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


# ---------------------------------------------------------------- the dinner

class Act:
    """Something that was asked for. fate: "done", "not" (so it was said), or "unknown"."""

    def __init__(self, what, path, body=None, key=None, method="POST"):
        self.what, self.path, self.body, self.key, self.method = what, path, body, key, method
        self.fate, self.told, self.answer = "not", None, "was never asked for"  # until it is

    def judge(self, r):
        """r None: no answer."""
        self.answer = r
        if r and r.status < 300:
            self.fate, self.told = "done", r.json()
        elif r and (r.status < 500 or "Nothing was done" in r.json()["detail"]):
            self.fate = "not"
        else:
            self.fate = "unknown"

    def __repr__(self):
        return f"{self.what} ({self.fate}: {self.answer})"


class Offended(Exception):
    """Something could not be done, and this guest does not stay."""


class Guest:
    """Does everything once, on one connection after the other, whatever comes of it; or leaves at the first "no"."""

    def __init__(self, stays):
        self.port, self.client, self.token, self.stays, self.acts = None, None, None, stays, {}

    def ask(self, method, path, body=None, **headers):
        """The answer, or None."""
        try:
            self.client = self.client or Client(self.port)
            r = self.client.api(method, path, body, self.token, **headers)
        except (OSError, AssertionError) as end:
            if isinstance(end, AssertionError) and "the end" not in str(end):
                raise  # too late, or nonsense
            self.leave()
            return None
        if r["Connection"] == "close":
            self.leave()
        return r

    def act(self, act, **headers):
        self.acts[act.what] = act
        act.judge(self.ask(act.method, act.path, act.body, idempotency_key=act.key, **headers))
        if act.fate != "done" and not self.stays:
            raise Offended
        return act.told

    def leave(self):
        if self.client:
            self.client.close()
        self.client = None

    def open_account(self):
        """At the second try, if the first one failed: there is one fault in a dinner, not two."""
        for name in "Ana", "Ana again":
            if account := self.act(Act(name, "/accounts", {"name": name})):
                self.token = account["token"]
                return account
        return None

    def dine(self, between=lambda: None):
        friend = self.act(Act("Bob", "/accounts", {"name": "Bob"}))
        if not self.open_account():
            return
        first = self.act(Act("first order", "/orders", {"flavor": "margherita", "pizzas": 1}), prefer="wait=5")
        between()
        second = self.act(Act("second order", "/orders", {"flavor": "calabresa", "pizzas": 1000}, "order-2"))
        if second:
            self.act(Act("cancellation", f"/orders/{second['id']}", method="DELETE"))
        if friend:
            body = {"to": friend["id"], "amount_cents": 1500, "note": "for the wine"}
            self.act(Act("transfer", "/transfers", body, "transfer-1"))
        if first or second:
            self.events({("placed", (first or second)["id"])})
        if first:
            self.ask("GET", f"/orders/{first['id']}/delivery")
        self.leave()

    def events(self, wanted):
        """Listen, from the beginning of time, until all these have been told or the stream ends. Returns what was not."""
        missing = set(wanted)
        with suppress(OSError), Client(self.port) as client:
            client.ask("GET", "/orders/events", token=self.token, last_event_id="0-0-0")
            if not client.receive() or (head := client.head()).status != 200:
                return missing
            for event in client.events(head):
                if "event" in event:
                    missing -= {(event["event"], int(re.search(r'"id":(\d+)', event["data"])[1]))}
                if not missing:
                    client.reset()
                    break
        return missing


# ---------------------------------------------------------------- the next morning

def check(dinner, server, clock_is_right):
    """Compare what was told with what is there."""
    acts, guest = dinner.acts, Guest(True)
    guest.port, guest.token = server.port, dinner.token
    if not guest.token:
        return
    for act in acts.values():
        if act.fate == "unknown" and act.key:
            again = guest.ask(act.method, act.path, act.body, idempotency_key=act.key)
            assert again and again.status < 300, f"expected an answer to the same key, got {again}: {act}"
            act.fate, act.told = "done", again.json()
    account = next(act.told for act in (acts["Ana"], acts.get("Ana again")) if act and act.told)
    orders = guest.ask("GET", "/orders?limit=100").json()["orders"]
    entries = guest.ask("GET", f"/accounts/{account['id']}/entries?limit=100").json()["entries"]
    balance = guest.ask("GET", f"/accounts/{account['id']}").json()["balance_cents"]
    there = {
        "first order": [o for o in orders if o["pizzas"] == 1],
        "second order": [o for o in orders if o["pizzas"] == 1000],
        "cancellation": [o for o in orders if o["status"] == "cancelled"],
        "transfer": [e for e in entries if e["kind"] == "transfer" and e["note"] == "for the wine"],
    }
    for what, found in there.items():
        fate = acts[what].fate if what in acts else "not"
        count = {"done": (1,), "not": (0,), "unknown": (0, 1)}[fate]
        assert len(found) in count, f"expected {count} of them, found {found}: {acts.get(what, what)}"
    assert balance == sum(e["amount_cents"] for e in entries), f"expected the sum of {entries}, got {balance}"
    assert len(orders) <= 2, f"nobody ordered all of {orders}"
    if clock_is_right:
        told = {("placed", o["id"]) for o in orders} | {(o["status"], o["id"]) for o in orders if o["status"] != "baking"}
        missing = guest.events(told) if told else ()
        assert not missing, f"expected to hear of all that happened, not of {missing}"
    guest.leave()


def count_accounts(dinner, db):
    """Nobody can look at an account whose token got lost, so they are only counted."""
    status, out, err = wire.run("--audit", str(db))
    assert status == 0, f"expected --audit to find the ledger sound, got {status}: {out}{err}"
    fates = [act.fate for act in dinner.acts.values() if act.path == "/accounts"]
    opened = int(re.search(r": (\d+) accounts", out)[1])
    sure, perhaps = fates.count("done"), fates.count("unknown")
    assert sure <= opened <= sure + perhaps, f"expected {sure} to {sure + perhaps} accounts, found {opened}: {dinner.acts}"


class Evening:
    """One dinner with one fault, and the morning after."""

    def __init__(self, directory, courier, ending, clock, at):
        self.directory, self.ending, self.clock = directory, ending, clock
        self.db, self.log = directory / "forno.db", directory / "stderr"
        self.options = "--opening-credit", str(OPENING), "--bake-ms", "5", "--log", "off", "--stall-ms", "0", "--courier", courier
        self.steps = Steps(directory / "steps", ending == "kill", at)
        self.points = 0
        self.dinner = Guest(ending != "fail, kill")

    def start(self, binary):
        wire.BINARY, sound = binary, wire.BINARY
        try:
            return wire.Server(self.db, self.log, *self.options, env={"FORNO_STEPS": self.steps.path})
        finally:
            wire.BINARY = sound

    def tonight(self):
        try:
            server = self.start(STEPPING)
        except AssertionError as end:
            assert "expected 'listening on" in str(end), end
            assert self.ending == "kill" or "\nforno: " in f"\n{self.stderr()}", f"died without a word: {end}"
            return
        self.dinner.port = server.port
        try:
            with suppress(Offended):
                self.dinner.dine(lambda: self.steps.set_clock(self.clock))
            if self.ending == "fail, leave":
                wait_until(self.is_ready)  # one fault later, all is well again
        finally:
            self.end(server)

    def is_ready(self):
        r = self.dinner.ask("GET", "/readyz")
        return r and r.status == 200

    def end(self, server):
        if self.ending == "fail, kill":
            server.kill()
        else:
            server.terminate()
        try:
            status = server.process.wait(wire.DEADLINE)
        except subprocess.TimeoutExpired:
            server.kill()
            raise AssertionError("still there after SIGTERM") from None
        finally:
            server.process.stdout.close()
        killed = self.ending != "fail, leave" and status == -signal.SIGKILL
        assert killed or status == 0, f"expected exit status 0, got {status}: {self.stderr()}"

    def stderr(self):
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def next_morning(self):
        if self.clock > 0:
            self.steps.set_clock(0)  # it was wrong, and has been put right: back, that is
        server = self.start(STEPPING if self.clock else wire.BINARY)
        try:
            check(self.dinner, server, not self.clock)
        finally:
            server.stop()
        count_accounts(self.dinner, self.db)

    def run(self):
        """None, or what was not as it should be."""
        try:
            self.tonight()
            self.points = self.steps.seen
            self.steps.at_peace()
            self.next_morning()
        except AssertionError as wrong:
            return str(wrong)
        return None


@pytest.mark.parametrize("clock", (0, -HOUR, HOUR), ids=("clock right", "clock set back", "clock set forward"))
@pytest.mark.parametrize("ending", ("kill", "fail, kill", "fail, leave"))
def test_what_was_told_is_true_whatever_fails(ending, clock, courier):
    violations, calls, stride, at = [], set(), STRIDES[clock == 0], 0  # at 0 nothing fails
    while True:
        # In memory where that can be had: it is the calls that count here, not the disk.
        directory = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
        try:
            evening = Evening(directory, courier, ending, clock, at)
            wrong = evening.run()
        finally:
            shutil.rmtree(directory)
        if wrong:
            violations.append(f"point {at}, {evening.steps.where or 'nowhere'}: {wrong}")
        if at and not evening.steps.where:  # it was over before that
            break
        calls.add(evening.steps.where)
        points = points if at else evening.points
        at += stride
    print(f"{points} points, every {stride}th visited; {len(calls) - 1} different calls; {len(violations)} violations")
    assert points >= FEWEST[ending[:4]], f"expected more points than {points}"
    assert not violations, "\n\n".join(violations)
