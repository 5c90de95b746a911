"""contract.py: every answer that the tests get is held to GET /openapi.json, and at the end it to what they got.

An answer whose route, status, media type or field is not described fails the test that asked; so does one that lacks what is described as
always there, and a request that is answered well though the description forbids it. What is described and was never seen fails the run, if it
was one of all tests.
Objects are taken as closed here: a field that the description does not know would be a surprise to whoever generates a client from it."""

import http.client
import json
import re
import tempfile
import threading
from collections import Counter
from pathlib import Path

import pytest
import wire
from jsonschema import Draft202012Validator


def fetch_description():
    """From a server of our own, as it is by default."""
    with tempfile.TemporaryDirectory() as folder:
        server = wire.Server(Path(folder) / "forno.db", Path(folder) / "stderr")
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=wire.DEADLINE)
        connection.request("GET", "/openapi.json")
        description = json.load(connection.getresponse())
        connection.close()
        server.stop()
    return description


def close(schema):
    """Nothing but what is described."""
    if isinstance(schema, list):
        return [close(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: close(value) for name, value in schema.items()}
    if schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


class Contract:
    def __init__(self, description):
        self.description = description
        self.components = close(description["components"])
        self.operations = {}  # (method, pattern) → (what matches it, the operation)
        for path, item in description["paths"].items():
            for method, operation in item.items():
                self.operations[method.upper(), path] = re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))), operation
        self.validators = {}
        self.answered = Counter()  # (method, pattern, status, media type)
        self.objects, self.members = Counter(), Counter()  # place of a schema; (place, member)

    def counters(self):
        return self.answered, self.objects, self.members

    def find(self, method, path):
        """The pattern that says most of it, first: /orders/events before /orders/{id}."""
        found = [(pattern.count("{"), (m, pattern)) for (m, pattern), (regex, _) in self.operations.items()
                 if m == method and regex.fullmatch(path)]
        return min(found)[1] if found else None

    def follow(self, thing):
        while "$ref" in thing:
            place = self.description
            for step in thing["$ref"][2:].split("/"):
                place = place[step]
            thing = place
        return thing

    def look(self, schema, value, place):
        """What is there, for the end of the run."""
        if "$ref" in schema:
            place = schema["$ref"].rsplit("/", 1)[1]
            schema = self.follow(schema)
        if isinstance(value, list):
            for item in value:
                self.look(schema.get("items", {}), item, place + "[]")
        elif isinstance(value, dict) and "properties" in schema:
            self.objects[place] += 1
            for name, member in value.items():
                self.members[place, name] += 1
                self.look(schema["properties"].get(name, {}), member, f"{place}.{name}")

    def validate(self, schema, value, place):
        if place not in self.validators:
            self.validators[place] = Draft202012Validator({**close(schema), "components": self.components})
        for error in self.validators[place].iter_errors(value):
            raise AssertionError(f"{place}, which is described otherwise: at {error.json_path}, {error.message}")
        self.look(schema, value, place)

    def check(self, method, target, body, r):
        path, _, query = re.sub("^http://[^/?]*", "", target).partition("?")
        asked = self.find("GET" if method == "HEAD" else method, path)
        if asked is None:
            assert r.status >= 300 or method == "OPTIONS" or path.startswith("/page/"), f"{method} {path} is not described: {r}"
            return
        operation = self.operations[asked][1]
        responses = operation["responses"]
        if r.status == 304:  # for all that have an ETag, by HTTP itself
            return
        status = str(r.status) if str(r.status) in responses else "default"
        described = self.follow(responses[status])
        place = " ".join((*asked, status))
        assert r.status >= 400 or status != "default", f"a status that is not described: {place}: {r}"
        assert r.bodiless or r.media_type in described["content"], f"a media type that is not described: {place}: {r}"
        self.answered[(*asked, status, r.media_type)] += 1
        if not r.bodiless and r.media_type.endswith("json") and r.body:
            self.validate(described["content"][r.media_type]["schema"], r.json(), f"{place}: the answer")
        if r.status < 300:
            self.check_request(operation, place, query, body)

    def check_request(self, operation, place, query, body):
        """It was answered well, so the description must allow it."""
        known = {p["name"] for p in map(self.follow, operation["parameters"]) if p["in"] == "query"}
        names = {part.split("=")[0] for part in query.split("&") if part}
        assert not known or names <= known, f"{place} takes {names - known}, which is not described"
        if isinstance(body, dict) and "requestBody" in operation:
            self.validate(operation["requestBody"]["content"]["application/json"]["schema"], body, f"{place}: the request")

    def unseen(self):
        """What is described and has not been seen."""
        for (method, pattern), (_, operation) in self.operations.items():
            for status, response in operation["responses"].items():
                for media_type in self.follow(response)["content"]:
                    if status != "default" and not self.answered[method, pattern, status, media_type]:
                        yield f"{method} {pattern} {status} {media_type}"
        yield from self.unseen_members()

    def unseen_members(self):
        schemas = dict(self.description["components"]["schemas"])
        for (method, pattern), (_, operation) in self.operations.items():
            for status, response in operation["responses"].items():
                for media in self.follow(response)["content"].values():
                    schemas[f"{method} {pattern} {status}: the answer"] = media["schema"]
        for place, schema in schemas.items():
            for name in schema.get("properties", ()):
                seen, always = self.members[place, name], name in schema.get("required", ())
                if not seen:
                    yield f"{place}.{name}"
                elif seen == self.objects[place] and not always:
                    yield f"{place} without {name}: it is always there, and not required"


