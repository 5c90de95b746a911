"""conftest.py: the servers the tests talk to. One per module where tests can share, one per test where they cannot.

A server stores its data by one of two roads, SQLite or PostgreSQL. What clients may rely on is the same on both: tests marked `contract`
run on both. Tests marked `file` speak of SQLite's file, of its one worker, or of --blocking, and run on SQLite alone. The others hardly touch the
database: they run on SQLite, and on PostgreSQL when told so: pytest --road postgresql."""

import os
import resource
from contextlib import contextmanager
from pathlib import Path

import contract
import pg
import pytest
import roads
from wire import BINARY, Server, missing

# Enough money for any test, ovens fast enough to wait for: ten pizzas take a second.
OPTIONS = ("--opening-credit", "1000000", "--bake-ms", "100")

_running = []  # for the report of a failed test


@pytest.fixture(scope="session")
def workshop():
    """Where clusters of PostgreSQL are made."""
    try:
        workshop = pg.Workshop()
    except pg.Missing as why:
        missing(str(why))
    yield workshop
    workshop.close()


@pytest.fixture(scope="session")
def shared_cluster(workshop):
    """For all tests that do it no harm. Each server has a database of its own there."""
    return workshop.cluster(max_connections=400)


@pytest.fixture(scope="module")
def road(request):
    """Where servers store their data: see roads.py."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return roads.Sqlite()
    return roads.Postgres(request.getfixturevalue("shared_cluster"))


def pytest_addoption(parser):
    parser.addoption("--road", choices=("both", "sqlite", "postgresql"), default="both", help="where servers store their data")


def pytest_generate_tests(metafunc):
    if "road" in metafunc.fixturenames and not hasattr(metafunc.module, "road"):
        way = metafunc.config.getoption("road")
        marks = {mark.name for mark in metafunc.definition.iter_markers()}
        both = way == "both" and "contract" in marks and "file" not in marks
        metafunc.parametrize("road", ["sqlite", "postgresql"] if both else ["postgresql" if way == "postgresql" else "sqlite"],
                             indirect=True, scope="module")


# Those that take longest begin first, so that no processor has nothing to do in the end.
LONGEST = ("test_postgres", "test_page", "test_break_it", "test_life", "test_docs", "test_exercises")


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: LONGEST.index(name) if (name := item.path.stem) in LONGEST else len(LONGEST))
    if config.getoption("road") == "postgresql":
        skipped = [item for item in items if item.get_closest_marker("file")]
        items[:] = [item for item in items if item not in skipped]
        config.hook.pytest_deselected(items=skipped)


@contextmanager
def _server_factory(directory, road):
    """start(*options): these come after the defaults and win over them. All are stopped, and judged, at the end."""
    started, databases = [], []

    def start(*options, db=None, defaults=OPTIONS, **rest):
        log = directory / f"stderr-{len(started)}"
        if not db:
            db = road.new_database(directory, len(started))
            databases.append(db)
        server = Server(db, log, *defaults, *options, **rest)
        started.append(server)
        _running.append(server)
        return server

    yield start
    failures = []
    for server in started:
        try:
            server.stop()
        except AssertionError as failure:
            failures.append(failure)
        _running.remove(server)
    for db in databases:
        road.forget(db)
    if failures:
        raise failures[0]


@pytest.fixture
def start_server(tmp_path, road):
    with _server_factory(tmp_path, road) as start:
        yield start


@pytest.fixture(scope="module")
def start_shared_server(tmp_path_factory, road):
    with _server_factory(tmp_path_factory.mktemp("shared"), road) as start:
        yield start


@pytest.fixture(scope="module")
def server(start_shared_server):
    """A server shared by the tests of a module."""
    return start_shared_server()


@pytest.fixture(scope="module")
def slow_oven(start_shared_server):
    """A shared server on which nothing gets ready while a test runs."""
    return start_shared_server("--bake-ms", "60000")


@pytest.fixture
def ana(server):
    return server.customer("Ana")


@pytest.fixture
def bob(server):
    return server.customer("Bob")


def pytest_configure(config):
    """The tests open more connections than the usual soft limit of descriptors allows."""
    config.addinivalue_line("markers", "contract: what clients may rely on; runs on both roads")
    config.addinivalue_line("markers", "file: speaks of SQLite's file, its one worker, or --blocking; runs on SQLite alone")
    if not os.access(BINARY, os.X_OK):
        pytest.exit(f"there is no server at {BINARY}: run make, or set FORNO_SERVER", 2)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if b"__tsan_init" not in Path(BINARY).read_bytes():  # what it answers is the same there
        contract.install(config)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for server in _running:
            if said := server.stderr(tail=3000):
                report.sections.append((f"stderr of ./server, pid {server.pid}", said))
