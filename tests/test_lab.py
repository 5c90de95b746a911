"""test_lab.py: the tutorial's demonstration, in numbers: three ways to wait, and what becomes of everybody else meanwhile.

The server's own figures are asked for where there are any; the client's clock is for what others notice of it."""

import re
import socket
import threading
import time

import pytest
from wire import IS_SANITIZED, assert_ledger_is_sound, start_together, together, wait_until

# What a hundred calls may cost on top of their waiting, and how long a lap may get with them. Sanitizers multiply the work, and others on this
# machine may have their own: what is done one after the other takes far longer still.
OVERHEAD_MS = 2000 if IS_SANITIZED else 300
LONGEST_LAP_MS = 50 if IS_SANITIZED else 5
ATTEMPTS = 5  # for figures that somebody else's work on this machine may spoil
UNDISTURBED = 10  # answers to /healthz, at least, while the loop is free: one that is not gives two


@pytest.fixture(scope="module")
def courier(start_shared_server):
    """A second server, so that blocking on the courier is not blocking on oneself."""
    return start_shared_server()


@pytest.fixture(scope="module")
def customer_of(start_shared_server, courier):
    """A server that calls the other one."""
    return start_shared_server("--courier", courier.url)


def fan_out(server, **query):
    r = server.api("GET", "/lab/socket?" + "&".join(f"{name}={value}" for name, value in query.items()))
    assert r.status == 200, f"got {r}"
    waterfall = r.json()
    calls, mode = waterfall["calls"], query.get("mode", "together")
    assert (waterfall["mode"], waterfall["n"], len(calls)) == (mode, query["n"], query["n"]), f"got {waterfall}"
    assert waterfall["failed"] == 0 and all(call["ok"] for call in calls)
    assert all(0 <= call["start_ms"] <= call["end_ms"] <= waterfall["total_ms"] for call in calls)
    assert abs(waterfall["sum_ms"] - sum(call["end_ms"] - call["start_ms"] for call in calls)) < 1
    assert all(call["end_ms"] - call["start_ms"] >= query["ms"] for call in calls), "expected nobody to get a quote sooner"
    return waterfall


def most_at_once(calls):
    """The largest number of calls that were out at the same time."""
    out = most = 0
    for _, change in sorted([(call["start_ms"], 1) for call in calls] + [(call["end_ms"], -1) for call in calls]):
        out += change
        most = max(most, out)
    return most


def best_of(attempts, ask, good):
    for _ in range(attempts):
        if good(result := ask()):
            break
    return result


def took_ms(response, what):
    return float(re.search(rf"\b{what};dur=([\d.]+)", response["Server-Timing"])[1])


class Bystander:
    """Somebody who asks for /healthz all the while, counts the answers, and notes how long one took at worst."""

    def __init__(self, server):
        self.server, self.answered, self.slowest = server, 0, 0.0

    def __enter__(self):
        self.stop, ready = threading.Event(), threading.Event()

        def ask(i):
            with self.server.connect() as client:
                while not self.stop.is_set():
                    began = time.monotonic()
                    assert client.api("GET", "/healthz").status == 200
                    self.slowest, self.answered = max(self.slowest, time.monotonic() - began), self.answered + 1
                    ready.set()
                    self.stop.wait(0.005)

        self.join = start_together(1, ask)
        ready.wait()
        self.answered = 0
        return self

    def __exit__(self, *exception):
        self.stop.set()
        self.join()


# ---------------------------------------------------------------- n calls to the courier

def test_a_hundred_calls_together_take_little_longer_than_one(server):
    limit_ms = 1.5 * 50 + OVERHEAD_MS
    w = best_of(ATTEMPTS, lambda: fan_out(server, n=100, ms=50),
                lambda w: w["total_ms"] <= limit_ms and w["longest_lap_ms"] <= LONGEST_LAP_MS)
    assert w["total_ms"] <= limit_ms, f"expected at most {limit_ms} ms, it took {w['total_ms']}"
    assert w["longest_lap_ms"] <= LONGEST_LAP_MS, f"got {w['longest_lap_ms']}"
    assert w["sum_ms"] >= 5000 and most_at_once(w["calls"]) == 64, "expected 64 at once, as many as may be out"


