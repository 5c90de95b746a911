"""failover.py: what clients see while a primary dies and its standby takes over.

A primary, a standby that follows it, two Fornos in front of them, nginx in front of these (or, without nginx, clients that take turns), and 64
clients that order pizza, each order under a key of its own. In the third second the primary is killed with all its processes, and a moment
later the standby is promoted; nobody else is told. A line a second says what the clients saw; in the end every order that was acknowledged is
looked for.

    failover.py               the standby confirms every commit: nothing may be lost
    failover.py --async       it follows as it can. This is the control: if nothing is lost here, the other run has proved nothing
    failover.py --freeze      the primary is not killed but stopped in its tracks: nobody is told that it is gone
    failover.py --turns 5     so many times; the last line is for all of them
    failover.py --url 'postgresql://forno@db1:5432,db2:5432/forno' --do 'ssh db1 halt -fp'
                              a database that is there already, and what happens to it; somebody else has to promote the standby"""

import argparse
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pg

SERVER = os.environ.get("FORNO_SERVER") or str(Path(__file__).parent.parent / "server")
CLIENTS = 64
AFTER = 3.0  # seconds: then the primary dies
PAUSE = 0.05  # seconds before a client asks again: less than Retry-After says, to see the gap and not our patience
ORDER = b'{"flavor":"margherita","pizzas":1}'

NGINX = """daemon off; pid {tmp}/nginx.pid; error_log {tmp}/nginx.log; user {user};
events {{ }}
http {{
    access_log off;
    client_body_temp_path {tmp}/body; proxy_temp_path {tmp}/proxy; fastcgi_temp_path {tmp}/fastcgi; uwsgi_temp_path {tmp}/uwsgi; scgi_temp_path {tmp}/scgi;
    upstream fornos {{ {servers} keepalive 64; }}
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://fornos; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
}}
"""


