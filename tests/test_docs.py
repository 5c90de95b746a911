"""test_docs.py: nothing lies. What the documents show is what happens, what they name is there, and both languages say the same."""

import collections
import ctypes
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docs
import follow
import pg
import pytest
from docs import ROOT
from wire import missing

DOCUMENTS = sorted(str(path.relative_to(ROOT)) for pattern in ("*.md", "docs/**/*.md", "bench/*.md") for path in ROOT.glob(pattern))
READERS = [name for name in DOCUMENTS if not name.startswith("bench/")]
# docs/break-it/ has guards of its own: what its commands do takes a build for each bug.
RUN = [name for name in READERS if not name.startswith("docs/break-it/")]
# For whoever changes the code.
ENGLISH_ONLY = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/design.md", "docs/performance.md"]

# The commands that cannot be run here, and no others; the documents say why.
NOT_RUN = [
    ("README.md", "sudo apt-get"),
    ("README.md", "make test"),
    ("README.md", "sudo"),
    ("docs/guide/en/README.md", "sudo apt-get"),
    ("docs/guide/en/09-what-await-compiles-to.md", "g++"),
    ("docs/guide/en/09-what-await-compiles-to.md", "grep"),
    ("docs/guide/en/17-many-machines.md", "make -s failover"),
]

for program in ("ctags", "strace", "spin", "sqlite3", "curl"):
    if not shutil.which(program):
        missing(f"{program} is not there")


def text_of(name):
    return (ROOT / name).read_text()


def blocks(name):
    return docs.blocks(text_of(name), is_run=name in RUN)


def other_language(name):
    """Of an English one. The guide has a folder for each language."""
    return name.replace("/en/", "/pt-BR/") if "/en/" in name else name.removesuffix(".md") + ".pt-BR.md"


def english(name):
    return name.replace(".pt-BR.", ".").replace("pt-BR/", "en/")


ENGLISH = [name for name in READERS if name == english(name) and name not in ENGLISH_ONLY]


def prose(name):
    """A document without its fenced blocks."""
    return docs.FENCE.sub("", text_of(name))


def code_spans(name):
    return re.findall(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)", prose(name))


def rows(name, columns):
    """The cells of each row of the tables that have so many columns, without their heads."""
    lines = [line.strip()[1:-1] for line in prose(name).splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]
    heads = [i - 1 for i, row in enumerate(table) if all(re.fullmatch(r":?-+:?", cell) for cell in row)]
    return [row for i, row in enumerate(table) if len(row) == columns and i not in heads and i - 1 not in heads]


# ---------------------------------------------------------------- commands

def make(*arguments, folder=ROOT):
    """What it prints."""
    return subprocess.run(["make", "-s", "--no-print-directory", *arguments], cwd=folder, env=docs.clean_environment(), check=True,
                          stdout=subprocess.PIPE, text=True).stdout


def can(*command):
    return subprocess.run([*command, "true"], capture_output=True).returncode == 0


def script(name):
    """What is typed and what is compared: the same in both languages, comments aside. The name, if it is not well marked."""
    try:
        found = blocks(name)
    except docs.Wrong:
        return name
    return tuple((block.terminal, tuple(block.marks), block.language, tuple(sorted(block.not_run)), tuple(
        (re.sub(r" +# .*", "", typed or ""), shown) for typed, shown in block.steps()))
        for block in found if block.is_commands)


