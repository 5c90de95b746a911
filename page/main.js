/* main.js: the page put together: its languages, what comes from the server, its theme, its buttons, its frames.
 *
 * The loop, as the loop tells it. The page reads GET /loop/events and nothing else; it draws what it reads, and orders pizzas like any
 * other customer. What comes from the server gets into it as text, never as HTML. */

import { $, all, count, framesBegin, wake } from "./tools.js";
import { addressBegin, addressHeed, addressShow } from "./address.js";
import { SILENCE_MS, connection, connectionSay, heardNow, listen, overdue } from "./connection.js";
import { controlsMake, controlsSpeak, resultSay } from "./controls.js";
import { detailShow, detailStale, select } from "./detail.js";
import { chipsFade, chipsLit, doingSay, loopTurned, numbersShow, saysSomething, spinNote, stallNote } from "./doing.js";
import { alarm, alarmHide, alarmShow, newsAdd, newsSpeak } from "./news.js";
import { liveAgain, pause, play, playSet, playSpeak, playheadMove, playheadPassed, replayFrom, stepLap, view, zoom } from "./playhead.js";
import { hello, helloHeed, helloTake, isNews, lastSeen, ordersBaking, rec, recordingForget, stalls, tickTake } from "./recording.js";
import { benchDraw, callsDraw, clientsDraw, discsForget, discsMoving, ovenDraw, pathsDraw, ringDraw } from "./scenery.js";
import { colorsRead, paper, placeOf, ring, stage, stageFit, stageMeasure } from "./stage.js";
import { chart, handsOn, legendDraw, patternsMake, rows, rowsForget, timelineDraw } from "./timeline.js";
import { callsSeen, tokenDraw, tokenOf, tokenPass, tokenUnder, tokens, tokensMove, tokensMoving, tokensPlace } from "./tokens.js";
import { tourBegin, tourPlace, tourShow } from "./tour.js";
import { PAGE_PT, T, choose, keep, lang, recall } from "./words.js";

/* ---- the two languages ---- */

/* Every text of index.html and every attribute that is text: [element, attribute or null, key, what it is in English]. */
const pageTexts = all("*").flatMap((e) => [...e.attributes]
  .filter((a) => a.name === "data-t" || (a.name.startsWith("data-") && a.name.endsWith("-t")))
  .map((a) => [e, a.name === "data-t" ? null : a.name.slice(5, -2), a.value])
  .map(([e, attribute, key]) => [e, attribute, key, attribute ? e.getAttribute(attribute) : [...e.childNodes]]));

function speak(language) {
  choose(language);
  document.documentElement.lang = lang === "pt" ? "pt-BR" : "en";
  for (const [e, attribute, key, english] of pageTexts) {
    if (attribute) e.setAttribute(attribute, lang === "pt" ? PAGE_PT[key] : english);
    else e.replaceChildren(...(lang === "pt" ? [PAGE_PT[key]] : english));
  }
  for (const name of ["en", "pt"]) $(`lang-${name}`).setAttribute("aria-pressed", name === lang);
  controlsSpeak();
  legendDraw();
  detailShow();
  tourShow();
  playSpeak();
  connectionSay(connection.state);
  for (const option of $("slowness").options) option.textContent = `÷ ${count(option.value)}`;
  newsSpeak();
  if (connection.state === "closed") closedSay();
  resultSay("");
  doingSay(performance.now());
  numbersShow(callsSeen());
}

function languageChoose(language) {
  keep("lang", language);
  speak(language);
  stageMeasure();
}

/* ---- what comes from /loop/events, given to whom it concerns ---- */

function streamTold(kind, data) {
  if (kind === "tick") return tickTold(data);
  if (kind === "hello") {
    helloTake(data);
    if (view.part) detailShow(); /* now we know which road it is */
  }
  if (kind === "closed") closedSay();
  else alarmHide();
  wake();
}

const closedSay = () => alarmShow(T.labClosed, Infinity);

function forget() {
  recordingForget();
  rowsForget();
  select(null, view.part, view.selected ? null : view.asked);
  liveAgain();
  newsAdd(() => T.restarted, false, 2);
}

function tickTold(tick) {
  if (connection.state !== "live") return; /* before the hello */
  const another = heardNow(tick.at_us), previous = rec.ticks.at(-1);
  if (another || tick.at_us < rec.latest) forget();
  for (const [r, kind] of helloHeed()) {
    const token = play.mode === "live" && tokenOf(r, placeOf(r, kind));
    if (token) token.kind = kind;
  }
  const { moves, gone } = tickTake(tick), stalled = moves.filter((m) => m.kind === "sleep" && stalls(m.value));
  play.next -= gone;
  for (const m of stalled) stallNote(m.value, m.name);
  if (tick.stalls && !stalled.length) stallNote(tick.longest_lap_us, "");
  spinNote(tick);
  if (play.mode === "live" && play.at >= previous?.at_us && !moves.some(isNews)) play.at = tick.at_us; /* nothing to be seen */
  $("timeline").dataset.requests = rec.requests.size;
  stage.dataset.stalls = rec.stalls;
  stage.dataset.left = rec.left.join(",");
  if (play.mode === "live") numbersShow(callsSeen());
  addressHeed();
  if (tick.next_ms > hello.tick_ms || moves.some(isNews)) wake(); /* else the nap ends soon enough */
}

