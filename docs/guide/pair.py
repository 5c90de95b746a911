#!/usr/bin/python3
"""pair.py: two PostgreSQLs for the guide's chapter 17. `make pair` starts a primary and a standby that confirms each of its commits, and
keeps them until Ctrl-C, in a scratch folder; build/pair/url is what to give to --db. Meanwhile something can happen to them:

    make pair DO=freeze     the standby is stopped in its tracks; nobody is told
    make pair DO=thaw       it goes on
    make pair DO=kill       the primary is killed, with all its processes
    make pair DO=promote    the standby becomes a primary"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

sys.dont_write_bytecode = True
os.chdir(Path(__file__).resolve().parent.parent.parent)
sys.path.insert(0, "tests")
import pg  # noqa: E402

FOLDER = Path("build/pair")
DOOR = FOLDER / "door"

EVENTS = {
    "freeze": ("the standby is frozen", lambda primary, standby: standby.freeze()),
    "thaw": ("the standby goes on", lambda primary, standby: standby.thaw()),
    "kill": ("the primary is dead", lambda primary, standby: primary.kill()),
    "promote": ("the standby takes writes now", lambda primary, standby: standby.promote()),
}


def keep(workshop):
    """Start both, and let happen to them what callers ask for. Ends by Ctrl-C alone."""
    primary = workshop.cluster(fsync="on")
    standby = workshop.standby_of(primary)
    primary.confirm_by("standby")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    (FOLDER / "url").write_text(primary.url(pg.database_of(primary.new_database()), others=[standby]))
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(DOOR))
        door.listen()
        print(f"the primary is at {primary.host}:{primary.port}, the standby at {standby.host}:{standby.port}", flush=True)
        while True:
            caller, _ = door.accept()
            with caller:
                what, happen = EVENTS[caller.recv(64).decode()]
                try:
                    happen(primary, standby)
                except Exception as why:  # killed twice, say
                    what = f"it did not happen: {why!r}"
                caller.sendall(what.encode())


def let(event):
    with socket.socket(socket.AF_UNIX) as caller:
        try:
            caller.connect(str(DOOR))
        except OSError:
            sys.exit("there is no pair: make pair, in another terminal")
        caller.sendall(event.encode())
        print(caller.recv(4096).decode())


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("event", nargs="?", choices=EVENTS)
    event = options.parse_args().event
    if event:
        let(event)
        return
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, signal.default_int_handler)  # the folder has a few hundred megabytes
    try:
        workshop = pg.Workshop()
    except pg.Missing as why:
        sys.exit(str(why))
    with contextlib.closing(workshop), contextlib.suppress(KeyboardInterrupt):
        keep(workshop)


if __name__ == "__main__":
    main()
