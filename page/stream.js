/* stream.js: GET /loop/events, once for all tabs. Runs twice: in the page, and as the worker that all tabs of this browser share.
 *
 * A stream is a connection that stays, and a browser opens only six to a server: with a stream in each of six tabs, the seventh
 * would wait for ever, and so would every click. Where there are no shared workers, each tab listens for itself. */

const KINDS = ["hello", "tick", "bye"];
const AGAIN_MS = 5000;

/* tell(kind, text): one of KINDS with its data, or "lost" (the browser tries again by itself) or "closed" (404: the lab is
 * closed, we look again now and then). Returns how to stop. */
function listen(tell) {
  const source = new EventSource("/loop/events");
  let stop = () => source.close();
  for (const kind of KINDS) source.addEventListener(kind, (e) => tell(kind, e.data));
  source.addEventListener("error", () => {
    const closed = source.readyState === EventSource.CLOSED;
    tell(closed ? "closed" : "lost");
    if (!closed) return;
    const later = setTimeout(() => { stop = listen(tell); }, AGAIN_MS);
    stop = () => clearTimeout(later);
  });
  return () => stop();
}

/* For the page: the same, with the data parsed. */
export function streamOpen(tell) {
  const hear = (kind, text) => tell(kind, text && JSON.parse(text));
  if (typeof SharedWorker === "undefined") return listen(hear);
  const worker = new SharedWorker("/page/stream.js", { type: "module", name: "forno" });
  let stop = () => { worker.port.postMessage("leave"); worker.port.close(); };
  worker.onerror = () => { stop = listen(hear); }; /* it could not be started */
  worker.port.onmessage = ({ data }) => hear(...data);
  return () => stop();
}

/* ---- the worker ---- */

const tabs = new Set();
let stop = null, hello = null;

function tellAll(kind, text) {
  if (kind !== "tick") hello = kind === "hello" ? text : null;
  for (const tab of tabs) tab.postMessage([kind, text]);
}

/* A tab that comes later is told how things stand by a hello of its own, before which it believes no tick. */
function welcome(tab) {
  const leave = listen((kind, text) => {
    leave();
    if (kind === "hello" && hello) tab.postMessage([kind, JSON.stringify({ ...JSON.parse(text), conn: JSON.parse(hello).conn })]);
  });
}

globalThis.onconnect = ({ ports: [tab] }) => {
  tab.onmessage = () => {
    tabs.delete(tab);
    if (tabs.size || !stop) return;
    stop();
    stop = hello = null;
  };
  tabs.add(tab);
  stop ??= listen(tellAll);
  if (hello) welcome(tab);
};
