"""What is measured. Each case is a function; its docstring tells how, and goes into the results."""

import os
import random
import statistics
import subprocess
import time

import machine
import roads
import seed
from load import Crowd, Wrk
from servers import BUILD, Client

ORDER = {"flavor": "margherita", "pizzas": 1}
RICH = "--opening-credit=1000000000000"
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

CASES = {}


def case(name, title):
    def register(function):
        CASES[name] = (title, function)
        return function

    return register


# ---- samples, and how they are told ----


class Samples:
    """What the rounds of one server in one case have brought."""

    def __init__(self):
        self.per_second, self.cpu_us, self.p50_us, self.p99_us, self.failed = [], [], [], [], 0

    def add(self, load, cpu_seconds):
        self.per_second.append(load.per_second)
        self.cpu_us.append(cpu_seconds * 1e6 / max(1, load.requests))
        self.p50_us.append(load.p50_us)
        self.p99_us.append(load.p99_us)
        self.failed += load.failed


def mid(values):
    return statistics.median(values)


def ratio(samples, what, ours, theirs):
    """The median of the ratios in each turn: where a machine is fast for some seconds, then slow, neighbours share its mood."""
    return mid([a / b for a, b in zip(getattr(samples[ours], what), getattr(samples[theirs], what))])


def spread(values, form="{:,.2f}"):
    low, middle, high = (form.format(v) for v in (min(values), mid(values), max(values)))
    return f"{middle} ({low} – {high})"


def time_text(us):
    return f"{us:.0f} µs" if us < 1000 else f"{us / 1000:.1f} ms"


def warm_up(contestants):
    for _, server, wrk_args in contestants:
        Wrk(server, seconds=1, **wrk_args).result()


def compare(bench, contestants, seconds=None, rounds=None):
    """Rounds of wrk against each in turn, so that whatever drifts, drifts for all of them. Each turn begins with another.
    A contestant is a name, a server, and how wrk treats it."""
    samples = {name: Samples() for name, _, _ in contestants}
    for number in range(rounds or bench.rounds):
        first = number % len(contestants)
        for name, server, wrk_args in contestants[first:] + contestants[:first]:

            def one_round(server=server, wrk_args=wrk_args):
                before = server.cpu_seconds()
                load = Wrk(server, seconds=seconds or bench.seconds, **wrk_args).result()
                time.sleep(0.05)  # until it has noticed that they have left
                return load, server.cpu_seconds() - before

            samples[name].add(*bench.undisturbed(one_round))
    for name, s in samples.items():
        if s.failed:
            bench.note(f"{s.failed} requests to {name} failed")
    return samples


def comparison_table(bench, samples, latencies=True):
    head = ["server", "requests a second", "CPU µs per request", "forno's CPU ÷ this", "forno's requests ÷ this"]
    rows = []
    for name, s in samples.items():
        row = [name, spread(s.per_second, "{:,.0f}"), spread(s.cpu_us)]
        row += [f"{ratio(samples, what, 'forno', name):.2f}" for what in ("cpu_us", "per_second")]
        row += [time_text(mid(s.p50_us)), time_text(mid(s.p99_us))] if latencies else []
        rows.append(row)
    bench.table(head + (["p50", "p99"] if latencies else []), rows)


# ---- without the database ----


def check_healthz(bench, servers):
    """All of them answer the same; the ceiling and Forno with the same number of bytes."""
    lengths = {}
    for server in servers:
        client = Client(server)
        client.send("GET", "/healthz")
        status, body, lengths[server.name] = client.receive()
        client.close()
        if (status, body) != (200, b'{"status":"ok"}\n'):
            raise SystemExit(f"{server.name} answers {status} {body!r} to GET /healthz")
    if lengths["ceiling"] != lengths["forno"]:
        bench.note(f"the ceiling's answer ought to be as long as Forno's: {lengths}")


def healthz(bench, connections, servers):
    check_healthz(bench, servers)
    contestants = [(s.name, s, {"path": "/healthz", "connections": connections}) for s in servers]
    warm_up(contestants)
    samples = compare(bench, contestants)
    comparison_table(bench, samples)
    work = f"GET /healthz, {connections} connections: CPU per request"
    for other, name, limit in (("ceiling", "the ceiling", 1.08), ("nginx", "nginx", 0.85)):
        value = ratio(samples, "cpu_us", "forno", other)
        bench.target(work, f"≤ {limit} × {name}", f"{value:.2f} ×", value <= limit)


