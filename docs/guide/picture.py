"""picture.py: what compare.py has measured, as a table, as bars of characters, and as SVG for the guide: black and white, so that
a printer and every eye can tell it apart."""

import math
from html import escape

FILES = {"en": "compare.svg", "pt": "compare.pt-BR.svg"}
BAR = 15  # characters

WORDS = {
    "en": {
        "title": "Eight small servers and Forno, under the same load",
        "rate": "answers to {asked} for a second of the server's CPU, while so many others wait",
        "nobody": "nobody", "memory": "memory for each who waits", "p99": "{n} pizzas of 100 ms at once: 99 % had theirs within",
        "none": "nobody waits inside", "late": "not within 1.5 s", "thousand": ",", "point": ".",
        "about": "{cpu}, {kernel}, {date}. Server on one CPU, guests on another. Memory: logarithmic.",
        "desc": "Bars, for each server: answers beside 0 to 5,000 who wait, memory for each of them, time of a pizza.",
    },
    "pt": {
        "title": "Oito servidores pequenos e o Forno, sob a mesma carga",
        "rate": "respostas a {asked} por segundo de CPU do servidor, enquanto tantos outros esperam",
        "nobody": "ninguém", "memory": "memória por cliente que espera",
        "p99": "{n} pizzas de 100 ms de uma vez: 99 % saíram em até",
        "none": "ninguém espera do lado de dentro", "late": "não em 1,5 s", "thousand": ".", "point": ",",
        "about": "{cpu}, {kernel}, {date}. Servidor em uma CPU, clientes em outra. Memória: escala logarítmica.",
        "desc": "Barras, por servidor: respostas ao lado de 0 a 5.000 que esperam, memória de cada um, tempo de uma pizza.",
    },
}


def per_cpu_second(server, waiters):
    """Who has the CPU for himself answers so many in a second, unless he waits for his guests."""
    return 1e6 / server["cpu_us"][waiters] if server["cpu_us"][waiters] else 0


def size_text(size):
    return "-" if size is None else f"{size / 1024:.1f} KiB" if size < 10240 else f"{size / 1024:.0f} KiB"


# ---- characters ------------------------------------------------------------------------------------------------------------------


