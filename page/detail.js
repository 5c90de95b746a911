/* detail.js: one request in words: each wait, and each step by the name of its function. */

import { $, count, duration, element, wake } from "./tools.js";
import { pause, replayFrom, seek, view, viewShow } from "./playhead.js";
import { lastSeen, stalls } from "./recording.js";
import { T, chapter } from "./words.js";

/* What tells of each wait. */
const CHAPTERS = { net: "05-bytes-not-messages", oven: "06-time-is-a-descriptor", timer: "06-time-is-a-descriptor", db: "07-the-query-that-blocks", queue: "07-the-query-that-blocks", stall: "01-waiting-in-place" };

export function select(r) {
  view.selected = r;
  wake();
  $("timeline").dataset.selected = r?.number ?? "";
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

export function detailShow() {
  const r = view.selected, box = $("detail");
  box.dataset.request = r?.number ?? "";
  if (!r) return box.replaceChildren(element("p", T.pick, { class: "empty" }));
  const end = r.done ? r.to : lastSeen(r), run = total(r, "run"), wait = total(r, "db", "queue", "oven", "timer", "upstream");
  const list = element("ol");
  for (const [at, kind, text, took] of detailLines(r)) {
    const item = element("li", "", { "data-kind": kind, ...(took === undefined ? {} : { "data-us": took }) });
    item.append(element("time", `+${duration(at)}`), element("span", text));
    list.append(item);
  }
  const buttons = element("p", "", { class: "row" }), show = element("button", T.zoomTo, { type: "button" }), slowly = element("button", T.replayIt, { type: "button", id: "replay-one" });
  show.addEventListener("click", () => { pause(); viewShow(r.from, end); seek(r.from); });
  slowly.addEventListener("click", () => { replayFrom(r.from - 60, end + 60); viewShow(r.from, end); });
  buttons.append(show, slowly);
  const functions = [...new Set(r.segments.map((s) => s.name).filter(Boolean))];
  const chapters = [...new Set([...r.segments.map((s) => CHAPTERS[s.kind]), r.notes.some((m) => m.kind === "discarded") && "08-the-client-who-left"].filter(Boolean))];
  box.dataset.us = r.to - r.from;
  box.replaceChildren(element("h3", r.head || T.request(r.number)),
    element("p", r.done ? T.sum(duration(r.to - r.from), duration(run), duration(wait)) : T.alive, { class: "sum" }), ...(r.began ? [] : [element("p", T.sawNoStart, { class: "sum" })]), buttons, list,
    ...(functions.length ? [element("p", T.grep, { class: "sum" }), element("code", `grep -nE '${functions.join("|")}' app/*.c`)] : []),
    ...(chapters.length ? [element("p", T.read, { class: "sum" }), element("code", chapters.sort().map(chapter).join("\n"))] : []));
  r.told = r.notes.length + r.calls.length;
}

/* Has more been heard of it since? */
export const detailStale = () => view.selected && view.selected.told !== view.selected.notes.length + view.selected.calls.length;
