"""The stream of the built-in pattern: on the list while no sidecar has one of its name."""

from __future__ import annotations

import asyncio
import random

from callboard.gateway.live import (
    LiveStream,
    StreamDescription,
    Streams,
    StreamTaken,
    TrackDescription,
)
from callboard.gateway.sources.configured import CODECS
from callboard.gateway.sources.holding import KEPT_S
from callboard.gateway.sources.pattern import (
    AUDIO_PAYLOAD_TYPE,
    VIDEO_PAYLOAD_TYPE,
    Made,
    PatternSource,
)
from callboard.gateway.sources.picture import HEIGHT, RATE, WIDTH
from callboard.gateway.sources.ports import end_sources

NAME = "test-pattern"
TITLE = "Opus/VP8 live stream of the gateway's built-in test pattern (no GStreamer here)"
SOURCE = "built-in"
LOOK_S = 0.5

DESCRIPTION = StreamDescription(
    NAME,
    TITLE,
    (
        TrackDescription("video", CODECS["vp8"], VIDEO_PAYLOAD_TYPE),
        TrackDescription("audio", CODECS["opus"], AUDIO_PAYLOAD_TYPE),
    ),
    on_demand=True,
    attributes={"kind": "built-in", "picture": f"{WIDTH}x{HEIGHT}@{RATE}"},
)


class BuiltInStream:
    """Opens and closes it, from `start` to `stop`."""

    def __init__(self, streams: Streams, rng: random.Random, *, kept_s: float = KEPT_S) -> None:
        """It is made for `kept_s` after its last viewer."""
        self._streams = streams
        self._loop = asyncio.get_running_loop()
        self._pattern = PatternSource(self._take, rng=rng)
        self._kept_s = kept_s
        self._live: LiveStream | None = None
        self._left_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    @property
    def pattern(self) -> PatternSource:
        """What makes it."""
        return self._pattern

    def make_way(self, name: str) -> None:
        """Somebody else is about to open a stream of this name."""
        live = self._live
        if name == NAME and live is not None:
            self._live = None
            self._streams.close(live, "a sidecar has it", self._loop.time())
            end_sources(live)

    def start(self) -> None:
        """Begin."""
        self._open()
        self._task = asyncio.create_task(self._run(), name="built-in pattern")

    async def stop(self) -> None:
        """Take it off the list."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.make_way(NAME)
        await self._pattern.stop()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look()

    async def _look(self) -> None:
        if self._live is None:
            self._open()
        live, now = self._live, self._loop.time()
        idle = live is None or (not live.viewers and now - self._left_at >= self._kept_s)
        if self._pattern.running and idle:
            if live is not None:
                live.offline("nobody watches", now)
            await self._pattern.stop()

    def _open(self) -> None:
        try:
            live = self._streams.open(DESCRIPTION, SOURCE)
        except StreamTaken:
            return
        self._live = live
        live.on_keyframe_wanted = self._request_keyframe
        live.on_wanted = self._wanted
        if live.viewers:
            self._wanted(True)

    def _request_keyframe(self, track: str) -> bool:
        self._pattern.request_keyframe()
        return self._pattern.running

    def _wanted(self, wanted: bool) -> None:
        if wanted:
            self._pattern.start()
        else:
            self._left_at = self._loop.time()

    def _take(self, made: Made, now: float) -> None:
        live = self._live
        if live is None:
            return
        for track, packets in (("audio", made.audio), ("video", made.video)):
            for packet in packets:
                live.take(track, packet, now, more=True)
        live.flush()
        for track, report in (("audio", made.audio_report), ("video", made.video_report)):
            if report is not None:
                live.take_rtcp(track, report, now)
