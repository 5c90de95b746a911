"""check.py: search bell.pml for errors, and its wrong variants, which must have some; and compare it with the C that it models.

`check.py DIRECTORY` works in that directory. Exits 1 if anything is not as it should be."""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent.parent
MODEL = HERE / "bell.pml"

SOUND = "as it is"
WRONG = {"RING_FIRST": "ring, then publish", "TAKE_FIRST": "take, then silence", "NO_RING_AGAIN": "what a lap leaves rings no bell",
         "CLOSE_UNLOCKED": "closing is said without the lock"}
# What must not be in a function unless the model knows of it.
MATTERS = re.compile(r"\b(?:pthread_(?:mutex|cond)_\w+|ring|read|write|loop_post|take_posted|hand_over)\(|\bloop\.posted = |\bops_push\(&loop\.posted|\bworker\.queue = ")


def body_of(file, function):
    """What stands between the braces of a C function, without comments, in single spaces."""
    source = re.sub(r"/\*.*?\*/", "", (SOURCES / file).read_text(), flags=re.DOTALL)
    found = re.search(rf"^\w[^\n;]*\b{function}\([^;{{]*\)\n{{\n(.*?)^}}", source, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()) if found else ""


def unlike(file, function, quotes):
    """How the function differs from what the model quotes; None: it does not."""
    body, at = body_of(file, function), 0
    for quote in quotes:
        found = body.find(quote, at)
        if found < 0:
            return f"'{quote}' is not there, or not in this place"
        at = found + len(quote)
    here, there = (sorted(MATTERS.findall(text)) for text in (body, " ".join(quotes)))
    return None if here == there else f"it does {here}, the model {there}"


def compare():
    good, count = True, 0
    for section in re.split(r"^/\* ---- ", MODEL.read_text(), flags=re.MULTILINE)[1:]:
        file, function = re.match(r"(\S+): (\w+)", section).groups()
        comments = re.findall(r"/\* \| (.*?)(?: — [^*]*)? \*/", section)
        quotes = [quote for comment in comments for quote in comment.split(" | ")]
        wrong = unlike(file, function, quotes) if quotes else "the model quotes nothing of it"
        if wrong:
            print(f"model: {file}, {function}(): {wrong}")
        good, count = good and not wrong, count + len(quotes)
    print(f"model: {count} steps stand in the C as in the model" if good else "model: the C and the model have parted")
    return good


def search(variant, directory):
    """Every state that can be reached. Returns whether the verdict is the one it should be."""
    sound = variant not in WRONG
    # -l: with no progress anywhere in the model, an execution without end is an error too.
    options = ["-run", "-l"] if sound else [f"-D{variant}", "-run", "-safety"]
    said = subprocess.run(["spin", *options, str(MODEL)], cwd=directory, capture_output=True, text=True).stdout
    errors, states = re.search(r"errors: (\d+)", said), re.search(r"(\d+) states, stored", said)
    unreached = re.findall(r"\.pml:(\d+), state", said) if sound else []
    complete = errors and states and "max search depth too small" not in said and "out of memory" not in said
    good = complete and (int(errors[1]) == 0) == sound and not unreached
    verdict = said if not complete else ("no error" if errors[1] == "0" else "an error")
    print(f"model: {WRONG.get(variant, SOUND):33} {int(states[1]) if states else 0:9,} states: {verdict}"
          + (f", and lines {unreached} are never reached" if unreached else "") + ("" if good else "   WRONG"))
    return good


directory = Path(sys.argv[1])
directory.mkdir(parents=True, exist_ok=True)
results = [compare()] + [search(variant, directory) for variant in (SOUND, *WRONG)]
sys.exit(0 if all(results) else 1)