def test_the_other_ways_take_as_long_as_they_must(server):
    """Side by side: the loop has time for all of them."""
    queries = {"n": 100, "ms": 50, "mode": "sequence"}, {"n": 100, "ms": 50, "mode": "limit", "limit": 10}, {
        "n": 10, "ms": 100, "mode": "limit"}
    sequence, limit, default = together(3, lambda i: fan_out(server, **queries[i]))
    assert 5000 <= sequence["total_ms"] <= 1.5 * 5000 + OVERHEAD_MS and most_at_once(sequence["calls"]) == 1
    assert 500 <= limit["total_ms"] <= 1.5 * 500 + OVERHEAD_MS and most_at_once(limit["calls"]) == 10
    assert 200 <= default["total_ms"] <= 1.5 * 200 + OVERHEAD_MS and most_at_once(default["calls"]) == 5


def test_while_calls_are_out_together_nobody_else_waits(customer_of):
    with Bystander(customer_of) as bystander:
        fan_out(customer_of, n=60, ms=800)
    assert bystander.answered >= UNDISTURBED, f"expected /healthz to be answered all the while, got {bystander.answered} answers"


def test_while_the_loop_itself_waits_so_does_everybody(customer_of):
    with Bystander(customer_of) as bystander:
        w = fan_out(customer_of, n=8, ms=100, mode="blocking")
    assert 800 <= w["total_ms"] <= 1.5 * 800 + OVERHEAD_MS and most_at_once(w["calls"]) == 1
    assert w["longest_lap_ms"] >= 800 and bystander.slowest >= 0.75, f"got {w['longest_lap_ms']}, {bystander.slowest}"


def test_the_waterfall_can_be_read_in_a_terminal(server):
    r = server.api("GET", "/lab/socket?n=4&ms=40&mode=limit&limit=2", accept="text/plain")
    assert r.status == 200 and r.media_type == "text/plain" and r["Vary"] == "Accept"
    *bars, sums, lap = r.body.decode("utf-8").splitlines()
    drawn = [re.fullmatch(r" +(\d) \|( *)(=+)( *)\| +([\d.]+) to +([\d.]+) ms", bar) for bar in bars]
    assert all(drawn) and [int(bar[1]) for bar in drawn] == [1, 2, 3, 4], f"expected four bars, got {r.body.decode()}"
    assert all(sum(len(bar[i]) for i in (2, 3, 4)) == 60 for bar in drawn), "expected bars on the same scale"
    assert len(drawn[0][2]) == len(drawn[1][2]) == 0 and len(drawn[2][2]) >= 20 <= len(drawn[3][2]), "expected two by two"
    assert sums.startswith("limit: 4 calls took ") and "longest lap" in lap


def test_a_failed_call_is_shown_and_the_loop_does_not_wait_for_another(start_server):
    server = start_server("--courier", "http://127.0.0.1:1")
    w = server.api("GET", "/lab/socket?n=5&ms=1").json()
    assert w["failed"] == 5 and not any(call["ok"] for call in w["calls"])
    w = server.api("GET", "/lab/socket?n=5&ms=1&mode=blocking").json()
    assert (w["n"], w["failed"]) == (1, 1)
    assert b"  failed\n" in server.api("GET", "/lab/socket?n=5", accept="text/plain").body


@pytest.mark.file
def test_a_courier_that_hangs_holds_a_loop_that_waits_in_place_once(start_server):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        courier = "--courier", "http://127.0.0.1:%d" % silent.getsockname()[1]
        ways = [("blocking", start_server(*courier))]
        ways += [(mode, start_server(*courier, "--blocking")) for mode in ("together", "sequence", "limit", "blocking")]
        for w in together(len(ways), lambda i: ways[i][1].api("GET", f"/lab/socket?n=3&ms=1&limit=2&mode={ways[i][0]}").json()):
            assert (w["n"], w["failed"]) == (1, 1) and 4900 < w["total_ms"] < 7000, f"got {w}"


