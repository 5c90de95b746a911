/* news.js: what has just happened, in a line, and the alarm. Under load the loud lines are few enough to be read; the rest is left to
 * the numbers. */

import { $, element, put } from "./tools.js";

const news = { last: 0, weight: 0 };

export function newsAdd(say, bad, weight) {
  const now = performance.now();
  if (now - news.last < 1500 && weight < news.weight) return;
  if (now - news.last < 250 && weight <= news.weight) return;
  Object.assign(news, { last: now, weight });
  const item = element("li", say(), bad ? { class: "bad" } : {});
  item.say = say;
  $("news").prepend(item);
  while ($("news").children.length > 4) $("news").lastChild.remove();
}

/* The language has changed. */
export function newsSpeak() {
  for (const item of $("news").children) item.textContent = item.say();
  alarmHide();
}

export const alarm = { until: 0 }; /* on performance.now(); 0: there is none */

export function alarmShow(text, until, tone = "") {
  put($("alarm"), text);
  $("alarm").dataset.tone = tone;
  $("alarm").hidden = false;
  alarm.until = until;
}

export function alarmHide() {
  $("alarm").hidden = true;
  alarm.until = 0;
}
