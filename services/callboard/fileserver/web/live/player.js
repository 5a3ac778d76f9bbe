// Plays a live stream by WHEP, and goes on playing it whatever happens. No dependencies.
//
//   import { Player } from "./player.js";
//   const player = new Player(document.querySelector("video"), "/media/whep/test-pattern");
//   player.addEventListener("state", ({ detail }) => console.log(detail.state, detail.reason));
//   player.prepare();                     // what can be done before the click
//   button.onclick = () => player.play();
//
// Where the source is silent, the way lost, the gateway gone or the picture still, it waits,
// restarts ICE or connects anew.
//
// Events, each with its own `detail`:
//   state       {state, reason}  idle, connecting, playing, waiting (it goes on by itself: why),
//                                failed (it does not: why), ended, paused (a film: see `held`)
//   statistics  each half second, see `statistics`
//   slow        {needs, gets}    the link is too slow, in bits per second; null: no longer
//   muted       {muted}          the browser plays it without sound until a click calls unmute()
//   hint        {text}           what a person can do
//
// Source: draft-ietf-wish-whep-03; RFC 9725, 4.3 (trickle, restart); RFC 8840, 9 (fragments).

const SDP = "application/sdp";
const FRAGMENT = "application/trickle-ice-sdpfrag";
const JSON_TYPE = "application/json";
const TICK_MS = 500;
const SAMPLES = 5; // ticks that figures are taken over
const POST_MS = 15_000; // a stream on demand is opened meanwhile
const ASK_MS = 3_000;
const CONNECT_MS = 8_000; // from the answer to a connection
const SILENT_MS = 1_500; // without a packet; then the session is asked after
const LOST_MS = 2_000; // disconnected; then ICE is restarted
const UNHEARD_MS = 3_000; // not even answers to checks, which are sent each 2.5 s: the same
const RESTART_MS = 2_500; // a restart that brought nothing by then is none
const STILL_MS = 2_000; // packets come, and no picture: it is told
const FROZEN_MS = 4_000; // then connected anew; longer each time
const FROZEN_MAX_MS = 30_000;
const SETTLED_MS = 10_000; // playing so long forgets earlier failures
const RETRY_MS = 250; // doubled each time
const RETRY_MAX_MS = 10_000;
const RETRY_AFTER_MAX_MS = 60_000;
const SERVERS_MS = 3_600_000; // credentials of ICE servers end
const SLOW_MS = 5_000; // between two questions whether the link is too slow
const LOSSY = 0.02; // share of packets; over it that is asked
const LATE_MS = 500; // in the jitter buffer; the same
const KEPT_MS = 60; // of pictures in the jitter buffer, at least; see keepPictures

// An answer that is not the one hoped for.
class Refusal extends Error {
  constructor(status, text, headers) {
    super(text.trim().slice(0, 300) || `status ${status}`);
    const after = headers?.get("Retry-After") ?? "";
    this.status = status;
    this.retryMs = /^\d+$/.test(after) ? Math.min(1000 * after, RETRY_AFTER_MAX_MS) : 0;
  }
}

// One attempt: a connection, and the resource that the server has for it.
class Session {
  pc = null;
  offered = null; // a promise of our offer
  stream = new MediaStream();
  url = null; // of the resource, once there is one
  etag = "";
  theirs = ""; // their description
  ours = "";
  candidates = []; // ours that they do not know yet; null: nobody wants them
  gone = false; // the server does not know it any more
  asking = false;
  problem = "nothing comes";
  held = null;
  samples = [];
  // Moments, 0 for none: answered, connected, playing since then, ICE disconnected since then and
  // restarted; when packets, these or answers to checks (heard), video and pictures decoded were
  // last seen to have come; when to ask after it again.
  at = {
    answered: 0, connected: 0, playing: 0, lost: 0, restarted: 0,
    packets: 0, heard: 0, video: 0, frames: 0, ask: 0,
  };

  // Whether the server sends pictures.
  get hasVideo() {
    const gets = ({ receiver, currentDirection }) =>
      receiver.track.kind === "video" && currentDirection === "recvonly";
    return this.pc.getTransceivers().some(gets);
  }
}

