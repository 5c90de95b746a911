#!/usr/bin/env python3
"""Symptom 9: two hundred ask the database at once."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kit import Watcher, show  # noqa: E402

CLIENTS = 200


def act(stage):
    server = stage.start()
    watcher = Watcher(server)
    slow = server.connect().ask("GET", "/lab/thread?ms=10000")  # the worker is busy until nobody wants that any more
    watcher.saw(lambda: watcher.look()["forno_db_busy"])
    clients = [server.connect().ask("POST", "/accounts", {"name": "Ana"}) for _ in range(CLIENTS)]
    watcher.saw(lambda: watcher.look()["forno_db_queue_depth"] >= CLIENTS)
    slow.reset()  # now it finds all the others together: one commit for all, and all come back at once
    watcher.saw(lambda: all(client.is_readable_within(0) for client in clients))
    answered = sum(client.is_readable_within(0) for client in clients)
    return (answered == CLIENTS, f"{CLIENTS} clients asked at once; the database has done its work, and the number of answers is {answered}",
            f"{CLIENTS} clientes perguntaram ao mesmo tempo; o banco de dados fez o seu trabalho, e o número de respostas é {answered}")


show(act)