@case("healthz", "GET /healthz, 64 connections")
def healthz_64(bench):
    """Keep-alive, one request at a time on each connection. CPU time is the server's, user and system, accepting
    included."""
    k = bench.kitchen
    healthz(bench, 64, [k.ceiling(), k.forno(), k.nginx(), k.h2o(), k.node(), k.tutorial(), k.flask()])


@case("healthz512", "GET /healthz, 512 connections")
def healthz_512(bench):
    """The same with more of them."""
    k = bench.kitchen
    healthz(bench, 512, [k.ceiling(), k.forno(), k.nginx(), k.h2o(), k.node()])


@case("pipelined", "GET /healthz, pipelined 16 deep, 64 connections")
def pipelined(bench):
    """Sixteen requests sent in one go. They share the system calls, so most of what is left is the server's own work.
    No latencies: wrk "corrects" them as if nothing were pipelined."""
    k = bench.kitchen
    servers = [k.ceiling(), k.forno(), k.nginx(), k.h2o()]
    contestants = [(s.name, s, {"path": "/healthz", "connections": 64, "depth": 16}) for s in servers]
    warm_up(contestants)
    samples = compare(bench, contestants)
    comparison_table(bench, samples, latencies=False)
    for other, name, limit in (("nginx", "nginx", 6), ("ceiling", "the ceiling", 0.5)):
        value = ratio(samples, "per_second", "forno", other)
        bench.target("pipelined 16 deep: requests a second", f"≥ {limit} × {name}", f"{value:.2f} ×", value >= limit)


@case("load", "Cost against load: GET /healthz from 16 to 10,000 connections")
def cost_against_load(bench):
    """CPU per request, accepting the connections included. What rises with the ceiling is the kernel's, and the cache's."""
    k = bench.kitchen
    ceiling, forno = k.ceiling(), k.forno()
    rows, worst = [], 0
    for connections in (16, 64, 256, 1024, 4096, 10000):
        wrk_args = {"path": "/healthz", "connections": connections}
        contestants = [("ceiling", ceiling, wrk_args), ("forno", forno, wrk_args)]
        if not rows:
            warm_up(contestants)
        # Longer where there is more to accept: it is the requests that are to be measured.
        seconds = 2 * bench.seconds if connections > 1000 else bench.seconds
        samples = compare(bench, contestants, seconds, rounds=min(5, bench.rounds))
        value = ratio(samples, "cpu_us", "forno", "ceiling")
        worst = max(worst, value)
        row = [f"{connections:,}", spread(samples["forno"].cpu_us), spread(samples["ceiling"].cpu_us), f"{value:.2f}"]
        rows.append(row + [f"{mid(samples[name].per_second):,.0f}" for name in ("forno", "ceiling")])
    head = ["connections", "forno, CPU µs", "ceiling, CPU µs", "ratio", "forno, requests a second", "ceiling"]
    bench.table(head, rows)
    work = "cost against load: CPU per request, 16 to 10,000 connections"
    bench.target(work, "≤ 1.15 × the ceiling", f"{worst:.2f} × at worst", worst <= 1.15)


# ---- with the database ----


def token_file(bench, server, count):
    """Open accounts; their tokens, one a line, for wrk."""
    path = bench.kitchen.path(f"tokens-{server.name}")
    client = Client(server)
    with open(path, "w", encoding="ascii") as file:
        for n in range(1, count + 1):
            file.write(client.ask("POST", "/accounts", body={"name": f"Customer {n}"}, expect=201)["token"] + "\n")
    client.close()
    return path


@case("account", "GET /accounts/1 with a token, 64 connections")
def account(bench):
    """Through the worker thread and SQLite. The worker shares the server's CPU with the loop, as all threads of the others
    do; "forno, two CPUs" is the same with both CPUs to choose from, the generator on one of them. "healthz" is the same
    Forno without the database: the difference is the price of the hop and the query."""
    k = bench.kitchen
    forno, wide = k.forno(), k.forno(name="forno-two-cpus", cpus=(machine.SERVER_CPU, machine.GENERATOR_CPU))
    contestants = [("healthz", forno, {"path": "/healthz", "connections": 64})]
    for name, server in (("forno", forno), ("forno, two CPUs", wide), ("tutorial", k.tutorial())):
        tokens = token_file(bench, server, 1)
        contestants.append((name, server, {"path": "/accounts/1", "connections": 64, "tokens": tokens}))
    warm_up(contestants)
    samples = compare(bench, contestants)
    comparison_table(bench, samples)
    value = ratio(samples, "cpu_us", "forno", "healthz")
    bench.target("GET /accounts/1: CPU per request", "≤ 1.8 × /healthz", f"{value:.2f} ×", value <= 1.8)
    value = ratio(samples, "per_second", "forno", "tutorial")
    bench.target("GET /accounts/1: requests a second", "≥ 15 × the tutorial", f"{value:.1f} ×", value >= 15)


