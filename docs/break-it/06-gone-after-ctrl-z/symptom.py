#!/usr/bin/env python3
"""Symptom 6: Ctrl-Z, and fg."""

import os
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kit import Watcher, show, wire  # noqa: E402

TIMES = 10
FAILURES = 1000


def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def ends_when_epoll_is_gone(stage):
    """The other side: an error that stays must end it, or it would turn for ever. None: it cannot be tried here."""
    if subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode:
        return None
    server = stage.start(strace="-e trace=/^epoll_p?wait -e inject=/^epoll_p?wait:error=EBADF")
    failed = lambda: stage.log.read_text(errors="replace").count("EBADF")  # noqa: E731
    wire.wait_until(lambda: server.process.poll() is not None or failed() > FAILURES)
    return server.process.poll() is not None


def act(stage):
    server = stage.start()
    watcher = Watcher(server)
    for survived in range(TIMES):
        watcher.look()
        wire.wait_until(lambda: state(server.pid) in "SZ")  # asleep, in epoll_wait
        os.kill(server.pid, signal.SIGSTOP)
        wire.wait_until(lambda: state(server.pid) in "TZ")
        os.kill(server.pid, signal.SIGCONT)
        try:
            watcher.look()
        except (AssertionError, OSError):
            return (False, f"stopped and continued, the server left after {survived + 1} of {TIMES} times",
                    f"parado e continuado, o servidor foi embora depois de {survived + 1} de {TIMES} vezes")
    watcher.client.close()
    server.kill()
    if ends_when_epoll_is_gone(stage) is False:
        return (False, f"epoll_wait failed {FAILURES} times with EBADF, and the loop goes on asking",
                f"epoll_wait falhou {FAILURES} vezes com EBADF, e o loop continua a chamá-lo")
    return (True, f"stopped and continued {TIMES} times, the server is there", f"parado e continuado {TIMES} vezes, o servidor está lá")


show(act)
