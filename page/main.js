/* main.js: the loop, as the loop tells it. Reads GET /loop/events and nothing else; draws what it reads; orders pizzas like any
 * other customer. What comes from the server gets into the page as text, never as HTML. It sleeps as the loop does: frame() is
 * called for as long as something moves, and then not until something comes.
 *
 * The one thing that is subtle is time. The server's laps last microseconds, the screen's frames 16 ms, so the page has a clock of
 * its own, the playhead: a moment of the *server's* time. Live it follows the server closely; paused it stands; in a slow replay it
 * creeps while the loop works and leaps while the loop sleeps. The stage and the timeline show the moment that it points to. */

import { streamOpen } from "./stream.js";
import { PAGE_PT, T, choose, lang, pizzas } from "./words.js";

const $ = (id) => document.getElementById(id);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

function element(tag, text = "", attributes = {}) {
  const e = document.createElement(tag);
  e.textContent = text;
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  return e;
}

/* ---- the two languages ------------------------------------------------------------------------------------------------------ */

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
  for (const item of $("news").children) item.textContent = item.say();
  resultSay("");
  alarmHide();
  $("courier-who").textContent = hello.own_courier ? T.courierSelf : T.courierOther;
  sayWhatTheLoopDoes(performance.now());
  numbersShow();
}

/* ---- numbers in words ------------------------------------------------------------------------------------------------------- */

const locale = () => (lang === "pt" ? "pt-BR" : "en-US");
const count = (n) => Number(n).toLocaleString(locale());
const decimals = (x, digits) => x.toLocaleString(locale(), { maximumFractionDigits: digits });

function duration(us) {
  if (us < 1000) return `${decimals(us, 0)} µs`;
  if (us < 1e6) return `${decimals(us / 1000, us < 1e4 ? 2 : us < 1e5 ? 1 : 0)} ms`;
  return `${decimals(us / 1e6, us < 1e7 ? 2 : 1)} s`;
}

/* ---- the recording: what the server told, for as long as it fits ------------------------------------------------------------- */

/* Bounds, so that a page left open for hours stays as small as it was after a minute. */
const KEPT = { moves: 40000, requests: 4000, laps: 10000, ticks: 1200, orders: 3000, segments: 120, notes: 160 };

const rec = { moves: [], requests: new Map(), orders: new Map(), laps: [], ticks: [], latest: 0 };
let hello = { tick_ms: 100, stall_ms: 50, conn: 0, own_courier: true };
let lapOpen = null, bakeOpen = [], stallsSeen = 0;

function recordingForget() {
  rec.moves = []; rec.laps = []; rec.ticks = []; rec.latest = 0;
  rec.requests.clear(); rec.orders.clear(); callers.clear();
  lapOpen = null; bakeOpen = []; stallsSeen = 0;
  rows.shown = []; rows.arriving = []; rows.selected = null;
  stageForget();
}

/* A span as it grows: what it did and when, and what it does now (`open`). */
function requestOf(number, at, begins) {
  let r = rec.requests.get(number);
  if (!r) {
    r = { number, conn: 0, own: false, head: "", status: 0, from: at, to: at, began: begins, done: false, mark: at, open: null, next: null,
          segments: [], notes: [], orders: [], calls: [], caller: null, quote: false, queued: 0, doubt: false };
    rec.requests.set(number, r);
    rows.arriving.push(r);
    trimMap(rec.requests, KEPT.requests);
  }
  r.to = Math.max(r.to, at);
  return r;
}

function trimMap(map, most) {
  for (const key of map.keys()) {
    if (map.size <= most) return;
    map.delete(key);
  }
}

/* Arrays are cut in bulk: shifting one at a time would move the rest each time. */
function trimArray(array, most) {
  return array.length > most * 1.25 ? array.splice(0, array.length - most).length : 0;
}

function segment(r, kind, from, to, name = "") {
  if (r.segments.length >= KEPT.segments) r.segments.splice(0, 20);
  r.segments.push({ kind, from, to: Math.max(from, to), name });
}

function openClose(r, at) {
  if (!r.open) return;
  const { kind, from } = r.open, queued = kind === "db" ? Math.min(r.queued, at - from) : 0;
  if (queued > 0) segment(r, "queue", from, from + queued);
  segment(r, kind, from + queued, at);
  r.open = null;
  r.queued = 0;
  callers.delete(r);
}

/* The courier is this very server: the calls that somebody waits for come back in as requests, and stay with him who made them. */
const callers = new Set();

function headTell(r, head) {
  r.head = head;
  r.quote = head.startsWith("GET /courier/quote");
  if (!r.quote || !hello.own_courier) return;
  r.caller = [...callers].at(-1) ?? null;
  r.caller?.calls.push(r);
}

function orderIn(id, what, from, due) {
  const order = { id, what, pizzas: parseInt(what, 10) || 1, from, due, to: Infinity };
  rec.orders.set(id, order);
  trimMap(rec.orders, KEPT.orders);
  return order;
}

/* --stall-ms 0: nothing is called a stall. */
const stalls = (us) => hello.stall_ms > 0 && us >= hello.stall_ms * 1000;

/* One record of the server: [at_us, kind, req, conn, name, value]. */
const take = {
  woke(m) { m.lap = lapOpen = { from: m.at, to: m.at, slept: m.value, ready: m.req, readies: [], own: true, step: "" }; },
  ready(m) {
    if (!lapOpen) return;
    m.lap = lapOpen;
    if (lapOpen.readies.length < 5) lapOpen.readies.push([m.conn, m.name, m.value]);
    if (m.name !== "timerfd" && m.name !== "connection") lapOpen.own = false;
  },
  sleep(m) {
    const from = m.at - m.value, told = lapOpen && Math.abs(lapOpen.from - from) < 2000; /* else its beginning was skipped */
    const lap = told ? lapOpen : { from, slept: 0, ready: 0, readies: [], own: false };
    lap.to = m.at;
    lap.step = m.name;
    rec.laps.push(lap);
    m.lap = lap;
    lapOpen = null;
    if (stalls(m.value)) stallNote(m.value, m.name);
  },
  accept() {},
  bytes(m, r) {
    r.conn = m.conn;
    r.own ||= m.conn === hello.conn;
    if (!r.segments.length && !r.open) r.open = { kind: "net", from: m.at };
  },
  head(m, r) { headTell(r, m.name); r.own ||= m.value === 1; },
  wait(m, r) { /* open: the step that begins it is not yet told */
    r[r.open ? "next" : "open"] = { kind: m.name, from: m.at };
    if (m.name === "upstream") callers.add(r);
  },
  /* The record comes when the step ends. It began `value` ago, but not before what woke it. */
  step(m, r) {
    m.t = Math.max(m.at - m.value, Math.min(r.mark, m.at));
    m.took = m.at - m.t; /* the lap's work before it belongs to no request */
    openClose(r, m.t);
    segment(r, "run", m.t, m.at, m.name);
    r.open = r.next;
    r.next = null;
    r.orders.push(...bakeOpen.filter((o) => o.from >= m.t && o.from <= m.at)); /* the step of an unrecorded request bakes, too */
    bakeOpen = [];
    if (r.status) requestEnd(r);
  },
  queued(m, r) { r.queued = m.value; },
  woken(m, r) {
    r.open ??= r.next ?? { kind: m.name, from: Math.min(m.at, Math.max(m.at - m.value, r.began ? r.from : 0)) };
    r.from = Math.min(r.from, r.open.from);
    r.next = null;
    m.took = m.at - r.open.from;
    m.queued = Math.min(r.queued, m.took);
    openClose(r, m.at);
  },
  answer(m, r) {
    r.status = m.value;
    if (m.conn) lastAnswer.set(m.conn, r);
    trimMap(lastAnswer, 500);
    if (!r.open) requestEnd(r);
  },
  discarded(m, r) {
    r.discarded = true;
    take.answer(m, r);
  },
  flushed(m) {
    const r = lastAnswer.get(m.conn);
    if (!r) return;
    note(r, m);
    if (r.done && m.at > r.to && m.at - r.to < 1e6) { segment(r, "net", r.to, m.at); r.to = m.at; }
    lastAnswer.delete(m.conn);
  },
  bake(m) {
    const order = orderIn(m.req, m.name, m.at, m.at + m.value * 1000);
    bakeOpen.push(order);
    newsAdd(() => T.in(order.id, order.pizzas), false, 0);
  },
  baked(m) {
    const order = rec.orders.get(m.req);
    if (order) order.to = m.at;
    const slower = order && [...rec.orders.values()].find((o) => o.id < m.req && o.to === Infinity && o.pizzas > order.pizzas);
    newsAdd(() => (slower ? T.passed(m.req, order.pizzas, slower.id, slower.pizzas) : T.left(m.req, order?.pizzas)), false, slower ? 2 : 1);
    ordersLeft.push(m.req);
    if (ordersLeft.length > 200) ordersLeft.splice(0, 100);
    stage.dataset.left = ordersLeft.join(",");
  },
  "taken back"(m) {
    const order = rec.orders.get(m.req);
    if (order) { order.to = m.at; order.taken = true; }
    newsAdd(() => T.taken(m.req), true, 1);
  },
};
const lastAnswer = new Map(), ordersLeft = [];
const OF_REQUESTS = new Set(["bytes", "head", "step", "wait", "queued", "woken", "answer", "discarded"]);
const WAKES = new Set(["bytes", "head", "woken"]);

function note(r, m) {
  if (r.notes.length < KEPT.notes) r.notes.push(m);
}

function requestEnd(r) {
  r.done = true;
  callers.delete(r);
  r.open = r.next = null;
  if (r.discarded) newsAdd(() => T.discarded(r.number), true, 2);
}

function takeRecord([at, kind, req, conn, name, value]) {
  const m = { t: at, at, kind, req, conn, name, value };
  if (!Object.hasOwn(take, kind)) return null; /* a newer server may tell more than we know */
  const r = OF_REQUESTS.has(kind) && req ? requestOf(req, at, kind === "bytes") : null;
  if (OF_REQUESTS.has(kind) && !r) return null;
  if (r) {
    note(r, m);
    r.doubt = false;
    m.span = r;
  }
  take[kind](m, r);
  if (r && WAKES.has(kind)) r.mark = at;
  if (lapOpen && (r ? !r.own : kind === "baked")) lapOpen.own = false;
  return m;
}

/* What is missing may have been the end of any of them. */
function doubtAll() {
  for (const r of rec.requests.values()) {
    if (r.status) r.done = true;
    else if (!r.done) r.doubt = true;
  }
  lapOpen = null;
}

/* Who comes in the midst of it is told what bakes and who waits; what is not among it has ended meanwhile. */
function takeHello() {
  const { baking, alive } = hello, ids = new Set(baking.map(([id]) => id));
  hello.news = false;
  for (const o of rec.orders.values()) if (o.to === Infinity && !ids.has(o.id)) o.to = Math.min(o.due, rec.latest);
  for (const [id, what, from, due] of baking) if (!rec.orders.has(id)) orderIn(id, what, from, due);
  for (const [number, conn, head, kind, since] of alive) {
    const r = requestOf(number, since, false);
    Object.assign(r, { conn, doubt: false, mark: since });
    r.open ??= { kind, from: since };
    if (kind === "upstream") callers.add(r);
    if (!r.head) headTell(r, head);
    const token = play.mode === "live" && tokenOf(r, placeOf(r, kind));
    if (token) token.kind = kind;
  }
}

