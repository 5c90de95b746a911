#!/usr/bin/python3
"""Measure Forno against what the kernel allows, against other servers, and against the tutorial's own stack.

The server under test has one CPU to itself, the generator another; servers take turns, round by round, on the same machine
within the same minutes, so that what counts are the ratios. Nothing is reported when somebody else was at work meanwhile.

A complete run writes bench/RESULTS.md; with --only or --quick it only prints.
"""

import argparse
import glob
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time

import machine
import roads
import seed
from cases import CASES
from servers import BUILD, HERE, Kitchen

ROOT = os.path.dirname(HERE)
RESULTS = os.path.join(HERE, "RESULTS.md")

BUSY = 0.05  # of one CPU, used by others during a round: more than that, and the round is worth nothing

NEEDED = {
    "cc": "gcc", "wrk": "wrk", "nginx": "nginx-light", "h2o": "h2o", "node": "nodejs",
    "tornado": "python3-tornado", "sqlalchemy": "python3-sqlalchemy", "flask": "python3-flask", "gunicorn": "gunicorn",
}  # fmt: skip


def check_needed():
    modules = ("tornado", "sqlalchemy", "flask", "gunicorn")
    missing = [p for n, p in NEEDED.items() if not (importlib.util.find_spec(n) if n in modules else shutil.which(n))]
    if missing:
        raise SystemExit(f"missing: apt-get install {' '.join(missing)}  (make bench does that; Python is {sys.executable})")
    if os.cpu_count() < 2:
        raise SystemExit("one CPU is too few: the generator needs one of its own")


def build():
    """What is ours: the ceiling, and the parser's timer with the very objects that are in the server."""
    flags = ["-std=c17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-O2", "-g", "-I" + ROOT]
    release = os.path.join(ROOT, "build", "release")
    parser = [os.path.join(release, "http.o"), *glob.glob(os.path.join(release, "text", "*.o"))]
    for name, more in (("ceiling", []), ("parse", parser)):
        subprocess.run(["cc", *flags, "-o", os.path.join(BUILD, name), os.path.join(HERE, name + ".c"), *more], check=True)


class Bench:
    """What a case is given: servers, rounds, a place for its results."""

    def __init__(self, kitchen, options):
        self.kitchen, self.force, self.patience = kitchen, options.force, options.patience
        self.largest_file = 10_000_000 if options.long else 100_000 if options.quick else 1_000_000
        self.rounds, self.seconds, self.repeats = (2, 1, 50) if options.quick else (9, 1, 300)
        self.lines, self.targets = [], []
        self.rounds_done = self.disturbed = 0
        self.worst = 0.0  # how much of a CPU others used in the worst of those

    # ---- measuring ----

    def undisturbed(self, measure):
        """What `measure` returns, from a time when nobody else was at work. With --force, when patience is at its end, from
        whatever time there is."""
        while True:
            began = time.monotonic()
            bystanders = machine.Bystanders()
            result = measure()
            share = bystanders.share()
            self.rounds_done += 1
            if share <= BUSY:
                return result
            if self.patience <= 0 and self.force:
                self.disturbed += 1
                self.worst = max(self.worst, share)
                return result
            self.patience -= time.monotonic() - began
            say(f"  (others used {share:.0%} of a CPU, most of all {bystanders.busiest()}: waiting)")
            self.wait_for_quiet()

    def wait_for_quiet(self):
        share = 1.0
        while share > BUSY:
            if self.patience <= 0 and self.force:
                return
            if self.patience <= 0:
                raise SystemExit("The machine is busy: what is measured now is worth nothing. Later, or with --force.")
            bystanders = machine.Bystanders()
            time.sleep(0.5)
            share = bystanders.share()
            self.patience -= 0.5

    def database_path(self, count):
        return self.kitchen.path(f"orders-{count}.db")

    def database_with(self, count):
        """A Forno over a database with so many orders, made on the first call."""
        path = self.database_path(count)
        if not os.path.exists(path):
            self.kitchen.forno(database=path).stop()
            self.kitchen.running.pop()
            seed.seed(path, count)
            audit = subprocess.run([self.kitchen.forno_binary, f"--audit={path}"], capture_output=True, text=True, check=False)
            if count <= 100_000 and audit.returncode:
                raise SystemExit(f"the database that was made is not sound:\n{audit.stdout}")
        return self.kitchen.forno(database=path)

    # ---- telling ----

    def note(self, text):
        self.tell(f"Note: {text}.\n")

    def tell(self, text):
        say(text)
        self.lines.append(text)

    def table(self, head, rows):
        self.tell(rows_text([head, ["---"] + ["---:"] * (len(head) - 1), *rows]) + "\n")

    def target(self, work, wanted, measured, reached):
        self.targets.append([work, wanted, measured, "yes" if reached else "**no**"])
        say(f"  {'reached' if reached else 'MISSED '}  {work}: {measured} (wanted: {wanted})")


def say(text):
    print(text, flush=True)


def rows_text(rows):
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def report(bench, about, options):
    head = ["# Results", "", *(f"- {key}: {value}" for key, value in about.items())]
    head += [
        f"- how: {bench.rounds} rounds of {bench.seconds} s for each server, in turn (with many connections or much writing: "
        f"up to 5 rounds, of {2 * bench.seconds} s); the server on CPU {machine.SERVER_CPU} "
        f"with all its threads, the generator on CPU {machine.GENERATOR_CPU}, over loopback; no server writes an access log; "
        "tables show the median (least – greatest)"
    ]
    if bench.disturbed:
        which = f"{bench.disturbed} of {bench.rounds_done} measurements"
        head += ["", f"**Forced: during {which} others were at work, at worst with {bench.worst:.0%} of a CPU.**"]
    else:
        head += [f"- quiet: in no measurement did others use more than {BUSY:.0%} of a CPU"]
    head += ["", "## Targets", "", rows_text([["work", "wanted", "measured", "reached"], ["---"] * 4, *bench.targets]), ""]
    return "\n".join(head + bench.lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: about two minutes, for a look")
    parser.add_argument("--long", action="store_true", help="also a file with 10,000,000 orders, and PostgreSQL: ten minutes and 2 GB more")
    parser.add_argument("--only", action="append", choices=CASES, metavar="CASE", help=f"one of: {', '.join(CASES)}")
    parser.add_argument("--patience", type=int, default=120, metavar="SECONDS", help="wait so long, in all, for quiet (120)")
    parser.add_argument("--force", action="store_true", help="after that, measure all the same, and say so in the results")
    options = parser.parse_args()

    wanted = options.only or [name for name in CASES if options.long or name != "roads"]
    check_needed()
    if "roads" in wanted:
        roads.workshop().close()  # whether there is one
    machine.raise_descriptor_limit()
    os.makedirs(BUILD, exist_ok=True)
    build()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers are ended on the way out
    os.sched_setaffinity(0, {machine.GENERATOR_CPU})
    forno = os.path.join(ROOT, "server")
    about = machine.description(forno, BUILD)
    with Kitchen(forno) as kitchen:
        bench = Bench(kitchen, options)
        for name in wanted:
            title, measure = CASES[name]
            say(f"\n{title} [{name}]")
            bench.lines += [f"## {title}", "", measure.__doc__.replace("\n    ", "\n"), ""]
            measure(bench)
            kitchen.stop_all()
    text = report(bench, about, options)
    if options.only or options.quick:
        say("\n" + text)
    else:
        with open(RESULTS, "w", encoding="utf-8") as file:
            file.write(text)
        say(f"written to {os.path.relpath(RESULTS)}")


if __name__ == "__main__":
    main()
