"""test_proxies.py: behind nginx and HAProxy as docs/proxies.md configures them. Events come at once, waits are waited out, and a
client who leaves is noticed."""

import itertools
import os
import pwd
import random
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from wire import Client, Customer, missing, wait_until

PAGE = Path(__file__).parent.parent / "docs" / "proxies.md"
BAKED = 1  # seconds that a pizza bakes

PROGRAMS = {name: shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin") for name in ("nginx", "haproxy")}
if None in PROGRAMS.values():
    missing("nginx or haproxy is not there: make need-proxies installs both, and Debian starts them")

NGINX = """daemon off;
user {user};
pid {tmp}/nginx.pid;
error_log {tmp}/nginx.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {tmp}/body;
    proxy_temp_path {tmp}/proxy;
    fastcgi_temp_path {tmp}/fastcgi;
    uwsgi_temp_path {tmp}/uwsgi;
    scgi_temp_path {tmp}/scgi;
    {site}
}}
"""

# What nginx does when it is told nothing but where to.
BARE = "server { listen 80; location / { proxy_pass http://127.0.0.1:8000; } }"


def configuration(language):
    """The block of this language in the page."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, f"expected one block of {language} in {PAGE}, got {len(blocks)}"
    return blocks[0]


def adapted(text, listening, server):
    """With ports of this test's own: 80 and 8000 stand in the page once each."""
    for old, new in (r"(listen |bind :)80\b", rf"\g<1>{listening}"), (r"\b127\.0\.0\.1:8000\b", f"127.0.0.1:{server}"):
        text, count = re.subn(old, new, text)
        assert count == 1, f"expected one {old} in {text}"
    return text


def free_port():
    """Below those that the kernel gives to whoever asks for any, so that nobody takes it meanwhile."""
    while True:
        with socket.socket() as s:
            port = random.randrange(20000, 30000)
            try:
                s.bind(("0.0.0.0", port))
                return port
            except OSError:
                continue


def command(kind, tmp_path, listening, server):
    """What to run, with its configuration written."""
    name = "haproxy" if kind == "haproxy" else "nginx"
    site = adapted(BARE if kind == "bare nginx" else configuration(name), listening, server)
    file = tmp_path / f"{name}.conf"
    if name == "haproxy":
        file.write_text(site)
        return [PROGRAMS[name], "-db", "-f", file]
    file.write_text(NGINX.format(user=pwd.getpwuid(os.getuid()).pw_name, tmp=tmp_path, site=site))
    return [PROGRAMS[name], "-p", tmp_path, "-c", file, "-e", tmp_path / "nginx.log"]


@pytest.fixture(params=["bare nginx", "nginx", "haproxy"])
def proxied(request, start_server, tmp_path):
    """A server, and the port of a proxy before it."""
    server = start_server("--lab", "--bake-ms", str(1000 * BAKED))
    listening = free_port()
    with open(tmp_path / "proxy.log", "wb") as log:
        proxy = subprocess.Popen(command(request.param, tmp_path, listening, server.port), stdout=log, stderr=log)

    def is_listening():
        assert proxy.poll() is None, f"the proxy has ended: {[f.read_text() for f in tmp_path.glob('*.log')]}"
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", listening)) == 0

    try:
        wait_until(is_listening)
        yield server, Proxy(server, listening), request.param
    finally:
        proxy.terminate()
        proxy.wait(10)


class Proxy:
    """What a customer asks instead of the server."""

    def __init__(self, server, port):
        self.server, self.port = server, port

    def connect(self, **options):
        return Client(self.port, **options)

    def api(self, method, path, body=None, token=None, **headers):
        with self.connect() as client:
            return client.api(method, path, body, token, **headers)


@pytest.fixture
def ana(proxied):
    """A customer who knows the proxy alone."""
    return Customer(proxied[1])


def subscribe(proxy, path, token=None):
    client = proxy.connect().ask("GET", path, token=token)
    return client, client.events(client.head())


def test_events_come_when_they_happen(proxied, ana):
    """Nothing follows that could push them out of a buffer: the oven is busy for a minute."""
    client, events = subscribe(proxied[1], "/orders/events", ana.token)
    with client:
        assert "retry" in next(events), "expected the stream to begin before anything happens"
        order = ana.order(60).json()["id"]
        for expected in "placed", "cancelled":
            event = next(e for e in events if "event" in e)
            assert event["event"] == expected and f'"id":{order},' in event["data"]
            ana.api("DELETE", f"/orders/{order}")


def test_the_loop_is_watched_live(proxied):
    client, events = subscribe(proxied[1], "/loop/events")
    with client:
        names = [e["event"] for e in itertools.islice((e for e in events if "event" in e), 5)]
    assert names == ["hello"] + 4 * ["tick"]


def test_a_long_poll_is_waited_out(proxied, ana):
    began = time.monotonic()
    r = ana.order(prefer="wait=30")
    assert r.status == 201 and r.json()["status"] == "ready" and r["Preference-Applied"] == "wait=30"
    assert time.monotonic() - began >= BAKED


@pytest.mark.file
def test_when_to_come_back_is_passed_on(proxied, ana):
    server, proxy, _ = proxied
    assert ana.order()["Retry-After"]
    server.db.rename(server.db.with_suffix(".away"))
    try:
        r = proxy.api("GET", "/readyz")
        assert r.status == 503 and r["Retry-After"] and r.problem == "database-missing", f"got {r}"
    finally:
        server.db.with_suffix(".away").rename(server.db)


def established(port):
    """Who is connected to this port of ours and has not closed."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {line[2] for line in lines if line[1] == f"0100007F:{port:04X}" and line[3] == "01"}


@pytest.mark.parametrize("path", ["/orders/events", "/loop/events", "/orders/{id}"])
def test_a_client_who_leaves_is_noticed(proxied, path):
    """The proxy leaves in his place, though nothing is said to him meanwhile."""
    server, proxy, _ = proxied
    direct = server.customer()
    path = path.format(id=direct.order(60).json()["id"])
    with proxy.connect() as client:
        client.ask("GET", path, token=direct.token, prefer="wait=60")
        server.wait_for_metric("forno_requests_live", lambda n: n >= 2)
        wait_until(lambda: established(server.port))
        connected = established(server.port)
        assert not client.is_readable_within(0) or "events" in path, f"expected it to wait, got {client.receive()}"
    wait_until(lambda: not connected & established(server.port), lambda: f"{connected}, {established(server.port)}")


def test_connections_to_the_server_are_kept(proxied):
    server, proxy, kind = proxied
    with proxy.connect() as client:
        assert client.api("GET", "/menu").status == 200
        before = server.metric("forno_accepted_total")
        for _ in range(100):
            assert client.api("GET", "/menu").status == 200
    accepted = server.metric("forno_accepted_total") - before - 1  # the question itself
    assert accepted >= 100 if kind == "bare nginx" else accepted < 10, f"{accepted} connections for 100 requests"


def test_the_menu_is_for_where_it_was_asked(proxied):
    _, proxy, kind = proxied
    page = proxy.api("GET", "/", host="forno").body
    assert (b"curl forno/menu" in page) == (kind != "bare nginx"), f"expected the visitor's Host to be passed on: {page}"