class Plugin:
    """What was seen by all who ran tests, be it one process or several, judged at the end."""

    def __init__(self):
        self.seen = []
        self.files = set()
        self.unseen = []

    def pytest_sessionfinish(self, session):
        here = {"files": sorted({item.path.name for item in getattr(session, "items", ())}),
                "seen": [list(counter.items()) for counter in contract.counters()] if contract else []}
        if hasattr(session.config, "workerinput"):
            session.config.workeroutput["contract"] = json.dumps(here)
            return
        self.files |= set(here["files"])
        everything = {file.name for file in Path(__file__).parent.glob("test_*.py")}
        if session.exitstatus == pytest.ExitCode.OK and self.files == everything:
            whole = the_contract()
            for seen in self.seen:
                for counter, items in zip(whole.counters(), seen):
                    counter.update({tuple(key) if isinstance(key, list) else key: n for key, n in items})
            self.unseen = sorted(whole.unseen())
        if self.unseen:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)  # of xdist
    def pytest_testnodedown(self, node):
        if "contract" in getattr(node, "workeroutput", {}):
            there = json.loads(node.workeroutput["contract"])
            self.files |= set(there["files"])
            self.seen.append(there["seen"])

    def pytest_terminal_summary(self, terminalreporter):
        if self.unseen:
            terminalreporter.section("described by GET /openapi.json, and not so in any answer")
            for line in self.unseen:
                terminalreporter.line(line)


contract = None
begin = threading.Lock()


def the_contract():
    global contract
    with begin:
        contract = contract or Contract(fetch_description())
    return contract


def install(config):
    """From now on Client checks the answers to what was asked with ask() and api(). Once a test has sent bytes of its own making, nobody
    knows what the next answer is to: then it does not."""
    config.pluginmanager.register(Plugin())
    client = wire.Client
    send, ask, head, response = client.send, client.ask, client.head, client.response
    client.asking, client.unknown = False, False

    def tracked_send(self, data):
        self.unknown |= not self.asking
        return send(self, data)

    def tracked_ask(self, method, path, body=None, token=None, **headers):
        vars(self).setdefault("asked", []).append((method, path, body))
        self.asking = True
        try:
            return ask(self, method, path, body, token, **headers)
        finally:
            self.asking = False

    def tracked_head(self, method="GET"):
        r = head(self, method)
        r.asked = None
        if r.status >= 200 and not self.unknown and vars(self).get("asked"):
            r.asked = self.asked.pop(0)
        return r

    def checked_response(self, method="GET"):
        r = response(self, method)
        if r.asked:
            the_contract().check(*r.asked, r)
        return r

    def checked_events(self, r):
        if r.asked:
            the_contract().check(*r.asked, r)
        return events(self, r)

    events = client.events
    client.send, client.ask, client.head, client.response, client.events = (
        tracked_send, tracked_ask, tracked_head, checked_response, checked_events)
