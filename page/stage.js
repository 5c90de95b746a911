/* stage.js: where things are on the stage, what colour they have, and the pen that draws them. */

import { $, all, canvasFit, clamp } from "./tools.js";

export const stage = $("stage");
export const paper = $("tokens"), pen = paper.getContext("2d");
export const color = {}, room = {}, ring = { x: 0, y: 0, r: 60, angle: -Math.PI / 2, due: 0, heat: 0 };

const PLACE_OF = { net: "ready", db: "db", queue: "db", oven: "oven", timer: "oven", upstream: "upstream", run: "loop" };
export const placeOf = (r, kind) => (r.quote && kind === "timer" ? "courier" : PLACE_OF[kind] ?? "oven");

/* The style sheet has them, by their names. */
export function colorsRead() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["night", "board", "raised", "line", "flour", "ash", "ember", "basil", "run", "net", "db", "oven", "upstream", "stall", "own", "mono", "sans"])
    color[name] = style.getPropertyValue(`--${name}`).trim();
  color.timer = color.oven;
  color.queue = color.db;
}

/* The style sheet's colours are #rrggbb. */
export const faint = (hex, share) => hex + Math.round(255 * share).toString(16).padStart(2, "0");

/* Asked of the layout: so the stage may look different on a phone, and the tokens still find their way. */
export function stageMeasure() {
  const base = paper.getBoundingClientRect();
  for (const e of all("[data-place] .room, [data-place] .ring-text", stage)) {
    const box = e.getBoundingClientRect(), { place } = e.closest("[data-place]").dataset;
    room[place === "kernel" ? "ready" : place] = { x: box.x - base.x, y: box.y - base.y, w: box.width, h: box.height };
  }
  const { x, y, w, h } = room.loop;
  Object.assign(ring, { x: x + w / 2, y: y + h / 2, r: clamp(Math.min(w, h) / 2 - 16, 60, 122) });
}

/* Where there is room for it all of the stage, elsewhere one place of it. */
export function stageCome(place) {
  if (innerWidth > 960) stage.scrollIntoView({ block: "nearest" });
  else stage.querySelector(place).scrollIntoView({ block: "start" });
}

/* A clean sheet, as large as the stage. */
export function stageFit() {
  pen.clearRect(0, 0, ...canvasFit(paper, pen));
}

/* The i-th place in a room. */
export function grid({ x, y, w, h }, i, gap, inset = 12) {
  const columns = Math.max(1, Math.floor((w - inset) / gap));
  return [x + inset + (i % columns) * gap, Math.min(y + inset + Math.floor(i / columns) * gap, y + h - 6)];
}

export function disc(x, y, r, fill, stroke) {
  pen.beginPath();
  pen.arc(x, y, r, 0, 2 * Math.PI);
  if (fill) { pen.fillStyle = fill; pen.fill(); }
  if (stroke) { pen.strokeStyle = stroke; pen.stroke(); }
}

/* A line, a curve, a box: whatever `way` draws. */
export function stroke(style, width, dashes, way) {
  pen.strokeStyle = style;
  pen.lineWidth = width;
  pen.setLineDash(dashes);
  pen.beginPath();
  way();
  pen.stroke();
  pen.setLineDash([]);
}

export function write(text, x, y, fill, font, align = "left") {
  Object.assign(pen, { fillStyle: fill, font: `${font} ${color.sans}`, textAlign: align, textBaseline: "middle" });
  pen.fillText(text, x, y);
}
