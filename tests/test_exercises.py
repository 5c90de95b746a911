"""test_exercises.py: an exercise is only one if its check says no to what is not done, yes to what is, and is not to be cheated."""

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from wire import needs_io_uring

EXERCISES = Path(__file__).parent.parent / "docs" / "guide" / "exercises"
STEPS = EXERCISES.parent / "steps"
NAMES = sorted(f.parent.name for f in EXERCISES.glob("*/check.py"))
CHEATS = [(f.parent.parent.name, f.stem) for f in sorted(EXERCISES.glob("*/cheats/*.patch"))]

SAYS = {  # what each of them is told, which is what it does wrong
    "1-who-is-not-here-at-once": "two pieces|without an answer", "2-somebody-else-waits": "still connected",
    "3-an-alarm-for-everything": "half baked", "1-what-is-not-taken-is-forgotten": "is lost",
    "2-again-until-it-is-taken": "has no answer", "3-always-ask-for-room": "the loop spins",
    "4-keep-it-all": "are made and kept",
    "1-nobody-is-taken-off": "stayed empty", "2-the-door-is-shut": "stands at the door", "3-without-a-word": "without a word",
    "1-a-local-variable": "does not come to an end", "2-one-for-everybody": "took 9 out, and not 10", "3-all-at-once": "at 3010 ms",
    "1-it-sleeps": "stood still", "2-no-wait-at-all": "must take 200 ms", "3-a-static-variable": "was told of",
    "4-whatever-is-asked": "must be 400",
    "1-less-whatever-is-there": "there were only 500", "2-a-count-beside-it": "what he saw there", "3-without-the-key": "the wait must stay",
    "4-one-after-the-other": "waited for the others, too",
    "1-on-the-socket": "still connected", "2-both-are-his": "which of them|ended by itself|lost the server",
    "3-an-alarm-of-its-own": "every 0.6 s", "4-one-by-one": "handed over together",
    "1-yes-to-everybody": "50 were told that they may come", "2-one-struct-for-all": "and 49 of them are not",
    "3-kept-in-memory": "another process", "4-any-limit": "must be 422",
}


def exercise(into, *arguments, language="en"):
    environment = {**os.environ, "LC_ALL": {"en": "C.UTF-8", "pt": "pt_BR.UTF-8"}[language]}
    done = subprocess.run([sys.executable, EXERCISES / "exercise.py", "--into", into, *arguments], capture_output=True, text=True,
                          env=environment)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def number(name):
    return name.split("-")[0]


def apply(patch, where):
    subprocess.run(["git", "apply", patch], cwd=where, check=True, env={**os.environ, "GIT_CEILING_DIRECTORIES": str(where.parent)})


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Sets an exercise up, in Portuguese: (where, exit status, what was said). To be copied: what is built, is built once."""
    @functools.cache
    def begin(name):
        into = tmp_path_factory.mktemp("begun")
        return into / name, *exercise(into, number(name), language="pt")
    return begin


@pytest.mark.parametrize("name", NAMES)
def test_unsolved_it_fails_with_a_sentence_and_solved_it_explains(name, begun, tmp_path):
    if name == "16-silent-client":
        needs_io_uring()
    assert "(not begun)" in exercise(tmp_path)[1]
    where, status, out = begun(name)
    assert status == 0 and re.search(r"^Ainda não: .{100}", out, re.MULTILINE), "set up, it shows what is wrong"
    shutil.copytree(where, tmp_path / name)
    status, out = exercise(tmp_path, number(name))
    assert status == 1 and re.match(r"Not yet: .{100}", out), out
    assert "(open)" in exercise(tmp_path)[1]
    apply(EXERCISES / name / "reference.patch", tmp_path / name)
    status, out = exercise(tmp_path, number(name))
    explained = (EXERCISES / name / "README.md").read_text().partition("\n## Afterwards\n")[2].strip()
    assert status == 0 and explained and out.startswith(f"Done.\n\n{explained}\n"), out
    assert "(done)" in exercise(tmp_path)[1] and "(feito)" in exercise(tmp_path, language="pt")[1]


@pytest.mark.parametrize("name", NAMES)
def test_each_is_told_in_two_languages(name):
    for page, heading in ("README.md", "## Afterwards"), ("README.pt-BR.md", "## Depois"):
        text = (EXERCISES / name / page).read_text()
        assert text.startswith("# ") and text.count("\n## ") == 1 and f"\n{heading}\n" in text


def test_each_has_three_cheats():
    for name in NAMES:
        assert sum(of == name for of, _ in CHEATS) >= 3


@pytest.mark.parametrize("name, cheat", CHEATS)
def test_a_cheat_does_not_pass(name, cheat, begun, tmp_path):
    if name == "16-silent-client":
        needs_io_uring()
    shutil.copytree(begun(name)[0], tmp_path / name)
    apply(EXERCISES / name / "cheats" / f"{cheat}.patch", tmp_path / name)
    status, out = exercise(tmp_path, number(name))
    assert status == 1 and re.search(SAYS[cheat], out), f"got {status}: {out}"


def test_what_does_not_compile_is_said(tmp_path):
    shutil.copytree(STEPS, tmp_path / NAMES[0])
    (tmp_path / NAMES[0] / "1-blocking.c").write_text("int main(")
    status, out = exercise(tmp_path, "1")
    assert status == 1 and "does not compile" in out and "error" in out


def test_an_exercise_that_is_not_there(tmp_path):
    assert exercise(tmp_path, "99")[0] == 2