const isNews = (m) => !m.lap?.own; /* and not a lap in which the loop only told us */

function takeTick(tick) {
  if (connection.state !== "live") return; /* before the hello */
  const heard = performance.now(), aheadMs = heard - tick.at_us / 1000; /* of our clock before the server's */
  if (tick.at_us < rec.latest || Math.abs(aheadMs - connection.before) > 5000) { /* another server, or the same one started again */
    recordingForget();
    liveAgain();
    newsAdd(() => T.restarted, false, 2);
  }
  if (hello.news) takeHello();
  if (tick.skipped) doubtAll();
  const moves = [];
  for (const record of tick.records) {
    const m = takeRecord(record);
    if (m) moves.push(m);
  }
  moves.sort((a, b) => a.t - b.t); /* stable: what shares a moment keeps its order */
  for (const m of moves) rec.moves.push(m);
  play.next -= trimArray(rec.moves, KEPT.moves);
  trimArray(rec.laps, KEPT.laps);
  const previous = rec.ticks.at(-1);
  tick.from = tick.at_us - tick.worked_us - tick.slept_us;
  if (previous && tick.from < previous.at_us) tick.from = previous.at_us;
  tick.told = moves.some((m) => m.kind === "sleep" && stalls(m.value));
  tick.records = null;
  rec.ticks.push(tick);
  trimArray(rec.ticks, KEPT.ticks);
  rec.latest = tick.at_us;
  if (tick.skipped) doubtAll(); /* what is missing may lie before these records or behind them */
  stallsSeen += tick.stalls;
  if (tick.stalls && !tick.told) stallNote(tick.longest_lap_us, "");
  spinNote(tick);
  connection.before = NaN; /* only the first tick of a connection is compared */
  connection.heard = heard;
  connection.offset = Math.max(aheadMs - 400, Math.min(connection.offset + 0.2, aheadMs)); /* the quickest ticks tell it best */
  if (play.mode === "live" && play.at >= previous?.at_us && !moves.some(isNews)) play.at = tick.at_us; /* nothing to be seen */
  $("timeline").dataset.requests = rec.requests.size;
  stage.dataset.stalls = stallsSeen;
  if (play.mode === "live") numbersShow();
  if (tick.next_ms > hello.tick_ms || moves.some(isNews)) wake(); /* else the nap ends soon enough */
}

/* ---- the connection to /loop/events ------------------------------------------------------------------------------------------- */

const connection = { state: "connecting", heard: 0, offset: Infinity, before: NaN };

function connectionSay(state) {
  connection.state = state;
  document.body.dataset.connected = state === "live" ? "yes" : state === "connecting" ? "no" : "lost";
  $("connection").lastElementChild.textContent = state === "live" ? `${T.live} · ${hello.version ?? "forno"}${hello.blocking ? " --blocking" : ""}` : T[state];
}

function listen() {
  connection.close = streamOpen((kind, data) => {
    if (kind === "tick") return takeTick(data);
    if (kind === "hello") {
      hello = { ...data, news: true };
      connection.before = connection.offset === Infinity ? NaN : connection.offset;
      connection.offset = Infinity;
      connection.heard = performance.now();
      doubtAll();
      $("courier-who").textContent = hello.own_courier ? T.courierSelf : T.courierOther;
      $("self").classList.toggle("no", !hello.own_courier);
    }
    if (kind === "lost" && connection.state === "bye") return; /* that it would leave was said */
    connectionSay(kind === "hello" ? "live" : kind);
    if (kind === "closed") alarmShow(T.labClosed, Infinity);
    else alarmHide();
    wake();
  });
}

/* How long overdue the next word is, in ms: a tick says when the next one comes, and whoever asks for something is told of it. */
function overdue(now) {
  const next = connection.heard + (rec.ticks.at(-1)?.next_ms ?? hello.tick_ms);
  return now - (asking.out ? Math.min(next, Math.max(asking.since, connection.heard) + hello.tick_ms) : next);
}

/* ---- the playhead --------------------------------------------------------------------------------------------------------------- */

const play = { mode: "live", at: 0, next: 0, slowness: 10000, until: Infinity };
const LIVE_DELAY_MS = 60;     /* behind the newest tick, so that the next one arrives before we run dry */
const LEAP_MS = 450;          /* a sleep in slow replay, however long it was */

const firstAfter = (array, key, t) => {
  let low = 0, high = array.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (array[middle][key] > t) high = middle; else low = middle + 1;
  }
  return low;
};
const lapAt = (t) => { const lap = rec.laps[firstAfter(rec.laps, "from", t) - 1]; return lap && t < lap.to ? lap : null; };
const lapAfter = (t) => rec.laps[firstAfter(rec.laps, "from", t)];
const tickAt = (t) => rec.ticks[Math.min(firstAfter(rec.ticks, "at_us", t), rec.ticks.length - 1)];

function playheadMove(now, ms) {
  if (play.mode === "live") {
    const wanted = (now - connection.offset - hello.tick_ms - LIVE_DELAY_MS) * 1000;
    if (rec.latest) play.at = clamp(wanted, play.at, rec.latest);
  } else if (play.mode === "replay") {
    const here = lapAt(play.at), lap = here?.own ? null : here, end = Math.min(rec.latest, play.until);
    if (lap) play.at = Math.min(lap.to, play.at + ms * 1000 / play.slowness);
    else {
      let next = firstAfter(rec.laps, "from", play.at);
      while (rec.laps[next]?.own) next++; /* what is only our watching is slept through */
      const to = Math.min(rec.laps[next]?.from ?? end, end);
      play.leap = play.leap?.to === to ? play.leap : { to, length: to - play.at };
      play.at = Math.min(to, play.at + Math.max(ms * 1000 / play.slowness, play.leap.length * ms / LEAP_MS));
    }
    if (play.at >= end) playSet("paused");
  }
}

/* Hand over to the stage what the playhead has passed. Too much at once (a tab that was in the background, or 50,000 requests a
 * second) is not played but looked up: detail is dropped rather than frames. */
function playheadPass() {
  const to = firstAfter(rec.moves, "t", play.at);
  if (play.next < 0 || to - play.next > 1500) stagePlace(play.at);
  else for (let i = play.next; i < to; i++) stageMove(rec.moves[i]);
  play.next = to;
}

function playSet(mode) {
  if (mode === play.mode) return;
  play.mode = mode;
  wake();
  if (mode !== "live") { alarmHide(); rows.stale = true; }
  playSpeak();
}

function playSpeak() {
  stage.dataset.mode = play.mode;
  stage.dataset.playhead = Math.round(play.at);
  $("pause").textContent = play.mode === "live" ? T.pause : T.resume;
  $("pause").setAttribute("aria-pressed", play.mode !== "live");
  $("replay").textContent = play.mode === "replay" ? T.stop : T.replay;
}

function pause() {
  if (play.mode === "live") view.to = play.at;
  playSet("paused");
}

function liveAgain() {
  playSet("live");
  play.until = Infinity;
  play.at = rec.latest ? Math.max(0, rec.latest - hello.tick_ms * 1000) : 0;
  view.scroll = 0;
  rows.shown = rows.shown.slice(-ROWS_KEPT);
  stagePlace(play.at);
  play.next = firstAfter(rec.moves, "t", play.at);
}

function seek(t) {
  play.at = clamp(t, rec.moves[0]?.t ?? 0, rec.latest);
  play.leap = null;
  stagePlace(play.at);
  play.next = firstAfter(rec.moves, "t", play.at);
  if (play.at < view.to - view.span || play.at > view.to) view.to = play.at + view.span * 0.6;
}

/* From a moment; or from where the playhead stands; or, when it stands at the end, from the last request that has been told whole. */
function replayFrom(from, until = Infinity) {
  const atEnd = play.mode === "live" || play.at >= rec.latest;
  from ??= atEnd ? ([...rec.requests.values()].findLast((r) => !r.own && r.done && r.began)?.from ?? rec.latest - 2e6) - 60 : play.at;
  play.until = until;
  playSet("replay");
  seek(from);
  const lap = lapAt(from) ?? lapAfter(from);
  if (lap) viewShow(from, Math.max(lap.to, Math.min(until, from + 3000)));
}

/* The next moment at which the loop woke, or the one before. */
function stepLap(direction) {
  pause();
  const i = firstAfter(rec.laps, "from", play.at);
  const lap = direction > 0 ? rec.laps[i] : rec.laps[Math.max(0, i - 2)];
  if (!lap) return;
  seek(lap.from);
  for (const m of rec.moves.slice(play.next, firstAfter(rec.moves, "t", lap.to))) stageMove(m);
  seek(lap.to - 1);
  if (direction > 0) view.to = Math.max(view.to, play.at + view.span * 0.2);
  rows.stale = true;
}

/* ---- numbers ------------------------------------------------------------------------------------------------------------------- */

function numberPut(name, text) {
  for (const e of numberElements[name] ?? []) if (e.textContent !== text) e.textContent = text;
}
const numberElements = {};
for (const e of all("[data-number]")) (numberElements[e.dataset.number] ??= []).push(e);

/* As things stood at the playhead: sums over the second before it, and the gauges of its tick. */
function numbersShow() {
  const last = play.mode === "live" ? rec.ticks.length - 1 : rec.ticks.indexOf(tickAt(play.at));
  const tick = rec.ticks[last];
  if (!tick) return;
  const before = (us) => rec.ticks.slice(0, last + 1).filter((k) => k.at_us > tick.at_us - us);
  const second = before(0.99e6), most = (field, ticks) => Math.max(...ticks.map((k) => k[field]));
  const sum = (field) => second.reduce((s, k) => s + k[field], 0);
  const per = 1e6 / Math.max(1e5, sum("worked_us") + sum("slept_us")), enough = sum("worked_us") + sum("slept_us") > 5e5 ? per : 1;
  numberPut("answers", count(Math.round(sum("answers") * enough)));
  numberPut("laps", count(Math.round(sum("laps") * enough)));
  const lived = sum("slept_us") + sum("worked_us");
  numberPut("asleep", lived ? `${decimals(100 * sum("slept_us") / lived, 1)} %` : "–");
  numberPut("longest", duration(most("longest_lap_us", before(10e6))));
  numberPut("stalls", count(stallsSeen));
  numberElements.stalls[0].classList.toggle("seen", stallsSeen > 0);
  for (const field of ["connections", "watches", "db_queue", "baking", "timers"]) numberPut(field, count(tick[field]));
  for (const field of ["upstream_active", "upstream_waiting"]) numberPut(field, count(Math.max(most(field, second), field === "upstream_active" && play.mode === "live" ? callsSeen() : 0))); /* they are over too soon to be seen */
  numberPut("db_busy", tick.db_busy ? T.busy : T.idle);
  stage.tick = tick;
  $("sample").textContent = T.sample(count(sum("requests_seen")), count(sum("requests_shown")), sum("skipped") && count(sum("skipped")));
}

/* ---- the stage ------------------------------------------------------------------------------------------------------------------ */