export class Player extends EventTarget {
  state = "idle";
  reason = "";
  firstFrameMs = null; // from play() to the first picture shown
  // fps, bitsPerSecond, jitterBufferMs, lossShare, roundTripMs, width, height, protocol, codecs;
  // since the connection: frames, freezes, samples (of sound); connections made so far
  statistics = {};
  slow = null;

  #url;
  #options;
  #token = null;
  #servers = null; // {at, list}; the list is promised
  #ready = null; // a session that is prepared
  #session = null;
  #timer = 0; // of the next tick, or of the next attempt
  #listening = null; // an AbortController while it is wanted
  #failures = 0;
  #connections = 0;
  #clickedAt = 0;
  #slowAskedAt = 0;
  #toldToWait = false;

  // `video`: the element; `url`: the WHEP endpoint of the stream. Options:
  //   token               a token, or a function that gives one (or a promise): asked at the start,
  //                       and with a reason when the server takes the last one no more; then null
  //                       is to give up
  //   audio, video        false: without it
  //   iceTransportPolicy  "relay": by TURN alone
  //   about               URL of what the gateway tells of the stream: /streams/NAME beside /whep/
  constructor(video, url, options = {}) {
    super();
    this.video = video;
    this.#url = new URL(url, document.baseURI);
    const about = this.#url.href.replace(/\/whep\/([^/?#]+).*$/, "/streams/$1");
    const defaults = { token: "", audio: true, video: true, iceTransportPolicy: "all", about };
    this.#options = { ...defaults, ...options };
  }

