"""Fifty guests say yes at the same moment: none is lost, none is too many, and the list outlives the process."""

import json
import re
import time

from exercise import DEADLINE, Step, Wrong

FORNO = ["app/roles.c", "app/routes.inc"]
GUESTS, ROOM = 50, 20
HEAD = re.compile(rb"HTTP/1\.1 (\d+).*?Content-Length: (\d+).*?\r\n\r\n", re.DOTALL)


def send(step, method, path, token=None, body=None):
    """Ask, and do not wait for the answer."""
    sock = step.client()
    fields = f"Authorization: Bearer {token}\r\n" if token else ""
    if body is not None:
        body = json.dumps(body)
        fields += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{body or ''}".encode())
    return sock


def receive(sock):
    """(status, body)"""
    data = b""
    try:
        while not (found := HEAD.match(data)) or len(data) < found.end() + int(found[2]):
            more = sock.recv(65536)
            if not more:
                return 0, ""
            data += more
    except TimeoutError:
        raise Wrong(f"somebody was not answered within {DEADLINE:.0f} s: a step has neither answered nor waited for anything "
                    "that ends.",
                    f"alguém ficou sem resposta por {DEADLINE:.0f} s: um passo nem respondeu nem esperou por algo que "
                    "acaba.") from None
    sock.close()
    return int(found[1]), data[found.end():].decode()


def answer(sock):
    """(status, what its JSON says)"""
    status, body = receive(sock)
    try:
        said = json.loads(body)
    except ValueError:
        said = {}
    return status, said if isinstance(said, dict) else {}


def ask(step, *request):
    return answer(send(step, *request))


def members(step, names):
    """{name: token} of new accounts, all opened at once."""
    socks = [send(step, "POST", "/accounts", None, {"name": name}) for name in names]
    return {name: answer(sock)[1]["token"] for name, sock in zip(names, socks)}


def new_list(step, owner, limit):
    """Its id."""
    status, said = ask(step, "POST", "/roles", owner, {"title": "churrasco na laje", "limit": limit})
    if status == 404:
        raise Wrong("POST /roles is not there yet: 404. The tables and db_open_role(), db_join_role() and db_get_role() of db.h are "
                    "given; it takes three rows at the end of app/routes.inc, and their handlers in app/roles.c.",
                    "POST /roles ainda não existe: 404. As tabelas e db_open_role(), db_join_role() e db_get_role(), de db.h, já "
                    "vêm prontas; faltam três linhas no fim de app/routes.inc, e os handlers delas em app/roles.c.")
    wanted = {"title": "churrasco na laje", "limit": limit, "coming": 0}
    if status != 201 or not isinstance(said.get("id"), int) or any(said.get(name) != value for name, value in wanted.items()):
        raise Wrong(f"a new list must be answered with 201, its \"id\", and {json.dumps(wanted)}; it was {status}: {json.dumps(said)}",
                    f"uma lista nova tem de ser respondida com 201, o \"id\" dela e {json.dumps(wanted)}; foi {status}: {json.dumps(said)}")
    return said["id"]


def names_on(step, owner, role):
    status, said = ask(step, "GET", f"/roles/{role}", owner)
    names = said.get("guests")
    if status != 200 or not isinstance(names, list) or said.get("coming") != len(names):
        raise Wrong(f"whoever made the list must see it: 200, with \"coming\" and the names in \"guests\"; it was {status}: "
                    f"{json.dumps(said)[:300]}",
                    f"quem fez a lista tem de vê-la: 200, com \"coming\" e os nomes em \"guests\"; foi {status}: "
                    f"{json.dumps(said)[:300]}")
    return names


