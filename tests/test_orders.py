"""test_orders.py: the pizzeria. Orders leave as they get ready, not as they came; waiting costs nobody anything."""

import re
import time

import pytest
import wire
from wire import TOLERANCE, seconds_since_epoch, together, wait_until

pytestmark = pytest.mark.contract

WAIT = {"prefer": "wait=10"}


def price(server, flavor="margherita"):
    return next(p["price_cents"] for p in server.api("GET", "/menu").json()["pizzas"] if p["flavor"] == flavor)


def assert_punctual(order, arrived):
    """The answer came not before the order was ready, and at once when it was. Instants are cut to milliseconds."""
    late = arrived - seconds_since_epoch(order["ready_at"])
    assert -0.001 <= late <= TOLERANCE, f"expected the answer when ready, it came {late * 1000:.0f} ms after"


# ---------------------------------------------------------------- menu and orders

def test_the_menu_names_flavors_prices_and_times(server):
    r = server.api("GET", "/menu")
    pizzas = r.json()["pizzas"]
    assert r.status == 200 and all({"flavor", "price_cents", "bake_ms"} <= set(pizza) for pizza in pizzas)
    assert {"flavor": "margherita", "price_cents": 3500, "bake_ms": 100}.items() <= pizzas[0].items()


def test_every_pizza_on_the_menu_can_be_ordered_at_its_price(server, ana):
    for pizza in server.api("GET", "/menu").json()["pizzas"]:
        r = ana.order(2, pizza["flavor"])
        assert r.status == 202 and r.json()["price_cents"] == 2 * pizza["price_cents"], f"expected 202, got {r}"


def test_an_order_is_taken_paid_and_baking(server, ana):
    before = time.time()
    r = ana.order(10)
    order = r.json()
    assert r.status == 202 and r["Location"] == f"/orders/{order['id']}" and r["Cache-Control"] == "no-store"
    assert re.fullmatch(r"\d+", r["Retry-After"] or ""), f"expected Retry-After in seconds, got {r}"
    assert set(order) == {"id", "status", "flavor", "pizzas", "price_cents", "placed_at", "ready_at", "ready_in_ms"}
    assert (order["status"], order["flavor"], order["pizzas"]) == ("baking", "margherita", 10)
    assert order["price_cents"] == 10 * price(server) and ana.balance() == ana.opening - order["price_cents"]
    placed, ready = seconds_since_epoch(order["placed_at"]), seconds_since_epoch(order["ready_at"])
    assert ready - placed == pytest.approx(10 * 0.100, abs=0.002), "expected ten pizzas to take ten times one"
    assert before - 0.001 <= placed <= time.time() and 0 < order["ready_in_ms"] <= 1000
    assert (ana.entries()[0]["kind"], ana.entries()[0]["amount_cents"]) == ("order", -order["price_cents"])


def test_an_order_can_be_looked_up(ana):
    placed = ana.order(10).json()
    r = ana.api("GET", f"/orders/{placed['id']}")
    assert r.status == 200 and r["Cache-Control"] == "no-store"
    assert {**r.json(), "ready_in_ms": 0} == {**placed, "ready_in_ms": 0}


@pytest.mark.parametrize("body, statuses", [
    ({"flavor": "pineapple", "pizzas": 1}, (404, 422)),
    ({"flavor": "", "pizzas": 1}, (404, 422)),
    ({"flavor": "Margherita' --", "pizzas": 1}, (404, 422)),
    ({"flavor": "margherita", "pizzas": 0}, (422,)),
    ({"flavor": "margherita", "pizzas": -1}, (422,)),
    ({"flavor": "margherita", "pizzas": 2**31}, (409, 422)),
    ({"flavor": "margherita", "pizzas": 2**53 - 1}, (409, 422)),
])
def test_an_impossible_order_is_refused_and_costs_nothing(body, statuses, ana):
    r = ana.api("POST", "/orders", body)
    assert r.status in statuses, f"expected {statuses}, got {r}"
    assert ana.balance() == ana.opening and ana.orders() == []


def test_an_order_one_cannot_pay_is_409(server, ana, bob):
    assert ana.transfer(bob.id, ana.opening - price(server) + 1, "leave-too-little").status == 201
    r = ana.order(1)
    assert r.status == 409 and r.problem == "insufficient-funds", f"expected insufficient-funds, got {r}"
    assert ana.balance() == price(server) - 1 and ana.orders() == []


