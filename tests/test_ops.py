"""test_ops.py: what the operator and the newcomer meet: the front door, health, metrics, options, the log."""

import ctypes
import json
import os
import re
import socket
import sqlite3
import subprocess
import unicodedata
from pathlib import Path

import pytest
import wire
from wire import run, wait_until


# ---------------------------------------------------------------- the front door

def test_the_menu_of_endpoints_is_plain_text_for_curl(server):
    for accept in ("*/*", None, "text/plain", "text/plain, text/html;q=0.5", "text/html;q=0, */*"):
        r = server.api("GET", "/", accept=accept)
        assert r.status == 200 and r.media_type == "text/plain" and "accept" in r["Vary"].lower(), f"got {r}"
        assert b"curl 127.0.0.1:%d/menu\n" % server.port in r.body
    guides = re.findall(r"docs/\S+\.md", r.body.decode())
    assert len(guides) == 2 and all((Path(__file__).parent.parent / guide).exists() for guide in guides), f"the guide, in two languages: {guides}"


def test_every_curl_line_of_the_menu_works_as_printed(start_server):
    """In a shell, from top to bottom. A wrapper notes what curl was answered, and ends streams after a while."""
    server = start_server(defaults=())
    page = subprocess.run(["curl", "-s", server.url + "/"], capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"^\s*((?:\w+=\$\(|export \w+=\$\()?curl .*)$", page.replace("\\\n", " "), re.MULTILINE)
    assert len(lines) >= 8, f"expected a curl line for each endpoint, got {lines}"
    wrapper = "curl() { command curl \"$@\" --max-time 5 --write-out '%{stderr}answered %{http_code}\\n'; }\n"
    script = wrapper + "exec 2>&1\n" + "\n".join(f"echo @next@\n{line}" for line in lines)
    out = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30).stdout
    for line, said in zip(lines, out.split("@next@\n")[1:], strict=True):
        codes = re.findall(r"answered (\d+)", said)
        assert codes and all(200 <= int(code) < 400 for code in codes), f"expected {line!r} to work, got {said}"


def test_the_answer_of_the_front_door_depends_on_accept(server):
    for method in ("GET", "HEAD"):
        for accept in ("*/*", "text/html,application/xhtml+xml,*/*;q=0.8"):
            r = server.api(method, "/", accept=accept)
            assert r.status == 200 and "accept" in (r["Vary"] or "").lower(), f"expected Vary: Accept, got {r}"


def test_the_loop_says_how_to_watch_it_where_it_was_asked(server):
    for name in ("127.0.0.1", "localhost"):
        url = f"{name}:{server.port}/loop"
        page = subprocess.run(["curl", "-s4", url], capture_output=True, text=True, check=True).stdout
        assert f"watch -n1 curl -s {url}\n" in page, f"expected a line that works as printed, got {page[:200]!r}"


# ---------------------------------------------------------------- caching

@pytest.mark.parametrize("path", ["/orders/events", "/loop/events"])
def test_event_streams_ask_not_to_be_held_back(server, path):
    with server.connect() as client:
        assert client.ask("GET", path, token=server.customer().token).head()["X-Accel-Buffering"] == "no"


def test_the_menu_has_an_etag_and_honours_if_none_match(server):
    etag = server.api("GET", "/menu")["ETag"]
    assert re.fullmatch(r'(W/)?"[\x21\x23-\x7e]+"', etag or ""), f"expected an entity tag, got {etag!r}"
    for known in (etag, "*", f'"other", {etag}', f"W/{etag.removeprefix('W/')}", f'"a,b",{etag}'):
        for method in ("GET", "HEAD"):
            r = server.api(method, "/menu", if_none_match=known)
            assert r.status == 304 and r["ETag"] == etag, f"expected 304 for If-None-Match: {known}, got {r}"
    for unknown in ('"other"', etag.strip('W/"'), '""', f'"{etag}"', "nonsense"):
        assert server.api("GET", "/menu", if_none_match=unknown).status == 200, f"expected 200 for {unknown}"


def test_nothing_follows_a_304(server):
    with server.connect() as client:
        assert client.api("GET", "/menu", if_none_match="*").status == 304
        assert client.api("GET", "/healthz").status == 200


# ---------------------------------------------------------------- health, metrics, description

