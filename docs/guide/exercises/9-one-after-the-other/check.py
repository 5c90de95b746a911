"""Each pizza has a wait of its own, in a loop, and two guests do not get into each other's way."""

import re
import subprocess

from exercise import Wrong

PROGRAM = "switch"
PIZZAS = {"Ana": 10, "Bia": 1}


def check(program):
    try:
        out = subprocess.run([program], capture_output=True, text=True, timeout=10).stdout
    except subprocess.TimeoutExpired:
        raise Wrong("it does not come to an end: the number of the pizza begins anew at each entry. A local variable does not "
                    "live longer than until the next wait; what is needed behind it belongs into struct order.",
                    "não acaba nunca: o número da pizza recomeça a cada entrada. Uma variável local só vive até a próxima "
                    "espera; o "
                    "que se usa depois dela tem de ficar em struct order.") from None
    said = [(int(ms), who, what) for ms, who, what in re.findall(r"^ *(\d+) ms  (\w+) (.*)$", out, re.MULTILINE)]
    for who, pizzas in PIZZAS.items():
        times = [ms for ms, name, what in said if name == who and what == "takes one out"]
        if not times:
            raise Wrong(f'{who} is not told "takes one out" for any pizza: tell(o->who, "takes one out") belongs behind each wait '
                        "for the oven, 300 ms for each pizza.",
                        f'{who} não ouve "takes one out" por pizza nenhuma: tell(o->who, "takes one out") vem depois de cada '
                        f'espera '
                        "pelo forno, 300 ms por pizza.")
        if len(times) != pizzas:
            raise Wrong(f"{who} took {len(times)} out, and not {pizzas}: the guests share a variable, or the loop counts "
                        "wrongly. Each guest has a struct of his own.",
                        f"{who} tirou {len(times)}, e não {pizzas}: os clientes dividem uma variável, ou o laço conta errado. Cada "
                        "cliente tem a sua própria struct.")
        right = [10 + 300 * (i + 1) for i in range(pizzas)]
        if times != right:
            wrong, due = next((a, b) for a, b in zip(times, right, strict=True) if a != b)
            raise Wrong(f"{who} takes a pizza out at {wrong} ms, and it was due at {due} ms: each pizza goes into the oven by a "
                        "wait of its own, when the one before is out.",
                        f"{who} tira uma pizza aos {wrong} ms, e era para ser aos {due} ms: cada pizza entra no forno com a sua "
                        "própria espera, quando a anterior saiu.")
        if (right[-1], who, "eats") not in said:
            raise Wrong(f"{who} does not eat when the last pizza is out, at {right[-1]} ms.",
                        f"{who} não come quando sai a última pizza, aos {right[-1]} ms.")