def ordering(bench, server):
    """How wrk orders pizzas for 64 customers over 256 connections."""
    return {"path": "/orders", "connections": 256, "method": "POST", "body": ORDER, "tokens": token_file(bench, server, 64)}


@case("orders", "POST /orders, durable, 256 connections")
def orders(bench):
    """64 customers with money enough order over 256 connections; each order is answered when its commit is on the disk
    (synchronous=FULL). "group of one" is Forno with --group-max=1: a commit, and an fsync, for each."""
    k = bench.kitchen
    servers = {
        "forno": k.forno(RICH),
        "group of one": k.forno(RICH, "--group-max=1", name="forno-group-of-one"),
        "tutorial": k.tutorial(),
    }
    contestants = [(name, server, ordering(bench, server)) for name, server in servers.items()]
    warm_up(contestants)
    samples = compare(bench, contestants, 2 * bench.seconds, rounds=min(5, bench.rounds))
    comparison_table(bench, samples)
    rate, alone = mid(samples["forno"].per_second), ratio(samples, "per_second", "forno", "group of one")
    work = "POST /orders: orders a second"
    bench.target(work, "≥ 20,000, or 3 × a group of one", f"{rate:,.0f}; {alone:.1f} ×", rate >= 20000 or alone >= 3)
    value = ratio(samples, "per_second", "forno", "tutorial")
    bench.target(work, "≥ 20 × the tutorial", f"{value:.1f} ×", value >= 20)


@case("menu", "GET /menu while 256 clients order")
def menu(bench):
    """Two wrk share the generator's CPU: one orders as above; the other asks for the menu over four connections, and goes
    first when both want to run (nice -10, where that is allowed), so that it sees the server's delays, not its own."""
    k = bench.kitchen
    servers = [k.forno(RICH), k.tutorial()]
    orders_args = {server.name: ordering(bench, server) for server in servers}
    menus, others = ({server.name: Samples() for server in servers} for _ in range(2))
    for _ in range(min(5, bench.rounds)):
        for server in servers:

            def one_round(server=server):
                before = server.cpu_seconds()
                placing = Wrk(server, seconds=2 * bench.seconds + 1, **orders_args[server.name])
                time.sleep(0.5)
                asking = Wrk(server, "/menu", 4, 2 * bench.seconds, nice=-10 if os.geteuid() == 0 else 0)
                return asking.result(), placing.result(), server.cpu_seconds() - before

            asked, placed, cpu_seconds = bench.undisturbed(one_round)
            menus[server.name].add(asked, cpu_seconds)
            others[server.name].add(placed, cpu_seconds)
    rows = []
    for name, s in menus.items():
        row = [name, spread(s.p50_us, "{:,.0f}"), spread(s.p99_us, "{:,.0f}"), f"{mid(s.per_second):,.0f}"]
        rows.append(row + [f"{mid(others[name].per_second):,.0f}", time_text(mid(others[name].p99_us))])
    head = ["server", "menu p50, µs", "menu p99, µs", "menus a second", "orders a second meanwhile", "order p99"]
    bench.table(head, rows)
    p99_ms = mid(menus["forno"].p99_us) / 1000
    bench.target("GET /menu while 256 clients order: p99", "< 5 ms", f"{p99_ms:.2f} ms", p99_ms < 5)


