#!/usr/bin/env python3
"""Symptom 8: clients who leave while the database works for them. Wants a server built with AddressSanitizer."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kit import Watcher, show  # noqa: E402

CLIENTS = 100


def act(stage):
    server = stage.start()
    watcher, ana, sleeper = Watcher(server), server.customer(), server.connect()
    half = [server.connect().send(b"GET /heal") for _ in range(CLIENTS)]
    slow = server.connect().ask("GET", "/lab/thread?ms=6000")  # the worker is busy: what comes now waits for it
    waiting = [server.connect().ask("GET", f"/accounts/{ana.id}", token=ana.token) for _ in range(CLIENTS)]
    watcher.saw(lambda: watcher.look()["forno_requests_live"] > 2 * CLIENTS)  # all have been heard
    sleeper.ask("GET", "/lab/timer?ms=3000")
    for client in [slow, *half, *waiting]:
        client.reset()
    strangers = [server.customer()]
    hurried = not sleeper.is_readable_within(0)  # nobody wants the slow query any more, so it ended before a nap half as long
    strangers += [server.customer() for _ in range(CLIENTS - 1)]
    right = sum(stranger.api("GET", f"/accounts/{stranger.id}").json()["id"] == stranger.id for stranger in strangers)
    sleeper.close()
    left = watcher.saw(lambda: watcher.look()["forno_requests_live"] <= 1) and hurried
    return (right == CLIENTS and left, f"{2 * CLIENTS} clients left amid their requests; {right} of {CLIENTS} strangers were served "
            f"rightly, and of those who left {'nothing is' if left else 'something was still'} there",
            f"{2 * CLIENTS} clientes foram embora no meio de suas requisições; {right} de {CLIENTS} estranhos foram bem atendidos, e dos "
            f"que foram {'nada ficou' if left else 'alguma coisa ficou'}")


show(act)