def test_the_order_of_one_leaves_before_the_order_of_ten_placed_first(ana):
    left = []

    def order(i):
        with ana.server.connect() as client:
            r = client.ask("GET", f"/orders/{orders[i]['id']}", token=ana.token, **WAIT).response()
            left.append(r.json()["pizzas"])
            assert_punctual(r.json(), time.time())

    orders = [ana.order(10).json(), ana.order(1).json()]
    together(2, order)
    assert left == [1, 10], f"expected the order of one to leave first, got {left}"


def test_orders_bake_side_by_side(ana):
    began = time.monotonic()
    answers = together(20, lambda i: ana.order(3, **WAIT))
    assert [r.status for r in answers] == [201] * 20
    assert time.monotonic() - began < 1.5, "expected twenty orders of 0.3 s not to take six seconds"


# ---------------------------------------------------------------- Prefer: wait

def test_an_order_that_is_waited_for_comes_ready_and_on_time(ana):
    r = ana.order(2, prefer="wait=5")
    arrived, order = time.time(), r.json()
    assert r.status == 201 and order["status"] == "ready" and order["ready_in_ms"] == 0, f"expected it ready, got {r}"
    assert r["Preference-Applied"] == "wait=5" and r["Location"] == f"/orders/{order['id']}"
    assert "oven" in r["Server-Timing"] and "db" in r["Server-Timing"]
    assert_punctual(order, arrived)


def test_a_look_at_an_order_can_wait_too(ana):
    placed = ana.order(3).json()
    r = ana.api("GET", f"/orders/{placed['id']}", prefer="wait=5")
    arrived = time.time()
    assert r.status == 200 and r.json()["status"] == "ready" and r["Preference-Applied"] == "wait=5"
    assert_punctual(placed, arrived)


def test_a_wait_that_is_too_short_gives_what_is_true_then(slow_oven):
    ana = slow_oven.customer()
    began = time.monotonic()
    r = ana.order(1, prefer="wait=1")
    waited = time.monotonic() - began
    assert r.status == 202 and r.json()["status"] == "baking" and r["Preference-Applied"] == "wait=1"
    assert 0.99 <= waited <= 1 + TOLERANCE, f"expected a wait of 1 s, got {waited:.3f}"
    began = time.monotonic()
    r = ana.api("GET", f"/orders/{r.json()['id']}", prefer="wait=1")
    assert r.status == 200 and r.json()["status"] == "baking" and time.monotonic() - began >= 0.99


@pytest.mark.parametrize("preference", ["wait=x", "wait=-1", "wait=", "wait", "wait, wait=5", "waits=5", "respond-async", "wait=1.5"])
def test_a_preference_that_makes_no_sense_is_ignored(preference, slow_oven):
    began = time.monotonic()
    r = slow_oven.customer().order(1, prefer=preference)
    assert r.status == 202 and r["Preference-Applied"] is None and time.monotonic() - began < 0.9, f"got {r}"


@pytest.mark.parametrize("preference", ["respond-async, wait=5", "WAIT=5", "wait = 5", 'wait="5"', "wait=5; foo=bar",
                                        "handling=lenient,wait=5", "wait=5, wait=0", "wait=99999999999999999999"])
def test_a_preference_is_understood_as_rfc_7240_writes_it(preference, ana):
    """Of two, the first counts; a number beyond all bounds is a long time, or ignored."""
    r = ana.order(1, prefer=preference)
    assert r.status == 201 or (r.status == 202 and "999" in preference), f"expected it to wait, got {r}"


def test_a_preference_may_stand_in_any_of_several_fields(ana):
    with ana.server.connect() as client:
        fields = f"Authorization: Bearer {ana.token}\r\nContent-Type: application/json\r\nContent-Length: 34"
        client.send(f"POST /orders HTTP/1.1\r\nHost: a\r\n{fields}\r\nPrefer: respond-async\r\nPrefer: wait=5\r\n\r\n"
                    '{"flavor":"margherita","pizzas":1}'.encode())
        assert client.response().status == 201, "expected it to wait"


