// Controls of a film: a stream that is played for each viewer from its beginning. No dependencies.
//
//   import { FilmControls } from "./film.js";
//   const controls = new FilmControls(document.querySelector("#film"), console.log);
//   controls.follow(player);              // of player.js; null: of none
//
// The element is hidden while what is played is no film. It gets a button, a range for the position
// and the time; the function is told what went wrong, and "" once that is over. The gateway says
// where the film is: it is asked each second while it plays, and answers each command with it.

const EACH_MS = 1_000;
const NO_FILM = [405, 409]; // a stream that is live, or a server that has no films
const GONE = 404; // the session: the player makes another; or a server that has no films
const LABELS = { playing: "Pause", paused: "Play", ended: "Play again" };
const WHY = { paused: "", ended: "the film has ended" }; // nothing comes

export class FilmControls {
  #box;
  #tell;
  #button = document.createElement("button");
  #range = document.createElement("input");
  #time = document.createElement("span"); // no <output>: that would be read out each second
  #player = null;
  #following = null; // an AbortController
  #session = null; // of the player, which is another after each connection
  #film = null; // as it was last told: {state, position_s, duration_s}
  #failed = ""; // what was asked in vain last
  #asked = Promise.resolve(); // one question after the other, so that no old answer comes last
  #timer = 0;
  #choosing = false; // the range is being moved
  #seeks = 0; // that wait for their turn

  constructor(box, tell) {
    this.#box = box;
    this.#tell = tell;
    const [button, range] = [this.#button, this.#range];
    button.type = "button";
    button.addEventListener("click", () => this.#press());
    Object.assign(range, { type: "range", min: 0, max: 0, step: 1 });
    range.setAttribute("aria-label", "Position in seconds");
    range.addEventListener("input", () => {
      this.#choosing = true;
      this.#write(range.valueAsNumber);
    });
    // `change` does not come when it is let go where it was
    for (const type of ["change", "pointerup", "pointercancel", "blur"]) {
      range.addEventListener(type, () => (this.#choosing = false));
    }
    range.addEventListener("change", () => this.#seek(range.valueAsNumber));
    box.hidden = true;
    box.replaceChildren(button, range, this.#time);
  }

  follow(player) {
    this.#following?.abort();
    this.#following = new AbortController();
    this.#player = player;
    player?.addEventListener("state", () => this.#look(), { signal: this.#following.signal });
    this.#look();
  }

  // Another session plays another film, from its beginning; it may be none at all.
  #look() {
    const session = this.#player?.session ?? null;
    if (session === this.#session) return;
    clearTimeout(this.#timer);
    if (this.#failed) this.#tell("");
    this.#session = session;
    this.#film = null;
    this.#failed = "";
    this.#box.hidden = true;
    if (session) this.#ask("GET", "progress");
  }

  #press() {
    this.#ask("POST", this.#film?.state === "playing" ? "pause" : "start");
  }

  #seek(position_s) {
    this.#seeks += 1;
    // who holds an arrow key down wants the last place, not all of them
    this.#ask("POST", "seek", { position_s }, () => --this.#seeks === 0);
  }

  #ask(method, what, body, wanted = () => true) {
    const session = this.#session;
    clearTimeout(this.#timer);
    this.#asked = this.#asked.then(async () => {
      if (!wanted() || session !== this.#session) return;
      try {
        const answer = await this.#player.request(method, what, body);
        const text = await answer.text();
        if (session === this.#session) this.#answered(what, answer, text);
      } catch {
        if (session === this.#session) this.#fail(what, "the gateway does not answer");
      }
    });
  }

  #answered(what, { ok, status }, text) {
    if (status === GONE || (!this.#film && NO_FILM.includes(status))) return;
    if (!ok) {
      this.#fail(what, text.trim().slice(0, 300) || `status ${status}`);
      return;
    }
    // where a film is may be known although it does not do what it was told
    if (this.#failed && (what !== "progress" || this.#failed === "progress")) {
      this.#failed = "";
      this.#tell("");
    }
    this.#show(JSON.parse(text));
    if (this.#film.state === "playing") this.#askLater();
  }

  #fail(what, text) {
    this.#failed = what;
    this.#tell(text);
    this.#askLater();
  }

  #askLater() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask("GET", "progress"), EACH_MS);
  }

  // ------------------------------------------------------------------ showing

  #show(film) {
    this.#film = film;
    this.#player.held = WHY[film.state] ?? null;
    this.#button.textContent = LABELS[film.state];
    this.#range.hidden = !film.duration_s; // nobody knows how long it is
    this.#range.max = Math.ceil(film.duration_s);
    if (!this.#choosing && !this.#seeks) {
      this.#range.value = film.position_s;
      this.#write(film.position_s);
    }
    this.#box.hidden = false;
  }

  #write(position_s) {
    const { duration_s } = this.#film;
    const parts = [position_s, duration_s].filter((_, number) => !number || duration_s).map(clock);
    this.#time.textContent = parts.join(" / ");
    this.#range.setAttribute("aria-valuetext", parts.join(" of "));
  }
}

// Seconds as 1:05 or 1:02:05.
function clock(seconds) {
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const two = (number) => String(number).padStart(2, "0");
  return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(whole % 60)}`;
}
