"""test_project.py: what surrounds the program agrees with it: the version in all its places, forno(1), what make installs."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import wire
from wire import run

TOP = Path(__file__).parent.parent
SOURCES = [f for folder in (".", "app", "ledger", "reactor") for f in (TOP / folder).glob("*.c")]


def read(path):
    return (TOP / path).read_text()


def version():
    status, out, _ = run("--version")
    match = re.fullmatch(r"forno (\d+\.\d+(?:\.\d+)?)\n", out)
    assert status == 0 and match, f"expected a version, got {out!r}"
    return match[1]


@pytest.mark.parametrize("path, pattern", [
    ("CHANGELOG.md", r"^## \[(\d[^]]*)\] - \d{4}-\d\d-\d\d$"),
    ("CHANGELOG.md", r"^\[Unreleased\]: \.\./\.\./compare/v(.*)\.\.\.main$"),
    ("debian/changelog", r"^forno \(([^)]*)\) \w+; urgency=\w+$"),
])
def test_the_newest_release_is_this_version(path, pattern):
    assert re.search(pattern, read(path), re.MULTILINE)[1] == version()


def test_what_the_server_says_of_itself_is_this_version(server):
    assert server.api("GET", "/openapi.json").json()["info"]["version"] == version()
    assert server.api("GET", "/loop").body.decode().startswith(f"forno {version()} ")
    with server.connect() as client:
        client.ask("GET", "/loop/events")
        hello = next(e for e in client.events(client.head()) if e.get("event") == "hello")
    assert json.loads(hello["data"])["version"] == f"forno {version()}"


def test_the_dashboard_names_metrics_that_there_are(server):
    named = set(re.findall(r"\bforno_[a-z_]+", read("dist/grafana.json")))
    told = set(re.findall(r"^(forno_[a-z_]+)", server.api("GET", "/metrics").body.decode(), re.MULTILINE))
    assert len(named) > 20 and named <= told, f"of no use: {named - told}"


# ---------------------------------------------------------------- make install

@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Where make has installed into, and how to call it again."""
    root = tmp_path_factory.mktemp("install")

    def make(target):
        r = subprocess.run(["make", "-s", "-C", TOP, target, f"DESTDIR={root}", "PREFIX=/opt/forno", f"SERVER={wire.BINARY}"],
                           capture_output=True, text=True)
        assert r.returncode == 0 and r.stdout + r.stderr == "", f"expected no word from make {target}, got {r}"

    make("install")
    return root, make


def test_what_is_installed_is_whole_and_names_where_it_is(installed):
    root, _ = installed
    prefix = root / "opt/forno"
    r = subprocess.run([prefix / "bin/forno", "--version"], capture_output=True, text=True)
    assert r.stdout == f"forno {version()}\n"
    manual, service = (prefix / path for path in ("share/man/man1/forno.1", "lib/systemd/system/forno.service"))
    assert f'"forno {version()}"' in manual.read_text()
    assert re.search(r"^ExecStart=/opt/forno/bin/forno$", service.read_text(), re.MULTILINE)
    for file in root.rglob("*"):
        mode = 0o755 if file.is_dir() or file.name == "forno" else 0o644
        assert file.stat().st_mode & 0o777 == mode, f"expected mode {mode:o} of {file}"
    for file in manual, service, service.with_suffix(".socket"):
        assert not re.search(r"@[A-Z]+@", file.read_text()), f"expected all of {file} to be filled in"


def test_documents_lead_to_what_was_installed_with_them(installed):
    """Sources are not; but a document or a picture that is linked to must be there."""
    documents = installed[0] / "opt/forno/share/doc/forno"
    links = [(page, link) for page in documents.rglob("*.md")
             for link in re.findall(r"\]\(([^)#:]+\.(?:md|png|svg))[)#]", page.read_text())]
    assert len(links) > 5
    gone = [(page.name, link) for page, link in links if not (page.parent / link).exists()]
    assert gone == []


def test_uninstall_leaves_no_file_behind(tmp_path_factory, installed):
    root, make = installed
    assert any(f.is_file() for f in root.rglob("*"))
    make("uninstall")
    assert [f for f in root.rglob("*") if not f.is_dir()] == [] and not (root / "opt/forno/share/doc/forno").exists()


# ---------------------------------------------------------------- forno(1)

def plain(roff):
    """What a reader of this page sees, near enough, with a line for each of the source."""
    def words(macro):
        return (" " if len(macro[1]) == 1 else "").join(shlex.split(macro[2]))
    return re.sub(r"^\.([BI]|[BIR]{2}) (.*)$", words, re.sub(r"\\f.", "", roff).replace(r"\-", "-"), flags=re.MULTILINE)


MANUAL = plain(read("dist/forno.1"))


def section(name):
    return re.search(rf'^\.SH "?{name}"?\n(.*?)(?=^\.SH |\Z)', MANUAL, re.MULTILINE | re.DOTALL)[1]


def paragraphs(name):
    """Of a section: what is explained, and how."""
    return [p.split("\n", 1) for p in re.split(r"^\.TP\n", section(name), flags=re.MULTILINE)[1:]]


def listed_options():
    """What --help lists: short name or None, long name with its argument, text."""
    _, out, _ = run("--help", env={"ARGP_HELP_FMT": "rmargin=4000"})
    return re.findall(r"^  (?:-(\S), |    )--(\S+) +(.*)$", out, re.MULTILINE)


def test_the_manual_explains_the_options_there_are_and_no_others():
    options = listed_options()
    assert len(options) > 15
    expected = {(f"-{short}, " if short else "") + f"--{name}": text for short, name, text in options}
    explained = dict(paragraphs("OPTIONS"))
    assert sorted(explained) == sorted(expected)
    for name, text in expected.items():
        for default in re.findall(r"\([^()]*\)", text)[-1:]:
            assert default in explained[name] or "by default" in default, f"expected {default} to be told of {name}"


def test_the_manual_knows_every_variable_signal_and_status():
    code = "".join(f.read_text() for f in SOURCES)
    variables = set(re.findall(r'getenv\([^()"]*"([A-Z_]+)"', code))
    assert {"PORT", "NOTIFY_SOCKET"} <= variables
    assert [v for v in variables if v not in section("ENVIRONMENT")] == []
    signals = set(re.findall(r"\bSIG(?!_)[A-Z]+\b", read("server.c")))
    assert {"SIGTERM", "SIGINT"} <= signals
    assert [s for s in signals if s not in section("SIGNALS")] == []
    assert [status for status, _ in paragraphs("EXIT STATUS")] == ["0", "1", "2"]


def test_the_manual_knows_every_file(start_server):
    server = start_server()
    server.customer()
    made = [f.name.replace(server.db.name, "forno.db") for f in server.db.parent.glob(f"{server.db.name}*")]
    assert len(made) == 3
    files = section("FILES")
    assert [name for name in made + ["forno.socket", "forno.service"] if name not in files] == []