  // Ask for ICE servers and make an offer, so that a click costs one request.
  prepare() {
    if (this.#listening || !window.RTCPeerConnection) return;
    this.#askServers();
    this.#ready ??= this.#prepared();
  }

  // Begin. In a click, it may sound.
  play() {
    if (this.#listening) return;
    const { signal } = (this.#listening = new AbortController());
    this.#clickedAt = performance.now();
    this.#failures = this.#connections = 0;
    this.firstFrameMs = null;
    this.statistics = {};
    const returned = ({ persisted }) => persisted && this.#connect();
    addEventListener("pagehide", () => this.#leave(), { signal });
    addEventListener("pageshow", returned, { signal });
    addEventListener("online", () => this.#hurry(), { signal });
    this.#connect();
    if (this.#session) this.#show(this.#session);
  }

  // End it; play() begins anew.
  stop() {
    this.#end("ended", "");
  }

  // With sound; in a click.
  unmute() {
    this.video.muted = false;
    this.#tell("muted", { muted: false });
    this.video.play().catch(() => {});
  }

  // URL of what the server has for this viewer; null while there is none.
  get session() {
    return this.#session?.url ?? null;
  }

  // Why nothing is meant to come ("": a film is paused); null: something is. For this session.
  set held(why) {
    if (!this.#session || this.#session.held === why) return;
    this.#session.held = why;
    this.#tickSoon(this.#session);
  }

  // Ask for something below the session, with the token; the answer is fetch's. Without a session
  // there is nothing to ask.
  async request(method, path, json) {
    if (this.session === null) throw new Error("nothing is watched");
    const body = json && JSON.stringify(json);
    return this.#request(method, `${this.session}/${path}`, { type: body && JSON_TYPE, body });
  }

  #end(state, reason) {
    this.#listening?.abort();
    this.#listening = null;
    this.#leave();
    this.#ready?.pc.close();
    this.#ready = null;
    this.video.srcObject = null;
    this.#setSlow(null);
    this.#become(state, reason);
  }

  // ------------------------------------------------------------------ requests

  async #request(method, url, { type, body, match, withinMs = ASK_MS, keepalive = false } = {}) {
    for (let renewed = false; ; renewed = true) {
      this.#token ??= await this.#askToken("");
      const headers = {};
      if (this.#token) headers.Authorization = `Bearer ${this.#token}`;
      if (type) headers["Content-Type"] = type;
      if (match) headers["If-Match"] = match;
      const signal = keepalive ? undefined : AbortSignal.timeout(withinMs);
      const init = { method, headers, body, signal, keepalive, cache: "no-store" };
      const answer = await fetch(url, init);
      if (answer.status !== 401 || renewed || keepalive || !this.#renewable) return answer;
      this.#token = await this.#askToken((await answer.text()).trim() || "it has expired");
    }
  }

  // The same about a session, whose ETag the answer may change. Another status is thrown.
  async #demand(session, statuses, method, url, request) {
    const answer = await this.#request(method, url, request);
    const text = await answer.text();
    const { status, headers } = answer;
    if (!statuses.includes(status)) throw new Refusal(status, text, headers);
    session.etag = headers.get("ETag") ?? session.etag;
    return { status, headers, text, url: answer.url };
  }

  get #renewable() {
    return typeof this.#options.token === "function";
  }

  async #askToken(reason) {
    const { token } = this.#options;
    const given = this.#renewable ? await token(reason) : token;
    if (reason && given === null) throw new Refusal(403, reason);
    return given ?? "";
  }

  // Those that OPTIONS tells; the answer to an offer may tell them, too.
  #askServers() {
    const now = performance.now();
    if (!this.#servers || now - this.#servers.at > SERVERS_MS) {
      const asked = this.#request("OPTIONS", this.#url);
      const list = asked.then(({ headers }) => iceServersOf(headers.get("Link")), () => []);
      this.#servers = { at: now, list };
    }
    return this.#servers.list;
  }

  // ------------------------------------------------------------------ connecting

  #open(session) {
    session.pc?.close();
    const { iceTransportPolicy } = this.#options;
    const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", iceTransportPolicy });
    session.pc = pc;
    pc.ontrack = ({ track }) => {
      session.stream.addTrack(track);
      if (session === this.#session) this.#show(session);
    };
    pc.onicecandidate = ({ candidate }) => {
      session.candidates?.push(candidate?.candidate ?? "");
      if (session.at.answered) this.#trickle(session);
    };
    pc.onconnectionstatechange = () => {
      if (session !== this.#session || pc !== session.pc) return;
      const lost = ["disconnected", "failed", "closed"].includes(pc.connectionState);
      session.at.lost = lost ? session.at.lost || performance.now() : 0;
      this.#tickSoon(session);
    };
  }

  #prepared() {
    const session = new Session();
    this.#open(session);
    for (const kind of ["video", "audio"]) {
      if (this.#options[kind]) session.pc.addTransceiver(kind, { direction: "recvonly" });
    }
    session.offered = session.pc.createOffer();
    session.offered.catch(() => {}); // who awaits it is told
    return session;
  }

  async #connect() {
    this.#leave();
    if (!window.RTCPeerConnection) return this.#end("failed", "this browser has no WebRTC");
    const session = (this.#session = this.#ready ?? this.#prepared());
    this.#ready = null;
    this.#become("connecting", this.reason);
    try {
      await this.#negotiate(session);
    } catch (problem) {
      if (session === this.#session) this.#refused(problem);
    }
  }

  async #negotiate(session) {
    const asked = this.#askServers();
    const offer = await session.offered;
    const request = { type: SDP, body: offer.sdp, withinMs: POST_MS };
    const { status, headers, text, url } =
      await this.#demand(session, [201, 406], "POST", this.#url, request);
    const inverted = status === 406;
    if (inverted && !text.startsWith("v=0")) throw new Refusal(status, text);
    session.url = new URL(headers.get("Location") ?? "", url);
    session.theirs = text;
    if (session !== this.#session) return this.#delete(session);
    const told = iceServersOf(headers.get("Link"));
    const iceServers = told.length ? told : await asked;
    if (inverted) this.#open(session);
    const { pc } = session;
    if (iceServers.length) pc.setConfiguration({ ...pc.getConfiguration(), iceServers });
    if (/^a=ice-lite/m.test(text)) session.candidates = null; // it learns them from our checks
    if (inverted) await this.#answer(session);
    else await this.#offer(session, offer);
    if (session !== this.#session) return;
    this.#connections += 1;
    session.at.answered = performance.now();
    if (isFirefox() && isLoopbackOnly(text)) this.#tell("hint", { text: FIREFOX_HINT });
    this.#trickle(session);
    this.#after(TICK_MS, () => this.#tick(session));
  }

  async #offer(session, offer) {
    session.ours = offer.sdp;
    await session.pc.setLocalDescription(offer);
    await session.pc.setRemoteDescription({ type: "answer", sdp: session.theirs });
  }

  // The server took nothing that we offered, and makes an offer itself (the draft, 4.2).
  async #answer(session) {
    const { pc } = session;
    await pc.setRemoteDescription({ type: "offer", sdp: session.theirs });
    const ours = await pc.createAnswer();
    if (/^m=\w+ 0 /m.test(ours.sdp)) {
      throw new Refusal(406, `this browser does not play it: ${codecsOf(session.theirs)}`);
    }
    session.ours = ours.sdp;
    await pc.setLocalDescription(ours);
    const request = { type: SDP, body: ours.sdp, match: session.etag };
    await this.#demand(session, [200, 204], "PATCH", session.url, request);
  }

  // Tell our candidates, to who wants them.
  #trickle(session) {
    if (!session.candidates?.length || !session.url) return;
    const body = fragmentOf(session.ours, session.candidates.splice(0));
    const request = { type: FRAGMENT, body, match: session.etag };
    this.#request("PATCH", session.url, request).catch(() => {}); // checks may find the way anyway
  }

  #refused(problem) {
    const { status, message } = problem;
    const hopeless = [400, 403, 405, 406, 413, 415].includes(status);
    if (hopeless || (status === 401 && !this.#renewable)) return this.#end("failed", message);
    this.#retry(wordsOf(problem), problem.retryMs);
  }

  // ------------------------------------------------------------------ showing

  #show(session) {
    const { video } = this;
    if (video.srcObject !== session.stream) {
      video.srcObject = session.stream;
      video.requestVideoFrameCallback((at) => {
        if (session !== this.#session) return;
        this.firstFrameMs ??= at - this.#clickedAt;
        keepPictures(session.pc);
        this.#tickSoon(session);
      });
    }
    video.play().catch((problem) => {
      if (problem.name !== "NotAllowedError" || video.muted) return;
      video.muted = true;
      this.#tell("muted", { muted: true });
      video.play().catch(() => {});
    });
  }

  // ------------------------------------------------------------------ watching over it

  #tickSoon(session) {
    if (session.at.answered) this.#after(0, () => this.#tick(session));
  }

  async #tick(session) {
    this.#after(TICK_MS, () => this.#tick(session));
    const seen = read(await session.pc.getStats());
    if (session !== this.#session) return;
    this.#note(session, seen);
    this.#judge(session, seen);
    this.#askSlow(session);
  }

  #note({ samples, pc, at }, seen) {
    const { now } = seen;
    const before = samples.at(-1);
    const connected = pc.connectionState === "connected";
    if (connected && !at.connected) {
      Object.assign(at, { connected: now, packets: now, heard: now, video: now, frames: now });
    }
    const more = (name) => seen[name] > (before?.[name] ?? 0);
    if (more("packets")) at.packets = now;
    if (more("videoPackets")) at.video = now;
    if (more("frames")) at.frames = now;
    const checked = Number.isNaN(seen.responses) ? connected : more("responses"); // or not told
    if (checked || more("packets")) at.heard = now;
    if (at.heard > at.restarted) at.restarted = 0;
    this.statistics = { ...figures(samples[0], seen), connections: this.#connections };
    samples.push(seen);
    if (samples.length > SAMPLES) samples.shift();
    this.#tell("statistics", this.statistics);
  }

  #judge(session, { now, frames, packets }) {
    const { at, held } = session;
    const stillMs = now - at.frames;
    if (!at.connected) {
      if (now - at.answered > CONNECT_MS || at.lost) {
        this.#retry(`no way to ${placesOf(session.theirs)}`);
      }
    } else if (held !== null && !at.lost && now - at.heard < UNHEARD_MS) {
      Object.assign(at, { playing: 0, packets: now, video: now, frames: now }); // none is missed
      this.#become("paused", held);
    } else if (held !== null || now - at.packets >= SILENT_MS || at.lost) {
      at.playing = 0;
      this.#silent(session, now);
    } else if (!session.hasVideo || document.hidden) {
      if (packets) this.#playing(session, now);
    } else if (frames && stillMs < STILL_MS) {
      this.#playing(session, now);
    } else if (now - at.video >= STILL_MS) {
      this.#become("waiting", "no picture comes");
    } else if (stillMs >= Math.min(FROZEN_MS * 2 ** this.#failures, FROZEN_MAX_MS)) {
      this.#retry("the picture stood still");
    } else if (stillMs >= STILL_MS) {
      this.#become("waiting", "the picture stands still");
    }
  }

  #playing(session, now) {
    const { at, samples } = session;
    if (document.hidden) at.frames = now; // who does not show it need not decode it
    if (!at.playing) {
      at.playing = now;
      samples.splice(0, samples.length - 1); // pictures came in a burst before
    }
    at.ask = 0;
    session.problem = "nothing comes";
    if (now - at.playing >= SETTLED_MS) this.#failures = 0;
    this.#become("playing", "");
  }

  #silent(session, now) {
    const { at } = session;
    this.#become("waiting", session.problem);
    if (at.restarted) {
      if (now - at.restarted >= RESTART_MS) this.#retry("the way is lost");
      return;
    }
    if (session.asking || now < at.ask) return;
    const lost = at.lost && now - at.lost >= LOST_MS;
    this.#ask(session, lost || now - at.heard >= UNHEARD_MS);
  }

  // Ask the server, with patience: while it does not answer, the connection may come back.
  async #ask(session, restart) {
    session.asking = true;
    try {
      if (restart) await this.#restart(session);
      else await this.#askAfter(session);
    } catch (problem) {
      if (session !== this.#session) return;
      session.gone = [404, 410].includes(problem.status);
      if (problem.status < 500) return this.#retry(session.gone ? "it has ended" : problem.message);
      session.problem = wordsOf(problem);
    } finally {
      session.asking = false;
      session.at.ask = performance.now() + 2 * RETRY_MS * (1 + Math.random());
    }
  }

  // Whether the server still has the session (the draft, 4.1: GET brings nothing, but a status).
  async #askAfter(session) {
    const { status } = await this.#demand(session, [200, 204, 405], "GET", session.url);
    if (status !== 405) session.problem = "the source is silent";
  }

