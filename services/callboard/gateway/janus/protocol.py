"""Janus' API without sockets, clocks or media: requests in, answers and events and acts out. Pure.

    answer = protocol.receive(message, asker, link, now)
    protocol.acts                        # what is to be done with media, in order
    protocol.woken                       # sessions for which events wait

The driver does the acts and tells how they went (`offered`, `up`, `refused`, `ended`, …); it hands
waiting events out and lets time pass with `tick`. Nothing here raises, whatever comes in.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from callboard.catalog.version import VERSION
from callboard.gateway.janus.acts import Act, Call, HangUp
from callboard.gateway.janus.errors import Code, Refused, StreamingCode, StreamingRefused
from callboard.gateway.janus.messages import (
    PLUGIN,
    TRANSACTION_CHARACTERS_MAX,
    Message,
    ack,
    error,
    event,
    identifier,
    missing,
    plugin_data,
    success,
    text,
    wrong_type,
)
from callboard.gateway.janus.mountpoints import Mountpoint
from callboard.gateway.janus.plugin import Asked, StreamingPlugin, refusal, result
from callboard.gateway.janus.registry import (
    RECLAIM_S,
    SESSION_TIMEOUT_S,
    ClientSession,
    Handle,
    HandleState,
    Registry,
    RegistryLimits,
)
from callboard.gateway.session.asker import Asker

Authorise = Callable[[str], bool]
"""Whether a client's token is right."""


@dataclass(frozen=True, slots=True)
class Track:
    """What a viewer gets: for events."""

    mid: str
    kind: str


@dataclass(frozen=True, slots=True)
class _Heard:
    """One request, as far as it is read."""

    verb: str
    message: Mapping[str, object]
    transaction: str
    asker: Asker
    link: int
    now: float


