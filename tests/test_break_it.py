"""test_break_it.py: the lab of docs/break-it/ is what it says: each bug can be put in, is seen, and goes away by its cure alone.

What has to be built and tried is tried a few at a time, while the tests ask for it in turn: most of it waits.
"""

import ast
import functools
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAB = ROOT / "docs" / "break-it"
sys.path.insert(0, str(LAB))
import lab  # noqa: E402

BUGS = lab.bugs()
KIND = "asan"  # what make test has built; make mend tries the other one, too
AT_A_TIME = 4
IDS = [bug.folder.name for bug in BUGS]
CHEATS = [pytest.param(bug, i, id=f"{bug.folder.name}-{i}") for bug in BUGS for i in (1, 2, 3)]


def patched(folder, bug, *patches):
    """The source with the bug, and with more patches on top."""
    tree = folder / "-".join([bug.folder.name, *(patch.stem for patch in patches)])
    lab.copy_source(tree)
    for patch in [bug.folder / "break.patch", *patches]:
        complaint = lab.apply(tree, patch)
        assert not complaint, f"{patch}: {complaint}"
    return tree


def try_out(folder, bug, i=None):
    """(exit status, what the symptom says). i: which cheat; None: the bug itself; 0: the sound server."""
    if i == 0:
        return bug.symptom(ROOT, KIND)
    patches = [bug.folder / "cheats" / f"{i}.patch"] if i else []
    tree = patched(folder, bug, *patches)
    complaint = lab.make(tree, f"build/{KIND}/server", "WERROR=-Werror")
    assert not complaint, complaint
    watching = next(other for other in BUGS if other.number == caught_by(patches[0])) if i else bug
    try:
        return watching.symptom(tree, KIND)
    finally:
        shutil.rmtree(tree)


def caught_by(cheat):
    """Which symptom finds the cheat out, as its second line says."""
    return int(re.fullmatch(r"caught by: symptom (\d+)", cheat.read_text().split("\n")[1])[1])


@pytest.fixture(scope="module")
def tried(request, tmp_path_factory):
    """tried(bug, i) waits for try_out() of it; of all that has been asked for, a few are under way at a time."""
    complaint = lab.make(ROOT, f"build/{KIND}/server")
    assert not complaint, complaint
    folder = tmp_path_factory.mktemp("break-it")
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        wanted = [item.callspec.params for item in request.session.items if "tried" in getattr(item, "fixturenames", ())]
        jobs = {(p["bug"].number, p["i"]): pool.submit(try_out, folder, p["bug"], p["i"]) for p in wanted}
        yield lambda bug, i: jobs[bug.number, i].result()


def judge(result):
    status, line = result
    if status == lab.NOT_HERE:
        pytest.skip("the kernel forbids ptrace here")
    return status, line


@pytest.mark.parametrize("i", [0])
@pytest.mark.parametrize("bug", BUGS, ids=IDS)
def test_the_sound_server_has_no_symptom(tried, bug, i):
    status, line = judge(tried(bug, i))
    assert status == lab.SOUND, line


@pytest.mark.parametrize("i", [None])
@pytest.mark.parametrize("bug", BUGS, ids=IDS)
def test_the_broken_server_shows_its_symptom(tried, bug, i):
    status, line = judge(tried(bug, i))
    assert status == 1, f"{status}: {line}"


@pytest.mark.parametrize("bug, i", CHEATS)
def test_a_cheat_is_found_out(tried, bug, i):
    status, line = judge(tried(bug, i))
    assert status == 1, f"{status}: {line}"


@pytest.mark.parametrize("bug", BUGS, ids=IDS)
def test_a_bug_is_small_and_says_nothing_of_itself(bug):
    lines = (bug.folder / "break.patch").read_text().split("\n")
    added, removed = ([line for line in lines if line.startswith(c) and not line.startswith(c * 3)] for c in "+-")
    assert 1 <= max(len(added), len(removed)) <= 8, f"expected one to eight lines, got +{len(added)} -{len(removed)}"
    assert not any(re.search("trap|bug", line, re.IGNORECASE) for line in added)


@pytest.mark.parametrize("bug", BUGS, ids=IDS)
def test_the_reference_cure_is_the_sound_source_again(tmp_path, bug):
    """So it needs no trying out."""
    tree = patched(tmp_path, bug)
    changed = re.findall(r"^\+\+\+ b/(.*)$", (bug.folder / "break.patch").read_text(), re.MULTILINE)
    assert any((tree / name).read_text() != (ROOT / name).read_text() for name in changed)
    assert lab.apply(tree, bug.folder / "break.patch", "-R") == ""
    assert all((tree / name).read_text() == (ROOT / name).read_text() for name in changed)


def test_a_learner_is_led_from_the_list_to_the_cure(tmp_path):
    """make break, make mend as they are typed, with the bug that is shown by the kind of build that is there."""
    def run(*args):
        r = subprocess.run([sys.executable, LAB / "lab.py", *args], capture_output=True, text=True,
                           env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "pt_BR.UTF-8" if args[2:] else "C"})
        return r.returncode, r.stdout + r.stderr

    copy = tmp_path / "forno-break-8"
    assert run("mend", "8")[0] == 1
    status, said = run("break", "8")
    assert status == 0 and str(copy) in said and "!! " in said and "page.md" in said, said
    assert len(re.findall(r"\bopen\b", run("break")[1])) == 1
    assert subprocess.run(["git", "status", "--porcelain"], cwd=copy, capture_output=True, text=True).stdout == ""
    assert not (copy / "docs" / "break-it").exists()


