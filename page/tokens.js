/* tokens.js: the requests on the stage, as tokens in motion. What happened first is seen first, whoever it happened to. */

import { calm, clamp, ease, soften } from "./tools.js";
import { loopTurned, readyShow, stepShow } from "./doing.js";
import { play, view } from "./playhead.js";
import { hello, lapAt, rec } from "./recording.js";
import { color, disc, grid, pen, placeOf, ring, room, stage, write } from "./stage.js";

const TOKENS_MAX = 44;        /* more would be a crowd, not a picture; the numbers count everybody */
const HOP_MS = 300, STEP_MS = 260;

export const tokens = new Map();
let hops = [], pace = STEP_MS, begun = 0, inLoop = null;
let crowd = {};               /* how many stand where, as of the last frame */

/* The i-th place to stand. In the database the first is the worker's bench, apart from the queue: there is one worker, and the
 * first in line is his. */
function slot(place, i, token) {
  if (place === "loop") return [ring.x + ring.r * Math.cos(token.turn ?? Math.PI), ring.y + ring.r * Math.sin(token.turn ?? Math.PI)];
  if (place === "clients") return clientSlot(token.r);
  if (place === "db" && hello.lanes) return [room.db.x + 24 + Math.min(i, 15) * 22, room.db.y + room.db.h / 2];
  if (place === "db") return [room.db.x + 24 + (i ? 34 + Math.min(i - 1, 13) * 22 : 0), room.db.y + room.db.h / 2];
  if (place === "oven") return [room.oven.x + 22 + i * clamp((room.oven.w - 44) / (crowd.oven ?? 1), 4, 23), room.oven.y + room.oven.h - 13];
  if (place === "courier") return grid(room.courier, i, crowd.courier > 22 ? 11 : 18.5, 10);
  return grid(room[place], i, 23, 16);
}

/* The viewer's own connection is the first square, the grey one; the last are this server's own, when it is its own courier. */
function clientSlot(r) {
  const others = clientsShown() - 1, k = play.tick, selves = r.caller && k ? Math.min(others, k.upstream_active + k.upstream_idle) : 0;
  return grid(clientsRoom(), r.own || others < 1 ? 0 : selves ? 1 + others - selves + r.conn % selves : 1 + r.conn % others, 24);
}

export const clientsRoom = () => ({ ...room.clients, h: room.clients.h - 12 });

export function clientsShown() {
  const { w, h } = clientsRoom(), fit = Math.floor((w - 12) / 24) * Math.max(1, Math.floor(h / 24));
  return clamp(play.tick?.connections ?? 1, 1, fit);
}

export function tokenOf(r, place) {
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
export function tokenPass(m) {
  switch (m.kind) {
    case "woke": readyShow(m.lap, play.mode !== "live"); break;
    case "sleep": loopTurned(m.lap); break;
    case "bytes": if (!tokens.has(m.req)) tokenGo(m.span, "ready", { kind: "net" }); break;
    case "woken": tokenGo(m.span, "ready", { kind: m.name }); break;
    case "step": tokenGo(m.span, "loop", { kind: "run", step: m.name, us: m.took }); break;
    case "wait": tokenGo(m.span, placeOf(m.span, m.name), { kind: m.name }); break;
    case "answer": tokenGo(m.span, "clients", { kind: m.value < 400 ? "basil" : "stall", last: true }); break;
    case "discarded": tokenGo(m.span, "clients", { kind: "own", last: true }); break;
  }
}

/* Put everything where it stands at a moment, without flight: after a jump of the playhead. */
export function tokensPlace(t) {
  hops = [];
  tokens.clear();
  for (const r of rec.requests.values()) {
    if (r.from > t || (r.done && r.to <= t) || r.doubt) continue;
    const now = r.segments.find((s) => s.from <= t && t < s.to) ?? (r.open && r.open.from <= t ? r.open : null);
    if (!now || !tokenOf(r, placeOf(r, now.kind))) continue;
    tokens.get(r.number).kind = now.kind;
  }
  const lap = lapAt(t);
  if (lap) readyShow(lap, true);
}

/* ---- in motion ---- */

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

export function tokensMove(now) {
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

export function tokenDraw(token, now) {
  const fade = token.last && !token.moving ? 1 - clamp((now - token.rest) / 320, 0, 1) : token.r.doubt ? 0.4 : 1;
  pen.globalAlpha = fade;
  pen.lineWidth = 1.6;
  if (token.r.own) disc(token.x, token.y, 5, color.board, color.own);
  else if (token.r.quote) disc(token.x, token.y, view.selected === token.r ? 7 : 5, color[token.kind === "timer" || token.kind === "net" ? "upstream" : token.kind]);
  else {
    const c = color[token.kind] ?? color.net, chosen = view.selected === token.r;
    pen.shadowColor = c;
    pen.shadowBlur = token.kind === "net" ? 0 : token.place === "loop" ? 22 : 9;
    disc(token.x, token.y, 10, c);
    pen.shadowBlur = 0;
    if (chosen) { pen.lineWidth = 2.5; disc(token.x, token.y, 13, null, color.flour); }
    write(token.r.number % 1000, token.x, token.y + 0.5, color.night, "700 9px", "center");
  }
  pen.globalAlpha = 1;
}

/* ---- asked of them ---- */

export const callsSeen = () => [...tokens.values()].filter((t) => t.r.caller && !t.last).length;

export const tokenUnder = (x, y) => [...tokens.values()].find((t) => t.x !== null && Math.hypot(t.x - x, t.y - y) < 15);

export const tokensMoving = (now) => hops.length > 0 ||
  [...tokens.values()].some((t) => t.x === null || t.moving || t.last || (t.place === "loop" && now - t.rest < pace));