def test_a_ready_order_is_not_waited_for(ana):
    order = ana.order(1, **WAIT).json()
    began = time.monotonic()
    assert ana.api("GET", f"/orders/{order['id']}", prefer="wait=10").json()["status"] == "ready"
    assert time.monotonic() - began < 1


def test_fifty_may_wait_for_one_order(ana):
    order = ana.order(5).json()

    def wait(i):
        r = ana.api("GET", f"/orders/{order['id']}", **WAIT)
        return r.json()["status"], time.time()

    for status, arrived in together(50, wait):
        assert status == "ready"
        assert -0.001 <= arrived - seconds_since_epoch(order["ready_at"]) <= 1, "expected all to be told then"


# ---------------------------------------------------------------- cancelling

def test_a_cancelled_order_is_paid_back_once(slow_oven):
    ana = slow_oven.customer()
    order = ana.order(2).json()
    r = ana.api("DELETE", f"/orders/{order['id']}")
    assert r.status == 200 and r.json()["status"] == "cancelled", f"expected it cancelled, got {r}"
    assert ana.balance() == ana.opening
    assert [(e["kind"], e["amount_cents"]) for e in ana.entries()[:2]] == [
        ("refund", order["price_cents"]), ("order", -order["price_cents"])]
    assert ana.api("DELETE", f"/orders/{order['id']}").status in (200, 409)
    assert ana.balance() == ana.opening, "expected the money back only once"
    assert ana.api("GET", f"/orders/{order['id']}", prefer="wait=5").json()["status"] == "cancelled"


def test_fifty_clients_cancel_one_order_and_are_paid_back_once(slow_oven):
    ana = slow_oven.customer()
    order = ana.order(2).json()
    together(50, lambda i: ana.api("DELETE", f"/orders/{order['id']}"))
    assert ana.balance() == ana.opening and [e["kind"] for e in ana.entries()] == ["refund", "order", "opening"]


def test_a_ready_order_cannot_be_cancelled(ana):
    order = ana.order(1, **WAIT).json()
    r = ana.api("DELETE", f"/orders/{order['id']}")
    assert r.status == 409 and r.problem == "already-ready", f"expected already-ready, got {r}"
    assert ana.balance() == ana.opening - order["price_cents"]


@pytest.mark.parametrize("placing", [True, False], ids=["the one who placed it", "the one who looks"])
def test_cancelling_wakes_whoever_waits(placing, slow_oven):
    ana = slow_oven.customer()
    idle = slow_oven.metric("forno_requests_live")
    with slow_oven.connect() as waiter:
        if placing:
            waiter.ask("POST", "/orders", {"flavor": "margherita", "pizzas": 1}, ana.token, prefer="wait=60")
        else:
            waiter.ask("GET", f"/orders/{ana.order().json()['id']}", token=ana.token, prefer="wait=60")
        slow_oven.wait_for_metric("forno_requests_live", lambda n: n > idle)
        wait_until(ana.orders)
        assert ana.api("DELETE", f"/orders/{ana.orders()[0]['id']}").status == 200
        r = waiter.response()
        assert r.status in (200, 202) and r.json()["status"] == "cancelled", f"expected to be told, got {r}"


# ---------------------------------------------------------------- whose order it is

def test_another_ones_order_is_404_as_if_it_were_not_there(server, ana, bob):
    order = ana.order(10).json()
    for method in ("GET", "DELETE"):
        there, nowhere = bob.api(method, f"/orders/{order['id']}"), bob.api(method, "/orders/999999")
        assert there.status == nowhere.status == 404, f"expected 404 twice, got {there} and {nowhere}"
        blank = [re.sub(rb"\d+", b"N", r.body) for r in (there, nowhere)]
        assert blank[0] == blank[1], "expected the same answer whether the order exists or not"
    assert bob.api("GET", f"/orders/{order['id']}", prefer="wait=5").status == 404
    assert bob.orders() == [] and [o["id"] for o in ana.orders()] == [order["id"]]
    assert ana.api("GET", f"/orders/{order['id']}").json()["status"] == "baking"


