#!/usr/bin/env python3
"""roads.py: both roads to a database under the same load, in one table; and the function that places an order, called by pgbench.

    bench/roads.py [--seconds 5] [--turns 3]

256 connections order pizzas for 64 customers; then 64 connections ask for an account. Everybody shares all CPUs: Forno, PostgreSQL and the
generator. Compare within the table only: it is measured turn by turn, and each figure is a median. Wants wrk, PostgreSQL and
python3-psycopg2: make roads."""

import argparse
import os
import re
import statistics
import subprocess
import sys
from contextlib import contextmanager

import machine
from load import Wrk
from servers import BUILD, Client, Kitchen

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))
import pg  # noqa: E402

CUSTOMERS = 64
ORDER = {"flavor": "margherita", "pizzas": 1}
RICH = "--opening-credit=1000000000000"
SETTINGS = {"fsync": "on", "autovacuum": "on", "shared_buffers": "128MB", "max_wal_size": "2GB"}  # as Debian has them, but for the WAL
PGBENCH = "\\set who random(1, {customers})\nSELECT forno.place_order((SELECT token_hash FROM forno.accounts WHERE id = :who), " \
          "NULL, NULL, 'margherita', 1, 3500, 3000);\n"

ROWS = {  # name: (is it PostgreSQL, options)
    "SQLite, in groups": (False, ()),
    "SQLite, one order per commit": (False, ("--group-max=1",)),
    "PostgreSQL, in groups": (True, ()),
    "PostgreSQL, one order per Sync": (True, ("--group-max=1",)),
}


class Cpu:
    """CPU time of some processes since now. The backends of a connection that ends take theirs with them: we keep ours."""

    def __init__(self, pid):
        self.pid = pid
        self.before = machine.cpu_seconds(machine.family(pid)) if pid else 0

    def used(self):
        return machine.cpu_seconds(machine.family(self.pid)) - self.before if self.pid else 0


@contextmanager
def forno(kitchen, cluster, native, options, name):
    url = cluster.new_database() if native else None
    server = kitchen.forno(RICH, *options, name=name, database=url, cpus=tuple(os.sched_getaffinity(0)))
    try:
        yield server
    finally:
        kitchen.stop_all()
        if url:
            cluster.drop(url)


def tokens(kitchen, server):
    client = Client(server)
    accounts = [client.ask("POST", "/accounts", body={"name": f"Customer {i}"}, expect=201) for i in range(CUSTOMERS)]
    client.close()
    with open(kitchen.path("tokens"), "w", encoding="ascii") as file:
        file.write("\n".join(account["token"] for account in accounts))
    return accounts, kitchen.path("tokens")


def measure(kitchen, cluster, row, seconds):
    """What one turn of one row has shown."""
    native, options = ROWS[row]
    with forno(kitchen, cluster, native, options, re.sub(r"\W+", "-", row)) as server:
        accounts, file = tokens(kitchen, server)
        Wrk(server, "/orders", 256, 1, method="POST", body=ORDER, tokens=file).result()
        own, theirs = Cpu(server.process.pid), Cpu(cluster.process.pid if native else 0)
        load = Wrk(server, "/orders", 256, seconds, method="POST", body=ORDER, tokens=file).result()
        found = {"orders/s": load.per_second, "p50, ms": load.p50_us / 1000, "p99, ms": load.p99_us / 1000,
                 "Forno's CPU, µs": own.used() * 1e6 / load.requests, "PostgreSQL's, µs": theirs.used() * 1e6 / load.requests}
        assert not load.failed, f"{load.failed} of {load.requests} orders failed"
        with open(file, "w", encoding="ascii") as one:
            one.write(accounts[0]["token"])
        own = Cpu(server.process.pid)
        load = Wrk(server, f"/accounts/{accounts[0]['id']}", 64, seconds, tokens=file).result()
        assert not load.failed, f"{load.failed} of {load.requests} reads failed"
        return {**found, "reads/s": load.per_second, "CPU a read, µs": own.used() * 1e6 / load.requests}


