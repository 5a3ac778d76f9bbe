"""What the streaming plugin does with a message of a client. Pure.

Requests that only ask are answered at once; those that change something are acknowledged, and
their result comes as an event. A stream is offered with all its tracks, whatever `media`,
`offer_audio` and `offer_video` say: who wants less refuses it in the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from callboard.gateway.janus.acts import Accept, Act, HangUp, Pause, Resume, SwitchTo, Watch
from callboard.gateway.janus.errors import Code, Refused, StreamingCode, StreamingRefused
from callboard.gateway.janus.messages import is_positive, text
from callboard.gateway.janus.mountpoints import Mountpoint
from callboard.gateway.janus.registry import Handle, HandleState
from callboard.gateway.session.asker import Asker

MANAGING = frozenset({"create", "destroy", "edit", "enable", "disable", "kick_all", "recording"})
"""Requests that change mountpoints: sources do that here."""

Data = dict[str, object]


@dataclass(frozen=True, slots=True)
class Asked:
    """One message to the plugin."""

    handle: Handle
    body: Mapping[str, object]
    jsep: Mapping[str, object] | None
    transaction: str
    asker: Asker
    now: float


@dataclass(frozen=True, slots=True)
class Done:
    """What became of it."""

    data: Data
    at_once: bool = False
    """It is the answer; else the request is acknowledged and this comes as an event, if it is not
    empty."""
    acts: tuple[Act, ...] = ()
    over: str = ""
    """Why the PeerConnection is over; "" if it is not."""


class StreamingPlugin:
    """See the module."""

    def __init__(self, mountpoints: Callable[[float], Sequence[Mountpoint]]) -> None:
        """`mountpoints` gives all that there are, of a time."""
        self._mountpoints = mountpoints
        self._requests = {
            "watch": self._watch,
            "start": self._start,
            "pause": self._pause,
            "switch": self._switch,
            "stop": self._stop,
            "configure": self._configure,
        }

    def take(self, asked: Asked) -> Done:
        """Do what a message asks for. Raises Refused for what the API's core minds."""
        check_jsep(asked.jsep)
        request = asked.body.get("request")
        try:
            if not isinstance(request, str):
                raise _missing_or_wrong(asked.body, "request", "a string")
            if request == "list":
                listed = [each.listed() for each in self._mountpoints(asked.now)]
                return Done({"streaming": "list", "list": listed}, at_once=True)
            if request == "info":
                return Done({"streaming": "info", "info": self._named(asked).full()}, at_once=True)
            if request in MANAGING:
                reason = f"{request}: mountpoints are made by their sources here, not by this API"
                raise StreamingRefused(StreamingCode.UNAUTHORIZED, reason)
            doing = self._requests.get(request)
            if doing is None:
                wrong = f"Unknown request '{request[:80]}'"
                raise StreamingRefused(StreamingCode.INVALID_REQUEST, wrong)
        except StreamingRefused as problem:
            return Done(refusal(problem), at_once=True)
        try:
            return doing(asked)
        except StreamingRefused as problem:
            return Done(refusal(problem))

    # ------------------------------------------------------------------ requests

    def _watch(self, asked: Asked) -> Done:
        handle = asked.handle
        if handle.state is not HandleState.IDLE:
            again = asked.body.get("restart") is True
            reason = (
                "an ICE restart is not done by this API: hang up, and watch again"
                if again
                else f"Already watching {handle.stream}: stop it first"
            )
            raise StreamingRefused(StreamingCode.INVALID_STATE, reason)
        found = self._named(asked)
        handle.reset()
        handle.state, handle.stream = HandleState.PREPARING, found.name
        handle.transaction = asked.transaction
        return Done({}, acts=(Watch(handle.call, found.name, asked.asker),))

    def _start(self, asked: Asked) -> Done:
        handle = asked.handle
        if asked.jsep is not None:
            if handle.state is not HandleState.OFFERED:
                raise Refused(Code.UNEXPECTED_ANSWER, "no answer is waited for")
            handle.state, handle.transaction = HandleState.STARTING, asked.transaction
            sdp = asked.jsep["sdp"]
            assert isinstance(sdp, str)
            return Done(result("starting"), acts=(Accept(handle.call, sdp),))
        if handle.state is HandleState.OFFERED:
            wanted = "start comes with the answer to the offer (jsep)"
            raise StreamingRefused(StreamingCode.MISSING_ELEMENT, wanted)
        _check_watching(handle, "start")
        return Done(result("started"), acts=(Resume(handle.call),))

    def _pause(self, asked: Asked) -> Done:
        handle = asked.handle
        _check_watching(handle, "pause")
        return Done(result("pausing"), acts=(Pause(handle.call),))

    def _switch(self, asked: Asked) -> Done:
        handle = asked.handle
        _check_watching(handle, "switch")
        if handle.switching:
            reason = f"it is switching to {handle.switching} already"
            raise StreamingRefused(StreamingCode.CANNOT_SWITCH, reason)
        found = self._named(asked)
        handle.switching, handle.transaction = found.name, asked.transaction
        return Done({}, acts=(SwitchTo(handle.call, found.name),))

    def _stop(self, asked: Asked) -> Done:
        """Also where nothing is watched: demo pages stop twice."""
        handle = asked.handle
        if handle.state is HandleState.IDLE:
            return Done(result("stopping"))
        reason = "stopped by the viewer"
        return Done(result("stopping"), acts=(HangUp(handle.call, reason),), over=reason)

    def _configure(self, asked: Asked) -> Done:
        """Layers of simulcast are chosen here, by what the link bears."""
        _check_watching(asked.handle, "configure")
        return Done({"streaming": "event", "result": {"event": "configured"}})

    # ------------------------------------------------------------------ private

    def _named(self, asked: Asked) -> Mountpoint:
        """The mountpoint that `id` says: a number, or the name of its stream."""
        wanted = asked.body.get("id")
        if not is_positive(wanted) and not (isinstance(wanted, str) and wanted):
            raise _missing_or_wrong(asked.body, "id", "a positive integer, or a name")
        known = self._mountpoints(asked.now)
        for each in known:
            if wanted in (each.number, each.name):
                return each
        wrong = f"No such mountpoint/stream {str(wanted)[:80]}"
        raise StreamingRefused(StreamingCode.NO_SUCH_MOUNTPOINT, wrong)


