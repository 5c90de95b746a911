"""test_bank.py: accounts, transfers, the ledger. I see my balance, never my colleague's; money moves once or not."""

import re
import time
from urllib.parse import quote

import pytest
from wire import assert_ledger_is_sound, together

pytestmark = pytest.mark.contract


# ---------------------------------------------------------------- accounts

def test_an_account_opens_with_a_credit_and_a_token(server):
    r = server.api("POST", "/accounts", {"name": "Ana"})
    account = r.json()
    assert r.status == 201 and r["Location"] == f"/accounts/{account['id']}", f"expected 201 and its place, got {r}"
    assert set(account) == {"id", "name", "balance_cents", "token"}
    assert account["name"] == "Ana" and account["balance_cents"] == 1000000
    assert r["Cache-Control"] == "no-store"


def test_the_opening_credit_pays_ten_pizzas_unless_told_otherwise(start_server):
    ana = start_server("--bake-ms", "100", defaults=()).customer()
    assert ana.balance() == 100000 and ana.order(10).status == 202
    assert start_server("--opening-credit", "0").customer().balance() == 0


def test_an_owner_sees_the_account_without_the_token(ana):
    r = ana.api("GET", f"/accounts/{ana.id}")
    assert r.status == 200 and r["Cache-Control"] == "no-store"
    assert r.json() == {"id": ana.id, "name": "Ana", "balance_cents": ana.opening}


def test_tokens_are_long_and_differ(server):
    tokens = [server.customer().token for _ in range(20)]
    assert len(set(tokens)) == 20 and all(re.fullmatch(r"[A-Za-z0-9._~+/=-]{43,}", token) for token in tokens)


def test_the_database_does_not_hold_the_token(server, ana, road):
    content = road.content(server.db)
    assert b"Ana" in content and ana.token.encode() not in content and ana.token.encode().hex().encode() not in content


def test_another_account_is_403_whether_it_exists_or_not(ana, bob):
    for path in ("/accounts/{}", "/accounts/{}/entries"):
        there = ana.api("GET", path.format(bob.id))
        assert there.status == 403 and there.problem == "forbidden", f"got {there}"
        for nobody in (999999, 0, "00", f"0{ana.id}", f"000{ana.id}", f"0{bob.id}", 2**63 - 1, 2**63, 10**38, "9" * 500, "0" * 500):
            nowhere = ana.api("GET", path.format(nobody))
            assert (nowhere.status, nowhere.body) == (403, there.body), f"expected the same answer for {nobody}, got {nowhere}"


def test_another_order_is_404_whether_it_exists_or_not(ana, bob):
    order = ana.order().json()["id"]
    for method, path in ("GET", "/orders/{}"), ("DELETE", "/orders/{}"), ("GET", "/orders/{}/delivery"):
        there = bob.api(method, path.format(order))
        assert there.status == 404, f"got {there}"
        for nobody in (999999, 0, "00", f"0{order}", 2**63, "9" * 500):
            nowhere = ana.api(method, path.format(nobody))
            assert (nowhere.status, nowhere.body) == (404, there.body), f"expected the same answer for {nobody}, got {nowhere}"
    assert ana.server.api("GET", "/orders/0").status == 401


@pytest.mark.parametrize("place", ["", "-1", "abc", "1.0", "+1", "01x", "%31%20", "1%2f2", "1" * 60 + "x", "٣", "1,2"])
def test_no_account_lives_at_a_strange_place(place, ana):
    r = ana.api("GET", f"/accounts/{quote(place, safe='%,+')}")
    assert (r.status, r.problem) == (404, "not-found"), f"got {r}"


PRIVATE = [("GET", "/accounts/1"), ("GET", "/accounts/1/entries"), ("POST", "/transfers"), ("POST", "/orders"),
           ("GET", "/orders"), ("GET", "/orders/1"), ("DELETE", "/orders/1"), ("GET", "/orders/events")]