const stage = $("stage"), paper = $("tokens"), pen = paper.getContext("2d");
const TOKENS_MAX = 44;        /* more would be a crowd, not a picture; the numbers count everybody */
const HOP_MS = 300, STEP_MS = 260;
const PLACE_OF = { net: "ready", db: "db", queue: "db", oven: "oven", timer: "oven", upstream: "upstream", run: "loop" };
const placeOf = (r, kind) => (r.quote && kind === "timer" ? "courier" : PLACE_OF[kind] ?? "oven");

let hops = [], tokens = new Map(), discs = new Map(), color = {}, room = {}, ring = { x: 0, y: 0, r: 60, angle: -Math.PI / 2, due: 0, heat: 0 };
let crowd = {};               /* how many stand where, as of the last frame */
const shown = { step: "", us: 0, until: 0, stall: 0, readyUntil: 0, stallUs: 0, stallStep: "", alarm: 0 };

function stageForget() {
  hops = [];
  tokens.clear();
  discs.clear();
}

function colorsRead() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["night", "board", "raised", "line", "flour", "ash", "ember", "basil", "run", "net", "db", "oven", "upstream", "stall", "own"])
    color[name] = style.getPropertyValue(`--${name}`).trim();
  color.timer = color.oven;
  color.queue = color.db;
  color.mono = style.getPropertyValue("--mono");
  color.sans = style.getPropertyValue("--sans");
  patternsMake();
}

/* The style sheet's colours are #rrggbb. */
const faint = (hex, share) => hex + Math.round(255 * share).toString(16).padStart(2, "0");

function canvasFit(canvas, context) {
  const scale = Math.min(2, devicePixelRatio || 1), w = canvas.clientWidth, h = canvas.clientHeight;
  if (canvas.width !== Math.round(w * scale) || canvas.height !== Math.round(h * scale)) {
    canvas.width = Math.round(w * scale);
    canvas.height = Math.round(h * scale);
  }
  context.setTransform(scale, 0, 0, scale, 0, 0);
  return [w, h];
}

/* Where things are, asked of the layout: so the stage may look different on a phone, and the tokens still find their way. */
function stageMeasure() {
  const base = paper.getBoundingClientRect();
  for (const place of ["clients", "kernel", "loop", "db", "oven", "upstream", "courier"]) {
    const box = stage.querySelector(`[data-place=${place}] .room, [data-place=${place}] .ring-text`).getBoundingClientRect();
    room[place === "kernel" ? "ready" : place] = { x: box.x - base.x, y: box.y - base.y, w: box.width, h: box.height };
  }
  const { x, y, w, h } = room.loop;
  ring.x = x + w / 2;
  ring.y = y + h / 2;
  ring.r = clamp(Math.min(w, h) / 2 - 16, 60, 122);
}

function grid({ x, y, w, h }, i, gap, inset = 12) {
  const columns = Math.max(1, Math.floor((w - inset) / gap));
  return [x + inset + (i % columns) * gap, Math.min(y + inset + Math.floor(i / columns) * gap, y + h - 6)];
}

/* The i-th place to stand. In the database the first is the worker's bench, apart from the queue: there is one worker, and the
 * first in line is his. */
function slot(place, i, token) {
  if (place === "loop") return [ring.x + ring.r * Math.cos(token.turn ?? Math.PI), ring.y + ring.r * Math.sin(token.turn ?? Math.PI)];
  if (place === "clients") return clientSlot(token.r);
  if (place === "db") return [room.db.x + 24 + (i ? 34 + Math.min(i - 1, 13) * 22 : 0), room.db.y + room.db.h / 2];
  if (place === "oven") return [room.oven.x + 22 + i * clamp((room.oven.w - 44) / (crowd.oven ?? 1), 4, 23), room.oven.y + room.oven.h - 13];
  if (place === "courier") return grid(room.courier, i, crowd.courier > 22 ? 11 : 18.5, 10);
  return grid(room[place], i, 23, 16);
}

/* The viewer's own connection is the first square, the grey one; the last are this server's own, when it is its own courier. */
function clientSlot(r) {
  const others = clientsShown() - 1, k = stage.tick, selves = r.caller && k ? Math.min(others, k.upstream_active + k.upstream_idle) : 0;
  return grid(clientsRoom(), r.own || others < 1 ? 0 : selves ? 1 + others - selves + r.conn % selves : 1 + r.conn % others, 24);
}

const clientsRoom = () => ({ ...room.clients, h: room.clients.h - 12 });

function clientsShown() {
  const { w, h } = clientsRoom(), fit = Math.floor((w - 12) / 24) * Math.max(1, Math.floor(h / 24));
  return clamp(stage.tick?.connections ?? 1, 1, fit);
}

function tokenOf(r, place) {
  let token = tokens.get(r.number);
  if (!token && tokens.size < TOKENS_MAX) {
    token = { r, place, x: null, kind: "net", rest: 0, moving: 0, since: 0, hops: 0 };
    tokens.set(r.number, token);
  }
  return token;
}

/* Where a token goes next. One queue for all of them: what happened first is seen first, whoever it happened to. */
function tokenGo(r, place, more = {}) {
  const token = tokenOf(r, place === "ready" ? "clients" : place);
  if (!token) return;
  token.hops++;
  hops.push({ token, place, ...more });
}

/* One record has been passed by the playhead. */
function stageMove(m) {
  switch (m.kind) {
    case "woke": readyShow(m.lap, play.mode !== "live"); break;
    case "sleep": ringTurn(m.lap); break;
    case "bytes": if (!tokens.has(m.req)) tokenGo(m.span, "ready", { kind: "net" }); break;
    case "woken": tokenGo(m.span, "ready", { kind: m.name }); break;
    case "step": tokenGo(m.span, "loop", { kind: "run", step: m.name, us: m.took }); break;
    case "wait": tokenGo(m.span, placeOf(m.span, m.name), { kind: m.name }); break;
    case "answer": tokenGo(m.span, "clients", { kind: m.value < 400 ? "basil" : "stall", last: true }); break;
    case "discarded": tokenGo(m.span, "clients", { kind: "own", last: true }); break;
  }
}

/* Put everything where it stands at a moment, without flight: after a jump of the playhead. */
function stagePlace(t) {
  hops = [];
  tokens.clear();
  discs.clear();
  for (const r of rec.requests.values()) {
    if (r.from > t || (r.done && r.to <= t) || r.doubt) continue;
    const now = r.segments.find((s) => s.from <= t && t < s.to) ?? (r.open && r.open.from <= t ? r.open : null);
    if (!now || !tokenOf(r, placeOf(r, now.kind))) continue;
    tokens.get(r.number).kind = now.kind;
  }
  const lap = lapAt(t);
  if (lap) readyShow(lap, true);
}

/* ---- the ready list, the ring, what is said in the middle ---- */

const familyOf = (name) => (name.startsWith("courier") ? "courier" : name);

function readyShow(lap, now) {
  const time = performance.now();
  for (const [, name] of lap.readies) {
    const chip = stage.querySelector(`#interest [data-fd="${CSS.escape(familyOf(name))}"]`);
    if (!chip || lap.own) continue; /* what the watching itself causes does not light up, or something always would */
    chip.classList.add("lit");
    chip.off = time + 240;
  }
  if (!now && (time < shown.readyUntil || (lap.own && time < shown.readyUntil + 900))) return;
  shown.readyUntil = lap.own ? 0 : time + 320;
  numberPut("ready", count(lap.ready));
  const few = lap.readies.slice(0, lap.ready > 4 ? 3 : 4).map(([fd, name]) => element("li", `${name.split(", ")[0]} ${fd}`, lap.own ? { class: "own" } : {}));
  if (lap.ready > few.length) few.push(element("li", T.more(lap.ready - few.length)));
  $("ready").replaceChildren(...few);
}

function ringTurn(lap) {
  if (!lap.own) ring.due = Math.min(ring.due + 2 * Math.PI, 6 * Math.PI);
}

function say(doing, since, state) {
  if ($("doing").textContent !== doing) $("doing").textContent = doing;
  if ($("since").textContent !== since) $("since").textContent = since;
  if (stage.dataset.loop !== state) stage.dataset.loop = state;
}

function stepShow(step, us) {
  const now = performance.now();
  shown.step = step;
  shown.us = us;
  shown.until = now + 900;
}

function sayWhatTheLoopDoes(now) {
  if (play.mode !== "live") {
    const lap = lapAt(play.at);
    if (!lap) return say("epoll_wait", play.mode === "paused" ? T.pausedAt(duration(play.at)) : T.replaying, "asleep");
    const running = [...tokens.values()].map((k) => k.r.segments.find((s) => s.kind === "run" && s.from <= play.at && play.at < s.to)).find(Boolean);
    const stalled = stalls(lap.to - lap.from);
    return say(running?.name ?? (stalled || lap.own ? lap.step : betweenSteps(lap)), stalled ? T.stalledIn(duration(lap.to - lap.from)) : `${T.running} · ${duration(lap.to - lap.from)}`, stalled ? "stalled" : "working");
  }
  if (connection.state !== "live") return say("…", T.unknown, "unknown");
  const silence = overdue(now) + hello.tick_ms;
  if (silence > SILENCE_MS) {
    const long = duration(Math.round(silence / 100) * 1e5);
    if (silence > 2 * SILENCE_MS) alarmShow(T.silent(long), now + 300, "puzzle");
    return say("…", T.noNews(long), "silent");
  }
  if (now < shown.stall) return say(shown.stallStep, T.stalledIn(duration(shown.stallUs)), "stalled");
  if (now < shown.until) return say(shown.step, T.worked(duration(shown.us)), "working");
  say("epoll_wait", T.asleep, "asleep");
}

const SILENCE_MS = 350;

/* What the loop does before, between and after the steps of its lap, by the name of the function or the system call. */
function betweenSteps(lap) {
  const next = rec.moves[firstAfter(rec.moves, "t", play.at)], family = lap.readies[0]?.[1];
  if (next && next.t < lap.to) switch (next.kind) {
    case "accept": return "accept4";
    case "bytes": case "head": return "recv";
    case "woken": return family === "eventfd" ? "take_posted" : family === "timerfd" ? "run_timers" : "recv";
    case "answer": case "flushed": return "send";
  }
  const since = rec.moves.slice(firstAfter(rec.moves, "t", lap.from - 1), firstAfter(rec.moves, "t", lap.to));
  return since.some((m) => m.kind === "wait" && m.name === "db") ? "hand_over" : "prepare_to_sleep";
}

/* A loop that turns and gets nothing done: some descriptor is ready, and nobody takes what is there. */
function spinNote(tick) {
  const done = tick.answers + tick.viewer_answers + tick.completions + tick.timers_fired + tick.bytes_in + tick.bytes_out / 100;
  const lived = tick.worked_us + tick.slept_us, spins = tick.laps > 500 && tick.laps > lived / 200 && done * 4 < tick.laps;
  stage.dataset.spins = spins ? "yes" : "no";
  if (spins && play.mode === "live") alarmShow(T.spins(count(Math.round(tick.laps * 1e6 / lived))), performance.now() + 2000);
}

function stallNote(us, step) {
  shown.stall = performance.now() + 3500;
  shown.stallUs = us;
  shown.stallStep = step;
  stage.dataset.stallStep = step;
  newsAdd(() => T.stall(duration(us), step), true, 3);
  if (play.mode === "live") alarmShow(T.stall(duration(us), step), performance.now() + 5000);
}

