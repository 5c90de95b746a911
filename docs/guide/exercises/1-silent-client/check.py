"""The silent client costs a second, and nobody who speaks is any worse off."""

import time

from exercise import Wrong, answer, request

STEP = "1-blocking"


def check(step):
    silent, other = step.client(), step.client()
    began = time.monotonic()
    other.sendall(request("/now"))
    body = answer(other, 2)
    if body is None:
        raise Wrong("a client connects and says nothing, and whoever comes next has no answer after 2 s. recv() waits for ever: "
                    "give it a "
                    "deadline of one second (SO_RCVTIMEO, man 7 socket).",
                    "um cliente conecta e não diz nada, e quem vem depois está sem resposta após 2 s. recv() espera para sempre: "
                    "dê a ele um "
                    "prazo de um segundo (SO_RCVTIMEO, man 7 socket).")
    if body != "now\n":
        raise Wrong("the next client was let go without an answer: the deadline is meant for the silent one.",
                    "o cliente seguinte foi dispensado sem resposta: o prazo era para o calado.")
    took = time.monotonic() - began
    if took > 1.5:
        raise Wrong(f"the client behind the silent one waited {took:.1f} s; it should be about one.",
                    f"o cliente atrás do calado esperou {took:.1f} s; deveria ser mais ou menos um.")
    other.close()
    if answer(silent, 2) is None:
        raise Wrong("the others are served, but the silent client is still connected: nobody has let go of it, so a thousand of "
                    "them would "
                    "still cost a thousand places. Its deadline is what is asked for here.",
                    "os outros são atendidos, mas o cliente calado continua conectado: ninguém o dispensou, e mil deles ainda "
                    "custariam mil "
                    "lugares. O que se pede aqui é o prazo dele.")
    silent.close()

    slow = step.client()
    slow.sendall(b"GET /n")
    time.sleep(0.5)  # what this client is like, no waiting for anything
    try:
        slow.sendall(b"ow HTTP/1.1\r\n\r\n")
        body = answer(slow, 3)
    except ConnectionError:
        body = ""
    if body != "now\n":
        raise Wrong("a client whose request comes in two pieces, half a second apart, was let go. Half a second is no silence: "
                    "the deadline "
                    "is one second.",
                    "um cliente cujo pedido chega em dois pedaços, com meio segundo entre eles, foi dispensado. Meio segundo não "
                    "é silêncio: "
                    "o prazo é de um segundo.")
    slow.close()

    patient = step.client()
    began = time.monotonic()
    patient.sendall(request("/1500"))
    body = answer(patient, 4)
    if not body or time.monotonic() - began < 1.5:
        raise Wrong("a pizza of 1500 ms did not come, or came half baked: the deadline is for a client who says nothing, not for "
                    "the oven.",
                    "uma pizza de 1500 ms não saiu, ou saiu crua: o prazo é para o cliente que não diz nada, não para o forno.")
    patient.sendall(request("/now"))
    if answer(patient, 3) != "now\n":
        raise Wrong("a client may ask again on the same connection, within a second; this one was not answered.",
                    "um cliente pode pedir de novo na mesma conexão, dentro de um segundo; este ficou sem resposta.")
    patient.close()
