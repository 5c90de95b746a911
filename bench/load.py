"""The load: wrk, and crowds of connections that do nothing."""

import json
import os
import re
import socket
import subprocess
from dataclasses import dataclass

import machine

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wrk.lua")


@dataclass
class Load:
    """What wrk has seen."""

    requests: int
    seconds: float
    failed: int
    p50_us: float
    p99_us: float
    max_us: float

    @property
    def per_second(self):
        return self.requests / self.seconds


class Wrk:
    """wrk at work, on its own CPU."""

    def __init__(self, server, path, connections, seconds, *, depth=1, method="GET", body=None, tokens="", nice=0):
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=10s", "-s", SCRIPT, server.url(path)]
        command += ["--", str(depth), method]
        command += [json.dumps(body) if body else "", tokens] if body or tokens else []
        if nice:
            command = ["nice", "-n", str(nice), *command]
        self.server = server
        with machine.on_cpus(machine.GENERATOR_CPU):
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.limit = seconds + 60

    def result(self):
        try:
            output, _ = self.process.communicate(timeout=self.limit)
        finally:
            self.process.kill()
        found = re.search(r"^RESULT (.*)$", output, re.MULTILINE)
        if not found:
            raise SystemExit(f"wrk against {self.server.name}: {output}")
        values = {key: float(value) for key, value in (pair.split("=") for pair in found.group(1).split())}
        return Load(requests=int(values.pop("requests")), failed=int(values.pop("failed")), **values)


class Crowd:
    """Many connections, held open."""

    def __init__(self):
        self.sockets = []

    def join(self, server, count, request, answered=True):
        """`count` more, one request each; with `answered`, one after the other."""
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", server.port))
            self.sockets.append(s)
            s.sendall(request)
            if answered and not s.recv(4096).startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"{server.name} does not answer its crowd")

    def leave(self):
        for s in self.sockets:
            s.close()
        self.sockets.clear()
