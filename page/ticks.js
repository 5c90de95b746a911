/* ticks.js: what comes from /loop/events, given to whom it concerns. */

import { $ } from "./tools.js";
import { connection, heardNow } from "./connection.js";
import { numbersShow, spinNote, stallNote } from "./doing.js";
import { wake } from "./frames.js";
import { alarmHide, alarmShow, newsAdd } from "./news.js";
import { liveAgain, play } from "./playhead.js";
import { hello, helloHeed, helloTake, isNews, rec, recordingForget, stalls, tickTake } from "./recording.js";
import { placeOf, stage } from "./stage.js";
import { rowsForget } from "./timeline.js";
import { callsSeen, tokenOf } from "./tokens.js";
import { T } from "./words.js";

export function streamTold(kind, data) {
  if (kind === "tick") return tickTold(data);
  if (kind === "hello") helloTake(data);
  if (kind === "closed") alarmShow(T.labClosed, Infinity);
  else alarmHide();
  wake();
}

function forget() {
  recordingForget();
  rowsForget();
  liveAgain();
  newsAdd(() => T.restarted, false, 2);
}

function tickTold(tick) {
  if (connection.state !== "live") return; /* before the hello */
  const another = heardNow(tick.at_us), previous = rec.ticks.at(-1);
  if (another || tick.at_us < rec.latest) forget();
  for (const [r, kind] of helloHeed()) {
    const token = play.mode === "live" && tokenOf(r, placeOf(r, kind));
    if (token) token.kind = kind;
  }
  const { moves, gone } = tickTake(tick), stalled = moves.filter((m) => m.kind === "sleep" && stalls(m.value));
  play.next -= gone;
  for (const m of stalled) stallNote(m.value, m.name);
  if (tick.stalls && !stalled.length) stallNote(tick.longest_lap_us, "");
  spinNote(tick);
  if (play.mode === "live" && play.at >= previous?.at_us && !moves.some(isNews)) play.at = tick.at_us; /* nothing to be seen */
  $("timeline").dataset.requests = rec.requests.size;
  stage.dataset.stalls = rec.stalls;
  stage.dataset.left = rec.left.join(",");
  if (play.mode === "live") numbersShow(callsSeen());
  if (tick.next_ms > hello.tick_ms || moves.some(isNews)) wake(); /* else the nap ends soon enough */
}
