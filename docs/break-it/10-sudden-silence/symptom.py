#!/usr/bin/env python3
"""Symptom 10: many questions; each read() takes five milliseconds longer, and each ring, a write(), three: so rings come while one is silenced."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kit import Watcher, show  # noqa: E402

ROUNDS, CLIENTS = 20, 8


def act(stage):
    server = stage.start(strace="--seccomp-bpf -e trace=read,write -e inject=read:delay_enter=5000 -e inject=write:delay_enter=3000")
    watcher, ana = Watcher(server), server.customer()
    clients = [server.connect() for _ in range(CLIENTS)]
    asked = answered = 0
    for _ in range(ROUNDS):
        for client in clients:  # one in a lap, so that each is brought back by a ring of its own
            client.ask("GET", f"/accounts/{ana.id}", token=ana.token)
            server.api("GET", "/healthz")
            asked += 1
        if not watcher.saw(lambda: all(client.is_readable_within(0) for client in clients)):
            break
        answered += sum(client.response().status == 200 for client in clients)
    answered += sum(client.is_readable_within(0) for client in clients)
    return (answered == asked, f"questions to the database: {asked}; answers: {answered}; and nothing under way any more",
            f"perguntas ao banco de dados: {asked}; respostas: {answered}; e mais nada em andamento")


show(act)
