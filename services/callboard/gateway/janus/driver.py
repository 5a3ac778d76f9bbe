"""The protocol at work: its acts are done with the gateway's sessions, its events handed out."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from typing import Protocol as Interface

from callboard.chassis.lifecycle import Lifecycle
from callboard.gateway.janus.acts import (
    Accept,
    Act,
    Call,
    HangUp,
    Pause,
    Resume,
    SwitchTo,
    Watch,
)
from callboard.gateway.janus.errors import Refused, StreamingCode
from callboard.gateway.janus.messages import Message, error, parse
from callboard.gateway.janus.mountpoints import Mountpoints
from callboard.gateway.janus.protocol import Authorise, Protocol, Track
from callboard.gateway.janus.registry import ClientSession, RegistryLimits
from callboard.gateway.janus.steering import Steering
from callboard.gateway.live import Change, LiveStream, NotPlayable, StreamTaken
from callboard.gateway.sdp.answers import NoCommonCodec
from callboard.gateway.sdp.codecs import VIDEO
from callboard.gateway.sdp.offers import BadDescription
from callboard.gateway.session.asker import Asker
from callboard.gateway.session.renditions import Slow
from callboard.gateway.session.sessions import NoSession, NotYet, Sessions, TooMany
from callboard.gateway.session.viewer import Viewer

log = logging.getLogger(__name__)

TICK_S = 1.0


class Listener(Interface):
    """Where a session's events go at once."""

    def send(self, message: Message) -> None:
        """Take one; never waits."""


class Poller(Interface):
    """A poll that waits for events of a session."""

    def answer(self) -> None:
        """There are some, or the session is over."""


