#!/usr/bin/env python3
"""Symptom 8: clients who leave while the database works for them. Wants a server built with AddressSanitizer."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kit import Watcher, show  # noqa: E402

CLIENTS = 100


def act(stage):
    server = stage.start()
    watcher, ana = Watcher(server), server.customer()
    order = ana.order().json()["id"]
    half = [server.connect().send(b"GET /heal") for _ in range(CLIENTS)]
    patient = [server.connect().ask("GET", f"/orders/{order}", token=ana.token, prefer="wait=60") for _ in range(CLIENTS)]
    watcher.saw(lambda: (now := watcher.look())["forno_requests_live"] > CLIENTS and not now["forno_db_busy"])  # they wait for the oven
    slow = server.connect().ask("GET", "/lab/thread?ms=500")  # the worker is busy: what comes now waits for it
    waiting = [server.connect().ask("GET", f"/accounts/{ana.id}", token=ana.token) for _ in range(CLIENTS)]
    watcher.look()
    for client in half + patient + waiting:
        client.reset()
    right = 0
    for _ in range(CLIENTS):  # strangers, and each must get what is his
        stranger = server.customer()
        right += stranger.api("GET", f"/accounts/{stranger.id}").json()["id"] == stranger.id
    slow.response()
    slow.close()
    left = watcher.saw(lambda: watcher.look()["forno_requests_live"] <= 1)
    return (right == CLIENTS and left, f"{3 * CLIENTS} clients left amid their requests; {right} of {CLIENTS} strangers were served "
            f"rightly, and of those who left {'nothing is' if left else 'something is still'} there",
            f"{3 * CLIENTS} clientes foram embora no meio de suas requisições; {right} de {CLIENTS} estranhos foram bem atendidos, e dos "
            f"que foram {'nada ficou' if left else 'alguma coisa ficou'}")


show(act)
