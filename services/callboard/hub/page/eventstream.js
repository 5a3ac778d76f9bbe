// A stream of a hub's updates that stays alive: an EventSource, and what it lacks. No dependencies.
//
//   import { EventStream } from "./eventstream.js";
//   const stream = new EventStream("/hub/.well-known/mercure", { topics: ["/builds"] });
//   stream.addEventListener("update", ({ detail }) => console.log(detail.id, detail.data));
//
// All topics go over one connection. It sees a connection that has gone silent (the hub's beats
// stop), and a proxy that holds the stream back (no hello: it polls then). However it goes on, it
// goes on from its cursor, so that no update is missed and none is given twice; what the hub has
// no more is told ("gap").
//
// Events, each with its own `detail`:
//   update  {id, type, data}                     one update
//   gap     {requested, oldest, newest, lost}    updates that the hub keeps no more; lost may be null
//   beat    {cursor, time, catalog_age}          the hub is there; time: its clock, in milliseconds
//   state   {state, reason}                      connecting, live, polling, waiting, token (one is
//                                                asked for), closed

const HELLO_MS = 3000;
const BEATS_MISSED = 2.5;
const POLL_S = 25;
const POLL_EXTRA_S = 10;
const POLL_SHORT_MS = 1000; // a poll that brings nothing takes longer; else it rests
const STREAM_AGAIN_MS = 60_000; // so long it polls before it tries to stream again; then longer
const STREAM_AGAIN_MAX_MS = 600_000;
const SINCE_EXTRA_MS = 1000; // further back than the first request: no two take as long to a hub
const RETRY_MS = 3000; // until the hub has said one
const RETRY_MAX_MS = 30_000;
const RENEW_MS = 1000; // between two tokens at least
const WAIT_MAX_MS = 600_000; // however long a hub says
const HUB_EVENTS = ["hub.hello", "hub.beat", "hub.gap", "hub.state", "hub.bye", "hub.limit"];
const CATALOG = /^\/(catalog|cluster)\//;
const HISTORY = /^#([a-z0-9]{1,32})\.(\d{1,19})$/; // no publisher's id begins with #
const STANDING = ["hub.hello", "hub.beat", "hub.state"]; // bring nothing

// What a request was refused for, with the seconds after which it may be asked again.
class Refusal extends Error {
  constructor(status, text, retryAfter) {
    super(text.trim() || `status ${status}`);
    this.status = status;
    this.retryMs = retryAfter ? 1000 * Number(retryAfter) : 0;
  }
}

export class EventStream extends EventTarget {
  // Where it stands: give it as `lastEventId` to go on from there.
  cursor = "";
  state = "closed";

  #url;
  #options;
  #token = "";
  #source = null;
  #poll = null;
  #timers = new Map();
  #askedAt = 0; // when it was asked for the first time
  #heardAt = 0;
  #retryMs = RETRY_MS;
  #failures = 0;
  #attempt = 0; // what an earlier attempt still brings is not for this one
  #renewing = false;
  #renewedAt = -Infinity; // when the token came; the first one may have been old already
  #seen = null; // {epoch, offset} of the newest update given
  #pollUntil = 0;
  #pollMs = STREAM_AGAIN_MS;
  #onVisible = () => this.#look();

