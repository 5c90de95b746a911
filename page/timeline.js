/* timeline.js: the timeline: the requests, each in a row with its waits; the loop's own track; the axis; and the hands on it. */

import { $, canvasFit, clamp, count, decimals, duration, element, firstAfter } from "./tools.js";
import { select } from "./detail.js";
import { pan, pause, play, replayFrom, seek, view, zoom } from "./playhead.js";
import { lastSeen, rec, stalls } from "./recording.js";
import { color } from "./stage.js";
import { T } from "./words.js";

export const chart = $("timeline");
const ink = chart.getContext("2d");
const ROW = 19, TRACK = 46, AXIS = 20, KEPT = 60;
const pattern = {};

/* Each kind of wait has a pattern as well as a colour. */
const PATTERNS = {
  run: () => {}, net: (p) => { p.rect(0, 3, 8, 1.4); }, queue: (p) => { p.rect(0, 0, 3, 8); }, db: (p) => { for (let i = -8; i < 9; i++) p.rect(i, i < 0 ? i + 8 : i, 1.6, 1.6); },
  oven: (p) => { p.arc(2, 2, 1.2, 0, 7); p.arc(6, 6, 1.2, 0, 7); }, upstream: (p) => { p.rect(0, 1, 8, 1.5); p.rect(0, 5, 8, 1.5); },
  stall: (p) => { for (let i = 0; i < 8; i++) { p.rect(i, i, 1.6, 1.6); p.rect(i, 7 - i, 1.6, 1.6); } },
};

export const KINDS = Object.keys(PATTERNS);