def lacks(name):
    """What there would have to be to run it; None: it is there."""
    if "make -s pair" not in text_of(name):
        return None
    try:
        pg.newest(), pg.psycopg2()
    except pg.Missing as why:
        return str(why)
    return None if docs.isolation() == docs.ISOLATED else "PostgreSQL does not run as root, and nobody else is there in a user's namespace"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Each document's run, all at the same time: they mostly wait. Two languages of one page are one run if that is the same to the
    byte."""
    if not docs.isolation():
        pytest.skip("the kernel forbids namespaces here")
    checkout = tmp_path_factory.mktemp("checkout")
    docs.copy_checkout(checkout)
    make("-j2", "server", "steps", "CFLAGS=-O1 -g", folder=checkout)

    def one(name):
        return subprocess.run([sys.executable, docs.__file__, ROOT / name, checkout], capture_output=True, text=True)
    with ThreadPoolExecutor(len(RUN)) as pool:
        first = {}
        names = [name for name in RUN if has_commands(name) and not lacks(name)]
        for name in names:
            if script(name) not in first:
                first[script(name)] = pool.submit(one, name)
        yield {name: first[script(name)] for name in names}


def has_commands(name):
    return re.search(r"^\s*```(console|sh|bash)|^\$ ", text_of(name), re.MULTILINE)


@pytest.mark.parametrize("name", filter(has_commands, RUN))
def test_the_commands_of_a_document_do_what_it_shows(runs, name):
    if what := lacks(name):
        missing(what)
    result = runs[name].result()
    assert result.returncode == 0, result.stdout + result.stderr


def test_many_commands_were_run_and_few_were_not(runs, capsys):
    ran = left_out = 0
    for run in set(runs.values()):
        said = re.fullmatch(r"(\d+) commands run, (\d+) not run\n", run.result().stdout)
        assert said, run.result().stdout
        ran, left_out = ran + int(said[1]), left_out + int(said[2])
    with capsys.disabled():
        print(f"\ndocuments: {ran} commands run, {left_out} not run", file=sys.stderr)
    assert ran > 0 and {"README.md", "README.pt-BR.md"} <= {name for name, run in runs.items() if run.result().stdout[0] != "0"}
    assert left_out <= 2 * len(NOT_RUN) or not docs.io_uring_is_allowed()


def test_what_is_not_run_is_listed_here_and_has_a_reason():
    marked = {(english(name), beginning): why
              for name in RUN if script(name) != name for block in blocks(name) for beginning, why in block.not_run.items()}
    assert sorted(marked) == sorted(NOT_RUN) and all(len(why) > 5 for why in marked.values())


GOOD = """```console T1
$ echo 'a  b'; echo c
a  b
c
$ echo 2026-01-02T03:04:05.678Z 12.5 ms
2027-11-12T13:14:15.000Z 0.3 ms
```
"""


@pytest.mark.parametrize("document", [
    GOOD,
    "```sh T1\nx=1   # one\n```\n\n```console T2\n$ echo $x.\n.\n```\n\n```console T1\n$ echo $x\n1\n```\n",
    "```console T1\n$ seq 9\n1\n…\n9\n```\n",
    "```console T1 fails\n$ ls nowhere 2>/dev/null\n```\n",
    "```console T1\n$ (yes; echo $? >&2) | head -n 1\ny\n141\n```\n",  # SIGPIPE is what it is to everybody
    "```console T1 stays\n$ sh -c 'echo ready; exec cat'\nready\n```\n```console T2\n$ echo a\na\n```\n"
    "```console T1\n^C\n$ echo free\nfree\n```\n",
    "```console T1 stays\n$ echo a; until [ -e b ]; do sleep 0.1; done; echo b\na\n```\n```console T2\n$ touch b\n```\n"
    "```console T1\nb\n```\n```console T1\n$ echo free, since it has ended\nfree, since it has ended\n```\n",
    "<!-- not run: reboot: one machine is enough -->\n```sh T1\nreboot now\ntrue\n```\n",
])
def test_a_true_document_runs(tmp_path, document):
    status, said = run_text(tmp_path, document)
    assert status == 0, said


@pytest.mark.parametrize("document", [
    GOOD.replace("a  b\nc", "a b\nc"),                                            # a space
    GOOD.replace("\nc\n", "\n"),                                                  # a line less
    GOOD.replace("\nc\n", "\nc\nd\n"),                                            # a line more
    GOOD.replace("0.3 ms", "0.3 s"),
    "```console T1\n$ seq 9\n1\n…\n8\n```\n",
    "```console T1\n$ false\n```\n",                                              # fails, and nobody said so
    "```console T1 fails\n$ true\n```\n",
    "```sh T1\nls nowhere\n```\n",
    "```console\n$ true\n```\n",                                                  # in which terminal?
    "```console T1 quickly\n$ true\n```\n",
    "```\n$ true\n```\n",
    "  ```console T1\n  $ true\n  ```\n",
    "```console T1\n$ true\n",                                                    # never closed
    "<!-- not run: reboot: one machine is enough -->\n```sh T1\ntrue\n```\n",     # nothing begins like that
    "```console T1 stays\n$ echo other; cat\nready\n```\n",
    "```console T1 stays\n$ echo ready\nready\nsteady\n```\n",                    # it does not stay
    "```console T1 stays\n$ echo ready; cat\nready\n```\n```console T1\n$ true\n```\n",  # it is taken
    "```console T1 stays\n$ echo ready; cat\nready\n```\n```console T1\nsteady\n```\n",
])
def test_a_document_that_lies_does_not(tmp_path, document):
    status, said = run_text(tmp_path, document, patience="1")
    assert status == 1, said


def test_what_wants_io_uring_is_run_where_the_kernel_allows_it(tmp_path):
    from test_steps import forbid_io_uring
    wants = "```console T1 io_uring\n$ false\n```\n"
    assert run_text(tmp_path, wants, preexec_fn=forbid_io_uring) == (0, "0 commands run, 1 not run\n")
    if docs.io_uring_is_allowed():
        assert run_text(tmp_path, wants)[0] == 1


def run_text(tmp_path, document, patience="60", preexec_fn=None):
    if not docs.isolation():
        pytest.skip("the kernel forbids namespaces here")
    (tmp_path / "page.md").write_text(document)
    (tmp_path / "empty").mkdir(exist_ok=True)
    done = subprocess.run([sys.executable, docs.__file__, tmp_path / "page.md", tmp_path / "empty"],
                          capture_output=True, text=True, env={**os.environ, "FORNO_DOCS_PATIENCE": patience}, preexec_fn=preexec_fn)
    assert done.returncode in (0, 1) and not done.stderr, done.stderr
    return done.returncode, done.stdout


# ---------------------------------------------------------------- names and links

def ctags(*options):
    """What stands where, as ctags sees it."""
    command = ["ctags", "-R", "--output-format=json", "--langmap=C:.c.h.inc", "--kinds-C=+p", "--fields=+ne", "--exclude=build",
               "--exclude=node_modules", *options, "-f", "-", "."]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return list(map(json.loads, out.splitlines()))


@pytest.fixture(scope="module")
def names():
    """What there is: {kind: names}. Kinds are those of ctags: function, macro, struct, …"""
    found = collections.defaultdict(set)
    for tag in ctags("--languages=C,Python,JavaScript"):
        found["function" if tag["kind"] in ("member", "method") and tag["path"].endswith(".py") else tag["kind"]].add(tag["name"])
    assert "main" in found["function"] and "req" in found["struct"]
    return found


@pytest.fixture(scope="module")
def words():
    """Every word of the source, the tests and their configuration."""
    patterns = ("*.[ch]", "*/*.[ch]", "*/*.sql", "*/*.inc", "tests/**/*.py", "tests/**/*.[ch]", "tests/**/*.pml", "bench/*.py",
                "docs/**/*.[ch]", "docs/**/*.py", "page/*", "Makefile", "dist/*")
    files = [path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()]
    return set(re.findall(r"\w+", "\n".join(path.read_text(errors="replace") for path in files)))


@pytest.fixture(scope="module")
def files():
    """{name: paths}: of the files that are there, by their last part too."""
    found = collections.defaultdict(list)
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in (".git", "build", "node_modules", "__pycache__")]
        for name in names:
            found[name].append(os.path.relpath(os.path.join(folder, name), ROOT))
    return found


LIBC = ctypes.CDLL(None)
SQLITE = ctypes.CDLL("libsqlite3.so.0")
# What was tried and is not in use, and what others have.
FOREIGN = {"sched_setattr", "__builtin_prefetch", "SQLITE_CONFIG_SINGLETHREAD", "uv__drain", "uv_async_send"}
FILE = re.compile(r"[\w./-]+\.(c|h|py|js|css|html|md|sql|inc|pml|lua|service|socket|txt)")


def what_is_wrong_with(span, name, names, words, files, options):
    """Why what stands in backticks is no true name; None: it is, or it is none of our business."""
    own = set(re.findall(r"\w+", "".join(block.text for block in blocks(name) if not block.is_commands)))
    if span in {mark for block in blocks(name) if block.language == "c" for mark in block.marks}:
        return None  # the page has all of this file
    if match := re.fullmatch(r"(\w+)\(\)", span):
        there = FOREIGN | names["function"] | names["macro"] | names["prototype"] | own
        return None if match[1] in there or hasattr(LIBC, match[1]) or hasattr(SQLITE, match[1]) else "no such function"
    if match := re.match(r"struct (\w+)$", span):
        return None if match[1] in names["struct"] else "no such struct"
    if match := re.match(r"make ([a-z][\w-]*)", span):
        return None if re.search(rf"^([\w -]+ )?{match[1]}( [\w -]+)?:", text_of("Makefile"), re.MULTILINE) else "no such target"
    if span.startswith(("./server", "--")) and not name.startswith("bench/"):
        unknown = set(re.findall(r"--[a-z][a-z-]*", span)) - options
        return f"no such option: {unknown}" if unknown else None
    if span.startswith("/") or "://" in span:
        return None
    if FILE.fullmatch(span):
        places = [ROOT, (ROOT / name).parent, Path("/usr/include"), *Path("/usr/include").glob("*-linux-gnu*")]
        return None if any((place / span).exists() for place in places) or ("/" not in span and span in files) else "no such file"
    if re.fullmatch(r"[a-z]\w*(/[\w-]+)*/", span):
        beside = (ROOT / name).parent
        return None if (ROOT / span).is_dir() or (beside / span).is_dir() or list(beside.glob(f"*/{span}")) else "no such folder"
    if re.fullmatch(r"\w+_\w+", span) and span not in FOREIGN:
        return None if span in words | own or hasattr(LIBC, span) or hasattr(SQLITE, span) else "no such name"
    if match := re.fullmatch(r"(test_\w+)(?:::|: )(\w+)", span):
        homes = [path for path in files[f"{match[1]}.py"] + files[f"{match[1]}.c"] if match[2] in text_of(path)]
        return None if homes and match[2] in names["function"] else "no such test there"
    if re.match(r"test_\w+", span):
        return None if span in names["function"] else "no such test"
    return None


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_a_document_names_is_there(name, names, words, files, server):
    words = words | set(re.findall(r"\w+", server.api("GET", "/metrics").body.decode()))
    options = set(re.findall(r"--[a-z][a-z-]*", subprocess.run([os.environ.get("FORNO_SERVER", ROOT / "server"), "--help"],
                                                                capture_output=True, text=True).stdout))
    wrong = {span: why for span in code_spans(name) if (why := what_is_wrong_with(span, name, names, words, files, options))}
    assert not wrong, f"{name} names what is not there: {wrong}"


def anchors(path):
    """The headings of a page as a forge makes them into anchors."""
    headings = re.findall(r"^#+ (.*)$", docs.FENCE.sub("", path.read_text()), re.MULTILINE)
    return ["".join(c for c in heading.lower() if c.isalnum() or c in " -_").replace(" ", "-") for heading in headings]


def page_states(name):
    """Which states of the live page it points to; that the page has them, test_page.py tells."""
    return docs.PAGE_STATE.findall(text_of(name))


def links(name):
    return re.findall(r"\]\(([^)\s]+)\)", prose(name))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_link_leads_somewhere(name):
    for link in links(name):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), f"{name}: {link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{name}: there is no #{anchor} in {target.name}, but {anchors(target)}"


@pytest.mark.parametrize("target, packages", [
    ("steps", {"gcc", "liburing-dev", "python3"}),  # python3: chapter 9 has it take await apart
    ("exercise", {"gcc", "python3"}),
    ("break", {"gcc", "python3-pytest", "strace"}),
    ("follow", {"gcc", "python3", "strace"}),
    ("layering", {"universal-ctags", "python3"}),
])
def test_what_the_guide_has_made_installs_what_it_wants(target, packages):
    """On a system that has nothing but what the guide begins with. make -n tells what would be asked for, and runs none of it."""
    asked = {name for names in re.findall(r"\bfor p in ([^;]*);", make("-n", target)) for name in names.split()}
    assert packages <= asked


# ---------------------------------------------------------------- two languages

def outline(name):
    """Headings, tables, lists and blocks, in their order."""
    found, text = [], text_of(name)
    parts = rf"{docs.FENCE.pattern}|^(?P<head>#+) |^(?P<row>\|[^\n]*\|)$|^(?P<item>[-*]|\d+\.) "
    for match in re.finditer(parts, text, re.MULTILINE | re.DOTALL):
        if match["head"]:
            found.append(match["head"])
        elif match["row"]:
            found.append(f"row of {match['row'].count('|') - match['row'].count(chr(92) + '|') - 1}")
        elif match["item"]:
            found.append("item")
        else:
            found.append(f"block of {match['info']}")
    return found


def block_to_compare(block):
    """To the byte, but for comments, and pictures that hold words."""
    if block.language == "console":
        return re.sub(r"^(\$ .*?) +# .*", r"\1", block.text, flags=re.MULTILINE)
    if block.language in ("", "text"):
        return None
    return re.sub(r"\s*#.*", "", block.text)


@pytest.mark.parametrize("name", ENGLISH)
def test_both_languages_say_the_same(name):
    other = other_language(name)
    assert (ROOT / other).exists(), f"{other} is missing"
    apart = [(ours, theirs) for ours, theirs in itertools.zip_longest(outline(name), outline(other)) if ours != theirs]
    assert not apart, f"the first part that is not like the other: {apart[0]}"
    for ours, theirs in zip(blocks(name), blocks(other), strict=True):
        assert block_to_compare(ours) == block_to_compare(theirs), f"the blocks at line {ours.line} and line {theirs.line}"
        assert ours.not_run.keys() == theirs.not_run.keys()
    spans = [collections.Counter(code_spans(page)) for page in (name, other)]
    assert spans[0] == spans[1], f"only here: {spans[0] - spans[1]}; only there: {spans[1] - spans[0]}"

    def targets(page):
        return sorted(link for link in (english(link.partition("#")[0]) for link in links(page)) if link != Path(name).name)
    assert targets(name) == targets(other)
    shown = [page_states(page) for page in (name, other)]
    assert shown[1] == [f"lang/pt&{state}" for state in shown[0]], f"they point to other states of the page: {shown}"


@pytest.mark.parametrize("name", ENGLISH)
def test_who_reads_in_portuguese_goes_on_in_portuguese(name):
    """But for the link to the same page in English."""
    page = (ROOT / other_language(name)).resolve()
    for link in links(other_language(name)):
        target = (page.parent / link.partition("#")[0]).resolve()
        if target.is_relative_to(ROOT) and target != ROOT / name:
            ours = str(target.relative_to(ROOT))
            assert ours not in ENGLISH, f"{page.name}: {link} leads to English, though there is {other_language(ours)}"


@pytest.mark.parametrize("name", [name for name in READERS if re.search(r"guide/.*/\d\d-", name)])
def test_a_block_of_the_guide_says_whose_it_is(name):
    """A forge does not show what stands behind the three backticks."""
    before = text_of(name).splitlines()
    for block in filter(lambda block: block.is_commands, blocks(name)):
        line = block.line - 2 - bool(block.not_run)  # of the empty one
        assert before[line - 1:line + 1] == [f"**{block.terminal}**", ""], f"{name}, line {block.line}: in which terminal?"


@pytest.mark.parametrize("name", [name for name in READERS if re.search("/(03-ask-everybody|16-completions)", name)])
def test_the_guide_quotes_the_figures_that_were_measured(name):
    measured = text_of("docs/guide/compare.txt").splitlines()
    quoted = [[cell.strip("`").replace(".", ",") for cell in row] for row in rows(name, 5) if row[1][-1:].isdigit()]
    assert len(quoted) == 2 and all(row in [line.split() for line in measured] for row in quoted), quoted


def test_the_guide_quotes_the_given_half_as_it_is():
    patch = text_of("docs/guide/exercises/18-meeting-list/given.patch")
    given = "".join(line[1:] for line in patch.splitlines(keepends=True) if line.startswith("+"))
    quoted = [block.text for block in blocks("docs/guide/en/18-meeting-list.md") if block.language == "c"]
    assert len(quoted) == 2 and all(text in given for text in quoted)


def test_no_document_is_left_in_one_language_by_accident():
    translated = [name for name in READERS if name != english(name)]
    assert sorted(map(english, translated)) == sorted(ENGLISH)
    assert all((ROOT / name).exists() and not (ROOT / other_language(name)).exists() for name in ENGLISH_ONLY)


# ---------------------------------------------------------------- routes

def described(server):
    """METHOD /path of everything in /openapi.json."""
    paths = server.api("GET", "/openapi.json").json()["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def as_described(method, path, routes):
    """/orders/7?x=1 -> GET /orders/{id}"""
    path = path.partition("?")[0]
    fits = [route for route in routes if (m := route.split(" ", 1))[0] == method and
            re.fullmatch(re.sub(r"\\\{\w+\\\}", r"(\\d+|[a-z-]+|\\{\\w+\\})", re.escape(m[1])), path)]
    return f"{method} {path}" if f"{method} {path}" in routes else fits[0] if fits else None




def curl_line(line):
    """METHOD, path of a curl line."""
    url = re.search(r"(?:https?://)?(?:localhost|127\.0\.0\.1|\[::1\]|\$URL)(?::\d+)?(/[^\s'\"`)>|;&]*)", line)
    method = re.search(r"-X (\w+)", line)
    return (method[1] if method else "POST" if re.search(r" -d ", line) else "GET"), url[1]


def test_the_menu_and_the_description_have_the_same_routes(server):
    menu = server.api("GET", "/", accept="text/plain").body.decode()
    routes = described(server)
    on_menu = {as_described(*curl_line(line), routes) or line for line in menu.splitlines() if "curl " in line}
    assert on_menu == routes, f"only on the menu: {on_menu - routes}; missing there: {routes - on_menu}"


@pytest.mark.parametrize("name", ["README.md", "README.pt-BR.md"])
def test_the_readme_lists_the_routes_that_there_are(server, name):
    listed = [route for row in rows(name, 2) for route in re.findall(r"`((?:GET|POST|DELETE|PUT) /[^`]*)`", " ".join(row))]
    there = described(server)
    assert set(listed) == there, f"only here: {set(listed) - there}; missing: {there - set(listed)}"
    assert len(listed) == len(there)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_route_that_a_document_mentions_exists(server, name):
    routes = described(server)
    for span in code_spans(name):
        if match := re.fullmatch(r"(GET|POST|DELETE|PUT) (/\S*)", span):
            assert as_described(match[1], match[2], routes), f"{name}: {span}"
    for line in re.findall(r"^.*\bcurl .*(?:localhost|127\.0\.0\.1):8000/.*$", text_of(name), re.MULTILINE):
        assert as_described(*curl_line(line), routes), f"{name}: {line}"


# ---------------------------------------------------------------- figures and functions

NUMBER = re.compile(r"(\d[\d,.]*)(?: (KiB|MiB|ms|s|min))?")
UNITS = {None: 1, "KiB": 1024, "MiB": 1 << 20, "ms": 10**6, "s": 10**9, "min": 60 * 10**9}


def constant(name):
    """The value of a constant of the source; a time in ns."""
    found = subprocess.run(["grep", "-rhE", rf"^#define {name} |[{{ ]{name} = [0-9]", "--include=*.[ch]", "."], cwd=ROOT,
                           capture_output=True, text=True).stdout
    value = re.search(rf"{name} =? ?(\(?[\w *()]+)", found)
    assert value, f"there is no constant {name}"
    text = re.sub(r"INT64_C\((\d+)\)", r"\1", value[1].replace("NS_PER_S", str(10**9)).replace("NS_PER_MS", str(10**6)))
    unit = 10**6 if name.endswith("_MS") else 10**9 if name.endswith("_S") else 1
    return eval(text.strip(), {}, {}) * unit


@pytest.mark.parametrize("name", ["README.md", "README.pt-BR.md"])
def test_the_limits_are_those_of_the_source(name):
    limits = [(row[1], row[2].strip("`")) for row in rows(name, 3) if re.fullmatch(r"`[A-Z_]+`", row[2])]
    assert len(limits) >= 8
    for said, of in limits:
        number, unit = NUMBER.match(said).groups()
        said = int(re.sub(r"[,.]", "", number)) * UNITS[unit]
        assert said == constant(of), f"{name} says {number} {unit or ''} of {of}, which is {constant(of)}"


@pytest.mark.parametrize("name", ["README.md", "README.pt-BR.md"])
def test_each_concept_has_its_function_and_its_test(name, names):
    concepts = [row for row in rows(name, 3) if "test_" in row[2]]
    assert len(concepts) >= 12
    for _, where, guard in concepts:
        assert re.search(r"`\w+\(\)`", where), f"no function: {where}"
        assert all(test in names["function"] for test in re.findall(r"test_\w+", guard)), f"no such test: {guard}"


def bodies():
    """{function: its text}"""
    found = collections.defaultdict(str)
    for tag in ctags("--languages=C", "--kinds-C=f", "--exclude=tests", "--exclude=bench"):
        lines = (ROOT / tag["path"]).read_text().splitlines()[tag["line"] - 1:tag["end"]]
        found[tag["name"]] += "\n".join(lines).partition("{")[2]
    return found


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    if not can("strace", "-o", "/dev/null"):
        pytest.skip("the kernel forbids ptrace here")
    make("-j2", "build/follow/server")
    return follow.follow(ROOT / "build/follow/server")


@pytest.mark.parametrize("name", ["README.md", "README.pt-BR.md"])
def test_the_request_goes_through_the_functions_that_the_readme_names(name, followed):
    """A → B calls B: so says the source. A ⇢ B calls it through a pointer. What a row with a system call tells, strace has seen, in
    this order."""
    path = [row for row in rows(name, 4) if "→" in row[1] or "⇢" in row[1]]
    body, at = bodies(), 0
    assert {"`loop`", "`worker`"} == {row[0] for row in path}
    for thread, chain, call, _ in path:
        functions = re.findall(r"`(\w+)\(\)`", chain)
        for caller, how, callee in zip(functions[:-1], re.findall("[→⇢]", chain), functions[1:], strict=True):
            calls = how == "⇢" or re.search(rf"\b{callee}\b", body[caller])
            assert callee in body and calls, f"{caller}() does not call {callee}()"
        if call == "–":
            continue
        at = next((i + 1 for i in range(at, len(followed)) if is_part_of(functions, followed[i].chain) and
                   (f"`{followed[i].thread}`", f"`{followed[i].name}`") == (thread, call)), None)
        assert at, f"after what came before, no {call} by {chain} was seen"


def is_part_of(some, chain):
    rest = iter(chain)
    return all(function in rest for function in some)


def test_what_is_followed_can_be_read_in_a_terminal(followed):
    lines = make("follow").splitlines()
    assert max(map(len, lines)) <= follow.WIDTH
    assert [line.split("(")[0] for line in lines[2:4]] == ["loop   epoll_wait", "loop   accept4"]
    assert {call.thread for call in followed} == {"loop", "worker"}
    assert any("conn_read" in line for line in lines) and any("conn_flush" in line for line in lines)