@pytest.mark.parametrize("mode", ["together", "sequence", "limit"])
def test_a_client_who_leaves_amid_a_fan_out_leaves_nothing_behind(start_server, mode):
    """What is out ends; what has not begun is not begun any more."""
    server = start_server()
    with server.connect() as client:
        client.ask("GET", f"/lab/socket?n=256&ms=100&mode={mode}")
        server.wait_for_metric("forno_requests_live", lambda n: n >= 3)
        client.reset()
    server.wait_for_metric("forno_requests_live", lambda n: n <= 1)
    text = server.api("GET", "/metrics").body.decode()
    quotes = int(re.search(r'forno_requests_total{route="/courier/quote",status="200"} (\d+)', text)[1])
    assert quotes == 256 if mode == "together" else quotes < 50, f"got {quotes} quotes"


def test_several_fan_outs_share_the_calls_and_some_may_be_too_many(start_server):
    """Four times 256 calls: 64 out, 256 in line, and the others are told at once."""
    server = start_server()
    answers = together(4, lambda i: server.api("GET", "/lab/socket?n=256&ms=50").json())
    failed = sum(w["failed"] for w in answers)
    assert all(w["n"] == 256 for w in answers) and failed <= 4 * 256 - 64 - 256, f"got {failed} failed calls"
    assert fan_out(server, n=256, ms=0)["failed"] == 0


# ---------------------------------------------------------------- blocking on oneself

@pytest.mark.file
def test_a_loop_that_would_wait_for_itself_says_so(server, start_server):
    def assert_refused(server, path, token=None):
        began = time.monotonic()
        r = server.api("GET", path, token=token)
        assert (r.status, r.problem) == (409, "would-deadlock") and time.monotonic() - began < 3, f"got {r}"
        commands = re.findall(r"\./server --\w+ \S+", r.json()["detail"])
        assert len(commands) == 2, f"expected the two commands that help, got {r.json()['detail']}"

    assert_refused(server, "/lab/socket?n=1&ms=1&mode=blocking")
    blocking = start_server("--blocking")
    ana = blocking.customer()
    order = ana.order().json()["id"]
    assert_refused(blocking, f"/orders/{order}/delivery", ana.token)
    for mode in ("together", "sequence", "limit", "blocking"):
        assert_refused(blocking, f"/lab/socket?n=2&ms=1&mode={mode}")
    assert blocking.api("GET", f"/orders/{order}/delivery", token="x" * 43).status == 401, "expected strangers to learn nothing"


@pytest.fixture
def port():
    """One that nobody has and nobody else takes, at any address: bound, but not listened on, it leaves room for a server that says
    SO_REUSEADDR too."""
    with socket.socket(socket.AF_INET6) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        holder.bind(("::", 0))
        yield holder.getsockname()[1]


@pytest.mark.parametrize("host, spelling", [
    ("127.0.0.1", "http://127.0.0.1:{port}/"), ("127.0.0.1", "HTTP://127.0.0.1:{port}/a/prefix"),
    ("127.0.0.1", "http://localhost:{port}"), ("127.0.0.1", "http://LOCALHOST:{port}//"), ("127.0.0.1", "http://127.1:{port}"),
    ("127.0.0.1", "http://0.0.0.0:{port}"), ("127.0.0.1", "http://[::ffff:127.0.0.1]:{port}"),
    ("localhost", "http://127.0.0.1:{port}"),
    ("0.0.0.0", "http://127.0.0.1:{port}"), ("0.0.0.0", "http://127.0.0.9:{port}"), ("0.0.0.0", "http://{host}:{port}"),
    ("::", "http://[::1]:{port}"), ("::", "http://127.0.0.1:{port}"), ("::", "http://[0::0]:{port}")])
def test_a_loop_knows_itself_however_it_is_spelled(start_server, port, host, spelling):
    courier = spelling.format(host=socket.gethostname(), port=port)
    server = start_server("--host", host, "--port", str(port), "--courier", courier, "--lab")
    began = time.monotonic()
    r = server.api("GET", "/lab/socket?n=1&ms=1&mode=blocking")
    assert (r.status, r.problem) == (409, "would-deadlock") and time.monotonic() - began < 3, f"got {r}"


@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
def test_another_server_on_the_same_port_is_not_oneself(start_server, port, host):
    other = start_server("--host", host, "--port", str(port))
    server = start_server("--port", str(port), "--courier", other.url)
    assert fan_out(server, n=2, ms=1, mode="blocking")["failed"] == 0


# ---------------------------------------------------------------- the whole service, every wait in place

