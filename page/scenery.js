/* scenery.js: what stands still on the stage while the tokens move: clients, paths, the ring, the worker's bench, the calls. */

import { calm } from "./tools.js";
import { play } from "./playhead.js";
import { hello } from "./recording.js";
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
