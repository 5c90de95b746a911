#!/usr/bin/python3
"""docs.py: runs a document. `tests/docs.py README.md` types what its command blocks show, and compares what comes back.

It happens in a fresh copy of the checkout, with a network and processes of its own, so that localhost:8000 is true. What is a block
of commands, whose it is and when it is over, the document says to whoever reads its source, and a forge shows none of it:

    ```console T1         lines that begin with "$ " are typed into terminal T1; what follows them is what must come back
    ```sh T2              every line is typed; nothing is compared, but each must succeed
    ```console T1 stays   the last command goes on, and its terminal is taken; the block is over when all it shows has come
                          (sh: when a server says that it listens)
    ^C                    a line in a console block: Ctrl-C is typed
    …                     a line of output: any lines at all
    ```console T1 io_uring   left out where the kernel forbids io_uring, as many containers do
    <!-- not run: make test: it runs this; sudo: wants a password -->   before a block: commands that begin like that, and why

A console block that begins without "$ " is what a command that stays has printed meanwhile; once that has ended, its terminal is
free again. A terminal is one shell from the first block to the last. What differs from run to run (MASKS) is masked on both sides,
and nothing else is. A command fails that does not exit with 0, unless its block is marked `fails`."""

import codecs
import ctypes
import difflib
import fcntl
import functools
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = float(os.environ.get("FORNO_DOCS_PATIENCE", 120))  # seconds for one command
ISOLATED = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]

MASKS = [(re.compile(pattern, re.MULTILINE), name) for pattern, name in (
    (r'"token":"[\w-]{20,}"', '"token":"<token>"'),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "<time>"),
    (r"\b\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", "<time>"),
    (r"(;dur=)\d+\.\d+", r"\1<ms>"),
    (r"(_in_ms\":)\d+", r"\1<ms>"),
    (r"(\bwaited_ms\":)\d+(\.\d+)?", r"\1<ms>"),
    (r" *\d+\.\d+( ?(ms|s)\b| to )", r" <time>\1"),
    (r"\b\d[\d,]* KiB\b", "<n> KiB"),
    (r"\bin \d+ groups\b", "in <n> groups"),  # who comes together is a matter of chance
    (r"\|[= ]+\|", "|<bar>|"),  # times, drawn
    (r"\b(127\.0\.0\.1|\[::1\]):\d{5}\b", r"\1:<port>"),
    (r"\b\d+( of the \d+\b)", r"<n>\1"),
    (r"\bpid \d+", "pid <pid>"),
    (r"^\[(\d+)\] \d+$", r"[\1] <pid>"),
)]

FENCE = re.compile(r"^(?:<!-- not run: (?P<not_run>[^\n]*) -->\n)?^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$",
                   re.MULTILINE | re.DOTALL)


PAGE_STATE = re.compile(r"localhost:8000/#([^\s)>`\"]+)")


class Wrong(Exception):
    """The document is not true, or not well marked."""


@dataclass
class Block:
    line: int
    language: str
    marks: list
    text: str
    not_run: dict  # how a command begins: why it is not run

    @property
    def terminal(self):
        return next((mark for mark in self.marks if re.fullmatch(r"T\d", mark)), None)

    @property
    def is_commands(self):
        return self.language in ("console", "sh")

    def reason(self, command):
        return next((why for beginning, why in self.not_run.items() if command.startswith(beginning)), None)

    def steps(self):
        """(command or None, the output shown). Lines that end with a backslash go on in the next."""
        steps, lines = [], iter(self.text.splitlines())
        for line in lines:
            typed = line[2:] if line.startswith("$ ") else line if line == "^C" else None
            if self.language == "sh":
                typed = line if line.strip() and not line.startswith("#") else None
                if typed is None:
                    continue
            if typed is not None:
                while typed.endswith("\\"):
                    typed += "\n" + next(lines)
                steps.append((typed, []))
            else:
                steps = steps or [(None, [])]
                steps[-1][1].append(line)
        return [(typed, "\n".join(output).rstrip()) for typed, output in steps]


