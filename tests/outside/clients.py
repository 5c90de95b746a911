"""clients.py MODULES SERVER: what real clients make of the server, each with what it does in its own way: `make clients`.

MODULES is a folder into which npm has installed undici and eventsource. Every claim is one that could be untrue: a connection that is not kept,
a body that is sent in chunks or after 100 Continue, answers in the order of pipelined questions, a stream taken up again where it broke off."""

import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
modules, binary = (Path(argument).resolve() for argument in sys.argv[1:])
JSON = "Content-Type: application/json"
counts = {"passed": 0, "failed": 0}


def check(good, what):
    counts["passed" if good else "failed"] += 1
    if not good:
        print(f"  NOT SO: {what}")


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, **options)


class Server:
    def __init__(self, folder, port=0):
        self.process = subprocess.Popen([binary, "--port", str(port), "--db", folder / "forno.db", "--bake-ms", "200", "--log", "off",
                                         "--opening-credit", "100000000"], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split()[-1]
        self.port = int(self.url.rsplit(":", 1)[1])

    def stop(self):
        self.process.terminate()
        check(self.process.wait(15) == 0, "the server leaves cleanly")

    def metric(self, name):
        text = run("curl", "-s", f"{self.url}/metrics").stdout
        return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))


def curl(server):
    def told(*arguments, **options):
        r = run("curl", "-sS", "-w", "\n%{http_code} %{num_connects} %{http_version}", *arguments, **options)
        body, _, last = r.stdout.rpartition("\n")
        return body, last, r.stderr

    account = json.dumps({"name": "Ana" + " " * 20})
    _, last, err = told("-v", "-H", "Expect: 100-continue", "-H", JSON, "-d", json.dumps({"name": "Ana"}), f"{server.url}/accounts")
    check(last == "201 1 1.1" and "HTTP/1.1 100 Continue" in err, f"100 Continue comes before the body is sent: {last}")
    _, last, _ = told("-X", "POST", "-H", JSON, "-T", "-", f"{server.url}/accounts", input='{"name":"Bia"}')
    check(last == "201 1 1.1", f"a body in chunks is one like any other: {last}")
    _, last, _ = told("-H", JSON, "-d", account.replace("Ana", "x" * 70000), f"{server.url}/accounts")
    check(last.startswith("413"), f"what is too large is told so, and not by a reset: {last}")
    body, last, _ = told("--http2", f"{server.url}/menu")
    check(last == "200 1 1.1" and '"pizzas"' in body, f"an offer of HTTP/2 is passed over: {last}")
    body, last, _ = told("--http1.0", f"{server.url}/menu")
    check(last.startswith("200 1 1.") and '"pizzas"' in body, f"HTTP/1.0 is answered: {last}")
    _, last, _ = told("-I", f"{server.url}/menu")
    check(last == "200 1 1.1", f"HEAD: {last}")
    etag = re.search(r"(?i)^etag: (.*)$", run("curl", "-sI", f"{server.url}/menu").stdout, re.MULTILINE)[1].strip()
    _, last, _ = told("-H", f"If-None-Match: {etag}", f"{server.url}/menu")
    check(last == "304 1 1.1", f"what has not changed is not sent again: {last}")
    r = run("curl", "-sS", "-w", "%{http_code} %{num_connects}\n", *[f"{server.url}/healthz"] * 50)
    check(re.findall(r"^\d{3} \d+$", r.stdout, re.MULTILINE) == ["200 1"] + ["200 0"] * 49, f"one connection for fifty questions: {r.stdout[:100]}")
    r = run("curl", "-sS", "-Z", "--parallel-max", "30", "-w", "%{http_code}\n", *[f"{server.url}/lab/timer?ms=100"] * 60)
    check(re.findall(r"^\d{3}$", r.stdout, re.MULTILINE) == ["200"] * 60, f"sixty at a time: {r.stdout[:100]}{r.stderr[:200]}")


def httpie(server):
    r = run("http", "--ignore-stdin", "--print=hb", "POST", f"{server.url}/accounts", "name=Ana")
    check("HTTP/1.1 201" in r.stdout, f"an account by httpie: {r.stdout}{r.stderr}")
    token = re.search(r'"token": ?"([^"]*)"', r.stdout)[1]
    r = run("http", "--ignore-stdin", "--check-status", "--print=hb", "POST", f"{server.url}/orders", f"Authorization:Bearer {token}", "Prefer:wait=5",
            "flavor=margherita", "pizzas:=1")
    check("HTTP/1.1 201" in r.stdout and '"ready"' in r.stdout, f"an order by httpie, waited for: {r.stdout}{r.stderr}")
    r = run("http", "--ignore-stdin", "--print=b", f"{server.url}/")
    check("curl" in r.stdout, "httpie, which takes JSON first and then anything, is shown the menu")
    r = run("timeout", "-s", "INT", "2", "http", "--ignore-stdin", "--stream", "--print=b", f"{server.url}/orders/events", f"Authorization:Bearer {token}",
            "Last-Event-ID:0")
    check("retry: 2000" in r.stdout, f"events arrive in httpie while the stream goes on: {r.stdout[:200]}{r.stderr[:200]}")


