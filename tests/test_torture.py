"""test_torture.py: the ledger under torture. Customers do random things for a while; meanwhile the server is killed and
restarted, the disk fills up, and connections are cut. Every customer keeps a diary of what he asked and was told; in the
end the diaries must agree with the ledger: what was acknowledged is there exactly once, what was not at most once, nobody
finds anything he did not ask for, and the balances add up.

FORNO_TORTURE_SECONDS says how long (make torture: 60); FORNO_TORTURE_SEED repeats a run, as far as threads let it."""

import os
import random
import re
import resource
import signal
import threading
import time
from collections import Counter

import wire
from wire import Client, assert_ledger_is_sound

SECONDS = float(os.environ.get("FORNO_TORTURE_SECONDS", "6"))
SEED = os.environ.get("FORNO_TORTURE_SEED", "20191101")  # the tutorial's year: Python Brasil 2019
CUSTOMERS = 8
OPENING = 100_000_000
PRICES = {"margherita": 3500, "calabresa": 3800, "napolitana": 3900}
TROUBLE = (500, 503, 507)  # not done, or perhaps done: nobody knows


class Unknown(Exception):
    """No answer, or none that says whether it was done."""


class Kitchen:
    """The server of the moment. Whoever lost the last one waits here for the next."""

    def __init__(self, start_server, db):
        self.start_server, self.db = start_server, db
        self.over = threading.Event()
        self.restart()

    def restart(self):
        # A write beyond the limit must be EFBIG from the first instruction on, before main() has had its say.
        self.server = self.start_server("--bake-ms", "50", "--opening-credit", str(OPENING), "--log", "off", db=self.db,
                                        preexec=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN))

    def connect(self):
        while True:
            try:
                return Client(self.server.port)
            except OSError:
                time.sleep(0.005)


class Operation:
    """One line of a diary. `told` is what was answered in the end; None: nobody knows whether it was done."""

    def __init__(self, kind, key=None, **what):
        self.kind, self.key, self.what, self.told, self.refused = kind, key, what, None, False

    def __repr__(self):
        return f"{self.kind} {self.what} key={self.key} told={self.told} refused={self.refused}"


