#!/usr/bin/env python3
"""Symptom 5: more clients than descriptors."""

import os
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kit import REQUEST, Watcher, show  # noqa: E402

ENOUGH = 50  # laps while a nap lasts; a sound loop looks again ten times a second


def act(stage):
    server = stage.start()
    watcher = Watcher(server)
    watcher.look()
    opened = max(int(fd) for fd in os.listdir(f"/proc/{server.pid}/fd")) + 1
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (opened + 20, hard))
    clients = [server.connect().send((REQUEST % b"/healthz")[:-2]) for _ in range(40)]  # all but the end, so none is idle
    watcher.look()
    laps = watcher.laps_of_a_nap()
    answered = 0
    for client in clients:  # each ends his request, and makes room
        client.send(b"\r\n")
        if not watcher.saw(lambda: client.is_readable_within(0)):
            break
        answered += client.response().status == 200
        client.close()
    return (laps < ENOUGH and answered == len(clients),
            f"with more clients than descriptors the loop turned {laps} times in half a second; {answered} of 40 were answered at last",
            f"com mais clientes que descritores o loop deu {laps} voltas em meio segundo; {answered} de 40 foram enfim atendidos")


show(act)
