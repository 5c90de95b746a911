#!/usr/bin/env python3
"""Symptom 11: a name that takes long to look up. Each look into /etc/hosts takes two seconds longer."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kit import Watcher, show, wire  # noqa: E402

NAME = "courier" * 10 + ".test"  # nobody has it, and no resolver would send such a label over the network
ENOUGH = 20


def act(stage):
    server = stage.start("--courier", f"http://{NAME}:9", strace="-P /etc/hosts -e trace=openat -e inject=openat:delay_enter=2000000")
    looked_up = lambda: stage.log.read_text(errors="replace").count("(DELAYED)")  # noqa: E731
    watcher, ana = Watcher(server), server.customer()
    order, before = ana.order().json()["id"], looked_up()
    ana_asks = server.connect().ask("GET", f"/orders/{order}/delivery", token=ana.token)
    started, answered = watcher.answered, 0
    try:
        watcher.saw(lambda: looked_up() > before, seconds=10, pause=0)
    finally:
        answered = watcher.answered - started
    again = looked_up() > before
    ana_asks.close()
    return (again and answered >= ENOUGH,
            f"while a name was looked up, {answered} requests of others were answered" if again else "the name is not looked up again",
            f"enquanto um nome era procurado, {answered} requisições de outros foram respondidas" if again else
            "o nome não é procurado de novo")


show(act)
