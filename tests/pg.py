"""pg.py: PostgreSQL for whoever needs one for a while: a cluster in a scratch folder, at a port and a socket of its own, and all that can
go wrong with it. Nothing here knows the tests, so that demonstrations and measurements can use it, too.

initdb takes a second, copying what it made a tenth of that: each cluster is a copy of one. PostgreSQL refuses to run as root; where we
are root, it runs as somebody with fewer rights."""

import ctypes
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

USER, PASSWORD = "forno", "Quattro-Stagioni"  # no superuser: a few connections stay reserved for the one who is, ADMIN
ADMIN = "admin"
PROMPT = 30.0  # seconds for anything that PostgreSQL does at once
COMFORT = {"shared_buffers": "32MB", "autovacuum": "off", "fsync": "off", "log_min_messages": "fatal", "max_wal_size": "256MB"}


class Missing(Exception):
    """There is no PostgreSQL here, or no way to run one."""


def newest():
    """The programs of the newest server that Debian has put here."""
    there = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if not there:
        raise Missing("there is no PostgreSQL here: make need-postgres")
    return there[-1].parent


def psycopg2():
    try:
        import psycopg2
    except ImportError:
        raise Missing("python3-psycopg2 is not here: make need-postgres") from None
    return psycopg2


def somebody():
    """Who runs the server: ourselves, or, since root may not, one who owns nothing else of value here."""
    if os.getuid():
        return pwd.getpwuid(os.getuid())
    for name in "postgres", "nobody":
        try:
            return pwd.getpwnam(name)
        except KeyError:
            pass
    raise Missing("neither postgres nor nobody is a user here, and PostgreSQL refuses to run as root")