function alarmShow(text, until, tone = "") {
  if ($("alarm").textContent !== text) $("alarm").textContent = text;
  $("alarm").dataset.tone = tone;
  $("alarm").hidden = false;
  shown.alarm = until;
}

function alarmHide() {
  $("alarm").hidden = true;
}

/* ---- the news: a few lines, politely. Under load the loud ones are few enough to be read, the rest is left to the numbers ---- */

const news = { last: 0, weight: 0 };

function newsAdd(say, bad, weight) {
  const now = performance.now();
  if (now - news.last < 1500 && weight < news.weight) return;
  if (now - news.last < 250 && weight <= news.weight) return;
  Object.assign(news, { last: now, weight });
  const item = element("li", say(), bad ? { class: "bad" } : {});
  item.say = say; /* for when the language changes */
  $("news").prepend(item);
  while ($("news").children.length > 4) $("news").lastChild.remove();
}

/* ---- tokens in motion ---- */

let frameMs = 16;
const soften = (halfway) => (calm.matches ? 1 : 1 - 2 ** (-frameMs / halfway)); /* the same pace at any frame rate */
const ease = (p) => (p < 0.5 ? 2 * p * p : 1 - (2 - 2 * p) ** 2 / 2);

/* Live, a microsecond is stretched to what an eye can follow; the more there is to show, the less, so that the picture is never
 * much more than a second behind. */
function hopsBegin(now) {
  const fair = clamp(900 / (hops.length + 1), 2, STEP_MS);
  pace = fair < pace ? fair : pace + (fair - pace) * soften(700); /* quick to hurry, slow to relax: else the last ones would dawdle */
  if (!hops.length) begun = now;
  let i = 0;
  for (; i < hops.length && hopBegins(hops[i], now); i++);
  hops.splice(0, i);
}

/* One thread: only one token is in the ring, and the next comes when it has left, or when nothing tells of its leaving. */
const loopIsFree = (now) => !inLoop || (inLoop.hops <= 0 && inLoop.rest && now - inLoop.rest > 400);

function hopBegins({ token, place, kind, last, step, us }, now) {
  if (tokens.get(token.r.number) !== token) return true; /* it is gone, and its hop with it */
  if (token.x === null) tokenAt(token, 0, now);
  const begins = Math.max(token.since + pace, begun); /* not in whole frames, or many short hops would take many frames */
  if (begins > now || (place === "loop" && inLoop !== token && !loopIsFree(now))) return false;
  begun = begins;
  if (token === inLoop && place !== "loop") inLoop = null;
  token.hops--;
  Object.assign(token, { place, kind: kind ?? token.kind, last, x0: token.x, y0: token.y, moving: now, since: begins, rest: 0, turn: Math.PI,
    ms: calm.matches ? 0 : place === "loop" ? Math.min(HOP_MS, pace) : Math.max(90, Math.min(HOP_MS, pace * 4)) });
  if (place === "loop") {
    inLoop = token;
    token.since += token.ms; /* from its arrival on */
    if (!token.r.own) stepShow(step, us);
    ring.heat = 1;
  }
  return true;
}
let pace = STEP_MS, begun = 0, inLoop = null;

function tokenAt(token, i, now) {
  if (token.place === "loop" && !token.moving) token.turn = Math.PI + Math.PI * clamp((now - token.rest) / pace, 0, 1);
  const [x, y] = slot(token.place, i, token);
  if (token.x === null) Object.assign(token, { x, y, moving: 0, rest: now });
  if (!token.moving) {
    const near = token.place === "loop" ? 1 : soften(60);
    token.x += (x - token.x) * near;
    token.y += (y - token.y) * near;
    return;
  }
  const p = token.ms ? clamp((now - token.moving) / token.ms, 0, 1) : 1, q = ease(p);
  const far = Math.hypot(x - token.x0, y - token.y0); /* home over the ring, not through what is written in it */
  const lift = Math.sin(Math.PI * p) * (token.place === "clients" ? Math.min(130, far * 0.28) : Math.min(34, far * 0.14));
  token.x = token.x0 + (x - token.x0) * q;
  token.y = Math.max(14, token.y0 + (y - token.y0) * q - lift);
  if (p === 1) Object.assign(token, { moving: 0, rest: now });
}

function tokensMove(now) {
  const taken = {};
  hopsBegin(now);
  for (const [number, token] of tokens) {
    const seat = token.place === "loop" || token.place === "clients" ? 0 : (taken[token.place] = (taken[token.place] ?? -1) + 1);
    tokenAt(token, seat, now);
    if (token.moving || token.x === null) continue;
    const settled = token.hops <= 0 && now - token.rest > 320;
    if (settled && (token.last || (play.mode === "live" && (token.r.doubt || token.r.done) && now - token.rest > 3000))) tokens.delete(number);
  }
  if (inLoop && (tokens.get(inLoop.r.number) !== inLoop || inLoop.place !== "loop")) inLoop = null;
  crowd = { oven: (taken.oven ?? -1) + 1, courier: (taken.courier ?? -1) + 1 };
  for (const place of ["clients", "ready", "loop", "db", "oven", "upstream", "courier"])
    stage.querySelector(`[data-place=${place === "ready" ? "kernel" : place}]`).dataset.tokens = place === "loop" ? Number(inLoop !== null) : (taken[place] ?? -1) + 1;
}

function disc(x, y, r, fill, stroke) {
  pen.beginPath();
  pen.arc(x, y, r, 0, 2 * Math.PI);
  if (fill) { pen.fillStyle = fill; pen.fill(); }
  if (stroke) { pen.strokeStyle = stroke; pen.stroke(); }
}

