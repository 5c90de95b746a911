"""conftest.py: the servers the tests talk to. One per module where tests can share, one per test where they cannot."""

import os
import resource
from contextlib import contextmanager

import pytest
from wire import BINARY, Server

# Enough money for any test, ovens fast enough to wait for: ten pizzas take a second.
OPTIONS = ("--opening-credit", "1000000", "--bake-ms", "100")

_running = []  # for the report of a failed test


@contextmanager
def _server_factory(directory):
    """start(*options): these come after the defaults and win over them. All are stopped, and judged, at the end."""
    started = []

    def start(*options, db=None, defaults=OPTIONS, **rest):
        log = directory / f"stderr-{len(started)}"
        server = Server(db or directory / f"forno-{len(started)}.db", log, *defaults, *options, **rest)
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
    if failures:
        raise failures[0]


@pytest.fixture
def start_server(tmp_path):
    with _server_factory(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def start_shared_server(tmp_path_factory):
    with _server_factory(tmp_path_factory.mktemp("shared")) as start:
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
    if not os.access(BINARY, os.X_OK):
        pytest.exit(f"there is no server at {BINARY}: run make, or set FORNO_SERVER", 2)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for server in _running:
            if said := server.stderr(tail=3000):
                report.sections.append((f"stderr of ./server, pid {server.pid}", said))
