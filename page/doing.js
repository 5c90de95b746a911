/* doing.js: what the loop is doing, said in the middle of its ring; what the kernel has handed it, the ready list; and the numbers. */

import { $, all, count, decimals, duration, element, firstAfter, put } from "./tools.js";
import { SILENCE_MS, connection, overdue } from "./connection.js";
import { alarmShow, newsAdd } from "./news.js";
import { play } from "./playhead.js";
import { hello, lapAt, rec, stalls, tickAt } from "./recording.js";
import { ring, stage } from "./stage.js";
import { T } from "./words.js";

const shown = { step: "", us: 0, until: 0, stall: 0, readyUntil: 0, stallUs: 0, stallStep: "" };

const familyOf = (name) => (name.startsWith("courier") ? "courier" : name);

export function readyShow(lap, now) {
  const time = performance.now();
  for (const [, name] of lap.readies) {
    const chip = stage.querySelector(`#interest [data-fd="${CSS.escape(familyOf(name))}"]`);
    if (!chip || lap.own) continue; /* what the watching itself causes does not light up, or something always would */
    chip.classList.add("lit");
    chip.off = time + 240;
  }
  if (!now && (time < shown.readyUntil || (lap.own && time < shown.readyUntil + 900))) return;
  shown.readyUntil = lap.own ? 0 : time + 320;
  numberPut("ready", count(lap.ready));
  const few = lap.readies.slice(0, lap.ready > 4 ? 3 : 4).map(([fd, name]) => element("li", `${name.split(", ")[0]} ${fd}`, lap.own ? { class: "own" } : {}));
  if (lap.ready > few.length) few.push(element("li", T.more(lap.ready - few.length)));
  $("ready").replaceChildren(...few);
}

export function loopTurned(lap) {
  if (!lap.own) ring.due = Math.min(ring.due + 2 * Math.PI, 6 * Math.PI);
}

function say(doing, since, state) {
  put($("doing"), doing);
  put($("since"), since);
  if (stage.dataset.loop !== state) stage.dataset.loop = state;
}

export function stepShow(step, us) {
  Object.assign(shown, { step, us, until: performance.now() + 900 });
}

export function doingSay(now) {
  if (play.mode !== "live") {
    const lap = lapAt(play.at);
    if (!lap) return say("epoll_wait", play.mode === "paused" ? T.pausedAt(duration(play.at)) : T.replaying, "asleep");
    const running = [...rec.requests.values()].filter((r) => r.from <= play.at && play.at <= r.to).flatMap((r) => r.segments)
      .find((s) => s.kind === "run" && s.from <= play.at && play.at < s.to);
    const stalled = stalls(lap.to - lap.from);
    return say(running?.name ?? (stalled || lap.own ? lap.step : betweenSteps(lap)), stalled ? T.stalledIn(duration(lap.to - lap.from)) : `${T.running} · ${duration(lap.to - lap.from)}`, stalled ? "stalled" : "working");
  }
  if (connection.state !== "live") return say("…", T.unknown, "unknown");
  const silence = overdue(now) + hello.tick_ms;
  if (silence > SILENCE_MS) {
    const long = duration(Math.round(silence / 100) * 1e5);
    if (silence > 2 * SILENCE_MS) alarmShow(T.silent(long), now + 300, "puzzle");
    return say("…", T.noNews(long), "silent");
  }
  if (now < shown.stall) return say(shown.stallStep, T.stalledIn(duration(shown.stallUs)), "stalled");
  if (now < shown.until) return say(shown.step, T.worked(duration(shown.us)), "working");
  say("epoll_wait", T.asleep, "asleep");
}

/* What the loop does before, between and after the steps of its lap, by the name of the function or the system call. */
function betweenSteps(lap) {
  const next = rec.moves[firstAfter(rec.moves, "t", play.at)], family = lap.readies[0]?.[1];
  if (next && next.t < lap.to) switch (next.kind) {
    case "accept": return "accept4";
    case "bytes": case "head": return "recv";
    case "woken": return family === "eventfd" ? "take_posted" : family === "timerfd" ? "run_timers" : "recv";
    case "answer": case "flushed": return "send";
  }
  const since = rec.moves.slice(firstAfter(rec.moves, "t", lap.from - 1), firstAfter(rec.moves, "t", lap.to));
  return since.some((m) => m.kind === "wait" && m.name === "db") ? "hand_over" : "prepare_to_sleep";
}

