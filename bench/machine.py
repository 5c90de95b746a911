"""The machine: who uses its CPUs, who its memory, and what it is. All of it from /proc."""

import contextlib
import os
import platform
import resource
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
SERVER_CPU, GENERATOR_CPU = 0, 1


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


@contextlib.contextmanager
def on_cpus(*cpus):
    """What is started inside inherits these CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_descriptor_limit(wanted=20000):
    """10,000 connections take that many descriptors, here and in every server, which inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted and os.geteuid() != 0:
        raise SystemExit(f"the descriptor limit is {hard}; this needs {wanted}: raise it (ulimit -Hn), or run as root")
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))


# ---- processes ----


def processes():
    """pid -> (name, parent, CPU ticks, those of its children that have ended) of everything that runs."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = read(f"/proc/{entry}/stat")
        except OSError:
            continue  # it has just ended
        name, _, rest = text[text.index("(") + 1 :].rpartition(") ")  # a name may hold anything, even ") "
        fields = rest.split()
        found[int(entry)] = (name, int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14]))
    return found


def family(pid, all_processes=None):
    """A process and all that descend from it."""
    everyone = all_processes or processes()
    members = {pid}
    while True:
        children = {p for p, (_, parent, *_) in everyone.items() if parent in members} - members
        if not children:
            return members
        members |= children


def cpu_seconds(pids):
    """User and system time of all threads of these processes, to the nanosecond: /proc/PID/stat knows only hundredths."""
    total = 0
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                total += int(read(f"/proc/{pid}/task/{task}/schedstat").split()[0])
    return total / 1e9


def rss_bytes(pids):
    """Resident memory, exactly: VmRSS of /proc/PID/status is rounded by as much as some dozen pages per CPU."""
    total = 0
    for pid in pids:
        for line in read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


# ---- is anybody else at work? ----


class Bystanders:
    """CPU time, while it watches, of everyone but us and the kernel's own threads (which write our pages to our disk)."""

    def __init__(self):
        self.everyone = processes()
        self.at = time.monotonic()
        self.busy, self.steal = self._stat()
        self.own = self._own()

    @staticmethod
    def _stat():
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, read("/proc/stat").split("\n", 1)[0].split()[1:9])
        return user + nice + system + irq + softirq, steal

    def _own(self):
        """Ticks of our family, whoever of it has ended included, and of the kernel."""
        ours = family(os.getpid(), self.everyone)
        family_ticks = sum(self.everyone[p][2] + self.everyone[p][3] for p in ours)
        return family_ticks + sum(t for p, (_, parent, t, _) in self.everyone.items() if p == 2 or parent == 2)

    def share(self):
        """Of one CPU, on average, since the beginning: 0.05 is five per cent. Stolen time is somebody else's too."""
        now = Bystanders()
        ticks = (now.busy - self.busy) + (now.steal - self.steal) - (now.own - self.own)
        return max(0.0, ticks / TICKS / (now.at - self.at))

    def busiest(self):
        now, ours = processes(), family(os.getpid())
        used = {p: t - self.everyone.get(p, (0, 0, 0))[2] for p, (_, parent, t, _) in now.items() if p not in ours and parent != 2}
        pid = max(used, key=used.get, default=0)
        return f"{now[pid][0]} ({pid})" if used.get(pid) else "somebody short-lived"


# ---- what it is ----


def _first_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "?"
    return ((done.stdout or done.stderr).strip().splitlines() or ["?"])[0]


def _package(name):
    return _first_line("dpkg-query", "-W", "-f=${Version}", name)


def sync_ms(directory):
    """How long the disk takes to make 4 KiB durable: the median of some."""
    path, took = os.path.join(directory, "sync-probe"), []
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    for _ in range(40):
        os.write(fd, bytes(4096))
        begin = time.perf_counter()
        os.fdatasync(fd)
        took.append(time.perf_counter() - begin)
    os.close(fd)
    os.unlink(path)
    return sorted(took)[len(took) // 2] * 1000


def file_system(directory):
    mounts = [line.split()[1:3] for line in read("/proc/self/mounts").splitlines()]
    inside = [m for m in mounts if (os.path.realpath(directory) + "/").startswith(m[0].rstrip("/") + "/")]
    return max(inside, key=lambda m: len(m[0]))[1]


def description(server, directory):
    cpuinfo = read("/proc/cpuinfo")
    model = next((line.split(":")[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "?")
    virtual = ", virtual" if " hypervisor" in cpuinfo else ""
    memory = int(read("/proc/meminfo").split()[1]) / 1024**2
    congestion = read("/proc/sys/net/ipv4/tcp_congestion_control").strip()
    peers = [f"{name} {_package(package)}" for name, package in (("nginx", "nginx-light"), ("h2o", "h2o"))]
    peers += [f"node {_first_line('node', '--version')}"]
    peers += [f"Flask {_package('python3-flask')} under gunicorn {_package('gunicorn')}"]
    peers += [f"Tornado {_package('python3-tornado')} with SQLAlchemy {_package('python3-sqlalchemy')}"]
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "CPU": f"{model}, {os.cpu_count()} of them{virtual}; {memory:.0f} GiB of memory",
        "kernel": f"{platform.system()} {platform.release()}, TCP congestion control {congestion}",
        "disk": f"{file_system(directory)}, {sync_ms(directory):.2f} ms to make 4 KiB durable",
        "Forno": f"{_first_line(server, '--version')}; SQLite {_package('libsqlite3-0')}; {_first_line('cc', '--version')}",
        "peers": "; ".join([*peers, f"Python {platform.python_version()}"]),
        "generator": f"wrk {_package('wrk')}",
    }