function tokenDraw(token, now) {
  const fade = token.last && !token.moving ? 1 - clamp((now - token.rest) / 320, 0, 1) : token.r.doubt ? 0.4 : 1;
  pen.globalAlpha = fade;
  pen.lineWidth = 1.6;
  if (token.r.own) disc(token.x, token.y, 5, color.board, color.own);
  else if (token.r.quote) disc(token.x, token.y, rows.selected === token.r ? 7 : 5, color[token.kind === "timer" || token.kind === "net" ? "upstream" : token.kind]);
  else {
    const c = color[token.kind] ?? color.net, chosen = rows.selected === token.r;
    pen.shadowColor = c;
    pen.shadowBlur = token.kind === "net" ? 0 : token.place === "loop" ? 22 : 9;
    disc(token.x, token.y, 10, c);
    pen.shadowBlur = 0;
    if (chosen) { pen.lineWidth = 2.5; disc(token.x, token.y, 13, null, color.flour); }
    pen.fillStyle = color.night;
    pen.font = `700 9px ${color.sans}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(token.r.number % 1000, token.x, token.y + 0.5);
  }
  pen.globalAlpha = 1;
}

/* ---- what stands still: clients, the ring, the worker's bench, the calls ---- */

function clientsDraw() {
  const n = clientsShown(), k = stage.tick, selves = hello.own_courier && k ? k.upstream_active + k.upstream_idle : 0;
  for (let i = 0; i < n; i++) {
    const [x, y] = grid(clientsRoom(), i, 24);
    pen.fillStyle = color.raised;
    pen.strokeStyle = !i ? color.own : i >= n - selves ? color.upstream : color.net;
    pen.lineWidth = 1.3;
    pen.setLineDash(i ? [] : [3, 2]);
    pen.beginPath();
    pen.roundRect(x - 8, y - 8, 16, 16, 5);
    pen.fill();
    pen.stroke();
  }
  pen.setLineDash([]);
}

function pathsDraw() {
  pen.strokeStyle = color.line;
  pen.lineWidth = 1.5;
  pen.setLineDash([2, 6]);
  const left = [ring.x - ring.r - 8, ring.y], right = ring.x + ring.r + 8;
  const narrow = room.loop.x < room.ready.x;
  const from = narrow ? [room.ready.x + 20, room.ready.y + room.ready.h] : [room.ready.x + room.ready.w + 16, room.ready.y + room.ready.h / 2];
  pen.beginPath();
  pen.moveTo(...from);
  pen.bezierCurveTo(from[0] + 26, from[1], left[0] - 26, left[1], ...left);
  if (!narrow) for (const place of ["db", "oven", "upstream"]) {
    const box = room[place], y = box.y + box.h / 2;
    pen.moveTo(right, ring.y);
    pen.bezierCurveTo(right + 30, ring.y, box.x - 46, y, box.x - 20, y);
  }
  pen.stroke();
  pen.setLineDash([]);
}

function ringDraw(now, ms) {
  const state = stage.dataset.loop, stalled = state === "stalled" || state === "silent";
  const turn = calm.matches ? 0 : Math.min(ring.due, ms / 1000 * Math.max(5, ring.due * 2.4));
  ring.due = Math.max(0, ring.due - turn);
  ring.angle += turn;
  ring.heat = Math.max(0, ring.heat - ms / 700);
  const hot = stalled ? 1 : Math.max(ring.heat, state === "working" ? 0.6 : 0);

  pen.lineWidth = 12;
  pen.strokeStyle = color.raised;
  disc(ring.x, ring.y, ring.r, null, color.raised);
  pen.lineWidth = 1;
  disc(ring.x, ring.y, ring.r + 6.5, null, color.line);
  disc(ring.x, ring.y, ring.r - 6.5, null, color.line);
  if (stalled) {
    pen.lineWidth = 12;
    pen.setLineDash([9, 5]); /* broken, so that it is not by colour alone */
    disc(ring.x, ring.y, ring.r, null, state === "silent" ? color.own : color.stall);
    pen.setLineDash([]);
    return;
  }
  const tail = 0.7 + 2.2 * hot, glow = pen.createConicGradient(ring.angle - tail, ring.x, ring.y), ember = hot > 0.04 ? color.ember : color.own;
  glow.addColorStop(0, faint(ember, 0));
  glow.addColorStop(tail / (2 * Math.PI), faint(ember, 0.48 + 0.44 * hot));
  glow.addColorStop(Math.min(1, tail / (2 * Math.PI) + 0.001), faint(ember, 0));
  pen.lineWidth = 11;
  pen.lineCap = "butt";
  pen.strokeStyle = glow;
  pen.shadowColor = color.ember;
  pen.shadowBlur = 26 * hot;
  pen.beginPath();
  pen.arc(ring.x, ring.y, ring.r, ring.angle - tail, ring.angle);
  pen.stroke();
  pen.shadowBlur = 0;
}

function benchDraw() {
  const { x, y, h } = room.db, busy = stage.tick?.db_busy;
  pen.lineWidth = 1.5;
  pen.strokeStyle = busy ? color.db : color.line;
  pen.setLineDash(busy ? [] : [3, 4]);
  pen.beginPath();
  pen.roundRect(x + 8, y + h / 2 - 16, 32, 32, 9);
  pen.stroke();
  pen.setLineDash([]);
  pen.beginPath();
  pen.moveTo(x + 48, y + h / 2 + 16);
  pen.lineTo(x + room.db.w - 8, y + h / 2 + 16);
  pen.strokeStyle = color.line;
  pen.stroke();
}

const callsSeen = () => [...tokens.values()].filter((t) => t.r.caller && !t.last).length;

/* The fan-out, both its sides: a line from him who calls to each of his calls, where it is being answered. Of another courier we
 * know only how many calls are out. */
function callsDraw() {
  const all = [...tokens.values()];
  pen.strokeStyle = color.upstream;
  pen.lineWidth = 1;
  pen.globalAlpha = 0.42;
  pen.beginPath();
  for (const call of all) {
    const from = call.r.caller && call.place === "courier" && !call.moving && tokens.get(call.r.caller.number);
    if (from?.place !== "upstream") continue;
    pen.moveTo(from.x + 11, from.y);
    pen.bezierCurveTo(from.x + 40, from.y, call.x - 34, call.y, call.x - 5, call.y);
  }
  pen.stroke();
  pen.globalAlpha = 1;
  pen.fillStyle = color.flour;
  pen.font = `600 12px ${color.sans}`;
  pen.textAlign = "left";
  for (const from of all) {
    const out = from.place === "upstream" && !from.moving ? all.filter((t) => t.r.caller === from.r && !t.last).length : 0;
    if (out) pen.fillText(T.out(out), from.x - 10, from.y + 24);
  }
  if (hello.own_courier) return;
  for (let i = 0; i < Math.min(stage.tick?.upstream_active ?? 0, 60); i++) disc(...grid(room.courier, i, 12, 8), 3.6, color.upstream);
}

/* ---- the oven ---- */

function ordersBaking(t) {
  const baking = [];
  for (const o of rec.orders.values()) {
    if (o.to === Infinity && t > o.due + 3e6) o.to = o.due + 3e6; /* its end was skipped */
    if (o.from <= t && t < o.to) baking.push(o);
  }
  return baking.sort((a, b) => a.due - b.due);
}

function ovenDraw(now, t) {
  const { x, y, w, h } = room.oven, baking = ordersBaking(t);
  const hearth = pen.createRadialGradient(x + w / 2, y + h, 8, x + w / 2, y + h, w * 0.62);
  const glow = Math.min(1, 0.35 + baking.length / 12);
  hearth.addColorStop(0, faint(color.ember, 0.34 * glow));
  hearth.addColorStop(1, faint(color.ember, 0));
  const shoulder = Math.min(h * 0.62, 84), left = x + 4, right = x + w - 4, top = y + 6;
  const arch = () => { /* the mouth of the oven, flattened to what the layout gives */
    pen.moveTo(left, y + h);
    pen.lineTo(left, y + shoulder);
    pen.bezierCurveTo(left, y + shoulder * 0.2, x + w * 0.18, top, x + w / 2, top);
    pen.bezierCurveTo(x + w * 0.82, top, right, y + shoulder * 0.2, right, y + shoulder);
    pen.lineTo(right, y + h);
  };
  pen.beginPath();
  arch();
  pen.fillStyle = "#120b08"; /* it is dark in there by day, too */
  pen.fill();
  pen.fillStyle = hearth;
  pen.fill();
  embersDraw(x, y, w, h, now, glow);
  pen.beginPath();
  arch();
  pen.lineWidth = 9;
  pen.strokeStyle = "#6d3018"; /* mortar, and bricks on it */
  pen.stroke();
  pen.setLineDash([17, 2.5]);
  pen.strokeStyle = "#b4603a";
  pen.lineWidth = 7;
  pen.stroke();
  pen.setLineDash([]);

  const inner = { x: x + 26, y: y + 22, w: w - 52, h: h - 50 };
  const crowd = baking.length > 12, gap = crowd ? clamp(Math.sqrt(inner.w * inner.h / Math.max(baking.length, 1)) * 0.92, 17, 34) : Math.min(84, inner.w / 4);
  const columns = Math.max(1, Math.floor(inner.w / gap)), lines = Math.max(1, Math.floor((inner.h + 10) / gap));
  const fits = Math.min(baking.length, columns * lines), few = Math.min(columns, fits);
  for (let i = 0; i < fits; i++) {
    const o = baking[i], px = x + w / 2 + ((i % columns) - (few - 1) / 2) * gap, py = inner.y + (crowd ? 8 : 20) + Math.floor(i / columns) * (crowd ? gap : 50);
    let d = discs.get(o.id);
    if (!d) discs.set(o.id, d = { o, x: play.mode === "live" && !calm.matches && t - o.from < 1e6 ? ring.x + ring.r : px, y: play.mode === "live" && !calm.matches && t - o.from < 1e6 ? ring.y : py });
    d.x += (px - d.x) * soften(80);
    d.y += (py - d.y) * soften(80);
    d.moving = Math.hypot(px - d.x, py - d.y) > 0.5;
    d.seen = now;
    pizzaDraw(d.x, d.y, crowd ? gap * 0.4 : o.pizzas > 1 ? 19 : 14, clamp((t - o.from) / (o.due - o.from), 0, 1), o, crowd, t, gap);
  }
  const rest = Math.max(baking.length, stage.tick?.baking ?? 0) - fits;
  if (rest > 0 && baking.length) {
    pen.fillStyle = "#f6eddf";
    pen.font = `12px ${color.sans}`;
    pen.textAlign = "right";
    pen.fillText(T.more(count(rest)), x + w - 12, y + h - 10);
  }
  discsLeave(now, new Set(baking.map((o) => o.id)), t);
  const ids = baking.map((o) => o.id).join(",");
  const place = stage.querySelector(".oven");
  if (place.dataset.orders !== ids) place.dataset.orders = ids;
}

/* A fire at the back: brighter, the more there is to bake. */
function embersDraw(x, y, w, h, now, glow) {
  const t = calm.matches ? 0 : now / 1000;
  for (let i = 0; i < 26; i++) {
    const flicker = 0.5 + 0.5 * Math.sin(t * (1.1 + (i * 7 % 5) / 4) + i * 1.9);
    pen.globalAlpha = (0.25 + 0.75 * flicker) * (0.3 + 0.5 * glow);
    disc(x + 16 + (w - 32) * ((i * 0.381966) % 1), y + h - 4 - (i * 5 % 9), 1.2 + 1.9 * flicker, i % 3 ? "#ff7a2f" : "#ffc257");
  }
  pen.globalAlpha = 1;
}

/* Who is ready leaves: the first that is done, not the first that came. */
function discsLeave(now, baking, t) {
  for (const [id, d] of discs) {
    if (baking.has(id)) { if (now - d.seen > 200) discs.delete(id); continue; }
    d.left ??= { at: now, x: d.x, y: d.y };
    const p = clamp((now - d.left.at) / 1100, 0, 1), q = ease(p), to = [room.clients.x + 30, room.clients.y + 20];
    if (p === 1 || calm.matches || play.at < d.o.from) { discs.delete(id); continue; }
    pen.globalAlpha = 1 - p ** 4;
    pizzaDraw(d.left.x + (to[0] - d.left.x) * q, d.left.y + (to[1] - d.left.y) * q - Math.sin(Math.PI * p) * 60, discs.size > 30 ? 8 : 14, 1, d.o, true, t);
    pen.globalAlpha = 1;
  }
}

const CRUST = [[244, 226, 190], [214, 143, 66]]; /* dough, and baked */

function pizzaDraw(x, y, r, done, o, bare, t, room = 0) {
  const [raw, baked] = CRUST, crust = raw.map((c, i) => Math.round(c + (baked[i] - c) * done));
  disc(x, y, r, `rgb(${crust})`);
  disc(x, y, r * 0.76, o.taken ? color.own : `rgb(${[232, 130, 70].map((c, i) => Math.round(c + ([196, 58, 36][i] - c) * done))})`);
  if (r > 7) for (let i = 0; i < 5; i++) {
    const a = o.id + i * 1.2566;
    disc(x + Math.cos(a) * r * 0.42, y + Math.sin(a) * r * 0.42, r * 0.16, i % 2 ? "#f6ead2" : "#4f8a3f");
  }
  pen.lineWidth = 2.5;
  pen.strokeStyle = color.oven;
  pen.beginPath();
  pen.arc(x, y, r + 3, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * done);
  pen.stroke();
  if (bare) return;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.font = `600 11px ${color.sans}`;
  pen.fillStyle = "#f6eddf";
  const left = `${decimals(Math.max(0, o.due - t) / 1e6, 0)} s`, label = `#${o.id} · ${left}`;
  pen.fillText(pen.measureText(label).width < room - 3 ? label : left, x, y + r + 13);
  if (o.pizzas > 1) {
    pen.font = `700 12px ${color.sans}`;
    pen.lineWidth = 3;
    pen.strokeStyle = "#2a120a";
    pen.strokeText(`×${o.pizzas}`, x, y);
    pen.fillStyle = "#fff6e6";
    pen.fillText(`×${o.pizzas}`, x, y);
  }
}

function stageDraw(now, ms) {
  const [w, h] = canvasFit(paper, pen);
  pen.clearRect(0, 0, w, h);
  pathsDraw();
  clientsDraw();
  benchDraw();
  ovenDraw(now, play.at);
  callsDraw();
  ringDraw(now, ms);
  for (const token of tokens.values()) if (token.x !== null) tokenDraw(token, now);
  for (const chip of $("interest").children) if (chip.off && now > chip.off) { chip.classList.remove("lit"); chip.off = 0; }
  if (shown.alarm && now > shown.alarm) { alarmHide(); shown.alarm = 0; }
}

/* ---- the timeline ---------------------------------------------------------------------------------------------------------------- */

const chart = $("timeline"), ink = chart.getContext("2d");
const ROW = 19, TRACK = 46, AXIS = 20, ROWS_KEPT = 60, SPAN = { least: 50, most: 120e6 };
const view = { to: 0, span: 8e6, scroll: 0 };
const rows = { shown: [], arriving: [], selected: null, stale: false, credit: 30, visible: [] };
let pattern = {};

/* Each kind of wait has a pattern as well as a colour. */
const PATTERNS = {
  run: () => {}, net: (p) => { p.rect(0, 3, 8, 1.4); }, queue: (p) => { p.rect(0, 0, 3, 8); }, db: (p) => { for (let i = -8; i < 9; i++) p.rect(i, i < 0 ? i + 8 : i, 1.6, 1.6); },
  oven: (p) => { p.arc(2, 2, 1.2, 0, 7); p.arc(6, 6, 1.2, 0, 7); }, upstream: (p) => { p.rect(0, 1, 8, 1.5); p.rect(0, 5, 8, 1.5); },
  stall: (p) => { for (let i = 0; i < 8; i++) { p.rect(i, i, 1.6, 1.6); p.rect(i, 7 - i, 1.6, 1.6); } },
};

function patternsMake() {
  for (const [kind, draw] of Object.entries(PATTERNS)) {
    const tile = new OffscreenCanvas(8, 8), p = tile.getContext("2d");
    p.fillStyle = color[kind];
    p.fillRect(0, 0, 8, 8);
    p.fillStyle = color.board;
    p.globalAlpha = 0.5;
    p.beginPath();
    draw(p);
    p.fill();
    pattern[kind] = ink.createPattern(tile, "repeat");
  }
  pattern.timer = pattern.oven;
  legendDraw();
}

function legendDraw() {
  $("legend").replaceChildren(...Object.keys(PATTERNS).map((kind) => {
    const item = element("li"), swatch = element("canvas", "", { width: 44, height: 24, "aria-hidden": "true" }), p = swatch.getContext("2d");
    p.scale(2, 2);
    p.fillStyle = pattern[kind] ?? "gray";
    p.fillRect(0, 0, 22, 12);
    item.append(swatch, element("span", T.kinds[kind]));
    return item;
  }));
}

/* Live, a row is let in when there is credit for it: fifty thousand rows a second would be a blur. Paused, all that the window
 * touches are shown. */
function rowsChoose(ms) {
  if (play.mode === "live") {
    rows.credit = Math.min(30, rows.credit + ms * 0.006);
    for (const r of rows.arriving) {
      if (r.caller || (rows.credit < 1 && !r.own)) continue; /* a call is shown with him who made it */
      if (!r.own) rows.credit--;
      rows.shown.push(r);
    }
    if (rows.shown.length > ROWS_KEPT) rows.shown.splice(0, rows.shown.length - ROWS_KEPT);
  } else if (rows.stale) {
    const from = view.to - view.span;
    rows.shown = [...rec.requests.values()].filter((r) => !r.caller && r.from <= view.to && rowEnd(r) >= from).slice(-800);
    rows.stale = false;
  }
  rows.arriving = [];
}

/* A row, and beneath it two more for its calls, all in one. */
const rowHigh = (r) => (r.calls.length ? 3 : 1);

function rowsFit(list, fit) {
  let i = list.length;
  while (i > 0 && (fit -= rowHigh(list[i - 1])) >= 0) i--;
  return list.slice(i);
}

/* The newest, and before them whatever still waits: what is slow is what one came to see. */
function rowsVisible(fit, end) {
  const list = rows.shown.slice(0, end), newest = rowsFit(list, fit);
  if (play.mode !== "live") return newest;
  const waits = (r) => !r.own && !r.doubt && (!r.done || r.orders.some((o) => o.to > play.at));
  const waiting = rowsFit(list.slice(0, list.length - newest.length).filter(waits), fit / 2);
  return [...waiting, ...rowsFit(newest, fit - waiting.reduce((n, r) => n + rowHigh(r), 0))];
}

const rowEnd = (r) => Math.max(r.done ? r.to : r.doubt ? r.mark : rec.latest, ...r.orders.map((o) => Math.min(o.to, rec.latest)));
const gutter = () => (chart.clientWidth < 560 ? 96 : 172);
const xOf = (t, w) => gutter() + (t - (view.to - view.span)) / view.span * (w - gutter() - 10);
const tOf = (x, w) => view.to - view.span + (x - gutter()) / (w - gutter() - 10) * view.span;

/* Live, nothing is drawn beyond the playhead; afterwards it is a cursor in what was recorded. */
const horizon = () => (play.mode === "live" ? play.at : rec.latest);

function bar(kind, from, to, y, h, w, thin = 0) {
  const left = Math.max(gutter(), xOf(from, w)), right = Math.min(w - 10, xOf(to, w));
  if (right < gutter() || left > w - 10) return;
  ink.fillStyle = pattern[kind] ?? color.net;
  ink.fillRect(left, y + thin, Math.max(1.6, right - left), h - 2 * thin);
}

function rowDraw(r, y, w) {
  const chosen = rows.selected === r, label = r.head || T.request(r.number);
  if (chosen) { ink.fillStyle = color.raised; ink.fillRect(0, y, w, ROW); }
  ink.globalAlpha = r.own ? 0.45 : r.doubt ? 0.6 : 1;
  ink.fillStyle = chosen ? color.flour : r.own ? color.own : color.ash;
  ink.font = `11.5px ${color.mono}`;
  ink.textAlign = "left";
  ink.textBaseline = "middle";
  ink.save();
  ink.beginPath();
  ink.rect(0, y, gutter() - 8, ROW);
  ink.clip();
  ink.fillText(gutter() < 120 ? label.replace(/^\w+ /, "") : label, 14, y + ROW / 2 + 0.5);
  ink.restore();
  for (const s of r.segments) {
    const own = r.own ? "net" : s.kind === "run" && stalls(s.to - s.from) ? "stall" : s.kind === "ready" ? "net" : s.kind;
    bar(own, s.from, Math.min(s.to, horizon()), y + 4, ROW - 8, w);
  }
  if (r.open && !r.done) bar(r.own ? "net" : r.open.kind, r.open.from, r.doubt ? r.mark : Math.max(horizon(), r.open.from), y + 4, ROW - 8, w);
  for (const o of r.orders) bar("oven", o.from, Math.min(o.to, Math.max(horizon(), o.from)), y + 4, ROW - 8, w, 4);
  const end = xOf(r.to, w) + 7;
  if (r.status >= 100 && !r.own && end < w - 30 && end > gutter() - 20 && (r.orders.every((o) => o.to < Infinity ) || !r.orders.length)) {
    ink.fillStyle = r.status < 400 ? color.basil : color.stall;
    ink.fillText(r.discarded ? "×" : String(r.status), Math.max(end, xOf(Math.max(r.to, ...r.orders.map((o) => o.to)), w) + 7), y + ROW / 2 + 0.5);
  }
  ink.globalAlpha = 1;
}

/* The calls of one request, each a line: side by side, or one after the other. */
function callsRowDraw(r, y, w) {
  const n = r.calls.length, high = (2 * ROW - 6) / Math.max(n, 4), narrow = gutter() < 120;
  ink.fillStyle = color.ash;
  ink.fillText(T.callsRow(count(n)), narrow ? 14 : 26, y + ROW / 2);
  if (!narrow) ink.fillText(T.callsSelf, 26, y + ROW * 1.5 - 2);
  ink.fillStyle = color.upstream;
  r.calls.forEach((c, i) => {
    const left = Math.max(gutter(), xOf(c.from, w)), right = Math.min(w - 10, xOf(c.done ? Math.min(c.to, horizon()) : Math.max(c.from, horizon()), w));
    if (right >= gutter() && left < w - 10) ink.fillRect(left, y + 2 + i * high, Math.max(1.6, right - left), Math.max(0.8, high * 0.66));
  });
}

/* The loop's own track. From far, how much of each tick it worked (exact, from the totals); from near, its recorded laps. */
function trackDraw(top, w) {
  const from = view.to - view.span, h = TRACK - 12, y = top + 6;
  ink.fillStyle = color.night;
  ink.fillRect(gutter(), y, w - gutter() - 10, h);
  ink.fillStyle = color.ash;
  ink.font = `600 12px ${color.sans}`;
  ink.textAlign = "left";
  ink.fillText(T.loop, 14, y + h / 2);
  const near = view.span < 3e6;
  for (let i = firstAfter(rec.ticks, "at_us", from); i < rec.ticks.length && rec.ticks[i].from < view.to; i++) {
    const k = rec.ticks[i], share = k.worked_us / Math.max(1, k.worked_us + k.slept_us), left = Math.max(gutter(), xOf(k.from, w)), right = Math.min(w - 10, xOf(Math.min(k.at_us, horizon()), w));
    if (right <= left) continue;
    ink.fillStyle = color.raised; /* asleep, as far as it is known */
    ink.fillRect(left, y, right - left + 0.5, h);
    const high = Math.max(share > 0.0005 ? 1.5 : 0, share * (h - 2));
    ink.globalAlpha = near ? 0.3 : 1;
    ink.fillStyle = stalls(k.longest_lap_us) ? pattern.stall : color.run;
    ink.fillRect(left, y + h - high, right - left + 0.5, high);
    ink.globalAlpha = 1;
  }
  let last = -1;
  for (let i = Math.max(0, firstAfter(rec.laps, "from", from) - 1); i < rec.laps.length && rec.laps[i].from < Math.min(view.to, horizon()); i++) {
    const lap = rec.laps[i], stalled = stalls(lap.to - lap.from), x = Math.round(xOf(lap.to, w));
    if (!stalled && (!near || (x === last && lap.to - lap.from < view.span / 2000))) continue; /* one line a pixel is enough */
    last = x;
    ink.globalAlpha = lap.own ? 0.5 : 1;
    bar(stalled ? "stall" : "run", lap.from, Math.min(lap.to, Math.max(horizon(), lap.from)), y, h, w);
    if (view.span < 2e5) asleepDraw(lap, y, h, w);
    ink.globalAlpha = 1;
    if (stalled) trackLabel(lap.step || T.kinds.stall, lap.from, lap.to, y, h, w, "#fff");
    else if (lap.step) trackLabel(lap.step, lap.from, lap.to, y, h, w, color.night);
  }
}

function asleepDraw(lap, y, h, w) {
  const left = Math.max(gutter(), xOf(lap.from - lap.slept, w)), right = Math.min(w - 10, xOf(lap.from, w));
  if (right - left < 3) return;
  ink.fillStyle = color.raised;
  ink.fillRect(left + 1, y, right - left - 2, h);
  trackLabel(`${T.kinds.asleep} ${duration(lap.slept)}`, lap.from - lap.slept, lap.from, y, h, w, color.ash);
}

function trackLabel(text, from, to, y, h, w, fill) {
  const left = Math.max(gutter(), xOf(from, w)), right = Math.min(w - 10, xOf(to, w));
  ink.font = `600 11px ${color.mono}`;
  const wide = ink.measureText(text).width;
  if (wide + 10 > right - left) return;
  ink.textAlign = "center";
  if (fill === "#fff") { ink.fillStyle = color.stall; ink.fillRect((left + right) / 2 - wide / 2 - 6, y + h / 2 - 9, wide + 12, 18); fill = color.board; }
  ink.fillStyle = fill;
  ink.fillText(text, (left + right) / 2, y + h / 2 + 0.5);
}

function axisDraw(top, w, h) {
  const about = view.span / Math.max(2, (w - gutter()) / 110), base = 10 ** Math.floor(Math.log10(about));
  const step = [1, 2, 5, 10].map((k) => k * base).find((k) => k >= about), first = Math.ceil((view.to - view.span) / step) * step;
  ink.font = `11px ${color.sans}`;
  ink.textAlign = "center";
  ink.strokeStyle = color.line;
  ink.lineWidth = 1;
  for (let i = 0; first + i * step <= view.to; i++) {
    const t = first + i * step || 0;
    const x = xOf(t, w);
    if (x < gutter() || t < -step / 2) continue;
    ink.globalAlpha = 0.45;
    ink.beginPath();
    ink.moveTo(x, 8);
    ink.lineTo(x, h - AXIS);
    ink.stroke();
    ink.globalAlpha = 1;
    ink.fillStyle = color.ash;
    /* µs since the server's start would be a long number: in a narrow window, count from its first line. */
    if (x > gutter() + 18 && x < w - 30) ink.fillText(step >= 1e5 || t === first ? `${decimals(t / 1e6, Math.max(0, Math.ceil(-Math.log10(step / 1e6) - 1e-9)))} s` : `+${duration(t - first)}`, x, h - AXIS / 2 + 1);
  }
}

function chartDraw(ms) {
  const [w, h] = canvasFit(chart, ink);
  if (play.mode === "live") view.to = play.at + view.span * 0.02;
  if (play.mode === "replay" && play.at > view.to - view.span * 0.1) { view.to = play.at + view.span * 0.4; rows.stale = true; }
  rowsChoose(ms);
  ink.clearRect(0, 0, w, h);
  const top = h - AXIS - TRACK, fit = Math.floor((top - 8) / ROW);
  const end = clamp(rows.shown.length - view.scroll, Math.min(fit, rows.shown.length), rows.shown.length);
  rows.visible = rowsVisible(fit, end);
  axisDraw(top, w, h);
  let y = 8;
  for (const r of rows.visible) {
    rowDraw(r, y, w);
    if (r.calls.length) callsRowDraw(r, y + ROW, w);
    y += rowHigh(r) * ROW;
  }
  if (!rows.shown.length) {
    ink.fillStyle = color.ash;
    ink.font = `14px ${color.sans}`;
    ink.textAlign = "center";
    ink.fillText(T.none, (w + gutter()) / 2 - 10, top / 2);
  }
  trackDraw(top, w);
  if (play.mode !== "live") {
    const x = xOf(play.at, w);
    if (x >= gutter() && x <= w - 10) {
      ink.fillStyle = color.flour;
      ink.fillRect(x - 0.75, 4, 1.5, h - AXIS - 4);
      ink.beginPath();
      ink.arc(x, 6, 4, 0, 7);
      ink.fill();
    }
  }
  const wide = duration(view.span);
  if ($("span-shown").value !== wide) $("span-shown").value = wide;
}

function zoom(factor, around = play.mode === "live" ? view.to : play.at) {
  const span = clamp(view.span * factor, SPAN.least, SPAN.most), share = clamp((around - (view.to - view.span)) / view.span, 0, 1);
  view.to = around + (1 - share) * span;
  view.span = span;
  rows.stale = true;
}

function viewShow(from, to) {
  view.span = clamp((to - from) * 1.5, SPAN.least, SPAN.most);
  view.to = to + view.span * 0.2;
  rows.stale = true;
}

function pan(us) {
  if (play.mode === "live") pause();
  view.to += us;
  rows.stale = true;
}

function select(r) {
  rows.selected = r;
  wake();
  chart.dataset.selected = r?.number ?? "";
  detailShow();
}

function chartPointer() {
  let from = null;
  const row = (e) => {
    let y = 8;
    return rows.visible.find((r) => (y += rowHigh(r) * ROW) > e.offsetY);
  };
  chart.addEventListener("pointerdown", (e) => { from = { x: e.clientX, to: view.to, moved: false }; chart.setPointerCapture(e.pointerId); });
  chart.addEventListener("pointermove", (e) => {
    if (!from || Math.abs(e.clientX - from.x) < 4 && !from.moved) return;
    from.moved = true;
    pause();
    view.to = from.to - (e.clientX - from.x) / (chart.clientWidth - gutter() - 10) * view.span;
    rows.stale = true;
  });
  chart.addEventListener("pointerup", (e) => {
    if (from && !from.moved) {
      const r = row(e);
      if (r && e.offsetY < chart.clientHeight - AXIS - TRACK) select(r);
      if (play.mode !== "live" && e.offsetX > gutter()) seek(tOf(e.offsetX, chart.clientWidth));
    }
    from = null;
  });
  chart.addEventListener("pointercancel", () => { from = null; });
  chart.addEventListener("wheel", (e) => {
    if (e.ctrlKey || e.metaKey) { e.preventDefault(); zoom(e.deltaY > 0 ? 1.35 : 0.74, play.mode === "live" ? view.to : tOf(e.offsetX, chart.clientWidth)); }
    else if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) { e.preventDefault(); pan((e.deltaX || e.deltaY) / chart.clientWidth * view.span); }
  }, { passive: false });
}

