"""A client who asks much and reads slowly gets all of its answers; the others wait for nothing, the loop does not spin, nothing "
"is hoarded."""

import random
import re
import select
import time

from exercise import Wrong, answer, request

STEP = "4-poll"
REQUESTS = 100_000  # some seven megabytes of answers: more than any socket takes


def push(sock, data):
    """As much as goes out until the other side has not taken any more for a while. The rest."""
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    sock.setblocking(False)
    while data and poll.poll(400):
        data = data[sock.send(data[:65536]):]
    return data


def comes_to_rest(step):
    """True: it sleeps. False: it has worked for two seconds of CPU time and does not."""
    begun, asleep = step.cpu_seconds(), 0
    while asleep < 10:
        asleep = asleep + 1 if step.state() == "S" else 0
        if step.cpu_seconds() - begun > 2:
            return False
        time.sleep(0.02)
    return True


def hung_up(sock):
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))


def pull(sock, rest):
    """Everything that comes until nothing does, saying the rest meanwhile."""
    chunks, poll = [], select.poll()
    while True:
        poll.register(sock, select.POLLIN | (select.POLLOUT if rest else 0))
        ready = poll.poll(3000)
        if not ready:
            return b"".join(chunks)
        if ready[0][1] & select.POLLOUT and rest:
            rest = rest[sock.send(rest[:65536]):]
        if ready[0][1] & ~select.POLLOUT:
            data = sock.recv(1 << 20)
            if not data:
                return b"".join(chunks)
            chunks.append(data)
            if not rest and b"".join(chunks[-2:]).endswith(b"a pizza, after 1 ms\n"):
                return b"".join(chunks)


def check(step):
    chance = random.Random(4)
    asked = [chance.random() < 0.5 for _ in range(REQUESTS)]
    data = b"".join(request("/now" if now else "/x") for now in asked) + request("/1")
    before = step.resident_bytes()
    slow, other = step.client(receive_buffer=4096), step.client()
    try:
        rest = push(slow, data)
    except ConnectionError:
        rest = b""
    rested = comes_to_rest(step)
    if hung_up(slow):
        raise Wrong("a client who asks and does not read was hung up upon: send() said EAGAIN, and that was taken for a client "
                    "who has left. "
                    "Keep what it did not take, ask poll() for POLLOUT, and go on when there is room.",
                    "um cliente que pede e não lê foi desligado: send() disse EAGAIN, e isso foi tomado por um cliente que foi "
                    "embora. Guarde o "
                    "que ele não aceitou, peça POLLOUT ao poll() e continue quando houver espaço.")
    other.sendall(request("/now"))
    if answer(other, 3) != "now\n":
        raise Wrong("while one client does not read, another has no answer after 3 s: the loop waits in send(), or tries again "
                    "without end. "
                    "The only wait is poll().",
                    "enquanto um cliente não lê, outro está sem resposta após 3 s: o laço espera em send(), ou tenta de novo sem "
                    "parar. A única "
                    "espera é poll().")
    if not rested or not comes_to_rest(step):
        raise Wrong("while a client does not read and nothing else happens, the loop spins: it is told of something again and "
                    "again that it "
                    "does nothing about. Ask for POLLOUT only while something is left to send, and not for POLLIN then.",
                    "enquanto um cliente não lê e nada mais acontece, o laço gira em falso: é avisado sem parar de algo com que "
                    "não faz nada. "
                    "Peça POLLOUT só enquanto houver o que enviar, e não peça POLLIN então.")
    grown = step.resident_bytes() - before
    if grown > 1 << 20:
        raise Wrong(f"one client who does not read costs {grown >> 20} MiB: all its answers are made and kept. As long as one is "
                    f"not sent, make "
                    "no other: what it asks can wait in its socket.",
                    f"um cliente que não lê custa {grown >> 20} MiB: todas as respostas dele são feitas e guardadas. Enquanto "
                    f"uma não foi "
                    "enviada, não faça outra: o que ele pede pode esperar no socket.")

    try:
        got = pull(slow, rest)
    except ConnectionError:
        got = b""
    bodies = re.findall(rb"HTTP/1\.1 (200 OK|404 Not Found)\r\nContent-Type: text/plain\r\nContent-Length: \d+\r\n\r\n(.*)\n", got)
    right = [b"200 OK" if now else b"404 Not Found" for now in asked]
    if [status for status, _ in bodies[:-1]] != right or bodies[-1][1] != b"a pizza, after 1 ms":
        raise Wrong(f"the client who read late got {len(bodies):,} whole answers of {REQUESTS + 1:,}, or not in their order: "
                    f"something that the "
                    "full socket did not take is lost.",
                    f"o cliente que leu tarde recebeu {len(bodies):,} respostas inteiras de {REQUESTS + 1:,}, ou fora de ordem: "
                    f"algo que o socket "
                    "cheio não aceitou se perdeu.")
    slow.close()
    other.close()