class Diarist:
    """A customer with a diary, on one connection after the other."""

    def __init__(self, number, kitchen):
        self.number, self.kitchen = number, kitchen
        self.random = random.Random(f"{SEED}-{number}")
        self.diary, self.client, self.tried, self.lost, self.starved = [], None, 0, 0, 0
        self.account = None
        while not self.account:  # one whose answer was lost is nobody's: it will only be counted
            self.account = self.act(Operation("account", name=f"Number {number}"))

    # --- talking

    def ask(self, method, path, body=None, key=None):
        self.tried += 1
        if not self.client:
            self.client = self.kitchen.connect()
        try:
            self.client.ask(method, path, body, self.account and self.account["token"], idempotency_key=key)
            if self.random.random() < 0.03:  # gone before the answer
                self.random.choice((self.client.reset, self.client.close))()
                raise ConnectionResetError
            if not self.client.receive():
                raise ConnectionResetError
            r = self.client.response()
        except (OSError, AssertionError) as end:
            assert isinstance(end, OSError) or "the end" in str(end), end  # killed in the middle of an answer
            self.client.close()
            self.client = None
            self.lost += 1
            raise Unknown from None
        if r["Connection"] == "close":
            self.client.close()
            self.client = None
        if r.status in TROUBLE:
            self.starved += 1
            raise Unknown
        return r

    REQUESTS = {"account": ("POST", "/accounts", 201), "transfer": ("POST", "/transfers", 201),
                "order": ("POST", "/orders", 202), "cancel": ("DELETE", "/orders/{id}", 200)}

    def act(self, operation):
        """Write it down and do it."""
        self.diary.append(operation)
        return self.attempt(operation)

    def attempt(self, operation):
        """With a key it may be tried again; without, once is all. Returns what was made, if it is known to be made."""
        method, path, done = self.REQUESTS[operation.kind]
        body = operation.what if method == "POST" else None
        for _ in range(5 if operation.key else 1):
            try:
                r = self.ask(method, path.format(**operation.what), body, operation.key)
            except Unknown:
                continue
            assert r.status in (done, 409), f"expected {done} or a refusal for {operation}, got {r}"
            operation.refused = r.status != done
            operation.told = r.json()
            return None if operation.refused else operation.told
        return None

    # --- living

    def live(self, others):
        try:
            while not self.kitchen.over.is_set():
                self.do_something(others)
        finally:
            if self.client:
                self.client.close()

    def do_something(self, others):
        dice, number = self.random, len(self.diary)
        what = dice.choice(("transfer",) * 4 + ("order",) * 4 + ("cancel",) * 2 + ("read",) * 2 + ("account",))
        if what == "transfer":
            other, tag = dice.choice(others), f"{self.number}-{number}"
            cents = dice.choice((1, 99, dice.randrange(1, 5000), 10 * OPENING))  # the last one is too much
            self.act(Operation("transfer", tag, to=other.account["id"], amount_cents=cents, note=tag))
        elif what == "order":
            key = f"o-{number}" if dice.random() < 0.5 else None
            self.act(Operation("order", key, flavor=dice.choice(list(PRICES)), pizzas=dice.randrange(1, 4)))
        elif what == "cancel":
            placed = [op for op in self.diary[-6:] if op.kind == "order" and op.told and not op.refused]
            if placed:
                self.act(Operation("cancel", id=dice.choice(placed).told["id"]))
        elif what == "account":
            self.act(Operation("account", name="Nobody"))
        else:
            try:
                seen = self.ask("GET", f"/accounts/{self.account['id']}").json()
                assert seen["balance_cents"] >= 0, f"expected no debts, got {seen}"
            except Unknown:
                pass

    # --- the reckoning

    def page_through(self, path, name):
        items = []
        while path:
            page = self.ask("GET", path).json()
            items += page[name]
            path = page["next"]
        return items

    def settle(self):
        """Ask again for what has a key and no answer. Now everything with a key is decided."""
        for operation in self.diary:
            if operation.key and operation.told is None:
                self.attempt(operation)
                assert operation.told is not None, f"expected an answer in peace, got none for {operation}"

    def check(self):
        """The diary against the ledger. Returns the money that left for others minus what came from them."""
        orders = {order["id"]: order for order in self.page_through("/orders?limit=100", "orders")}
        entries = self.page_through(f"/accounts/{self.account['id']}/entries?limit=100", "entries")
        self.check_transfers([e for e in entries if e["kind"] == "transfer" and "to" in e])
        self.check_orders(orders)
        self.check_cancellations(orders)
        paid, back = (Counter(e["order_id"] for e in entries if e["kind"] == kind) for kind in ("order", "refund"))
        assert paid == Counter(list(orders)), "expected each order paid once"
        cancelled = [order["id"] for order in orders.values() if order["status"] == "cancelled"]
        assert back == Counter(cancelled), "expected each cancelled order refunded once, and no other"
        balance = self.ask("GET", f"/accounts/{self.account['id']}").json()["balance_cents"]
        assert balance == sum(e["amount_cents"] for e in entries), "expected the balance to be the sum of its entries"
        assert [e["amount_cents"] for e in entries if e["kind"] == "opening"] == [OPENING]
        return sum(e["amount_cents"] for e in entries if e["kind"] == "transfer")

    def check_transfers(self, sent):
        """Each has a key, so all of them are decided: done once, or refused and not done."""
        made = {op.key: op for op in self.diary if op.kind == "transfer" and not op.refused}
        found = {e["note"]: e for e in sent}
        assert len(found) == len(sent), f"transfers twice: {Counter(e['note'] for e in sent) - Counter(list(found))}"
        assert found.keys() == made.keys(), f"expected what was made and no more: {found.keys() ^ made.keys()}"
        for key, e in found.items():
            told = made[key].told
            assert e["transfer_id"] == told["id"], f"{e}, {made[key]}"
            for op in made[key].what, told:
                assert (-e["amount_cents"], e["to"]) == (op["amount_cents"], op["to"]), f"{e}, {made[key]}"

    def check_orders(self, orders):
        placed = [op for op in self.diary if op.kind == "order" and not op.refused]
        told = {op.told["id"]: op for op in placed if op.told}
        assert len(told) == sum(op.told is not None for op in placed), "expected an order of its own for each answer"
        assert told.keys() <= orders.keys(), f"acknowledged and lost: {told.keys() - orders.keys()}"
        for id, op in told.items():
            o = orders[id]
            assert (o["flavor"], o["pizzas"]) == (op.what["flavor"], op.what["pizzas"]), f"{o}, {op}"
        for o in orders.values():
            assert o["price_cents"] == PRICES[o["flavor"]] * o["pizzas"], f"a wrong price: {o}"
        strangers = Counter((o["flavor"], o["pizzas"]) for id, o in orders.items() if id not in told)
        unsure = Counter((op.what["flavor"], op.what["pizzas"]) for op in placed if not op.told)
        assert strangers <= unsure, f"nobody asked for these: {strangers - unsure}"

    def check_cancellations(self, orders):
        asked = [op for op in self.diary if op.kind == "cancel"]
        for op in asked:
            if op.told and not op.refused:
                assert orders[op.what["id"]]["status"] == "cancelled", f"cancelled, and back again: {op}"
        for id, order in orders.items():
            assert order["status"] in ("ready", "cancelled", "baking")
            if order["status"] == "cancelled":
                assert any(op.what["id"] == id for op in asked), f"nobody asked to cancel {order}"


