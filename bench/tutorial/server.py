"""The stack of the tutorial "Sua primeira API assíncrona" (Python Brasil 2019): Tornado, SQLAlchemy, SQLite.

The same bank and pizzeria as Forno's, as far as they are compared, and written to be fast: the loop never waits for the
database, sessions run in threads by run_in_executor() as tornado-sqlalchemy does it; writes have one thread to themselves,
so that they queue up instead of fighting for SQLite's lock; journal and durability are Forno's (WAL, synchronous=FULL).
"""

import argparse
import asyncio
import hashlib
import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import tornado.httpserver
import tornado.netutil
import tornado.web
from sqlalchemy import bindparam, select, update

from models import BANK, TILL, Account, Entry, Order, open_database

MENU = [
    {"flavor": "margherita", "price_cents": 3500, "bake_ms": 3000},
    {"flavor": "calabresa", "price_cents": 3800, "bake_ms": 3000},
    {"flavor": "portuguesa", "price_cents": 4200, "bake_ms": 4000},
    {"flavor": "quatro-queijos", "price_cents": 4500, "bake_ms": 3500},
    {"flavor": "frango-com-catupiry", "price_cents": 4400, "bake_ms": 4000},
    {"flavor": "napolitana", "price_cents": 3900, "bake_ms": 3500},
]
PIZZAS = {pizza["flavor"]: pizza for pizza in MENU}

# Put together once: building a statement costs SQLAlchemy as much as running it.
ACCOUNT_BY_TOKEN = select(Account).where(Account.token_hash == bindparam("hash"))
MOVE_BALANCE = (
    update(Account)
    .where(Account.id == bindparam("account"))
    .values(balance_cents=Account.balance_cents + bindparam("amount"))
    .execution_options(synchronize_session=False)
)


def now_ms():
    return time.time_ns() // 1_000_000


def instant(ms):
    return datetime.fromtimestamp(ms / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03}Z"


def hash_of(token):
    return hashlib.blake2b(token.encode(), digest_size=32).digest()


class Database:
    """Every method is one transaction, and blocks: read() and write() run it in a thread."""

    def __init__(self, path, readers, opening_credit_cents):
        self.readers = ThreadPoolExecutor(readers)
        self.writer = ThreadPoolExecutor(1)
        self.reading, self.writing = open_database(path, readers + 1)
        self.opening_credit_cents = opening_credit_cents

    async def read(self, work, *args):
        return await asyncio.get_running_loop().run_in_executor(self.readers, work, *args)

    async def write(self, work, *args):
        return await asyncio.get_running_loop().run_in_executor(self.writer, work, *args)

    @staticmethod
    def account_of(session, token):
        account = session.execute(ACCOUNT_BY_TOKEN, {"hash": hash_of(token)}).scalar_one_or_none()
        if account is None:
            raise tornado.web.HTTPError(401)
        return account

    @staticmethod
    def move_money(session, kind, source, target, amount_cents, order_id=None):
        for account, peer, amount in ((source, target, -amount_cents), (target, source, amount_cents)):
            session.execute(MOVE_BALANCE, {"account": account, "amount": amount})
            session.add(
                Entry(account_id=account, peer_id=peer, kind=kind, amount_cents=amount, order_id=order_id, at_ms=now_ms())
            )

    def open_account(self, name):
        token = secrets.token_urlsafe(32)
        with self.writing.begin() as session:
            account = Account(name=name, token_hash=hash_of(token), balance_cents=0)
            session.add(account)
            session.flush()
            self.move_money(session, "opening", BANK, account.id, self.opening_credit_cents)
            return {"id": account.id, "name": name, "balance_cents": self.opening_credit_cents, "token": token}

    def account(self, token, account_id):
        with self.reading() as session:
            account = self.account_of(session, token)
            if account.id != account_id:
                raise tornado.web.HTTPError(403)
            return {"id": account.id, "name": account.name, "balance_cents": account.balance_cents}

    def place_order(self, token, flavor, pizzas):
        pizza = PIZZAS[flavor]
        price_cents, placed_at_ms = pizza["price_cents"] * pizzas, now_ms()
        with self.writing.begin() as session:
            account = self.account_of(session, token)
            if account.balance_cents < price_cents:
                raise tornado.web.HTTPError(409)
            order = Order(
                account_id=account.id,
                flavor=flavor,
                pizzas=pizzas,
                price_cents=price_cents,
                placed_at_ms=placed_at_ms,
                ready_at_ms=placed_at_ms + pizza["bake_ms"] * pizzas,
            )
            session.add(order)
            session.flush()
            self.move_money(session, "order", account.id, TILL, price_cents, order.id)
            return order

    def order(self, token, order_id):
        with self.reading() as session:
            account = self.account_of(session, token)
            order = session.get(Order, order_id)
            if order is None or order.account_id != account.id:
                raise tornado.web.HTTPError(404)
            return order


