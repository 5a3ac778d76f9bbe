// The live page: what there is to watch, and one stream of it. All addresses are relative.

import { FilmControls } from "./film.js";
import { Player } from "./player.js";
import { decoded, figuresOf, slowWords, stateWords } from "./words.js";

const MEDIA = new URL("../media/", document.baseURI);
const LIST_MS = 3_000;

const at = (id) => document.getElementById(id);

let streams = new Map(); // by name, as the gateway tells them
let chosen = ""; // a name
let player = null; // of what is chosen
const film = new FilmControls(at("film"), (text) => showTrouble("hint", text));

// ---------------------------------------------------------------------- the list

async function readList() {
  const signal = AbortSignal.timeout(LIST_MS);
  const answer = await fetch(new URL("streams", MEDIA), { signal, cache: "no-store" });
  const text = await answer.text();
  if (!answer.ok) throw new Error(text.trim().slice(0, 200) || `status ${answer.status}`);
  return JSON.parse(text);
}

async function lookForStreams() {
  try {
    showList(await readList());
    at("list-state").textContent = "";
  } catch (problem) {
    const gone = problem instanceof TypeError || problem.name === "TimeoutError";
    const why = gone ? "the gateway does not answer" : problem.message;
    at("list-state").textContent = `The list may be old: ${why}.`;
    if (!streams.size) at("empty").textContent = "Nothing is known yet.";
  }
}

// Buttons that are there stay, so that who stands on one is not thrown out.
function showList(told) {
  streams = new Map(told.map((stream) => [stream.name, stream]));
  const list = at("streams");
  const there = new Map([...list.children].map((item) => [item.dataset.name, item]));
  for (const [name, item] of there) if (!streams.has(name)) item.remove();
  let before = null;
  for (const stream of told) {
    const item = there.get(stream.name) ?? newItem(stream.name);
    showItem(item, stream);
    const place = before ? before.nextElementSibling : list.firstElementChild;
    if (item !== place) list.insertBefore(item, place);
    before = item;
  }
  at("empty").hidden = told.length > 0;
  at("empty").textContent = "There are no streams: no sidecar has any, and nobody publishes.";
  if (!chosen) choose(decoded(location.hash.slice(1)));
  else showChosen();
}

function newItem(name) {
  const item = document.createElement("li");
  item.dataset.name = name;
  const button = document.createElement("button");
  button.type = "button";
  button.append(...["strong", "small", "small"].map((tag) => document.createElement(tag)));
  button.addEventListener("click", () => choose(name));
  item.append(button);
  return item;
}

function showItem(item, stream) {
  const button = item.firstElementChild;
  const [title, state, more] = button.children;
  const because = stream.reason ? `: ${stream.reason}` : "";
  const viewers = stream.viewers === 1 ? "1 viewer" : `${stream.viewers} viewers`;
  const codecs = stream.tracks.map((track) => track.codec).join(", ");
  put(title, stream.title || stream.name);
  put(state, stream.state === "live" ? "live" : `${stream.state}${because}`);
  put(more, [stream.name, codecs, viewers].filter(Boolean).join(" · "));
  state.dataset.state = stream.state;
  button.disabled = !stream.playable;
  button.setAttribute("aria-pressed", String(stream.name === chosen));
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// ---------------------------------------------------------------------- the stage

function choose(name) {
  const stream = streams.get(name);
  if (!stream?.playable || name === chosen) return;
  const plays = player !== null && !["idle", "ended", "failed"].includes(player.state);
  chosen = name;
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  for (const item of at("streams").children) {
    item.firstElementChild.setAttribute("aria-pressed", String(item.dataset.name === name));
  }
  player?.stop();
  player = newPlayer(name);
  film.follow("source" in stream ? null : player); // what all viewers share is no film
  showState(player);
  if (plays) player.play();
  else player.prepare();
  showChosen();
}

function newPlayer(name) {
  const endpoint = new URL(`whep/${encodeURIComponent(name)}`, MEDIA);
  const made = new Player(at("video"), endpoint, { token: askToken });
  const listen = (type, show) => {
    made.addEventListener(type, ({ detail }) => made === player && show(detail));
  };
  listen("state", () => showState(made));
  listen("statistics", () => put(at("statistics"), figuresOf(made)));
  listen("muted", ({ muted }) => (at("listen").hidden = !muted));
  listen("slow", (slow) => showTrouble("slow", slow ? slowWords(slow) : ""));
  listen("hint", ({ text }) => showTrouble("hint", text));
  return made;
}

// Nothing is asked for until the gateway wants a token.
function askToken(reason) {
  return reason ? window.prompt(`${reason.trim()}: the token to watch`) : "";
}

function showChosen() {
  const stream = streams.get(chosen);
  if (stream) put(at("title"), stream.title || stream.name);
}

function showState({ state, reason, statistics }) {
  const runs = !["idle", "ended", "failed"].includes(state);
  const shows = state === "playing" || state === "paused";
  const soundOnly = shows && !statistics.width;
  at("state").dataset.state = state;
  put(at("state"), stateWords[state] ?? state);
  put(at("reason"), reason);
  put(at("curtain"), soundOnly ? "sound only" : runs && !shows ? `${state} …` : "");
  at("watch").disabled = runs;
  at("stop").disabled = !runs;
  at("video").controls = state === "playing";
  if (state === "playing") showTrouble("hint", "");
  if (runs) return;
  at("listen").hidden = true;
  put(at("statistics"), "");
  showTrouble("slow", "");
  showTrouble("hint", "");
}

function showTrouble(id, text) {
  put(at(id), text);
  at(id).hidden = !text;
}

at("watch").addEventListener("click", () => player?.play());
at("stop").addEventListener("click", () => {
  player?.stop();
  player?.prepare();
});
at("listen").addEventListener("click", () => player?.unmute());

addEventListener("hashchange", () => choose(decoded(location.hash.slice(1))));
setInterval(() => document.visibilityState === "visible" && lookForStreams(), LIST_MS);
document.addEventListener("visibilitychange", () => document.hidden || lookForStreams());
lookForStreams();