def check_fifty(step, owner, guests):
    """The database is kept busy until all of them have asked: so they are together in its queue, and in one transaction."""
    role = new_list(step, owner, ROOM)
    busy = send(step, "GET", "/lab/thread?ms=500")
    until = time.monotonic() + DEADLINE
    while "at work" not in receive(send(step, "GET", "/loop"))[1] and time.monotonic() < until:
        pass
    socks = {name: send(step, "POST", f"/roles/{role}/guests", token) for name, token in guests.items()}
    answers = {name: answer(sock)[0] for name, sock in socks.items()}
    answer(busy)
    yes = [name for name, status in answers.items() if status == 200]
    if odd := sorted(set(answers.values()) - {200, 409}):
        raise Wrong(f"fifty guests said yes at once. Who finds room must be told 200, everybody else 409; somebody was told {odd[0]}.",
                    f"cinquenta convidados disseram sim de uma vez. Quem acha lugar tem de receber 200, os outros 409; alguém recebeu "
                    f"{odd[0]}.")
    there = names_on(step, owner, role)
    if len(yes) > ROOM and len(there) == ROOM:
        raise Wrong(f"fifty guests said yes at once, there is room for {ROOM}, and {len(yes)} were told that they may come: what the "
                    "database says stands in job.rc, and db_said_no() tells the guest.",
                    f"cinquenta convidados disseram sim de uma vez, há lugar para {ROOM}, e {len(yes)} ficaram sabendo que podem vir: "
                    "o que o banco diz está em job.rc, e db_said_no() conta ao convidado.")
    if lost := set(yes) - set(there):
        raise Wrong(f"{len(yes)} guests were told that they are on the list, and {len(lost)} of them are not: the database works on "
                    "the struct while no function of yours runs, so each request needs one of its own, from req_alloc().",
                    f"{len(yes)} convidados ficaram sabendo que estão na lista, e {len(lost)} deles não estão: o banco trabalha na "
                    "struct enquanto nenhuma função sua roda, e por isso cada requisição precisa de uma só sua, de req_alloc().")
    if len(yes) < ROOM or len(there) != len(yes):
        raise Wrong(f"there is room for {ROOM}, fifty asked; {len(yes)} were told that they come, and {len(there)} are on the list.",
                    f"há lugar para {ROOM}, cinquenta pediram; {len(yes)} ficaram sabendo que vêm, e {len(there)} estão na lista.")
    return role, there, sorted(set(guests) - set(there))[0]


def check_again(step, owner, guests, role, there):
    status, said = ask(step, "POST", f"/roles/{role}/guests", guests[there[0]])
    if status != 200 or said.get("coming") != ROOM or names_on(step, owner, role) != there:
        raise Wrong(f"a guest who is on the list said yes once more. That must be 200 and count once, even when the list is full; it was "
                    f"{status}: {json.dumps(said)}",
                    f"um convidado que está na lista disse sim de novo. Tem de dar 200 e contar uma vez só, mesmo com a lista cheia; "
                    f"foi {status}: {json.dumps(said)}")


def check_refusals(step, owner, guests, role, outsider):
    long = "x" * 81
    for (method, path, token, body), wanted in (
            (("GET", f"/roles/{role}", guests[outsider], None), 403), (("GET", "/roles/999999", owner, None), 404),
            (("POST", "/roles/999999/guests", owner, None), 404), (("POST", f"/roles/{role}/guests", guests[outsider], None), 409),
            (("POST", f"/roles/{role}/guests", None, None), 401), (("GET", f"/roles/{role}", None, None), 401),
            (("POST", "/roles", None, {"title": "x", "limit": 1}), 401),
            (("POST", "/roles", owner, {"limit": 3}), 422), (("POST", "/roles", owner, {"title": "x"}), 422),
            (("POST", "/roles", owner, {"title": "", "limit": 3}), 422), (("POST", "/roles", owner, {"title": long, "limit": 3}), 422),
            (("POST", "/roles", owner, {"title": "x", "limit": 0}), 422), (("POST", "/roles", owner, {"title": "x", "limit": 101}), 422)):
        status, said = ask(step, method, path, token, body)
        if status != wanted:
            who = "nobody" if not token else "who made the list" if token == owner else "somebody else"
            quem = "ninguém" if not token else "quem fez a lista" if token == owner else "outra pessoa"
            raise Wrong(f"{method} {path} by {who}{', with ' + json.dumps(body) if body else ''} must be {wanted}, and was {status}: "
                        f"{json.dumps(said)[:200]}",
                        f"{method} {path} de {quem}{', com ' + json.dumps(body) if body else ''} tem de dar {wanted}, e deu {status}: "
                        f"{json.dumps(said)[:200]}")


def check_another_process(step, owner, role, there):
    other = Step(step.binary, *step.process.args[1:])
    try:
        status, said = ask(other, "GET", f"/roles/{role}", owner)
    finally:
        other.stop()
    if status != 200 or said.get("guests") != there:
        raise Wrong(f"another process, started on the same database, does not have this list: {status}. What only one process "
                    "remembers is lost with it: the truth is in the database.",
                    f"outro processo, iniciado sobre o mesmo banco, não tem esta lista: {status}. O que só um processo lembra se perde "
                    "com ele: a verdade está no banco.")


def check(step):
    owner = members(step, ["Ana"])["Ana"]
    new_list(step, owner, 1)
    guests = members(step, [f"Guest {i}" for i in range(GUESTS)])
    role, there, outsider = check_fifty(step, owner, guests)
    check_again(step, owner, guests, role, there)
    check_refusals(step, owner, guests, role, outsider)
    check_another_process(step, owner, role, there)