def check_jsep(jsep: Mapping[str, object] | None) -> None:
    """Clients only ever answer. Raises Refused."""
    if jsep is None:
        return
    kind = text(jsep, "type")
    if kind != "answer":
        known = kind in ("offer", "pranswer", "rollback")
        reason = "offers are made here, and answered by viewers" if known else f"'{kind[:80]}'"
        raise Refused(Code.JSEP_UNKNOWN_TYPE, f"JSEP error: not an answer ({reason})")
    text(jsep, "sdp")


def result(status: str) -> Data:
    """An event that tells how a request goes."""
    return {"streaming": "event", "result": {"status": status}}


def refusal(problem: StreamingRefused) -> Data:
    """An event, or answer, that tells why it does not."""
    return {"streaming": "event", "error_code": int(problem.code), "error": problem.reason}


def _check_watching(handle: Handle, request: str) -> None:
    if handle.state not in (HandleState.STARTING, HandleState.UP):
        reason = f"Can't {request}: nothing is watched"
        raise StreamingRefused(StreamingCode.NO_SUCH_MOUNTPOINT, reason)


def _missing_or_wrong(body: Mapping[str, object], name: str, wanted: str) -> StreamingRefused:
    if body.get(name) is None:
        reason = f"Missing mandatory element ({name})"
        return StreamingRefused(StreamingCode.MISSING_ELEMENT, reason)
    reason = f"Invalid element type ({name} should be {wanted})"
    return StreamingRefused(StreamingCode.INVALID_ELEMENT, reason)
