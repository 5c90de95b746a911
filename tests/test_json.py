"""test_json.py: JSON is taken literally or not at all. Wrong JSON is 400 or 422 and changes nothing; never a guess."""

import pytest

pytestmark = pytest.mark.contract

ROUTES = {
    "/accounts": b'"name":"Ana"',
    "/orders": b'"flavor":"margherita","pizzas":1',
    "/transfers": b'"to":1,"amount_cents":1',
}
GOOD = {path: b"{" + members + b"}" for path, members in ROUTES.items()}


def rejects(r, *statuses):
    assert r.status in (statuses or (400, 422)), f"expected {statuses or (400, 422)}, got {r}"
    return r


def post(customer, path, body, **headers):
    return customer.api("POST", path, body, idempotency_key=f"key-for-{path}", **headers)


# ---------------------------------------------------------------- every route

def test_the_bodies_these_tests_spoil_are_good(server, ana, bob):
    bodies = {**GOOD, "/transfers": b'{"to":%d,"amount_cents":1}' % bob.id}
    for path, body in bodies.items():
        assert post(ana, path, body).status in (201, 202), f"expected {path} to accept {body!r}"


# What becomes of the good body: the name of the flaw, and the flaw.
FLAWS = {
    "nothing": lambda good: b"",
    "white space only": lambda good: b" \n",
    "cut short": lambda good: good[:-1],
    "something behind it": lambda good: good + b"x",
    "another value behind it": lambda good: good + good,
    "a NUL behind it": lambda good: good + b"\0",
    "a NUL and more behind it": lambda good: good + b"\0" + good,
    "a NUL between": lambda good: good.replace(b":", b":\0", 1),
    "a comma too many": lambda good: good[:-1] + b",}",
    "a comma at the start": lambda good: b"{," + good[1:],
    "a comment": lambda good: b"/* */" + good,
    "single quotes": lambda good: good.replace(b'"', b"'"),
    "names without quotes": lambda good: good.replace(b'"', b"", 2),
    "a byte order mark": lambda good: b"\xef\xbb\xbf" + good,
    "UTF-16": lambda good: good.decode().encode("utf-16-le"),
    "form data": lambda good: b"name=Ana",
    "an array": lambda good: b"[" + good + b"]",
    "null": lambda good: b"null",
    "a string": lambda good: b'"Ana"',
    "a number": lambda good: b"1",
    "true": lambda good: b"true",
    "an empty object": lambda good: b"{}",
    "a name twice": lambda good: good[:-1] + b"," + good[1:],
    "a name twice, once with escapes": lambda good: good[:-1] + b',"n\\u0061me":"B","\\u0074o":2,"p\\u0069zzas":2}',
    "an unknown name": lambda good: good[:-1] + b',"tip":1}',
    "an unknown name that is empty": lambda good: good[:-1] + b',"":1}',
    "an unknown name in another case": lambda good: good[:-1] + b',"NAME":"x","Pizzas":1,"To":1}',
    "an unknown name that begins like a known one": lambda good: good[:-1] + b',"name\\u0000x":1}',
    "17 levels": lambda good: good[:-1] + b',"tip":' + b"[" * 16 + b"]" * 16 + b"}",
    "17 levels of objects": lambda good: good[:-1] + b',"tip":' + b'{"a":' * 16 + b"1" + b"}" * 17,
    "thirty thousand levels": lambda good: b"[" * 30000 + b"]" * 30000,
    "thirty thousand levels, not closed": lambda good: b"[" * 60000,
}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flawed_body_is_rejected(flaw, path, ana):
    rejects(post(ana, path, FLAWS[flaw](GOOD[path])))
    assert ana.balance() == ana.opening, "expected no money to move"


@pytest.mark.parametrize("path", ROUTES)
def test_an_unknown_field_is_422_and_named(path, ana):
    r = rejects(post(ana, path, GOOD[path][:-1] + b',"tip":1}'), 422)
    assert "tip" in r.json()["detail"], f"expected the detail to name the field, got {r}"


@pytest.mark.parametrize("path, missing, body", [
    ("/accounts", "name", {}),
    ("/orders", "flavor", {"pizzas": 1}),
    ("/transfers", "to", {"amount_cents": 1}),
    ("/transfers", "amount_cents", {"to": 1}),
])
def test_a_missing_field_is_422_and_named(path, missing, body, ana):
    r = rejects(ana.api("POST", path, body, idempotency_key="missing"), 422)
    assert missing in r.json()["detail"], f"expected the detail to name {missing}, got {r}"