def pgbench(kitchen, cluster, clients, seconds):
    """One call of the function a transaction: (orders a second, ms)."""
    with forno(kitchen, cluster, True, (), "made-by") as server:
        tokens(kitchen, server)
        url = cluster.url(f"forno_{cluster.count}")
        script = kitchen.path("place.sql")
        with open(script, "w", encoding="ascii") as file:
            file.write(PGBENCH.format(customers=CUSTOMERS))
        done = subprocess.run([cluster.workshop.bin / "pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "1", "-T", str(seconds),
                               "-f", script, url], capture_output=True, text=True, check=False)
    found = re.search(r"latency average = ([\d.]+) ms(?s:.*)tps = ([\d.]+)", done.stdout)
    if not found:
        raise SystemExit(f"pgbench: {done.stdout}{done.stderr}")
    return float(found[2]), float(found[1])


def workshop():
    try:
        return pg.Workshop()
    except pg.Missing as why:
        raise SystemExit(str(why)) from None


def compare(kitchen, seconds, turns):
    """(how it was measured, columns, {row: cells}, [(bar, value, bound, is it the most that is allowed)])"""
    shop = workshop()
    try:
        cluster = shop.cluster(**SETTINGS)
        bystanders = machine.Bystanders()
        found, calls = {row: [] for row in ROWS}, {clients: [] for clients in (1, 4, 8, 16, 32)}
        for _ in range(turns):
            for row in ROWS:
                found[row].append(measure(kitchen, cluster, row, seconds))
            for clients in calls:
                calls[clients].append(pgbench(kitchen, cluster, clients, seconds))
        how = f"{os.cpu_count()} CPUs for everything; {machine.sync_ms(str(shop.folder)):.2f} ms to make 4 KiB durable; somebody else used " \
              f"{bystanders.share():.2f} of a CPU; medians of {turns} turns of {seconds} s"
    finally:
        shop.close()
    middle = {row: {name: statistics.median(turn[name] for turn in found[row]) for name in found[row][0]} for row in ROWS}
    best = max(calls, key=lambda clients: statistics.median(rate for rate, _ in calls[clients]))
    called = statistics.median(rate for rate, _ in calls[best])
    columns = list(middle["SQLite, in groups"])
    rows = {row: [None if name == "PostgreSQL's, µs" and not ROWS[row][0] else values[name] for name in columns] for row, values in middle.items()}
    rows[f"pgbench, {best} clients, one call a transaction"] = [called, statistics.median(ms for _, ms in calls[best])] + [None] * (len(columns) - 2)
    sqlite, native, alone = middle["SQLite, in groups"], middle["PostgreSQL, in groups"], middle["PostgreSQL, one order per Sync"]
    return how, columns, rows, [
        ("groups against one order per Sync", native["orders/s"] / alone["orders/s"], 2, False),
        ("groups against pgbench at its best", native["orders/s"] / called, 1.5, False),
        ("Forno's own CPU for an order, µs", native["Forno's CPU, µs"], 35, True),
        ("reads a second against SQLite", native["reads/s"] / sqlite["reads/s"], 0.5, False),
        ("Forno's own CPU for a read against SQLite", native["CPU a read, µs"] / sqlite["CPU a read, µs"], 1.3, True),
    ]


def texts(cells):
    return ["" if cell is None else f"{cell:,.1f}" if cell < 100 else f"{cell:,.0f}" for cell in cells]


def met(value, bound, at_most):
    return value <= bound if at_most else value >= bound


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--server", default=os.path.join(ROOT, "server"))
    options = parser.parse_args()
    os.makedirs(BUILD, exist_ok=True)
    machine.raise_descriptor_limit()
    with Kitchen(options.server) as kitchen:
        how, columns, rows, bars = compare(kitchen, options.seconds, options.turns)
    print(f"{how}\n\n| | " + " | ".join(columns) + " |\n|---|" + "--:|" * len(columns))
    for name, cells in rows.items():
        print(f"| {name} | " + " | ".join(texts(cells)) + " |")
    print()
    for what, value, bound, at_most in bars:
        print(f"{'met' if met(value, bound, at_most) else 'MISSED'}: {what}: {value:.2f}, {'at most' if at_most else 'at least'} {bound:g}")
    sys.exit(0 if all(met(*bar[1:]) for bar in bars) else 1)


if __name__ == "__main__":
    main()
