#!/usr/bin/python3
"""exercise.py: `make exercise` lists the exercises of the guide, `make exercise N=1` sets one up in a copy of its own, or checks
it.

Each lies in a folder N-name: README.md and README.pt-BR.md (the task; what lies behind its last heading is told after success),
check.py, reference.patch (one way to do it), cheats/*.patch (what must not pass) and perhaps given.patch (what the copy has already of
what is asked for). check.py has a function check() that raises
Wrong, and says what is worked on: STEP, one of the small servers; PROGRAM, one of the handlers of await/; or FORNO, files of the
server itself. It is given the server that runs, or the program's path."""

import argparse
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True  # what lies in docs is installed
HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent.parent
STEPS = HERE.parent / "steps"
AWAIT = HERE.parent / "await"
LOCALE = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG", "")
LANGUAGE = "pt" if LOCALE.startswith("pt") else "en"
DEADLINE = 10.0
FORBIDDEN = 69  # how 7-uring ends if the kernel forbids it

WORDS = {
    "en": {
        "list": "The exercises. Begin one, and later check it: make exercise N=1\n",
        "new": "not begun", "open": "open", "done": "done",
        "set up": "Set up in {where}. Change {file} there (to build it: make -C {where}); the same command checks it.\n\n{task}\n\nNow, as it is:\n",
        "wrong": "Not yet: {why}", "right": "Done.\n\n{after}\n\nOne way to do it: {reference}",
        "builds not": "it does not compile:\n{why}", "dies": "the server ended by itself, with status {status}: {log}",
        "deaf": "the server did not say where it listens", "forbidden": "the kernel forbids io_uring here; this one wants another machine.",
        "unknown": "There is no exercise {number}.",
        "again": "(To begin again: rm -r {where})",
    },
    "pt": {
        "list": "Os exercícios. Para começar um, e depois conferir: make exercise N=1\n",
        "new": "não começado", "open": "em aberto", "done": "feito",
        "set up": "Pronto em {where}. Mude {file} lá (para compilar: make -C {where}); o mesmo comando confere.\n\n{task}\n\nPor enquanto, como está:\n",
        "wrong": "Ainda não: {why}", "right": "Feito.\n\n{after}\n\nUma solução possível: {reference}",
        "builds not": "não compila:\n{why}", "dies": "o servidor terminou sozinho, com status {status}: {log}",
        "deaf": "o servidor não disse onde escuta", "forbidden": "aqui o kernel proíbe o io_uring; este exercício precisa de outra máquina.",
        "unknown": "Não existe o exercício {number}.",
        "again": "(Para recomeçar: rm -r {where})",
    },
}


class Wrong(Exception):
    """One sentence that helps, in both languages."""

    def __init__(self, en, pt):
        super().__init__({"en": en, "pt": pt}[LANGUAGE])


def say(key, **values):
    return WORDS[LANGUAGE][key].format(**values)


# ---- what checks are made of -----------------------------------------------------------------------------------------------------


