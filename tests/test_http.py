"""test_http.py: HTTP/1.1 to the letter (RFC 9110, 9112), as tables of bytes that read as documentation.

Each case is sent whole and byte by byte: a parser that sees one byte at a time must come to the same end.
"""

import json
import re
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from wire import Client, together

ORDER = b'{"flavor":"margherita","pizzas":1}'
NAME = b'{"name":"A"}'


class Case(NamedTuple):
    name: str
    rfc: str  # the section that says so
    sent: bytes
    status: tuple  # the statuses that are right


def case(name, rfc, sent, *status):
    return Case(name, rfc, sent, status)


def over(cases):
    """A test for each of the cases."""
    return pytest.mark.parametrize("case", cases, ids=[f"{c.name} ({c.rfc})" for c in cases])


@pytest.fixture(params=[Client.send, Client.trickle], ids=["whole", "byte by byte"])
def deliver(request):
    return request.param


@pytest.fixture(scope="module")
def victim(server):
    """The customer in whose name requests are smuggled. Her balance tells whether one was executed."""
    return server.customer("Victim")


def smuggled(victim):
    """A request that spends the victim's money if it is ever taken for one."""
    return (b"POST /orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (victim.token.encode(), len(ORDER), ORDER))


def get(target=b"/menu", *fields):
    return b"\r\n".join([b"GET " + target + b" HTTP/1.1", b"Host: a", *fields, b"", b""])


def post(*fields, body=b""):
    """Opens an account, if the framing of the body is right."""
    head = [b"POST /accounts HTTP/1.1", b"Host: a", b"Content-Type: application/json", *fields, b"", b""]
    return b"\r\n".join(head) + body


def chunked(body):
    return post(b"Transfer-Encoding: chunked", body=body)


def assert_refused_for_good(server, victim, deliver, case):
    """One answer, then the end: what follows the error in the same bytes is neither answered nor executed."""
    with server.connect() as client:
        deliver(client, case.sent + smuggled(victim))
        r = client.response()
        assert r.status in case.status, f"expected {case.status} for {case.sent[:200]!r}, got {r}"
        client.assert_closed()
    assert victim.balance() == victim.opening, "expected the smuggled order not to be executed"


# ---------------------------------------------------------------- the head

def first_line(line):
    return line + b"\r\nHost: a\r\n\r\n"


def host(value):
    return b"GET /menu HTTP/1.1\r\nHost: " + value + b"\r\n\r\n"


MALFORMED_LINES = [
    case("LF alone ends the request line", "9112 2.2", b"GET /menu HTTP/1.1\nHost: a\r\n\r\n", 400),
    case("LF alone ends a field", "9112 2.2", b"GET /menu HTTP/1.1\r\nHost: a\n\r\n", 400),
    case("LF alone ends the head", "9112 2.2", b"GET /menu HTTP/1.1\r\nHost: a\r\n\n", 400),
    case("CR without LF in the request line", "9112 2.2", first_line(b"GET /me\rnu HTTP/1.1"), 400),
    case("CR without LF after the version", "9112 2.2", b"GET /menu HTTP/1.1\rHost: a\r\n\r\n", 400),
    case("CR without LF in a value", "9112 2.2", get(b"/menu", b"X: a\rb"), 400),
    case("CR CR LF", "9112 2.2", get(b"/menu", b"X: a\r"), 400),
    case("white space before the first field", "9112 2.2", b"GET /menu HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    case("white space before the request line", "9112 3", first_line(b" GET /menu HTTP/1.1"), 400),
    case("white space after the version", "9112 3", first_line(b"GET /menu HTTP/1.1 "), 400),
    case("two spaces in the request line", "9112 3", first_line(b"GET  /menu HTTP/1.1"), 400),
    case("tabs in the request line", "9112 3", first_line(b"GET\t/menu\tHTTP/1.1"), 400),
    case("a method that is no token", "9110 9.1", first_line(b"GE(T /menu HTTP/1.1"), 400),
    case("no method", "9112 3", first_line(b"/menu HTTP/1.1"), 400),
    case("HTTP/0.9", "9112 3", b"GET /menu\r\n\r\n", 400),
    case("lower-case version", "9112 2.3", first_line(b"GET /menu http/1.1"), 400),
    case("version without minor", "9112 2.3", first_line(b"GET /menu HTTP/1"), 400),
    case("version with a dot only", "9112 2.3", first_line(b"GET /menu HTTP/1."), 400),
    case("version with two minor digits", "9112 2.3", first_line(b"GET /menu HTTP/1.10"), 400),
    case("version with two major digits", "9112 2.3", first_line(b"GET /menu HTTP/01.1"), 400),
    case("version with a comma", "9112 2.3", first_line(b"GET /menu HTTP/1,1"), 400),
    case("another protocol", "9112 2.3", first_line(b"GET /menu ICY/1.1"), 400),
    case("a TLS hello", "9112 3", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 32 + b"\r\n\r\n", 400),
]

MALFORMED_FIELDS = [
    case("obs-fold", "9112 5.2", get(b"/menu", b"X: a\r\n b"), 400),
    case("obs-fold with a tab", "9112 5.2", get(b"/menu", b"X: a\r\n\tb"), 400),
    case("space before the colon", "9112 5.1", get(b"/menu", b"X : a"), 400),
    case("tab before the colon", "9112 5.1", get(b"/menu", b"X\t: a"), 400),
    case("space inside a name", "9110 5.1", get(b"/menu", b"X Y: a"), 400),
    case("empty name", "9110 5.1", get(b"/menu", b": a"), 400),
    case("no colon", "9112 5", get(b"/menu", b"Xyz"), 400),
    case("parenthesis in a name", "9110 5.6.2", get(b"/menu", b"X(y): a"), 400),
    case("at sign in a name", "9110 5.6.2", get(b"/menu", b"X@y: a"), 400),
    case("UTF-8 in a name", "9110 5.6.2", get(b"/menu", b"X\xc3\xa9: a"), 400),
    case("NUL in a name", "9110 5.6.2", get(b"/menu", b"X\0: a"), 400),
    case("NUL in a value", "9110 5.5", get(b"/menu", b"X: a\0b"), 400),
    case("a control character in a value", "9110 5.5", get(b"/menu", b"X: a\x01b"), 400),
    case("ESC in a value", "9110 5.5", get(b"/menu", b"X: a\x1b[31m"), 400),
    case("DEL in a value", "9110 5.5", get(b"/menu", b"X: a\x7fb"), 400),
    case("Content-Type twice", "9110 5.3", post(b"Content-Type: application/json", b"Content-Length: 0"), 400),
    case("Authorization twice", "9110 5.3", get(b"/menu", b"Authorization: Basic a", b"Authorization: Basic a"), 400),
]

MALFORMED_HOSTS = [
    case("no Host", "9112 3.2", b"GET /menu HTTP/1.1\r\nAccept: */*\r\n\r\n", 400),
    case("two Hosts", "9112 3.2", get(b"/menu", b"Host: b"), 400),
    case("the same Host twice", "9112 3.2", get(b"/menu", b"Host: a"), 400),
    case("userinfo", "9110 7.2", host(b"user@a"), 400),
    case("a path", "9110 7.2", host(b"a/b"), 400),
    case("a space", "9110 7.2", host(b"a b"), 400),
    case("a list", "9110 7.2", host(b"a, b"), 400),
    case("markup", "9110 7.2", host(b"<script>"), 400),
    case("a query", "9110 7.2", host(b"a?b"), 400),
    case("a port that is no number", "9110 7.2", host(b"a:http"), 400),
    case("a negative port", "9110 7.2", host(b"a:-1"), 400),
    case("a port beyond 65535", "9110 7.2", host(b"a:65536"), 400),
    case("two ports", "9110 7.2", host(b"a:1:2"), 400),
    case("IPv6 without its end bracket", "3986 3.2.2", host(b"[::1"), 400),
    case("IPv6 without brackets", "3986 3.2.2", host(b"::1"), 400),
    case("bytes after the bracket", "3986 3.2.2", host(b"[::1]a"), 400),
    case("words in brackets", "3986 3.2.2", host(b"[forno]"), 400),
    case("a broken escape", "3986 2.1", host(b"a%zz"), 400),
    case("UTF-8", "3986 3.2.2", host(b"caf\xc3\xa9"), 400),
    case("no Host, but absolute-form", "9112 3.2", b"GET http://a/menu HTTP/1.1\r\n\r\n", 400),
    case("a bad Host behind absolute-form", "9112 3.2", host(b"a/b").replace(b"/menu", b"http://a/menu"), 400),
    case("a bad Host in HTTP/1.0", "9112 3.2", host(b"a b").replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
    case("two Hosts in HTTP/1.0", "9112 3.2", get(b"/menu", b"Host: a").replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
]

MALFORMED_TARGETS = [
    case("no leading slash", "9112 3.2", get(b"menu"), 400),
    case("asterisk for GET", "9112 3.2.4", get(b"*"), 400),
    case("authority for GET", "9112 3.2.3", get(b"a:80"), 400),
    case("a path for CONNECT", "9112 3.2.3", first_line(b"CONNECT /menu HTTP/1.1"), 400),
    case("absolute-form of https", "9112 3.2.2", get(b"https://a/menu"), 400),
    case("absolute-form of ftp", "9112 3.2.2", get(b"ftp://a/menu"), 400),
    case("absolute-form with userinfo", "9110 4.2.4", get(b"http://user@a/menu"), 400),
    case("absolute-form without authority", "9110 4.2.1", get(b"http:///menu"), 400),
    case("absolute-form with a bad port", "3986 3.2.3", get(b"http://a:port/menu"), 400),
    case("a fragment", "9112 3.2", get(b"/menu#top"), 400),
    case("a space", "9112 3.2", get(b"/me nu"), 400),
    case("NUL", "3986 2", get(b"/me\0nu"), 400),
    case("DEL", "3986 2", get(b"/me\x7fnu"), 400),
    case("UTF-8 that is not escaped", "3986 2", get(b"/caf\xc3\xa9"), 400),
    *[case(f"{byte} that is not escaped", "3986 2", get(b"/menu" + byte.encode()), 400) for byte in '<>"{}|\\^`'],
    *[case(f"{byte} in the query", "3986 2", get(b"/menu?a=" + byte.encode()), 400) for byte in '<>"{}|\\^`'],
    case("an escape that is not hex", "3986 2.1", get(b"/%zz"), 400),
    case("an escape cut short", "3986 2.1", get(b"/menu%4"), 400),
    case("a bare percent", "3986 2.1", get(b"/%"), 400),
    case("an escaped NUL", "3986 7.3", get(b"/menu%00"), 400),
    case("an overlong slash", "3629 3", get(b"/%c0%af"), 400),
    case("an overlong slash of three bytes", "3629 3", get(b"/%e0%80%af"), 400),
    case("an escaped surrogate", "3629 3", get(b"/%ed%a0%80"), 400),
    case("an escaped byte that is no UTF-8", "3629 3", get(b"/%ff"), 400),
]


@over(MALFORMED_LINES + MALFORMED_FIELDS)
def test_a_malformed_head_is_400_and_the_end(case, deliver, server, victim):
    assert_refused_for_good(server, victim, deliver, case)


@over(MALFORMED_HOSTS)
def test_a_malformed_host_is_400_and_the_end(case, deliver, server, victim):
    assert_refused_for_good(server, victim, deliver, case)


@over(MALFORMED_TARGETS)
def test_a_malformed_target_is_400_and_the_end(case, deliver, server, victim):
    assert_refused_for_good(server, victim, deliver, case)


@over([
    case("the preface of HTTP/2", "9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    case("HTTP/2.0", "9110 15.6.6", first_line(b"GET /menu HTTP/2.0"), 505),
    case("HTTP/3.0", "9110 15.6.6", first_line(b"GET /menu HTTP/3.0"), 505),
    case("HTTP/9.9", "9110 15.6.6", first_line(b"GET /menu HTTP/9.9"), 505),
])
def test_another_major_version_is_505_and_the_end(case, deliver, server, victim):
    assert_refused_for_good(server, victim, deliver, case)


# ---------------------------------------------------------------- where a message ends

def length(value, body=NAME):
    return post(b"Content-Length:" + value, body=body)


def coding(*fields, version=b"1.1"):
    return post(*fields, body=b"c\r\n" + NAME + b"\r\n0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/" + version, 1)


def trailer(field):
    return chunked(b"c\r\n" + NAME + b"\r\n0\r\n" + field + b"\r\n\r\n")


BAD_FRAMING = [
    case("length and coding", "9112 6.1", coding(b"Content-Length: 12", b"Transfer-Encoding: chunked"), 400),
    case("coding and length", "9112 6.1", coding(b"Transfer-Encoding: chunked", b"Content-Length: 12"), 400),
    case("length zero and coding", "9112 6.1", coding(b"Content-Length: 0", b"Transfer-Encoding: chunked"), 400),
    case("two lengths that differ", "9112 6.3", post(b"Content-Length: 12", b"Content-Length: 0", body=NAME), 400),
    case("two lengths that agree", "9112 6.3", post(b"Content-Length: 12", b"Content-Length: 12", body=NAME), 400),
    case("a list of lengths", "9112 6.3", length(b" 12, 12"), 400),
    case("a length with plus", "9110 8.6", length(b" +12"), 400),
    case("a length with minus", "9110 8.6", length(b" -12"), 400),
    case("minus zero", "9110 8.6", length(b" -0"), 400),
    case("a hexadecimal length", "9110 8.6", length(b" 0xc"), 400),
    case("an empty length", "9110 8.6", length(b" "), 400),
    case("a length with a fraction", "9110 8.6", length(b" 12.0"), 400),
    case("a length in two words", "9110 8.6", length(b" 1 2"), 400),
    case("a length with a parameter", "9110 8.6", length(b" 12;a"), 400),
    case("a length in quotes", "9110 8.6", length(b' "12"'), 400),
    case("a length beyond 64 bits", "9110 8.6", length(b" 18446744073709551628"), 400, 413),
    case("a length beyond all bits", "9110 8.6", length(b" " + b"9" * 60), 400, 413),
    case("coding gzip", "9112 6.1", coding(b"Transfer-Encoding: gzip"), 400, 501),
    case("coding gzip, chunked", "9112 6.1", coding(b"Transfer-Encoding: gzip, chunked"), 400, 501),
    case("chunked is not the last coding", "9112 6.3", coding(b"Transfer-Encoding: chunked, gzip"), 400, 501),
    case("chunked twice in a list", "9112 6.1", coding(b"Transfer-Encoding: chunked, chunked"), 400),
    case("chunked twice", "9112 6.1", coding(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    case("chunked, then identity", "9112 6.1", coding(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
         400, 501),
    case("coding identity", "9112 7", coding(b"Transfer-Encoding: identity"), 400, 501),
    case("xchunked", "9112 7", coding(b"Transfer-Encoding: xchunked"), 400, 501),
    case("chunked with a parameter", "9112 7.1", coding(b"Transfer-Encoding: chunked;a=b"), 400, 501),
    case("chunked in quotes", "9112 7", coding(b'Transfer-Encoding: "chunked"'), 400, 501),
    case("chunked behind a comma", "9112 7", coding(b"Transfer-Encoding: ,chunked"), 400, 501),
    case("chunked before a comma", "9112 7", coding(b"Transfer-Encoding: chunked,"), 400, 501),
    case("chunked behind a vertical tab", "9110 5.5", coding(b"Transfer-Encoding: \x0bchunked"), 400),
    case("chunked behind a fold", "9112 5.2", coding(b"Transfer-Encoding:\r\n chunked"), 400),
    case("an empty coding", "9112 6.1", coding(b"Transfer-Encoding:"), 400, 501),
    case("space between coding and colon", "9112 5.1", coding(b"Transfer-Encoding : chunked"), 400),
    case("chunked in HTTP/1.0", "9112 6.1", coding(b"Transfer-Encoding: chunked", version=b"1.0"), 400),
]

BAD_CHUNKS = [
    case("a size with minus", "9112 7.1", chunked(b"-1\r\n"), 400),
    case("a size with plus", "9112 7.1", chunked(b"+c\r\n" + NAME + b"\r\n0\r\n\r\n"), 400),
    case("a size with 0x", "9112 7.1", chunked(b"0xc\r\n" + NAME + b"\r\n0\r\n\r\n"), 400),
    case("a blank before the size", "9112 7.1", chunked(b" c\r\n" + NAME + b"\r\n0\r\n\r\n"), 400),
    case("a blank after the size", "9112 7.1", chunked(b"c \r\n" + NAME + b"\r\n0\r\n\r\n"), 400),
    case("an empty size", "9112 7.1", chunked(b"\r\n" + NAME + b"\r\n0\r\n\r\n"), 400),
    case("a size that is not hex", "9112 7.1", chunked(b"g\r\n" + NAME + b"\r\n0\r\n\r\n"), 400),
    case("a size beyond 64 bits", "9112 7.1", chunked(b"1000000000000000c\r\n" + NAME + b"\r\n0\r\n\r\n"), 400, 413),
    case("a size of too many digits", "9112 7.1", chunked(b"0" * 40 + b"c\r\n" + NAME + b"\r\n0\r\n\r\n"), 400),
    case("LF alone after the size", "9112 2.2", chunked(b"c\n" + NAME + b"\r\n0\r\n\r\n"), 400),
    case("LF alone after the data", "9112 7.1", chunked(b"c\r\n" + NAME + b"\n0\r\n\r\n"), 400),
    case("no end after the data", "9112 7.1", chunked(b"c\r\n" + NAME + b"0\r\n\r\n"), 400),
    case("more data than the size says", "9112 7.1", chunked(b"b\r\n" + NAME + b"\r\n0\r\n\r\n"), 400),
    case("less data than the size says", "9112 7.1", chunked(b"d\r\n" + NAME + b"\r\n0\r\n\r\n"), 400),
    case("LF alone after the last chunk", "9112 7.1", chunked(b"c\r\n" + NAME + b"\r\n0\n\n"), 400),
    case("an extension with CR", "9112 7.1.1", chunked(b"c;a\rb\r\n" + NAME + b"\r\n0\r\n\r\n"), 400),
    case("an extension with LF", "9112 7.1.1", chunked(b"c;a\n" + NAME + b"\r\n0\r\n\r\n"), 400),
    case("an extension with NUL", "9112 7.1.1", chunked(b"c;a\0b\r\n" + NAME + b"\r\n0\r\n\r\n"), 400),
    case("an extension without a name", "9112 7.1.1", chunked(b"c;=b\r\n" + NAME + b"\r\n0\r\n\r\n"), 400),
    case("an extension with an open quote", "9112 7.1.1", chunked(b'c;a="b\r\n' + NAME + b"\r\n0\r\n\r\n"), 400),
    case("Content-Length in the trailers", "9110 6.5.1", trailer(b"Content-Length: 5"), 400),
    case("Transfer-Encoding in the trailers", "9110 6.5.1", trailer(b"Transfer-Encoding: chunked"), 400),
    case("Host in the trailers", "9110 6.5.1", trailer(b"Host: b"), 400),
    case("Authorization in the trailers", "9110 6.5.1", trailer(b"Authorization: Bearer a"), 400),
    case("Content-Type in the trailers", "9110 6.5.1", trailer(b"Content-Type: text/plain"), 400),
    case("a space before a trailer's colon", "9112 5.1", trailer(b"X : a"), 400),
    case("a folded trailer", "9112 5.2", trailer(b"X: a\r\n b"), 400),
    case("NUL in a trailer", "9110 5.5", trailer(b"X: a\0"), 400),
    case("a trailer without a colon", "9112 5", trailer(b"Xyz"), 400),
]


@over(BAD_FRAMING)
def test_framing_with_more_than_one_reading_has_none(case, deliver, server, victim):
    assert_refused_for_good(server, victim, deliver, case)


@over(BAD_CHUNKS)
def test_a_malformed_chunk_is_400_and_the_end(case, deliver, server, victim):
    assert_refused_for_good(server, victim, deliver, case)


# ---------------------------------------------------------------- what is unusual and right

LEGAL = [
    case("an empty line before the request line", "9112 2.2", b"\r\n" + get(), 200),
    case("no white space after the colon", "9112 5", b"GET /menu HTTP/1.1\r\nHost:a\r\n\r\n", 200),
    case("white space around a value", "9112 5", b"GET /menu HTTP/1.1\r\nHost: \t a \t \r\n\r\n", 200),
    case("names in any case", "9110 5.1", b"GET /menu HTTP/1.1\r\nhOsT: a\r\n\r\n", 200),
    case("an empty value", "9110 5.5", get(b"/menu", b"X:"), 200),
    case("bytes above 127 in a value", "9110 5.5", get(b"/menu", b"X: caf\xe9 \xc3\xa9"), 200),
    case("every character of a token in a name", "9110 5.6.2", get(b"/menu", b"!#$%&'*+-.^_`|~09aZ: b"), 200),
    case("a Host with a port", "9110 7.2", host(b"forno.example:65535"), 200),
    case("a Host with an empty port", "3986 3.2.3", host(b"a:"), 200),
    case("a Host that is IPv4", "3986 3.2.2", host(b"127.0.0.1:8000"), 200),
    case("a Host that is IPv6", "3986 3.2.2", host(b"[::1]:8000"), 200),
    case("absolute-form", "9112 3.2.2", get(b"http://a/menu"), 200),
    case("absolute-form that differs from Host", "9112 3.2.2", get(b"http://other:80/menu"), 200),
    case("absolute-form, scheme in capitals", "3986 3.1", get(b"HTTP://a/menu"), 200),
    case("absolute-form with an empty path", "9112 3.2.2", get(b"http://a"), 200),
    case("an escaped letter", "3986 6.2.2.2", get(b"/%6denu"), 200),
    case("escaped UTF-8", "3629 3", get(b"/caf%C3%A9"), 404),
    case("a query", "3986 3.4", get(b"/menu?a=b&c=%20!$'()*+,;=:@/?-._~"), 200),
    case("an empty query", "3986 3.4", get(b"/menu?"), 200),
    case("a length with white space", "9110 5.5", length(b"\t 12 \t"), 201),
    case("a body for GET", "9110 9.3.1", get(b"/menu", b"Content-Length: 4") + b"body", 200),
    case("a chunked body", "9112 7.1", chunked(b"c\r\n" + NAME + b"\r\n0\r\n\r\n"), 201),
    case("a chunked body, byte for byte", "9112 7.1",
         chunked(b"".join(b"1\r\n%c\r\n" % byte for byte in NAME) + b"0\r\n\r\n"), 201),
    case("a size in capitals", "9112 7.1", chunked(b"C\r\n" + NAME + b"\r\n0\r\n\r\n"), 201),
    case("a size with a leading zero", "9112 7.1", chunked(b"0c\r\n" + NAME + b"\r\n00\r\n\r\n"), 201),
    case("an extension", "9112 7.1.1", chunked(b"c;a=b;c\r\n" + NAME + b"\r\n0;d\r\n\r\n"), 201),
    case("an extension in quotes", "9112 7.1.1", chunked(b'c;a="b;\\" c"\r\n' + NAME + b"\r\n0\r\n\r\n"), 201),
    case("a trailer", "9112 7.1.2", trailer(b"X-Sum: 1"), 201),
    case("Upgrade to h2c is ignored", "9110 7.8",
         get(b"/menu", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"), 200),
    case("Upgrade to websocket is ignored", "9110 7.8",
         get(b"/menu", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x"), 200),
    case("an unknown method", "9110 15.6.2", first_line(b"BREW /menu HTTP/1.1"), 501),
    case("a method in lower case is another method", "9110 9.1", first_line(b"get /menu HTTP/1.1"), 501),
    case("nobody is there", "9110 15.5.5", get(b"/nowhere"), 404),
    case("a path is more than its beginning", "9110 15.5.5", get(b"/menu/"), 404),
    case("two slashes are not one", "3986 3.3", get(b"//menu"), 404),
    case("an escaped slash is no slash", "3986 2.2", get(b"/problems%2Fnot-found"), 404),
    case("dots lead nowhere", "3986 3.3", get(b"/problems/../menu"), 400, 404),
    case("escaped dots lead nowhere", "3986 3.3", get(b"/problems/%2e%2e/menu"), 400, 404),
    case("a parameter belongs to its segment", "3986 3.3", get(b"/menu;a=b"), 404),
    case("TE is no Transfer-Encoding", "9110 10.1.4", get(b"/menu", b"TE: trailers, gzip"), 200),
    case("no body for POST, and it says so", "9110 8.6", post(b"Content-Length: 0"), 400, 415, 422),
]


@over(LEGAL)
def test_a_request_within_the_rules_is_answered_and_the_next_one_too(case, deliver, server):
    with server.connect() as client:
        deliver(client, case.sent)
        r = client.response()
        assert r.status in case.status, f"expected {case.status} for {case.sent[:200]!r}, got {r}"
        assert client.api("GET", "/healthz").status == 200, "expected the connection to stay"


def test_a_request_cut_anywhere_is_understood(server):
    """A turn of another connection proves that the loop has been around, and has read the first part."""
    request = trailer(b"X-Sum: 1").replace(b"c\r\n", b"c;a=b\r\n", 1)
    with server.connect() as other:
        for cut in range(1, len(request)):
            with server.connect() as client:
                client.send(request[:cut])
                other.api("GET", "/healthz")
                status = client.send(request[cut:]).response().status
                assert status == 201, f"expected 201 for {request[:cut]!r} + {request[cut:]!r}, got {status}"


@over([
    case("no length, no coding: no body", "9112 6.3", post(), 400, 411, 415, 422),
    case("nothing but the CRLF that old browsers added", "9112 2.2", length(b" 12") + b"\r\n", 201),
])
def test_after_a_body_the_next_request_begins_where_it_should(case, deliver, server):
    with server.connect() as client:
        deliver(client, case.sent + get(b"/nowhere"))
        assert client.response().status in case.status
        assert client.response().status == 404, "expected the second request to be answered as such"


# ---------------------------------------------------------------- the life of a connection

def test_an_http_1_1_connection_stays(server):
    with server.connect() as client:
        for _ in range(3):
            assert client.api("GET", "/menu").status == 200


@pytest.mark.parametrize("wish", ["close", "Close", "keep-alive, close", "x , close"])
def test_a_connection_closes_if_asked(wish, server):
    with server.connect() as client:
        r = client.api("GET", "/menu", connection=wish)
        assert r.status == 200 and r["Connection"] == "close", f"expected 200 and Connection: close, got {r}"
        client.assert_closed()


def test_a_wish_to_close_may_stand_in_any_of_several_fields(server):
    with server.connect() as client:
        client.send(get(b"/menu", b"Connection: keep-alive", b"Connection: close"))
        assert client.response().status == 200
        client.assert_closed()


def test_what_follows_connection_close_is_not_executed(server, victim):
    with server.connect() as client:
        client.send(get(b"/menu", b"Connection: close") + smuggled(victim))
        assert client.response().status == 200
        client.assert_closed()
    assert victim.balance() == victim.opening


def test_http_1_0_needs_no_host_and_closes(deliver, server):
    with server.connect() as client:
        deliver(client, b"GET /menu HTTP/1.0\r\n\r\n")
        r = client.response()
        assert r.status == 200 and r["Transfer-Encoding"] is None, f"expected 200 without chunks, got {r}"
        client.assert_closed()


def test_http_1_0_stays_if_asked_and_is_told_so(server):
    with server.connect() as client:
        client.send(b"GET /menu HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        r = client.response()
        assert (r["Connection"] or "").lower() == "keep-alive", f"expected Connection: keep-alive, got {r}"
        client.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert client.response().status == 200
        client.assert_closed()


def test_a_thousand_requests_in_one_write_are_answered_in_order(server):
    kinds = [("GET", "/healthz", 200), ("GET", "/nowhere", 404), ("DELETE", "/menu", 405), ("HEAD", "/menu", 200),
             ("BREW", "/menu", 501), ("GET", "/orders", 401), ("GET", "/menu", 200)]
    requests = [kinds[i * i % 11 % 7] for i in range(1000)]
    with server.connect() as client:
        client.send(b"".join(f"{m} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for m, path, _ in requests))
        for i, (method, path, status) in enumerate(requests):
            r = client.response(method)
            assert r.status == status, f"expected {status} for request {i}, {method} {path}, got {r}"
        assert client.api("GET", "/healthz").status == 200, "expected nothing more, and the connection to stay"


def test_a_slow_reader_gets_every_answer_whole_and_in_order(server):
    """Trap: the partial write. These are megabytes, and he does not begin to read before his small buffer and the kernel's are full:
    again and again send() takes a part of an answer."""
    paths = "/page/words.js", "/openapi.json", "/healthz", "/page/style.css"
    whole = {path: server.api("GET", path).body for path in paths}
    asked = [paths[i * i % 11 % 4] for i in range(300)]
    before = server.metric("forno_sent_bytes_total")
    with server.connect(receive_buffer=4096) as client:
        for path in asked:
            client.ask("GET", path)
        server.wait_for_metric("forno_sent_bytes_total", lambda n: n >= before + sum(map(len, whole.values())))
        for i, path in enumerate(asked):
            r = client.response()
            assert r.status == 200 and r.body == whole[path], f"expected {path} as answer {i}, got {r}"
        assert client.api("GET", "/healthz").status == 200, "expected nothing more, and the connection to stay"


def test_pipelined_writes_are_done_in_order(server):
    with server.connect() as client:
        for i in range(50):
            client.ask("POST", "/accounts", {"name": f"Client {i}"})
        answers = [client.response().json() for _ in range(50)]
    assert [a["name"] for a in answers] == [f"Client {i}" for i in range(50)]
    assert [a["id"] for a in answers] == sorted(a["id"] for a in answers)


@pytest.mark.parametrize("with_length", [True, False], ids=["length", "chunked"])
def test_a_half_closed_client_still_gets_its_answer(with_length, server):
    with server.connect() as client:
        client.send(length(b" 12") if with_length else chunked(b"c\r\n" + NAME + b"\r\n0\r\n\r\n")).finish_sending()
        assert client.response().status == 201
        client.assert_closed()


def test_a_half_closed_client_is_told_at_once_what_is_true_now(slow_oven):
    """It cannot be told from one that is gone; so it is answered, but nothing is waited for any more."""
    ana = slow_oven.customer()
    with slow_oven.connect() as client:
        client.ask("POST", "/orders", {"flavor": "margherita", "pizzas": 3}, ana.token, prefer="wait=60")
        r = client.finish_sending().response()
        assert r.status == 202 and r.json()["status"] == "baking", f"expected 202, got {r}"
        client.assert_closed()


@pytest.mark.parametrize("path", ["/orders/{}", "/orders/events", "/lab/thread?ms=9000", "/lab/timer?ms=60000"])
@pytest.mark.parametrize("more", [b"", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["", "with more behind it"])
def test_nothing_is_waited_for_on_behalf_of_a_client_who_has_closed(more, path, slow_oven):
    """Normally closed, not reset."""
    ana = slow_oven.customer()
    order = ana.order().json()["id"]
    idle = slow_oven.metric("forno_requests_live")
    client = slow_oven.connect().ask("GET", path.format(order), token=ana.token, prefer="wait=60").send(more)
    slow_oven.wait_for_metric("forno_requests_live", lambda n: n > idle)
    client.close()
    began = time.monotonic()
    slow_oven.assert_back_to_idle()
    assert ana.balance() is not None and time.monotonic() - began < 3, "expected nobody to wait for him, or behind him"


@pytest.mark.parametrize("cut", [1, 10, 25, 60, -1])
def test_half_a_request_and_the_end_is_the_end(cut, server):
    """A silent close, or a 400; not an account."""
    with server.connect() as client:
        client.send(length(b" 12")[:cut]).finish_sending()
        if client.receive():
            assert client.response().status in (400, 408)
        client.assert_closed()


def test_an_absolute_target_says_whom_the_request_is_for(deliver, server):
    with server.connect() as client:
        deliver(client, get(b"http://pizza.example:81/", b"Accept: */*"))
        menu = client.response().body
        assert b"curl pizza.example:81/menu\n" in menu and b"a/menu" not in menu, "expected Host to be ignored"


# ---------------------------------------------------------------- the query

ENTRIES = "/accounts/{id}/entries"


@pytest.mark.parametrize("path, name", [
    ("/courier/quote?ms=0&ms=0", "ms"), ("/courier/quote?ms=0&pizzas=2&ms", "ms"), ("/orders?limit=1&limit=2", "limit"),
    ("/lab/socket?mode=limit&n=1&mode=limit", "mode"), ("/orders?before=5&status=ready&before=5", "before"),
    (ENTRIES + "?limit=1&limit=1", "limit"), ("/courier/quote?pizza=2&ms=0", "pizza"), ("/courier/quote?MS=0", "MS"),
    ("/courier/quote?ms=0&x", "x"), ("/courier/quote?m%73=0", "m%73"), ("/lab/timer?ms=0&mss=0", "mss"),
    ("/orders?sttaus=ready", "sttaus"), ("/orders?=1", ""), (ENTRIES + "?limi=1", "limi")])
def test_a_parameter_that_is_unknown_or_comes_twice_is_400_and_named(path, name, server, victim):
    for method in ("GET", "HEAD"):
        r = server.api(method, path.format(id=victim.id), token=victim.token)
        assert r.status == 400, f"got {r}"
        assert method == "HEAD" or (r.problem == "bad-parameter" and f'"{name}"' in r.json()["detail"]), f"got {r}"
    if path.startswith(("/orders", "/accounts")):
        assert server.api("GET", path.format(id=victim.id), token="x" * 43).status == 401, "expected strangers to learn nothing"


@pytest.mark.parametrize("path", [
    "/courier/quote?", "/courier/quote?&ms=0&", "/menu?a=b&a=c", "/healthz?x", "/?utm_source=a", "/page/main.js?v=1"])
def test_a_query_that_can_mean_nothing_is_ignored(path, server):
    assert server.api("GET", path).status == 200


def test_a_parameter_without_a_value_is_not_taken_for_none(server):
    assert server.api("GET", "/courier/quote?ms").status == 400


# ---------------------------------------------------------------- methods

HERE = Path(__file__).parent.parent
ROW = r'ROUTE\((\w+), "([^"]+)", \w+, [\w |]+,\s*(?:NULL|"[^"]*"), \w+,\s*(NULL)?'
ROWS = re.findall(ROW, (HERE / "app/routes.inc").read_text())
assert len(ROWS) > 20, "expected the table to be legible"
METHODS = {path: {method for method, other, _ in ROWS if other == path} for _, path, _ in ROWS}
ROUTES = {path.format(id=1, name="would-deadlock"): methods for path, methods in METHODS.items()}


def allowed(route):
    """What Allow must name; OPTIONS itself may be there or not."""
    methods = ROUTES[route]
    return methods | {"HEAD"} if "GET" in methods else methods


def named(allow):
    assert re.fullmatch(r"[A-Z]+(\s*,\s*[A-Z]+)*", allow or ""), f"expected a list of methods, got {allow!r}"
    return set(re.split(r"\s*,\s*", allow)) - {"OPTIONS"}


@pytest.mark.parametrize("route", ROUTES)
def test_options_tells_what_is_allowed(route, server):
    r = server.api("OPTIONS", route)
    assert r.status in (200, 204) and named(r["Allow"]) == allowed(route), f"expected {allowed(route)}, got {r}"


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"])
def test_a_method_that_is_wrong_here_is_405_and_tells_what_is_right(method, route, server):
    if method in allowed(route):
        return  # what it does then is told elsewhere
    r = server.api(method, route)
    assert r.status == 405 and named(r["Allow"]) == allowed(route), f"expected 405 and {allowed(route)}, got {r}"


# The table and the menu: two lists of the same endpoints, but for the pieces of the page, which nobody asks for by themselves.
TABLE = {(method, path) for method, path, no_menu in ROWS if not no_menu}


def asked(line):
    """The method and the path of a curl line."""
    words = line.split()
    method = words[words.index("-X") + 1] if "-X" in words else "POST" if "-d" in words else "GET"
    return method, re.search(r"127\.0\.0\.1:\d+(/[^\s?']*)", line)[1]


def test_the_menu_has_what_the_table_has(server):
    lines = re.findall(r"^    (.*curl .*)$", server.api("GET", "/").body.decode(), re.MULTILINE)
    patterns = {row: row[1].replace("{id}", r"\d+").replace("{name}", "[a-z-]+") for row in TABLE}
    shown = [[row for row in TABLE if row[0] == method and re.fullmatch(patterns[row], path)] for method, path in map(asked, lines)]
    assert all(len(rows) == 1 for rows in shown), f"expected each line to be about one endpoint: {list(zip(lines, shown))}"
    assert {rows[0] for rows in shown} == TABLE, "expected a curl line for each endpoint"


def test_options_asterisk_speaks_for_the_server(deliver, server):
    with server.connect() as client:
        deliver(client, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        r = client.response()
        assert r.status in (200, 204) and {"GET", "POST"} <= named(r["Allow"]), f"expected Allow, got {r}"
        assert client.api("GET", "/healthz").status == 200


def test_options_of_nothing_is_404(server):
    assert server.api("OPTIONS", "/nowhere").status == 404


@over([
    case("TRACE", "9110 9.3.8", first_line(b"TRACE /menu HTTP/1.1"), 405, 501),
    case("TRACE with what it must not echo", "9110 9.3.8", first_line(b"TRACE / HTTP/1.1\r\nCookie: secret"), 405, 501),
    case("CONNECT", "9110 9.3.6", first_line(b"CONNECT a:80 HTTP/1.1"), 400, 405, 501),
])
def test_trace_and_connect_are_refused(case, deliver, server):
    with server.connect() as client:
        deliver(client, case.sent)
        r = client.response()
        assert r.status in case.status and b"secret" not in r.body, f"expected {case.status}, got {r}"


@pytest.mark.parametrize("route", ["/", "/menu", "/healthz", "/readyz", "/metrics", "/openapi.json", "/problems",
                                   "/accounts/{id}", "/accounts/{id}/entries", "/orders", "/orders/{order}",
                                   "/orders/0", "/nowhere"])
def test_head_is_get_without_the_body(route, server, victim):
    order = server.customer().order().json()["id"]  # another's, so a 404; it has fields all the same
    path = route.format(id=victim.id, order=order)
    volatile = {"date", "server-timing"} | ({"content-length"} if route == "/metrics" else set())
    with server.connect() as client:
        heads, gets = (client.api(method, path, token=victim.token) for method in ("HEAD", "GET"))
        assert client.api("GET", "/healthz").status == 200, "expected the connection to go on in step"
    assert heads.status == gets.status
    fields = [[(k.lower(), v) for k, v in r.fields if k.lower() not in volatile] for r in (heads, gets)]
    assert fields[0] == fields[1], "expected the same fields for HEAD as for GET"


def test_head_of_the_events_ends_at_once(server, victim):
    with server.connect() as client:
        assert client.api("HEAD", "/orders/events", token=victim.token)["Content-Type"].startswith("text/event-stream")


# ---------------------------------------------------------------- Expect

def expecting(client, path="/accounts", token=None, **headers):
    """Send a head that announces a body and asks first."""
    headers = {"content_type": "application/json", "content_length": len(NAME), "expect": "100-continue", **headers}
    return client.ask("POST", path, None, token, **headers)


@pytest.mark.parametrize("expectation", ["100-continue", "100-Continue"])
def test_a_wanted_body_is_asked_for(expectation, server):
    with server.connect() as client:
        interim = expecting(client, expect=expectation).head()
        assert interim.status == 100, f"expected 100, got {interim}"
        assert client.send(NAME).response().status == 201
        assert client.api("GET", "/healthz").status == 200


def test_a_wanted_chunked_body_is_asked_for(server):
    with server.connect() as client:
        expecting(client, content_length=None, transfer_encoding="chunked")
        assert client.head().status == 100
        assert client.send(b"c\r\n" + NAME + b"\r\n0\r\n\r\n").response().status == 201


def test_a_body_that_is_already_there_is_not_asked_for(server):
    with server.connect() as client:
        client.ask("POST", "/accounts", {"name": "A"}, expect="100-continue")
        assert client.response().status == 201, "expected the final answer first"


@pytest.mark.parametrize("status, path, headers", [
    (404, "/nowhere", {}),
    (405, "/menu", {}),
    (401, "/orders", {}),
    (415, "/accounts", {"content_type": "text/plain"}),
    (413, "/accounts", {"content_length": 1 << 20}),
])
def test_a_body_that_is_refused_is_not_asked_for(status, path, headers, server):
    with server.connect() as client:
        r = expecting(client, path, **headers).response()
        assert r.status == status, f"expected {status} without 100, got {r}"


def test_nothing_is_asked_for_when_no_body_is_announced(server):
    with server.connect() as client:
        assert client.api("GET", "/menu", expect="100-continue").status == 200


def test_http_1_0_is_never_asked(server):
    with server.connect() as client:
        head = post(b"Content-Length: 12", b"Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
        client.send(head)
        server.api("GET", "/healthz")  # the loop has been around: an interim answer would be on its way
        assert client.send(NAME).response().status == 201


@pytest.mark.parametrize("expectation", ["200-ok", "100-continue, tea", "100-continue=x"])
def test_any_other_expectation_is_417(expectation, server):
    with server.connect() as client:
        r = client.api("GET", "/menu", expect=expectation)
        assert r.status == 417, f"expected 417, got {r}"


# ---------------------------------------------------------------- limits

KIB = 1024
MANY_FIELDS = [b"X-%d: y" % i for i in range(101)]


@over([
    case("a request line of nearly 8 KiB", "9112 3", get(b"/" + b"a" * (8 * KIB - 40)), 404),
    case("100 fields", "9110 5.4", get(b"/menu", *MANY_FIELDS[:99]), 200),
    case("fields of nearly 16 KiB", "9110 5.4", get(b"/menu", b"X: " + b"a" * (16 * KIB - 40)), 200),
    case("a body of 64 KiB", "9110 15.5.14", length(b" 65536", NAME.ljust(64 * KIB)), 201),
    case("a body of 64 KiB in chunks", "9110 15.5.14",
         chunked(b"".join(b"1000\r\n%s\r\n" % NAME.ljust(64 * KIB)[i:i + 4096] for i in range(0, 64 * KIB, 4096))
                 + b"0\r\n\r\n"), 201),
])
def test_what_is_within_the_limits_is_accepted(case, server):
    with server.connect() as client:
        r = client.send(case.sent).response()
        assert r.status in case.status, f"expected {case.status}, got {r}"
        assert client.api("GET", "/healthz").status == 200


@over([
    case("a request line beyond 8 KiB", "9110 15.5.15", get(b"/" + b"a" * 8 * KIB), 414),
    case("a request line without end", "9110 15.5.15", b"GET /" + b"a" * 64 * KIB, 414),
    case("a query beyond 8 KiB", "9110 15.5.15", get(b"/menu?" + b"a" * 8 * KIB), 414),
    case("a method without end", "9112 3", b"A" * 64 * KIB, 400, 414, 501),
    case("101 fields", "6585 5", get(b"/menu", *MANY_FIELDS[:100]), 431),
    case("fields beyond 16 KiB", "6585 5", get(b"/menu", *[b"X-%d: %s" % (i, b"y" * KIB) for i in range(17)]), 431),
    case("a field beyond 16 KiB", "6585 5", get(b"/menu", b"X: " + b"a" * 17 * KIB), 431),
    case("a field without end", "6585 5", get(b"/menu", b"X: ")[:-4] + b"a" * 64 * KIB, 431),
    case("a field name without end", "6585 5", get()[:-2] + b"a" * 64 * KIB, 431),
    case("empty lines without end", "9112 2.2", b"\r\n" * 32 * KIB + get(), 400, 414, 431),
    case("an announced body beyond 64 KiB", "9110 15.5.14", length(b" 65537", b"a" * 65537), 413),
    case("a megabyte that goes on coming", "9110 15.5.14", length(b" 1048576", b"a" * 1048576), 413),
    case("chunks beyond 64 KiB", "9110 15.5.14", chunked(b"1000\r\n%s\r\n" % (b"a" * 4096) * 17), 413),
    case("a chunk beyond 64 KiB", "9110 15.5.14", chunked(b"10001\r\n" + b"a" * 65537), 413),
    case("a chunk extension without end", "9112 7.1.1", chunked(b"c;" + b"a" * 64 * KIB), 400, 413, 431),
    case("chunk extensions that add up", "9112 7.1.1",
         chunked(b"1;%s\r\n \r\n" % (b"a" * KIB) * 60 + b"c\r\n" + NAME + b"\r\n0\r\n\r\n"), 400, 413, 431),
    case("trailers beyond 16 KiB", "6585 5", trailer(b"X: " + b"a" * 17 * KIB), 400, 431),
    case("101 trailers", "6585 5", trailer(b"\r\n".join(MANY_FIELDS)), 400, 431),
])
def test_what_is_beyond_a_limit_is_refused_in_words_one_can_read(case, server, victim):
    """The client sends all it has before it reads: the answer must survive that (lingering close, 9112 9.6)."""
    assert_refused_for_good(server, victim, Client.send, case)


def test_an_oversized_body_is_refused_before_it_comes(server):
    with server.connect() as client:
        r = client.send(post(b"Content-Length: 65537")).response()
        assert r.status == 413, f"expected 413 before the body, got {r}"


# ---------------------------------------------------------------- time

def test_who_does_not_get_on_is_told_408(server):
    """All at once, so that the suite waits for the ten seconds once. Ten seconds hold for a whole head, however lively
    it drips; a body may take longer as long as it gets on."""
    answered_in = {}

    def stalls(name, sent, drip=b"", first=None):
        with server.connect() as client:
            began = time.monotonic()
            client.send(sent)
            if first:
                assert client.response().status == first
            for byte in drip:
                if client.is_readable_within(0.4):
                    break
                client.send(bytes([byte]))
            client.sock.settimeout(15)
            r = client.response()
            answered_in[name] = time.monotonic() - began
            client.assert_closed()
            assert r.status == 408, f"{name}: expected 408, got {r}"

    def gets_on():
        """Longer in all than the ten seconds, never still for one of them."""
        with server.connect() as client:
            client.send(post(b"Content-Length: 20000"))
            body = NAME.ljust(20000)
            for at in range(0, len(body), 500):
                assert not client.is_readable_within(0.3), "expected a slow body to be waited for"
                client.send(body[at:at + 500])
            assert client.response().status == 201

    stalled = [
        ("half a request line", b"GET /me"),
        ("half a head", get()[:-2]),
        ("a head that drips", b"GET /menu HTTP/1.1\r\nHost: a\r\nX: ", b"a" * 60),
        ("a body that drips", post(b"Content-Length: 120"), NAME.ljust(60)),
        ("chunks that drip", chunked(b""), b"1\r\na\r\n" * 10),
        ("no body", post(b"Content-Length: 12")),
        ("half a body", post(b"Content-Length: 12", body=NAME[:5])),
        ("half a chunk", chunked(b"c\r\n" + NAME[:5])),
        ("no last chunk", chunked(b"c\r\n" + NAME + b"\r\n")),
        ("half the trailers", chunked(b"c\r\n" + NAME + b"\r\n0\r\nX: 1\r\n")),
        ("half a second request", get() + b"GET /me", b"", 200),
    ]
    acts = [lambda args=args: stalls(*args) for args in stalled] + [gets_on]
    together(len(acts), lambda i: acts[i]())
    for name, seconds in answered_in.items():
        assert 9 <= seconds <= 14, f"{name}: expected 408 after about 10 s, got it after {seconds:.1f} s"


def test_a_thousand_silent_and_dripping_clients_keep_nobody_waiting(server):
    clients = [server.connect() for _ in range(1000)]
    for client in clients[::2]:
        client.send(get(b"/menu", b"X: ")[:-4])
    stop = threading.Event()

    def drip():
        while not stop.is_set():
            for client in clients[::2]:
                client.send(b"a")
            stop.wait(0.05)

    dripper = threading.Thread(target=drip)
    dripper.start()
    try:
        slowest = 0
        for _ in range(500):
            began = time.monotonic()
            assert server.api("GET", "/healthz").status == 200
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1, f"expected /healthz at once, got it after {slowest:.2f} s"
    finally:
        stop.set()
        dripper.join()
        for client in clients:
            client.close()
    server.assert_back_to_idle()


def test_who_asks_by_head_gets_no_body_with_a_refusal_either(server):
    """Though his request line has never been read to its end (RFC 9110 9.3.2)."""
    with server.connect() as client:
        client.send(b"HEAD /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: forno\r\n\r\n")
        r = client.response("HEAD")
        client.assert_closed()  # at once: no body has come behind the head
    assert r.status == 414, f"got {r}"
