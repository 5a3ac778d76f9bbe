"""Pictures of streams: one decode at a time, each kept for some seconds.

    pictures = Pictures()
    jpeg = await pictures.of(live)

A picture shows the newest keyframe. That is up to 3 s old (`stream.gop.SPAN_MAX_S`), and 2 s more
where the source has just fallen silent; with the time that it is kept, which begins before it is
decoded, no picture is older than ten seconds. Who asks meanwhile gets the same one, or waits for
the same one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from callboard.gateway.live import VIDEO, LiveStream, LiveTrack, NotPlayable
from callboard.gateway.session.sessions import NoSession, NotYet
from callboard.gateway.snapshots.decoding import jpeg_of
from callboard.gateway.snapshots.frames import assembled, keyframe_of
from callboard.gateway.stream.packet import Packet

KEPT_S = 4.0
"""Of one picture, from when its keyframe was taken."""
KEYFRAME_WITHIN_S = 3.0
"""The source is asked for one, and has so long."""
LOOK_S = 0.05
ASK_AGAIN_S = 1.0
DECODED_WITHIN_S = 5.0
"""With those that are decoded before."""

Decode = Callable[[str, Sequence[bytes]], bytes]
"""Gives the JPEG of a codec's frame; raises ValueError."""


class Pictures:
    """See the module. One thread decodes, for all streams."""

    def __init__(
        self,
        *,
        decode: Decode = jpeg_of,
        within_s: float = KEYFRAME_WITHIN_S,
        kept_s: float = KEPT_S,
    ) -> None:
        self._decode = decode
        self._within_s = within_s
        self._kept_s = kept_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._kept: dict[LiveStream, tuple[float, bytes]] = {}
        """When its keyframe was taken, and the picture."""
        self._made: dict[LiveStream, asyncio.Task[tuple[float, bytes]]] = {}
        """At most one for each stream, however many wait for it."""

    async def stop(self) -> None:
        """Make no more; what is being decoded is not waited for."""
        for task in tuple(self._made.values()):
            task.cancel()
        await asyncio.gather(*self._made.values(), return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def of(self, live: LiveStream) -> bytes:
        """A picture of a stream, as JPEG. Nothing is started for it: raises NotYet for a stream
        that is offline, or on demand and not watched; NoSession for one without video, NotPlayable
        for what cannot be played or decoded, TimeoutError if no keyframe came, or too many wait."""
        now = asyncio.get_running_loop().time()
        fresh = ((one, kept) for one, kept in self._kept.items() if now - kept[0] < self._kept_s)
        self._kept = dict(fresh)
        if live.description.problem:
            raise _none_of(live, live.description.problem)
        track = next(iter(live.renditions(VIDEO)), None)
        if track is None:
            raise NoSession(f"stream {live.name} has no picture: it has no video")
        if not live.online:
            raise NotYet(_why_not(live))
        kept = self._kept.get(live)
        if kept is not None:
            return kept[1]
        making = self._made.get(live)
        if making is None:
            making = asyncio.create_task(self._make(live, track), name=f"snapshot {live.name}")
            self._made[live] = making
            making.add_done_callback(lambda done: self._done(live, done))
        return (await asyncio.shield(making))[1]

    def _done(self, live: LiveStream, done: asyncio.Task[tuple[float, bytes]]) -> None:
        del self._made[live]
        if not done.cancelled() and done.exception() is None:
            self._kept[live] = done.result()

    async def _make(self, live: LiveStream, track: LiveTrack) -> tuple[float, bytes]:
        codec = track.description.codec.name
        frame = await self._keyframe(live, track)
        loop = asyncio.get_running_loop()
        taken_at = loop.time()
        try:
            parts = assembled(codec, [packet.payload for packet in frame])
            made = loop.run_in_executor(self._thread, self._decode, codec, parts)
            return taken_at, await asyncio.wait_for(made, DECODED_WITHIN_S)
        except ValueError as problem:
            raise _none_of(live, str(problem)) from None
        except TimeoutError:
            raise TimeoutError(f"no picture in {DECODED_WITHIN_S:g} s: too many are made") from None

    async def _keyframe(self, live: LiveStream, track: LiveTrack) -> list[Packet]:
        """The newest one that is whole; the source is asked for one if there is none."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._within_s
        asked_at = float("-inf")
        while True:
            now = loop.time()
            frame = keyframe_of(track.track.burst(now))
            if frame is not None:
                return frame
            if now >= ends_at:
                raise TimeoutError(f"no keyframe of {live.name} came in {self._within_s:g} s")
            if now - asked_at >= ASK_AGAIN_S:
                asked_at = now
                live.want_keyframe(track, now)
            await asyncio.sleep(LOOK_S)


def _none_of(live: LiveStream, reason: str) -> NotPlayable:
    return NotPlayable(f"there is no picture of stream {live.name}: {reason}")


def _why_not(live: LiveStream) -> str:
    if live.description.on_demand and live.source:
        return f"nobody watches stream {live.name}, and it is not started for a picture"
    return f"there is no picture of stream {live.name}: {live.reason}"