export function patternsMake() {
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

export function legendDraw() {
  $("legend").replaceChildren(...KINDS.map((kind) => {
    const item = element("li"), swatch = element("canvas", "", { width: 44, height: 24, "aria-hidden": "true" }), p = swatch.getContext("2d");
    p.scale(2, 2);
    p.fillStyle = pattern[kind] ?? "gray";
    p.fillRect(0, 0, 22, 12);
    item.append(swatch, element("span", T.kinds[kind]));
    return item;
  }));
}

/* ---- which requests have a row ---- */

/* `credit`: so many may be let in now. `of`: the window for which they were chosen. */
export const rows = { shown: [], visible: [], credit: 30, of: "" };

export function rowsForget() {
  rows.shown = [];
}

const rowsOf = (some) => [...rec.requests.values()].filter((r) => !r.caller && some(r)); /* a call is shown with him who made it */

/* Live, a row is let in when there is credit for it: fifty thousand rows a second would be a blur. Paused, all that the window
 * touches are shown; live again, the last ones. */
function rowsChoose(ms) {
  const window = play.mode === "live" ? "live" : `${view.to} ${view.span}`;
  if (window === "live" && rows.of !== "live") rows.shown = rowsOf(() => true).slice(-KEPT);
  else if (window === "live") {
    rows.credit = Math.min(30, rows.credit + ms * 0.006);
    for (const r of rec.arriving) {
      if (r.caller || (rows.credit < 1 && !r.own)) continue;
      if (!r.own) rows.credit--;
      rows.shown.push(r);
    }
    rows.shown = rows.shown.slice(-KEPT);
  } else if (rows.of !== window) {
    rows.shown = rowsOf((r) => r.from <= view.to && lastSeen(r) >= view.to - view.span).slice(-800);
  }
  rows.of = window;
  rec.arriving.length = 0;
}

/* A row, and beneath it two more for its calls, all in one. */
const rowHigh = (r) => (r.calls.length ? 3 : 1);

function rowsFit(list, fit) {
  let i = list.length;
  while (i > 0 && (fit -= rowHigh(list[i - 1])) >= 0) i--;
  return list.slice(i);
}

/* The newest, and before them whatever still waits: what is slow is what one came to see. */
function rowsVisible(fit) {
  const all = rows.shown.length, list = rows.shown.slice(0, clamp(all - view.scroll, Math.min(fit, all), all)), newest = rowsFit(list, fit);
  if (play.mode !== "live") return newest;
  const waits = (r) => !r.own && !r.doubt && (!r.done || r.orders.some((o) => o.to > play.at));
  const waiting = rowsFit(list.slice(0, list.length - newest.length).filter(waits), fit / 2);
  return [...waiting, ...rowsFit(newest, fit - waiting.reduce((n, r) => n + rowHigh(r), 0))];
}

/* ---- places ---- */

let wide = 0, high = 0;
const gutter = () => (wide < 560 ? 96 : 172);
const room = () => wide - gutter() - 10;
const narrow = () => gutter() < 120;
const xOf = (t) => gutter() + (t - (view.to - view.span)) / view.span * room();
const momentAt = (x) => (x > gutter() ? view.to - view.span + (x - gutter()) / room() * view.span : null);
const spanOf = (px) => px / room() * view.span;

function rowAt(y) {
  let bottom = 8;
  return y < high - AXIS - TRACK ? rows.visible.find((r) => (bottom += rowHigh(r) * ROW) > y) : undefined;
}

/* What is to be seen of a time: where it begins, and how wide it is, less than nothing if it is not to be seen. */
function extent(from, to) {
  const left = Math.max(gutter(), xOf(from));
  return [left, Math.min(wide - 10, xOf(to)) - left];
}

function write(text, x, y, fill, font, align = "left") {
  Object.assign(ink, { fillStyle: fill, font, textAlign: align, textBaseline: "middle" });
  ink.fillText(text, x, y);
}

/* Live, nothing is drawn beyond the playhead; afterwards it is a cursor in what was recorded. */
const horizon = () => (play.mode === "live" ? play.at : rec.latest);

/* ---- rows ---- */

function bar(kind, from, to, y, h) {
  const [x, w] = extent(from, to);
  if (w < 0) return;
  ink.fillStyle = pattern[kind] ?? color.net;
  ink.fillRect(x, y, Math.max(1.6, w), h);
}

function rowDraw(r, y) {
  const chosen = view.selected === r, label = r.head || T.request(r.number), font = `11.5px ${color.mono}`, middle = y + ROW / 2 + 0.5;
  if (chosen) { ink.fillStyle = color.raised; ink.fillRect(0, y, wide, ROW); }
  ink.globalAlpha = r.own ? 0.45 : r.doubt ? 0.6 : 1;
  ink.save();
  ink.beginPath();
  ink.rect(0, y, gutter() - 8, ROW);
  ink.clip();
  write(narrow() ? label.replace(/^\w+ /, "") : label, 14, middle, chosen ? color.flour : r.own ? color.own : color.ash, font);
  ink.restore();
  for (const s of r.segments) {
    const kind = r.own ? "net" : s.kind === "run" && stalls(s.to - s.from) ? "stall" : s.kind;
    bar(kind, s.from, Math.min(s.to, horizon()), y + 4, ROW - 8);
  }
  if (r.open && !r.done) bar(r.own ? "net" : r.open.kind, r.open.from, r.doubt ? r.mark : Math.max(horizon(), r.open.from), y + 4, ROW - 8);
  for (const o of r.orders) bar("oven", o.from, Math.min(o.to, Math.max(horizon(), o.from)), y + 8, ROW - 16);
  const end = xOf(r.to) + 7;
  if (r.status >= 100 && !r.own && end < wide - 30 && end > gutter() - 20 && r.orders.every((o) => o.to < Infinity))
    write(r.discarded ? "×" : String(r.status), xOf(Math.max(r.to, ...r.orders.map((o) => o.to))) + 7, middle, r.status < 400 ? color.basil : color.stall, font);
  ink.globalAlpha = 1;
  if (r.calls.length) callsDraw(r.calls, y + ROW, font);
}

/* The calls of one request, each a line: side by side, or one after the other. */
function callsDraw(calls, y, font) {
  const each = (2 * ROW - 6) / Math.max(calls.length, 4);
  write(T.callsRow(count(calls.length)), narrow() ? 14 : 26, y + ROW / 2, color.ash, font);
  if (!narrow()) write(T.callsSelf, 26, y + ROW * 1.5 - 2, color.ash, font);
  ink.fillStyle = color.upstream;
  calls.forEach((c, i) => {
    const [x, w] = extent(c.from, c.done ? Math.min(c.to, horizon()) : Math.max(c.from, horizon()));
    if (w >= 0) ink.fillRect(x, y + 2 + i * each, Math.max(1.6, w), Math.max(0.8, each * 0.66));
  });
}

/* ---- the loop's own track: from far, how much of each tick it worked (exact, from the totals); from near, its recorded laps ---- */

function trackDraw(top) {
  const from = view.to - view.span, h = TRACK - 12, y = top + 6, near = view.span < 3e6;
  ink.fillStyle = color.night;
  ink.fillRect(gutter(), y, room(), h);
  write(T.loop, 14, y + h / 2, color.ash, `600 12px ${color.sans}`);
  for (let i = firstAfter(rec.ticks, "at_us", from); i < rec.ticks.length && rec.ticks[i].from < view.to; i++) {
    const k = rec.ticks[i], share = k.worked_us / Math.max(1, k.worked_us + k.slept_us), [x, w] = extent(k.from, Math.min(k.at_us, horizon()));
    if (w <= 0) continue;
    ink.fillStyle = color.raised; /* asleep, as far as it is known */
    ink.fillRect(x, y, w + 0.5, h);
    const worked = Math.max(share > 0.0005 ? 1.5 : 0, share * (h - 2));
    ink.globalAlpha = near ? 0.3 : 1;
    ink.fillStyle = stalls(k.longest_lap_us) ? pattern.stall : color.run;
    ink.fillRect(x, y + h - worked, w + 0.5, worked);
    ink.globalAlpha = 1;
  }
  let last = -1;
  for (let i = Math.max(0, firstAfter(rec.laps, "from", from) - 1); i < rec.laps.length && rec.laps[i].from < Math.min(view.to, horizon()); i++) {
    const lap = rec.laps[i], stalled = stalls(lap.to - lap.from), x = Math.round(xOf(lap.to));
    if (!stalled && (!near || (x === last && lap.to - lap.from < view.span / 2000))) continue; /* one line a pixel is enough */
    last = x;
    ink.globalAlpha = lap.own ? 0.5 : 1;
    bar(stalled ? "stall" : "run", lap.from, Math.min(lap.to, Math.max(horizon(), lap.from)), y, h);
    if (view.span < 2e5) asleepDraw(lap, y, h);
    ink.globalAlpha = 1;
    if (stalled) trackLabel(lap.step || T.kinds.stall, lap.from, lap.to, y, h, color.board, color.stall);
    else if (lap.step) trackLabel(lap.step, lap.from, lap.to, y, h, color.night);
  }
}

function asleepDraw(lap, y, h) {
  const [x, w] = extent(lap.from - lap.slept, lap.from);
  if (w < 3) return;
  ink.fillStyle = color.raised;
  ink.fillRect(x + 1, y, w - 2, h);
  trackLabel(`${T.kinds.asleep} ${duration(lap.slept)}`, lap.from - lap.slept, lap.from, y, h, color.ash);
}

/* Where there is room for it. */
function trackLabel(text, from, to, y, h, fill, ground) {
  const [x, w] = extent(from, to), font = `600 11px ${color.mono}`;
  ink.font = font;
  const needs = ink.measureText(text).width, middle = x + w / 2;
  if (needs + 10 > w) return;
  if (ground) { ink.fillStyle = ground; ink.fillRect(middle - needs / 2 - 6, y + h / 2 - 9, needs + 12, 18); }
  write(text, middle, y + h / 2 + 0.5, fill, font, "center");
}

/* ---- the axis, and all of it ---- */

function axisDraw() {
  const about = view.span / Math.max(2, (wide - gutter()) / 110), base = 10 ** Math.floor(Math.log10(about));
  const step = [1, 2, 5, 10].map((k) => k * base).find((k) => k >= about), first = Math.ceil((view.to - view.span) / step) * step;
  ink.strokeStyle = color.line;
  ink.lineWidth = 1;
  for (let i = 0; first + i * step <= view.to; i++) {
    const t = first + i * step || 0, x = xOf(t);
    if (x < gutter() || t < -step / 2) continue;
    ink.globalAlpha = 0.45;
    ink.beginPath();
    ink.moveTo(x, 8);
    ink.lineTo(x, high - AXIS);
    ink.stroke();
    ink.globalAlpha = 1;
    if (x <= gutter() + 18 || x >= wide - 30) continue;
    /* µs since the server's start would be a long number: in a narrow window, count from its first line. */
    const digits = Math.max(0, Math.ceil(-Math.log10(step / 1e6) - 1e-9)), label = step >= 1e5 || t === first ? `${decimals(t / 1e6, digits)} s` : `+${duration(t - first)}`;
    write(label, x, high - AXIS / 2 + 1, color.ash, `11px ${color.sans}`, "center");
  }
}

function cursorDraw() {
  const x = xOf(play.at);
  if (x < gutter() || x > wide - 10) return;
  ink.fillStyle = color.flour;
  ink.fillRect(x - 0.75, 4, 1.5, high - AXIS - 4);
  ink.beginPath();
  ink.arc(x, 6, 4, 0, 7);
  ink.fill();
}

export function timelineDraw(ms) {
  [wide, high] = canvasFit(chart, ink);
  if (play.mode === "live") view.to = play.at + view.span * 0.02;
  if (play.mode === "replay" && play.at > view.to - view.span * 0.1) view.to = play.at + view.span * 0.4;
  rowsChoose(ms);
  ink.clearRect(0, 0, wide, high);
  const top = high - AXIS - TRACK;
  rows.visible = rowsVisible(Math.floor((top - 8) / ROW));
  axisDraw();
  let y = 8;
  for (const r of rows.visible) {
    rowDraw(r, y);
    y += rowHigh(r) * ROW;
  }
  if (!rows.shown.length) write(T.none, (wide + gutter()) / 2 - 10, top / 2, color.ash, `14px ${color.sans}`, "center");
  trackDraw(top);
  if (play.mode !== "live") cursorDraw();
  if ($("span-shown").value !== duration(view.span)) $("span-shown").value = duration(view.span);
}

/* ---- under the mouse, the finger and the keys ---- */

function drag() {
  let from = null;
  chart.addEventListener("pointerdown", (e) => { from = { x: e.clientX, to: view.to, moved: false }; chart.setPointerCapture(e.pointerId); });
  chart.addEventListener("pointermove", (e) => {
    if (!from || Math.abs(e.clientX - from.x) < 4 && !from.moved) return;
    from.moved = true;
    pause();
    view.to = from.to - spanOf(e.clientX - from.x);
  });
  chart.addEventListener("pointerup", (e) => {
    const r = rowAt(e.offsetY), t = momentAt(e.offsetX);
    if (from && !from.moved) {
      if (r) select(r);
      if (play.mode !== "live" && t !== null) seek(t);
    }
    from = null;
  });
  chart.addEventListener("pointercancel", () => { from = null; });
}

function wheel(e) {
  if (e.ctrlKey || e.metaKey) zoom(e.deltaY > 0 ? 1.35 : 0.74, play.mode === "live" ? view.to : momentAt(e.offsetX) ?? view.to - view.span);
  else if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) pan((e.deltaX || e.deltaY) / chart.clientWidth * view.span);
  else return;
  e.preventDefault();
}