def test_orders_are_listed_newest_first_and_by_status(slow_oven):
    ana = slow_oven.customer()
    ids = [ana.order().json()["id"] for _ in range(5)]
    ana.api("DELETE", f"/orders/{ids[2]}")
    assert [o["id"] for o in ana.orders()] == ids[::-1]
    assert [o["id"] for o in ana.orders("&status=cancelled")] == [ids[2]]
    assert [o["id"] for o in ana.orders("&status=baking")] == [i for i in ids[::-1] if i != ids[2]]
    assert ana.orders("&status=ready") == []
    assert ana.api("GET", "/orders?status=burnt").status in (400, 422)


def test_a_page_of_orders_names_the_next(slow_oven):
    ana = slow_oven.customer()
    ids = [ana.order().json()["id"] for _ in range(6)]
    ana.api("DELETE", f"/orders/{ids[2]}")
    first = ana.api("GET", "/orders?limit=2&status=baking")
    assert [o["id"] for o in first.json()["orders"]] == [ids[5], ids[4]]
    assert first["Link"] == f'<{first.json()["next"]}>; rel="next"'
    second = ana.api("GET", first.json()["next"])
    assert [o["id"] for o in second.json()["orders"]] == [ids[3], ids[1]], "expected the same filter on every page"
    assert ana.api("GET", f"/orders?before={ids[0]}").json() == {"orders": [], "next": None}


# ---------------------------------------------------------------- Idempotency-Key

def test_an_order_with_a_key_is_placed_once(slow_oven):
    ana = slow_oven.customer()
    first, second = (ana.order(2, idempotency_key="supper") for _ in range(2))
    assert first.status == 202 and first["Idempotent-Replayed"] is None
    assert second.status == 202 and second["Idempotent-Replayed"] == "true", f"expected a replay, got {second}"
    assert second.json()["id"] == first.json()["id"] and second["Location"] == first["Location"]
    assert ana.order(3, idempotency_key="supper").status == 422
    assert len(ana.orders()) == 1 and ana.balance() == ana.opening - first.json()["price_cents"]


def test_fifty_clients_with_one_key_place_one_order(slow_oven):
    ana = slow_oven.customer()
    answers = together(50, lambda i: ana.order(1, idempotency_key="supper"))
    assert [r.status for r in answers] == [202] * 50 and len({r.json()["id"] for r in answers}) == 1
    assert len(ana.orders()) == 1


def test_fifty_clients_cannot_eat_for_more_than_they_have(slow_oven):
    """Money for ten of fifty."""
    ana, bob = slow_oven.customer("Ana"), slow_oven.customer("Bob")
    assert ana.transfer(bob.id, ana.opening - 10 * price(slow_oven) - 1, "leave-money-for-ten").status == 201
    statuses = sorted(r.status for r in together(50, lambda i: ana.order(1)))
    assert statuses == [202] * 10 + [409] * 40, f"expected 10 orders and 40 refusals, got {statuses}"
    assert ana.balance() == 1 and len(ana.orders()) == 10


# ---------------------------------------------------------------- events

def test_who_is_cut_off_before_the_first_event_has_an_id_to_come_back_with(slow_oven):
    ana = slow_oven.customer()
    with slow_oven.connect() as client:
        first = next(client.events(client.ask("GET", "/orders/events", token=ana.token).head()))
    assert first["retry"] and first["id"], f"expected a place in time from the start, got {first}"
    order = ana.order().json()["id"]
    assert Listener(ana, last_event_id=first["id"]).next() == ("placed", order)


def test_stale_comes_with_the_id_to_go_on_from(slow_oven):
    ana = slow_oven.customer()
    placed = seconds_since_epoch(ana.order().json()["placed_at"])
    wait_until(lambda: time.time() > placed + 0.001)  # of the present millisecond all is still to be told, this order, too
    stale = Listener(ana, last_event_id="nonsense")
    assert stale.next()[0] == "stale" and stale.id
    order = ana.order().json()["id"]
    assert Listener(ana, last_event_id=stale.id).next() == ("placed", order)


def test_only_an_id_of_ours_is_a_place_in_time(server):
    ana = server.customer()
    for id in "+1-1-0", "1- 1-0", "1-1", "1-1-", "-1-1-0", "1-1-0-0", "1-1-3", "99999999999999999999-1-0":
        assert Listener(ana, last_event_id=id).next()[0] == "stale", id


