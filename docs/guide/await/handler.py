#!/usr/bin/python3
"""handler.py: the same handler as an async function, turned by hand: no asyncio, only what the compiler makes of it, and what is
kept while it waits."""

import dis


class Wait:
    """What is awaited: it hands its name to whoever turns the coroutine."""

    def __init__(self, what):
        self.what = what

    def __await__(self):
        yield self.what


async def post_order(who, pizzas):
    price = 35 * pizzas
    await Wait("the database")
    said = "pays a lot" if price > 100 else "pays"
    await Wait("the oven")
    return f"{who} {said} and eats"


def kept(coroutine):
    """What a coroutine that waits remembers: its place, and its variables."""
    frame = coroutine.cr_frame
    return f"line {frame.f_lineno - post_order.__code__.co_firstlineno}, {frame.f_locals}"


print("what `await` compiles to:")
names = [i.opname for i in dis.get_instructions(post_order)]
print("  ", *[name for name in names if name in ("GET_AWAITABLE", "SEND", "YIELD_VALUE", "RETURN_VALUE")])

order = post_order("Ana", 10)
print("before it begins: ", kept(order))
print("it waits for", order.send(None), "at", kept(order))
print("it waits for", order.send(None), "at", kept(order))
try:
    order.send(None)
except StopIteration as end:
    print("it ends:", end.value)