  async #restart(session) {
    const { pc, at } = session;
    const offer = await pc.createOffer({ iceRestart: true });
    await pc.setLocalDescription(offer);
    session.ours = offer.sdp;
    const request = { type: FRAGMENT, body: fragmentOf(offer.sdp, []), match: "*" };
    const { text } = await this.#demand(session, [200], "PATCH", session.url, request);
    session.theirs = restarted(session.theirs, text);
    at.restarted = performance.now();
    session.problem = "the way is lost: trying another";
    await pc.setRemoteDescription({ type: "answer", sdp: session.theirs });
  }

  async #askSlow(session) {
    const now = performance.now();
    const { lossShare = 0, jitterBufferMs = 0 } = this.statistics;
    const trouble = lossShare > LOSSY || jitterBufferMs > LATE_MS;
    if ((!trouble && !this.slow) || now - this.#slowAskedAt < SLOW_MS) return;
    this.#slowAskedAt = now;
    try {
      const answer = await this.#request("GET", this.#options.about);
      const { sessions = [] } = answer.ok ? await answer.json() : {};
      const id = session.url.pathname.split("/").at(-1);
      if (session !== this.#session || !answer.ok) return;
      this.#setSlow(sessions.find((one) => id.startsWith(one.session))?.slow ?? null);
    } catch {
      // asked again in a while
    }
  }

  #setSlow(slow) {
    const same = JSON.stringify(slow) === JSON.stringify(this.slow);
    this.slow = slow;
    if (!same) this.#tell("slow", slow);
  }

  // ------------------------------------------------------------------ coming back

  #retry(reason, afterMs = 0) {
    this.#leave();
    const leastMs = Math.min(RETRY_MS * 2 ** this.#failures, RETRY_MAX_MS);
    this.#failures += 1;
    this.#toldToWait = afterMs > 0;
    const jitter = Math.random();
    const waitMs = Math.max(leastMs * (0.75 + jitter / 2), afterMs * (1 + jitter / 10));
    this.#become("waiting", reason);
    this.#after(waitMs, () => this.#connect());
  }

  // The network is there again.
  #hurry() {
    if (this.#session) this.#session.at.ask = 0;
    else if (!this.#toldToWait) this.#connect();
  }

  // Close what there is, and tell the server.
  #leave() {
    clearTimeout(this.#timer);
    const session = this.#session;
    this.#session = null;
    session?.pc.close();
    if (session?.url && !session.gone) this.#delete(session);
  }

  #delete(session) {
    this.#request("DELETE", session.url, { keepalive: true }).catch(() => {}); // it ends by itself
  }

  #after(delayMs, call) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(call, delayMs);
  }

  #become(state, reason) {
    if (state === this.state && reason === this.reason) return;
    [this.state, this.reason] = [state, reason];
    this.#tell("state", { state, reason });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