/* A loop that turns and gets nothing done: some descriptor is ready, and nobody takes what is there. */
export function spinNote(tick) {
  const done = tick.answers + tick.viewer_answers + tick.completions + tick.timers_fired + tick.bytes_in + tick.bytes_out / 100;
  const lived = tick.worked_us + tick.slept_us, spins = tick.laps > 500 && tick.laps > lived / 200 && done * 4 < tick.laps;
  stage.dataset.spins = spins ? "yes" : "no";
  if (spins && play.mode === "live") alarmShow(T.spins(count(Math.round(tick.laps * 1e6 / lived))), performance.now() + 2000);
}

export function stallNote(us, step) {
  Object.assign(shown, { stall: performance.now() + 3500, stallUs: us, stallStep: step });
  stage.dataset.stallStep = step;
  newsAdd(() => T.stall(duration(us), step), true, 3);
  if (play.mode === "live") alarmShow(T.stall(duration(us), step), performance.now() + 5000);
}

/* Chips that were lit long enough go out. */
export function chipsFade(now) {
  for (const chip of $("interest").children) if (chip.off && now > chip.off) { chip.classList.remove("lit"); chip.off = 0; }
}

export const chipsLit = () => [...$("interest").children].some((chip) => chip.off);
export const saysSomething = (now) => now < Math.max(shown.until, shown.stall);

/* ---- the numbers, each as it stood at the playhead ---- */

const places = {};
for (const e of all("[data-number]")) (places[e.dataset.number] ??= []).push(e);

function numberPut(name, text) {
  for (const e of places[name]) put(e, text);
}

/* Where the worker stands on the other road: a connection each, and what it is at. [name, state, jobs under way, behind] */
function lanesShow(lanes) {
  const list = $("lanes"), told = JSON.stringify(lanes);
  if (list.told === told) return;
  list.told = told;
  list.replaceChildren(...lanes.map(([name, state, jobs, behind]) => {
    const li = element("li", `${T.lane(name)} `, { "data-state": state });
    li.append(element("b", `${T.laneState[state] ?? state}${jobs ? ` · ${count(jobs)}${behind ? ` + ${count(behind)}` : ""}` : ""}`));
    return li;
  }));
}

/* Sums over the second before the playhead, and the gauges of its tick. `calls`: so many are still seen on the stage. */
export function numbersShow(calls) {
  const last = play.mode === "live" ? rec.ticks.length - 1 : rec.ticks.indexOf(tickAt(play.at));
  const tick = rec.ticks[last];
  if (!tick) return;
  const before = (us) => rec.ticks.slice(0, last + 1).filter((k) => k.at_us > tick.at_us - us);
  const second = before(0.99e6), most = (field, ticks) => Math.max(...ticks.map((k) => k[field]));
  const sum = (field) => second.reduce((s, k) => s + k[field], 0);
  const lived = sum("slept_us") + sum("worked_us"), perSecond = lived > 5e5 ? 1e6 / lived : 1;
  for (const field of ["answers", "laps"]) numberPut(field, count(Math.round(sum(field) * perSecond)));
  numberPut("asleep", lived ? `${decimals(100 * sum("slept_us") / lived, 1)} %` : "–");
  numberPut("longest", duration(most("longest_lap_us", before(10e6))));
  numberPut("stalls", count(rec.stalls));
  places.stalls[0].classList.toggle("seen", rec.stalls > 0);
  for (const field of ["connections", "watches", "db_queue", "baking", "timers"]) numberPut(field, count(tick[field]));
  numberPut("upstream_active", count(Math.max(most("upstream_active", second), play.mode === "live" ? calls : 0))); /* over too soon to be seen */
  numberPut("upstream_waiting", count(most("upstream_waiting", second)));
  numberPut("db_busy", tick.db_busy ? T.busy : T.idle);
  lanesShow(tick.lanes ?? []);
  play.tick = tick;
  put($("sample"), T.sample(count(sum("requests_seen")), count(sum("requests_shown")), sum("skipped") && count(sum("skipped"))));
}
