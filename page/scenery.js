/* scenery.js: what is on the stage beside the tokens: clients, paths, the ring, the worker's bench, the calls, and the oven with what bakes. */

import { calm, clamp, count, decimals, ease, soften } from "./tools.js";
import { play } from "./playhead.js";
import { hello, ordersBaking } from "./recording.js";
import { color, disc, faint, grid, pen, ring, room, stage, stroke, write } from "./stage.js";
import { clientsRoom, clientsShown, tokens } from "./tokens.js";
import { T } from "./words.js";

/* The viewer's own connection is the first; the last are this server's own, when it is its own courier. */
export function clientsDraw() {
  const n = clientsShown(), k = play.tick, selves = hello.own_courier && k ? k.upstream_active + k.upstream_idle : 0;
  for (let i = 0; i < n; i++) {
    const [x, y] = grid(clientsRoom(), i, 24);
    pen.fillStyle = color.raised;
    stroke(!i ? color.own : i >= n - selves ? color.upstream : color.net, 1.3, i ? [] : [3, 2], () => {
      pen.roundRect(x - 8, y - 8, 16, 16, 5);
      pen.fill();
    });
  }
}

export function pathsDraw() {
  const left = [ring.x - ring.r - 8, ring.y], right = ring.x + ring.r + 8;
  const narrow = room.loop.x < room.ready.x;
  const from = narrow ? [room.ready.x + 20, room.ready.y + room.ready.h] : [room.ready.x + room.ready.w + 16, room.ready.y + room.ready.h / 2];
  stroke(color.line, 1.5, [2, 6], () => {
    pen.moveTo(...from);
    pen.bezierCurveTo(from[0] + 26, from[1], left[0] - 26, left[1], ...left);
    if (!narrow) for (const place of ["db", "oven", "upstream"]) {
      const box = room[place], y = box.y + box.h / 2;
      pen.moveTo(right, ring.y);
      pen.bezierCurveTo(right + 30, ring.y, box.x - 46, y, box.x - 20, y);
    }
  });
}

export function ringDraw(now, ms) {
  const state = stage.dataset.loop, stalled = state === "stalled" || state === "silent";
  const turn = calm.matches ? 0 : Math.min(ring.due, ms / 1000 * Math.max(5, ring.due * 2.4));
  ring.due = Math.max(0, ring.due - turn);
  ring.angle += turn;
  ring.heat = Math.max(0, ring.heat - ms / 700);
  const hot = stalled ? 1 : Math.max(ring.heat, state === "working" ? 0.6 : 0);

  const circle = (style, width, r, dashes = []) => stroke(style, width, dashes, () => pen.arc(ring.x, ring.y, r, 0, 2 * Math.PI));
  circle(color.raised, 12, ring.r);
  circle(color.line, 1, ring.r + 6.5);
  circle(color.line, 1, ring.r - 6.5);
  if (stalled) return circle(state === "silent" ? color.own : color.stall, 12, ring.r, [9, 5]); /* broken, so that it is not by colour alone */
  const tail = 0.7 + 2.2 * hot, glow = pen.createConicGradient(ring.angle - tail, ring.x, ring.y), ember = hot > 0.04 ? color.ember : color.own;
  glow.addColorStop(0, faint(ember, 0));
  glow.addColorStop(tail / (2 * Math.PI), faint(ember, 0.48 + 0.44 * hot));
  glow.addColorStop(Math.min(1, tail / (2 * Math.PI) + 0.001), faint(ember, 0));
  pen.shadowColor = color.ember;
  pen.shadowBlur = 26 * hot;
  stroke(glow, 11, [], () => pen.arc(ring.x, ring.y, ring.r, ring.angle - tail, ring.angle));
  pen.shadowBlur = 0;
}

export function benchDraw() {
  const { x, y, w, h } = room.db, busy = play.tick?.db_busy;
  if (hello.lanes) return stroke(color.line, 1.5, [], () => { pen.moveTo(x + 8, y + h / 2 + 16); pen.lineTo(x + w - 8, y + h / 2 + 16); });
  stroke(busy ? color.db : color.line, 1.5, busy ? [] : [3, 4], () => pen.roundRect(x + 8, y + h / 2 - 16, 32, 32, 9));
  stroke(color.line, 1.5, [], () => { pen.moveTo(x + 48, y + h / 2 + 16); pen.lineTo(x + w - 8, y + h / 2 + 16); });
}