@pytest.mark.contract
def test_the_server_is_healthy_and_ready(server):
    assert server.api("GET", "/healthz").status == 200
    assert server.api("GET", "/readyz").status == 200


@pytest.mark.contract
def test_an_answer_that_waited_for_the_database_says_so(server, ana):
    r = server.api("POST", "/accounts", {"name": "Ana"})
    assert re.search(r"\bdb;dur=\d+(\.\d+)?", r["Server-Timing"] or ""), f"expected Server-Timing: db;dur=…, got {r}"
    assert server.api("GET", "/healthz")["Server-Timing"] is None, "expected nothing to be waited for"


SAMPLE = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_]\w*="([^"\\\n]|\\[\\"n])*",?)*\})? '
                    r"([+-]?(\d+(\.\d+)?([eE][+-]?\d+)?|Inf)|NaN)")
COMMENT = re.compile(r"# (HELP [a-zA-Z_:]\w* .*|TYPE [a-zA-Z_:]\w* (counter|gauge|histogram|summary|untyped))")


def test_metrics_are_prometheus_text(server):
    server.api("GET", '/nowhere/%22%5C%0a?"'.replace('"', "%22"))  # must not end up in a label unescaped
    r = server.api("GET", "/metrics")
    assert r.status == 200 and r.media_type == "text/plain" and r.body.endswith(b"\n")
    samples = set()
    for line in r.body.decode("ascii").splitlines():
        assert SAMPLE.fullmatch(line) or COMMENT.fullmatch(line), f"expected a line of Prometheus text, got {line!r}"
        if not line.startswith("#"):
            key = line.rsplit(" ", 1)[0]
            assert key not in samples, f"expected each sample once, got {key} twice"
            samples.add(key)
    assert {"forno_connections", "forno_requests_live"} <= samples


def test_metrics_count_connections(start_server):
    server = start_server()
    before = server.metric("forno_connections")
    clients = [server.connect() for _ in range(10)]
    for client in clients:
        assert client.api("GET", "/healthz").status == 200
    assert server.metric("forno_connections") == before + 10
    for client in clients:
        client.close()
    server.assert_back_to_idle()


# ---------------------------------------------------------------- problems

@pytest.mark.contract
def test_every_problem_seen_has_its_page(server, ana, bob):
    """Those that this test provokes, and those that any test of this run before it has met."""
    order = ana.order(1, prefer="wait=5").json()["id"]
    big = {"content_length": 1 << 20}
    provoked = [
        server.api("GET", "/nowhere"), server.api("PUT", "/menu"), server.api("BREW", "/menu"),
        server.api("GET", "/orders"), server.api("GET", "/orders", token="nonsense"),
        server.api("GET", "/orders", host="a, b"),
        server.api("POST", "/accounts", b"{"), server.api("POST", "/accounts", {}),
        server.api("POST", "/accounts", {"name": "A"}, content_type="text/plain"),
        server.api("POST", "/accounts", **big), server.api("GET", "/" + "a" * 9000),
        server.api("GET", "/", x="a" * 20000), server.api("GET", "/", expect="tea"),
        server.connect().send(b"GET / HTTP/2.0\r\n\r\n").response(), ana.api("GET", f"/accounts/{bob.id}"),
        ana.api("GET", "/orders/999999"), ana.api("DELETE", f"/orders/{order}"), ana.api("GET", "/orders?limit=0"),
        ana.transfer(bob.id, 2 * ana.opening, "a"), ana.transfer(bob.id, 1, None), ana.transfer(ana.id, 1, "b"),
        ana.transfer(999999, 1, "c"), ana.transfer(bob.id, 1, "d"), ana.transfer(bob.id, 2, "d"),
    ]
    kinds = {r.problem: r for r in provoked if r.status >= 400}
    assert len(kinds) >= 12, f"expected the problems to be told apart, got only {set(kinds)}"
    overview = server.api("GET", "/problems")
    assert overview.status == 200
    for name in wire.PROBLEMS_SEEN:
        page = server.api("GET", f"/problems/{name}")
        assert page.status == 200 and len(page.body) > 80, f"expected a page that explains {name}, got {page}"
        assert name.encode() in overview.body, f"expected {name} in the overview"
    for name, r in kinds.items():
        page = server.api("GET", f"/problems/{name}").body.decode()
        assert r.json()["title"] in page, f"expected the page of {name} to bear its title"


