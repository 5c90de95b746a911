"""The silent client is let go after a second, and nobody who speaks is any worse off; now with a kernel that has his memory."""

import os
import signal
import time

from exercise import Wrong, answer, request

STEP = "7-uring"
CROWD = 150  # two orders each, more than the ring has room for


def speaks(sock, words, seconds=3):
    try:
        sock.sendall(words)
        return answer(sock, seconds)
    except ConnectionError:
        return ""


def asks_slowly(step):
    """A request in two pieces, and one more, 0.6 s after each other. What was answered; None: it was we who were too slow."""
    sock = step.client()
    sock.sendall(b"GET /n")
    answers, late = [], False
    for words in b"ow HTTP/1.1\r\n\r\n", request("/now"):
        since = time.monotonic()
        time.sleep(0.6)  # what this client is like, no waiting for anything
        answers.append(speaks(sock, words))
        late = late or time.monotonic() - since > 0.9
    sock.close()
    return None if late and answers != ["now\n", "now\n"] else answers


def heard(sock, times):
    """So many answers."""
    data = b""
    try:
        while data.count(b"\r\n\r\nnow\n") < times:
            more = sock.recv(4096)
            if not more:
                return False
            data += more
    except OSError:
        return False
    return True


def answered_at_once(step, crowd):
    """They ask, and are answered, and ask again while the server is stopped, so that it finds all of them in one lap; the first asks
    twice: one order more."""
    try:
        for sock in crowd:
            sock.sendall(request("/now"))
        if not all(heard(sock, 1) for sock in crowd):
            return False
        asleep_by = time.monotonic() + 0.3
        while step.state() == "R" and time.monotonic() < asleep_by:  # asleep, it has ordered what comes next from everybody
            time.sleep(0.001)
        os.kill(step.process.pid, signal.SIGSTOP)
        try:
            for sock in crowd:
                sock.sendall(request("/now") * (2 if sock is crowd[0] else 1))
        finally:
            os.kill(step.process.pid, signal.SIGCONT)
        return all(heard(sock, 2 if sock is crowd[0] else 1) for sock in crowd)
    except ConnectionError:
        return False


def check(step):
    since = time.monotonic()
    silent = step.client()
    left = answer(silent, 2.5)
    if left is None:
        raise Wrong("a client who says nothing is still connected after 2 s. The order that waits for his words needs a "
                    "deadline: an order that is linked to it (IOSQE_IO_LINK, man io_uring_prep_link_timeout).",
                    "um cliente que não diz nada continua conectado depois de 2 s. A encomenda que espera pelas palavras "
                    "dele precisa de um prazo: uma encomenda ligada a ela (IOSQE_IO_LINK, man "
                    "io_uring_prep_link_timeout).")
    if time.monotonic() - since < 0.8:
        raise Wrong("a client who says nothing was let go at once. He has one second.",
                    "um cliente que não diz nada foi dispensado na hora. Ele tem um segundo.")
    silent.close()

    in_pieces, again = next(filter(None, (asks_slowly(step) for _ in range(5))), ("now\n", "now\n"))
    if in_pieces != "now\n":
        raise Wrong("a client whose request comes in two pieces, 0.6 s apart, was let go. The deadline is one second, and "
                    "begins again with what he says. Two orders come back now where one was sent: which of them says that "
                    "he has left?",
                    "um cliente cujo pedido chega em dois pedaços, com 0,6 s entre eles, foi dispensado. O prazo é de um "
                    "segundo, e recomeça com o que ele diz. Agora voltam duas encomendas onde se mandou uma: qual delas "
                    "diz que ele foi embora?")
    if again != "now\n":
        raise Wrong("a client who says something every 0.6 s was let go: the deadline of an order that has long come back "
                    "has hit the next one. It must end together with its order.",
                    "um cliente que diz alguma coisa a cada 0,6 s foi dispensado: o prazo de uma encomenda que já tinha "
                    "voltado atingiu a seguinte. Ele tem de acabar junto com a encomenda.")

    patient = step.client()
    began = time.monotonic()
    body = speaks(patient, request("/1200"), 4)
    if not body or time.monotonic() - began < 1.2:
        raise Wrong("a pizza of 1200 ms did not come, or came half baked. Two orders come back now where one was sent: "
                    "which of them was taken for the oven's?",
                    "uma pizza de 1200 ms não saiu, ou saiu crua. Agora voltam duas encomendas onde se mandou uma: qual "
                    "delas foi tomada pela do forno?")
    patient.close()

    for _ in range(10):
        began = time.monotonic()
        crowd = [step.client() for _ in range(CROWD)]
        if answered_at_once(step, crowd):
            break
        if not 0.7 < time.monotonic() - began < 5:  # else it may have been the machine that was slow, and all of them were silent
            raise Wrong(f"of {CROWD} who asked at once, not all were answered.",
                        f"de {CROWD} que pediram de uma vez, nem todos tiveram resposta.")
        for sock in crowd:
            sock.close()
    else:
        return
    since = time.monotonic()
    for sock in crowd:
        if answer(sock, max(since + 2.5 - time.monotonic(), 0.001)) is None:
            raise Wrong(f"{CROWD} asked at once, and then said nothing more: some of them are still there. Two orders that are "
                        "linked must be handed over together; a ring that is full comes between them.",
                        f"{CROWD} pediram de uma vez, e não disseram mais nada: alguns continuam lá. Duas encomendas ligadas "
                        "têm de ser entregues juntas; um anel cheio se mete entre elas.")
        sock.close()
