/* node clients.mjs MODULES URL: fetch, node:http and undici, see clients.py. */
import http from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, url] = process.argv.slice(2);
const { Client } = createRequire(join(modules, "x.js"))("undici");
let passed = 0, failed = 0;
function check(good, what) {
  if (good) { passed++; return; }
  failed++;
  console.log(`  NOT SO: ${what}`);
}
const json = { "Content-Type": "application/json" };
const accepted = async () => Number((await (await fetch(`${url}/metrics`)).text()).match(/^forno_accepted_total (\d+)/m)[1]);

async function fetches() {
  const before = await accepted();
  for (let i = 0; i < 200; i++) {
    const r = await fetch(`${url}/accounts`, { method: "POST", headers: json, body: '{"name":"Ana"}' });
    await r.json();
  }
  check(await accepted() - before < 5, `fetch keeps its connection: ${await accepted() - before} for 200`);
  const stream = new ReadableStream({
    async start(c) {
      for (const piece of ['{"name"', ':"B', 'ia"}']) { c.enqueue(new TextEncoder().encode(piece)); await new Promise((done) => setTimeout(done, 20)); }
      c.close();
    },
  });
  check((await fetch(`${url}/accounts`, { method: "POST", headers: json, body: stream, duplex: "half" })).status === 201, "a body that streams");
  const leaving = new AbortController();
  const waiting = fetch(`${url}/lab/timer?ms=30000`, { signal: leaving.signal }).catch((e) => e.name);
  setTimeout(() => leaving.abort(), 100);
  check(await waiting === "AbortError", "who leaves is let go");
  const all = await Promise.all(Array.from({ length: 200 }, () => fetch(`${url}/lab/timer?ms=100`).then((r) => r.status)));
  check(all.every((status) => status === 200), "two hundred at once");
}

/* Each answer must be the one to its own question. */
async function pipelined() {
  const client = new Client(url, { pipelining: 10 }), before = await accepted();
  const answers = await Promise.all(Array.from({ length: 1000 }, async (_, i) => {
    const r = await client.request({ method: "GET", path: `/courier/quote?pizzas=${i % 50 + 1}&ms=0` });
    return [i % 50 + 1, r.statusCode, (await r.body.json()).price_cents];
  }));
  const prices = new Map(answers.map(([pizzas, , price]) => [pizzas, price]));
  check(answers.every(([pizzas, status, price]) => status === 200 && price === prices.get(pizzas)), "undici, ten ahead: each gets its own answer");
  check(new Set(prices.values()).size === 50, "the answers can be told apart");
  check(await accepted() - before <= 2, "on one connection");
  await client.close();
}

/* Whether the server closes an idle connection just when the next question is sent: node retries nothing by itself. */
async function agent() {
  const kept = new http.Agent({ keepAlive: true, maxSockets: 1 }), seen = new Set();
  for (let i = 0; i < 100; i++) {
    await new Promise((done, fail) => http.get(`${url}/healthz`, { agent: kept }, (r) => {
      seen.add(r.socket.localPort);
      r.resume().on("end", done);
    }).on("error", fail));
  }
  check(seen.size === 1, `node:http keeps its connection: ${seen.size}`);
  kept.destroy();
}

await fetches();
await pipelined();
await agent();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
