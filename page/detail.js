/* detail.js: one request in words: each wait, and each step by the name of its function. Or a part of the stage. */

import { $, all, count, duration, element, wake } from "./tools.js";
import { pause, replayFrom, seek, view, viewShow } from "./playhead.js";
import { hello, lastSeen, stalls } from "./recording.js";
import { T, chapter } from "./words.js";

/* What tells of each wait. */
const CHAPTERS = { net: "05-bytes-not-messages", oven: "06-time-is-a-descriptor", timer: "06-time-is-a-descriptor", db: "07-the-query-that-blocks", queue: "07-the-query-that-blocks", stall: "01-waiting-in-place" };

/* What tells of each part of the stage: functions, where they are, chapters. Of the database, on the other road, another. */
const PARTS = {
  clients: ["conn_open|conn_read|conn_flush", "reactor/*.c", "05-bytes-not-messages", "08-the-client-who-left"],
  kernel: ["watch_open|watch_arm|run_lap", "reactor/*.c", "03-ask-everybody", "04-only-who-is-ready"],
  loop: ["run_lap|prepare_to_sleep", "reactor/*.c", "01-waiting-in-place", "09-what-await-compiles-to"],
  db: ["worker_submit|hand_over|run_worker|take_posted", "reactor/*.c", "07-the-query-that-blocks"],
  lanes: ["send_group|lane_ready", "ledger/*.c", "07-the-query-that-blocks"],
  oven: ["timer_start|set_timerfd|run_timers", "reactor/*.c", "06-time-is-a-descriptor"],
  upstream: ["upstream_get", "reactor/*.c", "11-calling-out"],
};

/* A request; or a part of the stage; or, as soon as there is one, what was asked for. */
export function select(r, part = "", asked = null) {
  Object.assign(view, { selected: r, part, asked });
  wake();
  $("timeline").dataset.selected = r?.number ?? "";
  for (const a of all(".place h2 a")) a.setAttribute("aria-current", a.hash === `#stage/${part}`);
  detailShow();
}

const total = (r, ...kinds) => r.segments.filter((s) => kinds.includes(s.kind)).reduce((sum, s) => sum + s.to - s.from, 0);

/* What a record says, and its colour. Null: it says nothing that another does not say. */
function sentence(m) {
  const queued = m.queued ? T.s.queued(duration(m.queued)) : "";
  switch (m.kind) {
    case "bytes": return ["net", T.s.bytes(count(m.value), m.conn)];
    case "head": return ["net", T.s.head(m.name)];
    case "step": return [stalls(m.value) ? "stall" : "run", T.s.step(m.name, duration(m.took))];
    case "woken": return [m.name, T.s.woken(T.waits[m.name] ?? m.name, duration(m.took)) + queued];
    case "answer": return ["done", T.s.answer(m.value)];
    case "flushed": return ["net", T.s.flushed(count(m.value))];
    case "discarded": return ["stall", T.s.discarded];
  }
  return null;
}

function detailLines(r) {
  const lines = [];
  for (const m of r.notes) {
    const said = sentence(m);
    if (said) lines.push([m.at - r.from, ...said, m.took]);
  }
  const answered = r.calls.filter((c) => c.done).map((c) => c.to - c.from);
  if (r.calls.length) lines.push([r.calls[0].from - r.from, "upstream", T.s.calls(r.calls.length, answered.length && duration(Math.min(...answered)), answered.length && duration(Math.max(...answered)))]);
  for (const o of r.orders) lines.push([o.from - r.from, "oven", T.s.bake(o.id, o.what, duration(o.due - o.from))]);
  if (!r.done && r.next === null && r.open && r.open.kind !== "net") lines.push([r.open.from - r.from, r.open.kind, T.s.wait(T.waits[r.open.kind] ?? r.open.kind)]);
  if (r.doubt) lines.push([r.mark - r.from, "net", T.s.lost]);
  return lines.sort((a, b) => a[0] - b[0]).slice(0, 60);
}

const endOf = (r) => (r.done ? r.to : lastSeen(r));

export function replayShow(r) {
  replayFrom(r.from - 60, endOf(r) + 60);
  viewShow(r.from, endOf(r));
}

const readOn = (functions, where, chapters) => [
  ...(functions ? [element("p", T.grep, { class: "sum" }), element("code", `grep -nE '${functions}' ${where}`)] : []),
  ...(chapters.length ? [element("p", T.read, { class: "sum" }), element("code", chapters.map(chapter).join("\n"))] : [])];

function partShow(box) {
  const part = view.part === "db" && hello.lanes ? "lanes" : view.part, [functions, where, ...chapters] = PARTS[part];
  box.replaceChildren(element("h3", $("stage").querySelector(`.place[data-place=${view.part}] h2 a`).textContent),
    element("p", T.parts[part]), ...readOn(functions, where, chapters));
}

export function detailShow() {
  const r = view.selected, box = $("detail");
  box.dataset.request = r?.number ?? "";
  if (view.part) return partShow(box);
  if (!r) return box.replaceChildren(element("p", view.asked ? T.asked(view.asked.kind) : T.pick, { class: "empty" }));
  const end = endOf(r), run = total(r, "run"), wait = total(r, "db", "queue", "oven", "timer", "upstream");
  const list = element("ol");
  for (const [at, kind, text, took] of detailLines(r)) {
    const item = element("li", "", { "data-kind": kind, ...(took === undefined ? {} : { "data-us": took }) });
    item.append(element("time", `+${duration(at)}`), element("span", text));
    list.append(item);
  }
  const buttons = element("p", "", { class: "row" }), show = element("button", T.zoomTo, { type: "button" }), slowly = element("button", T.replayIt, { type: "button", id: "replay-one" });
  show.addEventListener("click", () => { pause(); viewShow(r.from, end); seek(r.from); });
  slowly.addEventListener("click", () => replayShow(r));
  buttons.append(show, slowly);
  const functions = [...new Set(r.segments.map((s) => s.name).filter(Boolean))];
  const chapters = [...new Set([...r.segments.map((s) => CHAPTERS[s.kind]), r.notes.some((m) => m.kind === "discarded") && "08-the-client-who-left"].filter(Boolean))];
  const held = all("button", box).indexOf(document.activeElement); /* the keyboard stays where it is */
  box.dataset.us = r.to - r.from;
  box.replaceChildren(element("h3", r.head || T.request(r.number)),
    element("p", r.done ? T.sum(duration(r.to - r.from), duration(run), duration(wait)) : T.alive, { class: "sum" }), ...(r.began ? [] : [element("p", T.sawNoStart, { class: "sum" })]), buttons, list,
    ...readOn(functions.join("|"), "app/*.c", chapters.sort()));
  all("button", box)[held]?.focus({ preventScroll: true });
  r.told = r.notes.length + r.calls.length;
}

/* Has more been heard of it since? */
export const detailStale = () => view.selected && view.selected.told !== view.selected.notes.length + view.selected.calls.length;
