#!/usr/bin/env python3
"""Symptom 7: short naps beside a long one."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kit import Watcher, show  # noqa: E402

NAPS = 20


def act(stage):
    server = stage.start()
    watcher, sleeper = Watcher(server), server.connect().ask("GET", "/lab/timer?ms=60000")
    watcher.look()
    clients = [server.connect().ask("GET", f"/lab/timer?ms={10 * (i + 1)}") for i in range(NAPS)]
    watcher.saw(lambda: all(client.is_readable_within(0) for client in clients))
    over = sum(client.is_readable_within(0) for client in clients)
    sleeper.close()
    return (over == NAPS, f"of {NAPS} naps of 10 to 200 ms, {over} were over when the server's own clock had moved on by seconds",
            f"de {NAPS} sonecas de 10 a 200 ms, {over} tinham acabado quando o relógio do próprio servidor andou segundos")


show(act)