class Protocol:
    """See the module."""

    def __init__(
        self,
        mountpoints: Callable[[float], Sequence[Mountpoint]],
        rng: random.Random,
        *,
        authorise: Authorise | None = None,
        limits: RegistryLimits | None = None,
    ) -> None:
        """`authorise`: judges the `token` of requests; None: none is needed."""
        self.registry = Registry(rng, limits)
        self.acts: list[Act] = []
        self.woken: dict[int, ClientSession] = {}
        self._plugin = StreamingPlugin(mountpoints)
        self._authorise = authorise

    # ------------------------------------------------------------------ requests

    def receive(self, message: object, asker: Asker, link: int, now: float) -> Message:
        """The answer to a request. `link` names the WebSocket it came by; 0: HTTP."""
        try:
            if not isinstance(message, dict):
                raise Refused(Code.INVALID_JSON_OBJECT, "JSON error: not an object")
            transaction = text(message, "transaction")
            if len(transaction) > TRANSACTION_CHARACTERS_MAX:
                short = f"a string of at most {TRANSACTION_CHARACTERS_MAX} characters"
                raise wrong_type("transaction", short)
            heard = _Heard(text(message, "janus"), message, transaction, asker, link, now)
            return self._dispatch(heard)
        except Refused as problem:
            return error(message, problem)

    def _dispatch(self, heard: _Heard) -> Message:
        session_id = identifier(heard.message, "session_id")
        handle_id = identifier(heard.message, "handle_id")
        if heard.verb in ("info", "ping") and not session_id:
            return self._info(heard) if heard.verb == "info" else _pong(heard)
        self._check_token(heard.message)
        if not session_id:
            return self._without_session(heard)
        session = self.registry.session(session_id)
        session.heard_at = heard.now
        if not handle_id:
            return self._of_session(heard, session)
        return self._of_handle(heard, session, self.registry.handle(session, handle_id))

    def _check_token(self, message: Mapping[str, object]) -> None:
        token = message.get("token")
        if self._authorise is None:
            return
        if not isinstance(token, str) or not self._authorise(token):
            raise Refused(Code.UNAUTHORIZED, "Unauthorized request (wrong or missing token)")

    def _without_session(self, heard: _Heard) -> Message:
        if heard.verb != "create":
            raise Refused(
                Code.INVALID_REQUEST_PATH, f"Unhandled request '{heard.verb[:80]}' at this path"
            )
        wanted = identifier(heard.message, "id")
        session = self.registry.create(wanted, heard.link, heard.now)
        return success(heard.transaction, data={"id": session.id})

    def _of_session(self, heard: _Heard, session: ClientSession) -> Message:
        match heard.verb:
            case "keepalive":
                return ack(heard.transaction, session.id)
            case "attach":
                plugin = text(heard.message, "plugin")
                if plugin != PLUGIN:
                    raise Refused(Code.PLUGIN_NOT_FOUND, f"No such plugin '{plugin[:80]}'")
                handle = self.registry.attach(session)
                return success(heard.transaction, session.id, data={"id": handle.id})
            case "claim":
                self._claim(session, heard.link)
                return success(heard.transaction, session.id)
            case "destroy":
                self._destroy(session, "the session was destroyed")
                return success(heard.transaction, session.id)
        raise _unhandled(heard.verb)

    def _claim(self, session: ClientSession, link: int) -> None:
        """Its events go that way from now on."""
        session.link, session.lost_at = link, None
        self._wake(session)

    def _of_handle(self, heard: _Heard, session: ClientSession, handle: Handle) -> Message:
        match heard.verb:
            case "keepalive":
                return ack(heard.transaction, session.id)
            case "message":
                return self._message(heard, session, handle)
            case "trickle":
                _check_trickle(heard.message)
                return ack(heard.transaction, session.id)
            case "hangup":
                self._hang_up(session, handle, "Janus API")
                return success(heard.transaction, session.id)
            case "detach":
                self._hang_up(session, handle, "Janus API")
                del session.handles[handle.id]
                self._push(session, event("detached", session.id, handle.id))
                return success(heard.transaction, session.id)
        raise _unhandled(heard.verb)

    def _message(self, heard: _Heard, session: ClientSession, handle: Handle) -> Message:
        body = heard.message.get("body")
        jsep = heard.message.get("jsep")
        if body is None:
            raise missing("body")
        if not isinstance(body, dict):
            raise wrong_type("body", "an object")
        if jsep is not None and not isinstance(jsep, dict):
            raise wrong_type("jsep", "an object")
        done = self._plugin.take(
            Asked(handle, body, jsep, heard.transaction, heard.asker, heard.now)
        )
        if done.at_once:
            data = plugin_data(done.data)
            return success(heard.transaction, session.id, sender=handle.id, plugindata=data)
        if done.data:
            self._tell(session, handle, done.data, heard.transaction)
        if done.over:
            self._hang_up(session, handle, done.over)
        else:
            self.acts += done.acts
        return ack(heard.transaction, session.id)

    def _info(self, heard: _Heard) -> Message:
        return {**self.server_info(), "transaction": heard.transaction}

    def server_info(self) -> Message:
        """What GET /janus/info tells, and the request `info`."""
        major, minor, patch = (int(part) for part in VERSION.split(".")[:3])
        number = 10_000 * major + 100 * minor + patch
        plugin = {
            "name": "streaming",
            "description": "Live video and audio, by the streaming part of Janus' API",
            "version": number,
            "version_string": VERSION,
        }
        return {
            "janus": "server_info",
            "name": "Callboard gateway",
            "version": number,
            "version_string": VERSION,
            "session-timeout": round(SESSION_TIMEOUT_S),
            "reclaim-session-timeout": round(RECLAIM_S),
            "ice-lite": True,
            "full-trickle": False,
            "auth_token": self._authorise is not None,
            "plugins": {PLUGIN: plugin},
        }

    # ------------------------------------------------------------------ polls and links

    def poll(self, session_id: int, token: str, now: float) -> ClientSession:
        """The session whose events are polled for. Raises Refused."""
        self._check_token({"token": token})
        session = self.registry.session(session_id)
        session.heard_at = now
        return session

    def lost(self, link: int, now: float) -> None:
        """A WebSocket is gone: its sessions may be claimed for a while."""
        for session in self.registry:
            if session.link == link:
                session.link, session.lost_at = 0, now

    def tick(self, now: float) -> None:
        """Sessions that nobody was heard of for too long are over."""
        for session in self.registry:
            if session.is_over(now):
                self._destroy(session, "the session has timed out")
                self._push(session, event("timeout", session.id))

    # ------------------------------------------------------------------ what became of acts

    def offered(self, call: Call, sdp: str) -> bool:
        """An offer is made. Whether it is still wanted."""
        found = self.registry.of_call(call)
        if found is None or found[1].state is not HandleState.PREPARING:
            return False
        session, handle = found
        handle.state = HandleState.OFFERED
        told = event(
            "event",
            session.id,
            handle.id,
            transaction=handle.transaction,
            plugindata=plugin_data(result("preparing")),
            jsep={"type": "offer", "sdp": sdp},
        )
        self._push(session, told)
        return True

    def up(self, call: Call, tracks: Sequence[Track]) -> None:
        """Media goes to the viewer."""
        found = self.registry.of_call(call)
        if found is None or found[1].state is not HandleState.STARTING:
            return
        session, handle = found
        handle.state = HandleState.UP
        self._push(session, event("webrtcup", session.id, handle.id))
        self.receiving(call, tracks, coming=True)
        self._tell(session, handle, result("started"), "")

    def receiving(self, call: Call, tracks: Sequence[Track], *, coming: bool) -> None:
        """Media comes of the stream, or has ceased to."""
        found = self.registry.of_call(call)
        if found is None or found[1].state is not HandleState.UP:
            return
        session, handle = found
        for track in tracks:
            said = {"mid": track.mid, "type": track.kind, "receiving": coming}
            self._push(session, event("media", session.id, handle.id, **said))

    def slow(self, call: Call, track: Track, lost: int) -> None:
        """The viewer's link is too slow; `lost`: its packets, so far."""
        found = self.registry.of_call(call)
        if found is not None:
            session, handle = found
            said = {"mid": track.mid, "media": track.kind, "uplink": False, "lost": lost}
            self._push(session, event("slowlink", session.id, handle.id, **said))

    def switched(self, call: Call, number: int) -> None:
        """It is another stream that goes to the viewer."""
        found = self.registry.of_call(call)
        if found is None or not found[1].switching:
            return
        session, handle = found
        handle.stream, handle.switching = handle.switching, ""
        data: Message = {"streaming": "event", "result": {"switched": "ok", "id": number}}
        self._tell(session, handle, data, handle.transaction)

    def refused(self, call: Call, code: StreamingCode, reason: str) -> None:
        """What was wanted last cannot be done. A call that is not answered is over; an answer that
        was no good may be followed by a better one; a switch leaves things as they are."""
        found = self.registry.of_call(call)
        if found is None:
            return
        session, handle = found
        self._tell(session, handle, refusal(StreamingRefused(code, reason)), handle.transaction)
        if handle.switching:
            handle.switching = ""
        elif handle.state is HandleState.PREPARING:
            handle.reset()
        elif handle.state is HandleState.STARTING:
            handle.state = HandleState.OFFERED

    def ended(self, call: Call, reason: str, *, stopped: bool) -> None:
        """It is over; `stopped`: since the stream is."""
        found = self.registry.of_call(call)
        if found is None:
            return
        session, handle = found
        if stopped:
            self._tell(session, handle, result("stopped"), "")
        handle.reset()
        self._push(session, event("hangup", session.id, handle.id, reason=reason))

    # ------------------------------------------------------------------ private

    def _hang_up(self, session: ClientSession, handle: Handle, reason: str) -> None:
        if handle.state is HandleState.IDLE:
            return
        self.acts.append(HangUp(handle.call, reason))
        handle.reset()
        self._push(session, event("hangup", session.id, handle.id, reason=reason))

    def _destroy(self, session: ClientSession, reason: str) -> None:
        for handle in session.handles.values():
            self._hang_up(session, handle, reason)
        self.registry.remove(session)
        session.handles.clear()
        self._wake(session)

    def _tell(
        self, session: ClientSession, handle: Handle, data: Message, transaction: str
    ) -> None:
        named = {"transaction": transaction} if transaction else {}
        said = event("event", session.id, handle.id, **named, plugindata=plugin_data(data))
        self._push(session, said)

    def _push(self, session: ClientSession, said: Message) -> None:
        session.events.append(said)
        self._wake(session)

    def _wake(self, session: ClientSession) -> None:
        self.woken[session.id] = session


