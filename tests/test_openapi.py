"""test_openapi.py: GET /openapi.json, what machines read of the table of routes: made of app/routes.inc, refined by page/openapi.json."""

import json
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent.parent
REFINEMENTS = json.loads((HERE / "page/openapi.json").read_text())["paths"]
ROW = re.compile(r'ROUTE\((\w+), "([^"]+)", (\w+), ([\w |]+),\s*(?:NULL|"([^"]*)"), \w+,\s*(NULL)?')
ROWS = [row for row in ROW.findall((HERE / "app/routes.inc").read_text()) if not row[5]]  # without the pieces of the page
TABLE = {(method, path): (handler, set(wants.split(" | ")), re.findall(r"\w+", query)) for method, path, handler, wants, query, _ in ROWS}

# The fixed fields of OpenAPI 3.1 that may stand in each of its objects; ! marks what must.
FIELDS = {name: text.split() for name, text in {
    "document": "openapi! info! servers tags paths! components security externalDocs",
    "info": "title! version! summary description license contact termsOfService",
    "tag": "name! description externalDocs",
    "operation": "operationId! tags! summary description parameters requestBody responses! security deprecated externalDocs servers",
    "parameter": "name! in! description required schema! deprecated example",
    "body": "description content! required",
    "response": "description! headers content links",
    "media": "schema example examples",
    "components": "schemas responses parameters securitySchemes requestBodies headers",
    "scheme": "type! scheme! description bearerFormat",
}.items()}
SCHEMA = {"type", "format", "description", "properties", "required", "additionalProperties", "items", "enum", "minimum", "maximum",
          "minLength", "maxLength", "default", "$ref"}
TYPES = {"null", "boolean", "object", "array", "number", "integer", "string"}


@pytest.fixture(scope="module")
def description(server):
    return server.api("GET", "/openapi.json").json()


def operations(description):
    return {(name.upper(), path): operation for path, item in description["paths"].items() for name, operation in item.items()}


def follow(description, thing):
    """What it refers to, or it itself."""
    while "$ref" in thing:
        assert set(thing) == {"$ref"} and thing["$ref"].startswith("#/"), thing
        place = description
        for step in thing["$ref"][2:].split("/"):
            assert step in place, f"{thing['$ref']} leads nowhere"
            place = place[step]
        thing = place
    return thing


def check(kind, thing):
    known = {field.rstrip("!") for field in FIELDS[kind]}
    assert set(thing) <= known, f"unknown in a {kind}: {set(thing) - known}"
    missing = {field[:-1] for field in FIELDS[kind] if field.endswith("!")} - set(thing)
    assert not missing, f"missing in a {kind}: {missing} of {thing}"
    return thing


def check_schema(description, schema):
    schema = follow(description, schema)
    assert set(schema) <= SCHEMA, f"unknown in a schema: {set(schema) - SCHEMA}"
    types = schema.get("type", [])
    assert set([types] if isinstance(types, str) else types) <= TYPES, types
    assert set(schema.get("required", ())) <= set(schema.get("properties", {})), f"required and unknown: {schema}"
    for inner in [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]:
        check_schema(description, inner)


def check_content(description, content):
    assert content, "expected at least one media type"
    for media_type, media in content.items():
        assert re.fullmatch(r"[a-z]+/[a-z+-]+", media_type), media_type
        check_schema(description, check("media", media).get("schema", {}))


def check_parameters(description, path, parameters):
    found = [check("parameter", follow(description, p)) for p in parameters]
    places = [(p["in"], p["name"]) for p in found]
    assert len(set(places)) == len(places), f"twice the same parameter: {places}"
    assert all(p["in"] in ("path", "query", "header") and p.get("required", p["in"] != "path") in (True, False) for p in found)
    assert all(p["required"] for p in found if p["in"] == "path"), "a parameter of the path is always required"
    assert [name for place, name in places if place == "path"] == re.findall(r"{(\w+)}", path)
    for p in found:
        check_schema(description, p["schema"])
    return {name for place, name in places if place == "query"}


def test_the_description_is_valid(description):
    check("document", description), check("info", description["info"]), check("components", description["components"])
    assert re.fullmatch(r"3\.1\.\d+", description["openapi"])
    tags = [check("tag", tag)["name"] for tag in description["tags"]]
    for (_, path), operation in operations(description).items():
        check("operation", operation)
        assert path.startswith("/") and set(operation["tags"]) <= set(tags)
        check_parameters(description, path, operation["parameters"])
        if "requestBody" in operation:
            check_content(description, check("body", operation["requestBody"])["content"])
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5](\d\d|XX)|default", status), status
            response = check("response", follow(description, response))
            if "content" in response:
                check_content(description, response["content"])
        assert all(set(wanted) <= set(description["components"]["securitySchemes"]) for wanted in operation.get("security", ()))
    names = [operation["operationId"] for operation in operations(description).values()]
    assert len(set(names)) == len(names)
    for scheme in description["components"]["securitySchemes"].values():
        check("scheme", scheme)
    for schema in description["components"]["schemas"].values():
        check_schema(description, schema)


def test_every_operation_is_a_row_and_every_row_an_operation(description):
    assert len(TABLE) > 20, "expected the table to be legible"
    assert set(operations(description)) == set(TABLE)


def test_what_the_table_knows_of_an_endpoint_is_in_its_operation(description):
    for row, operation in operations(description).items():
        handler, wants, query = TABLE[row]
        assert operation["operationId"] == handler
        assert check_parameters(description, row[1], operation["parameters"]) == set(query), f"the query of {row}"
        assert operation.get("security") == ([{"bearer": []}] if "MEMBER" in wants else []), row
        assert ("requestBody" in operation) == ("JSON" in wants), row
        assert any(status.startswith("2") for status in operation["responses"]) and "default" in operation["responses"], row
        assert ("401" in operation["responses"]) == ("MEMBER" in wants), row
        assert re.search(r"curl .*\$URL/", operation["description"]), f"an example of {row}"


def test_every_refinement_is_of_a_row():
    refined = {(name.upper(), path) for path, item in REFINEMENTS.items() for name in item}
    assert refined and refined <= set(TABLE), f"of no row: {refined - set(TABLE)}"


def test_every_component_is_referred_to(description):
    """What nobody refers to would be there for a parameter or an endpoint that is gone."""
    text = json.dumps(description)
    unused = [f"{kind}/{name}" for kind in ("parameters", "schemas", "responses") for name in description["components"][kind]
              if f'"#/components/{kind}/{name}"' not in text]
    assert not unused