function chartKeys(e) {
  const move = { ArrowUp: -1, ArrowDown: 1 }[e.key];
  if (move && rows.shown.length) {
    const now = rows.shown.indexOf(rows.selected), i = now < 0 ? rows.shown.length - 1 : clamp(now + move, 0, rows.shown.length - 1);
    select(rows.shown[i]);
    const first = rows.shown.indexOf(rows.visible[0]);
    if (i < first) view.scroll += first - i;
    else if (i >= first + rows.visible.length) view.scroll = Math.max(0, view.scroll - (i - first - rows.visible.length + 1));
  } else if (e.key === "ArrowLeft" || e.key === "ArrowRight") pan((e.key === "ArrowLeft" ? -1 : 1) * view.span / 8);
  else if (e.key === "+" || e.key === "=") zoom(0.5);
  else if (e.key === "-") zoom(2);
  else if (e.key === " ") $("pause").click();
  else if (e.key === "Enter" && rows.selected) replayFrom(rows.selected.from - 100, rowEnd(rows.selected));
  else return;
  e.preventDefault();
}

/* ---- one request in words ---------------------------------------------------------------------------------------------------------- */

const total = (r, ...kinds) => r.segments.filter((s) => kinds.includes(s.kind)).reduce((sum, s) => sum + s.to - s.from, 0);

