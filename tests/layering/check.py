"""check.py: compares every #include "…" of the source with the table beside it, looks for circles outside app/, for words that have no
place in app/, and for rooms too large for their reader. Exits 1 and says what is wrong."""

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
SOURCES = [p for pattern in ("*.[ch]", "text/*", "reactor/*", "ledger/*", "app/*") for p in sorted(TOP.glob(pattern)) if p.suffix in (".c", ".h")]
PAGES = sorted(TOP.glob("page/*.js"))
FILE_MAX, PAGE_MAX, FUNCTION_MAX = 650, 400, 70 # lines: what fits into a sitting, into a few looks, on a screen
CORE, CORE_MAX = ("loop", "conn", "req", "worker"), 1400 # what an afternoon is promised for
# app/ knows no descriptor, no epoll, no mutex, no SQL.
FORBIDDEN = re.compile(r"\b(?:epoll_\w+|eventfd|timerfd_\w+|accept4|recv|send|read|write|pthread_\w+|sqlite3_\w+)\(")


table, wrong = {}, []
for line in (HERE / "table").read_text().splitlines():
    if line.strip() and not line.startswith("#"):
        row, *entries = line.split()
        table[row] = entries


def module(name):
    """What of the source it belongs to: both halves are one, unless the table tells them apart."""
    return name if name in table else re.sub(r"\.[ch]$", "", name)


def row_of(table, name):
    """The most special one."""
    return max((row for row in table if row in (name, re.sub(r"\.[ch]$", "", name)) or row.endswith("/") and name.startswith(row)), key=len, default=None)


def allows(entry, included):
    return included == entry or entry.endswith("/") and included.startswith(entry)


def circle(edges, path):
    for to in sorted(edges.get(path[-1], ())):
        if to in path:
            return path[path.index(to):] + [to]
        if found := circle(edges, path + [to]):
            return found
    return None


owners = {entry[1:-1]: row for row, entries in table.items() for entry in entries if entry.startswith("<")}
used, edges = set(), {}

for path in SOURCES:
    name, text = str(path.relative_to(TOP)), path.read_text()
    row = row_of(table, name)
    for included in re.findall(r'^#include "([^"]+)"', text, re.MULTILINE):
        entry = next((e for e in table.get(row, ()) if allows(e, included)), None)
        if not entry:
            wrong.append(f"{name} includes {included}, which the table does not allow")
        used.add((row, entry))
        if module(included) != module(name) and not name.startswith("app/"):
            edges.setdefault(module(name), set()).add(module(included))
    for included in re.findall(r"^#include <([^>]+)>", text, re.MULTILINE):
        if included in owners:
            used.add((row, f"<{included}>"))
            if owners[included] != row:
                wrong.append(f"{name} includes <{included}>, which is for {owners[included]} alone")
    if name.startswith("app/"):
        wrong += [f"{name} speaks of {word[:-1]}" for word in FORBIDDEN.findall(re.sub(r"/\*.*?\*/|\"(?:[^\"\\]|\\.)*\"", "", text, flags=re.DOTALL))]

wrong += [f"nothing uses what the table allows: {row} {entry}" for row, entries in table.items() for entry in entries if (row, entry) not in used]
for start in edges:
    if found := circle(edges, [start]):
        wrong.append("a circle: " + " -> ".join(found))
        break

lines = {p: len(p.read_text().splitlines()) for p in SOURCES + PAGES}
wrong += [f"{p.relative_to(TOP)} has {n} lines" for p, n in lines.items() if n > (PAGE_MAX if p in PAGES else FILE_MAX)]
if (core := sum(lines[TOP / "reactor" / f"{name}.c"] for name in CORE)) >= CORE_MAX:
    wrong.append(f"the core has {core} lines")
tags = subprocess.run(["ctags", "--languages=C", "--kinds-C=f", "--fields=+ne", "--output-format=json", *map(str, SOURCES)],
                      capture_output=True, text=True, check=True).stdout
functions = [json.loads(line) for line in tags.splitlines()]
wrong += [f"{f['name']}() in {Path(f['path']).relative_to(TOP)} has {n} lines" for f in functions if (n := f["end"] - f["line"] + 1) > FUNCTION_MAX]
if not functions:
    wrong.append("ctags finds no function")

print("\n".join(f"layering: {line}" for line in wrong) or f"layering: {len(SOURCES)} files, as the table has it; the core has {core} lines")
sys.exit(bool(wrong))
