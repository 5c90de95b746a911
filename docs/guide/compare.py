#!/usr/bin/python3
"""compare.py: the eight steps of the guide and Forno, on this machine, under the same load. `make compare` builds what it needs
and runs it; --quick takes half the time, --check says whether what the guide teaches from the figures holds for these.

The server gets one CPU with all its processes and threads, the guests (load.c) another. Others may be at work here too: so each
figure is the better of two turns (--quick: of one), and what is compared is answers for a second of the server's CPU time."""

import argparse
import contextlib
import ctypes
import os
import platform
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True  # what lies in docs is installed
import picture

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
BUILT = TOP / "build" / "guide"
BUILT_STEPS = TOP / "build" / "steps"
STEPS = ["1-blocking", "2-fork", "3-threads", "4-poll", "5-epoll", "5-edge", "6-coroutine", "7-uring"]
SERVERS = [*STEPS, "Forno"]
FORBIDDEN = 69  # how 7-uring ends if the kernel forbids it

ASKERS = 16  # who ask for what is answered at once, again and again
CROWD = 1000  # waiters beside whom memory, threads and processes are counted
MEASURE_MS = 300
PIZZA_MS, PATIENCE_MS = 100, 1500
DESCRIPTORS, TASKS, TOO_MANY = 1024, 1000, 1500  # what is allowed, and how many come, where we see what breaks
KERNEL_STACK = 16384  # of every thread; the rest of what the kernel keeps for it is not counted
NOBODY = 65534
PR_SET_CHILD_SUBREAPER = 36


class Unavailable(Exception):
    """This machine does not offer it."""


# ---- servers ---------------------------------------------------------------------------------------------------------------------


def cpus():
    """(the server's, the guests'): one each, or all for both if there is only one."""
    all_of_them = sorted(os.sched_getaffinity(0))
    return ({all_of_them[0]}, {all_of_them[-1]}) if len(all_of_them) > 1 else (set(all_of_them), set(all_of_them))


def tasks_of(uid):
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == uid:
                count += len(os.listdir(process / "task"))
    return count


