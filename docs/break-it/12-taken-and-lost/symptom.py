#!/usr/bin/env python3
"""Symptom 12: orders on a disk that is full."""

import os
import resource
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kit import show  # noqa: E402

ORDERS = 60


def act(stage):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    server = stage.start()
    ana = server.customer()
    ana.order()
    full = max(os.path.getsize(f"{server.db}{suffix}") for suffix in ("", "-wal")) + 262144
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))  # a file may not grow beyond it
    taken = [r.json()["id"] for r in (ana.order() for _ in range(ORDERS)) if r.status == 202]
    found = [order for order in taken if ana.api("GET", f"/orders/{order}").status == 200]
    paid = sum(entry["amount_cents"] < 0 for entry in ana.entries())
    lost = len(taken) - len(set(found))
    return (lost == 0 and 0 < len(taken) < ORDERS and paid == len(found) + 1,
            f"while the disk filled up, {len(taken)} of {ORDERS} orders were acknowledged; {lost} of these are not there",
            f"enquanto o disco enchia, {len(taken)} de {ORDERS} pedidos foram confirmados; {lost} deles não existem")


show(act)
