"""test_stream.py: GET /loop/events as the page hears it: what a tick knows, what hello tells, and how little is said at rest."""

import json
import time
from contextlib import contextmanager

from wire import DEADLINE, wait_until


@contextmanager
def watching(server):
    """Its hello, and what comes after it: (event, data) pairs."""
    with server.connect() as client:
        events = client.events(client.ask("GET", "/loop/events").head())
        told = ((e["event"], json.loads(e["data"])) for e in events if "event" in e)
        event, hello = next(told)
        assert event == "hello", f"expected hello first, got {event}"
        yield hello, told


def ticks(told):
    return (data for event, data in told if event == "tick")


def until(told, condition):
    """The ticks up to the first for which it is so, that one included."""
    seen, end = [], time.monotonic() + DEADLINE
    for tick in ticks(told):
        seen.append(tick)
        if condition(tick):
            return seen
        assert time.monotonic() < end, f"not so within {DEADLINE} s: {seen}"


def records(seen, *kinds):
    return [r for tick in seen for r in tick["records"] if r[1] in kinds]


def test_a_tick_that_ends_a_long_lap_knows_of_it(server):
    """The lap in which the tick is told may be the longest itself: a blocked step, and then the timer that came due meanwhile."""
    with watching(server) as (_, told), server.connect() as first, server.connect() as second:
        next(ticks(told))
        first.ask("GET", "/lab/block?ms=300")
        second.ask("GET", "/lab/block?ms=700")  # is ready beside the tick's timer when the first lap ends
        seen = until(told, lambda tick: tick["worked_us"] > 0 and any(r[4] == "get_lab_block" for r in records([tick], "step")))
        blocked = [r[5] for r in records(seen, "step") if r[4] == "get_lab_block"]
        longest = seen[-1]["longest_lap_us"]
        assert longest >= max(blocked) - 1000, f"a lap of {max(blocked)} us, told as {longest}"
        first.response(), second.response()


def test_a_crowded_lap_is_told_in_a_few_records(server):
    """Else a few such laps would fill a tick, and push out half of the requests that are told in full."""
    clients = [server.connect() for _ in range(200)]
    with watching(server) as (_, told), server.connect() as blocker:
        next(ticks(told))
        blocker.ask("GET", "/lab/block?ms=500")
        for client in clients:
            client.ask("GET", "/healthz")
        for client in (blocker, *clients):
            assert client.response().status == 200
            client.close()
        seen = until(told, lambda tick: any(r[2] >= 100 for r in records([tick], "woke")))
    laps = [r for r in records(seen, "woke", "ready")]
    crowded = max(range(len(laps)), key=lambda i: laps[i][1] == "woke" and laps[i][2])
    readies = next((i for i, r in enumerate(laps[crowded + 1:]) if r[1] == "woke"), len(laps) - crowded - 1)
    assert 1 <= readies <= 6, f"{laps[crowded][2]} were ready in a lap, and {readies} of them are told one by one"
    assert not any(t["skipped"] for t in seen)
    assert 40 <= len({r[2] for r in records(seen, "answer")}) <= 80, "of the requests a sample"


def test_who_comes_late_is_told_what_bakes_and_who_waits(start_server):
    server = start_server("--bake-ms", "1000")
    ana = server.customer()
    order = ana.order(2).json()
    with server.connect() as sleeper:
        sleeper.ask("GET", "/lab/thread?ms=1500")
        server.wait_for_metric("forno_requests_live", lambda n: n >= 2)
        with watching(server) as (hello, told):
            (id, what, from_us, due_us), = hello["baking"]
            assert (id, what) == (order["id"], "2 × margherita") and 1_900_000 <= due_us - from_us <= 2_000_000
            (number, conn, head, waits, since_us), = hello["alive"]
            assert number and conn and head.startswith("GET /lab/thread") and waits == "db" and from_us <= since_us
            seen = until(told, lambda tick: any(r[2] == number for r in records([tick], "answer")))
            assert [r[4] for r in records(seen, "woken") if r[2] == number] == ["db"]
            if not records(seen, "baked"):
                seen = until(told, lambda tick: records([tick], "baked"))
            assert [r[2] for r in records(seen, "baked")] == [order["id"]]
        sleeper.response()


def test_at_rest_hardly_anything_is_said_and_a_request_is_told_at_once(start_server):
    server = start_server()
    with watching(server) as (hello, told):
        feed = ticks(told)
        until(told, lambda tick: tick["next_ms"] == hello["rest_ms"])
        laps, begun = server.metric("forno_lap_seconds_count"), time.monotonic()
        quiet = [next(feed) for _ in range(4)]  # the question above is told in one of them
        assert time.monotonic() - begun > 2, "four ticks within two seconds, while nothing happens"
        assert server.metric("forno_lap_seconds_count") - laps < 15, "the loop wakes, while nothing happens"
        assert sum(t["answers"] for t in quiet) <= 1
        asked = time.monotonic()
        assert server.api("GET", "/lab/timer?ms=700").status == 200
        seen = until(told, lambda tick: any(r[4] == "/lab/timer" for r in records([tick], "answer")))
        assert time.monotonic() - asked < 1.5 and len(seen) >= 5, "ten ticks a second, while somebody waits"


def test_viewers_come_and_go_and_nobody_watches_in_the_end(start_server):
    server = start_server()
    for _ in range(3):
        with watching(server) as (_, told), watching(server) as (_, other):
            next(ticks(told)), next(ticks(other))
    server.assert_back_to_idle()
    wait_until(lambda: server.api("GET", "/loop").status == 200)