  // `url`: the hub's /.well-known/mercure. Options:
  //   topics       topics, or URI templates
  //   types        names of events to be told of beside "message": an EventSource knows no others
  //   token        a token, or a function that gives one (or a promise), asked at the start and
  //                whenever the hub takes the last one no more, which it is told the reason of
  //   credentials  "include": cookies go to a hub of another origin, too
  //   lastEventId  where to begin; without one: since ("10m"), else last (a number), else now
  //   beatS        seconds between the hub's beats
  constructor(url, options) {
    super();
    this.#url = new URL(url, document.baseURI);
    this.#options = { types: [], token: "", credentials: "same-origin", beatS: 10, ...options };
    this.cursor = options.lastEventId ?? "";
    this.state = "connecting";
    document.addEventListener("visibilitychange", this.#onVisible);
    // the page adds its listeners first
    queueMicrotask(() => this.#begin());
  }

  // End it, for good.
  close() {
    document.removeEventListener("visibilitychange", this.#onVisible);
    this.#leave();
    this.#become("closed", "");
  }

  #begin() {
    if (this.state === "closed") return;
    const { token } = this.#options;
    if (typeof token === "function") {
      this.#renew("");
    } else {
      this.#token = token;
      this.#connect();
    }
  }

  // Ask for a token, and connect with it; a stream that is there goes on meanwhile.
  async #renew(reason) {
    this.#become("token", reason);
    if (this.#renewing) return;
    this.#renewing = true;
    let token;
    try {
      token = await this.#options.token(reason);
    } catch (problem) {
      if (this.state !== "closed") this.#wait(RETRY_MAX_MS, `no token: ${problem.message}`);
      return;
    } finally {
      this.#renewing = false;
    }
    if (this.state === "closed") return;
    this.#token = token ?? "";
    if (reason) this.#renewedAt = performance.now();
    this.#connect();
  }

  // The token ends in so many milliseconds: updates come until there is a new one. One that was had
  // for as long as it has left is renewed at once; else its whole life is shorter than the hub's
  // notice, as the next one's will be: half of what is left is used first.
  #renewLater(leftMs, reason) {
    const ageMs = performance.now() - this.#renewedAt;
    const old = ageMs >= Math.max(leftMs, RENEW_MS);
    const halfMs = leftMs * (0.4 + Math.random() / 5);
    const waitMs = old ? 0 : Math.max(RENEW_MS, Math.min(halfMs, WAIT_MAX_MS));
    if (leftMs <= 0) this.#leave();
    if (waitMs > 0 && leftMs <= 0) this.#become("waiting", reason);
    if (waitMs > 0) this.#after("renewal", waitMs, () => this.#renew(reason));
    else this.#renew(reason);
  }

  #address(extra) {
    const url = new URL(this.#url);
    const { topics, since, last } = this.#options;
    for (const topic of topics) url.searchParams.append("topic", topic);
    if (this.cursor) url.searchParams.set("lastEventID", this.cursor);
    else if (since) url.searchParams.set("since", since);
    else if (last) url.searchParams.set("last", last);
    else if (this.#askedAt) {
      // what came while the hub could not be heard was asked for already
      const sinceMs = Math.ceil(performance.now() - this.#askedAt) + SINCE_EXTRA_MS;
      url.searchParams.set("since", `${sinceMs}ms`);
    }
    for (const [name, value] of Object.entries(extra)) url.searchParams.set(name, value);
    return url;
  }

  // ------------------------------------------------------------------ streaming

  #connect() {
    this.#leave();
    const attempt = this.#attempt;
    this.#become("connecting", "");
    this.#heardAt = 0;
    const address = this.#address({ beat: this.#options.beatS });
    // the one way to give an EventSource a token that is not a cookie
    if (this.#token) address.searchParams.set("authorization", this.#token);
    const withCredentials = this.#options.credentials === "include";
    const source = new EventSource(address, { withCredentials });
    this.#source = source;
    this.#askedAt ||= performance.now();
    const take = (event) => {
      if (attempt !== this.#attempt) return;
      this.#heard();
      this.#take(event.type, event.data, event.lastEventId);
    };
    for (const type of ["message", ...this.#options.types, ...HUB_EVENTS]) {
      source.addEventListener(type, take);
    }
    source.onerror = () => {
      if (attempt !== this.#attempt) return;
      // a status other than 200, which only a fetch can read
      if (source.readyState === EventSource.CLOSED) this.#startPolling("");
      else this.#fail(this.#heardAt ? "the stream has ended" : "the hub does not answer");
    };
    this.#after("hello", HELLO_MS, () => {
      this.#startPolling("no hello: something holds it back");
      this.#pollMs = Math.min(2 * this.#pollMs, STREAM_AGAIN_MAX_MS);
    });
  }

  #take(type, data, id) {
    if (type === "hub.hello") this.#hello(JSON.parse(data));
    else if (type === "hub.beat") this.#beat(JSON.parse(data));
    else if (type === "hub.gap") this.#gap(JSON.parse(data), id);
    else if (type === "hub.bye") this.#bye(JSON.parse(data));
    else if (type === "hub.limit") this.#limit(JSON.parse(data));
    else if (type === "hub.state") this.cursor = id || this.cursor;
    else this.#update(type, data, id);
  }

  #hello({ cursor, retry }) {
    this.#stop("hello");
    this.#failures = 0;
    if (retry > 0) this.#retryMs = Math.min(retry, WAIT_MAX_MS);
    if (cursor) this.cursor = cursor;
    if (!this.#source) return;
    this.#pollMs = STREAM_AGAIN_MS;
    this.#become("live", "");
  }

  #beat(fields) {
    if (fields.cursor) this.cursor = fields.cursor;
    if (fields.time) this.#tell("beat", fields);
  }

  #gap(fields, id) {
    if (id) this.cursor = id;
    this.#seen = null; // a history that was lost may count anew
    this.#tell("gap", fields);
  }

  #update(type, data, id) {
    if (id) this.cursor = id;
    if (!this.#isRepeat(id)) this.#tell("update", { id, type, data });
  }

