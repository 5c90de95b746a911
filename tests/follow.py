#!/usr/bin/python3
"""follow.py: `make follow`: one POST /orders, each system call beside the chain of our functions that made it. DB=postgresql://… follows it
by the other road.

strace -k prints the stack under each call. The build is one in which functions stay functions (FOLLOW in the Makefile). Shown is
what happens between the listener that wakes and the loop that sleeps again after the answer, in the order in which the calls
returned."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

WIDTH = 100
CALLS = ("accept4,epoll_wait,epoll_ctl,recvfrom,sendto,read,write,futex,timerfd_settime,newfstatat,access,fcntl,pread64,pwrite64,"
         "ftruncate,fdatasync,fsync")
CALL = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*?)\) += (-?\w+)(.*)")
UNFINISHED = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>")
FRAME = re.compile(r" > (\S+?)\((\w+)(?:\.\w+)*\+0x")
LIBRARIES = {"libsqlite3": "SQLite", "libpq": "libpq"}
THREADS = {"main": "loop", "run_worker": "worker", "look_up_thread": "names"}  # by where its stack begins


@dataclass
class Call:
    name: str
    arguments: str
    result: str
    chain: list  # our functions, the outermost first; at the end, perhaps, the library that they called

    @property
    def thread(self):
        return next((THREADS[f] for f in self.chain if f in THREADS), "?")


def read_calls(text, binary):
    """What strace has written: a call to a line, then its stack, the innermost frame first."""
    calls, begun, frames = [], {}, None
    for line in text.splitlines():
        if frame := FRAME.match(line):
            module, function = frame[1], frame[2]
            if module == str(binary):
                if function != "_start":
                    frames.insert(0, function)
            elif (library := next((name for part, name in LIBRARIES.items() if part in module), None)) and frames[:1] != [library]:
                frames.insert(0, library)
        elif unfinished := UNFINISHED.match(line):
            begun[unfinished[1]] = unfinished[3]
        elif call := CALL.match(line):
            frames = []
            arguments = begun.pop(call[1], "") if "resumed>" in line else ""
            calls.append(Call(call[2], arguments + call[3], call[4] + call[5], frames))
        elif not line.startswith(" > "):
            frames = []  # a signal, an exit
    return calls


def order(port):
    """One order, on a connection of its own. Ends when it is answered."""
    def ask(connection, path, body, **fields):
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **fields})
        return json.load(connection.getresponse())
    with (closing(HTTPConnection("127.0.0.1", port, timeout=60)) as bank,
          closing(HTTPConnection("127.0.0.1", port, timeout=60)) as pizzeria):
        token = ask(bank, "/accounts", {"name": "Ana"})["token"]
        answer = ask(pizzeria, "/orders", {"flavor": "margherita", "pizzas": 1}, Authorization=f"Bearer {token}")
        assert answer["status"] == "baking", answer


def follow(binary, db=None):
    """The calls of one order, by the road to a new file, or to the database that this URL names."""
    binary = Path(binary).resolve()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        command = ["strace", "-f", "-k", "-qq", "--signal=none", "-s", "24", "-e", f"trace={CALLS}", "-o", str(trace),
                   str(binary), "--port", "0", "--db", db or f"{folder}/forno.db", "--log", "off"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FORNO_") and name != "PORT"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as strace:
            try:
                line = strace.stdout.readline()
                assert line.startswith("listening on "), f"the server did not start under strace: {line}"
                order(int(line.rsplit(":", 1)[1]))
            finally:
                if children := Path(f"/proc/{strace.pid}/task/{strace.pid}/children").read_text().split():
                    os.kill(int(children[0]), signal.SIGTERM)
        calls = read_calls(trace.read_text(errors="replace"), binary)
    accepted = max(i for i, call in enumerate(calls) if call.name == "accept4" and not call.result.startswith("-"))
    first = max(i for i in range(accepted) if calls[i].name == "epoll_wait")
    answered = next(i for i in range(first, len(calls)) if calls[i].name == "sendto" and "202 Accepted" in calls[i].arguments)
    last = next((i for i in range(answered, len(calls)) if calls[i].name == "epoll_wait"), len(calls))
    return calls[first:last]


def short(call):
    """The call as it fits into a column."""
    a = call.arguments
    if call.name in ("recvfrom", "sendto", "read", "write"):
        said = re.search(r'"([A-Z/0-9. a-z]*)', a)
        what = (said[1].strip() if said else "") or a.split(",")[0]
    elif call.name == "epoll_ctl":
        what = re.search(r"EPOLL_CTL_(\w+)", a)[1]
    elif call.name == "fcntl":
        what = {"F_RDLCK": "read lock", "F_WRLCK": "write lock", "F_UNLCK": "unlock"}[re.search(r"F_(?:RD|WR|UN)LCK", a)[0]]
    elif call.name == "newfstatat":
        what = (re.search(r'"(?:[^"]*/)?([^"/]*)"', a) or ["", ""])[1]
    elif call.name == "futex":
        what = "wake" if "WAKE" in a else "wait"
    elif call.name == "timerfd_settime":
        what = ""
    else:
        what = a.split(",")[0]
    failed = re.match(r"-1 (\w+)", call.result)
    return f"{call.name}({what})" + (f" {failed[1]}" if failed else f" = {call.result.split()[0]}")


def shown_chain(chain, before):
    """What differs from the chain before it, of the same thread, and the function where they part."""
    same = 0
    while same < min(len(chain), len(before)) and chain[same] == before[same]:
        same += 1
    return chain if same < 3 else ["…", *chain[same - 1:]]


def show(calls, out):
    print("One POST /orders: each system call, and the functions that led to it, the outermost first.\n", file=out)
    before, i = Call("", "", "", []), 0
    while i < len(calls):
        call, head, times = calls[i], short(calls[i]), 1
        while i + times < len(calls) and (calls[i + times].name, calls[i + times].chain) == (call.name, call.chain) and \
                short(calls[i + times]).split(" =")[0] == head.split(" =")[0]:
            times += 1
        if times > 1:
            head = f"{head.split(' =')[0]} ×{times}"
        chain = shown_chain(call.chain, before.chain if before.thread == call.thread else [])
        lines = textwrap.wrap(" → ".join(chain).replace("… →", "…"), WIDTH - 46) or [""]
        print(f"{call.thread:<7}{head:<38} {lines[0]}", *(f"{'':<46}{line}" for line in lines[1:]), sep="\n", file=out)
        before, i = call, i + times


if __name__ == "__main__":
    show(follow(*sys.argv[1:]), sys.stdout)