def test_the_overview_of_problems_leads_to_pages(server):
    names = set(re.findall(r"/problems/([a-z0-9-]+)", server.api("GET", "/problems").body.decode()))
    assert len(names) >= 12, f"expected the overview to list the problems, got {names}"
    for name in names:
        assert server.api("GET", f"/problems/{name}").status == 200, f"expected a page for {name}"


def test_a_problem_that_does_not_exist_has_no_page(server):
    assert server.api("GET", "/problems/no-such-problem").status == 404


def test_no_path_is_reflected_as_markup_or_control(server):
    r = server.api("GET", "/%3Cscript%3Ealert(1)%3C/script%3E%0d%0aX-Injected:%201%1b[31m".replace("[", "%5B"))
    assert r.status in (400, 404) and r["X-Injected"] is None
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", r.body), f"expected no control bytes, got {r}"
    assert not re.search(r"[\x00-\x1f\x7f]", r.json()["detail"]), "expected no control characters in the detail either"


# ---------------------------------------------------------------- options

OPTIONS = ["--host", "--port", "--db", "--opening-credit", "--bake-ms", "--log", "--drain", "--max-conns", "--audit",
           "--version", "--help"]


def test_help_lists_every_option():
    status, out, err = run("--help")
    assert status == 0 and err == ""
    assert [option for option in OPTIONS if option not in out] == [], "expected every option in --help"
    assert "FORNO_PORT" in out, "expected --help to speak of the environment"


def test_version_is_one_line():
    status, out, err = run("--version")
    assert status == 0 and err == "" and out.count("\n") == 1 and re.search(r"\d", out), f"got {out!r} {err!r}"


@pytest.mark.parametrize("options", [
    ["--no-such-option"], ["--port"], ["--port", "x"], ["--port", "65536"], ["--port", "-1"], ["--port", ""],
    ["--port", "80x"], ["--log", "xml"], ["--opening-credit", "-1"], ["--opening-credit", "1.5"],
    ["--opening-credit", "9" * 30], ["--bake-ms", "x"], ["--drain", "x"], ["--max-conns", "0"], ["--max-conns", "x"],
    ["surplus"],
])
def test_a_bad_option_is_exit_status_2_and_a_hint(options, tmp_path):
    status, out, err = run("--db", str(tmp_path / "forno.db"), *options)
    assert status == 2 and out == "", f"expected exit status 2, got {status} {out!r} {err!r}"
    assert "--help" in err or "usage" in err.lower(), f"expected a hint on how to use it, got {err!r}"


def one_clear_line(options, *words, **popen):
    status, out, err = run(*options, **popen)
    assert status == 1 and out == "", f"expected exit status 1, got {status} {out!r} {err!r}"
    assert err.count("\n") == 1 and err.endswith("\n"), f"expected exactly one line on stderr, got {err!r}"
    for word in words:
        assert word in err, f"expected the line to name {word}, got {err!r}"


@pytest.mark.parametrize("db", ["{tmp}/missing/forno.db", "{tmp}", "{tmp}/picture.png", "{tmp}/picture.png/forno.db",
                                "/proc/forno.db"])