def rows(table):
    """Columns as wide as they need to be; the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        yield "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip()


def breaks_text(breaks):
    if not breaks["errno"]:
        return f"{breaks['inside']:,} are in; the others wait at the door"
    return f"{breaks['inside']:,} are in; then {breaks['call']}() says {breaks['errno']}"


def per_head(value):
    return "-" if value is None else f"{value:.0f}"


def text(data, about):
    servers, levels, counts = data["servers"], data["levels"], data["counts"]
    most = max(per_cpu_second(s, w) for s in servers.values() for w in levels)
    lines = [f"{about['date']}, {about['cpu']}, {about['kernel']}; load average at the start: {about['load']}", ""]

    lines += ["Answers to GET /now (Forno: /healthz) for a second of the server's CPU, while so many others wait", ""]
    lines.append(" " * 13 + "".join(f"{w:,}".ljust(BAR + 1) for w in levels).rstrip())
    for name, s in servers.items():
        bars = ("#" * round(BAR * per_cpu_second(s, w) / most) or ("." if s["rate"][w] else "nobody") for w in levels)
        lines.append(name.ljust(13) + "".join(bar.ljust(BAR + 1) for bar in bars).rstrip())
    lines.append("")
    waiting = [["waiting:", *(f"{w:,}" for w in levels)]]
    lines += rows(waiting + [[n, *(f"{per_cpu_second(s, w):,.0f}" for w in levels)] for n, s in servers.items()])
    lines += ["", "Answers for a second by the clock: the same, less what was waited for the guests and lost to others on this machine", ""]
    lines += rows(waiting + [[n, *(f"{s['rate'][w]:,.0f}" for w in levels)] for n, s in servers.items()])

    lines += ["", "So many order a pizza of 100 ms at once: within how many ms did 99 % have theirs? (-: not within 1,500)", ""]
    lines += rows([["ordered:", *(f"{c:,}" for c in counts)]] +
                  [[n, *(f"{s['p99_ms'][c]:.0f}" if s["p99_ms"][c] else "-" for c in counts)] for n, s in servers.items()])

    lines += ["", "What each of 1,000 who wait costs: memory (processes, their page tables, 16 KiB of kernel stack for a thread)", ""]
    table = [["", "memory", "threads", "processes"]]
    for name, s in servers.items():
        each = s["each"] or {"bytes": None, "threads": None, "processes": None}
        table.append([name, size_text(each["bytes"]), per_head(each["threads"]), per_head(each["processes"])])
    lines += rows(table)

    lines += ["", "1,500 come where a process may have 1,024 descriptors, and a user 1,000 tasks more", ""]
    lines += [f"{name:13}{breaks_text(s['breaks'])}" for name, s in servers.items()]
    lines += [f"\n{name}: left out: {why}" for name, why in data["left_out"].items()]
    return "\n".join(lines) + "\n"


# ---- SVG -------------------------------------------------------------------------------------------------------------------------

ROW, TOP, NAME_W, RATE_W, MEMORY_W, P99_W, GAP = 34, 108, 106, 118, 160, 200, 14
LEAST, GREATEST = 512, 262144  # of the memory's scale


def number(value, words):
    return f"{value:,.0f}".replace(",", words["thousand"])


def svg(data, about, language):
    words, servers, levels = WORDS[language], data["servers"], data["levels"]
    crowd = max(data["counts"])
    most = max(per_cpu_second(s, w) for s in servers.values() for w in levels)
    longest = max(s["p99_ms"][crowd] or 0 for s in servers.values())
    memory_x = NAME_W + len(levels) * (RATE_W + GAP) + 10
    p99_x = memory_x + MEMORY_W + GAP + 10
    width, height = p99_x + P99_W + 10, TOP + ROW * len(servers) + 34
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
           f'font-family="sans-serif" font-size="12" fill="#000">',
           f"<title>{escape(words['title'])}</title><desc>{escape(words['desc'])}</desc>",
           f'<rect width="{width}" height="{height}" fill="#fff"/>']

    def put(x, y, string, style=""):
        out.append(f'<text x="{x:.0f}" y="{y:.0f}"{style}>{escape(string)}</text>')

    def bar(x, y, length, dark):
        paint = 'fill="#000"' if dark else 'fill="#fff" stroke="#000"'
        if not length:
            return
        out.append(f'<rect x="{x + 0.5:.1f}" y="{y + 0.5:.1f}" width="{max(length, 1):.1f}" height="9" {paint}/>')

    def lines(x, y, string, chars):
        """Broken where it is too long."""
        line = ""
        for word in string.split():
            if line and len(line) + 1 + len(word) > chars:
                put(x, y, line)
                line, y = "", y + 14
            line = f"{line} {word}".strip()
        put(x, y, line)

    put(10, 22, words["title"], ' font-size="16" font-weight="bold"')
    lines(NAME_W, 50, words["rate"].format(asked="GET /now"), 19 * len(levels))
    lines(memory_x, 50, words["memory"], 23)
    lines(p99_x, 50, words["p99"].format(n=number(crowd, words)), 27)
    for i, waiters in enumerate(levels):
        put(NAME_W + i * (RATE_W + GAP), TOP - 16, number(waiters, words) if waiters else words["nobody"], ' font-weight="bold"')
    out.append(f'<path d="M10 {TOP - 8}H{width - 10}" stroke="#000"/>')

    for i, (name, s) in enumerate(servers.items()):
        y, dark = TOP + i * ROW, name == "Forno"
        put(10, y + 20, name, ' font-weight="bold"')
        for k, waiters in enumerate(levels):
            x = NAME_W + k * (RATE_W + GAP)
            put(x, y + 11, number(per_cpu_second(s, waiters), words))
            bar(x, y + 15, RATE_W * per_cpu_second(s, waiters) / most, dark)
        if s["each"]:
            size = s["each"]["bytes"]
            share = math.log(max(size, LEAST) / LEAST) / math.log(GREATEST / LEAST)
            put(memory_x, y + 11, size_text(size).replace(".", words["point"]))
            bar(memory_x, y + 15, MEMORY_W * min(share, 1), dark)
        else:
            lines(memory_x, y + 11, words["none"], 24)
        p99 = s["p99_ms"][crowd]
        put(p99_x, y + 11, f"{number(p99, words)} ms" if p99 else words["late"])
        if p99:
            bar(p99_x, y + 15, P99_W * p99 / longest, dark)
    put(10, height - 12, words["about"].format(**about), ' font-size="11"')
    return "\n".join([*out, "</svg>"]) + "\n"