// -------------------------------------------------------------------- descriptions

const FIREFOX_HINT =
  "Firefox reaches no loopback address. Start the gateway with ADVERTISE_IPS=ADDRESS, another " +
  "address of its machine.";

const isFirefox = () => /\bFirefox\//.test(navigator.userAgent);

const candidatesOf = (sdp) => [...sdp.matchAll(/^a=candidate:\S+ \d+ (\S+) \d+ (\S+) (\d+) .*$/gm)];

const isLoopbackOnly = (sdp) => {
  const found = candidatesOf(sdp);
  return found.length > 0 && found.every(([, , address]) => /^127\.|^::1$/.test(address));
};

const placesOf = (sdp) => {
  const places = candidatesOf(sdp).map(([, how, address, port]) => `${address}:${port}/${how}`);
  return places.join(", ").toLowerCase() || "the media port";
};

const codecsOf = (sdp) => {
  const named = [...sdp.matchAll(/^a=rtpmap:\d+ ([^/\s]+)/gm)].map(([, name]) => name);
  return [...new Set(named)].join(", ");
};

// A browser lets sound out some 60 ms after it came (its jitter buffer and the device have it so
// long) and pictures at once, and takes up to 20 s to even out what is over 30 ms between the two.
// So pictures wait for sound from the second one on; the first is shown when it is there.
function keepPictures(pc) {
  const received = pc.getTransceivers().filter((each) => each.currentDirection === "recvonly");
  const [sound, pictures] = ["audio", "video"].map((kind) =>
    received.find(({ receiver }) => receiver.track.kind === kind)?.receiver);
  if (sound && pictures) pictures.jitterBufferTarget = KEPT_MS;
}