def free_port():
    """Below those that the kernel hands out to clients: it stays free while a cluster is restarted."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(max(1024, first - 12000), first)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def die_with_us():
    """Whoever ends the tests in the middle leaves no database behind. SIGQUIT: at once."""
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT, 0, 0, 0)  # PR_SET_PDEATHSIG


class Workshop:
    """Where clusters are made: a folder, who owns it, and the copy that the others are made from."""

    def __init__(self):
        self.bin, self.user, self.made = newest(), somebody(), []
        psycopg2()
        self.folder = Path(tempfile.mkdtemp(prefix="forno-pg-"))  # a short name: a socket's path has 107 bytes at most
        try:
            self._make_model()
        except BaseException:
            self.close()
            raise

    def _make_model(self):
        self.model, password = self.folder / "model", self.folder / "password"
        password.write_text(PASSWORD)
        for path in self.folder, password:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        self.run("initdb", "--no-sync", "--no-instructions", "--auth=scram-sha-256", f"--username={ADMIN}", f"--pwfile={password}",
                 "--locale=C", "--encoding=UTF8", "-D", self.model)
        (self.model / "pg_hba.conf").write_text("local all,replication all trust\nhost replication all all trust\n"
                                             "host all all all scram-sha-256\n")
        first = self.cluster(data=self.model)
        with first.admin() as sql:
            sql(f"CREATE ROLE {USER} LOGIN CREATEDB PASSWORD '{PASSWORD}'")
        first.stop()
        self.made.clear()

    def as_user(self):
        who = {} if os.getuid() else dict(user=self.user.pw_uid, group=self.user.pw_gid, extra_groups=[])  # only root may say so
        return dict(**who, cwd=self.folder, env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C"})

    def run(self, program, *arguments):
        done = subprocess.run([self.bin / program, *map(str, arguments)], capture_output=True, text=True, timeout=2 * PROMPT, **self.as_user())
        assert done.returncode == 0, f"{program} failed: {done.stdout}{done.stderr}"
        return done.stdout

    def cluster(self, data=None, start=True, **settings):
        """A new one, running; settings are those of postgresql.conf."""
        if not data:
            data = self.folder / f"c{len(self.made)}"
            subprocess.run(["cp", "-a", self.model, data], check=True)
        cluster = Cluster(self, data, settings)
        self.made.append(cluster)
        if start:
            cluster.start()
        return cluster

    def standby_of(self, primary, name="standby", **settings):
        """A copy that follows it by streaming. It is told by primary.confirm_by(name) to matter."""
        data = self.folder / f"c{len(self.made)}"
        self.run("pg_basebackup", "-h", primary.folder, "-p", primary.port, "-U", ADMIN, "-D", data, "-c", "fast", "-X", "stream",
                 "--no-sync", "-R")
        (data / "postmaster.pid").unlink(missing_ok=True)
        follow = f"host={primary.host} port={primary.port} user={ADMIN} application_name={name}"
        standby = self.cluster(data, start=False, primary_conninfo=f"'{follow}'", **{**primary.settings, **settings})
        standby.start()
        return standby

    def close(self):
        for cluster in self.made:
            cluster.destroy()
        shutil.rmtree(self.folder, ignore_errors=True)


class Cluster:
    host = "127.0.0.1"

    def __init__(self, workshop, data, settings):
        self.workshop, self.data, self.port = workshop, data, free_port()
        self.folder = workshop.folder  # its Unix socket lies here, named for the port
        self.settings = {**COMFORT, **settings}
        self.process, self.frozen, self.count = None, [], 0
        self.log = Path(f"{data}.log")

    # --- its life

    def start(self):
        settings = {**self.settings, "port": self.port, "listen_addresses": f"'{self.host}'", "unix_socket_directories": f"'{self.folder}'"}
        (self.data / "postgresql.auto.conf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([self.workshop.bin / "postgres", "-D", self.data], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, start_new_session=True, preexec_fn=die_with_us, **self.workshop.as_user())
        self._wait(lambda: self._state() in ("ready", "standby"), "did not start")

    def _state(self):
        """What it says of itself in the last line of its pid file."""
        assert self.process.poll() is None, f"PostgreSQL has ended: {self.said()}"
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return None
        return lines[7].strip() if len(lines) > 7 and int(lines[0]) == self.process.pid else None

    def said(self, tail=2000):
        return self.log.read_bytes()[-tail:].decode(errors="replace") if self.log.exists() else ""

    def _wait(self, condition, what):
        deadline = time.monotonic() + PROMPT
        while not condition():
            assert time.monotonic() < deadline, f"PostgreSQL {what} within {PROMPT} s: {self.said()}"
            time.sleep(0.005)

    def stop(self):
        """In good order, but without waiting for those who are connected."""
        if self.process and self.process.poll() is None:
            self.thaw()
            self.process.send_signal(signal.SIGINT)
            self.process.wait(PROMPT)
        self.process = None

    def restart(self):
        self.stop()
        self.start()

    def family(self):
        """The postmaster and all its processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def kill(self):
        """kill -9 of all its processes at once: what a machine that dies would look like to its clients, but for its kernel's farewell."""
        self.freeze()
        for pid in self.frozen:
            _signal(pid, signal.SIGKILL)
        self.process.wait(PROMPT)
        self._wait(lambda: not any(_lives(pid) for pid in self.frozen), "did not die")
        self.process, self.frozen = None, []

    def freeze(self):
        """Nothing answers any more, and nobody is told."""
        _signal(self.process.pid, signal.SIGSTOP)  # first: it has no more children then
        self.frozen = self.family()
        for pid in self.frozen:
            _signal(pid, signal.SIGSTOP)

    def thaw(self):
        for pid in self.frozen:
            _signal(pid, signal.SIGCONT)
        self.frozen = []

    def destroy(self):
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.data, ignore_errors=True)

    # --- talking to it

    def connect(self, database="postgres", user=ADMIN, **options):
        """psycopg2's connection, which commits each statement by itself unless told otherwise."""
        connection = psycopg2().connect(host=str(self.folder), port=self.port, dbname=database, user=user, **options)
        connection.autocommit = True
        return connection

    def admin(self, database="postgres"):
        """It waits for no standby: what it does is done even when there is none left."""
        return Session(self.connect(database, options="-c synchronous_commit=local"))

    def new_database(self, owner=USER, options=""):
        """An empty one; returns its URL. An owner who is not there is made, with the same password."""
        self.count += 1
        name = f"forno_{self.count}"
        with self.admin() as sql:
            if not sql("SELECT 1 FROM pg_roles WHERE rolname = %s", owner):
                sql(f"CREATE ROLE {owner} LOGIN PASSWORD '{PASSWORD}'")
            sql(f"CREATE DATABASE {name} OWNER {owner} {options}")
        return self.url(name, user=owner)

    def url(self, database, password=PASSWORD, host=None, port=None, user=USER, others=(), **parameters):
        """others: clusters that may have to stand in for this one."""
        hosts = ",".join([f"{host or self.host}:{port or self.port}", *(f"{other.host}:{other.port}" for other in others)])
        more = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in parameters.items())
        return f"postgresql://{user}:{password}@{hosts}/{database}" + (f"?{more}" if more else "")

    def drop(self, url):
        with self.admin() as sql:
            sql(f"DROP DATABASE IF EXISTS {database_of(url)} WITH (FORCE)")

    # --- what can be done to it

    def cut(self, url):
        """End all sessions of this database, as an administrator may. Returns how many there were."""
        with self.admin() as sql:
            return len(sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", database_of(url)))

    def alter_database(self, url, change):
        with self.admin() as sql:
            sql(f"ALTER DATABASE {database_of(url)} {change}")

    def change_password(self, user, password):
        with self.admin() as sql:
            sql(f"ALTER ROLE {user} PASSWORD '{password}'")

    def set(self, **settings):
        """Change settings that need no restart."""
        self.settings.update(settings)
        with self.admin() as sql:
            for name, value in settings.items():
                sql(f"ALTER SYSTEM SET {name} = {value}")
            sql("SELECT pg_reload_conf()")

    def confirm_by(self, name="standby"):
        """From now on a commit is one only when that standby has it, too. None: no longer."""
        self.set(synchronous_standby_names=f"'{name or ''}'")
        if name:
            self._wait(lambda: self._state_of(name) == "sync", f"has no {name} that confirms")

    def _state_of(self, name):
        with self.admin() as sql:
            rows = sql("SELECT sync_state FROM pg_stat_replication WHERE application_name = %s AND state = 'streaming'", name)
        return rows[0][0] if rows else None

    def promote(self):
        """A standby becomes the one that takes writes."""
        with self.admin() as sql:
            assert sql("SELECT pg_promote(true, 30)") == [(True,)], "it was not promoted"

    # --- a helper process of its own

    def worker(self, kind):
        """The pid of one of its own processes: 'walwriter', 'walsender', 'walreceiver'."""
        with self.admin() as sql:
            rows = sql("SELECT pid FROM pg_stat_activity WHERE backend_type = %s", kind)
        assert rows, f"there is no {kind}"
        return rows[0][0]


class Session:
    """sql("SELECT …", value, …): rows, or None where there are none. In a with block it is closed at its end."""

    def __init__(self, connection):
        self.connection = connection

    def __call__(self, statement, *values):
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.connection.close()


def database_of(url):
    return re.search(r"/(\w+)(?:\?|$)", url.split("://", 1)[1])[1]


def _signal(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