class Driver:
    """See the module. What it is told comes from its transports, on the loop."""

    def __init__(
        self,
        sessions: Sessions,
        *,
        authorise: Authorise | None = None,
        limits: RegistryLimits | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._sessions = sessions
        self._mountpoints = Mountpoints(sessions.streams)
        self.protocol = Protocol(
            self._mountpoints.all,
            rng or random.SystemRandom(),
            authorise=authorise,
            limits=limits,
        )
        self._loop = asyncio.get_running_loop()
        self._viewers: dict[Call, Viewer] = {}
        self._tasks: dict[Call, asyncio.Task[None]] = {}
        """What is being opened, to be watched or switched to."""
        self._steering = Steering()
        self._listeners: dict[int, Listener] = {}
        self._pollers: dict[int, Poller] = {}
        self._last_link = 0
        self._settling = False

    def start(self, life: Lifecycle) -> None:
        """Begin to look at the clock, and at streams, until the program ends."""
        self._sessions.streams.listen(self._changed)
        life.own(self._tick_on(), "janus' clock")
        life.on_stop("janus", self.stop)

    async def stop(self) -> None:
        """End what was begun for clients."""
        self._sessions.streams.unlisten(self._changed)
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._steering.stop()
        for viewer in tuple(self._viewers.values()):
            viewer.end("the gateway stops")

    # ------------------------------------------------------------------ what transports do

    def receive(self, message: object, asker: Asker, link: int = 0) -> Message:
        """The answer to a request; what follows from it happens after this turn of the loop."""
        answer = self.protocol.receive(message, asker, link, self._loop.time())
        self._loop.call_soon(self._settle)
        return answer

    def receive_text(self, data: bytes | str, asker: Asker, link: int = 0) -> Message:
        """The same, of JSON."""
        try:
            return self.receive(parse(data), asker, link)
        except Refused as problem:
            return error(None, problem)

    def poll(self, session_id: int, token: str) -> ClientSession:
        """See Protocol."""
        return self.protocol.poll(session_id, token, self._loop.time())

    def wait(self, session: ClientSession, poller: Poller) -> None:
        """Answer a poll when there are events; one that waits already is answered now."""
        before = self._pollers.pop(session.id, None)
        self._pollers[session.id] = poller
        if before is not None:
            before.answer()

    def give_up(self, session: ClientSession, poller: Poller) -> None:
        """It waits no longer."""
        if self._pollers.get(session.id) is poller:
            del self._pollers[session.id]

    def listen(self, listener: Listener) -> int:
        """A WebSocket has come: its number, never 0."""
        self._last_link += 1
        self._listeners[self._last_link] = listener
        return self._last_link

    def unlisten(self, link: int) -> None:
        """It has gone."""
        del self._listeners[link]
        self.protocol.lost(link, self._loop.time())

    # ------------------------------------------------------------------ acts and events

    def _settle(self) -> None:
        if self._settling:  # (an act's end may be told within it)
            return
        self._settling = True
        protocol = self.protocol
        try:
            while protocol.acts or protocol.woken:
                acts, protocol.acts = protocol.acts, []
                for act in acts:
                    try:
                        self._do(act)
                    except Exception:  # (the others are not to blame)
                        log.exception("an act of Janus' API failed: %s", act)
                woken, protocol.woken = protocol.woken, {}
                for session in woken.values():
                    self._hand_out(session)
        finally:
            self._settling = False

    def _hand_out(self, session: ClientSession) -> None:
        listener = self._listeners.get(session.link)
        if listener is not None:
            for event in session.take(len(session.events)):
                listener.send(event)
        elif session.events or session not in self.protocol.registry:
            poller = self._pollers.pop(session.id, None)
            if poller is not None:
                poller.answer()

    def _do(self, act: Act) -> None:
        now = self._loop.time()
        viewer = self._viewers.get(act.call)
        match act:
            case Watch():
                self._begin(act.call, self._watch(act), f"watch {act.stream}")
            case SwitchTo():
                self._begin(act.call, self._switch(act), f"switch to {act.stream}")
            case Accept() if viewer is not None:
                self._accept(act, viewer)
            case Pause() if viewer is not None:
                viewer.pause()
                self._steering.tell(act.call, viewer.live.film, playing=False)
            case Resume() if viewer is not None:
                viewer.resume(now)
                self._steering.tell(act.call, viewer.live.film, playing=True)
            case HangUp():
                if (opening := self._tasks.get(act.call)) is not None:
                    opening.cancel()
                if viewer is not None:
                    viewer.end(act.reason)

    def _begin(self, call: Call, work: Coroutine[object, object, None], name: str) -> None:
        """Handles bound how many there are: each does one thing at a time."""
        task = self._tasks[call] = self._loop.create_task(work, name=name)
        task.add_done_callback(lambda done: self._begun(call, done))

    def _begun(self, call: Call, task: asyncio.Task[None]) -> None:
        if self._tasks.get(call) is task:
            del self._tasks[call]

    async def _watch(self, act: Watch) -> None:
        try:
            viewer, offer = await self._sessions.invite(act.stream, act.asker)
        except Exception as problem:
            self._refused(act.call, problem)
            return
        if not self.protocol.offered(act.call, offer):
            viewer.end("not wanted any more")
            return
        self._viewers[act.call] = viewer
        viewer.when_connected.append(lambda: self._connected(act.call, viewer))
        viewer.when_ended.append(lambda: self._ended(act.call, viewer))
        viewer.on_slow.append(lambda slow: self._slow(act.call, viewer, slow))
        self._settle()

    def _accept(self, act: Accept, viewer: Viewer) -> None:
        try:
            self._sessions.accept(viewer, act.sdp.encode("utf-8", "replace"))
        except Exception as problem:
            self._refused(act.call, problem)

    async def _switch(self, act: SwitchTo) -> None:
        viewer = self._viewers.get(act.call)
        try:
            if viewer is None:
                raise NoSession("nothing is watched")
            await self._sessions.switch(viewer, act.stream)
        except Exception as problem:
            self._refused(act.call, problem, StreamingCode.CANNOT_SWITCH)
            return
        self.protocol.switched(act.call, self._mountpoints.number(act.stream))
        self._settle()

    def _refused(
        self, call: Call, problem: Exception, otherwise: StreamingCode | None = None
    ) -> None:
        code, reason = _told(problem)
        self.protocol.refused(call, otherwise or code, reason)
        self._settle()

    # ------------------------------------------------------------------ what viewers tell

    def _connected(self, call: Call, viewer: Viewer) -> None:
        self.protocol.up(call, _tracks(viewer))
        self._settle()

    def _ended(self, call: Call, viewer: Viewer) -> None:
        self._viewers.pop(call, None)
        streams, name = self._sessions.streams, viewer.stream
        there = streams.find(name) is viewer.live or viewer.live in streams.personal(name)
        self.protocol.ended(call, viewer.reason, stopped=not there)
        self._settle()

    def _slow(self, call: Call, viewer: Viewer, slow: Slow | None) -> None:
        video = next((track for track in _tracks(viewer) if track.kind == VIDEO), None)
        if slow is None or video is None:
            return
        told = viewer.statistics(self._loop.time()).get("tracks")
        tracks = told if isinstance(told, list) else []
        lost = sum(int(each["lost"]) for each in tracks if each["kind"] == VIDEO)
        self.protocol.slow(call, video, lost)
        self._settle()

    def _changed(self, live: LiveStream, change: Change) -> None:
        if change is Change.OPENED:
            self._mountpoints.number(live.name)
        if change not in (Change.UP, Change.DOWN):
            return
        for call, viewer in tuple(self._viewers.items()):
            if viewer.live is live:
                self.protocol.receiving(call, _tracks(viewer), coming=change is Change.UP)
        self._loop.call_soon(self._settle)

    async def _tick_on(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.protocol.tick(self._loop.time())
            self._settle()


def _tracks(viewer: Viewer) -> list[Track]:
    return [Track(each.mid, each.codec.kind) for each in viewer.agreed_media]


def _told(problem: Exception) -> tuple[StreamingCode, str]:
    match problem:
        case NoSession():
            return StreamingCode.NO_SUCH_MOUNTPOINT, str(problem)
        case NotYet() | NotPlayable():
            return StreamingCode.INVALID_STATE, str(problem)
        case BadDescription() | NoCommonCodec():
            return StreamingCode.INVALID_ELEMENT, f"the answer: {problem}"
        case TooMany() | StreamTaken() | ConnectionError() | TimeoutError():
            return StreamingCode.UNKNOWN_ERROR, str(problem) or "no answer in time"
    log.error("a request of Janus' API failed", exc_info=problem)
    return StreamingCode.UNKNOWN_ERROR, "internal error"
