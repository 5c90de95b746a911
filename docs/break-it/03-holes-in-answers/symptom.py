#!/usr/bin/env python3
"""Symptom 3: a client who asks for a lot and reads slowly."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kit import REQUEST, Watcher, show  # noqa: E402

ASKED = 200  # five megabytes: more than the kernel holds for a client, tcp_wmem in tcp(7)


def act(stage):
    server = stage.start()
    watcher, client = Watcher(server), server.connect(receive_buffer=4096)
    whole = server.api("GET", "/openapi.json").body
    client.send(REQUEST % b"/openapi.json" * ASKED)
    for _ in range(10):
        watcher.look()  # the server fills what the kernel has room for, and nobody reads
    right = 0
    while right < ASKED and watcher.saw(lambda: client.is_readable_within(0)):
        head = client.head()
        length = int(head["Content-Length"])
        while len(client.leftover) < length:
            if not watcher.saw(lambda: client.is_readable_within(0) and client.receive()):
                break
        if client.leftover[:length] != whole:
            break
        client.leftover = client.leftover[length:]
        right += 1
    return (right == ASKED, f"a slow reader asked {ASKED} times for one file; {right} answers in a row were right",
            f"um leitor lento pediu {ASKED} vezes o mesmo arquivo; {right} respostas seguidas vieram certas")


show(act)