# What is asked of a large file, by whom. {id} is one of the asker's orders, at random.
QUESTIONS = {
    "customer: one of his orders": ("GET", "/orders/{id}", seed.CUSTOMER_TOKEN),
    "customer: his latest orders": ("GET", "/orders", seed.CUSTOMER_TOKEN),
    "customer: his ledger": ("GET", "/accounts/2/entries", seed.CUSTOMER_TOKEN),
    "canteen: its latest orders": ("GET", "/orders", seed.CANTEEN_TOKEN),
    "canteen: its orders that are ready": ("GET", "/orders?status=ready", seed.CANTEEN_TOKEN),
    "canteen: those that bake": ("GET", "/orders?status=baking", seed.CANTEEN_TOKEN),
    "canteen: those it cancelled": ("GET", "/orders?status=cancelled", seed.CANTEEN_TOKEN),
    "canteen: its ledger": ("GET", "/accounts/1/entries", seed.CANTEEN_TOKEN),
    "customer: a new order, with its fsync": ("POST", "/orders", seed.CUSTOMER_TOKEN, ORDER, 202),
}


def ask_often(bench, client, ids, question):
    """How long each took, in µs, the shortest first."""
    took = []
    for _ in range(bench.repeats):
        method, path, *rest = question
        path = path.replace("{id}", str(random.choice(ids)))
        begin = time.perf_counter()
        client.ask(method, path, *rest)
        took.append((time.perf_counter() - begin) * 1e6)
    return sorted(took)


@case("size", "Latency against the number of orders in the file")
def size(bench):
    """One client, one request after the other, no other load. "Customer" has placed a hundred orders, "canteen" a tenth of
    all orders in the file: what is slow for the canteen grows with its own past, what is slow for the customer grows with
    other people's."""
    sizes = [n for n in (1_000, 100_000, 1_000_000, 10_000_000) if n <= bench.largest_file]
    medians = {name: [] for name in QUESTIONS}
    rows = {name: [name] for name in QUESTIONS}
    for count in sizes:
        client = Client(bench.database_with(count))
        ids = [order["id"] for order in client.ask("GET", "/orders?limit=100", seed.CUSTOMER_TOKEN)["orders"]]
        for name, question in QUESTIONS.items():
            ask_often(bench, client, ids, question)  # warm-up: afterwards the pages that it takes are in memory
            took = bench.undisturbed(lambda question=question: ask_often(bench, client, ids, question))
            medians[name].append(mid(took))
            rows[name].append(f"{mid(took):,.0f} / {took[len(took) * 99 // 100]:,.0f}")
        client.close()
        bench.kitchen.stop_all()
    bench.table(["µs, median / p99, with so many orders", *(f"{n:,}" for n in sizes)], list(rows.values()))
    growth, name = max((m[-1] / m[0], name) for name, m in medians.items())
    work = f"database latency, 1,000 to {sizes[-1]:,} orders in the file"
    bench.target(work, "flat (≤ 1.5 ×)", f"{growth:.2f} × at worst ({name})", growth <= 1.5)


# ---- memory, parsing, starting ----


def megabytes(n):
    return f"{n / 1e6:.1f} MB"


@case("idle", "An idle keep-alive connection")
def idle(bench):
    """How much the resident memory of the server grows when 10,000 connections are opened, each of which asks once for
    /healthz and then keeps still. The kernel's own memory for a socket is not in it: it is the same for all. nginx sets
    aside memory for all the connections that it may ever have when it starts: that is in its first column."""
    count, rows, each = 10_000, [], {}
    for start_server in (bench.kitchen.forno, bench.kitchen.nginx, bench.kitchen.h2o):
        server, crowd = start_server(), Crowd()
        crowd.join(server, 1, HEALTHZ)
        before = server.rss_bytes()
        crowd.join(server, count, HEALTHZ)
        after = server.rss_bytes()
        crowd.leave()
        each[server.name] = (after - before) / count
        rows.append([server.name, megabytes(before), megabytes(after), f"{each[server.name]:,.0f} bytes"])
        bench.kitchen.stop_all()
    bench.table(["server", "with 1 connection", "with 10,000", "each"], rows)
    work = "idle keep-alive connection, of 10,000: resident memory"
    bench.target(work, "≤ 350 bytes each", f"{each['forno']:,.0f} bytes", each["forno"] <= 350)


def wait_for_metric(client, name, condition):
    for _ in range(1000):
        client.send("GET", "/metrics")
        lines = client.receive()[1].decode().splitlines()
        if condition(next(float(line.split()[1]) for line in lines if line.startswith(name + " "))):
            return
        time.sleep(0.02)
    raise SystemExit(f"waited in vain for {name}")