def be_modest():
    """In the child, before it is the server: the limits that a shell has by default, or less. Root has none for tasks: become nobody."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    allowed = tasks_of(os.getuid()) + TASKS
    resource.setrlimit(resource.RLIMIT_NPROC, (allowed, allowed))


class Server:
    def __init__(self, name, directory, modest=False):
        self.name, self.log = name, Path(directory) / "log"
        binary = Path(directory) / "server"
        shutil.copy(TOP / "server" if name == "Forno" else BUILT_STEPS / name, binary)
        os.chmod(directory, 0o777)  # nobody, too, must be able to start it, and Forno to keep its database there
        more = ["--log", "off", "--lab", "--port", "0", "--db", f"{directory}/forno.db"] if name == "Forno" else ["0"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([binary, *more], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd=directory,
                                            text=True, start_new_session=True, preexec_fn=be_modest if modest else None)
        self.pid = self.process.pid
        line = self.process.stdout.readline()
        found = re.match(r"listening on http://127\.0\.0\.1:(\d+)", line)
        if not found:
            raise Unavailable("the kernel forbids it" if self.process.wait() == FORBIDDEN else self.log.read_text().strip())
        self.port = int(found[1])
        os.sched_setaffinity(self.pid, cpus()[0])

    @property
    def now(self):
        return "/healthz" if self.name == "Forno" else "/now"

    def pizza(self, ms):
        return f"/lab/timer?ms={ms}" if self.name == "Forno" else f"/pizza?ms={ms}"

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        with contextlib.suppress(ChildProcessError):  # its children are ours now, and must not be the next one's load
            while True:
                os.waitpid(-self.pid, 0)

    def family(self):
        pids = []
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if name.isdigit() and os.getpgid(int(name)) == self.pid:
                    pids.append(int(name))
        return pids

    def footprint(self):
        """(bytes, threads, processes). A page that k processes share counts as a k-th for each."""
        size = threads = processes = 0
        for pid in self.family():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                tasks = int(re.search(r"Threads:\s+(\d+)", status)[1])
                kib = int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)[1])
                kib += int(re.search(r"VmPTE:\s+(\d+)", status)[1])
                size, threads, processes = size + kib * 1024 + tasks * KERNEL_STACK, threads + tasks, processes + 1
        return size, threads, processes

    def inside(self):
        """Clients: what it has accepted."""
        count = -1  # the door
        for pid in self.family():
            with contextlib.suppress(OSError):
                count += sum(os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:") for fd in os.listdir(f"/proc/{pid}/fd"))
        return count

    def cpu_ns(self):
        """Of all its threads, to the nanosecond: /proc/PID/stat knows only hundredths of a second."""
        total = 0
        for pid in self.family():
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
        return total


# ---- guests ----------------------------------------------------------------------------------------------------------------------


def start_load(server, *arguments):
    return subprocess.Popen([BUILT / "load", str(server.port), *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True, preexec_fn=lambda: os.sched_setaffinity(0, cpus()[1]))


def seen(line):
    return {k: int(v) if re.fullmatch(r"-?\d+", v) else v for k, v in (pair.split("=") for pair in line.split())}


def ask_beside(server, waiters, ms, look=None):
    """Answers a second for ASKERS while so many wait. look(): called when all is said, while everybody is still there."""
    load = start_load(server, "now", server.now, ASKERS, ms, waiters, server.pizza(60000))
    load.stdout.readline()
    cpu = server.cpu_ns()
    load.stdin.write("\n")
    load.stdin.flush()
    result = seen(load.stdout.readline())
    cpu = server.cpu_ns() - cpu
    result["rate"] = result["answers"] * 1e9 / result["ns"]
    result["cpu_us"] = cpu / 1000 / result["answers"] if result["answers"] else None
    result["waiting"] = result["came"] - result["refused"]
    if look:
        result["look"] = look()
    load.communicate()
    return result


def order_at_once(server, count):
    load = start_load(server, "once", server.pizza(PIZZA_MS), count, PATIENCE_MS)
    return seen(load.communicate()[0])


def what_breaks(name):
    """TOO_MANY come to wait, where so few descriptors and tasks are allowed. (how many are in, what the server said)"""
    with tempfile.TemporaryDirectory() as directory, Server(name, directory, modest=True) as server:
        result = ask_beside(server, TOO_MANY, 0, server.inside)
        told = re.search(r"^(\w+): (E\w+)", server.log.read_text(), re.MULTILINE)
        return {"inside": result["look"], "call": told[1] if told else None, "errno": told[2] if told else None}


# ---- all of it -------------------------------------------------------------------------------------------------------------------


def say(text, end="\n"):
    print(text, end=end, file=sys.stderr, flush=True)


def measure_beside(name, waiters, found):
    """Of two figures the better one is kept."""
    if 0 in found["rate"].values():  # who answers nobody beside a hundred is not asked beside a thousand
        found["rate"].setdefault(waiters, 0)
        found["cpu_us"].setdefault(waiters)
        return
    with tempfile.TemporaryDirectory() as directory, Server(name, directory) as server:
        result = ask_beside(server, waiters, MEASURE_MS, server.footprint if waiters in (0, CROWD) else None)
    if result["waiting"] < waiters and result["rate"]:
        say(f"\n{name}: of {waiters} only {result['waiting']} could wait ({result['error']})")
    found["rate"][waiters] = max(result["rate"], found["rate"].get(waiters, 0))
    found["cpu_us"][waiters] = min(filter(None, (result["cpu_us"], found["cpu_us"].get(waiters))), default=None)
    found["turns"].append(result["cpu_us"])
    if "look" in result:
        found["footprint"][waiters] = result["look"]


def measure_at_once(name, count, found):
    with tempfile.TemporaryDirectory() as directory, Server(name, directory) as server:
        result = order_at_once(server, count)
    p99 = result["p99_ns"] / 1e6 if result["p99_ns"] >= 0 else None
    found["p99_ms"][count] = min(filter(None, (found["p99_ms"].get(count), p99)), default=None)


def weigh(found):
    """What each of CROWD waiters costs. The blocking one has none: they wait at the door."""
    if CROWD not in found["footprint"] or not found["rate"][CROWD]:
        return None
    (size, threads, processes), (size_0, threads_0, processes_0) = found["footprint"][CROWD], found["footprint"][0]
    more = {"bytes": size - size_0, "threads": threads - threads_0, "processes": processes - processes_0}
    return {what: n / CROWD for what, n in more.items()}


def compare(quick):
    levels = [0, CROWD, 5000] if quick else [0, 100, CROWD, 5000]
    counts = [1, 100, 1000] if quick else [1, 10, 100, 1000]
    results = {name: {"rate": {}, "cpu_us": {}, "turns": [], "p99_ms": {}, "footprint": {}} for name in SERVERS}
    left_out, began = {}, time.monotonic()

    def each(what, act):
        """One after the other, within seconds: so what else happens on this machine happens to all of them."""
        say(f"{what}:", end="")
        for name in list(results):
            say(f" {name}", end="")
            try:
                act(name, results[name])
            except Unavailable as why:
                del results[name]
                left_out[name] = str(why)
        say("")

    for turn in range(1 if quick else 2):
        for waiters in levels:
            each(f"answers beside {waiters:,} who wait", lambda name, found: measure_beside(name, waiters, found))
        for count in counts:
            each(f"{count:,} pizzas at once", lambda name, found: measure_at_once(name, count, found))
    each("what breaks", lambda name, found: found.update(breaks=what_breaks(name)))
    for found in results.values():
        found["each"] = weigh(found)
    say(f"that took {time.monotonic() - began:.0f} s\n")
    return {"levels": levels, "counts": counts, "servers": results, "left_out": left_out}


def machine():
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)", cpuinfo, re.MULTILINE)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": f"{model[1] if model else platform.machine()} × {os.cpu_count()}{' (virtual)' * (' hypervisor' in cpuinfo)}",
        "kernel": f"{platform.system()} {re.match(r'[0-9.]*[0-9]', platform.release())[0]}",
        "load": Path("/proc/loadavg").read_text().split()[0],
    }


def check(data):
    """What the guide teaches, as ratios: they hold on any machine."""
    servers, wrong = data["servers"], []

    def claim(holds, text):
        say(("holds: " if holds else "DOES NOT HOLD: ") + text)
        if not holds:
            wrong.append(text)

    def answers(name, waiters):
        return picture.per_cpu_second(servers[name], waiters)

    def size(name):
        return servers[name]["each"]["bytes"]

    claim(servers["1-blocking"]["rate"][CROWD] == 0, "the blocking one answers nobody while one waits")
    claim(answers("4-poll", 5000) < answers("4-poll", 0) / 2,
          "beside 5,000 who wait, poll makes less than half of its answers for a second of CPU: "
          f"{answers('4-poll', 0):,.0f}, then {answers('4-poll', 5000):,.0f}")
    claim(answers("5-epoll", 5000) > answers("5-epoll", 0) / 2,
          f"epoll does not: {answers('5-epoll', 0):,.0f}, then {answers('5-epoll', 5000):,.0f}")
    order = ["2-fork", "3-threads", "6-coroutine", "5-epoll"]
    claim(sorted(order, key=size, reverse=True) == order,
          f"who waits costs most as a process, then as a thread, a coroutine, a struct: {', '.join(f'{size(n):,.0f}' for n in order)} bytes")
    ratio = statistics.median(e / f for e, f in zip(servers["5-epoll"]["turns"], servers["Forno"]["turns"]))
    claim(ratio > 0.75, f"Forno, which does more, is not behind epoll's step: {ratio:.2f} of its answers for a second of CPU")
    return not wrong


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="one turn, and fewer figures")
    options.add_argument("--check", action="store_true", help="exit 1 if the ratios that the guide teaches do not hold")
    options.add_argument("--write", metavar="DIR", type=Path, default=BUILT, help="where table and pictures go (build/guide)")
    options = options.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 6000:
        sys.exit(f"5,000 guests need 6,000 descriptors, and this shell may have {hard}: ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 6000), hard))

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    about = machine()
    data = compare(options.quick)
    text = picture.text(data, about)
    print(text, end="")
    (options.write / "compare.txt").write_text(text)
    for language, name in picture.FILES.items():
        (options.write / name).write_text(picture.svg(data, about, language))
    print(f"\nThis table and its picture: {os.path.relpath(options.write)}/compare.txt and compare.svg")
    if options.check and not check(data):
        sys.exit(1)


if __name__ == "__main__":
    main()
