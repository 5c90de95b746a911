/* node page.mjs MODULES SERVER BROWSER...: the page in its states, under axe-core, and by the keyboard alone, in Chromium and Firefox.
 * `make outside` runs it. The page's own tests are tests/test_page.py; this is what others' tools make of it. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [modules, binary, ...browsers] = process.argv.slice(2);
const require = createRequire(join(modules, "x.js"));
const puppeteer = require("puppeteer-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"];
const scratch = mkdtempSync(join(tmpdir(), "forno-page-"));
let failures = 0, checked = 0;

function check(good, what) {
  checked++;
  if (good) return;
  failures++;
  console.log(`  NOT SO: ${what}`);
}

async function serve(...options) {
  const child = spawn(binary, ["--port", "0", "--db", join(scratch, `${Math.random()}.db`), "--bake-ms", "400", "--log", "off", ...options],
    { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = await once(child.stdout, "data");
  const url = String(line).match(/http:\S+/)[0];
  return { url: `${url}/`, stop: async () => { child.kill("SIGTERM"); await once(child, "exit"); } };
}

/* A visitor with these wishes, on the page and connected. */
async function visit(browser, url, { tour = "seen", width = 1280, ...stored } = {}) {
  const page = await browser.newPage();
  page.errors = [];
  page.on("console", (m) => { if (["error", "warn"].includes(m.type())) page.errors.push(m.text()); });
  page.on("pageerror", (e) => page.errors.push(String(e)));
  await page.setViewport({ width, height: 900 });
  await page.goto(url);
  await page.evaluate((wishes) => {
    localStorage.clear();
    for (const [k, v] of Object.entries(wishes)) if (v) localStorage.setItem(`forno.${k}`, v);
  }, { tour, ...stored });
  await page.goto(url);
  await page.waitForFunction(() => document.body.dataset.connected === "yes");
  return page;
}

const press = (page, name) => page.evaluate((n) => document.querySelector(`[data-control=${n}] button`).click(), name);
const answered = (page, name) => page.waitForFunction((n) => document.querySelector(`[data-control=${n}]`).dataset.running === "0", {}, name);

async function axe(page, state) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  for (const v of violations) console.log(`  ${v.id}: ${v.help}: ${v.nodes.map((n) => n.target.join(" ")).join(", ")}`);
  check(violations.length === 0, `axe has nothing against the page ${state}`);
}

async function states(browser, url) {
  for (const look of [{}, { theme: "light" }, { lang: "pt" }, { width: 390 }, { width: 390, theme: "light", lang: "pt" }]) {
    const name = JSON.stringify(look), page = await visit(browser, url, look);
    await axe(page, `at rest, ${name}`);
    for (const state of ["stage/oven", "request/upstream&control/slow/3000"]) {
      await page.evaluate((fragment) => { location.hash = fragment; }, state);
      await page.waitForFunction((fragment) => document.body.dataset.state === fragment, {}, state);
      await axe(page, `at #${state}, ${name}`);
    }
    await page.evaluate(() => history.go(-2));
    await page.waitForFunction(() => document.body.dataset.state === "");
    for (const control of ["ten", "one", "together", "slow"]) await press(page, control);
    await axe(page, `while much is going on, ${name}`);
    for (const control of ["ten", "one", "together", "slow"]) await answered(page, control);
    await page.click("#pause");
    await page.focus("#timeline");
    for (let i = 0; i < 3; i++) await page.keyboard.press("ArrowUp");
    check(await page.$eval("#detail", (e) => e.textContent.length > 40), "a request is told in words");
    await axe(page, `paused, a request told, ${name}`);
    await page.click("#replay-one");
    await axe(page, `in slow replay, ${name}`);
    check(page.errors.length === 0, `no word on the console: ${page.errors}`);
    await page.close();
  }
  const stalled = await visit(browser, url);
  await press(stalled, "block");
  await stalled.waitForSelector("#alarm:not([hidden])");
  await axe(stalled, "while the loop stands still");
  await answered(stalled, "block");
  await stalled.close();
  const newcomer = await visit(browser, url, { tour: null });
  for (let step = 1; step <= 5; step++) {
    await axe(newcomer, `at step ${step} of the tour`);
    await newcomer.click("#tour-next");
  }
  await newcomer.close();
}

