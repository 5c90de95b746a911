"""test_page.py: the live page, in a real browser, against the real server. What is checked is what the page says of its state
(data-… attributes, texts), not its pixels."""

import errno
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import docs
import pytest
import wire
from wire import wait_until

# `make test` installs the browser wherever it is a package. Where it is none (Ubuntu), a reader may do without; CI may not.
if not os.environ.get("CI"):
    pytest.importorskip("selenium.webdriver")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
PAGE = Path(__file__).parent.parent / "page"
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run", "--window-size=1280,900", "--lang=en-US")
SETTLED = 10  # seconds: how long the page may take for anything, on a busy machine under ASan

if not shutil.which(CHROMIUM) or not shutil.which(DRIVER):
    assert not os.environ.get("CI"), f"there is no {CHROMIUM} or no {DRIVER}: the page would go untested"
    pytest.skip("no chromium, no chromedriver", allow_module_level=True)


class Page:
    """The page as a visitor has it."""

    def __init__(self, browser, url):
        self.browser, self.url = browser, url

    def run(self, script, *args):
        return self.browser.execute_script(script, *args)

    def tell(self, command, **parameters):
        return self.browser.execute_cdp_cmd(command, parameters)

    def load(self):
        self.browser.get(self.url)
        self.wait_connected()

    def wait_connected(self):
        self.wait(lambda: self.data("body", "connected") == "yes", "the connection to /loop/events")

    def fresh(self, **stored):
        """A visitor with this and nothing else in his localStorage: put there before the page looks."""
        stored = {f"forno.{name}": value for name, value in stored.items()}
        script = self.tell("Page.addScriptToEvaluateOnNewDocument", source=f"localStorage.clear(); Object.assign(localStorage, {json.dumps(stored)})")
        self.load()
        self.tell("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def data(self, selector, name):
        return self.run("return document.querySelector(arguments[0]).dataset[arguments[1]]", selector, name)

    def click(self, selector):
        self.run("document.querySelector(arguments[0]).click()", selector)

    def press(self, control):
        self.click(f"[data-control={control}] button")

    def is_hidden(self, selector):
        return self.run("return document.querySelector(arguments[0]).hidden", selector)

    def wait(self, condition, what, seconds=SETTLED):
        wait_until(condition, lambda: f"{what() if callable(what) else what}; the stage is {self.run('return {...document.getElementById(`stage`).dataset}')}", seconds)

    def wait_answered(self, control):
        self.wait(lambda: self.data(f"[data-control={control}]", "running") == "0", f"an answer to {control}")

    def left(self):
        """The orders that have left the oven, in the order in which they did."""
        return [int(order) for order in (self.data("#stage", "left") or "").split(",") if order]

    def in_the_oven(self):
        return [int(order) for order in self.data(".oven", "orders").split(",") if order]

    def record(self, selector, attribute=None):
        """From now on, keep what this attribute, or the text, becomes, for recorded(). What lasts less than a frame is missed."""
        self.run("""const [selector, attribute] = arguments, e = document.querySelector(selector);
                    const read = () => (attribute ? e.getAttribute(attribute) : e.textContent);
                    const kept = (window.recorded ??= {})[selector] = [read()];
                    new MutationObserver(() => kept.push(read()))
                      .observe(e, {attributes: true, childList: true, characterData: true, subtree: true})""", selector, attribute)

    def recorded(self, selector):
        return self.run("return window.recorded[arguments[0]]", selector)

    def choose(self, head):
        """A request in the timeline, by the keyboard: up from the last one, and from the top to the last one again."""
        timeline = self.browser.find_element("id", "timeline")

        def chosen():
            before = self.data("#timeline", "selected")
            timeline.send_keys(Keys.ARROW_UP)
            if self.data("#timeline", "selected") == before:
                timeline.send_keys(Keys.ARROW_DOWN * 60)
            return self.text("#detail h3, #detail p").startswith(head)

        self.wait(chosen, f"{head} among the requests")

    def state(self):
        """What it says that one sees, in the words of page/address.js."""
        return self.data("body", "state") or ""

    def fragment(self):
        return self.run("return location.hash.slice(1)")

    def wait_state(self, state):
        self.wait(lambda: self.state() == state == self.fragment(), lambda: f"{state!r}, not {self.state()!r} at #{self.fragment()}")

    def go(self, fragment):
        """As a link does."""
        self.run("location.hash = arguments[0]", fragment)

    def arrive(self, fragment, **stored):
        """From elsewhere, by a link."""
        home, self.url = self.url, f"{self.url}#{fragment}"
        self.browser.get("about:blank")
        try:
            self.fresh(**stored)
        finally:
            self.url = home

    def number(self, name):
        return self.text(f"[data-number={name}]")

    def playhead(self):
        return int(self.data("#stage", "playhead"))


@contextmanager
def chromium(profile, *flags):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def browser(tmp_path_factory, start_shared_server):  # whose servers are stopped after it: no stream holds them
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture(scope="module")
def pizzeria(start_shared_server):
    """With the opening credit that visitors have. A busy machine takes the processor away for 50 ms now and then: that is no stall here."""
    return start_shared_server("--opening-credit", "100000", "--bake-ms", "400", "--stall-ms", "500")


@pytest.fixture
def door(browser, pizzeria):
    """The page, before anybody has come. Whatever a test does: no error on the console, nothing from elsewhere."""
    browser.get_log("browser")
    page = Page(browser, pizzeria.url + "/")
    yield page
    errors = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert not errors, f"on the console: {json.dumps(errors, indent=1)}"
    fetched = page.run("return performance.getEntriesByType('resource').map((e) => e.name)")
    strange = [url for url in fetched if not url.startswith((page.url, "data:"))]
    assert fetched and not strange, f"asked of another host: {strange}"


@pytest.fixture
def page(door):
    """The page, for somebody who has seen the tour."""
    door.fresh(tour="seen")
    return door


def chapters_named(text):
    """The chapters of the guide that it names; each is there."""
    named = re.findall(r"docs/guide/\S+\.md", text)
    assert all((PAGE.parent / name).exists() for name in named), f"not all of these are there: {named}"
    return [Path(name).stem for name in named]


def test_the_first_visit_is_a_tour_of_five_steps_and_the_second_is_not(door):
    page = door
    page.fresh()
    for step in range(1, 6):
        assert page.data("#tour", "step") == str(step) and not page.is_hidden("#tour")
        assert f"{step} of 5" in page.text("#tour-step") and page.text("#tour-text")
        assert step == 4 or chapters_named(page.text("#tour-step")), f"step {step} names no chapter"
        assert page.run("return document.activeElement.id") == "tour-title", "the keyboard is where the tour is"
        if step == 2:
            page.click("#tour-do")
            page.wait(lambda: page.in_the_oven() or page.left(), "a pizza in the oven")
        page.click("#tour-next")
    assert page.is_hidden("#tour")
    page.load()
    assert page.is_hidden("#tour")
    page.click("#start-tour")
    assert not page.is_hidden("#tour")
    page.browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert page.is_hidden("#tour")


def test_what_is_ready_first_leaves_the_oven_first(page):
    page.press("ten")
    page.wait_answered("ten")
    placed = re.match(r"Order (\d+) \(10 pizzas\) is placed and paid", page.text("#result"))
    assert placed, "one account can pay for ten"
    ten = int(placed[1])
    page.record(".oven", "data-orders")
    page.press("one")
    page.wait(lambda: page.left()[-1:] == [ten + 1], "the small one leaves")
    assert f"Order {ten + 1} (1 pizza) left before order {ten} (10 pizzas)" in page.text("#news")
    page.wait(lambda: page.left()[-2:] == [ten + 1, ten], "the large one leaves")
    page.wait(lambda: page.in_the_oven() == [], "an empty oven")
    assert f"{ten + 1},{ten}" in page.recorded(".oven"), "both in the oven, the one that is ready first in front"


def test_a_hundred_orders_at_once_are_a_hundred_orders(page, pizzeria):
    before = pizzeria.metric("forno_requests_total")
    page.press("hundred")
    page.wait_answered("hundred")
    assert page.text("#result").startswith("100 orders placed and paid"), page.text("#result")
    assert pizzeria.metric("forno_requests_total") - before >= 104, "a hundred orders, and the accounts that pay"
    assert int(page.data("#timeline", "requests")) <= 4000


def test_a_request_is_told_in_words_with_the_names_of_its_functions(page):
    page.press("one")
    page.wait_answered("one")
    page.choose("POST /orders")
    page.wait(lambda: "202" in page.text("#detail"), "its answer")
    words = page.text("#detail")
    for part in ("bytes arrived on connection", "post_order() ran", "the database: waited", "order_placed() ran", "answered 202",
                 "1 × margherita"):
        assert part in words, f"{part!r} is missing in {words!r}"
    assert chapters_named(words) == ["05-bytes-not-messages", "07-the-query-that-blocks"]
    for function in ("post_order", "order_placed"):
        assert f"{function}(struct req *r)" in (PAGE.parent / "app" / "orders.c").read_text()


def test_the_lanes_are_seen_where_the_worker_stands_on_the_other_road(browser, start_server, shared_cluster):
    """And are not, on this one."""
    page = Page(browser, start_server(db=shared_cluster.new_database()).url + "/")
    page.fresh(tour="seen")

    def lane(name):
        return page.run("""return [...document.querySelectorAll("#lanes li")].find((li) => li.textContent.startsWith(arguments[0]))
                                     ?.dataset.state""", name)

    page.wait(lambda: lane("reads") == lane("writes 1") == lane("writes 2") == "idle", "idle lanes")
    page.go("stage/db")
    page.wait_state("stage/db")
    functions = re.search(r"grep -nE '([\w|]+)' ledger/\*\.c", page.text("#detail"))[1].split("|")
    sources = "".join(path.read_text() for path in (PAGE.parent / "ledger").glob("*.c"))
    assert "PostgreSQL" in page.text("#detail") and all(re.search(rf"^[a-z].*\b{name}\(", sources, re.MULTILINE) for name in functions)
    page.press("slow")
    page.wait(lambda: lane("slow") == "waiting", "the lane of the slow query")
    assert not page.is_hidden("#lanes") and page.text("#db-who") == "lanes"
    page.wait_answered("slow")
    page.wait(lambda: lane("slow") == "idle", "the end of the slow query")

    page = Page(browser, start_server().url + "/")
    page.fresh(tour="seen")
    assert page.is_hidden("#lanes") and page.text("#db-who") == "worker"
    browser.get("about:blank")


def test_a_blocked_loop_is_seen_while_it_stands_still_and_named_afterwards(page):
    page.press("block")
    page.wait(lambda: page.data("#stage", "loop") == "silent", "silence, while the loop is blocked")
    page.wait(lambda: page.data("#stage", "loop") == "stalled", "the stall")
    assert page.data("#stage", "stallStep") == "get_lab_block"
    assert re.search(r"stood still for 1(\.\d+)? s, in get_lab_block", page.text("#alarm")) and not page.is_hidden("#alarm")
    assert int(page.data("#stage", "stalls")) >= 1
    assert re.fullmatch(r"1(\.\d+)? s", page.number("longest")), f"right after a lap of a second, the longest is {page.number('longest')}"
    page.wait_answered("block")
    seen = page.playhead()
    page.wait(lambda: page.playhead() > seen + 2_000_000, "two seconds")
    over = page.run("return document.querySelector('[data-number=longest]').title")
    assert page.number("longest").startswith("1") and "ten seconds" in over, f"{page.number('longest')} is shown for longer than it says: {over}"


def test_pause_holds_the_moment_and_the_replay_creeps_through_it(page):
    page.wait(lambda: page.playhead() > 0, "ticks")
    early = page.playhead()
    page.press("one")
    page.wait_answered("one")
    page.wait(lambda: page.playhead() > early + 500_000, "half a second of the server's time")
    page.click("#pause")
    held = page.playhead()
    page.press("one")
    page.wait_answered("one")
    assert page.playhead() == held and page.text("#pause") == "Live"

    page.click("#lap-back")
    page.wait(lambda: page.playhead() < held, "one lap back")
    page.click("#replay")
    page.wait(lambda: page.data("#stage", "mode") == "replay", "the replay")
    at = page.playhead()
    page.wait(lambda: page.playhead() > at, "a playhead that moves")
    page.click("#replay")
    assert page.data("#stage", "mode") == "paused"

    wide = int(page.data("#timeline", "span"))
    page.click("#zoom-in")
    page.wait(lambda: int(page.data("#timeline", "span")) < wide, "a narrower window")
    page.click("#pause")
    page.wait(lambda: page.data("#stage", "mode") == "live" and page.playhead() > held, "the present")


def test_after_a_replay_the_present_is_as_wide_as_before(page):
    """A replay looks at microseconds. Live, such a window would be empty."""
    page.press("one")
    page.wait_answered("one")
    page.choose("POST /orders")
    page.wait(lambda: "202" in page.text("#detail"), "its answer")
    page.click("#zoom-in")
    page.wait(lambda: page.data("#timeline", "span") == "4000000", "a window of four seconds")
    page.click("#replay-one")
    page.wait(lambda: int(page.data("#timeline", "span")) < 1_000_000, "a narrow window")
    page.press("together")
    page.wait_answered("together")
    page.click("#pause")
    page.wait(lambda: page.data("#stage", "mode") == "live" and page.data("#timeline", "span") == "4000000", "the window as it was")
    page.wait(lambda: {"POST /accounts", "POST /orders", "GET /lab/socket?n=20&ms=300&mode=toget ×20"} <= set(page.data("#timeline", "rows").split("\n")), "its rows")


def test_both_languages_are_whole_and_the_choice_is_remembered(page):
    english = page.run("return document.body.innerText")
    page.click("#lang-pt")
    assert page.run("return document.documentElement.lang") == "pt-BR" and "atendendo você" in page.run("return document.title")
    portuguese = page.run("return document.body.innerText")
    for part in ("O loop que está atendendo você", "Pedir 10 pizzas", "Linha do tempo", "Toda requisição é registrada"):
        page.wait(lambda: part in page.run("return document.body.innerText"), part)
    titles = page.run("return [...document.querySelectorAll('[title]')].map((e) => e.title)")
    assert len(titles) > 15 and not [title for title in titles if re.search(r"\b(summed|over|since|of|wakes?)\b", title)], titles
    for part in ("Order", "Clients", "Timeline", "asleep", "undefined"):
        assert part in english or part == "undefined"
        assert part not in portuguese, f"{part!r} in the Portuguese page"
    page.load()
    assert page.run("return document.documentElement.lang") == "pt-BR"
    page.click("#lang-en")
    assert page.text("h1") == "The loop that is serving you."


def test_the_viewers_own_traffic_is_not_counted(page):
    page.wait(lambda: page.playhead() > 0, "ticks")
    page.wait(lambda: page.text("[data-number=answers]") == "0", "no answers while only the page itself is served")
    assert page.run("return document.querySelectorAll('[data-number][title]').length") == page.run(
        "return document.querySelectorAll('[data-number]').length"), "every number says where it comes from"


def test_every_control_shows_a_curl_line_that_does_the_same(page):
    lines = set()
    for control in ("one", "ten", "hundred", "slow", "together", "sequence", "block"):
        page.run("document.querySelector(`[data-control=${arguments[0]}] button`).focus()", control)
        assert "curl" in page.text("#curl") and page.url in page.text("#curl"), page.text("#curl")
        lines.add(page.text("#curl"))
    assert len(lines) == 7
    for control, pizzas in (("one", 1), ("ten", 10)):
        page.run("document.querySelector(`[data-control=${arguments[0]}] button`).focus()", control)
        shell = subprocess.run(["bash", "-c", page.text("#curl")], capture_output=True, text=True, timeout=6 * SETTLED)
        assert "HTTP/1.1 202" in shell.stdout and f'"pizzas":{pizzas},' in shell.stdout, shell
        order = int(re.search(r'"id":(\d+),"status"', shell.stdout)[1])
        # Seen while it bakes or, by a page that got no time to draw for so long, when it has left.
        page.wait(lambda: order in page.in_the_oven() + page.left(), "what curl ordered, in the oven of the page")


def test_a_request_that_goes_on_does_not_take_the_keyboard_away(page):
    """Its words are written anew as more of it is told; who stands on a button of theirs keeps it."""
    page.press("slow")
    page.choose("GET /lab/thread")
    page.run("document.getElementById('replay-one').focus()")
    page.wait(lambda: "answered 200" in page.text("#detail"), "its end")
    assert page.run("return document.activeElement.id") == "replay-one"


def test_who_cannot_pay_for_a_hundred_is_told_so(browser, start_server):
    page = Page(browser, start_server("--opening-credit", "1000").url + "/")
    page.fresh(tour="seen")
    page.press("hundred")
    page.wait_answered("hundred")
    assert re.match(r"4\d\d: ", page.text("#result")), page.text("#result")
    browser.get("about:blank")


def test_many_calls_at_once_are_one_thing_with_two_sides(page):
    page.record("[data-place=courier]", "data-tokens")
    page.record(".counts [data-number=upstream_active]")
    page.press("together")
    page.wait(lambda: max(int(tokens or 0) for tokens in page.recorded("[data-place=courier]")) > 15, "twenty calls at once (as the last one comes, the first may leave)")
    assert page.data(".oven", "tokens") == "0", "a quote is no pizza"
    page.wait_answered("together")
    assert "20" in page.recorded(".counts [data-number=upstream_active]"), "how many were out"
    page.wait(lambda: "GET /lab/socket?n=20&ms=300&mode=toget ×20" in page.data("#timeline", "rows"), "the caller's row, with its calls")
    assert "/courier/quote" not in page.data("#timeline", "rows"), "calls have no rows of their own"
    assert page.text("#courier-who") == "the courier: this very server"
    page.wait(lambda: page.data("[data-place=courier]", "tokens") == "0", "the end of all of them")

    page.choose("GET /lab/socket")
    page.wait(lambda: "20 calls out to the courier, which is this very server" in page.text("#detail"), "the calls in words")


def test_calls_in_turn_are_answered_one_at_a_time(page):
    page.record("[data-place=courier]", "data-tokens")
    page.run("fetch('/lab/socket?n=5&ms=100&mode=sequence')")
    page.wait(lambda: "GET /lab/socket?n=5&ms=100&mode=sequen ×5" in page.data("#timeline", "rows"), "the caller's row with its calls")
    page.wait(lambda: "1" in page.recorded("[data-place=courier]"), "a call, being answered")
    page.wait(lambda: [page.data(f"[data-place={place}]", "tokens") for place in ("courier", "upstream")] == ["0", "0"], "the end")
    assert not {"3", "4", "5"} & set(page.recorded("[data-place=courier]"))


def test_at_rest_the_page_sleeps_as_the_loop_does(page):
    page.run("""window.frames_ = 0; const ask = requestAnimationFrame;
                window.requestAnimationFrame = (f) => { window.frames_++; return ask(f); }""")

    def frames_in(ticks):
        before = page.run("return window.frames_"), page.playhead()
        page.wait(lambda: page.playhead() >= before[1] + ticks * 1_000_000, "time that goes by")
        return page.run("return window.frames_") - before[0]

    page.wait(lambda: page.playhead() > 0, "ticks")
    for _ in range(3):
        page.click("#zoom-in")  # a window of a second: what is behind it is not drawn
    page.wait(lambda: frames_in(2) <= 6, "rest: no more than a frame or so for each heartbeat")
    page.press("one")
    page.wait_answered("one")
    page.wait(lambda: page.run("return window.frames_") > 20, "frames again")
    page.wait(lambda: page.left(), "the pizza")
    page.run("document.documentElement.dataset.theme = 'light'")
    assert page.data("#stage", "loop") in ("asleep", "working"), "rest is not silence"


def test_a_tab_opened_while_pizzas_bake_shows_them_and_who_waits(browser, start_server):
    server = start_server("--bake-ms", "60000")
    order = server.customer().order(2).json()["id"]
    with server.connect() as sleeper:
        sleeper.ask("GET", "/lab/thread?ms=10000")
        server.wait_for_metric("forno_requests_live", lambda n: n >= 2)
        late = Page(browser, server.url + "/")
        late.fresh(tour="seen")
        late.wait(lambda: late.in_the_oven() == [order], "the pizza that was in the oven before")
        late.wait(lambda: late.data("[data-place=db]", "tokens") == "1", "the query that was at the worker's before")
        late.wait(lambda: "GET /lab/thread" in late.data("#timeline", "rows"), "its row")
        sleeper.reset()  # nobody waits for it any more
        late.wait(lambda: late.data("[data-place=db]", "tokens") == "0", "its end")
    browser.get("about:blank")


def test_eight_tabs_share_one_stream_and_each_works(page, pizzeria):
    """A browser opens six connections to a server: a stream in each tab would leave none for the seventh."""
    first = page.browser.current_window_handle
    page.run("for (const features of ['', '', '', '', '', 'popup', '']) open(location.href, '_blank', features)")
    tabs = [tab for tab in page.browser.window_handles if tab != first]
    try:
        assert len(tabs) == 7
        for tab in tabs:
            page.browser.switch_to.window(tab)
            page.wait_connected()
        wait_until(lambda: pizzeria.metric("forno_requests_live") == 2, lambda: "one stream for all, and the question")
        page.press("one")
        page.wait_answered("one")
        order = int(re.match(r"Order (\d+)", page.text("#result"))[1])
        for tab in (first, *tabs):
            page.browser.switch_to.window(tab)
            page.wait(lambda: order in page.in_the_oven() + page.left(), f"the order in tab {tab}")
            assert page.text("[data-number=stalls]") == "0", "numbers"
        page.browser.switch_to.window(first)
        page.run("location.reload()")
        page.wait_connected()
    finally:
        for tab in tabs:
            page.browser.switch_to.window(tab)
            page.browser.close()
        page.browser.switch_to.window(first)


def test_a_slow_replay_names_what_runs_and_its_steps_are_no_more_than_the_whole(page):
    page.press("one")
    page.wait_answered("one")
    page.choose("POST /orders")
    page.wait(lambda: "202" in page.text("#detail"), "its answer")
    parts = page.run("return [...document.querySelectorAll('#detail li[data-us]')].map((e) => Number(e.dataset.us))")
    assert len(parts) >= 3 and 0 < sum(parts) <= int(page.data("#detail", "us")), f"{parts} of {page.data('#detail', 'us')} us"
    page.record("#doing")
    page.click("#replay-one")
    steps = {"recv", "post_order", "hand_over", "order_placed", "send"}
    # A lap in which somebody else had the processor for 20 ms takes 200 s: it is enough that it goes on.
    while page.data("#stage", "mode") != "paused" and not steps <= set(page.recorded("#doing")):
        page.wait(lambda at=page.playhead(): page.playhead() > at or page.data("#stage", "mode") == "paused", "a playhead that moves")
    page.run("const e = document.getElementById('slowness'); e.value = 100; e.dispatchEvent(new Event('change'))")
    page.wait(lambda: page.data("#stage", "mode") == "paused", "the end of the replay", 6 * SETTLED)
    said = set(page.recorded("#doing"))
    assert steps <= said, f"the replay said {said}"
    sources = "".join(path.read_text() for path in PAGE.parent.glob("**/*.c"))
    strange = [name for name in said if not re.search(rf"\b{name}\(", sources)]
    assert not strange, f"to be found in no source: {strange}"


OVERLAPS = """
    /* Whatever a number may become: the widest that it does. */
    const widest = {answers: "99,999", laps: "694,010", asleep: "99.9 %", longest: "8.88 ms", stalls: "888",
                    connections: "888", watches: "888", db_queue: "88", upstream_active: "20", upstream_waiting: "88", baking: "100", timers: "888", ready: "20",
                    db_busy: arguments[0]};
    for (const e of document.querySelectorAll("[data-number]")) e.textContent = widest[e.dataset.number];
    document.getElementById("doing").textContent = "delivery_order_fetched";
    const boxes = [], wrong = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walker.nextNode());) {
        const e = node.parentElement, range = document.createRange();
        if (!node.textContent.trim() || !e.checkVisibility({visibilityProperty: true})) continue;
        if (e.closest("#news, #alarm, #curl, option, .skip, .sr, noscript")) continue; /* they scroll, or are meant to lie on top */
        range.selectNodeContents(node);
        for (const r of range.getClientRects()) if (r.width > 1) boxes.push({text: node.textContent.trim(), e, r, node});
    }
    for (const {text, e, r} of boxes) {
        let box = e;
        while (getComputedStyle(box).display.startsWith("inline")) box = box.parentElement;
        const b = box.getBoundingClientRect();
        if (r.left < b.left - 1 || r.right > b.right + 1) wrong.push(`${text} leaves its ${box.tagName}`);
    }
    for (const [i, a] of boxes.entries()) for (const b of boxes.slice(i + 1)) {
        if (a.node === b.node) continue;
        const w = Math.min(a.r.right, b.r.right) - Math.max(a.r.left, b.r.left);
        const h = Math.min(a.r.bottom, b.r.bottom) - Math.max(a.r.top, b.r.top);
        if (w > 1 && h > 3) wrong.push(`${a.text} runs into ${b.text}`);
    }
    if (document.documentElement.scrollWidth > innerWidth) wrong.push("the page is wider than its window");
    return wrong;
"""


@pytest.fixture
def width(door, request):
    door.tell("Emulation.setDeviceMetricsOverride", width=request.param, height=900, deviceScaleFactor=1, mobile=False)
    yield request.param
    door.tell("Emulation.clearDeviceMetricsOverride")


@pytest.mark.parametrize("language", ["en", "pt"])
@pytest.mark.parametrize("width", [1280, 1100, 768, 390], indirect=True)
def test_no_text_runs_into_another_or_out_of_its_box(door, width, language):
    page = door
    page.fresh(tour="seen", lang=language)
    page.wait(lambda: page.number("answers") != "–", "numbers")
    wrong = page.run(OVERLAPS, {"en": "busy", "pt": "ocupado"}[language])
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("width", [1280, 390], indirect=True)
def test_nothing_jumps_when_a_number_changes_its_unit(width, page):
    tops = page.run("""
        const put = (name, text) => { for (const e of document.querySelectorAll(`[data-number=${name}]`)) e.textContent = text; };
        const top = (selector) => document.querySelector(selector).getBoundingClientRect().top;
        return [["0", "0", "0 %", "9 µs", "0", "0"], ["99,999", "694,010", "99.9 %", "88.8 ms", "888", "88"]].map((values) => {
            ["answers", "laps", "asleep", "longest", "stalls"].forEach((name, i) => put(name, values[i]));
            for (const name of ["connections", "watches", "db_queue", "upstream_active", "upstream_waiting", "timers", "baking"])
                put(name, values[5]);
            return ["#stage", ".kernel h3[data-place=ready]", ".oven .room", ".upstream .room", "#controls"].map(top);
        })""")
    assert tops[0] == tops[1]


def test_without_javascript_the_page_says_what_it_is_and_invents_nothing(browser, pizzeria):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(pizzeria.url)
        text = browser.find_element("tag name", "body").text
        for part in ("needs JavaScript", "curl -N http://localhost:8000/loop/events", "precisa de JavaScript"):
            assert part in text, text
        assert not re.search(r"\b0\b", text.replace("localhost:8000", "")), f"a number that nobody has counted in {text!r}"
        assert not [e for e in browser.find_elements("tag name", "button") if e.is_displayed()], "no buttons that do nothing"
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        browser.get("about:blank")


def test_a_loop_that_spins_is_said_to_spin(browser, start_server, tmp_path, monkeypatch):
    from test_faults import FAULTY, Faults  # here, since screenshots.py does without that binary

    faults = Faults(tmp_path / "faults")
    monkeypatch.setattr(wire, "BINARY", FAULTY)
    server = start_server(env={"FORNO_FAULTS": faults.path})
    spun = Page(browser, server.url + "/")
    spun.fresh(tour="seen")
    spun.wait(lambda: spun.data("#stage", "spins") == "no", "a tick")
    faults.set("recv", every=1, error=errno.EAGAIN)  # there are bytes, and nobody takes them
    try:
        with server.connect() as client:
            client.send(b"GET / HTTP/1.1\r\n")
            spun.wait(lambda: "spins" in spun.text("#alarm") and not spun.is_hidden("#alarm"), "that it spins")
            assert spun.data("#stage", "spins") == "yes"
    finally:
        faults.clear()
    spun.wait(lambda: spun.data("#stage", "spins") == "no" and spun.is_hidden("#alarm"), "that it is over")
    browser.get("about:blank")


class HoldsBack:
    """Between browser and server, as a proxy would be. It passes everything on; what the server says, only while it is told to."""

    def __init__(self, port):
        self.target, self.listener = port, socket.create_server(("127.0.0.1", 0))
        self.url, self.passes = f"http://127.0.0.1:{self.listener.getsockname()[1]}/", threading.Event()
        self.passes.set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            for ends in ((client, server, False), (server, client, True)):
                threading.Thread(target=self.pass_on, args=ends, daemon=True).start()

    def pass_on(self, source, sink, held):
        try:
            while data := source.recv(65536):
                if held:
                    self.passes.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            sink.close()


def test_a_proxy_that_holds_back_is_not_taken_for_a_loop_that_stands_still(browser, pizzeria):
    proxy = HoldsBack(pizzeria.port)
    behind = Page(browser, proxy.url)
    behind.fresh(tour="seen")
    behind.wait(lambda: behind.data("#stage", "loop") == "asleep", "ticks")
    proxy.passes.clear()
    behind.record("#stage", "data-loop")
    behind.wait(lambda: behind.data("#stage", "loop") == "silent" and not behind.is_hidden("#alarm"), "that there is no news")
    assert re.fullmatch(r"No news for .*: the loop, or something between it and us\.", behind.text("#alarm"))
    assert behind.data("#alarm", "tone") == "puzzle"
    proxy.passes.set()
    behind.wait(lambda: behind.data("#stage", "loop") == "asleep" and behind.is_hidden("#alarm"), "news again")
    assert "stalled" not in behind.recorded("#stage") and behind.data("#stage", "stalls") == "0"
    browser.get("about:blank")
    proxy.listener.close()


def test_a_closed_lab_is_said_to_be_closed(browser, start_server):
    closed = start_server("--no-lab")
    browser.get(closed.url)
    page = Page(browser, closed.url + "/")
    page.wait(lambda: page.data("body", "connected") == "lost" and not page.is_hidden("#alarm"), "that the lab is closed")
    assert page.data("#stage", "loop") == "unknown", "what is not known is not drawn as sleep"
    page.press("block")
    page.wait(lambda: "--lab" in page.text("#result"), "that the lab is closed")
    page.click("#lang-pt")
    assert "laboratório" in page.text("#alarm") and not page.is_hidden("#alarm"), "it is closed in Portuguese, too"
    browser.get("about:blank")


def test_the_page_survives_a_restart_of_the_server(browser, start_server, tmp_path):
    began = time.monotonic()
    first = start_server()
    page = Page(browser, first.url + "/")
    page.fresh(tour="seen")
    page.press("one")
    page.wait_answered("one")
    page.choose("POST /orders")
    first.stop()
    page.wait(lambda: page.data("body", "connected") == "lost", "the loss of the connection")
    lived = time.monotonic() - began
    second = start_server("--port", str(first.port))  # its database is another, too: the page's account is gone
    with second.stopped():
        again = time.monotonic()
        wait_until(lambda: time.monotonic() - again > lived)  # older than the first has become: its clock does not tell that it is another
    page.wait(lambda: page.data("body", "connected") == "yes", "the connection to the new server")
    page.wait(lambda: "Click a request" in page.text("#detail"), "that a request of the old server is over")
    page.press("one")
    page.wait_answered("one")
    assert page.text("#result").startswith("Order 1 (1 pizza) is placed"), page.text("#result")
    browser.get("about:blank")


def test_the_timeline_leaves_the_keys_of_the_browser_to_the_browser(page):
    """Alt and left is the way back, Ctrl and plus makes everything larger, wherever the keyboard is."""
    taken = page.run("""
        const taken = (more) => !document.getElementById("timeline").dispatchEvent(new KeyboardEvent("keydown", {bubbles: true, cancelable: true, ...more}));
        return [{key: "ArrowLeft", altKey: true}, {key: "+", ctrlKey: true}, {key: "-", ctrlKey: true}, {key: "-", metaKey: true}, {key: "-"}].map(taken)""")
    assert taken == [False, False, False, False, True]


def test_a_browser_that_keeps_nothing_for_the_page_shows_it_all_the_same(door):
    """localStorage may be forbidden, and then even to look at it is an error."""
    page = door
    script = page.tell("Page.addScriptToEvaluateOnNewDocument", source="""
        Object.defineProperty(window, "localStorage", {get() { throw new DOMException("no", "SecurityError"); }})""")
    try:
        page.load()
        page.wait(lambda: not page.is_hidden("#tour"), "the tour, as always")
        for button in ("#tour-skip", "#theme", "#lang-pt"):
            page.click(button)
        assert page.is_hidden("#tour") and page.text("#lang-pt") and page.run("return document.documentElement.lang") == "pt-BR"
    finally:
        page.tell("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])


def test_every_name_of_a_button_holds_what_is_written_on_it(page):
    """So that whoever speaks to his browser can say what he sees (WCAG 2.5.3)."""
    for button in page.browser.find_elements("css selector", "button[aria-label]"):
        name, written = button.get_attribute("aria-label"), button.text
        assert not re.search(r"\w", written) or written in name, f"{written} is called {name}"


# ---------------------------------------------------------------- what one sees, in the address

PARTS = ("clients", "kernel", "loop", "db", "oven", "upstream")


def test_a_link_opens_a_part_of_the_stage_and_tells_of_it(door):
    """Even for somebody who has never been here: the tour does not lie on top of what he was sent to."""
    page = door
    page.arrive("stage/oven")
    page.wait_state("stage/oven")
    assert page.is_hidden("#tour")
    told = set()
    for part in PARTS:
        page.go(f"stage/{part}")
        page.wait_state(f"stage/{part}")
        lit = page.run("""return [...document.querySelectorAll(".place")].filter((e) => getComputedStyle(e).outlineStyle !== "none").map((e) => e.dataset.place)""")
        assert lit == [part] and page.run("return document.activeElement.hash") == f"#stage/{part}"
        words = page.text("#detail")
        assert words.startswith(page.text(f"[data-place={part}] h2 a"))
        assert page.run("const e = document.getElementById('detail'); return e.scrollWidth <= e.clientWidth"), f"{part} is wider than the panel"
        told.add(page.text("#detail p"))
        assert part == "upstream" or chapters_named(words), f"{part} names no chapter"
        functions, where = re.search(r"grep -nE '([\w|]+)' (\w+)/\*\.c", words).groups()
        sources = "".join(path.read_text() for path in (PAGE.parent / where).glob("*.c"))
        gone = [name for name in functions.split("|") if not re.search(rf"^[a-z].*\b{name}\(", sources, re.MULTILINE)]
        assert not gone, f"not in {where}/: {gone}"
    assert len(told) == len(PARTS)
    page.go("")
    page.wait_state("")
    assert "Click a request" in page.text("#detail")


def test_the_parts_of_the_stage_are_opened_by_the_keyboard(page):
    page.browser.find_element("css selector", ".oven h2 a").send_keys(Keys.ENTER)
    page.wait_state("stage/oven")
    page.browser.find_element("css selector", ".kernel h2 a").send_keys(Keys.ENTER)
    page.wait_state("stage/kernel")
    page.browser.back()
    page.wait_state("stage/oven")


def test_back_leads_to_what_one_saw_before(page):
    page.go("tour/2")
    page.wait_state("tour/2")
    page.go("stage/db&control/slow/3000")
    page.wait_state("stage/db&control/slow/3000")
    assert page.is_hidden("#tour")
    page.browser.back()
    page.wait_state("tour/2")
    assert page.data("#tour", "step") == "2" and not page.is_hidden("#tour")
    assert "ms=3000" not in page.text("#curl")
    page.browser.back()
    page.wait_state("")
    assert page.is_hidden("#tour")
    page.browser.forward()
    page.wait_state("tour/2")


def test_the_address_follows_the_reader_and_each_move_is_no_step_back(page):
    page.go("stage/kernel")
    page.wait_state("stage/kernel")
    page.go("stage/oven")
    page.wait_state("stage/oven")
    page.click("#start-tour")
    page.wait_state("tour/1&stage/oven")
    page.click("#tour-next")
    page.wait_state("tour/2&stage/oven")
    page.browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.wait_state("stage/oven")
    page.press("one")
    page.wait_answered("one")
    page.wait_state("stage/oven&control/one")
    page.choose("POST /orders")
    page.wait(lambda: "202" in page.text("#detail"), "its answer")
    page.wait(lambda: re.fullmatch(r"request/(db|run|net|queue)&control/one", page.state()), "the request, by what it waited for most")
    page.click("#replay-one")
    page.wait(lambda: page.state().startswith("replay/"), "the replay")
    page.click("#pause")
    page.wait(lambda: page.state().startswith("request/"), "the present")
    assert page.state() == page.fragment()
    page.browser.back()
    page.wait_state("stage/kernel")


def test_a_link_fills_in_a_control_and_does_not_press_it(page, pizzeria):
    page.go("control/block/300")
    page.wait_state("control/block/300")
    assert page.text("#curl") == f'curl "{page.url}lab/block?ms=300"' and "300 ms" in page.text("[data-control=block]")
    assert page.run("return document.activeElement.closest('.control').dataset.control") == "block"
    for control, path, most in (("slow", "/lab/thread?", 10000), ("sequence", "/lab/socket?n=1&", 4000), ("block", "/lab/block?", 10000)):
        page.go(f"control/{control}/{most}")
        page.wait_state(f"control/{control}/{most}")
        page.go(f"control/{control}/{most + 1}")  # it is left alone
        assert pizzeria.api("GET", f"{path}ms={most + 1}").status == 400, "the server takes more than the page"
        assert page.state() == f"control/{control}/{most}" and f"ms={most}" in page.text("#curl").replace("&", '"')
    assert not page.run("return document.querySelector('[data-control][data-running]')"), "nothing was pressed"
    page.go("control/block/20")
    page.wait_state("control/block/20")
    page.browser.switch_to.active_element.send_keys(Keys.ENTER)
    page.wait(lambda: "answered after" in page.text("#result"), "an answer, since it was pressed")


def test_who_asks_for_a_request_that_has_not_come_is_shown_the_next(page):
    page.go("request/oven&control/one")
    page.wait_state("request/oven&control/one")
    assert "oven" in page.text("#detail") and "will be told here" in page.text("#detail")
    page.press("one")
    page.wait_answered("one")
    page.wait(lambda: page.text("#detail").startswith("POST /orders"), "the order, told")
    page.wait_state("request/oven&control/one")
    page.go("replay/upstream&control/together/50")
    page.wait(lambda: "external call" in page.text("#detail"), "that nothing has been called yet")
    page.press("together")
    page.wait(lambda: page.data("#stage", "mode") == "replay", "a replay, when it is over")
    assert page.text("#detail").startswith("GET /lab/socket?n=20&ms=50")
    page.click("#pause")
    page.wait_state("request/upstream&control/together/50")


def test_a_link_may_bring_its_language_and_leaves_the_choice_alone(door):
    page = door
    page.arrive("lang/pt&stage/loop", lang="en")
    page.wait_state("lang/pt&stage/loop")
    assert page.text("h1") == "O loop que está atendendo você." and "thread" in page.text("#detail p")
    assert page.run("return localStorage.getItem('forno.lang')") == "en"
    page.go("stage/oven")
    page.wait_state("lang/pt&stage/oven")
    page.click("#lang-en")
    page.wait_state("lang/en&stage/oven")
    assert "descriptor" in page.text("#detail")
    page.arrive("lang/pt")
    page.wait_state("lang/pt&tour/1")


def test_what_the_page_does_not_know_it_leaves_alone(page):
    page.go("stage/oven")
    page.wait_state("stage/oven")
    words = page.text("#detail")
    page.run("window.heard = 0; addEventListener('hashchange', () => { window.heard++; })")  # after the page itself
    for n, unknown in enumerate(("nothing", "controls", "tour/6", "tour/0", "tour/", "stage/cellar", "stage/lanes", "request/asleep", "control/one/5", "%",
                                 "control/constructor", "control/block/10001", "control/block/-1", "lang/de", "constructor", "toString/x", "&"), 1):
        page.go(unknown)
        page.wait(lambda: page.run("return window.heard") == n, "that the page has heard of it")
        page.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
        assert (page.fragment(), page.state(), page.text("#detail")) == (unknown, "stage/oven", words)
    page.go("nothing&tour/3&stage/cellar")
    page.wait_state("tour/3")


def test_every_link_of_a_document_to_the_page_shows_a_state_that_it_has(page):
    root, links = PAGE.parent, []
    for path in sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")]):
        links += [(str(path.relative_to(root)), fragment) for fragment in docs.PAGE_STATE.findall(path.read_text())]
    assert len({fragment for _, fragment in links}) > 10
    for name, fragment in sorted(links, key=lambda link: "lang/" in link[1]):  # a language stays until there is another
        page.go(fragment)
        page.wait(lambda: page.state() == fragment, lambda: f"{name} points to #{fragment}, and the page shows {page.state()!r}")
