/* frames.js: frames, while there is something to see. The page sleeps as the loop does: nothing is drawn until somebody wakes it, or
 * until the moment that the last frame has named. */

import { calm } from "./tools.js";

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
