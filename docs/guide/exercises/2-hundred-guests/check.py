"""A hundred are served, the next is told 503 and costs no thread, and whoever leaves makes room."""

import os
import time

from exercise import DEADLINE, Wrong, answer, request

STEP = "3-threads"
ROOM = 100


def come(step):
    """Somebody who comes and asks. (his socket, the first line that he is told; "": hung up; None: nothing in time)"""
    guest = step.client()
    guest.settimeout(3)
    line = b""
    try:
        guest.sendall(request("/now"))
    except ConnectionError:
        pass  # told already, perhaps
    try:
        while not line.endswith(b"\n"):
            more = guest.recv(1)
            if not more:
                return guest, ""
            line += more
    except TimeoutError:
        return guest, None
    except ConnectionError:
        return guest, ""
    return guest, line.decode()


def served(step):
    """Come, and stay: the socket, or None."""
    guest, line = come(step)
    if line and " 200 " in line:
        answer(guest)  # the rest of it
        return guest
    guest.close()
    return None


def threads(step):
    return len(os.listdir(f"/proc/{step.process.pid}/task"))


def turned_away(step, when, quando):
    guest, line = come(step)
    if line is None:
        raise Wrong(f"{when}, one more comes and hears nothing for 3 s: it stands at the door. It should be told 503 at once, "
                    "so that it can come again later.",
                    f"{quando}, chega mais um e não ouve nada por 3 s: ficou na porta. Deveria receber 503 na hora, para poder "
                    "voltar depois.")
    if line == "":
        raise Wrong(f"{when}, one more comes and is hung up on without a word: for all it knows, the server has crashed. "
                    "turn_away() of step.h says 503 first.",
                    f"{quando}, chega mais um e a conexão é fechada sem uma palavra: para ele, o servidor pode ter caído. "
                    "turn_away(), de step.h, diz 503 antes.")
    if " 503 " not in line:
        raise Wrong(f"{when}, one more comes and is served, too, by a thread of its own ({threads(step)} there are now). The "
                    "limit is a hundred: count them.",
                    f"{quando}, chega mais um e também é atendido, com uma thread só para ele (agora são {threads(step)}). O "
                    "limite é cem: conte-os.")
    guest.close()


def check(step):
    guests = [served(step) for _ in range(ROOM)]
    if None in guests:
        raise Wrong(f"of the first {ROOM} clients only {ROOM - guests.count(None)} were served: a hundred have room.",
                    f"dos primeiros {ROOM} clientes só {ROOM - guests.count(None)} foram atendidos: cem têm lugar.")
    turned_away(step, "while a hundred clients are there", "enquanto cem clientes estão lá")
    guests[0].sendall(request("/now"))
    if answer(guests[0]) != "now\n":
        raise Wrong("one of the hundred asked once more and was not answered: who has a place keeps it until he leaves.",
                    "um dos cem pediu de novo e ficou sem resposta: quem tem lugar fica com ele até ir embora.")

    for guest in guests[: ROOM // 2]:
        guest.close()
    until, guests = time.monotonic() + DEADLINE, guests[ROOM // 2:]
    while len(guests) < ROOM and time.monotonic() < until:  # that somebody has left, a thread notices when it runs
        if guest := served(step):
            guests.append(guest)
    if len(guests) < ROOM:
        raise Wrong(f"half of the hundred left, and {ROOM - len(guests)} of their places stayed empty: nobody was let in for "
                    "them. Who leaves has to be taken off the count.",
                    f"metade dos cem foi embora, e {ROOM - len(guests)} dos lugares ficaram vazios: ninguém entrou no lugar "
                    "deles. Quem sai tem de ser descontado.")
    turned_away(step, "half of them left and as many came", "metade saiu e outros tantos entraram; então")
    for guest in guests:
        guest.close()
