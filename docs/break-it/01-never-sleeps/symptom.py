#!/usr/bin/env python3
"""Symptom 1: everybody waits, and the loop turns."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kit import Watcher, show  # noqa: E402

ENOUGH = 25  # laps while a nap lasts; a sound loop needs about five


def act(stage):
    server = stage.start()
    watcher = Watcher(server)
    server.customer()  # the database has been asked, and has answered
    idle, hasty, silent, gone = (server.connect() for _ in range(4))
    idle.api("GET", "/healthz")
    hasty.ask("GET", "/lab/timer?ms=60000").ask("GET", "/healthz")  # more to ask behind what still waits
    silent.ask("GET", "/lab/socket?n=1&ms=4000").finish_sending()  # nothing more to say, and an answer to come
    gone.ask("GET", "/lab/socket?n=1&ms=4000")
    watcher.look()
    gone.reset()
    watcher.look()
    laps = watcher.laps_of_a_nap()
    return (laps < ENOUGH, f"while everybody waited for half a second, the loop turned {laps} times",
            f"enquanto todos esperavam meio segundo, o loop deu {laps} voltas")


show(act)