/* What a record says, and its colour. Null: it says nothing that another does not say. */
function sentence(r, m) {
  const queued = m.queued ? T.s.queued(duration(m.queued)) : "";
  const isOrder = r.orders.find((o) => o.from === m.at);
  switch (m.kind) {
    case "bytes": return ["net", T.s.bytes(count(m.value), m.conn)];
    case "head": return ["net", T.s.head(m.name)];
    case "step": return [stalls(m.value) ? "stall" : "run", T.s.step(m.name, duration(m.took))];
    case "wait": return null;
    case "woken": return [m.name, T.s.woken(T.waits[m.name] ?? m.name, duration(m.took)) + queued];
    case "answer": return ["done", T.s.answer(m.value)];
    case "flushed": return ["net", T.s.flushed(count(m.value))];
    case "discarded": return ["stall", T.s.discarded];
  }
  return isOrder ? ["oven", ""] : null;
}

function detailLines(r) {
  const lines = [];
  for (const m of r.notes) {
    const said = sentence(r, m);
    if (said) lines.push([m.at - r.from, ...said, m.took]);
  }
  const answered = r.calls.filter((c) => c.done).map((c) => c.to - c.from);
  if (r.calls.length) lines.push([r.calls[0].from - r.from, "upstream", T.s.calls(r.calls.length, answered.length && duration(Math.min(...answered)), answered.length && duration(Math.max(...answered)))]);
  for (const o of r.orders) lines.push([o.from - r.from, "oven", T.s.bake(o.id, o.what, duration(o.due - o.from))]);
  if (!r.done && r.next === null && r.open && r.open.kind !== "net") lines.push([r.open.from - r.from, r.open.kind, T.s.wait(T.waits[r.open.kind] ?? r.open.kind)]);
  if (r.doubt) lines.push([r.mark - r.from, "net", T.s.lost]);
  return lines.sort((a, b) => a[0] - b[0]).slice(0, 60);
}

function detailShow() {
  const r = rows.selected, box = $("detail");
  box.dataset.request = r?.number ?? "";
  if (!r) return box.replaceChildren(element("p", T.pick, { class: "empty" }));
  const run = total(r, "run"), wait = total(r, "db", "queue", "oven", "timer", "upstream");
  const list = element("ol");
  for (const [at, kind, text, took] of detailLines(r)) {
    const item = element("li", "", { "data-kind": kind, ...(took === undefined ? {} : { "data-us": took }) });
    item.append(element("time", `+${duration(at)}`), element("span", text));
    list.append(item);
  }
  const buttons = element("p", "", { class: "row" }), show = element("button", T.zoomTo, { type: "button" }), slowly = element("button", T.replayIt, { type: "button", id: "replay-one" });
  show.addEventListener("click", () => { pause(); viewShow(r.from, r.done ? r.to : rowEnd(r)); seek(r.from); });
  slowly.addEventListener("click", () => { replayFrom(r.from - 60, (r.done ? r.to : rowEnd(r)) + 60); viewShow(r.from, r.done ? r.to : rowEnd(r)); });
  buttons.append(show, slowly);
  const functions = [...new Set(r.segments.map((s) => s.name).filter(Boolean))];
  box.dataset.us = r.to - r.from;
  box.replaceChildren(element("h3", r.head || T.request(r.number)),
    element("p", r.done ? T.sum(duration(r.to - r.from), duration(run), duration(wait)) : T.alive, { class: "sum" }), ...(r.began ? [] : [element("p", T.sawNoStart, { class: "sum" })]), buttons, list,
    ...(functions.length ? [element("p", T.grep, { class: "sum" }), element("code", `grep -nE '${functions.join("|")}' app/*.c`)] : []));
  r.told = r.notes.length + r.calls.length;
}

/* ---- the customer: the page buys pizzas like anybody else --------------------------------------------------------------------------- */

const customer = { accounts: [], price: 3500, bakeMs: 3000 };
class Refused extends Error {}

const asking = { out: 0, since: 0 };

async function ask(...request) {
  if (!asking.out++) asking.since = performance.now();
  wake();
  try {
    return await answered(...request);
  } finally {
    asking.out--;
  }
}

async function answered(method, path, body, token) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(path.startsWith("/lab") && response.status === 404 ? T.labClosed : T.failed(response.status, answer.detail ?? answer.title ?? ""));
  return answer;
}

async function openAccount(name) {
  const { id, token, balance_cents } = await ask("POST", "/accounts", { name });
  const account = { id, token, balance: balance_cents };
  customer.accounts.push(account);
  return account;
}

/* An account that can pay so much: one we have, or a new one. */
const purse = async (cents) => customer.accounts.find((a) => a.balance >= cents) ?? openAccount("Ana");

async function order(n, account) {
  const placed = await ask("POST", "/orders", { flavor: "margherita", pizzas: n }, account.token);
  account.balance -= placed.price_cents;
  return placed;
}

async function orderOne(n) {
  const placed = await order(n, await purse(n * customer.price));
  resultSay(T.ordered(placed.id, n));
}

/* The accounts first, so that the orders themselves come at once. */
async function orderHundred() {
  const payers = [];
  for (let opened = 0; payers.length < 100 && opened < 100; opened++) {
    resultSay(T.opening);
    const account = await openAccount("Turma"), n = Math.floor(account.balance / customer.price);
    payers.push(...Array(Math.min(n, 100 - payers.length)).fill(account));
  }
  const begun = performance.now();
  await Promise.all(payers.map((a) => order(1, a)));
  resultSay(T.hundred(payers.length, duration((performance.now() - begun) * 1000)));
}

async function lab(path, what) {
  const begun = performance.now(), answer = await ask("GET", path);
  if (answer.calls) resultSay(T.waterfall(answer.n, duration(answer.total_ms * 1000), duration(answer.sum_ms * 1000)));
  else resultSay(T.done(what, duration((performance.now() - begun) * 1000)));
}

function resultSay(text, bad = false) {
  $("result").textContent = text;
  $("result").classList.toggle("bad", bad);
}

/* ---- the controls ------------------------------------------------------------------------------------------------------------------- */

