"""All viewers and publishers: how they come to be, how many there may be, and their clock."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from callboard.gateway.live import (
    LiveStream,
    NotPlayable,
    StreamDescription,
    Streams,
    StreamTaken,
    TrackDescription,
    check_name,
)
from callboard.gateway.ports import Fanout, Peer, Transports
from callboard.gateway.sdp.answers import NoCommonCodec, Outgoing, answer, receive
from callboard.gateway.sdp.codecs import AUDIO, VIDEO
from callboard.gateway.sdp.offers import Description, parse
from callboard.gateway.sdp.server_offers import Offer, accept, offer
from callboard.gateway.sdp.writing import Facts
from callboard.gateway.session.asker import Asker
from callboard.gateway.session.publisher import Publisher
from callboard.gateway.session.session import Session
from callboard.gateway.session.viewer import Viewer

log = logging.getLogger(__name__)

TICK_S = 0.1
RETRY_AFTER_S = 2
"""When it is worth asking again for a stream that does not come yet."""
OPEN_WITHIN_S = 10.0
"""For a stream that is made for one viewer."""
SILENT_S = 5.0
"""A publisher that has sent nothing for so long makes way for another one."""
PUBLISHED_CODECS = ("h264", "vp8", "vp9", "av1", "h265", "opus")


class NoSession(LookupError):
    """There is no such stream, or no such session."""


class TooMany(RuntimeError):
    """A limit is reached: later, perhaps."""


class NotYet(RuntimeError):
    """Nothing comes of the stream yet, or any more."""

    retry_after_s = RETRY_AFTER_S


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How many there may be at the same time."""

    viewers: int = 500
    viewers_per_stream: int = 500
    publishers: int = 16


