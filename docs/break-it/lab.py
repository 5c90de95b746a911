#!/usr/bin/env python3
"""lab.py: make break, make mend. Twelve classic bugs of asynchronous servers, each put into a copy of this source to be found there.

lab.py break          lists them
lab.py break N        makes a copy with bug N, builds it, shows the symptom
lab.py mend N         builds the copy, and says whether it is cured: by its symptom, those of all others, and the tests of that place

A bug's folder: break.patch, symptom.py, cheats/, guards (the tests that watch over that place), page.md to read first, after.md to read
when it is cured. The reference cure is break.patch taken back. tests/test_break_it.py guards all this.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
import kit  # noqa: E402
from kit import NOT_HERE, SOUND, say  # noqa: E402

LAB = Path(__file__).resolve().parent
ROOT = LAB.parents[1]


class Bug:
    def __init__(self, folder):
        self.folder, self.number = folder, int(folder.name.split("-")[0])
        # Freed memory mostly still holds what it held: only the sanitizer shows that surely.
        self.kind = "asan" if self.number == 8 else "release"
        self.title = self.page("page").read_text().split("\n")[0].split(". ", 1)[1]
        self.copy = Path(os.environ.get("FORNO_BREAK_DIR") or Path.home()) / f"forno-break-{self.number}"

    def page(self, name):
        return self.folder / (f"{name}.pt-BR.md" if kit.PORTUGUESE else f"{name}.md")

    @property
    def guards(self):
        """Unit tests by name, wire tests by their pytest id."""
        lines = (self.folder / "guards").read_text().split("\n")
        return [line.removeprefix("unit ") for line in lines if line.startswith("unit ")], [l for l in lines if "::" in l]

    def symptom(self, tree, kind=None):
        """(exit status, the line it says) with the server of that tree."""
        env = {**os.environ, "FORNO_SERVER": str(tree / "build" / (kind or self.kind) / "server")}
        r = subprocess.run([sys.executable, "-B", self.folder / "symptom.py"], env=env, capture_output=True, text=True)
        return r.returncode, (r.stdout.strip() or r.stderr.strip()).split("\n")[-1]


def bugs():
    return [Bug(folder) for folder in sorted(LAB.glob("[0-9][0-9]-*"))]


def copy_source(tree):
    """All that is needed to build and test, but not this lab; and what has been built, so that little is left to do."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.split("\0")[:-1] or [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
    for name in names:
        if (ROOT / name).is_file() and not name.startswith(("docs/break-it/", "build/", ".git/")):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    for kind in ("release", "asan"):
        if (ROOT / "build" / kind).is_dir():  # make goes by the times, and copy2 keeps them
            shutil.copytree(ROOT / "build" / kind, tree / "build" / kind, ignore=shutil.ignore_patterns("test_*", "fuzz_*", "server*"))


def apply(tree, patch, *options):
    """One line of context must be right: the source goes on living. Returns git's complaint, or nothing."""
    r = subprocess.run(["git", "apply", "-C1", *options, str(patch)], cwd=tree, capture_output=True, text=True,
                       env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)})
    return r.stderr.strip() if r.returncode else ""


def make(tree, *targets):
    """The compiler's complaint, or nothing."""
    cpus = len(os.sched_getaffinity(0))
    r = subprocess.run(["make", "-s", "-C", str(tree), f"-j{cpus}", *targets], capture_output=True, text=True)
    return r.stdout + r.stderr if r.returncode else ""


def git(tree, *args, **env):
    who = ["-c", "user.name=Forno", "-c", "user.email=forno@localhost", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *args], cwd=tree, check=True, capture_output=True, text=True, env={**os.environ, **env}).stdout


def state_of(tree):
    """What the copy holds now, as one hash."""
    index = str(tree / ".git" / "forno-index")
    git(tree, "add", "-A", GIT_INDEX_FILE=index)
    return git(tree, "write-tree", GIT_INDEX_FILE=index).strip()


def is_cured(bug):
    mark = bug.copy / ".git" / "forno-cured"
    return mark.exists() and mark.read_text() == state_of(bug.copy)


def list_all():
    for bug in bugs():
        state = (say("not begun", "não começado") if not bug.copy.exists() else
                 say("cured", "curado") if is_cured(bug) else say("open", "aberto"))
        print(f"{bug.number:3}  {bug.title:46} {state:12} {bug.copy if bug.copy.exists() else ''}".rstrip())
    print(say("\nmake break N=1 puts the first into a copy of the source; make mend N=1 says whether you have cured it.",
              "\nmake break N=1 põe o primeiro em uma cópia do código; make mend N=1 diz se você o curou."))