@pytest.mark.parametrize("seen, verdict", [
    ([("symptom 4 (release)", True), ("symptom 4 (asan)", True), ("symptom 1", True), ("its tests", True)], "Cured"),
    ([("symptom 4 (release)", True), ("symptom 4 (asan)", False), ("symptom 1", True), ("its tests", True)], "Still ill"),
    ([("symptom 4 (release)", True), ("symptom 4 (asan)", True), ("symptom 1", False), ("its tests", True)], "something else is ill: symptom 1"),
    ([("symptom 4 (release)", True), ("symptom 4 (asan)", True), ("symptom 1", True), ("its tests", False)], "else is ill: its tests"),
])
def test_a_verdict_is_what_was_seen_and_a_cure_counts_as_long_as_nobody_touches_it(tmp_path, monkeypatch, capsys, seen, verdict):
    """The long way, each thing looked at, is that of the tests above; here it is given."""
    monkeypatch.setenv("FORNO_BREAK_DIR", str(tmp_path))
    bug = next(bug for bug in lab.bugs() if bug.number == 4)
    bug.copy.mkdir()
    (bug.copy / "conn.c").write_text("sound")
    lab.git(bug.copy, "init", "-q")
    monkeypatch.setattr(lab, "make", lambda *args: "")
    monkeypatch.setattr(lab, "examine", lambda *args: [("(" in one[0], *one, "") for one in seen])
    monkeypatch.setattr(lab.kit, "PORTUGUESE", False)
    try:
        lab.do_mend(bug)
        said = capsys.readouterr().out
    except SystemExit as end:
        said = end.code
    assert verdict in said, said
    assert lab.is_cured(bug) == (verdict == "Cured")
    (bug.copy / "conn.c").write_text("something else")
    assert not lab.is_cured(bug)


# ---------------------------------------------------------------- names

@functools.cache
def all_tests():
    """Every test there is: of the wire by file::name, of the units by name."""
    names = set()
    for path in ROOT.glob("tests/test_*.py"):
        names |= {f"{path.stem}::{node.name}" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
    for path in ROOT.glob("tests/unit/test_*.c"):
        names |= {f"{path.stem}: {name}" for name in re.findall(r"^static void (test_\w+)\(", path.read_text(), re.MULTILINE)}
    return names


@pytest.mark.parametrize("bug", BUGS, ids=IDS)
def test_the_tests_that_guard_a_place_exist(bug):
    units, ids = bug.guards
    assert ids and all(id.removeprefix("tests/").replace(".py", "") in all_tests() for id in ids), ids
    assert all((ROOT / "tests" / "unit" / f"{unit}.c").exists() for unit in units), units


def rows(text, heading):
    """The table under a heading: its cells, row by row."""
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    table = [line for line in section.split("\n") if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def traps_of_the_source():
    """What follows the word in a comment, wherever it stands, on one line."""
    traps = []
    for path in [path for folder in (".", "reactor", "ledger", "app", "text") for path in (ROOT / folder).glob("*.[ch]")]:
        text = re.sub(r"\s*\n\s*\*?\s*", " ", path.read_text())
        traps += [(path.name, m[1]) for m in re.finditer(r"\b[Tt]rap: (.{1,80})", text)]
    return traps


@pytest.mark.parametrize("answers, heading", [("answers.md", "The traps"), ("answers.pt-BR.md", "As armadilhas")])
def test_every_trap_of_the_source_has_a_break_or_a_reason(answers, heading):
    table = {cells[0].strip("`"): cells for cells in rows((LAB / answers).read_text(), heading)}
    traps = traps_of_the_source()
    assert len(traps) > 25, f"expected to find the traps, found {traps}"
    for file, text in traps:
        assert any(text.lower().startswith(name.lower()) for name in table), f"{file}: no row for the trap \"{text}\""
    for name, (_, number, why) in table.items():
        assert number.isdigit() and 1 <= int(number) <= len(BUGS) or number == "–" and len(why) > 20, f"neither break nor reason: {name}"
        assert any(text.lower().startswith(name.lower()) for _, text in traps), f"the source knows no such trap: {name}"
        for test in re.findall(r"`(test_\w+)`", why):
            assert any(known.endswith((f"::{test}", f": {test}")) for known in all_tests()), f"no such test: {test}"
    broken = {int(number) for _, number, _ in table.values() if number.isdigit()}
    assert broken == {1, 3, 4, 5, 6, 9, 10, 11}, f"got {broken}"


@pytest.mark.parametrize("answers, heading", [("answers.md", "Which test catches which bug"), ("answers.pt-BR.md", "Que teste pega que bug")])
def test_every_classic_bug_is_caught_by_a_test_that_exists(answers, heading):
    table, names = rows((LAB / answers).read_text(), heading), all_tests()
    assert len(table) == 22
    for bug, tests in table:
        named = re.findall(r"`(test_\w+(?:::|: )test_\w+)`", tests)
        assert named and set(named) <= names, f"{bug}: expected tests that exist, got {tests}"


@pytest.mark.parametrize("bug", BUGS, ids=IDS)
def test_both_languages_lead_the_same_way(bug):
    for page in ("page", "after"):
        english, portuguese = ((bug.folder / f"{page}{suffix}.md").read_text() for suffix in ("", ".pt-BR"))
        for what in (r"^#+ ", r"<details>", r"^```", r"\]\(", r"`[^`\n]+`"):
            counts = [len(re.findall(what, text, re.MULTILINE)) for text in (english, portuguese)]
            assert counts[0] == counts[1], f"{bug.folder.name}/{page}: {what} {counts}"
        assert re.findall(r"^```.*?^```", english, re.M | re.S) == re.findall(r"^```.*?^```", portuguese, re.M | re.S)
    page = (bug.folder / "page.md").read_text()
    assert page.count("<details>") == 3 and "break.patch" not in page