@pytest.mark.parametrize("method, path", PRIVATE)
def test_without_a_token_it_is_401(method, path, server):
    r = server.api(method, path, {} if method == "POST" else None)
    assert r.status == 401 and r["WWW-Authenticate"] == 'Bearer realm="forno"', f"expected a plain challenge, got {r}"


@pytest.mark.parametrize("method, path", PRIVATE)
@pytest.mark.parametrize("token", ["nonsense", "A" * 43, "é", "a" * 5000, "=", "' OR 1=1 --"])
def test_with_a_wrong_token_it_is_401_and_says_so(token, method, path, server):
    r = server.api(method, path, {} if method == "POST" else None, authorization=f"Bearer {token}")
    assert r.status in (400, 401), f"expected 401 (or 400 for what is no token at all), got {r}"
    if re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", token):
        assert r.status == 401 and 'error="invalid_token"' in r["WWW-Authenticate"], f"expected invalid_token, got {r}"


def test_a_made_up_token_is_found_out_before_anything_is_waited_for(slow_oven):
    """Not the oven, not the courier: the first thing that is asked of the database tells whose token it is."""
    order = slow_oven.customer().order().json()["id"]
    began, calls = time.monotonic(), slow_oven.metric("forno_upstream_calls_total")
    for method, path in (("GET", f"/orders/{order}"), ("POST", "/orders"), ("DELETE", f"/orders/{order}"),
                         ("GET", f"/orders/{order}/delivery"), ("GET", "/orders/events")):
        body = {"flavor": "margherita", "pizzas": 1} if method == "POST" else None
        assert slow_oven.api(method, path, body, token="A" * 43, prefer="wait=5").status == 401, path
    assert time.monotonic() - began < 4 and slow_oven.metric("forno_upstream_calls_total") == calls


def test_nearly_the_right_token_is_wrong(ana):
    flipped = ana.token[:-1] + ("A" if ana.token[-1] != "A" else "B")
    for token in (flipped, ana.token[:-1], ana.token + "A", ana.token.swapcase()):
        assert ana.server.api("GET", f"/accounts/{ana.id}", token=token).status == 401, f"expected 401 for {token}"


def test_bearer_is_written_in_any_case(ana):
    for scheme in ("bearer", "BEARER"):
        r = ana.server.api("GET", f"/accounts/{ana.id}", authorization=f"{scheme} {ana.token}")
        assert r.status == 200, f"expected 200 with the scheme {scheme}, got {r}"


@pytest.mark.parametrize("authorization", ["Basic YTpi", "Bearer", "Bearer ", "{token}", "Token {token}",
                                           "Bearer{token}"])
def test_another_scheme_is_401(authorization, ana):
    r = ana.server.api("GET", f"/accounts/{ana.id}", authorization=authorization.format(token=ana.token))
    assert r.status in (400, 401), f"expected 401, got {r}"


# ---------------------------------------------------------------- transfers

def test_a_transfer_moves_money_and_shows_in_both_ledgers(ana, bob):
    r = ana.transfer(bob.id, 1500, "rent")
    assert r.status == 201, f"expected 201, got {r}"
    answer = r.json()
    assert answer == {"id": answer["id"], "to": bob.id, "amount_cents": 1500, "balance_cents": ana.opening - 1500}
    assert (ana.balance(), bob.balance()) == (ana.opening - 1500, bob.opening + 1500)
    assert [(e["kind"], e["amount_cents"]) for e in ana.entries()] == [("transfer", -1500), ("opening", ana.opening)]
    assert [(e["kind"], e["amount_cents"]) for e in bob.entries()] == [("transfer", 1500), ("opening", bob.opening)]


def test_a_transfer_may_carry_a_note(ana, bob):
    body = {"to": bob.id, "amount_cents": 1, "note": 'for the "pizza" 🍕'}
    assert ana.api("POST", "/transfers", body, idempotency_key="note").status == 201
    assert ana.api("POST", "/transfers", {**body, "note": 7}, idempotency_key="note-2").status == 422


