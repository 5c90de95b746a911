/* connection.js: the connection to /loop/events, and what its silence means. Every tick says when the next one comes. */

import { streamOpen } from "./stream.js";
import { $ } from "./tools.js";
import { asking } from "./customer.js";
import { hello, rec } from "./recording.js";
import { T } from "./words.js";

/* `heard`: when, on performance.now(). `offset`: how far that is ahead of the server's clock, in ms. `another`: it is not the server that it was. */
export const connection = { state: "connecting", heard: 0, offset: Infinity, another: false };
export const SILENCE_MS = 350;

export function connectionSay(state) {
  connection.state = state;
  document.body.dataset.connected = state === "live" ? "yes" : state === "connecting" ? "no" : "lost";
  $("connection").lastElementChild.textContent = state === "live" ? `${T.live} · ${hello.version ?? "forno"}${hello.blocking ? " --blocking" : ""}` : T[state];
  $("courier-who").textContent = hello.own_courier ? T.courierSelf : T.courierOther;
  $("self").classList.toggle("no", !hello.own_courier);
  $("lanes").hidden = $("lane-chip").hidden = !hello.lanes;
  $("db-way").textContent = hello.lanes ? T.ownSocket : "eventfd";
  $("db-who").textContent = hello.lanes ? T.lanes : T.worker;
}

/* told(kind, data): what stream.js tells; what it means for the state of the connection is seen to here. */
export function listen(told) {
  connection.close = streamOpen((kind, data) => {
    if (kind === "lost" && connection.state === "bye") return; /* that it would leave was said */
    if (kind === "hello") {
      connection.another = hello.run !== undefined && hello.run !== data.run;
      connection.offset = Infinity;
      connection.heard = performance.now();
    }
    told(kind, data);
    if (kind !== "tick") connectionSay(kind === "hello" ? "live" : kind);
  });
}

/* A tick has come. The quickest of them tell best how far the clocks are apart. */
export function heardNow(at_us) {
  const heard = performance.now(), aheadMs = heard - at_us / 1000;
  const { another } = connection;
  connection.another = false; /* so that only the first tick is told */
  connection.heard = heard;
  connection.offset = Math.max(aheadMs - 400, Math.min(connection.offset + 0.2, aheadMs));
  return another;
}

/* How long overdue the next word is, in ms. Whoever asks for something is told of it. */
export function overdue(now) {
  const next = connection.heard + (rec.ticks.at(-1)?.next_ms ?? hello.tick_ms);
  return now - (asking.out ? Math.min(next, Math.max(asking.since, connection.heard) + hello.tick_ms) : next);
}
