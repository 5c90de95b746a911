"""test_page.py: the live page, in a real browser, against the real server. What is checked is what the page says of its state
(data-… attributes, texts), not its pixels."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
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

    def load(self):
        self.browser.get(self.url)
        self.wait(lambda: self.data("body", "connected") == "yes", "the connection to /loop/events")

    def fresh(self, **stored):
        """A visitor with this and nothing else in his localStorage."""
        self.browser.get(self.url)
        self.run("localStorage.clear(); for (const [k, v] of Object.entries(arguments[0])) localStorage.setItem(k, v);",
                 {f"forno.{name}": value for name, value in stored.items()})
        self.load()

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
        wait_until(condition, lambda: f"{what}; the stage is {self.run('return {...document.getElementById(`stage`).dataset}')}", seconds)

    def wait_answered(self, control):
        self.wait(lambda: self.data(f"[data-control={control}]", "running") == "0", f"an answer to {control}")

    def left(self):
        """The orders that have left the oven, in the order in which they did."""
        return [int(order) for order in (self.data("#stage", "left") or "").split(",") if order]

    def in_the_oven(self):
        return [int(order) for order in self.data(".oven", "orders").split(",") if order]

    def playhead(self):
        return int(self.data("#stage", "playhead"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pizzeria(start_shared_server):
    """With the opening credit that visitors have, so that ten pizzas are more than one of them can pay."""
    return start_shared_server("--opening-credit", "10000", "--bake-ms", "200")


@pytest.fixture
def page(browser, pizzeria):
    """The page, for somebody who has seen the tour. Whatever a test does: no error on the console, nothing from elsewhere."""
    browser.get_log("browser")
    page = Page(browser, pizzeria.url + "/")
    page.fresh(tour="seen")
    yield page
    errors = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert not errors, f"on the console: {json.dumps(errors, indent=1)}"
    fetched = page.run("return performance.getEntriesByType('resource').map((e) => e.name)")
    strange = [url for url in fetched if not url.startswith((page.url, "data:"))]
    assert fetched and not strange, f"asked of another host: {strange}"
    browser.get("about:blank")


def test_the_first_visit_is_a_tour_of_five_steps_and_the_second_is_not(page):
    page.fresh()
    for step in range(1, 6):
        assert page.data("#tour", "step") == str(step) and not page.is_hidden("#tour")
        assert f"{step} of 5" in page.text("#tour-step") and page.text("#tour-text")
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
    assert "(10 pizzas) is placed and paid" in page.text("#result"), "friends have chipped in"
    ten = max(page.in_the_oven() or [0])
    page.wait(lambda: page.in_the_oven(), "ten pizzas in the oven")
    ten = page.in_the_oven()[0]
    page.press("one")
    page.wait(lambda: page.in_the_oven() == [ten + 1, ten], "both orders in the oven, the one that is ready first in front")
    page.wait(lambda: page.left()[-1:] == [ten + 1], "the small one leaves")
    assert f"Order {ten + 1} (1 pizza) left before order {ten} (10 pizzas)" in page.text("#news")
    page.wait(lambda: page.left()[-2:] == [ten + 1, ten], "the large one leaves")
    page.wait(lambda: page.in_the_oven() == [], "an empty oven")


def test_a_hundred_orders_at_once_are_a_hundred_orders(page, pizzeria):
    before = pizzeria.metric("forno_requests_total")
    page.press("hundred")
    page.wait_answered("hundred")
    assert page.text("#result").startswith("100 orders placed and paid"), page.text("#result")
    assert pizzeria.metric("forno_requests_total") - before >= 150
    assert int(page.data("#timeline", "requests")) <= 4000


def test_a_request_is_told_in_words_with_the_names_of_its_functions(page):
    page.press("one")
    page.wait_answered("one")
    timeline = page.browser.find_element("id", "timeline")

    def told():
        timeline.send_keys(Keys.ARROW_UP if page.data("#timeline", "selected") else Keys.ARROW_DOWN)
        return "POST /orders" in page.text("#detail h3, #detail p")

    page.wait(told, "POST /orders among the requests")
    page.wait(lambda: "202" in page.text("#detail"), "its answer")
    words = page.text("#detail")
    for part in ("bytes arrived on connection", "post_order() ran", "the database worker: waited", "order_placed() ran", "answered 202",
                 "1 × margherita"):
        assert part in words, f"{part!r} is missing in {words!r}"
    for function in ("post_order", "order_placed"):
        assert f"{function}(struct req *r)" in (PAGE.parent / "app" / "orders.c").read_text()


def test_a_blocked_loop_is_seen_while_it_stands_still_and_named_afterwards(page):
    page.press("block")
    page.wait(lambda: page.data("#stage", "loop") == "silent", "silence, while the loop is blocked")
    page.wait(lambda: page.data("#stage", "loop") == "stalled", "the stall")
    assert page.data("#stage", "stallStep") == "get_lab_block"
    assert "get_lab_block" in page.text("#alarm") and "1 s" in page.text("#alarm") and not page.is_hidden("#alarm")
    assert int(page.data("#stage", "stalls")) >= 1
    page.wait_answered("block")


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


def test_both_languages_are_whole_and_the_choice_is_remembered(page):
    english = page.run("return document.body.innerText")
    page.click("#lang-pt")
    assert page.run("return document.documentElement.lang") == "pt-BR"
    portuguese = page.run("return document.body.innerText")
    for part in ("O loop que está atendendo você", "Pedir 10 pizzas", "Linha do tempo", "Toda requisição é registrada"):
        page.wait(lambda: part in page.run("return document.body.innerText"), part)
    for part in ("Order", "Clients", "Timeline", "asleep", "undefined"):
        assert part in english or part == "undefined"
        assert part not in portuguese, f"{part!r} in the Portuguese page"
    page.load()
    assert page.run("return document.documentElement.lang") == "pt-BR"
    page.click("#lang-en")
    assert page.text("h1") == "The loop that is serving you."


def test_the_viewers_own_traffic_is_not_counted(page):
    page.load()
    page.wait(lambda: page.playhead() > 0, "ticks")
    page.wait(lambda: page.text("[data-number=answers]") == "0", "no answers while only the page itself is served")
    assert page.run("return document.querySelectorAll('[data-number][title]').length") == page.run(
        "return document.querySelectorAll('[data-number]').length"), "every number says where it comes from"


def test_every_control_shows_a_curl_line_that_does_the_same(page):
    for control in ("one", "ten", "hundred", "slow", "together", "sequence", "block"):
        page.run("document.querySelector(`[data-control=${arguments[0]}] button`).focus()", control)
        assert "curl" in page.text("#curl") and page.url in page.text("#curl"), page.text("#curl")
    for control, pizzas in (("one", 1), ("ten", 10)):
        page.run("document.querySelector(`[data-control=${arguments[0]}] button`).focus()", control)
        shell = subprocess.run(["bash", "-c", page.text("#curl")], capture_output=True, text=True, timeout=SETTLED)
        assert "HTTP/1.1 202" in shell.stdout and f'"pizzas":{pizzas}' in shell.stdout, shell
    page.wait(lambda: len(page.in_the_oven()) >= 1, "what curl ordered, in the oven of the page")


def test_a_closed_lab_is_said_to_be_closed(browser, start_server):
    closed = start_server("--no-lab")
    browser.get(closed.url)
    page = Page(browser, closed.url + "/")
    page.wait(lambda: page.data("body", "connected") == "lost" and not page.is_hidden("#alarm"), "that the lab is closed")
    assert page.data("#stage", "loop") == "unknown", "what is not known is not drawn as sleep"
    page.press("block")
    page.wait(lambda: "--lab" in page.text("#result"), "that the lab is closed")
    browser.get("about:blank")


def test_the_page_survives_a_restart_of_the_server(browser, start_server, tmp_path):
    first = start_server()
    page = Page(browser, first.url + "/")
    page.fresh(tour="seen")
    first.stop()
    page.wait(lambda: page.data("body", "connected") == "lost", "the loss of the connection")
    start_server("--port", str(first.port))
    page.wait(lambda: page.data("body", "connected") == "yes", "the connection to the new server")
    page.press("one")
    page.wait_answered("one")
    browser.get("about:blank")


def test_what_comes_from_the_server_gets_into_the_page_as_text_only():
    script = "".join(file.read_text() for file in PAGE.glob("*.js"))
    for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert danger not in script