def test_two_servers_on_one_database_hear_of_each_other(start_server):
    """Events of the other one are told within a second or so, none is lost, and who waits is woken."""
    one = start_server("--bake-ms", "60000")
    two = start_server("--bake-ms", "60000", db=one.db)
    ana = one.customer()
    there = wire.Customer.__new__(wire.Customer)
    there.__dict__ = {**ana.__dict__, "server": two}
    listener = Listener(there)
    orders = [ana.order().json()["id"] for _ in range(5)]
    assert [listener.next() for _ in orders] == [("placed", id) for id in orders]
    with two.connect() as waiting:
        waiting.ask("GET", f"/orders/{orders[0]}", token=ana.token, prefer="wait=60")
        two.wait_for_metric("forno_requests_live", lambda n: n >= 3)
        began = time.monotonic()
        assert ana.api("DELETE", f"/orders/{orders[0]}").status == 200
        assert waiting.response().json()["status"] == "cancelled"
        assert time.monotonic() - began < 3
    assert listener.next() == ("cancelled", orders[0])


def test_two_servers_share_a_port_and_a_database(start_server):
    """The kernel deals out who connects; when one leaves, the other gets everybody."""
    one = start_server("--reuse-port")
    two = start_server("--reuse-port", "--port", str(one.port), db=one.db)
    ana = one.customer()
    orders = [ana.order().json()["id"] for _ in range(60)]  # a connection each; that all come to the same one: one in 2^58
    assert len(set(orders)) == 60
    for server in one, two:
        wait_until(lambda: " 202 POST /orders" in server.stderr(), server.stderr)
    two.stop()
    assert [ana.order().status for _ in range(10)] == [202] * 10
    assert ana.balance() == 1000000 - 70 * 3500


def test_events_of_two_busy_servers_on_one_database_are_all_told(start_server):
    """Both place as fast as they can, which both tell: in the same order, each once."""
    one = start_server("--bake-ms", "20", "--opening-credit", "100000000", "--log", "off")
    two = start_server("--bake-ms", "20", "--log", "off", db=one.db)
    ana = one.customer()
    here, there = ana, wire.Customer.__new__(wire.Customer)
    there.__dict__ = {**ana.__dict__, "server": two}
    listeners = [Listener(here), Listener(there)]
    placed = together(8, lambda i: [(here, there)[i % 2].order().json()["id"] for _ in range(50)])
    expected = {(event, id) for ids in placed for id in ids for event in ("placed", "ready")}
    told = [[listener.next() for _ in expected] for listener in listeners]
    for events in told:
        assert len(set(events)) == len(events) and set(events) == expected, "expected each event once"


def test_an_event_whose_commit_takes_long_is_not_left_out(start_server, road):
    """Another process is about to commit an order when one that was placed before gets ready: to tell that first would leave the other
    behind for good."""
    server = start_server("--bake-ms", "1000")
    ana = server.customer()
    listener = Listener(ana)
    first = ana.order().json()
    assert listener.next() == ("placed", first["id"])
    placed, ready = (int(1000 * seconds_since_epoch(first[key])) for key in ("placed_at", "ready_at"))
    with road.placing(server.db, ana.id, placed + 10, ready + 600000) as late:
        wait_until(lambda: listener.client.is_readable_within(0) or (1000 * time.time() > ready + 5 and server.metric("forno_db_busy")))
    assert [listener.next(), listener.next()] == [("placed", late), ("ready", first["id"])]


class Listener:
    """A subscriber to a customer's events. It is subscribed once the head of the answer is there."""

    def __init__(self, customer, **headers):
        self.client = customer.server.connect()
        self.client.ask("GET", "/orders/events", token=customer.token, accept="text/event-stream", **headers)
        self.head = self.client.head()
        self.stream = self.client.events(self.head)
        self.retry = None

    def next(self):
        """(event, id of the order) of the next event that is more than a comment or retry; its own id is in .id."""
        for event in self.stream:
            self.retry = event.get("retry", self.retry)
            if "event" in event:
                self.id = event.get("id")
                return event["event"], self._order(event)
        raise AssertionError("expected an event, got the end of the stream")

    @staticmethod
    def _order(event):
        match = re.search(r'"id":\s*(\d+)', event.get("data", ""))
        return int(match[1]) if match else None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.client.close()