def _unhandled(verb: str) -> Refused:
    known = {
        "create", "attach", "detach", "destroy", "keepalive", "claim", "info", "ping",
        "message", "trickle", "hangup",
    }  # fmt: skip
    if verb in known:
        return Refused(Code.INVALID_REQUEST_PATH, f"Unhandled request '{verb}' at this path")
    return Refused(Code.UNKNOWN_REQUEST, f"Unknown request '{verb[:80]}'")


def _pong(heard: _Heard) -> Message:
    return {"janus": "pong", "transaction": heard.transaction}


def _check_trickle(message: Mapping[str, object]) -> None:
    """Candidates are not needed, since we are lite (RFC 8445, 2.5): a client is found by its
    checks. What is no candidate is refused all the same."""
    one, many = message.get("candidate"), message.get("candidates")
    if one is None and many is None:
        raise missing("candidate|candidates")
    if one is not None and many is not None:
        raise Refused(Code.INVALID_JSON, "Can't have both candidate and candidates")
    if many is not None and not isinstance(many, list):
        raise wrong_type("candidates", "an array")
    for each in many if isinstance(many, list) else [one]:
        if not isinstance(each, dict):
            raise wrong_type("candidate", "an object")
        if each.get("completed") is True:
            continue
        if not isinstance(each.get("candidate"), str):
            raise (
                missing("candidate")
                if "candidate" not in each
                else wrong_type("candidate", "a string")
            )