@pytest.mark.file
def test_the_blocking_service_says_the_same_only_later(start_server, courier):
    server = start_server("--blocking", "--courier", courier.url)
    ana, bob = server.customer("Ana"), server.customer("Bob")

    def live(i):
        """A day of one customer."""
        me, other = ((ana, bob), (bob, ana))[i % 2]
        r = me.order(2, prefer="wait=5")
        assert r.status == 201 and r.json()["status"] == "ready" and "oven;dur=" in r["Server-Timing"], f"got {r}"
        order = r.json()["id"]
        assert me.api("GET", f"/orders/{order}/delivery").json() == {"order_id": order, "price_cents": 600, "eta_minutes": 21}
        baking = me.order(100).json()["id"]
        assert me.api("DELETE", f"/orders/{baking}").json()["status"] == "cancelled"
        for _ in range(2):
            assert me.transfer(other.id, 100, f"key-{i}").status == 201
        assert me.transfer(other.id, 10**9, f"much-{i}").problem == "insufficient-funds"
        assert me.api("GET", f"/orders/{order}", prefer="wait=1").status == 200
        assert me.api("GET", f"/accounts/{other.id}").status == 403
        return order

    orders = together(4, live)
    for customer, mine in (ana, orders[::2]), (bob, orders[1::2]):
        assert {order["id"] for order in customer.orders("&status=ready")} == set(mine)
        assert customer.balance() == customer.opening - 2 * 2 * 3500 == sum(e["amount_cents"] for e in customer.entries())
    for path in ("/", "/menu", "/healthz", "/readyz", "/metrics", "/problems", "/courier/quote?ms=10", "/lab/timer?ms=10",
                 "/lab/thread?ms=10", "/lab/block?ms=10"):
        assert server.api("GET", path).status == 200, path
    assert server.api("POST", "/lab/lost-update").status == 200
    assert server.api("GET", "/nowhere").status == 404
    for mode in ("together", "sequence", "limit", "blocking"):
        w = fan_out(server, n=4, ms=50, mode=mode)
        assert w["total_ms"] >= 4 * 50 and most_at_once(w["calls"]) == 1, "expected one after the other, whatever was asked"
    server.stop()
    assert_ledger_is_sound(server.db)


@pytest.mark.file
def test_in_the_blocking_service_everybody_waits_for_everything(start_server, courier):
    server = start_server("--blocking", "--courier", courier.url)
    ana = server.customer()
    order = ana.order().json()["id"]
    waits = {"the oven": lambda: ana.order(3, prefer="wait=5"), "the courier": lambda: ana.api("GET", f"/orders/{order}/delivery"),
             "a query": lambda: server.api("GET", "/lab/thread?ms=300"), "a timer": lambda: server.api("GET", "/lab/timer?ms=300")}
    for what, ask in waits.items():
        with Bystander(server) as bystander:
            assert ask().status < 300
        assert bystander.slowest >= 0.25, f"expected /healthz to wait for {what}, it took {bystander.slowest:.3f} s at most"


# ---------------------------------------------------------------- the other ways to wait

def test_a_hundred_timers_run_side_by_side(server):
    def nap(i):
        r = server.api("GET", "/lab/timer?ms=300")
        assert r.status == 200 and took_ms(r, "timer") >= 299, f"got {r}"  # from within the step, which has begun a little before
        return r.json()["waited_ms"]

    with Bystander(server) as bystander:
        began = time.monotonic()
        waited = together(100, nap)
        took = time.monotonic() - began
    assert all(300 <= ms <= 300 + OVERHEAD_MS for ms in waited) and took < 0.3 + 10 * OVERHEAD_MS / 1000
    assert bystander.answered >= UNDISTURBED, f"got {bystander.answered}"


@pytest.mark.file
def test_a_slow_query_keeps_only_queries_waiting(server, ana):
    """Of two slow queries the second waits for the first; somebody's balance waits for both; /healthz for none."""
    with Bystander(server) as bystander, server.connect() as one, server.connect() as two:
        one.ask("GET", "/lab/thread?ms=1000")
        server.wait_for_metric("forno_db_busy", lambda n: n == 1)
        two.ask("GET", "/lab/thread?ms=1000")
        server.wait_for_metric("forno_db_queue_depth", lambda n: n == 1)
        began = time.monotonic()
        assert ana.balance() == ana.opening
        assert time.monotonic() - began > 0.99, "expected the balance to wait for the worker"
        first, second = one.response(), two.response()
    assert first.json()["waited_ms"] >= 1000 and took_ms(first, "db") >= 999, f"got {first}"
    assert second.json()["waited_ms"] >= 1000 + took_ms(second, "queue") and took_ms(second, "queue") >= 1, f"got {second}"
    assert bystander.answered >= UNDISTURBED, f"expected /healthz to be answered all the while, got {bystander.answered} answers"


