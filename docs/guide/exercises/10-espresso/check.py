"""An espresso for each who asks, in its time, while everybody else is served."""

import json
import re
import selectors
import socket
import struct
import time

from exercise import DEADLINE, Wrong

FORNO = ["app/espresso.c", "app/routes.inc"]
CUP_MS = 100


def ask(step, path, before=b""):
    sock = step.client()
    sock.sendall(before + f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return sock


def answer(sock):
    """(status, body)"""
    data = b""
    head = re.compile(rb"HTTP/1\.1 (\d+).*?Content-Length: (\d+).*?\r\n\r\n", re.DOTALL)
    while not (found := head.match(data)) or len(data) < found.end() + int(found[2]):
        more = sock.recv(4096)
        if not more:
            return 0, ""
        data += more
    return int(found[1]), data[found.end():].decode()


def cups_of(status, body):
    try:
        return json.loads(body)["cups"] if status == 200 else None
    except (ValueError, KeyError, TypeError):
        return None


def live(step):
    return int(re.search(r"^forno_requests_live (\d+)", answer(ask(step, "/metrics"))[1], re.MULTILINE)[1])


def check_one(step):
    begun = time.monotonic()
    status, body = answer(ask(step, "/espresso?cups=2"))
    took_ms = (time.monotonic() - begun) * 1000
    if status == 404:
        raise Wrong("/espresso is not there yet: 404. It takes a row at the end of app/routes.inc, and a handler with a name of "
                    "your own in app/espresso.c.",
                    "/espresso ainda não existe: 404. Falta uma linha no fim de app/routes.inc e um handler, com o nome que "
                    "você quiser, em "
                    "app/espresso.c.")
    if cups_of(status, body) != 2:
        raise Wrong(f'/espresso?cups=2 must be answered with 200 and {{"cups":2}}, for everybody (OPEN); it was {status}: '
                    f'{body[:200]}',
                    f'/espresso?cups=2 tem de ser respondido com 200 e {{"cups":2}}, para todo mundo (OPEN); foi {status}: '
                    f'{body[:200]}')
    if took_ms < 2 * CUP_MS:
        raise Wrong(f"two cups must take 200 ms, and these were there after {took_ms:.0f}: wait_for() belongs in front of the "
                    "answer, and what answers is the next step.",
                    f"duas xícaras têm de levar 200 ms, e estas chegaram em {took_ms:.0f}: wait_for() vem "
                    f"antes da "
                    "resposta, e quem responde é o próximo passo.")


def check_five(step):
    """All their bytes are there before the first cup is; so is the question of the one who wants no coffee."""
    selector, came = selectors.DefaultSelector(), []
    guests = {ask(step, f"/espresso?cups={cups}"): cups for cups in (10, 6, 4, 3, 2)}
    guests[ask(step, "/healthz")] = "healthz"
    for sock in guests:
        selector.register(sock, selectors.EVENT_READ)
    until = time.monotonic() + DEADLINE
    while len(came) < len(guests) and time.monotonic() < until:
        for key, _ in selector.select(0.5):
            selector.unregister(key.fileobj)
            came.append(guests[key.fileobj])
            status, body = answer(key.fileobj)
            if came[-1] != "healthz" and cups_of(status, body) != came[-1]:
                raise Wrong(f"one of five guests at once asked for {came[-1]} cups and was told of {cups_of(status, body)}: what "
                            "belongs to a request lives in req_alloc(), not in a static variable.",
                            f"um de cinco clientes simultâneos pediu {came[-1]} xícaras e recebeu {cups_of(status, body)}: o "
                            f"que é de uma "
                            "requisição mora em req_alloc(), não em uma variável estática.")
    if len(came) < len(guests):
        raise Wrong("of five guests at once, somebody was not answered within 10 s.", "de cinco clientes simultâneos, alguém "
                    "ficou sem resposta por 10 s.")
    if came.index("healthz") > came.index(10):
        raise Wrong("the loop stood still: somebody who wanted only /healthz had to wait until ten cups were ready. A step does "
                    "not sleep: it gives await() to wait_for(), and returns.",
                    "o laço ficou parado: quem só queria /healthz teve de esperar dez xícaras ficarem prontas. "
                    "Um passo não "
                    "dorme: dá await() a wait_for() e volta.")


def check_leaver(step):
    sock = ask(step, "/espresso?cups=10", before=b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    sock.recv(1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    until = time.monotonic() + DEADLINE
    while (there := live(step)) > 1:
        if time.monotonic() > until:
            raise Wrong(f"somebody has left, and {there - 1} request is still alive ten seconds later: a step has neither "
                        "answered nor waited for anything that ends.",
                        f"alguém foi embora, e {there - 1} requisição continua viva dez segundos depois: um passo nem "
                        f"respondeu nem esperou "
                        "por algo que acaba.")


def check(step):
    check_one(step)
    check_five(step)
    check_leaver(step)
    for query in "cups=0", "cups=11", "cups=two", "cups=-1", "cakes=1":
        status, body = answer(ask(step, f"/espresso?{query}"))
        if status != 400:
            raise Wrong(f"/espresso?{query} must be 400, and was {status}: query_number() knows the least and the most, 1 and "
                        "10, and the row in app/routes.inc says which parameters there are.",
                        f"/espresso?{query} tem de dar 400, e deu {status}: query_number() conhece o mínimo e o "
                        f"máximo, 1 e 10, e "
                        "a linha em app/routes.inc diz quais parâmetros existem.")
    if cups_of(*answer(ask(step, "/espresso"))) != 1:
        raise Wrong("who does not say how many gets one cup: query_number() has a fallback.",
                    "quem não diz quantas recebe uma xícara: query_number() tem um valor padrão.")
