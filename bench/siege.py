#!/usr/bin/env python3
"""siege.py: what Forno does under attack. For each attack: is everybody else served, and does memory come back?

Starts ./server itself, attacks it over loopback for a few seconds at a time, and prints one line for each attack: the latency
of GET /healthz on a connection of its own meanwhile (a separate process measures it), the server's memory before, during and
after, and its processor time.
"""

import json
import multiprocessing
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

SERVER = os.environ.get("FORNO_SERVER", os.path.join(os.path.dirname(__file__), "..", "server"))
CONNECTIONS = int(os.environ.get("SIEGE_CONNECTIONS", "10000"))
SECONDS = float(os.environ.get("SIEGE_SECONDS", "5"))
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: forno\r\n\r\n"


def request(method, path, body=None, **fields):
    lines = [f"{method} {path} HTTP/1.1", "Host: forno"] + [f"{k.replace('_', '-')}: {v}" for k, v in fields.items()]
    data = json.dumps(body).encode() if body is not None else b""
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return "\r\n".join(lines + ["", ""]).encode() + data


def connect(port, **options):
    s = socket.create_connection(("127.0.0.1", port), timeout=10)
    for name, value in options.items():
        s.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    return s


def ask(s, message):
    """One request, one answer: (status, body)."""
    s.sendall(message)
    data = b""
    while b"\r\n\r\n" not in data:
        data += s.recv(65536)
    head, body = data.split(b"\r\n\r\n", 1)
    length = int(re.search(rb"Content-Length: *(\d+)", head)[1])
    while len(body) < length:
        body += s.recv(65536)
    return int(head.split()[1]), body


def probe(port, stop, result):
    """Another client, who only wants to know whether the loop is alive."""
    os.nice(-5) if os.getuid() == 0 else None
    s, latencies = connect(port), []
    while not stop.is_set():
        began = time.perf_counter()
        ask(s, HEALTHZ)
        latencies.append(time.perf_counter() - began)
        time.sleep(0.002)
    latencies.sort()
    result.put((len(latencies), latencies[len(latencies) * 99 // 100] * 1e3, latencies[-1] * 1e3))


# ---------------------------------------------------------------- the attacks: each returns the sockets it holds

def silence(port):
    """Connect, and say nothing."""
    return [connect(port) for _ in range(CONNECTIONS)]


def slow_head(port):
    """A byte of the head now and then."""
    held = [connect(port) for _ in range(CONNECTIONS)]
    for byte in HEALTHZ[:4]:
        for s in held:
            s.send(bytes([byte]))
    return held


def slow_body(port):
    held = [connect(port) for _ in range(CONNECTIONS)]
    for s in held:
        s.send(b"POST /accounts HTTP/1.1\r\nHost: forno\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{")
    return held


def slow_readers(port):
    """Ask for a lot, read nothing."""
    held = [connect(port, SO_RCVBUF=4096) for _ in range(CONNECTIONS // 10)]
    for s in held:
        s.setblocking(False)
        try:
            s.send(request("GET", "/openapi.json") * 100)
        except BlockingIOError:
            pass
    return held


def churn(port):
    """Connect and leave, as fast as it goes, some with a reset."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        for i in range(50):
            s = connect(port)
            if i % 2:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            s.close()
    return []


def account_flood(port):
    held = [connect(port) for _ in range(100)]
    message = request("POST", "/accounts", {"name": "Flood"})
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        for s in held:
            s.send(message)
        for s in held:
            s.recv(65536)
    return held


def long_polls(port):
    """Wait for pizzas that take their time."""
    s = connect(port)
    token = json.loads(ask(s, request("POST", "/accounts", {"name": "Ana"}))[1])["token"]
    auth = {"Authorization": f"Bearer {token}"}
    order = json.loads(ask(s, request("POST", "/orders", {"flavor": "margherita", "pizzas": 1}, **auth))[1])["id"]
    held = [connect(port) for _ in range(CONNECTIONS)]
    for i, client in enumerate(held):
        client.send(request("GET", f"/orders/{order}", Prefer="wait=60", **auth))
        if i % 500 == 0:
            time.sleep(0.05)
    return held + [s]


def pipeline(port):
    """A flood of pipelined requests on a few connections that are read."""
    held = [connect(port) for _ in range(20)]
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        readable, writable, _ = select.select(held, held, [], 1)
        for s in readable:
            s.recv(1 << 20)
        for s in writable:
            s.send(HEALTHZ * 200)
            s.recv(1 << 16)
    return held


# ---------------------------------------------------------------- the siege

def status(pid, field):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(rf"{field}:\s+(\d+)", f.read())[1])


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def gauges(port):
    text = ask(connect(port), request("GET", "/metrics"))[1].decode()
    return tuple(int(float(re.search(rf"^{name} (\S+)", text, re.M)[1])) for name in ("forno_connections", "forno_requests_live"))


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen([SERVER, "--port", "0", "--db", f"{folder}/siege.db", "--log", "off", "--bake-ms", "600000",
                                   "--opening-credit", "1000000"], stdout=subprocess.PIPE, text=True)
        port = int(server.stdout.readline().rsplit(":", 1)[1])
        print(f"{'attack':14} {'healthz p99':>12} {'max':>9} {'RSS before':>11} {'during':>9} {'after':>9} {'CPU':>8}  left over")
        failed = False
        for attack in (silence, slow_head, slow_body, slow_readers, churn, account_flood, long_polls, pipeline):
            before, cpu = status(server.pid, "VmRSS"), cpu_seconds(server.pid)
            stop, result = multiprocessing.Event(), multiprocessing.Queue()
            other = multiprocessing.Process(target=probe, args=(port, stop, result))
            other.start()
            held = attack(port)
            time.sleep(1)
            during = status(server.pid, "VmRSS")
            for s in held:
                s.close()
            stop.set()
            count, p99, worst = result.get(timeout=30)
            other.join()
            # A client that closes looks like one that has only finished sending: it gets its answer, when its wait is over.
            until = time.monotonic() + (75 if attack is long_polls else 15)
            while (left := gauges(port)) != (1, 1) and time.monotonic() < until:
                time.sleep(0.1)
            after = status(server.pid, "VmRSS")
            failed |= p99 > 20 or left != (1, 1)
            print(f"{attack.__name__:14} {p99:9.2f} ms {worst:6.1f} ms {before:8} kB {during:6} kB {after:6} kB "
                  f"{cpu_seconds(server.pid) - cpu:6.2f} s  {left[0] - 1} connections, {left[1] - 1} requests", flush=True)
        server.send_signal(signal.SIGTERM)
        failed |= server.wait(timeout=20) != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
