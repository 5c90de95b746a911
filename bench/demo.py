#!/usr/bin/env python3
"""demo.py: the same service with its waits in the loop and with its waits in place, measured side by side.

    bench/demo.py [./server]

Starts three servers: a courier, which takes 50 ms to think; one that waits for it asynchronously; and one that waits for
it in place (--blocking), as a synchronous server with one worker does. Needs Python and nothing else; takes half a minute."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager

SECONDS = 2.5  # for each cell of the table; a blocking server takes longer to answer the last of its clients
COURIER_MS = 50
WAITING = f"/lab/socket?n=1&ms={COURIER_MS}"  # a request that waits for the courier, once


@contextmanager
def server(binary, directory, name, *options):
    """A server on a free port, and its URL."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("FORNO_") and key != "PORT"}
    command = [binary, "--port", "0", "--db", f"{directory}/{name}.db", "--log", "off", "--lab", *options]
    process = subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, text=True)
    try:
        listening = re.match(r"listening on (http://\S+)", process.stdout.readline())
        if not listening:
            sys.exit(f"{' '.join(command)} does not start")
        yield listening[1]
    finally:
        process.terminate()
        process.wait()


class Client:
    """One connection, kept; get() returns the body and remembers how long it took."""

    def __init__(self, url):
        self.host, self.port = url.removeprefix("http://").rsplit(":", 1)
        self.seconds = []

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(self.host, int(self.port))
        return self

    async def __aexit__(self, *exception):
        self.writer.close()

    async def get(self, path, accept="*/*"):
        began = time.perf_counter()
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\nAccept: {accept}\r\n\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        body = await self.reader.readexactly(int(re.search(rb"Content-Length: (\d+)", head)[1]))
        self.seconds.append(time.perf_counter() - began)
        if b" 200 " not in head.split(b"\r\n")[0] or b'"ok":false' in body:
            sys.exit(f"GET {path}: {head.decode()}{body.decode()}")
        return body.decode()


def p99_ms(seconds):
    return sorted(seconds)[int(len(seconds) * 0.99)] * 1000


async def measure(url, clients):
    """So many clients ask again and again; somebody else asks for /healthz. (requests a second, p99, p99 of the other)"""
    async with Client(url) as bystander:
        crowd = [await Client(url).__aenter__() for _ in range(clients)]
        began = time.perf_counter()

        async def ask(client, path, pause):
            while time.perf_counter() - began < SECONDS:
                await client.get(path)
                await asyncio.sleep(pause)

        async def ask_all():
            await asyncio.gather(*(ask(client, WAITING, 0) for client in crowd))
            return time.perf_counter() - began

        took, _ = await asyncio.gather(ask_all(), ask(bystander, "/healthz", 0.01))
        for client in crowd:
            await client.__aexit__()
        seconds = [s for client in crowd for s in client.seconds]
        return len(seconds) / took, p99_ms(seconds), p99_ms(bystander.seconds)


async def waterfall(url, mode):
    async with Client(url) as client:
        return await client.get(f"/lab/socket?n=12&ms={COURIER_MS}&mode={mode}&limit=4", accept="text/plain")


def main():
    binary = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "server"))
    if not os.access(binary, os.X_OK):
        sys.exit(f"there is no {binary}: run make first")
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        courier = stack.enter_context(server(binary, directory, "courier"))
        urls = {"async": stack.enter_context(server(binary, directory, "async", "--courier", courier)),
                "--blocking": stack.enter_context(server(binary, directory, "blocking", "--courier", courier, "--blocking"))}

        print(f"GET {WAITING} waits {COURIER_MS} ms for the courier. /healthz waits for nothing, but the loop must have time.\n")
        print("clients  server        requests/s    p99 ms    /healthz p99 ms")
        for clients in 1, 10, 100:
            for name, url in urls.items():
                rate, p99, healthz = asyncio.run(measure(url, clients))
                print(f"{clients:7}  {name:12} {rate:11.1f} {p99:9.1f} {healthz:18.1f}", flush=True)
        print("\nOf 100 clients 64 have their call out and 36 stand in line: that is UPSTREAM_ACTIVE, not the loop.\n")
        for mode in "sequence", "together", "limit", "blocking":
            print(asyncio.run(waterfall(urls["async"], mode)), flush=True)


if __name__ == "__main__":
    main()