def blocks(text, is_run=True):
    """All fenced blocks of a document. Who is not run need not say in which terminal."""
    found = []
    for match in FENCE.finditer(text):
        language, *marks = match["info"].split() or [""]
        line = text.count("\n", 0, match.start("info")) + 1
        not_run = dict(part.strip().split(": ", 1) for part in (match["not_run"] or "").split(";") if part)
        block = Block(line, language, marks, match["text"], not_run)
        if is_run and block.is_commands and not block.terminal:
            raise Wrong(f"line {line}: a block of {language} that names no terminal")
        if not block.is_commands and (language == "bash" or re.search(r"^\$ ", block.text, re.MULTILINE)):
            raise Wrong(f"line {line}: these look like commands, but the block is no console and no sh")
        if block.is_commands and (unknown := set(marks) - {block.terminal, "stays", "fails", "io_uring"}):
            raise Wrong(f"line {line}: what is {unknown}?")
        typed = [typed for typed, _ in block.steps() if typed]
        if unused := [beginning for beginning in not_run if not any(command.startswith(beginning) for command in typed)]:
            raise Wrong(f"line {line}: nothing here begins with {unused}")
        found.append(block)
    if len(re.findall(r"^\s*(```|~~~)", text, re.MULTILINE)) != 2 * len(found):
        raise Wrong("there are fences that are not understood: they begin a line, have three backticks and are closed")
    return found


def masked(text):
    text = re.sub(r"\x1b\[[0-9;]*[mKH]|\x1b\]8;;.*?\x1b\\", "", text)  # bold, colours, links: what a terminal does not print
    for pattern, name in MASKS:
        text = pattern.sub(name, text)
    return "\n".join(line.rstrip() for line in text.replace("\r", "").split("\n")).rstrip("\n")


def pattern_of(shown):
    return r"\n".join(r"[^\n]*(?:\n[^\n]*)*?" if line == "…" else re.escape(line) for line in masked(shown).split("\n"))