/* The fan-out, both its sides: a line from him who calls to each of his calls, where it is being answered. Of another courier we
 * know only how many calls are out. */
export function callsDraw() {
  const all = [...tokens.values()];
  pen.globalAlpha = 0.42;
  stroke(color.upstream, 1, [], () => {
    for (const call of all) {
      const from = call.r.caller && call.place === "courier" && !call.moving && tokens.get(call.r.caller.number);
      if (from?.place !== "upstream") continue;
      pen.moveTo(from.x + 11, from.y);
      pen.bezierCurveTo(from.x + 40, from.y, call.x - 34, call.y, call.x - 5, call.y);
    }
  });
  pen.globalAlpha = 1;
  for (const from of all) {
    const out = from.place === "upstream" && !from.moving ? all.filter((t) => t.r.caller === from.r && !t.last).length : 0;
    if (out) write(T.out(out), from.x - 10, from.y + 24, color.flour, "600 12px");
  }
  if (hello.own_courier) return;
  for (let i = 0; i < Math.min(play.tick?.upstream_active ?? 0, 60); i++) disc(...grid(room.courier, i, 12, 8), 3.6, color.upstream);
}

/* ---- the oven: who is ready leaves, the first that is done, not the first that came ---- */

const discs = new Map();

export function ovenDraw(now, t) {
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
  stroke("#6d3018", 9, [], arch); /* mortar, and bricks on it */
  stroke("#b4603a", 7, [17, 2.5], arch);

  const inner = { x: x + 26, y: y + 22, w: w - 52, h: h - 50 };
  const crowd = baking.length > 12, gap = crowd ? clamp(Math.sqrt(inner.w * inner.h / Math.max(baking.length, 1)) * 0.92, 17, 34) : Math.min(84, inner.w / 4);
  const columns = Math.max(1, Math.floor(inner.w / gap)), lines = Math.max(1, Math.floor((inner.h + 10) / gap));
  const fits = Math.min(baking.length, columns * lines), few = Math.min(columns, fits);
  for (let i = 0; i < fits; i++) {
    const o = baking[i], px = x + w / 2 + ((i % columns) - (few - 1) / 2) * gap, py = inner.y + (crowd ? 8 : 20) + Math.floor(i / columns) * (crowd ? gap : 50);
    let d = discs.get(o.id);
    const comes = play.mode === "live" && !calm.matches && t - o.from < 1e6; /* out of the ring */
    if (!d) discs.set(o.id, d = { o, x: comes ? ring.x + ring.r : px, y: comes ? ring.y : py });
    d.x += (px - d.x) * soften(80);
    d.y += (py - d.y) * soften(80);
    d.moving = Math.hypot(px - d.x, py - d.y) > 0.5;
    d.seen = now;
    pizzaDraw(d.x, d.y, crowd ? gap * 0.4 : o.pizzas > 1 ? 19 : 14, clamp((t - o.from) / (o.due - o.from), 0, 1), o, crowd, t, gap);
  }
  const rest = Math.max(baking.length, play.tick?.baking ?? 0) - fits;
  if (rest > 0 && baking.length) write(T.more(count(rest)), x + w - 12, y + h - 10, "#f6eddf", "12px", "right");
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
  stroke(color.oven, 2.5, [], () => pen.arc(x, y, r + 3, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * done));
  if (bare) return;
  const left = `${decimals(Math.max(0, o.due - t) / 1e6, 0)} s`, label = `#${o.id} · ${left}`;
  pen.font = `600 11px ${color.sans}`;
  write(pen.measureText(label).width < room - 3 ? label : left, x, y + r + 13, "#f6eddf", "600 11px", "center");
  if (o.pizzas > 1) {
    pen.font = `700 12px ${color.sans}`;
    pen.lineWidth = 3;
    pen.strokeStyle = "#2a120a";
    pen.strokeText(`×${o.pizzas}`, x, y);
    write(`×${o.pizzas}`, x, y, "#fff6e6", "700 12px", "center");
  }
}

export const discsForget = () => discs.clear();
export const discsMoving = () => [...discs.values()].some((d) => d.left || d.moving);