def test_all_the_money_can_go_and_not_a_cent_more(ana, bob):
    r = ana.transfer(bob.id, ana.opening + 1, "too-much")
    assert r.status == 409 and r.problem == "insufficient-funds", f"expected insufficient-funds, got {r}"
    assert (ana.balance(), bob.balance()) == (ana.opening, bob.opening), "expected nothing to have moved"
    assert ana.transfer(bob.id, ana.opening, "all").status == 201
    assert ana.transfer(bob.id, 1, "one-more").problem == "insufficient-funds"
    assert (ana.balance(), bob.balance()) == (0, bob.opening + ana.opening)


@pytest.mark.parametrize("cents", [0, -1, -1500, -2**53 + 1])
def test_an_amount_that_is_not_positive_is_422(cents, ana, bob):
    assert ana.transfer(bob.id, cents, "odd").status == 422
    assert (ana.balance(), bob.balance()) == (ana.opening, bob.opening)


@pytest.mark.parametrize("cents", [2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64 + 1])
def test_an_amount_beyond_all_money_moves_nothing(cents, ana, bob):
    assert ana.transfer(bob.id, cents, "odd").status in (400, 409, 422)
    assert (ana.balance(), bob.balance()) == (ana.opening, bob.opening)


def test_a_transfer_to_oneself_or_to_nobody_moves_nothing(ana):
    for to in (ana.id, 999999, 0, -1, 2**53 - 1):
        assert ana.transfer(to, 100, f"to-{to}").status in (404, 422), f"expected a transfer to {to} to be refused"
    assert ana.balance() == ana.opening and len(ana.entries()) == 1


# ---------------------------------------------------------------- Idempotency-Key

def test_a_transfer_without_a_key_is_400(ana, bob):
    r = ana.api("POST", "/transfers", {"to": bob.id, "amount_cents": 1})
    assert r.status == 400 and b"Idempotency-Key" in r.body, f"expected 400 that says why, got {r}"
    assert ana.transfer(bob.id, 1, "").status == 400, "expected an empty key to be no key"
    assert ana.balance() == ana.opening


def test_the_same_key_and_body_give_the_first_answer_again(ana, bob):
    first = ana.transfer(bob.id, 100, "again")
    assert first.status == 201 and first["Idempotent-Replayed"] is None
    ana.transfer(bob.id, 5, "between")
    second = ana.transfer(bob.id, 100, "again")
    assert second.status == 201 and second["Idempotent-Replayed"] == "true", f"expected a replay, got {second}"
    assert second.json() == first.json(), "expected the first answer, balance of then included"
    assert ana.balance() == ana.opening - 105


def test_the_same_key_with_another_body_is_422(ana, bob):
    assert ana.transfer(bob.id, 100, "key").status == 201
    r = ana.transfer(bob.id, 101, "key")
    assert r.status == 422 and "key" in r.json()["detail"].lower(), f"expected 422 that speaks of the key, got {r}"
    assert ana.balance() == ana.opening - 100


def test_a_key_belongs_to_its_account(ana, bob):
    assert ana.transfer(bob.id, 100, "shared").status == 201
    r = bob.transfer(ana.id, 100, "shared")
    assert r.status == 201 and r["Idempotent-Replayed"] is None, f"expected Bob's own transfer, got {r}"
    assert (ana.balance(), bob.balance()) == (ana.opening, bob.opening)


def test_a_key_may_be_written_as_the_draft_has_it(ana, bob):
    key = '"8e03978e-40d5-43dd-bc93-6894a57f9324"'
    assert ana.transfer(bob.id, 100, key).status == 201
    assert ana.transfer(bob.id, 100, key)["Idempotent-Replayed"] == "true"


def test_an_overlong_key_is_refused_and_not_cut(ana, bob):
    """Two keys that differ only at their end must not be taken for one."""
    answers = [ana.transfer(bob.id, 1, "k" * 4000 + end) for end in "ab"]
    assert all(r.status in (400, 422) or (r.status == 201 and not r["Idempotent-Replayed"]) for r in answers)