class Terminal:
    """A shell in a terminal. Its prompt says how the last command ended."""

    PROMPT = re.compile("\x01(\\d+)\x02")
    all = []

    def __init__(self, name, folder):
        self.name, self.unread, self.busy = name, "", None
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8", "PS1": "", "PS2": "",
                       "PROMPT_COMMAND": r"printf '\001%d\002' $?"}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            mode = termios.tcgetattr(0)
            mode[1] &= ~termios.OPOST  # lines end as they were written
            mode[3] &= ~termios.ECHO
            termios.tcsetattr(0, termios.TCSANOW, mode)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
            os.chdir(folder)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever was started in the background ignores it, and so would bash for ever
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"], environment)
        self.all.append(self)
        self.wait(self.PROMPT.search)

    def type(self, text):
        os.write(self.fd, text.encode())

    def read(self):
        try:
            self.unread += self.decoder.decode(os.read(self.fd, 65536))
        except OSError:
            self.all.remove(self)  # its shell has ended

    def wait(self, *found):
        """What one of these finds in what has been printed and not read yet; None when it does not come. The other terminals are
        read meanwhile, so that nobody has to wait for us."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for find in found:
                if match := find(self.unread):
                    return match
            left = deadline - time.monotonic()
            if left <= 0 or self not in self.all:
                return None
            for ready in select.select([t.fd for t in self.all], [], [], left)[0]:
                next(t for t in self.all if t.fd == ready).read()

    def run(self, typed, shown, block):
        """Type it, and see what comes. Returns what was printed, or raises Wrong."""
        if typed is None:
            def upto(text):
                """How many of its lines it takes until all this has been shown."""
                wanted, lines = re.compile(rf"^{pattern_of(shown)}$", re.MULTILINE), text.splitlines(keepends=True)
                return next((n for n in range(1, len(lines) + 1) if wanted.search(masked("".join(lines[:n])))), None)
            lines = self.wait(upto)
            if not lines:
                raise Wrong(f"{self.name} does not show\n{shown}\nbut\n{self.unread[-3000:]}")
            self.unread = "".join(self.unread.splitlines(keepends=True)[lines:])
            return
        if self.busy and typed != "^C" and not self.wait(self.PROMPT.search):
            raise Wrong(f"{self.name} is taken by {self.busy!r}")
        stays = "stays" in block.marks and typed == [t for t, _ in block.steps() if t and not block.reason(t)][-1]
        self.unread = ""
        self.type("\x03" if typed == "^C" else typed + "\n")
        if stays:
            wanted = "(.*\n)*listening on http://" if block.language == "sh" else pattern_of(shown) + "$"
            came = re.compile(wanted, re.MULTILINE)
            match = self.wait(self.PROMPT.search, lambda text: came.match(masked(text)))
            if match and match.re is not self.PROMPT:
                self.busy, self.unread = typed, ""
                return
        match = self.wait(self.PROMPT.search)
        printed = self.unread[:match.start()] if match else self.unread
        if not match or stays:
            raise Wrong(f"{typed}\n{'ended' if match else 'did not end or show what it should'}; it printed\n{printed[-3000:]}")
        self.unread, self.busy = "", None
        if typed == "^C":
            return
        if (match[1] != "0") != ("fails" in block.marks):
            raise Wrong(f"{typed}\nended with {match[1]}; it printed\n{printed[-3000:]}")
        if block.language == "console" and not re.fullmatch(pattern_of(shown), masked(printed)):
            raise Wrong(f"{typed}\n" + "\n".join(difflib.unified_diff(
                masked(shown).split("\n"), masked(printed).split("\n"), "shown", "printed", lineterm="")))


def run(document, folder):
    """All its commands, in order. Returns how many were run, and how many were not."""
    terminals, ran, left_out = {}, 0, 0
    for block in blocks(document.read_text()):
        if not block.is_commands:
            continue
        forbidden = "io_uring" in block.marks and not io_uring_is_allowed()
        for typed, shown in block.steps():
            if forbidden or (typed and block.reason(typed)):
                left_out += typed is not None
                continue
            if block.terminal not in terminals:
                terminals[block.terminal] = Terminal(block.terminal, folder)
            try:
                terminals[block.terminal].run(typed, shown, block)
            except Wrong as wrong:
                others = "".join(f"\n--- {t.name} meanwhile\n{t.unread[-1000:]}" for t in terminals.values() if t.busy)
                raise Wrong(f"the block at line {block.line}: {wrong}{others}") from None
            ran += typed is not None
    return ran, left_out


@functools.cache
def io_uring_is_allowed():
    """io_uring_setup() has this number everywhere, and makes a descriptor, if it may. The struct holds nothing but zeros."""
    fd = ctypes.CDLL(None).syscall(425, 1, ctypes.create_string_buffer(256))
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def copy_checkout(to):
    """What is in it, and what is built of its release; not what else lies about."""
    def leave(folder, names):
        inside = Path(folder).relative_to(ROOT)
        return [name for name in names if name in (".git", "__pycache__", "node_modules") or re.search(r"\.db(-\w+)?$", name)
                or (str(inside) == "build" and name != "release")]
    shutil.copytree(ROOT, to, ignore=leave, symlinks=True, dirs_exist_ok=True)


def clean_environment():
    """One that says nothing of Forno, nor of a make that runs this."""
    return {name: value for name, value in os.environ.items()
            if not name.startswith(("FORNO_", "MAKE", "MFLAGS")) and name not in ("PORT", "CI")}


def raise_loopback():
    """ip link set lo up"""
    with socket.socket() as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh22x", b"lo", 0x41))  # SIOCSIFFLAGS, IFF_UP | IFF_RUNNING


def isolation():
    """What makes a command one with a network and processes of its own, as root or as a user; None: the kernel forbids it."""
    for command in (ISOLATED, [*ISOLATED, "--map-root-user"]):
        if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return None


def main():
    if sys.argv[1] != "--isolated":
        if not isolation():
            print("the kernel forbids namespaces here")
            return 2
        return subprocess.call([*isolation(), sys.executable, __file__, "--isolated", *sys.argv[1:]])
    document = Path(sys.argv[2])
    raise_loopback()
    with tempfile.TemporaryDirectory(prefix="forno-docs-") as folder:
        if len(sys.argv) > 3:  # a checkout that is built already
            shutil.copytree(sys.argv[3], folder, symlinks=True, dirs_exist_ok=True)
        else:
            copy_checkout(folder)
            subprocess.run(["make", "-s", "server", "steps"], cwd=folder, check=True, env=clean_environment())
        try:
            ran, left_out = run(document, folder)
        except Wrong as wrong:
            print(f"{document}: {wrong}")
            return 1
    print(f"{ran} commands run, {left_out} not run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
