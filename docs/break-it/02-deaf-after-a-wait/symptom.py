#!/usr/bin/env python3
"""Symptom 2: a request sent while another one waits."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kit import Watcher, show  # noqa: E402


def act(stage):
    server = stage.start()
    watcher, ana, client = Watcher(server), server.customer(), server.connect()
    order = ana.order().json()["id"]
    answered = 0
    for _ in range(2):  # the first waits until the order is cancelled; the second comes too early, the third does not
        client.ask("GET", f"/orders/{order}", token=ana.token, prefer="wait=60")
        watcher.look()
        client.ask("GET", "/healthz")
        watcher.look()
        ana.api("DELETE", f"/orders/{order}")
        for then in (None, "/healthz", None):
            if not watcher.saw(lambda: client.is_readable_within(0)):
                break
            client.response()
            answered += 1
            if then:
                watcher.look()
                client.ask("GET", then)
        else:
            order = ana.order().json()["id"]
            continue
        break
    return (answered == 6, f"of 6 requests on one connection, some sent while another waited, {answered} were answered",
            f"de 6 requisições em uma conexão, algumas enviadas enquanto outra esperava, {answered} tiveram resposta")


show(act)
