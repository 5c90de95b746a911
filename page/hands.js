/* hands.js: the timeline under the mouse, the finger and the keys. */

import { $, clamp } from "./tools.js";
import { select } from "./detail.js";
import { pan, pause, play, replayFrom, seek, view, zoom } from "./playhead.js";
import { lastSeen } from "./recording.js";
import { chart, momentAt, rowAt, rows, spanOf } from "./timeline.js";

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