function choose(move) {
  const last = rows.shown.length - 1, now = rows.shown.indexOf(view.selected), i = now < 0 ? last : clamp(now + move, 0, last);
  select(rows.shown[i]);
  const first = rows.shown.indexOf(rows.visible[0]);
  if (i < first) view.scroll += first - i;
  else if (i >= first + rows.visible.length) view.scroll = Math.max(0, view.scroll - (i - first - rows.visible.length + 1));
}

function keys(e) {
  if (e.altKey || e.ctrlKey || e.metaKey) return; /* for the browser: back, larger, … */
  const move = { ArrowUp: -1, ArrowDown: 1 }[e.key];
  if (move && rows.shown.length) choose(move);
  else if (e.key === "ArrowLeft" || e.key === "ArrowRight") pan((e.key === "ArrowLeft" ? -1 : 1) * view.span / 8);
  else if (e.key === "+" || e.key === "=") zoom(0.5);
  else if (e.key === "-") zoom(2);
  else if (e.key === " ") $("pause").click();
  else if (e.key === "Enter" && view.selected) replayFrom(view.selected.from - 100, lastSeen(view.selected));
  else return;
  e.preventDefault();
}

export function handsOn() {
  drag();
  chart.addEventListener("wheel", wheel, { passive: false });
  chart.addEventListener("keydown", keys);
}
