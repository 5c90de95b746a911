/* playhead.js: the page's own clock, a moment of the *server's* time, and the window of the timeline around it.
 *
 * The server's laps last microseconds, the screen's frames 16 ms. Live, the playhead follows the server closely; paused it stands; in a
 * slow replay it creeps while the loop works and leaps while the loop sleeps. The stage and the timeline show the moment that it points
 * to, and find out by themselves that it has moved. */

import { $, clamp, firstAfter, wake } from "./tools.js";
import { connection } from "./connection.js";
import { alarmHide } from "./news.js";
import { hello, lapAfter, lapAt, rec } from "./recording.js";
import { T } from "./words.js";

/* `next`: which record is the next to be passed; -1: it has jumped. `tick`: the tick that it stands in. `slow`: since it
 * was live there has been a slow replay. */
export const play = { mode: "live", slow: false, at: 0, next: 0, slowness: 10000, until: Infinity, leap: null, tick: null };
/* `live`: its span when it was live. `selected`: the request that one looks at; `part`: or the part of the stage; `asked`: the kind of request
 * that one has asked for. */
export const view = { to: 0, span: 8e6, live: 0, scroll: 0, selected: null, part: "", asked: null };
const SPAN = { least: 50, most: 120e6 };
const LIVE_DELAY_MS = 60;     /* behind the newest tick, so that the next one arrives before we run dry */
const LEAP_MS = 450;          /* a sleep in slow replay, however long it was */

export function playheadMove(now, ms) {
  if (play.mode === "live") {
    const wanted = (now - connection.offset - hello.tick_ms - LIVE_DELAY_MS) * 1000;
    if (rec.latest) play.at = clamp(wanted, play.at, rec.latest);
  } else if (play.mode === "replay") {
    const here = lapAt(play.at), end = Math.min(rec.latest, play.until);
    if (here && !here.own) play.at = Math.min(here.to, play.at + ms * 1000 / play.slowness);
    else {
      let next = firstAfter(rec.laps, "from", play.at);
      while (rec.laps[next]?.own) next++; /* what is only our watching is slept through */
      const to = Math.min(rec.laps[next]?.from ?? end, end);
      if (play.leap?.to !== to) play.leap = { to, length: to - play.at };
      play.at = Math.min(to, play.at + Math.max(ms * 1000 / play.slowness, play.leap.length * ms / LEAP_MS));
    }
    if (play.at >= end) playSet("paused");
  }
}

/* The records that it has passed since this was asked last. Null: it has jumped; or these are too many to be played (a tab that was in
 * the background, or 50,000 requests a second), and are looked up instead: detail is dropped rather than frames. */
export function playheadPassed() {
  const from = play.next, to = play.next = firstAfter(rec.moves, "t", play.at);
  return from < 0 || to - from > 1500 ? null : rec.moves.slice(from, to);
}

export function playSet(mode) {
  if (mode === play.mode) return;
  if (play.mode === "live") view.live = view.span;
  play.mode = mode;
  wake();
  if (mode !== "live") alarmHide();
  playSpeak();
}

export function playSpeak() {
  $("stage").dataset.mode = play.mode;
  $("stage").dataset.playhead = Math.round(play.at);
  $("pause").textContent = play.mode === "live" ? T.pause : T.resume;
  $("pause").setAttribute("aria-pressed", play.mode !== "live");
  $("replay").textContent = play.mode === "replay" ? T.stop : T.replay;
}

export function pause() {
  if (play.mode === "live") view.to = play.at;
  playSet("paused");
}

export function liveAgain() {
  playSet("live");
  Object.assign(play, { at: Math.max(0, rec.latest - hello.tick_ms * 1000), next: -1, until: Infinity, slow: false });
  Object.assign(view, { scroll: 0, span: Math.max(view.span, view.live), live: 0 }); /* what one has looked at closely is past */
}

export function seek(t) {
  Object.assign(play, { at: clamp(t, rec.moves[0]?.t ?? 0, rec.latest), next: -1, leap: null });
  if (play.at < view.to - view.span || play.at > view.to) view.to = play.at + view.span * 0.6;
}

/* From a moment; or from where the playhead stands; or, when it stands at the end, from the last request that has been told whole. */
export function replayFrom(from, until = Infinity) {
  const atEnd = play.mode === "live" || play.at >= rec.latest;
  from ??= atEnd ? ([...rec.requests.values()].findLast((r) => !r.own && r.done && r.began)?.from ?? rec.latest - 2e6) - 60 : play.at;
  Object.assign(play, { until, slow: true });
  playSet("replay");
  seek(from);
  const lap = lapAt(from) ?? lapAfter(from);
  if (lap) viewShow(from, Math.max(lap.to, Math.min(until, from + 3000)));
}

/* To the end of the next lap, or of the one before. Returns it. */
export function stepLap(direction) {
  pause();
  const i = firstAfter(rec.laps, "from", play.at), lap = rec.laps[direction > 0 ? i : Math.max(0, i - 2)];
  if (!lap) return null;
  seek(lap.to - 1);
  if (direction > 0) view.to = Math.max(view.to, play.at + view.span * 0.2);
  return lap;
}

/* ---- the window ---- */

export function zoom(factor, around = play.mode === "live" ? view.to : play.at) {
  const span = clamp(view.span * factor, SPAN.least, SPAN.most), share = clamp((around - (view.to - view.span)) / view.span, 0, 1);
  view.to = around + (1 - share) * span;
  view.span = span;
}

export function viewShow(from, to) {
  view.span = clamp((to - from) * 1.5, SPAN.least, SPAN.most);
  view.to = to + view.span * 0.2;
}

export function pan(us) {
  if (play.mode === "live") pause();
  view.to += us;
}
