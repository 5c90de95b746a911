#!/usr/bin/env python3
"""Symptom 4: a client who says "that was all", and listens."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kit import Watcher, show  # noqa: E402

CLIENTS = 20


def act(stage):
    server = stage.start()
    watcher, ana = Watcher(server), server.customer()
    order = ana.order().json()["id"]
    clients = [server.connect().ask("GET", f"/orders/{order}", token=ana.token, prefer="wait=60") for _ in range(CLIENTS)]
    for client in clients:
        client.finish_sending()
    answered = 0
    for client in clients:
        if watcher.saw(lambda: client.is_readable_within(0)):
            answered += client.receive().startswith(b"HTTP/1.1 200 ")
        elif not answered:
            break
    return (answered == CLIENTS, f"{CLIENTS} clients asked and shut their side, as `nc -N` does; {answered} got their answer",
            f"{CLIENTS} clientes perguntaram e fecharam o seu lado, como faz `nc -N`; {answered} receberam a resposta")


show(act)
