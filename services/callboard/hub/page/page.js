// The hub's page: subscribe, publish, and see how the stream is. All addresses are relative, so
// that it works below a prefix, too.

import { EventStream } from "./eventstream.js";

const SHOWN = 100; // events in the list; older ones leave it
const SHOWN_TEXT = 2_000; // characters of one event's data
const RATE_S = 5;
const STATS_MS = 5_000;
const HUB = ".well-known/mercure";

const at = (id) => document.getElementById(id);
const words = (text) => text.split(/\s+/).filter(Boolean);

let stream = null;
let give = null; // takes the token that the stream waits for
let events = 0;
let arrivals = []; // of the last seconds
let heardAt = 0;
let leastDelay = Infinity;

// `builds` is /builds, as on the command line; a URL, a URN, a template and * are as they are.
function topicOf(word) {
  return word === "*" || /^[/{]|^[^/]*:/.test(word) ? word : `/${word}`;
}

// ---------------------------------------------------------------------- subscribing

function subscribe(form) {
  const wanted = {
    topics: words(form.get("topics")).map(topicOf),
    types: words(form.get("types")),
    ...Object.fromEntries(new URLSearchParams(form.get("from"))),
  };
  const known = form.get("token");
  const token = (reason) => (reason ? askForToken() : known);
  stop();
  events = 0;
  arrivals = [];
  leastDelay = Infinity;
  at("log").replaceChildren();
  stream = new EventStream(HUB, { ...wanted, token });
  stream.addEventListener("update", ({ detail }) => show(detail));
  stream.addEventListener("gap", ({ detail }) => showGap(detail));
  stream.addEventListener("beat", ({ detail }) => showBeat(detail));
  stream.addEventListener("state", ({ detail }) => showState(detail));
  at("stop").disabled = false;
}

function askForToken() {
  at("renewal").hidden = false;
  at("subscribe").elements.token.value = "";
  return new Promise((resolve) => {
    give = resolve;
  });
}

function stop() {
  give = null;
  at("renewal").hidden = true;
  stream?.close();
  stream = null;
  at("stop").disabled = true;
}

at("subscribe").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  if (give) {
    at("renewal").hidden = true;
    give(form.get("token"));
    give = null;
  } else {
    subscribe(form);
  }
});
at("stop").addEventListener("click", stop);

// ---------------------------------------------------------------------- showing

function row(kind, ...parts) {
  const line = document.createElement("li");
  if (kind) line.className = kind;
  const time = document.createElement("time");
  time.textContent = `${new Date().toLocaleTimeString()} `;
  line.append(time, ...parts);
  const log = at("log");
  log.prepend(line);
  while (log.childElementCount > SHOWN) log.lastElementChild.remove();
}

function show({ id, type, data }) {
  events += 1;
  heardAt = Date.now();
  arrivals.push(heardAt);
  const tag = document.createElement("span");
  tag.className = "id";
  tag.textContent = `${id} ${type === "message" ? "" : `${type} `}`;
  const cut = data.length > SHOWN_TEXT ? `${data.slice(0, SHOWN_TEXT)}…` : data;
  row("", tag, cut);
}

function showGap({ lost, oldest }) {
  heardAt = Date.now();
  const many = lost === null || lost === undefined ? "updates" : `${lost} updates`;
  row("gap", `gap: the hub keeps ${many} no more; it goes on after ${oldest}`);
}

// Clocks differ, so a beat is only compared with the fastest one.
function showBeat({ time, catalog_age: age }) {
  heardAt = Date.now();
  const delay = heardAt - time;
  leastDelay = Math.min(leastDelay, delay);
  at("lag").textContent = `${delay - leastDelay} ms`;
  at("catalog").textContent = typeof age === "number" ? `${age.toFixed(1)} s old` : "none";
}

function showState({ state, reason }) {
  const output = at("state");
  output.dataset.state = state;
  output.textContent = state === "closed" ? "not subscribed" : state;
  at("reason").textContent = reason;
  if (state === "live") heardAt = Date.now();
}

function showFigures() {
  const now = Date.now();
  arrivals = arrivals.filter((moment) => now - moment < 1000 * RATE_S);
  at("events").textContent = events;
  at("rate").textContent = (arrivals.length / RATE_S).toFixed(1);
  at("beat").textContent = heardAt ? `${((now - heardAt) / 1000).toFixed(0)} s ago` : "–";
  at("cursor").textContent = stream?.cursor || "–";
}

setInterval(showFigures, 500);

// ---------------------------------------------------------------------- publishing

// Whether /t/ can name a topic: no pattern, and a path that stays as it is on its way.
function hasPath(topic) {
  const segments = topic.split("/").slice(1);
  const plain = topic.startsWith("/") && !segments.some((each) => ["", ".", ".."].includes(each));
  return plain && !/[{}]/.test(topic);
}

// A topic that is a path goes to /t/, which needs no token where the hub is open; any other one to
// the hub's URL.
function request(form) {
  const topic = topicOf(form.get("topic").trim());
  const fields = new URLSearchParams();
  if (form.get("type")) fields.set("type", form.get("type"));
  if (form.has("private")) fields.set("private", "on");
  if (hasPath(topic)) {
    const path = topic.slice(1).split("/").map(encodeURIComponent).join("/");
    return [`t/${path}?${fields}`, form.get("data")];
  }
  fields.set("topic", topic);
  fields.set("data", form.get("data"));
  return [HUB, fields];
}

at("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [address, body] = request(new FormData(event.target));
  const token = at("subscribe").elements.token.value;
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  try {
    const signal = AbortSignal.timeout(20_000);
    const answer = await fetch(address, { method: "POST", body, headers, signal });
    const text = (await answer.text()).trim();
    at("published").textContent = answer.ok ? text : `${answer.status}: ${text}`;
  } catch (problem) {
    at("published").textContent = problem.message;
  }
});

// ---------------------------------------------------------------------- figures of the hub

function* flat(value, name) {
  if (Array.isArray(value)) {
    for (const [index, each] of value.entries()) yield* flat(each, `${name} ${index + 1}`);
  } else if (value !== null && typeof value === "object") {
    for (const [key, each] of Object.entries(value)) yield* flat(each, name ? `${name} ${key}` : key);
  } else {
    yield [name, value];
  }
}

async function showStats() {
  if (document.visibilityState !== "visible") return;
  const rows = [];
  try {
    const token = at("subscribe").elements.token.value;
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const signal = AbortSignal.timeout(STATS_MS - 500);
    const answer = await fetch("stats", { headers, signal, cache: "no-store" });
    if (!answer.ok) throw new Error(`${answer.status}: ${(await answer.text()).trim()}`);
    rows.push(...flat(await answer.json(), ""));
  } catch (problem) {
    rows.push(["no figures", problem.message]);
  }
  at("stats").replaceChildren(...rows.flatMap(([name, value]) => [
    Object.assign(document.createElement("dt"), { textContent: name.replaceAll("_", " ") }),
    Object.assign(document.createElement("dd"), { textContent: String(value) }),
  ]));
}

setInterval(showStats, STATS_MS);
showStats();
