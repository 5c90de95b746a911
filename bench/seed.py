"""A Forno database with many orders in it, made in bulk: what years of baking would leave behind.

Account 1 is a canteen that has placed a tenth of all orders; everybody else has placed a hundred. Orders of all accounts are
mixed in the file, as time mixes them. One in fifty is cancelled. `server --audit` finds nothing wrong with it.
"""

import hashlib
import sqlite3
import time

CANTEEN_TOKEN = "canteen".ljust(43, "-")
CUSTOMER_TOKEN = "customer".ljust(43, "-")  # account 2's
CREDIT = 10**13
PRICE = 3500
BAKE_MS = 3000


def hash_of(token):
    return hashlib.blake2b(token.encode(), digest_size=32).digest()


def accounts(count, now_ms):
    for n in range(1, count + 1):
        token = {1: CANTEEN_TOKEN, 2: CUSTOMER_TOKEN}.get(n, f"nobody {n}")
        yield n, f"Customer {n}", hash_of(token), 0, now_ms


def customer_of(order, customers):
    return 1 if order % 10 == 0 else 2 + (order - order // 10) % customers


def orders(count, customers, now_ms):
    for n in range(1, count + 1):
        placed_ms = now_ms - (count - n + 1) * 1000 - BAKE_MS  # one a second; all of them are ready by now
        cancelled_ms = placed_ms + 1 if n % 50 == 0 else None
        yield n, customer_of(n, customers), "margherita", 1, PRICE, placed_ms, placed_ms + BAKE_MS, cancelled_ms


def entries(count, customers, now_ms):
    """Every movement: what leaves one account, then what arrives in the other."""

    def movements():
        for n in range(1, customers + 2):
            yield 0, n, "opening", CREDIT, None, 0
        for n, customer, _, _, price, placed_ms, _, cancelled_ms in orders(count, customers, now_ms):
            yield customer, -1, "order", price, n, placed_ms
            if cancelled_ms:
                yield -1, customer, "refund", price, n, cancelled_ms

    first = 1
    for source, target, kind, amount, order, at_ms in movements():
        yield first, first, source, target, kind, -amount, order, at_ms
        yield first + 1, first, target, source, kind, amount, order, at_ms
        first += 2


def seed(path, count):
    """Fill a database that Forno has just made. Indexes are taken away meanwhile, and put back as Forno made them."""
    now_ms = time.time_ns() // 1_000_000
    customers = max(1, count * 9 // 10 // 100)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA cache_size = -500000")
    db.execute("BEGIN")
    indexes = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL").fetchall()
    for name, _ in indexes:
        db.execute(f"DROP INDEX {name}")
    db.executemany(
        "INSERT INTO accounts (id, name, token_hash, balance_cents, opened_at_ms) VALUES (?, ?, ?, ?, ?)",
        accounts(customers + 1, now_ms),
    )
    db.executemany(
        "INSERT INTO orders (id, account_id, flavor, pizzas, price_cents, placed_at_ms, ready_at_ms, cancelled_at_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        orders(count, customers, now_ms),
    )
    db.executemany(
        "INSERT INTO entries (id, movement_id, account_id, peer_id, kind, amount_cents, order_id, at_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        entries(count, customers, now_ms),
    )
    db.execute(
        "UPDATE accounts SET balance_cents = total FROM (SELECT account_id, sum(amount_cents) AS total FROM entries "
        "GROUP BY account_id) WHERE account_id = id"
    )
    for _, sql in indexes:
        db.execute(sql)
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