const URL_HERE = location.origin;
const JSON_TYPE = "-H 'Content-Type: application/json'";
const NEW_TOKEN = `TOKEN=$(curl -s ${URL_HERE}/accounts ${JSON_TYPE} -d '{"name":"Ana"}' | sed 's/.*"token":"\\([^"]*\\)".*/\\1/')`;
const orderLine = (n, token = "$TOKEN") => `curl -i ${URL_HERE}/orders -H "Authorization: Bearer ${token}" ${JSON_TYPE} -d '{"flavor":"margherita","pizzas":${n}}'`;
const HUNDRED = `seq 100 | xargs -P 100 -I% sh -c 'T=$(curl -s ${URL_HERE}/accounts -H "Content-Type: application/json" -d "{\\"name\\":\\"Ana %\\"}" | sed "s/.*\\"token\\":\\"//;s/\\".*//"); curl -s ${URL_HERE}/orders -H "Authorization: Bearer $T" -H "Content-Type: application/json" -d "{\\"flavor\\":\\"margherita\\",\\"pizzas\\":1}"'`;
const labLine = (path) => `curl "${URL_HERE}${path}"`;

const CONTROLS = {
  one: { kind: "oven", pizzas: 1, act: () => orderOne(1), curl: `${NEW_TOKEN}\n${orderLine(1)}` },
  ten: { kind: "oven", pizzas: 10, act: () => orderOne(10), curl: `${NEW_TOKEN}\n${orderLine(10)}` },
  hundred: { kind: "oven", act: orderHundred, curl: HUNDRED },
  slow: { kind: "db", path: "/lab/thread?ms=1500" },
  together: { kind: "upstream", path: "/lab/socket?n=20&ms=300&mode=together" },
  sequence: { kind: "upstream", path: "/lab/socket?n=20&ms=300&mode=sequence" },
  block: { kind: "stall", path: "/lab/block?ms=1000" },
};
let curlShown = "one";

function curlShow(name) {
  curlShown = name;
  for (const [other, { box }] of Object.entries(CONTROLS)) box.classList.toggle("shown", other === name);
  $("curl").textContent = CONTROLS[name].curl;
}

async function press(name) {
  const control = CONTROLS[name];
  curlShow(name);
  control.running = (control.running ?? 0) + 1;
  control.box.dataset.running = control.running;
  try {
    await (control.path ? lab(control.path, T.ctl[name][0]) : control.act());
  } catch (error) {
    resultSay(error instanceof Refused ? error.message : T.lost, true);
  } finally {
    control.box.dataset.running = --control.running;
  }
}

function controlsMake() {
  for (const [name, control] of Object.entries(CONTROLS)) {
    control.curl ??= labLine(control.path);
    const box = element("div", "", { class: "control", "data-kind": control.kind, "data-control": name }), button = element("button", "", { type: "button", "aria-describedby": "curl" });
    button.append(element("strong"), element("small"));
    button.addEventListener("click", () => press(name));
    button.addEventListener("focus", () => curlShow(name));
    box.addEventListener("pointerenter", (e) => { if (e.pointerType === "mouse") curlShow(name); });
    box.append(button);
    control.box = box;
    $("buttons").append(box);
  }
  curlShow(curlShown);
  $("copy").addEventListener("click", () => {
    const told = navigator.clipboard?.writeText($("curl").textContent) ?? Promise.reject();
    told.then(() => resultSay(T.copied), () => { getSelection().selectAllChildren($("curl")); resultSay(T.copyNot); });
  });
}

function controlsSpeak() {
  for (const [name, { box, pizzas: n }] of Object.entries(CONTROLS)) {
    const [title, more] = T.ctl[name];
    box.querySelector("strong").textContent = title;
    box.querySelector("small").textContent = n ? more(duration(customer.bakeMs * n * 1000)) : more;
  }
}

/* The menu says what a pizza costs here and how long it bakes; the lab may be closed. */
async function menuRead() {
  const { pizzas } = await ask("GET", "/menu");
  const margherita = pizzas.find((p) => p.flavor === "margherita");
  customer.price = margherita.price_cents;
  customer.bakeMs = margherita.bake_ms;
  controlsSpeak();
}

/* ---- the tour ------------------------------------------------------------------------------------------------------------------------ */

const TOUR = [".place.loop", ".place.kernel", ".place.oven", ".place.upstream", ".place.loop"];
const TOUR_DOES = [null, () => press("one"), async () => { await press("ten"); await press("one"); }, () => press("together"), () => press("block")];
let tourStep = -1;

function tourGo(step) {
  tourStep = step < TOUR.length ? step : -1;
  if (tourStep < 0) localStorage.setItem("forno.tour", "seen");
  tourShow();
  if (tourStep >= 0) {
    (innerWidth > 960 ? stage : stage.querySelector(TOUR[tourStep])).scrollIntoView({ block: innerWidth > 960 ? "nearest" : "start" });
    $("tour-title").focus({ preventScroll: true });
  } else $("start-tour").focus({ preventScroll: true });
}

function tourShow() {
  const step = TOUR[tourStep];
  for (const e of all(".spot")) e.classList.remove("spot");
  $("tour").hidden = !step;
  $("tour").dataset.step = tourStep + 1;
  if (!step) return;
  const [title, text, action] = T.tour[tourStep];
  $("tour-step").textContent = T.step(tourStep + 1, TOUR.length);
  $("tour-title").textContent = title;
  $("tour-text").textContent = text;
  $("tour-do").hidden = !action;
  $("tour-do").textContent = action ?? "";
  $("tour-next").textContent = tourStep + 1 === TOUR.length ? T.finish : T.next;
  stage.querySelector(step).classList.add("spot");
  tourPlace();
}

/* Below the stage, so that nothing is hidden while it is spoken of; in a low window, as low as it goes. */
function tourPlace() {
  const step = TOUR[tourStep];
  if (!step) return;
  const box = stage.querySelector(step).getBoundingClientRect(), w = $("tour").offsetWidth, h = $("tour").offsetHeight;
  $("tour").style.left = `${clamp(box.left + box.width / 2 - w / 2, 12, innerWidth - w - 12)}px`;
  $("tour").style.top = `${clamp(stage.getBoundingClientRect().bottom + 8, 12, innerHeight - h - 12)}px`;
}

/* ---- settings, and the start ---------------------------------------------------------------------------------------------------------- */

const systemLight = matchMedia("(prefers-color-scheme: light)");

function themeSet(theme) {
  wake();
  if (theme) document.documentElement.dataset.theme = theme;
  colorsRead();
}

function themeTurn() {
  const now = document.documentElement.dataset.theme ?? (systemLight.matches ? "light" : "dark"), other = now === "light" ? "dark" : "light";
  localStorage.setItem("forno.theme", other);
  themeSet(other);
}

function buttonsWire() {
  $("pause").addEventListener("click", () => (play.mode === "live" ? pause() : liveAgain()));
  $("replay").addEventListener("click", () => (play.mode === "replay" ? playSet("paused") : replayFrom()));
  $("slowness").addEventListener("change", (e) => { play.slowness = Number(e.target.value); });
  $("lap-back").addEventListener("click", () => stepLap(-1));
  $("lap-on").addEventListener("click", () => stepLap(1));
  $("zoom-in").addEventListener("click", () => zoom(0.5));
  $("zoom-out").addEventListener("click", () => zoom(2));
  $("theme").addEventListener("click", themeTurn);
  for (const name of ["en", "pt"]) $(`lang-${name}`).addEventListener("click", () => { localStorage.setItem("forno.lang", name); speak(name); stageMeasure(); });
  $("start-tour").addEventListener("click", () => tourGo(0));
  $("tour-skip").addEventListener("click", () => tourGo(TOUR.length));
  $("tour-next").addEventListener("click", () => tourGo(tourStep + 1));
  $("tour-do").addEventListener("click", () => TOUR_DOES[tourStep]?.());
  document.addEventListener("keydown", (e) => { if (e.key === "Escape" && tourStep >= 0) tourGo(TOUR.length); });
  chart.addEventListener("keydown", chartKeys);
  paper.addEventListener("click", (e) => {
    const hit = [...tokens.values()].find((t) => t.x !== null && Math.hypot(t.x - e.offsetX, t.y - e.offsetY) < 15);
    if (hit) select(hit.r);
  });
  /* A page that the browser keeps for the way back would keep its stream too, and a browser opens only six connections. */
  addEventListener("pagehide", () => connection.close());
  addEventListener("pageshow", (e) => { if (e.persisted) listen(); });
  systemLight.addEventListener("change", colorsRead);
  addEventListener("scroll", tourPlace, { passive: true });
  new ResizeObserver(() => { stageMeasure(); tourPlace(); wake(); }).observe(stage);
  for (const touch of ["click", "keydown", "pointerdown", "pointermove", "wheel", "change", "resize", "visibilitychange"]) addEventListener(touch, () => wake(), { capture: true, passive: true });
}

/* ---- frames, while there is something to see ------------------------------------------------------------------------------------------ */

let lastFrame = 0, lastWords = 0, frameAsked = 0, nap = 0;

function wake() {
  frameAsked ||= requestAnimationFrame(frame);
}

/* In how many ms something will have moved: 0, the next frame; Infinity, not until somebody wakes us. */
function stillFor(now) {
  const live = play.mode === "live", visible = (r) => rowEnd(r) > view.to - view.span;
  if (play.mode === "replay" || hops.length || ring.due > 0 || ring.heat > 0 || (live && rec.moves.slice(play.next).some(isNews))) return 0;
  if ([...tokens.values()].some((t) => t.x === null || t.moving || t.last || (t.place === "loop" && now - t.rest < pace))) return 0;
  if ([...discs.values()].some((d) => d.left || d.moving)) return 0;
  if (live && (ordersBaking(play.at).length || rows.visible.some(visible) || tokens.size || now < Math.max(shown.until, shown.stall))) return 90;
  if (shown.alarm < Infinity && !$("alarm").hidden) return 100;
  if ([...$("interest").children].some((chip) => chip.off)) return 100;
  if (!live || connection.state !== "live") return Infinity;
  return stage.dataset.loop === "silent" ? 100 : Math.max(60, SILENCE_MS - hello.tick_ms - overdue(now) + 20);
}

function frame(now) {
  frameAsked = 0;
  clearTimeout(nap);
  const ms = Math.min(100, now - lastFrame);
  lastFrame = now;
  frameMs = ms;
  playheadMove(now, ms);
  playheadPass();
  tokensMove(now);
  stageDraw(now, ms);
  chartDraw(ms);
  const still = stillFor(now);
  if (now - lastWords > 90 || still || play.mode === "replay") { /* words ten times a second are enough */
    lastWords = now;
    sayWhatTheLoopDoes(now);
    if (play.mode !== "live") numbersShow();
    if (rows.selected && rows.selected.told !== rows.selected.notes.length + rows.selected.calls.length) detailShow();
    stage.dataset.playhead = Math.round(play.at);
    chart.dataset.span = Math.round(view.span);
    chart.dataset.rows = rows.visible.map((r) => (r.calls.length ? `${r.head} ×${r.calls.length}` : r.head)).join("\n");
  }
  if (!still) wake();
  else if (still < Infinity) nap = setTimeout(wake, still);
}

function start() {
  controlsMake();
  themeSet(localStorage.getItem("forno.theme"));
  speak(lang);
  buttonsWire();
  chartPointer();
  stageMeasure();
  listen();
  menuRead().catch(() => {}); /* then the price stays as it is on the menu by default */
  if (!localStorage.getItem("forno.tour")) tourGo(0);
  wake();
}

start();