@pytest.mark.parametrize("path, name, value", [
    *[("/accounts", "name", value) for value in (1, None, True, [], {}, ["Ana"])],
    *[("/orders", "flavor", value) for value in (1, None, ["margherita"])],
    *[("/orders", "pizzas", value) for value in ("1", None, True, [1], {})],
    *[("/transfers", "to", value) for value in ("1", None, True, [1])],
    *[("/transfers", "amount_cents", value) for value in ("1", None, True, [1])],
])
def test_a_value_of_the_wrong_type_is_422_and_named(path, name, value, ana):
    good = {"/accounts": {"name": "A"}, "/orders": {"flavor": "margherita", "pizzas": 1},
            "/transfers": {"to": 1, "amount_cents": 1}}[path]
    r = rejects(ana.api("POST", path, {**good, name: value}, idempotency_key="type"), 422)
    assert name in r.json()["detail"], f"expected the detail to name {name}, got {r}"


@pytest.mark.parametrize("number", [
    "1.5", "1e-1", "0.9999999999", "1e400", "-1e400", "9007199254740993", "-9007199254740993", "9223372036854775808",
    "18446744073709551617", "1" + "0" * 400, "NaN", "Infinity", "-", "+1", "01", "-01", "0x1", "1.", ".5", "1e", "1e+",
    "1_000", "١",
])
@pytest.mark.parametrize("path, body", [
    ("/orders", '{"flavor":"margherita","pizzas":%s}'),
    ("/transfers", '{"to":%s,"amount_cents":1}'),
    ("/transfers", '{"to":1,"amount_cents":%s}'),
])
def test_a_number_that_is_no_safe_integer_is_rejected(path, body, number, ana):
    rejects(post(ana, path, (body % number).encode()))
    assert ana.balance() == ana.opening


@pytest.mark.parametrize("name", [
    b"\xff", b"\xc3", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80",
    b"caf\xe9", b"a\0b", b"a\nb", b"a\x1fb", b"\\u0000", b"a\\u0000b", b"\\ud800", b"\\ud800x", b"\\ud800\\u0041",
    b"\\udc00", b"\\udc00\\ud800", b"\\u12", b"\\uzzzz", b"\\x41", b"\\", b"\\'",
])
def test_a_string_that_is_no_unicode_text_is_rejected(name, server):
    rejects(server.api("POST", "/accounts", b'{"name":"' + name + b'"}'))


# ---------------------------------------------------------------- names

@pytest.mark.parametrize("name", ["A", "Ana Luísa", "李小龍", "🍕", "a" * 80, "é" * 80, "🍕" * 80, '"\\/',
                                  "<b>", "' --", "%s%n", "${x}", "null"])
def test_a_name_comes_back_as_it_was_given(name, server):
    customer = server.customer(name)
    assert customer.account["name"] == name
    assert customer.api("GET", f"/accounts/{customer.id}").json()["name"] == name


def test_escapes_are_letters(server):
    r = server.api("POST", "/accounts", b'{"\\u006eame":"\\u0041\\ud83c\\udf55\\/\\""}')
    assert r.status == 201 and r.json()["name"] == 'A🍕/"', f"expected the escapes resolved, got {r}"


@pytest.mark.parametrize("name", ["", "a" * 81, "é" * 81, "🍕" * 81, "a\nb", "\t", "\x1b[31m", "a\x7f", "a\x85",
                                  "a\x9b31m"])
def test_a_name_that_is_too_long_or_holds_controls_is_422(name, server):
    rejects(server.api("POST", "/accounts", {"name": name}), 422)


# ---------------------------------------------------------------- media types

@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("media_type", [None, "", "text/plain", "application/x-www-form-urlencoded",
                                        "application/jsonp", "text/json", "application/json; charset=latin-1", "json",
                                        "application"])
def test_another_media_type_is_415_and_curl_users_learn_what_to_add(media_type, path, ana):
    r = rejects(post(ana, path, GOOD[path], content_type=media_type), 415)
    assert "content-type: application/json" in r.json()["detail"].lower(), f"expected the detail to help, got {r}"


@pytest.mark.parametrize("media_type", ["application/json", "application/json; charset=utf-8",
                                        "application/json;charset=UTF-8",
                                        'application/json; charset="utf-8"', "Application/JSON"])
def test_json_by_any_of_its_names_is_accepted(media_type, server):
    r = server.api("POST", "/accounts", {"name": "Ana"}, content_type=media_type)
    assert r.status == 201, f"expected 201, got {r}"


def test_white_space_in_json_is_free(server):
    assert server.api("POST", "/accounts", b' \t\r\n{ "name" :\n"Ana" }\r\n').status == 201
