// One stream and nothing else, for frames of other pages. The gateway serves it as /watch/NAME; as
// a file it is watch.html?NAME. A token follows after #. After /watch/NAME? may stand
//
//   muted         without sound, until the viewer turns it on
//   autoplay=0    not before the viewer presses the button
//   controls=0    without the browser's controls

import { Player } from "./player.js";
import { decoded, slowWords } from "./words.js";

const at = (id) => document.getElementById(id);

const served = /\/watch\/([^/]+)$/.exec(location.pathname);
const name = decoded(served?.[1] ?? location.search.slice(1));
const options = new URLSearchParams(served ? location.search : "");
const endpoint = `${served ? "../whep/" : "../media/whep/"}${encodeURIComponent(name)}`;
const player = new Player(at("video"), endpoint, { token: decoded(location.hash.slice(1)) });

// Whether an option is on: `muted` alone is.
function on(option, otherwise) {
  const value = options.get(option);
  return value === null ? otherwise : !["0", "false", "no", "off"].includes(value);
}

function show() {
  const { state, reason, slow } = player;
  const trouble = [state, reason].filter(Boolean).join(": ");
  const told = slow ? slowWords(slow) : "";
  at("words").textContent = state === "playing" ? told : trouble;
  at("again").hidden = state !== "failed";
  at("watch").hidden = true;
  at("video").controls = state === "playing" && on("controls", true);
}

player.addEventListener("state", show);
player.addEventListener("slow", show);
player.addEventListener("muted", ({ detail }) => (at("listen").hidden = !detail.muted));
player.addEventListener("hint", ({ detail }) => (at("words").textContent = detail.text));
at("listen").addEventListener("click", () => player.unmute());
for (const id of ["again", "watch"]) at(id).addEventListener("click", () => player.play());
at("video").muted = on("muted", false);

if (name) document.title = name;
if (!name) {
  at("words").textContent = "no stream is named: watch.html?NAME";
} else if (on("autoplay", true)) {
  // a video that waits for its first picture would keep the page around it from being loaded
  addEventListener("load", () => player.play(), { once: true });
} else {
  at("watch").hidden = false;
  player.prepare();
}
