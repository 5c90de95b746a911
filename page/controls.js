/* controls.js: the buttons that make the server do something, each with the curl line that does the same. */

import { $, duration, element } from "./tools.js";
import { Refused, customer, lab, menuRead, orderHundred, orderOne } from "./customer.js";
import { T } from "./words.js";

const URL_HERE = location.origin;
const JSON_TYPE = "-H 'Content-Type: application/json'";
const NEW_TOKEN = `TOKEN=$(curl -s ${URL_HERE}/accounts ${JSON_TYPE} -d '{"name":"Ana"}' | sed 's/.*"token":"\\([^"]*\\)".*/\\1/')`;
const orderLine = (n, token = "$TOKEN") => `curl -i ${URL_HERE}/orders -H "Authorization: Bearer ${token}" ${JSON_TYPE} -d '{"flavor":"margherita","pizzas":${n}}'`;
const HUNDRED = `seq 100 | xargs -P 100 -I% sh -c 'T=$(curl -s ${URL_HERE}/accounts -H "Content-Type: application/json" -d "{\\"name\\":\\"Ana %\\"}" | sed "s/.*\\"token\\":\\"//;s/\\".*//"); curl -s ${URL_HERE}/orders -H "Authorization: Bearer $T" -H "Content-Type: application/json" -d "{\\"flavor\\":\\"margherita\\",\\"pizzas\\":1}"'`;

const CONTROLS = {
  one: { kind: "oven", pizzas: 1, act: () => orderOne(1), curl: `${NEW_TOKEN}\n${orderLine(1)}` },
  ten: { kind: "oven", pizzas: 10, act: () => orderOne(10), curl: `${NEW_TOKEN}\n${orderLine(10)}` },
  hundred: { kind: "oven", act: orderHundred, curl: HUNDRED },
  slow: { kind: "db", path: (ms) => `/lab/thread?ms=${ms}`, usual: 1500, most: 10000 },
  together: { kind: "upstream", path: (ms) => `/lab/socket?n=20&ms=${ms}&mode=together`, usual: 300, most: 4000 },
  sequence: { kind: "upstream", path: (ms) => `/lab/socket?n=20&ms=${ms}&mode=sequence`, usual: 300, most: 4000 },
  block: { kind: "stall", path: (ms) => `/lab/block?ms=${ms}`, usual: 1000, most: 10000 },
};
let shown = "one", chosen = ""; /* whose curl line it is; what was pressed last, or filled in */

function curlShow(name) {
  const { curl, path, ms } = CONTROLS[name];
  for (const [other, { box }] of Object.entries(CONTROLS)) box.classList.toggle("shown", other === name);
  $("curl").textContent = curl ?? `curl "${URL_HERE}${path(ms)}"`;
  shown = name;
}

export function resultSay(text, bad = false) {
  $("result").textContent = text;
  $("result").classList.toggle("bad", bad);
}

export async function press(name) {
  const control = CONTROLS[name];
  curlShow(name);
  control.box.dataset.running = ++control.running;
  try {
    resultSay(await (control.path ? lab(control.path(control.ms), T.ctl[name][0]) : control.act(resultSay)));
  } catch (error) {
    resultSay(error instanceof Refused ? error.message : T.lost, true);
  } finally {
    control.box.dataset.running = --control.running;
  }
}

export function controlsMake() {
  for (const [name, control] of Object.entries(CONTROLS)) {
    Object.assign(control, { running: 0, ms: control.usual });
    const box = element("div", "", { class: "control", "data-kind": control.kind, "data-control": name }), button = element("button", "", { type: "button", "aria-describedby": "curl" });
    button.append(element("strong"), element("small"));
    button.addEventListener("click", () => { chosen = name; press(name); });
    button.addEventListener("focus", () => curlShow(name));
    box.addEventListener("pointerenter", (e) => { if (e.pointerType === "mouse") curlShow(name); });
    box.append(button);
    control.box = box;
    $("buttons").append(box);
  }
  curlShow("one");
  menuRead().then(controlsSpeak, () => {}); /* if not, the price stays as it is on the menu by default */
  $("copy").addEventListener("click", () => {
    const told = navigator.clipboard?.writeText($("curl").textContent) ?? Promise.reject();
    told.then(() => resultSay(T.copied), () => { getSelection().selectAllChildren($("curl")); resultSay(T.copyNot); });
  });
}

export function controlsSpeak() {
  for (const [name, { box, pizzas: n, ms }] of Object.entries(CONTROLS)) {
    const [title, more] = T.ctl[name];
    box.querySelector("strong").textContent = title;
    box.querySelector("small").textContent = more(duration((ms ?? customer.bakeMs * n) * 1000));
  }
}

/* ---- filled in, by a link; pressed by nobody but the reader ---- */

export function controlFits(name, ms) {
  return Object.hasOwn(CONTROLS, name) && (ms === undefined || (/^\d{1,5}$/.test(ms) && Number(ms) <= CONTROLS[name].most));
}

export function controlNow() {
  const { ms, usual } = CONTROLS[chosen] ?? {};
  return chosen ? (ms === usual ? [chosen] : [chosen, ms]) : null;
}

/* No name: each as it was. */
export function controlFill(name, ms) {
  for (const [each, control] of Object.entries(CONTROLS)) control.ms = each === name && ms ? Number(ms) : control.usual;
  chosen = name;
  controlsSpeak();
  curlShow(name || shown);
  if (!name) return;
  CONTROLS[name].box.scrollIntoView({ block: "nearest" });
  CONTROLS[name].box.firstChild.focus({ preventScroll: true });
}