@pytest.mark.contract
def test_a_slow_query_for_nobody_ends(server, ana):
    with server.connect() as client:
        client.ask("GET", "/lab/thread?ms=10000")
        server.wait_for_metric("forno_requests_live", lambda n: n >= 2)
        client.reset()
    began = time.monotonic()
    assert ana.balance() == ana.opening
    assert time.monotonic() - began < 2, "expected the worker to be free"


def test_everybody_waits_while_the_loop_is_blocked(server):
    with Bystander(server) as bystander:
        assert server.api("GET", "/lab/block?ms=400").json()["waited_ms"] >= 400
    assert bystander.slowest >= 0.35


@pytest.mark.contract
def test_an_answer_says_what_it_waited_for(customer_of):
    ana = customer_of.customer()
    order = ana.order(prefer="wait=5")
    for r, waits in (
        (order, {"db", "queue", "oven"}),
        (ana.api("GET", f"/orders/{order.json()['id']}/delivery"), {"db", "queue", "upstream"}),
        (customer_of.api("GET", "/lab/socket?n=1&ms=1"), {"upstream"}),
        (customer_of.api("GET", "/lab/socket?n=1&ms=1&mode=blocking"), {"upstream"}),
        (customer_of.api("GET", "/lab/timer?ms=1"), {"timer"}),
        (customer_of.api("GET", "/lab/thread?ms=1"), {"db", "queue"}),
        (customer_of.api("POST", "/lab/lost-update"), {"timer", "db", "queue"}),
        (customer_of.api("GET", "/courier/quote?ms=1"), {"timer"}),
    ):
        assert r.status < 300 and set(re.findall(r"([a-z]+);dur=\d+\.\d+", r["Server-Timing"] or "")) == waits, f"got {r}"


def test_a_stall_is_logged_with_the_step_that_took_it_and_counted(start_server, courier):
    server = start_server("--courier", courier.url, "--stall-ms", "100")
    for path in ("/lab/block?ms=50", "/lab/timer?ms=150", "/lab/thread?ms=150", "/lab/socket?n=1&ms=150"):
        server.api("GET", path)
    if not IS_SANITIZED:
        assert server.metric("forno_stalls_total") == 0 and "stood still" not in server.stderr()
    before = server.metric("forno_stalls_total")
    for path, step in ("/lab/block?ms=150", "get_lab_block"), ("/lab/socket?n=2&ms=100&mode=blocking", "get_lab_socket"):
        server.api("GET", path)
        pattern = rf"stood still for [12]\d\d\.\d ms: {step} took [12]\d\d\.\d ms"
        wait_until(lambda: re.search(pattern, server.stderr()), server.stderr)
    assert server.metric("forno_stalls_total") >= before + 2


# ---------------------------------------------------------------- lost updates

@pytest.mark.contract
def test_money_goes_missing_between_reading_and_writing_but_not_in_the_ledger(start_server):
    server = start_server()
    for r in together(5, lambda i: server.api("POST", "/lab/lost-update")):
        assert r.status == 200, f"got {r}"
        lost, toy, ledger = (r.json().get(key) for key in (None, "read_wait_write", "ledger"))
        assert toy["expected_cents"] == ledger["expected_cents"] == ledger["balance_cents"] == 10000 - 50 * 100
        assert ledger["missing_cents"] == 0
        assert toy["missing_cents"] == toy["balance_cents"] - toy["expected_cents"] > 0, "expected money to have gone missing"
    server.stop()
    assert_ledger_is_sound(server.db)


# ---------------------------------------------------------------- who may use it, and how much

LAB = ["/lab/timer?ms=0", "/lab/thread?ms=0", "/lab/socket?n=1&ms=0", "/lab/block?ms=0", "/loop"]
LAB = [(method, path) for path in LAB for method in ("GET", "HEAD")] + [("HEAD", "/loop/events"), ("POST", "/lab/lost-update")]