  // Offsets of one history only rise. (Beside topics of the catalog they tell nothing: the values
  // that such a stream begins with have no id, and an EventSource gives them the last one.)
  #isRepeat(id) {
    const place = HISTORY.exec(id);
    if (!place || this.#options.topics.some((topic) => CATALOG.test(topic))) return false;
    const [epoch, offset] = [place[1], BigInt(place[2])];
    if (this.#seen?.epoch === epoch && offset <= this.#seen.offset) return true;
    this.#seen = { epoch, offset };
    return false;
  }

  #bye({ reason, ends_in: endsIn = 0 }) {
    if (reason !== "token") {
      if (endsIn <= 0) this.#wait(this.#retryMs, reason === "stop" ? "the hub stops" : "renewed");
    } else if (typeof this.#options.token === "function") {
      this.#renewLater(1000 * endsIn, "the token has expired, or is not valid");
    } else if (endsIn <= 0) {
      this.#wait(RETRY_MAX_MS, "the token has expired, or is not valid");
    }
  }

  #limit({ reason, retry }) {
    this.#wait(retry || this.#retryMs, reason);
  }

  // ------------------------------------------------------------------ polling

  #startPolling(reason) {
    this.#leave();
    this.#pollUntil = Date.now() + this.#pollMs;
    this.#become("polling", reason);
    this.#pollOn(this.#attempt);
  }

  async #pollOn(attempt) {
    try {
      while (attempt === this.#attempt && Date.now() < this.#pollUntil) {
        const askedAt = performance.now();
        const brought = await this.#pollOnce(attempt);
        if (attempt !== this.#attempt) return;
        if (!brought && performance.now() - askedAt < POLL_SHORT_MS) {
          const restMs = this.#retryMs * (0.75 + Math.random() / 2);
          await new Promise((resolve) => this.#after("rest", restMs, resolve));
        }
      }
      if (attempt === this.#attempt) this.#connect();
    } catch (problem) {
      if (attempt !== this.#attempt) return;
      const unauthorised = problem.status === 401 || problem.status === 403;
      if (unauthorised && typeof this.#options.token === "function") {
        this.#renewLater(0, problem.message);
      } else if (problem.retryMs) this.#wait(problem.retryMs, problem.message);
      else this.#fail(problem.message);
    }
  }

  // Whether it brought anything.
  async #pollOnce(attempt) {
    this.#poll = new AbortController();
    const stop = AbortSignal.timeout(1000 * (POLL_S + POLL_EXTRA_S));
    const headers = this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
    const answer = await fetch(this.#address({ poll: POLL_S, format: "ndjson" }), {
      headers,
      credentials: this.#options.credentials,
      cache: "no-store",
      signal: AbortSignal.any([stop, this.#poll.signal]),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Refusal(answer.status, text, answer.headers.get("Retry-After"));
    this.#failures = 0;
    let brought = false;
    for (const line of text.split("\n")) {
      if (attempt !== this.#attempt) break;
      if (!line) continue;
      const { type, data, id = "" } = JSON.parse(line);
      const named = type === "message" || type.startsWith("hub.");
      if (named || this.#options.types.includes(type)) this.#take(type, data, id);
      if (id) this.cursor = id;
      brought ||= !STANDING.includes(type);
    }
    return brought;
  }

  // ------------------------------------------------------------------ coming back

  // Signs of life: the next is due within 2.5 beats.
  #heard() {
    this.#heardAt = Date.now();
    const silentMs = 1000 * BEATS_MISSED * this.#options.beatS;
    this.#after("silence", silentMs, () => this.#connect());
  }

  // The page is looked at again; its timers may have slept.
  #look() {
    if (document.visibilityState !== "visible") return;
    const silentMs = Date.now() - this.#heardAt;
    const silent = this.#source && this.#heardAt && silentMs > 1000 * this.#options.beatS;
    if (this.state === "waiting" || silent) this.#connect();
  }

  #fail(reason) {
    const least = Math.min(this.#retryMs * 2 ** this.#failures, RETRY_MAX_MS);
    this.#failures += 1;
    this.#wait(least * (1 + Math.random() / 4), reason);
  }

  #wait(delayMs, reason) {
    this.#leave();
    this.#become("waiting", reason);
    this.#after("retry", Math.min(delayMs, WAIT_MAX_MS), () => this.#connect());
  }

  #leave() {
    this.#attempt += 1;
    this.#source?.close();
    this.#poll?.abort();
    this.#source = this.#poll = null;
    for (const name of [...this.#timers.keys()]) this.#stop(name);
  }

  #after(name, delayMs, call) {
    this.#stop(name);
    this.#timers.set(name, setTimeout(call, delayMs));
  }

  #stop(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  #become(state, reason) {
    this.state = state;
    this.#tell("state", { state, reason });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