def test_events_tell_what_becomes_of_my_orders(ana):
    with Listener(ana) as listener:
        assert listener.head["Cache-Control"] == "no-store"
        order = ana.order(2).json()
        assert listener.next() == ("placed", order["id"])
        assert listener.id, "expected each event to have an id"
        assert listener.next() == ("ready", order["id"])
        assert_punctual(order, time.time())
        assert re.fullmatch(r"\d+", listener.retry or ""), "expected a retry: before the first event"


def test_events_tell_of_a_cancelled_order(slow_oven):
    ana = slow_oven.customer()
    with Listener(ana) as listener:
        order = ana.order().json()["id"]
        ana.api("DELETE", f"/orders/{order}")
        assert [listener.next() for _ in range(2)] == [("placed", order), ("cancelled", order)]


def test_events_of_another_are_not_mine(ana, bob):
    with Listener(ana) as hers, Listener(bob) as his:
        for_ana, for_bob = ana.order(1, **WAIT).json()["id"], bob.order(1, **WAIT).json()["id"]
        assert [hers.next() for _ in range(2)] == [("placed", for_ana), ("ready", for_ana)]
        assert [his.next() for _ in range(2)] == [("placed", for_bob), ("ready", for_bob)]


def test_all_my_listeners_are_told(ana):
    listeners = [Listener(ana) for _ in range(10)]
    order = ana.order().json()["id"]
    for listener in listeners:
        with listener:
            assert [listener.next() for _ in range(2)] == [("placed", order), ("ready", order)]


def test_what_was_missed_is_told_again(ana):
    with Listener(ana) as listener:
        first = ana.order(1, **WAIT).json()["id"]
        assert listener.next() == ("placed", first)
        after_placed = listener.id
        assert listener.next() == ("ready", first)
        after_ready = listener.id
    second = ana.order(1, **WAIT).json()["id"]
    with Listener(ana, last_event_id=after_ready) as listener:
        assert [listener.next() for _ in range(2)] == [("placed", second), ("ready", second)]
        third = ana.order().json()["id"]
        assert listener.next() == ("placed", third), "expected what is new behind what was missed"
    with Listener(ana, last_event_id=after_placed) as listener:
        assert [listener.next() for _ in range(3)] == [("ready", first), ("placed", second), ("ready", second)]


@pytest.mark.parametrize("last", ["nonsense", "999999999999999999", "-1"])
def test_who_missed_what_cannot_be_told_is_told_so(last, ana):
    with Listener(ana, last_event_id=last) as listener:
        assert listener.next()[0] == "stale"
        order = ana.order().json()["id"]
        assert listener.next() == ("placed", order), "expected the stream to go on"


def test_events_for_http_1_0_end_with_the_connection(ana):
    with ana.server.connect() as client:
        client.send(b"GET /orders/events HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n" % ana.token.encode())
        head = client.head()
        assert head["Transfer-Encoding"] is None and head["Content-Length"] is None, f"expected no chunks, got {head}"
        ana.order()
        assert any(event.get("event") == "placed" for event in client.events(head))


def test_a_listener_who_left_is_forgotten_at_the_next_event(start_server):
    """Not before: who has only stopped sending may still listen."""
    server = start_server()
    ana = server.customer()
    for _ in range(20):
        Listener(ana).client.close()
    ana.order(1)
    server.assert_back_to_idle()


def test_a_crowd_of_listeners_hears_every_event_at_once(start_server):
    """What happens while most of them are still being told of the last event is news to them, too."""
    server = start_server("--bake-ms", "60000", "--log", "off")
    ana = server.customer()
    first, *crowd = [Listener(ana) for _ in range(600)]
    expected = []
    for _ in range(10):
        order = ana.order().json()["id"]
        expected.append(("placed", order))
        assert first.next() == expected[-1]
        assert ana.api("DELETE", f"/orders/{order}").status == 200
        expected.append(("cancelled", order))
        assert first.next() == expected[-1]
        for listener in crowd:
            assert [listener.next() for _ in range(2)] == expected[-2:], "expected to be told before the next heartbeat"
    for listener in [first, *crowd]:
        listener.client.close()