class Connection:
    """One connection, which is made again when it breaks."""

    def __init__(self, ports):
        self.ports, self.turn, self.sock = ports, 0, None

    def ask(self, head, body=b""):
        """(status, body); OSError when there is no answer."""
        if not self.sock:
            self.turn += 1
            self.sock = socket.create_connection(("127.0.0.1", self.ports[self.turn % len(self.ports)]), timeout=20)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.sock.sendall(head + b"\r\nHost: forno\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            data = b""
            while b"\r\n\r\n" not in data:
                data += self._more()
            head, _, body = data.partition(b"\r\n\r\n")
            length = int(re.search(rb"(?i)\ncontent-length: *(\d+)", head)[1])
            while len(body) < length:
                body += self._more()
            if re.search(rb"(?i)\nconnection: *close", head):
                self.close()
            return int(head.split(None, 2)[1]), body
        except OSError:
            self.close()
            raise

    def _more(self):
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionResetError("closed")
        return data

    def close(self):
        if self.sock:
            self.sock.close()
        self.sock = None


class Client(threading.Thread):
    """Orders until told to stop, and notes when each order was acknowledged."""

    def __init__(self, number, ports, over):
        super().__init__(daemon=True)
        self.number, self.over, self.connection = number, over, Connection(ports)
        self.acknowledged, self.refused, self.broken = [], [], []  # [(when, key, id)], [when], [when]
        status, body = self.connection.ask(b"POST /accounts HTTP/1.1\r\nContent-Type: application/json", b'{"name":"Number %d"}' % number)
        assert status == 201, body
        self.token = re.search(rb'"token":"([^"]+)"', body)[1]
        self.account = int(re.search(rb'"id":(\d+)', body)[1])

    def run(self):
        count = 0
        while not self.over.is_set():
            key = b"%d-%d" % (self.number, count)
            head = b"POST /orders HTTP/1.1\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nIdempotency-Key: %s" % (self.token, key)
            try:
                status, body = self.connection.ask(head, ORDER)
            except OSError:
                self.broken.append(time.monotonic())
                self.over.wait(PAUSE)
                continue
            if status == 202:
                self.acknowledged.append((time.monotonic(), key.decode(), int(re.search(rb'"id":(\d+)', body)[1])))
                count += 1
            else:
                self.refused.append(time.monotonic())
                self.over.wait(PAUSE)


def start_forno(url, log):
    process = subprocess.Popen([SERVER, "--port", "0", "--db", url, "--opening-credit", "1000000000000", "--log", "off"],
                               stdout=subprocess.PIPE, stderr=log, text=True)
    match = re.search(r":(\d+)$", process.stdout.readline().strip())
    assert match, "Forno did not start: is there a server? make"
    return process, int(match[1])


def start_nginx(tmp, ports):
    """The port of nginx in front of these, or theirs, where there is no nginx."""
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
    if not nginx:
        return None, ports
    port = pg.free_port()
    (tmp / "nginx.conf").write_text(NGINX.format(tmp=tmp, port=port, user=pwd.getpwuid(os.getuid()).pw_name,
                                                 servers=" ".join(f"server 127.0.0.1:{p};" for p in ports)))
    process = subprocess.Popen([nginx, "-p", tmp, "-c", tmp / "nginx.conf", "-e", tmp / "nginx.log"])
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, [port]
        except OSError:
            assert process.poll() is None, "nginx has ended"
            time.sleep(0.01)


def tell(clients, began, second, event):
    """What the clients saw in this second."""
    first, last = began + second, began + second + 1
    taken = sum(1 for c in clients for when, _, _ in list(c.acknowledged) if first <= when < last)
    refused = sum(1 for c in clients for when in list(c.refused) if first <= when < last)
    broken = sum(1 for c in clients for when in list(c.broken) if first <= when < last)
    print(f"{second + 1:3d} s  {taken:6,d} orders taken  {refused:5,d} told to ask again  {broken:4d} connections lost  {event}".rstrip(), flush=True)


def longest_gap(clients, began):
    """(seconds, when it began) between two acknowledgements, whoever got them."""
    times = sorted(when for c in clients for when, _, _ in c.acknowledged)
    return max(((later - earlier, earlier - began) for earlier, later in zip(times, times[1:])), default=(float("inf"), 0))


def look_for(clients, sql):
    """The acknowledged orders that are not there under the key and the number that were told."""
    there = {(account, key): order for account, key, order in
             sql("SELECT k.account_id, k.key, o.id FROM forno.keys k JOIN forno.orders o ON o.id = k.subject_id WHERE k.outcome = 'ok'")}
    return [(c.account, key) for c in clients for _, key, order in c.acknowledged if there.get((c.account, key)) != order]


class Pair:
    """A primary and its standby, made for one turn."""

    def __init__(self, workshop, options):
        self.options = options
        self.primary = workshop.cluster(fsync="on")
        self.standby = workshop.standby_of(self.primary)
        if not options.asynchronous:
            self.primary.confirm_by("standby")
        self.name = pg.database_of(self.primary.new_database())
        self.url, self.after = self.primary.url(self.name, others=[self.standby]), self.standby.url(self.name)

    def catastrophe(self, happened):
        """Let it happen; happened("…") notes when."""
        if self.options.asynchronous:
            # What a slow network does, made certain: the standby is half a second behind.
            os.kill(self.primary.worker("walsender"), signal.SIGSTOP)
            time.sleep(0.5)
        (self.primary.freeze if self.options.freeze else self.primary.kill)()
        happened("the primary is frozen" if self.options.freeze else "the primary is dead")
        time.sleep(self.options.promote_after)
        self.standby.promote()
        happened("the standby is promoted")

    def close(self):
        self.primary.destroy()
        self.standby.destroy()


class Given:
    """A database that is there, and a command that harms it."""

    def __init__(self, options):
        self.url = self.after = options.url
        self.command = options.command

    def catastrophe(self, happened):
        happened("it begins")
        subprocess.run(self.command, shell=True, check=True)
        happened("it is done")

    def close(self):
        pass


def fail_over(pair, tmp, options):
    """One turn: (acknowledged, lost, longest gap, how long after the last thing that happened it ended, the audit's verdict)."""
    fornos, nginx, over = [], None, threading.Event()
    with open(tmp / "log", "a") as log:
        try:
            fornos = [start_forno(pair.url, log) for _ in range(2)]
            nginx, ports = start_nginx(tmp, [port for _, port in fornos])
            clients = [Client(i, ports, over) for i in range(CLIENTS)]
            began = time.monotonic()
            for client in clients:
                client.start()
            last = watch(clients, pair, began, options.seconds)
            over.set()
            for client in clients:
                client.join(30)
        finally:
            over.set()
            for process in [nginx] + [process for process, _ in fornos]:
                if process:
                    process.send_signal(signal.SIGTERM)
                    process.wait(20)
    connection = pg.psycopg2().connect(pair.after, target_session_attrs="read-write", connect_timeout=2)
    with pg.Session(connection) as sql:
        lost = look_for(clients, sql)
    audit = subprocess.run([SERVER, "--audit", pair.after], capture_output=True, text=True)
    gap, when = longest_gap(clients, began)
    acknowledged = sum(len(c.acknowledged) for c in clients)
    print(f"acknowledged {acknowledged:,}, lost {len(lost):,}; nobody was served for {gap:.2f} s at the longest, from second {when:.2f} on; "
          f"the audit says {'sound' if audit.returncode == 0 else 'NOT SOUND: ' + audit.stdout + audit.stderr}\n", flush=True)
    return acknowledged, len(lost), gap, when + gap - last, audit.returncode


def watch(clients, pair, began, seconds):
    """Let it happen, and tell of it. Returns when the last thing happened, in seconds since it began."""
    happened = []

    def happen():
        time.sleep(max(0, began + AFTER - time.monotonic()))
        pair.catastrophe(lambda what: happened.append((time.monotonic() - began, what)))

    thread = threading.Thread(target=happen, daemon=True)
    thread.start()
    for second in range(seconds):
        time.sleep(max(0, began + second + 1.02 - time.monotonic()))
        tell(clients, began, second, ", ".join(f"{what} at {at:.2f} s" for at, what in list(happened) if second <= at < second + 1))
    thread.join(60)
    return happened[-1][0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--async", dest="asynchronous", action="store_true")
    parser.add_argument("--freeze", action="store_true")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--promote-after", type=float, default=0.4, help="seconds between the end of the primary and the promotion")
    parser.add_argument("--url", help="a database that is there already")
    parser.add_argument("--do", dest="command", default="true", help="with --url: the command that harms it")
    options = parser.parse_args()
    try:
        pg.psycopg2()
        workshop = None if options.url else pg.Workshop()
    except pg.Missing as why:
        sys.exit(str(why))
    tmp, turns = Path(tempfile.mkdtemp(prefix="forno-failover-")), []
    try:
        for _ in range(options.turns):
            pair = Given(options) if options.url else Pair(workshop, options)
            turns.append(fail_over(pair, tmp, options))
            pair.close()
    finally:
        if workshop:
            workshop.close()
        shutil.rmtree(tmp, ignore_errors=True)
    lost = sum(turn[1] for turn in turns)
    print(f"{options.turns} times, {'asynchronous (the control: it has to lose)' if options.asynchronous else 'synchronous'}: "
          f"acknowledged {sum(turn[0] for turn in turns):,}, lost {lost:,}; longest gap {max(turn[2] for turn in turns):.2f} s, "
          f"which ended {max(turn[3] for turn in turns):+.2f} s after {'what was done' if options.url else 'the promotion'} at worst")
    if options.asynchronous:
        sys.exit(0 if lost else "nothing was lost: the control has failed, it proves nothing")
    sys.exit(1 if lost or any(turn[4] for turn in turns) else 0)


if __name__ == "__main__":
    main()