def order_json(order):
    left_ms = max(0, order.ready_at_ms - now_ms())
    return {
        "id": order.id,
        "status": "baking" if left_ms else "ready",
        "flavor": order.flavor,
        "pizzas": order.pizzas,
        "price_cents": order.price_cents,
        "placed_at": instant(order.placed_at_ms),
        "ready_at": instant(order.ready_at_ms),
        "ready_in_ms": left_ms,
    }


class Handler(tornado.web.RequestHandler):
    def initialize(self, database):
        self.database = database

    def token(self):
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise tornado.web.HTTPError(401)
        return token

    def body(self, **fields):
        """The body as JSON, with exactly these fields of these types."""
        try:
            body = json.loads(self.request.body)
        except ValueError:
            raise tornado.web.HTTPError(400) from None
        if not isinstance(body, dict) or {name: type(value) for name, value in body.items()} != fields:
            raise tornado.web.HTTPError(422)
        return body

    def answer(self, status, value):
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(value, separators=(",", ":")) + "\n")


class Healthz(Handler):
    def get(self):
        self.answer(200, {"status": "ok"})


class Menu(Handler):
    def get(self):
        self.answer(200, {"pizzas": MENU})


class Accounts(Handler):
    async def post(self):
        body = self.body(name=str)
        if not 1 <= len(body["name"]) <= 80:
            raise tornado.web.HTTPError(422)
        account = await self.database.write(self.database.open_account, body["name"])
        self.set_header("Location", f"/accounts/{account['id']}")
        self.answer(201, account)


class OneAccount(Handler):
    async def get(self, account_id):
        self.answer(200, await self.database.read(self.database.account, self.token(), int(account_id)))


class Orders(Handler):
    async def post(self):
        token, body = self.token(), self.body(flavor=str, pizzas=int)
        if body["flavor"] not in PIZZAS or not 1 <= body["pizzas"] <= 1000:
            raise tornado.web.HTTPError(422)
        order = await self.database.write(self.database.place_order, token, body["flavor"], body["pizzas"])
        self.set_header("Location", f"/orders/{order.id}")
        self.answer(202, order_json(order))


class OneOrder(Handler):
    async def get(self, order_id):
        self.answer(200, order_json(await self.database.read(self.database.order, self.token(), int(order_id))))


async def serve(options):
    database = {"database": Database(options.db, options.readers, options.opening_credit)}
    routes = [
        ("/healthz", Healthz, database),
        ("/menu", Menu, database),
        ("/accounts", Accounts, database),
        (r"/accounts/(\d{1,18})", OneAccount, database),
        ("/orders", Orders, database),
        (r"/orders/(\d{1,18})", OneOrder, database),
    ]
    app = tornado.web.Application(routes, log_function=lambda handler: None)
    sockets = tornado.netutil.bind_sockets(options.port, "127.0.0.1", backlog=4096)
    tornado.httpserver.HTTPServer(app).add_sockets(sockets)
    print(f"listening on http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--db", default="tutorial.db")
    parser.add_argument("--opening-credit", type=int, default=100000)
    parser.add_argument("--readers", type=int, default=2, help="threads that read; more of them only fight for the interpreter")
    asyncio.run(serve(parser.parse_args()))