async function troubles(browser) {
  const closed = await serve("--no-lab"), page = await browser.newPage();
  await page.goto(closed.url);
  await page.waitForFunction(() => document.body.dataset.connected === "lost" && !document.getElementById("alarm").hidden);
  await axe(page, "of a server whose lab is closed");
  await page.close();
  await closed.stop();
  const gone = await serve(), left = await visit(browser, gone.url);
  await gone.stop();
  await left.waitForFunction(() => document.body.dataset.connected === "lost");
  await axe(left, "whose server has left");
  await left.close();
}

/* Where the keyboard is, and whether one sees it. */
const FOCUS = () => {
  const e = document.activeElement, style = getComputedStyle(e);
  return { name: e.id || e.closest("[data-control]")?.dataset.control || e.textContent.trim() || e.tagName,
    seen: (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none", body: e === document.body };
};

async function keyboard(browser, url, newcomer = false) {
  const page = await visit(browser, url, newcomer ? { tour: null } : {});
  if (newcomer) {
    check((await page.evaluate(FOCUS)).name === "tour-title", "the keyboard begins where the tour is");
    await page.keyboard.press("Escape");
    check(await page.$eval("#tour", (e) => e.hidden), "Escape ends the tour");
    return page.close();
  }
  const wanted = await page.$$eval("a[href], button, select, [tabindex='0']", (all) =>
    all.filter((e) => e.checkVisibility() && !e.disabled).map((e) => e.id || e.closest("[data-control]")?.dataset.control || e.textContent.trim()));
  const reached = [];
  for (let i = 0; i < wanted.length + 5 && reached.length < wanted.length; i++) { /* one more, and Firefox is in its own toolbar */
    await page.keyboard.press("Tab");
    const focus = await page.evaluate(FOCUS);
    if (focus.body || reached.includes(focus.name)) break;
    check(focus.seen, `one sees that the keyboard is at ${focus.name}`);
    reached.push(focus.name);
  }
  check(wanted.every((name) => reached.includes(name)), `Tab reaches everything: not ${wanted.filter((name) => !reached.includes(name))}`);
  check(new Set(wanted).size === wanted.length, `each has a name of its own: ${wanted}`);
  check(reached[0] === "Skip to the controls", `the first is the way past the rest, not ${reached[0]}`);

  await page.focus("[data-control=one] button");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => /^Order \d+/.test(document.getElementById("result").textContent));
  await page.focus("[data-control=together] button");
  await page.keyboard.press(" ");
  await answered(page, "together");
  await page.focus("#timeline");
  await page.keyboard.press(" ");
  check(await page.$eval("#pause", (e) => e.getAttribute("aria-pressed")) === "true", "Space pauses at the timeline");
  await page.keyboard.press("ArrowUp");
  check(await page.$eval("#detail", (e) => e.textContent.length > 40), "an arrow chooses a request, which is told");
  const before = await page.$eval("#span-shown", (e) => e.textContent);
  await page.keyboard.press("+");
  await page.waitForFunction((was) => document.getElementById("span-shown").textContent !== was, {}, before);
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("stage").dataset.mode === "replay");
  await page.focus("#lang-pt");
  await page.keyboard.press("Enter");
  check(await page.$eval("html", (e) => e.lang) === "pt-BR", "the language changes by the keyboard");
  check(page.errors.length === 0, `no word on the console: ${page.errors}`);
  await page.close();
}

async function main() {
  for (const [name, path] of [["chrome", "/usr/bin/chromium"], ["firefox", "/usr/bin/firefox-esr"]]) {
    if (browsers.length && !browsers.includes(name)) continue;
    if (!existsSync(path)) { console.log(`${name}: there is no ${path}; left out`); continue; }
    const server = await serve(), before = checked;
    const browser = await puppeteer.launch({ browser: name, executablePath: path, headless: true, args: name === "chrome" ? CHROMIUM : [] });
    console.log(await browser.version());
    try {
      await states(browser, server.url);
      await troubles(browser);
      await keyboard(browser, server.url, true);
      await keyboard(browser, server.url);
    } finally {
      await browser.close();
      await server.stop();
    }
    console.log(`  ${checked - before} claims checked`);
  }
}

try {
  await main();
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
console.log(`${checked - failures} passed, ${failures} failed`);
process.exit(failures || !checked ? 1 : 0);
