/* address.js: what one sees, as the fragment of the address: to be linked, copied, and gone back to. It is a list of words:
 *
 *   #tour/3              a step of the tour
 *   #stage/oven          a part of the stage, told in the detail panel
 *   #request/oven        the last request that ordered, or mostly waited for a timer (db, queue, …), or else the next; #request: for anything
 *   #replay/oven         the same, replayed slowly
 *   #control/block/300   a control, with its ms
 *   #lang/pt&stage/oven  the language; several words
 *
 * What it does not know it leaves alone. Whoever follows a link is shown something, and has done nothing: it presses no button. */

import { $, all, wake } from "./tools.js";
import { controlFill, controlFits, controlNow } from "./controls.js";
import { replayShow, select } from "./detail.js";
import { liveAgain, play, view } from "./playhead.js";
import { rec, stalls } from "./recording.js";
import { stageCome } from "./stage.js";
import { KINDS, chart } from "./timeline.js";
import { STEPS, tourAt, tourEnd, tourGo } from "./tour.js";
import { lang } from "./words.js";

let speak = null, named = false, said = "";
const languageAtFirst = lang;

/* ---- a request, by the kind of its waits ---- */

const kindOf = (s) => (s.kind === "timer" ? "oven" : s.kind === "run" && stalls(s.to - s.from) ? "stall" : s.kind);

/* What it spent most of its time with. */
function kindMost(r) {
  const sums = {};
  for (const s of r.segments) sums[kindOf(s)] = (sums[kindOf(s)] ?? 0) + s.to - s.from;
  return Object.keys(sums).sort((a, b) => sums[b] - sums[a])[0];
}

const waited = (r) => r.segments.some((s) => !["run", "net"].includes(kindOf(s))); /* not so the page's own files */
const fits = (r, kind) => (kind ? kindMost(r) === kind || (kind === "oven" && r.orders.length > 0) : waited(r));

function requestAsk(kind, slow) {
  select(null, "", { kind, slow });
  if (slow) stageCome(".place.loop");
  else $(innerWidth > 960 ? "record" : "detail").scrollIntoView({ block: "nearest" });
  chart.focus({ preventScroll: true });
  addressHeed();
}

/* A tick has come, and perhaps what was asked for. */
export function addressHeed() {
  const asked = view.asked;
  if (!asked || view.selected) return;
  const r = [...rec.requests.values()].findLast((one) => !one.own && !one.caller && one.done && one.began && fits(one, asked.kind));
  if (!r) return;
  select(r, "", asked);
  if (asked.slow) replayShow(r);
}

/* Its word stays as it was asked for. */
function requestNow() {
  const kind = view.asked ? view.asked.kind : view.selected && kindMost(view.selected);
  return kind ? [kind] : [];
}

const slowly = () => (view.asked && !view.selected ? view.asked.slow : play.slow);
const kindFits = (kind) => kind === undefined || KINDS.includes(kind);

/* ---- each word: whether what follows it is right; what it says now, null if nothing; how it is opened, and closed ---- */

const STATES = {
  lang: { fits: (l) => l === "en" || l === "pt", now: () => (named || lang !== languageAtFirst ? [lang] : null),
    open: (l) => { named = true; if (l !== lang) speak(l); }, close: () => {} },
  tour: { fits: (n) => /^[1-9]$/.test(n) && n <= STEPS, now: () => (tourAt() ? [tourAt()] : null), open: (n) => tourGo(n - 1), close: tourEnd },
  stage: { fits: (part) => all(".place h2 a").some((a) => a.hash === `#stage/${part}`), now: () => (view.part ? [view.part] : null),
    open: partOpen, close: () => select(null) },
  request: { fits: kindFits, now: () => ((view.asked || view.selected) && !slowly() ? requestNow() : null),
    open: (kind) => requestAsk(kind, false), close: () => select(null) },
  replay: { fits: kindFits, now: () => (slowly() ? requestNow() : null), open: (kind) => requestAsk(kind, true), close: () => { select(null); liveAgain(); } },
  control: { fits: controlFits, now: controlNow, open: controlFill, close: () => controlFill("") },
};

function partOpen(part) {
  select(null, part);
  stageCome(`.place[data-place=${part}]`);
  all(".place h2 a").find((a) => a.hash === `#stage/${part}`).focus({ preventScroll: true });
}

/* What the address asks for. Null: nothing that is known. */
function addressRead() {
  const words = location.hash.slice(1).split("&").map((word) => word.split("/"));
  const known = words.filter(([word, ...more]) => Object.hasOwn(STATES, word) && STATES[word].fits(...more));
  return known.length || !location.hash ? Object.fromEntries(known.map(([word, ...more]) => [word, more])) : null;
}

/* Returns whether it has opened anything but a language. */
function open() {
  const wanted = addressRead();
  if (!wanted) return false;
  for (const [word, state] of Object.entries(STATES)) if (!wanted[word] && state.now()) state.close();
  for (const [word, state] of Object.entries(STATES)) if (wanted[word]) state.open(...wanted[word]);
  wake();
  return Object.keys(wanted).some((word) => word !== "lang");
}

export function addressBegin(speaking) {
  speak = speaking;
  addEventListener("hashchange", open);
  return open();
}

/* What one sees now, if it is something else than before. It makes no step on the way back: those are made by links. */
export function addressShow() {
  const words = Object.entries(STATES).map(([word, { now }]) => [word, now()]).filter(([, more]) => more);
  const fragment = words.map(([word, more]) => [word, ...more].join("/")).join("&");
  if (fragment === said) return;
  document.body.dataset.state = said = fragment;
  history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
}
