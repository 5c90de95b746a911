/* tools.js: what every module takes for granted: the document at hand, numbers in words, arrays in the order of time, frames. */

import { lang } from "./words.js";

export const $ = (id) => document.getElementById(id);
export const all = (selector, from = document) => [...from.querySelectorAll(selector)];
export const calm = matchMedia("(prefers-reduced-motion: reduce)");
export const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

export function element(tag, text = "", attributes = {}) {
  const e = document.createElement(tag);
  e.textContent = text;
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  return e;
}

/* Written only when it changes: what stays the same need not be laid out again. */
export function put(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

const locale = () => (lang === "pt" ? "pt-BR" : "en-US");
export const count = (n) => Number(n).toLocaleString(locale());
export const decimals = (x, digits) => x.toLocaleString(locale(), { maximumFractionDigits: digits });

export function duration(us) {
  if (us < 1000) return `${decimals(us, 0)} µs`;
  if (us < 1e6) return `${decimals(us / 1000, us < 1e4 ? 2 : us < 1e5 ? 1 : 0)} ms`;
  return `${decimals(us / 1e6, us < 1e7 ? 2 : 1)} s`;
}

/* Where, in an array that is sorted by `key`, what comes after t begins. */
export function firstAfter(array, key, t) {
  let low = 0, high = array.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (array[middle][key] > t) high = middle; else low = middle + 1;
  }
  return low;
}

export function canvasFit(canvas, context) {
  const scale = Math.min(2, devicePixelRatio || 1), w = canvas.clientWidth, h = canvas.clientHeight;
  if (canvas.width !== Math.round(w * scale) || canvas.height !== Math.round(h * scale)) {
    canvas.width = Math.round(w * scale);
    canvas.height = Math.round(h * scale);
  }
  context.setTransform(scale, 0, 0, scale, 0, 0);
  return [w, h];
}

/* ---- frames, while there is something to see: nothing is drawn until somebody wakes the page, or until the moment that the last frame
 * has named ---- */

let draw = null, asked = 0, nap = 0, last = 0, frameMs = 16;

export function wake() {
  asked ||= requestAnimationFrame(frame);
}

/* drawing(now, ms): ms after the last one. Returns in how many ms something will have moved: 0, the next frame; Infinity, not until
 * somebody wakes us. */
export function framesBegin(drawing) {
  draw = drawing;
  wake();
}

function frame(now) {
  asked = 0;
  clearTimeout(nap);
  frameMs = Math.min(100, now - last);
  last = now;
  const still = draw(now, frameMs);
  if (!still) wake();
  else if (still < Infinity) nap = setTimeout(wake, still);
}

/* What share of its way something goes in this frame: the same pace at any frame rate. */
export const soften = (halfway) => (calm.matches ? 1 : 1 - 2 ** (-frameMs / halfway));
export const ease = (p) => (p < 0.5 ? 2 * p * p : 1 - (2 - 2 * p) ** 2 / 2);
