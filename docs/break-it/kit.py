"""kit.py: what the symptoms stand on: the real binary (FORNO_SERVER), and the tests' own client (tests/wire.py).

A symptom counts, it does not measure: on a busy machine everything takes longer, but nothing becomes more or less. Where something must
not happen for ever, the clock is the server itself: others were served a hundred times meanwhile, and its own Date has moved on.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import wire  # noqa: E402

PORTUGUESE = (os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or "").startswith("pt")
SOUND, ILL, NOT_HERE = 0, 1, 77
REQUEST = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"


def say(english, portuguese):
    return portuguese if PORTUGUESE else english


class Watcher:
    """A connection of its own, opened before anything goes wrong: it asks, and so counts what the loop does and how often."""

    def __init__(self, server):
        self.client = server.connect()
        self.answered, self.date = 0, None

    def look(self):
        """What /metrics says now: a dict of the numbers without labels."""
        r = self.client.api("GET", "/metrics")
        self.answered += 1
        self.date = parsedate_to_datetime(r["Date"])
        return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", r.body.decode(), re.MULTILINE)}

    def laps_of_a_nap(self, ms=500):
        """How often the loop turned while a request that this connection had sent waited for a timer."""
        self.client.ask("GET", "/metrics").ask("GET", f"/lab/timer?ms={ms}").ask("GET", "/metrics")
        first, _, last = (self.client.response().body.decode() for _ in range(3))
        return laps_told(last) - laps_told(first)

    def saw(self, condition, seconds=3, pause=0.01):
        """Ask until it is so: True. False: a hundred times in a row nothing was under way in the database, whose work may take as
        long as the disk likes, some seconds passed on the server's clock, and still it is not so. The pause only spares the processor."""
        since, quiet = None, 0
        while not condition():
            time.sleep(pause if quiet > 20 else 0)
            now = self.look()
            is_quiet = now["forno_db_queue_depth"] == 0 and now["forno_db_busy"] == 0
            quiet, since = (quiet + 1, since or self.date) if is_quiet else (0, None)
            if quiet > 100 and (self.date - since).total_seconds() >= seconds:
                return condition()
        return True


def laps_told(metrics):
    return int(re.search(r"^forno_lap_seconds_count (\d+)$", metrics, re.MULTILINE)[1])


class Stage:
    """A folder of its own, and the servers in it; all are gone when it is over."""

    def __init__(self):
        self.folder, self.servers = Path(tempfile.mkdtemp(prefix="forno-symptom-")), []
        self.log = self.folder / "strace"

    def start(self, *options, strace=None):
        """The server with a fresh database, or the one of the last server. strace: options that slow it down or make its calls fail."""
        if strace:
            self.slow_down(strace)
        defaults = ("--bake-ms", "60000", "--opening-credit", "1000000", "--log", "off")
        self.servers.append(wire.Server(self.folder / "forno.db", self.folder / "stderr", *defaults, *options))
        return self.servers[-1]

    def slow_down(self, options):
        """From now on the binary is a script that starts the real one under strace (strace(1), "tampering")."""
        if not shutil.which("strace") or subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode:
            leave(NOT_HERE, say("the kernel forbids ptrace here, or there is no strace: this symptom needs it",
                                "o kernel proíbe ptrace aqui, ou não há strace: este sintoma precisa dele"))
        script = self.folder / "slow"
        script.write_text(f'#!/bin/sh\nexec strace -f -qq -o {self.log} {options} "{wire.BINARY}" "$@"\n')
        script.chmod(0o755)
        wire.BINARY = str(script)
        os.environ["ASAN_OPTIONS"] = "detect_leaks=0"  # LeakSanitizer and strace exclude each other

    def clear(self):
        for server in self.servers:
            children = Path(f"/proc/{server.pid}/task/{server.pid}/children")  # of strace, if it is strace
            if server.process.poll() is None:
                for pid in children.read_text().split():
                    os.kill(int(pid), 9)
                server.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def has_died(server):
    """It may be busy dying: a sanitizer's report takes a while."""
    try:
        return server.process.wait(2) != 0
    except subprocess.TimeoutExpired:
        return False


def leave(status, line):
    print(line, flush=True)
    raise SystemExit(status)


def show(act):
    """Run act(stage), which returns (sound?, English, Portuguese), print the line, and leave with the verdict."""
    stage = Stage()
    try:
        sound, english, portuguese = act(stage)
    except (AssertionError, OSError) as error:
        gone = [server for server in stage.servers if not server.killed and has_died(server)]
        said = gone[-1].stderr(40000) if gone else ""
        report = wire.SANITIZER.search(said)
        what = next((line for line in said.splitlines() if report and report[0] in line), "") or str(error).split("\n")[0][:200]
        sound = False
        english, portuguese = (f"the server is dead ({what})", f"o servidor morreu ({what})") if gone else (
            f"no answer as it should be: {what}", f"não veio a resposta que devia vir: {what}")
    finally:
        stage.clear()
    leave(SOUND if sound else ILL, say(english, portuguese))
