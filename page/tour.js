/* tour.js: what a first visitor is shown, in five steps. */

import { $, all, clamp } from "./tools.js";
import { press } from "./controls.js";
import { stage, stageCome } from "./stage.js";
import { T, chapter, keep, recall } from "./words.js";

const TOUR = [".place.loop", ".place.kernel", ".place.oven", ".place.upstream", ".place.loop"];
const TOUR_DOES = [null, () => press("one"), async () => { await press("ten"); await press("one"); }, () => press("together"), () => press("block")];
const TOUR_READ = ["04-only-who-is-ready", "07-the-query-that-blocks", "06-time-is-a-descriptor", null, "01-waiting-in-place"];
export const STEPS = TOUR.length;
let tourStep = -1;

export function tourGo(step) {
  tourStep = step < STEPS ? step : -1;
  if (tourStep < 0) keep("tour", "seen");
  tourShow();
  if (tourStep >= 0) {
    stageCome(TOUR[tourStep]);
    $("tour-title").focus({ preventScroll: true });
  } else $("start-tour").focus({ preventScroll: true });
}

export const tourEnd = () => tourGo(STEPS);
export const tourAt = () => tourStep + 1; /* 0: nowhere */

export function tourShow() {
  const step = TOUR[tourStep];
  for (const e of all(".spot")) e.classList.remove("spot");
  $("tour").hidden = !step;
  $("tour").dataset.step = tourAt();
  if (!step) return;
  const [title, text, action] = T.tour[tourStep];
  $("tour-step").textContent = T.step(tourAt(), STEPS) + (TOUR_READ[tourStep] ? ` · ${T.read} ${chapter(TOUR_READ[tourStep])}` : "");
  $("tour-title").textContent = title;
  $("tour-text").textContent = text;
  $("tour-do").hidden = !action;
  $("tour-do").textContent = action ?? "";
  $("tour-next").textContent = tourAt() === STEPS ? T.finish : T.next;
  stage.querySelector(step).classList.add("spot");
  tourPlace();
}

/* Below the stage, so that nothing is hidden while it is spoken of; in a low window, as low as it goes. */
export function tourPlace() {
  const step = TOUR[tourStep];
  if (!step) return;
  const box = stage.querySelector(step).getBoundingClientRect(), w = $("tour").offsetWidth, h = $("tour").offsetHeight;
  $("tour").style.left = `${clamp(box.left + box.width / 2 - w / 2, 12, innerWidth - w - 12)}px`;
  $("tour").style.top = `${clamp(stage.getBoundingClientRect().bottom + 8, 12, innerHeight - h - 12)}px`;
}

/* A first visitor who was sent to something else may look at that. */
export function tourBegin(sentElsewhere) {
  $("start-tour").addEventListener("click", () => tourGo(0));
  $("tour-skip").addEventListener("click", tourEnd);
  $("tour-next").addEventListener("click", () => tourGo(tourStep + 1));
  $("tour-do").addEventListener("click", () => TOUR_DOES[tourStep]?.());
  addEventListener("keydown", (e) => { if (e.key === "Escape" && tourStep >= 0) tourEnd(); });
  addEventListener("scroll", tourPlace, { passive: true });
  if (!sentElsewhere && !recall("tour")) tourGo(0);
}