class Step:
    """A step that runs."""

    def __init__(self, binary, *arguments):
        self.binary, self.log = binary, binary.with_suffix(".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([binary, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                                            start_new_session=True)
        found = re.search(r":(\d+)$", self.process.stdout.readline().strip())
        if not found:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
            why = "forbidden" if self.process.returncode == FORBIDDEN else "deaf"
            self.stop()
            raise Wrong(WORDS["en"][why], WORDS["pt"][why])
        self.port = int(found[1])

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def client(self, receive_buffer=None):
        sock = socket.socket()
        sock.settimeout(DEADLINE)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(("127.0.0.1", self.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def state(self):
        """R: it runs or would; S: it sleeps; Z: it is no more."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]

    def resident_bytes(self):
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def request(path):
    return f"GET {path} HTTP/1.1\r\n\r\n".encode()


def answer(sock, seconds=DEADLINE):
    """The body of the next answer; "": hung up; None: nothing came in time."""
    data, until = b"", time.monotonic() + seconds
    try:
        while True:
            head, found, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            if found and length and len(body) >= int(length[1]):
                return body.decode()
            sock.settimeout(max(until - time.monotonic(), 0.001))
            more = sock.recv(4096)
            if not more:
                return ""
            data += more
    except TimeoutError:
        return None
    except ConnectionError:
        return ""


def kind():
    """Which of Forno's builds: the one that the tests have, for those; everybody else has that of `make`."""
    name = Path(os.environ.get("FORNO_SERVER", "")).parent.name
    return name if name in ("asan", "tsan") else "release"


def copy_forno(where):
    """What is needed to build it, and what has been built, so that little is left to do: make goes by the times, and they are kept."""
    where.mkdir(parents=True)
    for name in "Makefile", *(path.name for path in TOP.glob("*.[ch]")):
        shutil.copy2(TOP / name, where)
    for name in "app", "ledger", "page", "reactor", "text", "tests/layering", f"build/{kind()}":
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, where / name, ignore=shutil.ignore_patterns("tests", "test_*", "fuzz_*", "server*", "__pycache__"))


def plain_environment():
    """One in which a make that runs this is not heard of."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


# ---- an exercise -----------------------------------------------------------------------------------------------------------------


class Exercise:
    def __init__(self, folder):
        self.folder, self.name = folder, folder.name
        self.number = int(folder.name.split("-")[0])
        spec = importlib.util.spec_from_file_location("check_" + folder.name.replace("-", "_"), folder / "check.py")
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self.work = getattr(self.module, "FORNO", None)  # (files)
        self.program = getattr(self.module, "PROGRAM", None)
        self.step = getattr(self.module, "STEP", self.program)
        self.files = self.work or [f"{self.step}.c"]

    def page(self):
        """(title, task, what is told after it)"""
        text = (self.folder / ("README.pt-BR.md" if LANGUAGE == "pt" else "README.md")).read_text()
        task, after = re.split(r"^## .*\n", text, flags=re.MULTILINE)[0], re.split(r"^## .*\n", text, flags=re.MULTILINE)[-1]
        return text.split("\n", 1)[0].lstrip("# "), task.strip(), after.strip()

    def set_up(self, where):
        if self.work:
            copy_forno(where)
            if (given := self.folder / "given.patch").exists():
                subprocess.run(["git", "apply", "-C1", given], cwd=where, check=True, env={
                    **os.environ, "GIT_CEILING_DIRECTORIES": str(where.resolve().parent)})  # no repository around it is meant
            return
        shutil.copytree(AWAIT if self.program else STEPS, where,
                        ignore=lambda _, names: {n for n in names if n != "Makefile" and n[-2:] not in (".c", ".h")})

    def check(self, where):
        """Raises Wrong."""
        binary = where / "build" / kind() / "server" if self.work else where / self.step
        what = [binary.relative_to(where)] if self.work else [f"OUT={where}", binary]
        made = subprocess.run(["make", "-s", "-j2", "-C", where, *what], capture_output=True, text=True, env=plain_environment())
        if made.returncode != 0:
            raise Wrong(*(WORDS[l]["builds not"].format(why=made.stderr) for l in ("en", "pt")))
        if self.program:
            self.module.check(binary)
            return
        step = Step(binary, *(["--port", "0", "--log", "off", "--db", where / "check.db"] if self.work else ["0"]))
        try:
            self.module.check(step)
            status = step.process.poll()
            if status is not None:
                raise Wrong(*(WORDS[l]["dies"].format(status=status, log=step.log.read_text()) for l in ("en", "pt")))
        except OSError as error:  # the server died, most likely
            status = step.process.poll()
            if status is None:
                raise Wrong(f"a client lost the server: {error}", f"um cliente perdeu o servidor: {error}") from None
            raise Wrong(*(WORDS[l]["dies"].format(status=status, log=step.log.read_text()) for l in ("en", "pt"))) from None
        finally:
            step.stop()


def exercises():
    return sorted((Exercise(f.parent) for f in HERE.glob("[0-9]*-*/check.py")), key=lambda e: e.number)


def shown(path):
    return os.path.relpath(path)


def work_on(exercise, where):
    """Exit status."""
    title, task, after = exercise.page()
    new = not where.exists()
    if new:
        exercise.set_up(where)
        print(say("set up", where=shown(where), file=", ".join(exercise.files), task=task), flush=True)
    try:
        exercise.check(where)
    except Wrong as why:
        (where / "done").unlink(missing_ok=True)
        print(say("wrong", why=why))
        if not new:
            print(say("again", where=shown(where)))
        return 0 if new else 1
    (where / "done").touch()
    print(say("right", after=after, reference=shown(exercise.folder / "reference.patch")))
    return 0


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("number", nargs="?", type=int, help="which; without, all are listed")
    options.add_argument("--into", metavar="DIR", type=Path, default=TOP / "exercises", help="where the copies lie")
    options = options.parse_args()
    if options.number is None:
        print(say("list"))
        for e in exercises():
            where = options.into / e.name
            state = say("done" if (where / "done").exists() else "open" if where.exists() else "new")
            print(f"{e.number:3}  {e.page()[0]}  ({state})")
        return 0
    for e in exercises():
        if e.number == options.number:
            return work_on(e, options.into / e.name)
    print(say("unknown", number=options.number))
    return 2


if __name__ == "__main__":
    sys.modules["exercise"] = sys.modules["__main__"]  # checks import it by this name
    sys.exit(main())