def python(server):
    """Keep-alive over everything that can be told: bodies and none, errors, HEAD, 304."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.connect()
    first = connection.sock.getsockname()
    etag = None
    for i in range(300):
        for method, path, body, status in (("GET", "/menu", None, 200), ("HEAD", "/menu", None, 200), ("GET", "/nowhere", None, 404),
                                           ("POST", "/accounts", '{"name":""}', 422), ("POST", "/accounts", '{"name":"Ana"}', 201),
                                           ("OPTIONS", "/orders", None, None), ("GET", "/menu", "etag", 304)):
            headers = {"If-None-Match": etag} if body == "etag" else {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, None if body == "etag" else body, headers)
            r = connection.getresponse()
            etag = r.headers["ETag"] or etag
            r.read()
            if status and r.status != status or connection.sock is None or connection.sock.getsockname() != first:
                return check(False, f"{method} {path} is {status} on the connection that was kept: {r.status}, time {i}")
    connection.request("POST", "/accounts", iter([b'{"name"', b':"Bia"}']), {"Content-Type": "application/json"}, encode_chunked=True)
    check(connection.getresponse().status == 201, "2,100 answers on one connection, and then a body in chunks")
    connection.close()


def node(server, folder):
    r = run("node", HERE / "clients.mjs", modules, server.url)
    print(r.stdout, end="")
    passed, failed = map(int, re.search(r"^(\d+) passed, (\d+) failed$", r.stdout, re.MULTILINE).groups()) if r.returncode in (0, 1) and r.stdout else (0, 1)
    counts["passed"] += passed
    counts["failed"] += failed
    check(r.returncode == 0, f"node: {r.stderr[-1000:]}")


def event_source(server, folder):
    """The stream breaks off with its server, and is taken up again at the next one, which tells what was missed."""
    listener = subprocess.Popen(["node", HERE / "events.mjs", modules, server.url], stdout=subprocess.PIPE, text=True)
    token = listener.stdout.readline().strip()
    check(listener.stdout.readline() == "open\n", "the stream is open")
    order = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", JSON, "-H", f"Authorization: Bearer {token}",
             "-d", '{"flavor":"margherita","pizzas":1}']
    check(run(*order, f"{server.url}/orders").stdout == "202", "an order")
    check([listener.stdout.readline().split()[0] for _ in range(2)] == ["placed", "ready"], "what happens is told")
    server.stop()
    again = Server(folder, server.port)
    check(run(*order, f"{again.url}/orders").stdout == "202", "an order while nobody listens")  # it comes again after retry: 2000
    told = [listener.stdout.readline().split() for _ in range(3)]
    check(["open"] in told and [["placed", "2"], ["ready", "2"]] == [line for line in told if line != ["open"]], f"what was missed is told once: {told}")
    listener.terminate()
    listener.wait()
    return again


def loads(server):
    r = run("ab", "-q", "-n", "2000", "-c", "20", f"{server.url}/healthz")
    check(re.search(r"^Complete requests: +2000$", r.stdout, re.M) and re.search(r"^Failed requests: +0$", r.stdout, re.M), f"ab: {r.stdout[-800:]}{r.stderr}")
    r = run("ab", "-q", "-k", "-n", "2000", "-c", "20", f"{server.url}/healthz")
    check(re.search(r"^Failed requests: +0$", r.stdout, re.M) and re.search(r"^Keep-Alive requests: +2000$", r.stdout, re.M),
          f"ab keeps its connections of HTTP/1.0: {r.stdout[-800:]}{r.stderr}")
    r = run("h2load", "--h1", "-n", "5000", "-c", "10", "-m", "10", f"{server.url}/menu")
    check("5000 total, 5000 started, 5000 done, 5000 succeeded, 0 failed" in r.stdout, f"h2load, ten questions ahead: {r.stdout[-600:]}{r.stderr}")
    r = run("wrk", "-t1", "-c50", "-d2s", "--latency", f"{server.url}/menu")
    check("requests in" in r.stdout and "Socket errors" not in r.stdout and "Non-2xx" not in r.stdout, f"wrk: {r.stdout}{r.stderr}")


def main():
    missing = [program for program in ("curl", "http", "ab", "h2load", "wrk", "node") if not shutil.which(program)]
    if missing:
        sys.exit(f"these are not there: {missing}")
    with tempfile.TemporaryDirectory() as name:
        server = Server(Path(name))
        for client in curl, httpie, python, loads:
            began = time.monotonic()
            client(server)
            print(f"{client.__name__}: {time.monotonic() - began:.1f} s")
        node(server, Path(name))
        with tempfile.TemporaryDirectory() as another:
            event_source(Server(Path(another)), Path(another)).stop()
        server.stop()
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    sys.exit(counts["failed"] > 0)


main()
