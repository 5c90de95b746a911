/* node events.mjs MODULES URL: opens an account, prints its token, and then what an EventSource with that token hears. */
import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, url] = process.argv.slice(2);
const { EventSource } = createRequire(join(modules, "x.js"))("eventsource");
const r = await fetch(`${url}/accounts`, { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"name":"Ana"}' });
const { token } = await r.json();
console.log(token);
const source = new EventSource(`${url}/orders/events`, {
  fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } }),
});
source.addEventListener("open", () => console.log("open"));
for (const kind of ["placed", "ready", "cancelled", "stale"])
  source.addEventListener(kind, (e) => console.log(kind, JSON.parse(e.data).id ?? ""));