// The ICE servers of a Link header (RFC 9725, 4.6).
function iceServersOf(link) {
  const servers = [];
  const links = /<([^>]*)>((?:\s*;\s*[\w-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))*)/g;
  const parameters = /([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))/g;
  for (const [, urls, rest] of (link ?? "").matchAll(links)) {
    const given = {};
    for (const [, name, quoted, bare] of rest.matchAll(parameters)) {
      given[name.toLowerCase()] = quoted?.replace(/\\(.)/g, "$1") ?? bare;
    }
    if (!/^(stun|turn)s?:/.test(urls) || !given.rel?.split(" ").includes("ice-server")) continue;
    const { username, credential } = given;
    servers.push(username === undefined ? { urls } : { urls, username, credential });
  }
  return servers;
}

// Our credentials, and candidates ("": there will be no more), as a fragment.
function fragmentOf(sdp, candidates) {
  const line = (pattern) => pattern.exec(sdp)?.[0] ?? "";
  const lines = [line(/^a=ice-ufrag:.*$/m), line(/^a=ice-pwd:.*$/m)];
  lines.push(line(/^m=.*$/m), line(/^a=mid:.*$/m));
  lines.push(...candidates.map((one) => (one ? `a=${one}` : "a=end-of-candidates")));
  return lines.map((text) => `${text.trim()}\r\n`).join("");
}

