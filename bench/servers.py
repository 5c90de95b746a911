"""Every server that is measured: how it is started, told apart from its neighbours, and ended."""

import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import machine

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(os.path.dirname(HERE), "build", "bench")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def template(name, directory, port):
    """A configuration file with its blanks filled in. Who is not root cannot become anybody: the user's line is left out."""
    text = machine.read(os.path.join(HERE, "peers", name))
    if os.geteuid() != 0:
        text = "".join(line for line in text.splitlines(keepends=True) if "$USER" not in line or line.startswith("#"))
    path = os.path.join(directory, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace("$PORT", str(port)).replace("$DIR", directory).replace("$USER", getpass.getuser()))
    return path


class Server:
    """A running server. `port`: where it will listen; without, it says so itself: "listening on http://…:PORT"."""

    def __init__(self, name, command, port=None, cpus=(machine.SERVER_CPU,), cwd=None):
        self.name = name
        self.log = open(os.path.join(BUILD, f"{name}.log"), "w+", encoding="utf-8")
        clean = {key: value for key, value in os.environ.items() if not key.startswith("FORNO_") and key != "PORT"}
        quiet = {"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": subprocess.STDOUT}
        with machine.on_cpus(*cpus):
            self.process = subprocess.Popen(command, cwd=cwd, env=clean, start_new_session=True, **quiet)
        try:
            self.port = port or self._said_port()
            self._wait_until_open()
        except BaseException:
            self.stop()
            raise

    def _wait(self, condition):
        deadline = time.monotonic() + 20
        while True:
            result = condition()
            if result:
                return result
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{self.name} does not start: {machine.read(self.log.name)}")
            time.sleep(0.01)

    def _said_port(self):
        def said():
            return re.findall(r"^listening on http://.*:(\d+)\n", machine.read(self.log.name), re.MULTILINE)

        return int(self._wait(said)[0])

    def _wait_until_open(self):
        def is_open():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.port)) == 0

        self._wait(is_open)

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def pids(self):
        return machine.family(self.process.pid)

    def cpu_seconds(self):
        return machine.cpu_seconds(self.pids())

    def rss_bytes(self):
        return machine.rss_bytes(self.pids())

    def stop(self):
        """It is alone in its session, with whatever it has started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                os.killpg(self.process.pid, number)
            try:
                self.process.wait(5)
                break
            except subprocess.TimeoutExpired:
                pass
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Client:
    """One connection, one request at a time: to set the table, and to measure latency without load."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.kept = b""

    def send(self, method, path, token=None, body=None, fields=()):
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *fields]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        data = json.dumps(body).encode() if body is not None else b""
        if data:
            lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + data)

    def _more(self):
        data = self.socket.recv(65536)
        if not data:
            raise SystemExit("a server has closed the connection in the middle of an answer")
        self.kept += data

    def receive(self):
        """(status, body, length of the whole answer)"""
        while b"\r\n\r\n" not in self.kept:
            self._more()
        head, _, rest = self.kept.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        total = len(head) + 4 + int(lengths[0])
        while len(self.kept) < total:
            self._more()
        body, self.kept = self.kept[len(head) + 4 : total], self.kept[total:]
        return int(head.split()[1]), body, total

    def ask(self, method, path, token=None, body=None, expect=200):
        self.send(method, path, token, body)
        status, answer, _ = self.receive()
        if status != expect:
            raise SystemExit(f"{method} {path}: {status} instead of {expect}: {answer.decode()}")
        return json.loads(answer)

    def close(self):
        self.socket.close()


# ---- who they are ----


class Kitchen:
    """Starts servers, each in a directory of its own, and ends them all."""

    def __init__(self, forno):
        self.directory = os.path.join(BUILD, f"run-{os.getpid()}")
        os.makedirs(self.directory)
        self.forno_binary = os.path.join(self.directory, "server")
        shutil.copy2(forno, self.forno_binary)  # whoever builds meanwhile does not change what is measured
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop_all()
        shutil.rmtree(self.directory, ignore_errors=True)

    def stop_all(self):
        while self.running:
            self.running.pop().stop()

    def path(self, name):
        return os.path.join(self.directory, name)

    def _start(self, *args, **kwargs):
        server = Server(*args, **kwargs)
        self.running.append(server)
        return server

    def _fresh(self, database):
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(self.path(database + suffix)):
                os.unlink(self.path(database + suffix))
        return self.path(database)

    def ceiling(self):
        return self._start("ceiling", [os.path.join(BUILD, "ceiling"), "0"])

    def forno(self, *options, name="forno", database=None, cpus=(machine.SERVER_CPU,)):
        database = database or self._fresh(name + ".db")
        return self._start(name, [self.forno_binary, "--port=0", "--log=off", f"--db={database}", *options], cpus=cpus)

    def tutorial(self):
        command = [sys.executable, os.path.join(HERE, "tutorial", "server.py"), "--port=0", "--opening-credit=1000000000000"]
        return self._start("tutorial", [*command, f"--db={self._fresh('tutorial.db')}"])

    def nginx(self):
        port = free_port()
        config = template("nginx.conf", self.directory, port)
        return self._start("nginx", ["nginx", "-p", self.directory, "-e", "stderr", "-c", config], port)

    def h2o(self):
        port = free_port()
        os.makedirs(self.path("h2o"), exist_ok=True)
        with open(self.path("h2o/healthz"), "w", encoding="ascii") as file:
            file.write('{"status":"ok"}\n')
        return self._start("h2o", ["h2o", "-c", template("h2o.yaml", self.directory, port)], port)

    def node(self):
        return self._start("node", ["node", os.path.join(HERE, "peers", "node.js"), "0"])

    def flask(self):
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", "--workers=1", "--worker-class=gthread", "--threads=4"]
        command += ["--keep-alive=60", "--worker-connections=19000", "--backlog=4096", "--log-level=error"]
        command += [f"--bind=127.0.0.1:{port}", "flask_app:app"]
        return self._start("flask", command, port, cwd=os.path.join(HERE, "peers"))