def test_a_refused_transfer_may_succeed_later_under_the_same_or_another_key(server, ana, bob):
    assert ana.transfer(bob.id, ana.opening + 1, "early").status == 409
    assert bob.transfer(ana.id, 1, "help").status == 201
    assert ana.transfer(bob.id, ana.opening + 1, "late").status == 201
    assert ana.balance() == 0


# ---------------------------------------------------------------- many at once

def test_fifty_clients_with_one_key_move_money_once(ana, bob):
    answers = together(50, lambda i: ana.transfer(bob.id, 100, "the-one-key"))
    assert [r.status for r in answers] == [201] * 50, f"expected 201 for all, got {[r.status for r in answers]}"
    assert len({r.body for r in answers}) == 1, "expected one answer for all"
    assert sum(r["Idempotent-Replayed"] is None for r in answers) == 1, "expected one of them to be the first"
    assert (ana.balance(), bob.balance()) == (ana.opening - 100, bob.opening + 100)


def test_fifty_clients_cannot_spend_more_than_there_is(ana, bob):
    """Money for twenty of fifty."""
    share = ana.opening // 20
    answers = together(50, lambda i: ana.transfer(bob.id, share, f"key-{i}"))
    statuses = sorted(r.status for r in answers)
    assert statuses == [201] * 20 + [409] * 30, f"expected 20 successes and 30 refusals, got {statuses}"
    assert all(r.json()["balance_cents"] >= 0 for r in answers if r.status == 201)
    assert (ana.balance(), bob.balance()) == (0, 2 * ana.opening)


def test_money_goes_round_and_none_is_lost(start_server):
    server = start_server()
    ring = [server.customer(f"Number {i}") for i in range(8)]

    def pay(i):
        for round in range(10):
            assert ring[i].transfer(ring[(i + 1 + round % 3) % 8].id, 17 * (i + 1), f"{i}-{round}").status == 201

    together(8, pay)
    balances = [customer.balance() for customer in ring]
    assert sum(balances) == 8 * ring[0].opening
    assert balances == [sum(e["amount_cents"] for e in customer.entries()) for customer in ring]
    server.stop()
    assert_ledger_is_sound(server.db)


# ---------------------------------------------------------------- the ledger as a list

def test_the_ledger_is_read_in_pages_newest_first(ana, bob):
    for i in range(25):
        ana.transfer(bob.id, i + 1, f"{i}")
    with ana.server.connect() as client:
        pages, path = [], f"/accounts/{ana.id}/entries?limit=10"
        while path:
            r = client.api("GET", path, token=ana.token)
            page = r.json()
            assert r.status == 200 and set(page) == {"entries", "next"} and r["Cache-Control"] == "no-store"
            assert r["Link"] == (f'<{page["next"]}>; rel="next"' if page["next"] else None)
            pages.append(page["entries"])
            path = page["next"]
    assert [len(page) for page in pages] == [10, 10, 6]
    entries = sum(pages, [])
    assert [e["amount_cents"] for e in entries] == [-i for i in range(25, 0, -1)] + [ana.opening]
    assert [e["id"] for e in entries] == sorted({e["id"] for e in entries}, reverse=True)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", e["at"]) for e in entries)


def test_a_page_has_twenty_entries_and_at_most_a_hundred(ana, bob):
    for i in range(101):
        ana.transfer(bob.id, 1, f"{i}")
    path = f"/accounts/{ana.id}/entries"
    assert len(ana.api("GET", path).json()["entries"]) == 20
    assert len(ana.api("GET", f"{path}?limit=100").json()["entries"]) == 100
    assert len(ana.api("GET", f"{path}?limit=1").json()["entries"]) == 1


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "limit=1.5", "before=x",
                                   "before=-1", "limit=99999999999999999999"])
def test_a_page_that_cannot_be_is_refused(query, ana):
    r = ana.api("GET", f"/accounts/{ana.id}/entries?{query}")
    assert r.status in (400, 422), f"expected 400 or 422 for ?{query}, got {r}"
