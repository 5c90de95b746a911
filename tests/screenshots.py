"""screenshots.py DIRECTORY: the page in its main states, to be looked at. Not a test: what is beautiful, people have to say."""

import base64
import sys
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from test_page import CHROMIUM, DRIVER, FLAGS, Page
from wire import Server


WHOLE = 1430  # a window that shows all of the page


class Camera(Page):
    def __init__(self, directory, url, width=1280, height=800, scale=1, phone=False, light=False, still=False):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, "--hide-scrollbars", f"--user-data-dir={tempfile.mkdtemp()}"):
            options.add_argument(flag)
        super().__init__(webdriver.Chrome(options=options, service=Service(DRIVER)), url)
        self.directory = directory
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone)
        self.tell("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "light" if light else "dark"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"}])

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.browser.quit()

    def shoot(self, name):
        self.run("document.activeElement.blur()")
        (self.directory / f"{name}.png").write_bytes(base64.b64decode(self.tell("Page.captureScreenshot")["data"]))

    def visit(self, language="en"):
        self.fresh(tour="seen", lang=language)
        time.sleep(1.5)

    def make_busy(self):
        """Ten pizzas and one in the oven, twenty calls out, a slow query at the worker's, another order behind it."""
        self.press("ten")
        self.wait_answered("ten")
        self.press("one")
        time.sleep(1)
        self.press("slow")
        self.press("one")
        self.press("together")
        time.sleep(0.75)


def hero(camera):
    camera.visit()
    camera.shoot("1-idle")
    camera.make_busy()
    camera.shoot("2-busy")
    time.sleep(1.5)
    camera.press("hundred")
    camera.wait_answered("hundred")
    time.sleep(0.5)
    camera.shoot("3-hundred-orders")


def told(camera):
    """The last order, selected and near."""
    camera.visit()
    camera.make_busy()
    camera.wait_answered("slow")
    time.sleep(0.8)
    camera.run("document.getElementById('pause').click()")
    for _ in range(60):
        camera.run("document.getElementById('timeline').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowUp', bubbles: true}))")
        if "POST /orders" in camera.text("#detail"):
            break
    camera.click("#detail button")
    time.sleep(0.5)
    camera.shoot("4-request")
    camera.click("#replay-one")
    time.sleep(0.45)
    camera.shoot("5-replay")


def stalled(camera):
    camera.visit()
    camera.press("one")
    time.sleep(1)
    camera.press("block")
    time.sleep(0.8)
    camera.shoot("6-blocked")
    time.sleep(0.9)
    camera.shoot("7-stalled")


def tour(camera, name, step):
    camera.fresh()
    for _ in range(step):
        camera.click("#tour-next")
    camera.click("#tour-do")
    time.sleep(1)
    camera.shoot(name)


def busy(camera, name, language="en"):
    camera.visit(language)
    camera.make_busy()
    time.sleep(0.6)
    camera.shoot(name)


def main(directory):
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        server = Server(f"{scratch}/forno.db", f"{scratch}/log")
        url = server.url + "/"
        try:
            with Camera(directory, url) as camera:
                hero(camera)
                tour(camera, "8-tour", 2)
            with Camera(directory, url, height=WHOLE) as camera:
                told(camera)
                stalled(camera)
                busy(camera, "9-pt-BR", "pt")
            with Camera(directory, url, light=True) as camera:
                tour(camera, "10-light-tour", 1)
            with Camera(directory, url, height=WHOLE, light=True) as camera:
                busy(camera, "11-light")
            with Camera(directory, url, 390, 844, 2, phone=True) as camera:
                tour(camera, "12-phone-tour", 2)
            with Camera(directory, url, 390, 2780, 1, phone=True) as camera:
                busy(camera, "13-phone")
            with Camera(directory, url, height=WHOLE, still=True) as camera:
                busy(camera, "14-reduced-motion")
        finally:
            server.stop()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