@pytest.mark.parametrize("options, is_open", [
    ((), True), (("--no-lab",), False), (("--host", "0.0.0.0"), False), (("--host", "0.0.0.0", "--lab"), True)],
    ids=["loopback", "no-lab", "network", "network-lab"])
def test_the_lab_is_open_to_this_machine_and_else_on_demand(start_server, options, is_open):
    server = start_server(*options)
    for method, path in LAB:
        assert server.api(method, path).status == (200 if is_open else 404), (method, path)
    menu = server.api("GET", "/").body.decode()
    assert ("/lab/" in menu) == ("/loop" in menu) == is_open, "expected the menu to list what is open, and nothing else"
    ana = server.customer()
    assert ana.api("GET", f"/orders/{ana.order().json()['id']}/delivery").status == 200, "expected the courier to work anyway"


@pytest.mark.parametrize("path", [
    "/lab/timer?ms=60001", "/lab/timer?ms=-1", "/lab/timer?ms=x", "/lab/timer?ms=9999999999999999999999", "/lab/timer?ms=1e3",
    "/lab/thread?ms=10001", "/lab/block?ms=10001", "/lab/socket?n=0", "/lab/socket?n=257", "/lab/socket?ms=4001",
    "/lab/socket?mode=limit&limit=0", "/lab/socket?mode=limit&limit=257", "/lab/socket?mode=", "/lab/socket?mode=fast",
    "/lab/socket?mode=blocking&n=101&ms=100"])
def test_what_is_asked_of_the_lab_is_bounded(customer_of, path):
    r = customer_of.api("GET", path)
    assert (r.status, r.problem) == (400, "bad-parameter"), f"got {r}"


@pytest.mark.contract
def test_looking_changes_nothing(server, ana):
    """Whatever a safe method asks of the lab, the next account has the next number and no money has moved."""
    before, entries = ana.id, len(ana.entries())
    for method, path in LAB:
        if method != "POST":
            assert server.api(method, path).status == 200
    for method in ("GET", "HEAD"):
        r = server.api(method, "/lab/lost-update")
        assert r.status == 405 and r["Allow"] == "POST, OPTIONS", f"got {r}"
    assert server.customer().id == before + 1 and len(ana.entries()) == entries


# ---------------------------------------------------------------- pages of other sites

OURS = ["127.0.0.1:{port}", "127.0.0.1", "localhost:{port}", "LOCALHOST:1", "localhost", "pizza.localhost:{port}", "127.1.2.3",
        "[::1]:{port}", "[::1]", "localhost:"]
NOT_OURS = ["forno", "example.com:{port}", "127.0.0.1.example.com", "localhost.example.com", "notlocalhost", "192.168.0.7:{port}",
            "127.example", "10.127.0.0.1", "[::2]", "[fe80::1]:{port}", "0.0.0.0"]
SAME_SITE = [{}, {"sec_fetch_site": "none"}, {"sec_fetch_site": "same-origin"}, {"origin": "http://{host}"},
             {"sec_fetch_site": "same-origin", "origin": "http://{host}"}, {"sec_fetch_site": "same-origin", "origin": "null"}]
OTHER_SITE = [{"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"}, {"sec_fetch_site": "cross-origin"},
              {"sec_fetch_site": "cross-site", "origin": "http://{host}"}, {"origin": "http://example.com"}, {"origin": "null"},
              {"origin": "http://localhost:1"}, {"origin": "http://{host}.example.com"}, {"origin": "{host}"}]


def visit(server, method, path, host, fields):
    host = host.format(port=server.port)
    return server.api(method, path, host=host, **{name: value.format(host=host) for name, value in fields.items()})


def assert_refused(r):
    assert r.status == 403 and (r.method == "HEAD" or r.problem == "cross-site"), f"got {r}"


def test_our_own_page_and_those_who_are_no_browser_are_let_in(server):
    for host in OURS:
        assert visit(server, "GET", "/loop", host, {}).status == 200, host
    for method, path in LAB:
        for fields in SAME_SITE:
            assert visit(server, method, path, "localhost:{port}", fields).status == 200, (method, path, fields)
    with server.connect() as client:
        assert client.send(b"GET /loop HTTP/1.0\r\n\r\n").response().status == 200, "expected HTTP/1.0 to need no Host"