@case("longpoll", "A waiting long poll")
def long_poll(bench):
    """The same with 10,000 connections that each wait for an order that bakes for hours (GET /orders/1, Prefer: wait=60)."""
    count, some = 10_000, 500  # at a time: fewer than the database queue takes
    server, crowd = bench.kitchen.forno("--bake-ms=10000000"), Crowd()
    client = Client(server)
    token = client.ask("POST", "/accounts", body={"name": "Ana"}, expect=201)["token"]
    order = client.ask("POST", "/orders", token, ORDER, 202)["id"]
    fields = f"Host: localhost\r\nAuthorization: Bearer {token}\r\nPrefer: wait=60"
    request = f"GET /orders/{order} HTTP/1.1\r\n{fields}\r\n\r\n".encode()
    before = server.rss_bytes()
    for joined in range(some, count + 1, some):
        crowd.join(server, some, request, answered=False)
        wait_for_metric(client, "forno_db_reads_total", lambda reads, joined=joined: reads >= joined)
        wait_for_metric(client, "forno_requests_live", lambda live, joined=joined: live > joined)
    after = server.rss_bytes()
    crowd.leave()
    client.close()
    each = (after - before) / count
    row = ["forno", megabytes(before), megabytes(after), f"{each:,.0f} bytes"]
    bench.table(["server", "before", "with 10,000 waiting", "each"], [row])
    work = "waiting long poll, of 10,000: resident memory"
    bench.target(work, "≤ 2,048 bytes each", f"{each:,.0f} bytes", each <= 2048)


@case("parser", "The parser")
def parser(bench):
    """http.c alone, fed whole requests out of warm memory: no sockets (bench/parse.c). 101 runs."""

    def measure():
        with machine.on_cpus(machine.SERVER_CPU):
            done = subprocess.run([os.path.join(BUILD, "parse")], capture_output=True, text=True, check=True)
        return [[float(word) for word in line.split()] for line in done.stdout.splitlines()]

    rows = []
    for (length, median, low, high), limit in zip(bench.undisturbed(measure), (120, 400)):
        rows.append([f"{length:.0f} bytes", f"{median:.0f} ({low:.0f} – {high:.0f})"])
        bench.target(f"parser, per request of {length:.0f} bytes", f"≤ {limit} ns", f"{median:.0f} ns", median <= limit)
    bench.table(["request", "ns"], rows)


@case("start", "Starting")
def start(bench):
    """From the fork to the line "listening on", with an existing database of 100,000 orders, and the resident memory then.
    Twenty times."""
    bench.database_with(100_000)
    bench.kitchen.stop_all()
    command = [bench.kitchen.forno_binary, "--port=0", "--log=off", f"--db={bench.database_path(100_000)}"]

    def start_some():
        took_ms, rss_mb = [], []
        for _ in range(20):
            with machine.on_cpus(machine.SERVER_CPU):
                begin = time.perf_counter()
                with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                    process.stdout.readline()
                    took_ms.append((time.perf_counter() - begin) * 1000)
                    rss_mb.append(machine.rss_bytes([process.pid]) / 1e6)
                    process.terminate()
        return took_ms, rss_mb

    took_ms, rss_mb = bench.undisturbed(start_some)
    bench.table(["", "ms to listening", "MB then"], [["forno", spread(took_ms, "{:.1f}"), spread(rss_mb, "{:.1f}")]])
    bench.target("start to listening, with a database", "< 20 ms", f"{mid(took_ms):.1f} ms", mid(took_ms) < 20)
    bench.target("resident memory then", "< 8 MB", f"{mid(rss_mb):.1f} MB", mid(rss_mb) < 8)


@case("roads", "SQLite and PostgreSQL under the same load")
def both_roads(bench):
    """What make roads does: 256 connections order for 64 customers, then 64 connections ask for an account; turn by turn. Here Forno,
    PostgreSQL and the generator share both CPUs, so compare within this table only. pgbench calls the function that places an order."""
    with machine.on_cpus(*range(os.cpu_count())):
        how, columns, rows, bars = bench.undisturbed(lambda: roads.compare(bench.kitchen, 5 * bench.seconds, 3 if bench.rounds > 2 else 1))
    bench.note(how)
    bench.table(["", *columns], [[name, *roads.texts(cells)] for name, cells in rows.items()])
    for what, value, bound, at_most in bars:
        bench.target(f"PostgreSQL: {what}", f"{'≤' if at_most else '≥'} {bound:g}", f"{value:.2f}", roads.met(value, bound, at_most))
