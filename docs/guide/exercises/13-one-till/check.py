"""Five of twelve get their share, each in his own time, and the till knows of it."""

import re
import subprocess

from exercise import Wrong

PROGRAM = "till"
GUESTS, SHARES = 12, 5


def check(program):
    out = subprocess.run([program], capture_output=True, text=True, timeout=10).stdout
    said = re.findall(r"^ *(\d+) ms  guest (\d+) (takes 100|is told no)$", out, re.MULTILINE)
    took = {int(guest): int(ms) for ms, guest, what in said if what == "takes 100"}
    left = re.search(r"^left in the till: (-?\d+)$", out, re.MULTILINE)
    if sorted(int(guest) for _, guest, _ in said) != list(range(1, GUESTS + 1)) or not left:
        raise Wrong("each of the twelve guests must hear one thing, \"takes 100\" or \"is told no\", and in the end the program "
                    "says what is left in the till.",
                    "cada um dos doze clientes tem de ouvir uma coisa, \"takes 100\" ou \"is told no\", e no fim o programa diz o "
                    "que restou no caixa.")
    if len(took) > SHARES:
        raise Wrong(f"{len(took)} guests took 100, and there were only 500; {left[1]} are said to be left. What a guest saw when he "
                    "came is old news when he has the key: what is true then?",
                    f"{len(took)} clientes levaram 100, e só havia 500; diz-se que restam {left[1]}. O que um cliente viu ao chegar "
                    "já é notícia velha quando ele tem a chave: o que é verdade nessa hora?")
    if left[1] != str(100 * (SHARES - len(took))):
        raise Wrong(f"{len(took)} guests took 100 out of 500, and {left[1]} are said to be left: somebody has written into the till "
                    "what he saw there earlier.",
                    f"{len(took)} clientes levaram 100 de 500, e diz-se que restam {left[1]}: alguém gravou no caixa o que tinha "
                    "visto antes.")
    for guest, ms in took.items():
        due = 3 * (guest - 1) + 10
        if ms < due:
            raise Wrong(f"guest {guest} has his money at {ms} ms, and he cannot have the key before {due} ms: the wait must stay, "
                        "the race must go.",
                        f"o cliente {guest} tem o dinheiro aos {ms} ms, e não pode ter a chave antes dos {due} ms: a espera fica, a "
                        "corrida é que tem de sair.")
        if ms > due:
            raise Wrong(f"guest {guest} has his money at {ms} ms, and it was due at {due} ms: he has waited for the others, too. "
                        "There is no need to lock anything: within a step you are alone.",
                        f"o cliente {guest} tem o dinheiro aos {ms} ms, e era para ser aos {due} ms: esperou também pelos outros. Não "
                        "é preciso trancar nada: dentro de um passo você está sozinho.")
    if sorted(took) != list(range(1, SHARES + 1)):
        raise Wrong("the five who get their money must be the first five who came.",
                    "os cinco que levam o dinheiro têm de ser os cinco primeiros que chegaram.")