def do_break(bug):
    if bug.copy.exists():
        print(say(f"It is there already: {bug.copy}\nTo begin anew: rm -rf {bug.copy}", f"Já está lá: {bug.copy}\nPara recomeçar: rm -rf {bug.copy}"))
    else:
        copy_source(bug.copy)
        if complaint := apply(bug.copy, bug.folder / "break.patch"):
            shutil.rmtree(bug.copy)
            sys.exit(say("The patch does not fit this source: ", "O patch não serve neste código: ") + complaint)
        # One commit, so that no look at the history gives it away; `git diff` is from now on the reader's own work.
        git(bug.copy, "init", "-q")
        git(bug.copy, "add", "-A")
        git(bug.copy, "commit", "-qm", "Forno, as it is")
    print(say("Building …", "Compilando …"), flush=True)
    if complaint := make(bug.copy, "server" if bug.kind == "release" else f"build/{bug.kind}/server"):
        sys.exit(complaint)
    status, line = bug.symptom(bug.copy)
    print(f"\n{bug.number}. {bug.title}\n{'-- ' if status == NOT_HERE else '!! ' if status else 'ok '}{line}\n")
    print(say(f"The copy:  {bug.copy}\nThe page:  {bug.page('page').relative_to(ROOT)}\nThen:      make mend N={bug.number}",
              f"A cópia:   {bug.copy}\nA página:  {bug.page('page').relative_to(ROOT)}\nDepois:    make mend N={bug.number}"))


def run_guards(bug, tree, wire=True):
    """What the tests that watch over that place find wrong: lines, or nothing."""
    units, ids = bug.guards
    asan, wrong = tree / "build" / "asan", []
    for unit in units:
        r = subprocess.run([asan / unit], cwd=tree, capture_output=True, text=True)
        if r.returncode:
            failed = [line.split("]")[1].strip() for line in r.stderr.split("\n") if line.startswith("[  FAILED  ] test_")]
            wrong.append(f"{unit}: {', '.join(failed) or r.returncode}")
    if wire:
        r = subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", "--tb=line", "-p", "no:cacheprovider", *ids], cwd=ROOT,
                           env={**os.environ, "FORNO_SERVER": str(asan / "server")}, capture_output=True, text=True)
        if r.returncode:
            failed = [line for line in r.stdout.split("\n") if line.startswith(("FAILED", "ERROR"))]
            wrong.append("\n".join(failed) or r.stdout[-500:])
    return wrong


def examine(bug, tree):
    """Yields (is it the bug's own symptom, what was looked at, is it well, what was seen), from the nearest to the farthest."""
    kinds = ["asan"] if bug.kind == "asan" else ["release", "asan"]
    for kind in kinds:
        status, line = bug.symptom(tree, kind)
        yield True, say(f"symptom {bug.number} ({kind})", f"sintoma {bug.number} ({kind})"), status in (SOUND, NOT_HERE), line
    for other in bugs():
        if other.number != bug.number:
            status, line = other.symptom(tree)
            yield False, say(f"symptom {other.number}", f"sintoma {other.number}"), status in (SOUND, NOT_HERE), line
    units, ids = bug.guards
    wrong = run_guards(bug, tree)
    yield False, say("its tests", "seus testes"), not wrong, "; ".join(wrong) or ", ".join([*units, *(i.split("::")[1] for i in ids)])


def do_mend(bug):
    if not bug.copy.exists():
        sys.exit(say(f"There is no copy yet: make break N={bug.number}", f"Ainda não há cópia: make break N={bug.number}"))
    print(say("Building, with sanitizers and without …", "Compilando, com sanitizers e sem …"), flush=True)
    targets = ["server", "build/asan/server", "build/asan/server-faults", *(f"build/asan/{unit}" for unit in bug.guards[0])]
    if complaint := make(bug.copy, *targets):
        sys.exit(complaint + say("\nIt does not compile.", "\nNão compila."))
    own, elsewhere = [], []
    for is_own, what, is_well, seen in examine(bug, bug.copy):
        if own and not is_own:
            break  # first things first
        print(f"{'ok' if is_well else '!!'} {what + ':':22} {seen}", flush=True)
        if not is_well:
            (own if is_own else elsewhere).append(what)
    print()
    if own:
        sys.exit(say("Still ill: the symptom is there.", "Ainda doente: o sintoma continua."))
    if elsewhere:
        sys.exit(say(f"The symptom is gone, and something else is ill: {', '.join(elsewhere)}.",
                     f"O sintoma sumiu, e outra coisa adoeceu: {', '.join(elsewhere)}."))
    (bug.copy / ".git" / "forno-cured").write_text(state_of(bug.copy))
    print(say("Cured.", "Curado.") + "\n\n" + bug.page("after").read_text())


def main(argv):
    if argv[1:2] == ["break"] and not argv[2:]:
        return list_all()
    chosen = [bug for bug in bugs() if argv[2:] == [str(bug.number)]]
    if argv[1:2] not in (["break"], ["mend"]) or not chosen:
        sys.exit(say("make break lists the bugs; make break N=1, make mend N=1", "make break lista os bugs; make break N=1, make mend N=1"))
    (do_break if argv[1] == "break" else do_mend)(chosen[0])


if __name__ == "__main__":
    main(sys.argv)