def test_a_database_that_cannot_be_is_one_clear_line(db, tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" * 1000)
    db = db.format(tmp=tmp_path)
    one_clear_line(["--port", "0", "--db", db], db)


def without_privileges():
    """Root may write everywhere. Whoever runs the tests as root gives that up: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP: exec(2) will not grant it


@pytest.mark.file
@pytest.mark.parametrize("folder, file, why", [
    (0o555, None, "Permission denied: its directory"), (0o555, 0o644, "Permission denied: its directory"),
    (0o000, 0o644, "Permission denied: its directory"), (0o755, 0o000, "Permission denied: it must"),
    (0o755, 0o444, "read")])
def test_what_may_not_be_written_is_said_truly(start_server, tmp_path, folder, file, why):
    """A database must be ours to write, and so must its directory: the write-ahead log stands beside it."""
    db = tmp_path / "folder" / "forno.db"
    db.parent.mkdir()
    if file is not None:
        start_server(db=db).stop()
        db.chmod(file)
    db.parent.chmod(folder)
    try:
        one_clear_line(["--port", "0", "--db", str(db)], str(db), why, preexec_fn=without_privileges)
    finally:
        db.parent.chmod(0o755)


def test_a_directory_or_a_file_in_the_way_is_named_truly(tmp_path):
    (tmp_path / "file").write_text("")
    one_clear_line(["--port", "0", "--db", str(tmp_path)], "Is a directory")
    one_clear_line(["--port", "0", "--db", str(tmp_path / "file" / "forno.db")], "Not a directory")
    one_clear_line(["--port", "0", "--db", str(tmp_path / "missing" / "forno.db")], "No such file or directory: its directory")


@pytest.mark.file
def test_a_database_of_a_newer_forno_is_refused(start_server, tmp_path):
    server = start_server()
    server.stop()
    with sqlite3.connect(server.db) as db:
        db.execute("PRAGMA user_version = 9999")
    one_clear_line(["--port", "0", "--db", str(server.db)], str(server.db), "newer")


def test_a_port_in_use_is_one_clear_line(server, tmp_path):
    one_clear_line(["--port", str(server.port), "--db", str(tmp_path / "forno.db")], str(server.port), "in use")
    assert list(tmp_path.iterdir()) == [], "expected no database to be left behind"


def test_a_courier_of_no_use_leaves_no_database_behind(tmp_path):
    one_clear_line(["--port", "0", "--courier", "ftp://nobody", "--db", str(tmp_path / "forno.db")], "ftp://nobody")
    assert list(tmp_path.iterdir()) == [], "expected no database to be left behind"


def test_a_standard_stream_that_is_closed_becomes_nobodys_socket(tmp_path):
    """The log would be written into it."""
    process = wire.spawn("--port", "0", "--db", str(tmp_path / "forno.db"), preexec_fn=lambda: (os.close(0), os.close(2)))
    try:
        assert process.stdout.readline().startswith("listening on ")
        assert [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in (0, 2)] == ["/dev/null"] * 2
    finally:
        process.kill()
        process.wait()


def test_a_foreign_address_is_one_clear_line(tmp_path):
    one_clear_line(["--port", "0", "--host", "192.0.2.1", "--db", str(tmp_path / "forno.db")], "192.0.2.1")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def starts_at(tmp_path, *options, **env):
    """The port a server starts at, told only by these options and this environment."""
    process = wire.spawn("--db", str(tmp_path / "forno.db"), *options, env=env, stderr=subprocess.DEVNULL)
    try:
        return int(process.stdout.readline().rpartition(":")[2])
    finally:
        process.terminate()
        assert process.wait(15) == 0
        process.stdout.close()


def test_the_port_comes_from_the_option_or_else_the_environment(tmp_path):
    ours, general, option = str(free_port()), str(free_port()), str(free_port())
    assert starts_at(tmp_path, PORT=general) == int(general)
    assert starts_at(tmp_path, FORNO_PORT=ours, PORT=general) == int(ours)
    assert starts_at(tmp_path, "--port", option, FORNO_PORT=ours, PORT=general) == int(option)


def test_other_options_come_from_the_environment_too(tmp_path):
    env = {"FORNO_DB": str(tmp_path / "env.db"), "FORNO_OPENING_CREDIT": "777", "FORNO_BAKE_MS": "5", "FORNO_PORT": "0",
           "FORNO_LOG": "off"}
    process = wire.spawn(env=env, stderr=subprocess.PIPE, cwd=tmp_path)
    client = wire.Client(int(process.stdout.readline().rpartition(":")[2]))
    assert client.api("POST", "/accounts", {"name": "A"}).json()["balance_cents"] == 777
    assert client.api("GET", "/menu").json()["pizzas"][0]["bake_ms"] == 5
    process.terminate()
    assert process.communicate(timeout=15)[1] == "" and process.returncode == 0
    assert (tmp_path / "env.db").exists()


def test_a_bad_environment_is_a_bad_option(tmp_path):
    status, out, err = run("--db", str(tmp_path / "forno.db"), env={"FORNO_PORT": "x"})
    assert status == 2 and "port" in err.lower(), f"expected exit status 2 and the name, got {status} {err!r}"
    assert "(null)" not in err, f"expected the hint to name the program, got {err!r}"


def test_it_listens_on_ipv6_if_told(start_server):
    server = start_server("--host", "::1")
    assert server.url == f"http://[::1]:{server.port}"
    with server.connect(host="::1") as client:
        assert client.api("GET", "/healthz").status == 200


@pytest.mark.file
def test_audit_tells_a_sound_ledger_from_a_cooked_one(start_server):
    server = start_server()
    ana, bob = server.customer(), server.customer()
    ana.transfer(bob.id, 100, "a")
    server.stop()
    wire.assert_ledger_is_sound(server.db)
    with sqlite3.connect(server.db) as db:
        tables = [name for name, in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        entries = next(name for name in tables if "entr" in name)
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({entries})")]
        amount = next(name for name in columns if "amount" in name)
        db.execute(f"UPDATE {entries} SET {amount} = {amount} + 1 WHERE rowid = (SELECT max(rowid) FROM {entries})")
    status, out, err = run("--audit", str(server.db))
    assert status == 1 and (out + err).strip(), f"expected the odd cent to be found, got {status} {out}{err}"


def test_audit_of_nothing_is_1_and_creates_nothing(tmp_path):
    status, out, err = run("--audit", str(tmp_path / "missing.db"))
    assert status == 1 and "missing.db" in out + err, f"expected 1 and the file's name, got {status} {out!r} {err!r}"
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- the log

HOSTILE = [
    b"GET /%0a127.0.0.1%20GET%20/forged%20200 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%0d%0a%1b[31mred%1b[0m HTTP/1.1\r\nHost: a\r\n\r\n".replace(b"[", b"%5B"),
    b"GET /%22,%22status%22:200,%22x%22:%22 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%5C%22 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%c2%9b31m%7f%e2%80%ae HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /caf%c3%a9 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /?q=%0a%00%1b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \x9b31m \xff \"}\\\r\nReferer: \x9b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\\n\r\n\r\n",
    b"GET /\x1b[31m HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GE\x1bT / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"BREW'\"{} / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"BREW!#$%&'*+.^_`|~ / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x1b[2J\x07\xff\xfe\r\n\r\n",
    b"POST /accounts HTTP/1.1\r\nHost: a\r\nContent-Type: text/\xff\x9b\r\nContent-Length: 0\r\n\r\n",
    b'POST /accounts HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n'
    b'Content-Length: 21\r\n\r\n{"name":"\\u001b[31m"}',
]


def log_of(server):
    """Lines of the log, once there is at least one for each hostile request."""
    for request in HOSTILE:
        with server.connect() as client:
            client.send(request).response()
    wait_until(lambda: server.log.read_bytes().count(b"\n") >= len(HOSTILE), lambda: server.stderr())
    server.stop()
    content = server.log.read_bytes()
    assert content.endswith(b"\n")
    return content[:-1].split(b"\n")


def assert_harmless(line):
    controls = [c for c in line.decode("utf-8") if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not controls, f"expected no control characters in the log, got {line!r}"


def test_the_text_log_has_a_line_per_answer_whatever_comes(start_server):
    lines = log_of(start_server("--log", "text"))
    for line in lines:
        assert_harmless(line)
    answers = [line for line in lines if re.search(rb"\b(200|201|400|404|405|415|422|501)\b", line)]
    assert len(answers) == len(HOSTILE), f"expected {len(HOSTILE)} answers in the log, got {answers}"
    assert not any(line.startswith(b"127.0.0.1 GET /forged") for line in lines), "expected no forged line"


def test_the_json_log_is_json_whatever_comes(start_server):
    lines = log_of(start_server("--log", "json"))
    for line in lines:
        assert_harmless(line)
        assert isinstance(json.loads(line, object_pairs_hook=wire._no_duplicates), dict), f"got {line!r}"
    answers = [record for record in map(json.loads, lines) if "status" in record]
    assert len(answers) == len(HOSTILE), f"expected {len(HOSTILE)} answers in the log, got {lines}"


def test_a_token_never_reaches_the_log(start_server):
    server = start_server("--log", "text")
    ana = server.customer()
    assert ana.balance() == ana.opening
    server.stop()
    assert ana.token not in server.log.read_text()


def test_without_a_log_stderr_is_silent(start_server):
    server = start_server("--log", "off")
    assert server.customer().order(1, prefer="wait=5").status == 201
    server.api("GET", "/nowhere")
    server.stop()
    assert server.log.read_bytes() == b"", "expected nothing on stderr"
