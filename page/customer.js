/* customer.js: the page buys pizzas like anybody else, and visits the lab. What came of it is returned in words. */

import { duration, wake } from "./tools.js";
import { T } from "./words.js";

export const customer = { accounts: [], price: 3500, bakeMs: 3000 };
export const asking = { out: 0, since: 0 };
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(...request) {
  if (!asking.out++) asking.since = performance.now();
  wake();
  try {
    return await answered(...request);
  } finally {
    asking.out--;
  }
}

async function answered(method, path, body, token) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, path.startsWith("/lab") && response.status === 404 ? T.labClosed : T.failed(response.status, answer.detail ?? answer.title ?? ""));
  return answer;
}

async function openAccount(name) {
  const { id, token, balance_cents } = await ask("POST", "/accounts", { name });
  const account = { id, token, balance: balance_cents };
  customer.accounts.push(account);
  return account;
}

/* An account that can pay so much: one we have, or a new one. */
const purse = async (cents) => customer.accounts.find((a) => a.balance >= cents) ?? openAccount("Ana");

async function order(n, account) {
  const placed = await ask("POST", "/orders", { flavor: "margherita", pizzas: n }, account.token);
  account.balance -= placed.price_cents;
  return placed;
}

export async function orderOne(n) {
  const paid = async () => order(n, await purse(n * customer.price));
  const placed = await paid().catch((error) => {
    if (error.status !== 401) throw error;
    customer.accounts.length = 0; /* the server has come back with another database, which does not know them */
    return paid();
  });
  return T.ordered(placed.id, n);
}

/* The accounts first, so that the orders themselves come at once. */
export async function orderHundred(say) {
  const payers = [];
  for (let opened = 0; payers.length < 100 && opened < 100; opened++) {
    say(T.opening);
    const account = await openAccount("Turma"), n = Math.floor(account.balance / customer.price);
    if (!n) return orderOne(1); /* is refused, and told why */
    payers.push(...Array(Math.min(n, 100 - payers.length)).fill(account));
  }
  const begun = performance.now();
  await Promise.all(payers.map((a) => order(1, a)));
  return T.hundred(payers.length, duration((performance.now() - begun) * 1000));
}

export async function lab(path, what) {
  const begun = performance.now(), answer = await ask("GET", path);
  if (answer.calls) return T.waterfall(answer.n, duration(answer.total_ms * 1000), duration(answer.sum_ms * 1000));
  return T.done(what, duration((performance.now() - begun) * 1000));
}

/* The menu says what a pizza costs here and how long it bakes. */
export async function menuRead() {
  const { pizzas } = await ask("GET", "/menu"), margherita = pizzas.find((p) => p.flavor === "margherita");
  customer.price = margherita.price_cents;
  customer.bakeMs = margherita.bake_ms;
}
