"""test_served.py: the files of the page as they are served, and how they hang together. What they do is told by test_page.py."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "page"
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
FILES = sorted(file.name for file in PAGE.iterdir() if file.suffix in TYPES)
SOURCES = {name: (PAGE / name).read_text() for name in FILES}
IMPORT = re.compile(r'^import \{ ([^}]*) \} from "\./([\w.]+)";$', re.MULTILINE)
IMPORTS = {name: {module: set(names.split(", ")) for names, module in IMPORT.findall(text)} for name, text in SOURCES.items()}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_page_is_served_and_known_by_its_etag(name, server):
    r = server.api("GET", f"/page/{name}")
    assert r.status == 200 and r.body == SOURCES[name].encode() and r["Content-Type"] == TYPES[Path(name).suffix], f"got {r}"
    assert r["X-Content-Type-Options"] == "nosniff" and r["Cache-Control"] == "no-cache" and "'self'" in r["Content-Security-Policy"]
    assert re.fullmatch(r'"[0-9a-f]+"', r["ETag"]), "expected a strong validator"
    head = server.api("HEAD", f"/page/{name}")
    assert head.status == 200 and (head["ETag"], head["Content-Length"]) == (r["ETag"], str(len(r.body)))
    for known in (r["ETag"], "*"):
        r = server.api("GET", f"/page/{name}", if_none_match=known)
        assert r.status == 304 and not r.body and r["ETag"] == head["ETag"], f"got {r}"
    assert server.api("GET", f"/page/{name}", if_none_match='"other"').status == 200


@pytest.mark.parametrize("name", ["nothing.js", "openapi.json", "main.js%00", "main", "..%2fapp%2fapp.h", "../page/main.js", "main.js/", ""])
def test_there_is_no_other_file(name, server):
    r = server.api("GET", f"/page/{name}")
    assert r.status in (400, 404), f"got {r}"


def test_the_page_is_asked_for_in_one_round(server):
    """index.html names all that its script will import, and nothing else: nobody waits for a module to learn of the next."""
    html = server.api("GET", "/", accept="text/html").body.decode()
    scripts, preloaded = (re.findall(pattern, html) for pattern in (r'<script type="module" src="/page/([^"]+)"', r'"modulepreload" href="/page/([^"]+)"'))
    assert len(scripts) == 1 and "<script" not in html.replace('<script type="module"', ""), scripts
    wanted, found = set(scripts), set()
    while wanted:
        name = wanted.pop()
        found.add(name)
        wanted |= set(IMPORTS[name]) - found
    assert sorted(preloaded) == sorted(found - set(scripts))
    assert found == {name for name in FILES if name.endswith(".js")}, "expected every module to be of use"
    assert sorted(re.findall(r'"stylesheet" href="/page/([^"]+)"', html)) == [name for name in FILES if name.endswith(".css")]


def test_no_arrow_between_the_modules_runs_back():
    def circle(path):
        for to in sorted(IMPORTS[path[-1]]):
            if to in path:
                return path[path.index(to):] + [to]
            if found := circle(path + [to]):
                return found
        return None

    assert sum(map(len, IMPORTS.values())) > 20, "expected the imports to be legible"
    assert circle(["main.js"]) is None


def test_what_a_module_imports_is_there_and_is_of_use():
    for name, modules in IMPORTS.items():
        code = re.sub(r"/\* .*?\*/", "", IMPORT.sub("", SOURCES[name]), flags=re.DOTALL)
        for module, names in modules.items():
            for imported in names:
                exported = rf"^export (async )?(function|class|const|let) ([^\n]*[ ,])?{re.escape(imported)}\b"
                if imported != "$":
                    assert re.search(exported, SOURCES[module], re.MULTILINE), f"{name} imports {imported}, which {module} does not export"
                    assert re.search(rf"\b{imported}\b", code), f"{name} imports {imported} for nothing"


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_a_module_is_read_in_one_sitting(name):
    assert SOURCES[name].count("\n") < 400


def test_what_comes_from_the_server_gets_into_the_page_as_text_only():
    for name, text in SOURCES.items():
        for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert danger not in text, f"{danger} in {name}"
