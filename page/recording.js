/* recording.js: what the server told, for as long as it fits. Knows nothing of what is drawn of it. */

import { firstAfter } from "./tools.js";
import { newsAdd } from "./news.js";
import { T } from "./words.js";

/* Bounds, so that a page left open for hours stays as small as it was after a minute. */
const KEPT = { moves: 40000, requests: 4000, laps: 10000, ticks: 1200, orders: 3000, segments: 120, notes: 160 };

/* `arriving`: requests that the timeline has not seen yet. `left`: the orders that have left the oven, in the order in which they did. */
export const rec = { moves: [], requests: new Map(), orders: new Map(), laps: [], ticks: [], arriving: [], left: [], latest: 0, stalls: 0 };
export let hello = { tick_ms: 100, stall_ms: 50, conn: 0, own_courier: true };
let lapOpen = null, bakeOpen = [];
const lastAnswer = new Map();

export function recordingForget() {
  for (const list of [rec.moves, rec.laps, rec.ticks, rec.arriving]) list.length = 0;
  for (const map of [rec.requests, rec.orders, callers, lastAnswer]) map.clear();
  rec.latest = rec.stalls = 0;
  lapOpen = null;
  bakeOpen = [];
}

/* A span as it grows: what it did and when, and what it does now (`open`). */
function requestOf(number, at, begins) {
  let r = rec.requests.get(number);
  if (!r) {
    r = { number, conn: 0, own: false, head: "", status: 0, from: at, to: at, began: begins, done: false, mark: at, open: null, next: null,
          segments: [], notes: [], orders: [], calls: [], caller: null, quote: false, queued: 0, doubt: false };
    rec.requests.set(number, r);
    rec.arriving.push(r);
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
export const stalls = (us) => hello.stall_ms > 0 && us >= hello.stall_ms * 1000;

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
    rec.left.push(m.req);
    if (rec.left.length > 200) rec.left.splice(0, 100);
  },
  "taken back"(m) {
    const order = rec.orders.get(m.req);
    if (order) { order.to = m.at; order.taken = true; }
    newsAdd(() => T.taken(m.req), true, 1);
  },
};
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

export function helloTake(data) {
  hello = { ...data, news: true };
  doubtAll();
}

/* Who comes in the midst of it is told what bakes and who waits; what is not among it has ended meanwhile. Returns those who wait: [request,
 * what for]. Empty, unless there has been a hello since it was last asked. */
export function helloHeed() {
  if (!hello.news) return [];
  hello.news = false;
  const { baking, alive } = hello, ids = new Set(baking.map(([id]) => id));
  for (const o of rec.orders.values()) if (o.to === Infinity && !ids.has(o.id)) o.to = Math.min(o.due, rec.latest);
  for (const [id, what, from, due] of baking) if (!rec.orders.has(id)) orderIn(id, what, from, due);
  return alive.map(([number, conn, head, kind, since]) => {
    const r = requestOf(number, since, false);
    Object.assign(r, { conn, doubt: false, mark: since });
    r.open ??= { kind, from: since };
    if (kind === "upstream") callers.add(r);
    if (!r.head) headTell(r, head);
    return [r, kind];
  });
}

export const isNews = (m) => !m.lap?.own; /* and not a lap in which the loop only told us */

/* Take in what a tick tells. Returns its records, in the order of time, and how many old ones had to go for them. */
export function tickTake(tick) {
  if (tick.skipped) doubtAll();
  const moves = tick.records.map(takeRecord).filter(Boolean).sort((a, b) => a.t - b.t); /* stable: what shares a moment keeps its order */
  for (const m of moves) rec.moves.push(m);
  trimArray(rec.laps, KEPT.laps);
  tick.from = Math.max(tick.at_us - tick.worked_us - tick.slept_us, rec.ticks.at(-1)?.at_us ?? -Infinity);
  tick.records = null;
  rec.ticks.push(tick);
  trimArray(rec.ticks, KEPT.ticks);
  trimArray(rec.arriving, KEPT.requests); /* nothing takes them while nothing is drawn */
  rec.latest = tick.at_us;
  rec.stalls += tick.stalls;
  if (tick.skipped) doubtAll(); /* what is missing may lie before these records or behind them */
  return { moves, gone: trimArray(rec.moves, KEPT.moves) };
}

/* ---- looked up ---- */

export const lapAfter = (t) => rec.laps[firstAfter(rec.laps, "from", t)];
export const tickAt = (t) => rec.ticks[Math.min(firstAfter(rec.ticks, "at_us", t), rec.ticks.length - 1)];

export function lapAt(t) {
  const lap = rec.laps[firstAfter(rec.laps, "from", t) - 1];
  return lap && t < lap.to ? lap : null;
}

/* When the last was seen of it, or of what it ordered. */
export const lastSeen = (r) => Math.max(r.done ? r.to : r.doubt ? r.mark : rec.latest, ...r.orders.map((o) => Math.min(o.to, rec.latest)));

export function ordersBaking(t) {
  const baking = [];
  for (const o of rec.orders.values()) {
    if (o.to === Infinity && t > o.due + 3e6) o.to = o.due + 3e6; /* its end was skipped */
    if (o.from <= t && t < o.to) baking.push(o);
  }
  return baking.sort((a, b) => a.due - b.due);
}