def test_pages_of_other_sites_are_kept_out(server):
    accounts = server.customer().id
    for host in NOT_OURS:
        assert_refused(visit(server, "GET", "/loop", host, {}))
    for method, path in LAB:
        for fields in OTHER_SITE:
            assert_refused(visit(server, method, path, "localhost:{port}", fields))
    with server.connect() as client:
        assert_refused(client.api("GET", "http://example.com/loop", host=f"127.0.0.1:{server.port}"))
        assert client.api("GET", f"http://127.0.0.1:{server.port}/loop", host="example.com").status == 200
    assert server.customer().id == accounts + 1, "expected nothing to have been written"
    detail = visit(server, "GET", "/loop", "forno", {}).json()["detail"]
    assert "localhost" in detail and "curl" in detail and "--lab" in detail, "expected to be told what helps"


def test_what_is_open_to_everybody_is_open_to_pages_of_other_sites(server):
    for path in ("/", "/page/main.js", "/menu", "/healthz", "/metrics", "/openapi.json", "/courier/quote?ms=0"):
        for host, fields in (("forno", {}), ("localhost", OTHER_SITE[0]), ("localhost", OTHER_SITE[4])):
            assert visit(server, "GET", path, host, fields).status == 200, path
    for host, lists in ("localhost", True), ("forno", False):
        menu = visit(server, "GET", "/", host, {}).body
        assert (b"/lab/" in menu) == (b"/loop" in menu) == lists, f"expected the menu to list what {host} may use"


def test_a_lab_that_was_opened_is_open_under_any_name(start_server):
    """Behind a proxy, in a container: who says --lab has decided who may reach it."""
    for options in ("--lab",), ("--lab", "--host", "0.0.0.0"):
        server = start_server(*options)
        for host in OURS[:1] + NOT_OURS:
            assert visit(server, "GET", "/loop", host, {}).status == 200


def test_the_name_it_was_told_to_listen_on_is_one_of_ours(start_server):
    server = start_server("--host", socket.gethostname())
    if server.api("GET", "/loop").status != 200:
        pytest.skip("the name of this machine is no loopback address here")
    assert visit(server, "GET", "/loop", socket.gethostname().upper() + ":{port}", {}).status == 200
    assert_refused(visit(server, "GET", "/loop", "x" + socket.gethostname(), {}))


# ---------------------------------------------------------------- Accept

@pytest.mark.parametrize("accept, text", [
    (None, False), ("", False), ("*/*", False), ("application/json", False), ("text/plain", True), ("text/*", True),
    ("TEXT/PLAIN", True), ("text/plainly", False), ("xtext/plain", False),
    ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False), ("text/plain, */*;q=0.1", True),
    ("text/plain;q=0", False), ("text/plain;q=0, */*", False), ("text/plain;q=0.000", False),
    ("application/json, text/plain", False), ("application/json;q=0.5, text/plain", True),
    ("application/json;Q=0.5, text/plain", True), ("application/json;aq=0.5, text/plain;aq=1", False),
    ("application/json;q=0.51, text/plain;q=0.509", False), ("text/plain ; q=0.5 , application/json;q=0.4", True),
    ("text/plain;charset=utf-8;q=1, */*;q=0.9", True), ("application/*;q=0.2, text/plain;q=0.3", True),
    ("*/*, application/json;q=0.1", True), ("text/*;q=0.9, text/plain;q=0.1, */*;q=0.5", False),
    *((f"text/plain;q={no_weight}, application/json;q=0.1", False) for no_weight in ("2", ".9", "0.1234", "", "1.001", "0,9"))])
def test_the_waterfall_is_json_or_text_as_accept_prefers(server, accept, text):
    r = server.api("GET", "/lab/socket?n=1&ms=0", accept=accept)
    assert r.status == 200 and r.media_type == ("text/plain" if text else "application/json") and r["Vary"] == "Accept", f"got {r}"


def test_accept_may_stand_in_several_fields(server):
    with server.connect() as client:
        client.send(b"GET /lab/socket?n=1&ms=0 HTTP/1.1\r\nHost: localhost\r\n"
                    b"Accept: application/json;q=0.1\r\nAccept: text/*\r\n\r\n")
        assert client.response().media_type == "text/plain"