// Their description with the credentials and candidates of a fragment.
function restarted(sdp, fragment) {
  const of = (name) => new RegExp(`^a=${name}:.*$`, "m").exec(fragment)?.[0].trim();
  const [ufrag, password] = [of("ice-ufrag"), of("ice-pwd")];
  if (!ufrag || !password) throw new Error("an answer to a restart without credentials");
  const candidates = fragment.match(/^a=candidate:.*$/gm) ?? [];
  return sdp
    .replace(/^a=(candidate:.*|end-of-candidates)\r?\n/gm, "")
    .replace(/^a=ice-ufrag:.*$/gm, ufrag)
    .replace(/^a=ice-pwd:.*$/gm, password)
    .replace(/^a=setup:actpass/gm, "a=setup:passive") // what was an offer is an answer now
    .replace(/^a=mid:.*\n/m, (mid) => mid + candidates.map((one) => `${one.trim()}\r\n`).join(""));
}

function wordsOf(problem) {
  if (problem instanceof Refusal) return problem.message;
  const silent = problem instanceof TypeError || problem.name === "TimeoutError";
  return silent ? "the gateway does not answer" : problem.message;
}

// -------------------------------------------------------------------- figures

function read(report) {
  const seen = {
    now: performance.now(), packets: 0, videoPackets: 0, octets: 0, lost: 0, frames: 0, freezes: 0,
    samples: 0, delayS: 0, emitted: 0, codecs: [], responses: 0,
  };
  for (const one of report.values()) {
    if (one.type === "inbound-rtp") readInbound(seen, one, report);
    if (one.type !== "candidate-pair") continue;
    seen.responses += one.responsesReceived ?? NaN;
    if (!one.nominated || one.state !== "succeeded") continue;
    const local = report.get(one.localCandidateId);
    seen.roundTripMs = 1000 * (one.currentRoundTripTime ?? NaN);
    seen.protocol = local?.candidateType === "relay" ? "relay" : local?.protocol;
  }
  return seen;
}

function readInbound(seen, one, report) {
  const video = one.kind === "video";
  seen.packets += one.packetsReceived ?? 0;
  seen.octets += one.bytesReceived ?? 0;
  seen.lost += one.packetsLost ?? 0;
  const codec = report.get(one.codecId)?.mimeType;
  if (codec) seen.codecs.push(codec.split("/")[1]);
  if (video) {
    const { packetsReceived = 0, framesDecoded = 0, freezeCount = 0 } = one;
    [seen.videoPackets, seen.frames, seen.freezes] = [packetsReceived, framesDecoded, freezeCount];
    [seen.width, seen.height] = [one.frameWidth, one.frameHeight];
  } else {
    seen.samples = one.totalSamplesReceived ?? 0;
  }
  if (video || !seen.emitted) {
    [seen.delayS, seen.emitted] = [one.jitterBufferDelay ?? 0, one.jitterBufferEmittedCount ?? 0];
  }
}

// What was, from one look to a later one.
function figures(then, seen) {
  const { width, height, roundTripMs, protocol, codecs, frames, freezes, samples } = seen;
  const known = { width, height, roundTripMs, protocol, codecs, frames, freezes, samples };
  const more = (name) => seen[name] - then[name];
  const seconds = then ? more("now") / 1000 : 0;
  if (seconds < 0.4) return known;
  const lost = Math.max(0, more("lost"));
  return {
    ...known,
    fps: more("frames") / seconds,
    bitsPerSecond: (8 * more("octets")) / seconds,
    jitterBufferMs: (1000 * more("delayS")) / Math.max(1, more("emitted")),
    lossShare: lost / Math.max(1, lost + more("packets")),
  };
}