class Sessions:
    """See the module."""

    def __init__(
        self,
        streams: Streams,
        transports: Transports,
        fanout: Fanout,
        limits: SessionLimits | None = None,
        *,
        rng: random.Random | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`rng` makes identifiers that nobody may guess; `wall` is seconds since 1970."""
        self.streams = streams
        self._transports = transports
        self._fanout = fanout
        self._limits = limits or SessionLimits()
        self._rng = rng or random.SystemRandom()
        self._wall = wall
        self._viewers: dict[str, Viewer] = {}
        self._publishers: dict[str, Publisher] = {}
        self._offers: dict[str, Offer] = {}
        self._opening: Counter[str] = Counter()
        """Viewers that are not yet, since their stream is being opened, by its name."""
        self._moving: Counter[str] = Counter()
        """Those that wait for another stream, likewise."""
        self._ticking: asyncio.Task[None] | None = None
        self.refused = 0
        """Because of a limit."""

    async def start(self) -> None:
        """Begin to look at the clock."""
        self._ticking = asyncio.create_task(self._tick_on(), name="sessions' clock")

    async def stop(self) -> None:
        """End all sessions."""
        if self._ticking is not None:
            self._ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticking
        for session in (*self._viewers.values(), *self._publishers.values()):
            session.end("the gateway stops")

    # ------------------------------------------------------------------ viewers

    async def watch(self, name: str, body: bytes, asker: Asker) -> Viewer:
        """A viewer who makes the offer. Raises NoSession, NotPlayable, NotYet, TooMany,
        BadDescription, NoCommonCodec, and what opening a stream raises."""
        with self._place(name):
            offered = parse(body)
            peer = self._transports.peer()
            try:
                facts = self._facts(peer, asker, name)
                agreed = answer(offered, self._outgoing(name), facts)
                viewer = await self._viewer(name, peer, facts, asker)
            except BaseException:
                peer.close()
                raise
        viewer.agree(agreed, offered.ufrag, _fingerprints(offered))
        return viewer

    async def invite(
        self, name: str, asker: Asker, mids: Mapping[str, str] | None = None
    ) -> tuple[Viewer, str]:
        """A viewer to whom we make the offer, which is also returned. Raises as `watch` does."""
        with self._place(name):
            peer = self._transports.peer()
            try:
                facts = self._facts(peer, asker, name)
                made = offer(self._outgoing(name), facts, mids)
                viewer = await self._viewer(name, peer, facts, asker)
            except BaseException:
                peer.close()
                raise
        self._offers[viewer.id] = made
        return viewer, made.text

    async def switch(self, viewer: Viewer, name: str) -> None:
        """Have a viewer watch another stream by the same session. Raises NoSession, NotPlayable,
        NotYet, TooMany, and what opening a stream raises: then it goes on with the one it has."""
        with self._place(name, moving=True):
            live = await self._open(name)
            try:
                viewer.switch_to(live, asyncio.get_running_loop().time())
            except NotPlayable:
                if live.personal and not live.viewers:  # its source waits to be told
                    live.join(viewer)
                    live.leave(viewer)
                raise

    def accept(self, viewer: Viewer, body: bytes) -> None:
        """The answer of one who was invited. Raises NoSession if none is waited for,
        BadDescription, NoCommonCodec; the offer holds until its time is over."""
        made = self._offers.get(viewer.id)
        if made is None:
            raise NoSession("no answer is waited for")
        answered = parse(body)
        agreed = accept(made, answered)
        del self._offers[viewer.id]
        viewer.agree(agreed, answered.ufrag, _fingerprints(answered))

    def awaits_answer(self, viewer: Viewer) -> bool:
        """Whether it was invited, and has not answered."""
        return viewer.id in self._offers

    def viewer(self, id: str) -> Viewer:
        """Raises NoSession."""
        viewer = self._viewers.get(id)
        if viewer is None:
            raise NoSession("there is no such session")
        return viewer

    def viewers(self, name: str) -> list[Viewer]:
        """Of a stream, also of one that is made for each."""
        return [viewer for viewer in self._viewers.values() if viewer.stream == name]

    # ------------------------------------------------------------------ publishers

    async def publish(self, name: str, body: bytes, asker: Asker) -> Publisher:
        """A publisher who makes the offer. Raises BadDescription, NoCommonCodec, StreamTaken,
        TooMany, ValueError for a name that is none."""
        check_name(name)
        if len(self._publishers) >= self._limits.publishers:
            self.refused += 1
            raise TooMany(f"there are {self._limits.publishers} publishers")
        silent = self._check_free(name)
        offered = parse(body)
        peer = self._transports.peer()
        id = self._identifier()
        try:
            facts = self._facts(peer, asker, name)
            agreed = receive(offered, PUBLISHED_CODECS, facts)
            tracks = tuple(
                TrackDescription(each.track, each.codec, each.payload_type) for each in agreed.media
            )
            described = StreamDescription(name, name, tracks, attributes={"source": "whip"})
            if silent is not None:
                silent.end(f"another publisher has come, and nothing for {SILENT_S:g} s from here")
            live = self.streams.open(described, source=f"publisher {id[:6]}")
        except BaseException:
            peer.close()
            raise
        publisher = Publisher(
            id,
            live,
            self.streams,
            peer,
            facts,
            client=asker.client,
            clock=asyncio.get_running_loop().time,
            rng=self._rng,
            on_ended=self._forget,
        )
        publisher.candidates = self._candidates(asker)
        self._publishers[id] = publisher
        publisher.agree(agreed, offered.ufrag, _fingerprints(offered))
        return publisher

    def publisher(self, id: str) -> Publisher:
        """Raises NoSession."""
        publisher = self._publishers.get(id)
        if publisher is None:
            raise NoSession("there is no such session")
        return publisher

    # ------------------------------------------------------------------ counts

    def __len__(self) -> int:
        return len(self._viewers) + len(self._publishers)

    def each(self) -> Iterable[Session]:
        """All of them."""
        return (*self._viewers.values(), *self._publishers.values())

    # ------------------------------------------------------------------ private

    @contextlib.contextmanager
    def _place(self, name: str, *, moving: bool = False) -> Iterator[None]:
        """A place for a viewer of a stream that is being opened; `moving`: it is one of ours
        already."""
        self._check_watchable(name, moving=moving)
        counted = self._moving if moving else self._opening
        counted[name] += 1
        try:
            yield
        finally:
            counted[name] -= 1
            if not counted[name]:
                del counted[name]

    def _check_watchable(self, name: str, *, moving: bool) -> None:
        described = self.streams.describe(name)
        if described is None:
            raise NoSession(f"there is no stream {name[:80]}")
        if described.problem:
            raise NotPlayable(f"stream {name} cannot be played: {described.problem}")
        live = self.streams.find(name)
        if live is not None and not live.online and (not live.source or not described.on_demand):
            raise NotYet(f"stream {name} is not there: {live.reason}")
        limits = self._limits
        all_ = len(self._viewers) + self._opening.total()
        of_stream = len(live.viewers) if live is not None else len(self.viewers(name))
        of_stream += self._opening[name] + self._moving[name]
        full = all_ >= limits.viewers and not moving
        if full or of_stream >= limits.viewers_per_stream:
            self.refused += 1
            raise TooMany("there are as many viewers as may be")

    def _check_free(self, name: str) -> Publisher | None:
        """Raises StreamTaken. One that has lost its network says no good-bye: who comes instead
        need not wait until it is known to have gone. That one is returned."""
        live = self.streams.find(name)
        if live is None or not live.source:
            return None
        now = asyncio.get_running_loop().time()
        for publisher in self._publishers.values():
            if publisher.live is live and publisher.silent_s(now) > SILENT_S:
                return publisher
        raise StreamTaken(f"stream {name} is sent by {live.source}")

    def _outgoing(self, name: str) -> list[Outgoing]:
        """The first rendition of each kind."""
        described = self.streams.describe(name)
        if described is None:
            raise NoSession(f"there is no stream {name[:80]}")
        best = [described.renditions(kind)[:1] for kind in (VIDEO, AUDIO)]
        ssrcs = self._rng.sample(range(1, 1 << 32), len(best))
        return [
            Outgoing(track.id, track.codec, ssrc)
            for ssrc, tracks in zip(ssrcs, best, strict=True)
            for track in tracks
        ]

    def _facts(self, peer: Peer, asker: Asker, name: str) -> Facts:
        return Facts(
            peer.ufrag,
            peer.password,
            peer.fingerprint,
            self._candidates(asker)(),
            self._rng.getrandbits(62),
            name,
            f"callboard-{self._rng.getrandbits(32):08x}",
        )

    def _candidates(self, asker: Asker) -> Callable[[], tuple[str, ...]]:
        return lambda: self._transports.candidates(loopback=asker.loopback)

    async def _viewer(self, name: str, peer: Peer, facts: Facts, asker: Asker) -> Viewer:
        live = await self._open(name)
        viewer = Viewer(
            self._identifier(),
            live,
            peer,
            facts,
            self._fanout,
            client=asker.client,
            now=asyncio.get_running_loop().time(),
            wall=self._wall,
            rng=self._rng,
            on_ended=self._forget,
        )
        viewer.candidates = self._candidates(asker)
        self._viewers[viewer.id] = viewer
        return viewer

    async def _open(self, name: str) -> LiveStream:
        try:
            async with asyncio.timeout(OPEN_WITHIN_S):
                return await self.streams.watch(name)
        except TimeoutError:
            raise TimeoutError(f"stream {name} did not open in {OPEN_WITHIN_S:g} s") from None

    def _identifier(self) -> str:
        return f"{self._rng.getrandbits(128):032x}"

    def _forget(self, session: Session) -> None:
        self._viewers.pop(session.id, None)
        self._publishers.pop(session.id, None)
        self._offers.pop(session.id, None)

    async def _tick_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            self.tick(loop.time())

    def tick(self, now: float) -> None:
        """What is due: of the streams, and of each session. One that fails is ended."""
        try:
            self.streams.tick(now)
        except Exception:  # (a clock that stands still would keep every session for ever)
            log.exception("a look at the streams failed")
        for session in self.each():
            try:
                session.tick(now)
            except Exception:
                log.exception("a session failed", extra={"session": session.id[:6]})
                session.end("internal error")


def _fingerprints(description: Description) -> list[str]:
    found = (each for section in description.sections for each in section.fingerprints)
    return list(dict.fromkeys(found))


__all__ = [
    "Asker", "NoCommonCodec", "NoSession", "NotYet", "SessionLimits", "Sessions", "TooMany",
]  # fmt: skip