def torment(kitchen, dice):
    """Until it is over: let them be for a moment, then kill the server, or fill the disk for a while."""
    kills = droughts = 0
    while not kitchen.over.wait(dice.uniform(0.1, 0.5)):
        server = kitchen.server
        if dice.random() < 0.6:
            server.kill()
            kitchen.restart()
            kills += 1
        else:
            size = max(os.path.getsize(f"{kitchen.db}{suffix}") for suffix in ("", "-wal"))
            full = size + dice.choice((0, 5000, 50000))
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
            kitchen.over.wait(0.3)
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            droughts += 1
    return kills, droughts


def test_the_ledger_survives_torture(start_server, tmp_path):
    kitchen = Kitchen(start_server, tmp_path / "torture.db")
    diarists = [Diarist(i, kitchen) for i in range(CUSTOMERS)]
    join = wire.start_together(CUSTOMERS, lambda i: diarists[i].live([d for d in diarists if d is not diarists[i]]))
    timer = threading.Timer(SECONDS, kitchen.over.set)
    timer.start()
    try:
        kills, droughts = torment(kitchen, random.Random(SEED))
        join()
        kitchen.server.kill()  # once more, to see what is on the disk
        kitchen.restart()
        wire.wait_until(lambda: kitchen.server.api("GET", "/readyz").status == 200)
        for diarist in diarists:
            diarist.client, diarist.random = None, random.Random()
            diarist.random.random = lambda: 1.0  # peace
            diarist.settle()
        assert sum(diarist.check() for diarist in diarists) == 0, "expected what some sent to be what others got"
        operations = [op for diarist in diarists for op in diarist.diary]
        kitchen.server.stop()
        assert_ledger_is_sound(kitchen.db)
        opened = int(re.search(r": (\d+) accounts", wire.run("--audit", str(kitchen.db))[1])[1])
        accounts = [op for op in operations if op.kind == "account"]
        sure = sum(op.told is not None for op in accounts)
        assert sure <= opened <= len(accounts), f"expected {sure} to {len(accounts)} accounts, found {opened}"
    except BaseException:
        print(f"FORNO_TORTURE_SEED={SEED}")
        raise
    finally:
        kitchen.over.set()
    tried, lost, starved = (sum(getattr(d, name) for d in diarists) for name in ("tried", "lost", "starved"))
    unsure = sum(op.told is None for op in operations)
    print(f"{tried} requests, {lost} of them cut off, {starved} refused with 5xx, {kills} kills, {droughts} full disks; "
          f"{len(operations)} operations, {sum(op.refused for op in operations)} refused, {unsure} never answered")
    assert kills + droughts > 0 and len(operations) > 20 * SECONDS, "expected more of a torture"