/* ---- dark or light ---- */

const systemLight = matchMedia("(prefers-color-scheme: light)");

function themeSet(theme) {
  wake();
  if (theme) document.documentElement.dataset.theme = theme;
  colorsRead();
  patternsMake();
}

function themeTurn() {
  const now = document.documentElement.dataset.theme ?? (systemLight.matches ? "light" : "dark"), other = now === "light" ? "dark" : "light";
  keep("theme", other);
  themeSet(other);
}

/* ---- buttons ---- */

function buttonsWire() {
  const clicks = {
    pause: () => (play.mode === "live" ? pause() : liveAgain()),
    replay: () => (play.mode === "replay" ? playSet("paused") : replayFrom()),
    "lap-back": () => lapShow(-1),
    "lap-on": () => lapShow(1),
    "zoom-in": () => zoom(0.5),
    "zoom-out": () => zoom(2),
    theme: themeTurn,
    "lang-en": () => languageChoose("en"),
    "lang-pt": () => languageChoose("pt"),
  };
  for (const [id, act] of Object.entries(clicks)) $(id).addEventListener("click", act);
  $("slowness").addEventListener("change", (e) => { play.slowness = Number(e.target.value); });
  paper.addEventListener("click", (e) => {
    const hit = tokenUnder(e.offsetX, e.offsetY);
    if (hit) select(hit.r);
  });
  /* A page that the browser keeps for the way back would keep its stream too, and a browser opens only six connections. */
  addEventListener("pagehide", () => connection.close());
  addEventListener("pageshow", (e) => { if (e.persisted) listen(streamTold); });
  systemLight.addEventListener("change", () => themeSet());
  new ResizeObserver(() => { stageMeasure(); tourPlace(); wake(); }).observe(stage);
  for (const touch of ["click", "keydown", "pointerdown", "pointermove", "wheel", "change", "resize", "visibilitychange"])
    addEventListener(touch, () => wake(), { capture: true, passive: true });
}

function lapShow(direction) {
  const lap = stepLap(direction);
  if (lap) loopTurned(lap);
}

/* ---- frames ---- */

let lastWords = 0;

/* In how many ms something will have moved: see framesBegin(). */
function stillFor(now) {
  const live = play.mode === "live", visible = (r) => lastSeen(r) > view.to - view.span;
  if (play.mode === "replay" || ring.due > 0 || ring.heat > 0 || (live && rec.moves.slice(play.next).some(isNews))) return 0;
  if (tokensMoving(now) || discsMoving()) return 0;
  if (live && (ordersBaking(play.at).length || rows.visible.some(visible) || tokens.size || saysSomething(now))) return 90;
  if ((alarm.until && alarm.until < Infinity) || chipsLit()) return 100;
  if (!live || connection.state !== "live") return Infinity;
  return stage.dataset.loop === "silent" ? 100 : Math.max(60, SILENCE_MS - hello.tick_ms - overdue(now) + 20);
}

function stageDraw(now, ms) {
  stageFit();
  pathsDraw();
  clientsDraw();
  benchDraw();
  ovenDraw(now, play.at);
  callsDraw();
  ringDraw(now, ms);
  for (const token of tokens.values()) if (token.x !== null) tokenDraw(token, now);
  chipsFade(now);
  if (alarm.until && now > alarm.until) alarmHide();
}

function draw(now, ms) {
  playheadMove(now, ms);
  const passed = playheadPassed();
  if (passed) passed.forEach(tokenPass);
  else {
    tokensPlace(play.at);
    discsForget();
  }
  tokensMove(now);
  stageDraw(now, ms);
  timelineDraw(ms);
  const still = stillFor(now);
  if (now - lastWords > 90 || still || play.mode === "replay") wordsShow(now); /* words ten times a second are enough */
  return still;
}

function wordsShow(now) {
  lastWords = now;
  doingSay(now);
  if (play.mode !== "live") numbersShow(0);
  if (detailStale()) detailShow();
  addressShow();
  stage.dataset.playhead = Math.round(play.at);
  chart.dataset.span = Math.round(view.span);
  chart.dataset.rows = rows.visible.map((r) => (r.calls.length ? `${r.head} ×${r.calls.length}` : r.head)).join("\n");
}

/* ---- the start ---- */

controlsMake();
themeSet(recall("theme"));
speak(lang);
buttonsWire();
handsOn();
stageMeasure();
listen(streamTold);
framesBegin(draw);
tourBegin(addressBegin(speak));
