"""The built-in source: a test pattern with sound, where there is no sidecar to make one.

It is drawn and encoded in a thread of its own, and only while somebody watches.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from callboard.gateway.sources.encoding import AUDIO_CLOCK, VIDEO_CLOCK, OpusEncoder, Vp8Encoder
from callboard.gateway.sources.picture import HEIGHT, RATE, SAMPLES, WIDTH, picture, sound
from callboard.gateway.sources.rtp import RtpSender, vp8_payloads

log = logging.getLogger(__name__)

VIDEO_PAYLOAD_TYPE, AUDIO_PAYLOAD_TYPE = 96, 111
VIDEO_BITS_PER_SECOND, AUDIO_BITS_PER_SECOND = 900_000, 32_000
TICK_S = 1 / (2 * RATE)
"""One frame of sound; each second one has a picture."""
REPORT_TICKS = 2 * RATE
LATE_S = 0.5
"""A thread that is so much behind leaves out what it could not make."""
WAITING_MAX = 10
"""Ticks that the loop has not taken yet; more are dropped, and a keyframe follows."""
STOP_S = 2.0


@dataclass(frozen=True, slots=True)
class Made:
    """What one tick made, as packets."""

    video: Sequence[bytes]
    audio: Sequence[bytes]
    video_report: bytes | None = None
    audio_report: bytes | None = None


class PatternSource:
    """The thread and what it makes."""

    def __init__(
        self,
        deliver: Callable[[Made, float], None],
        *,
        rng: random.Random,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`deliver` is called on the loop, with the loop's time; `wall` is seconds since 1970."""
        self._deliver = deliver
        self._rng = rng
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._keyframe = threading.Event()
        self._room = threading.Semaphore(WAITING_MAX)
        self._run = 0
        """Of the thread that may deliver: what an older one still sent is not taken."""
        self.dropped = 0
        """Ticks that the loop was too slow for."""

    @property
    def running(self) -> bool:
        """Whether it makes something."""
        return self._thread is not None

    def start(self) -> None:
        """Begin; a source that runs goes on."""
        if self._thread is None:
            self._run += 1
            self._stopping = threading.Event()
            self._thread = threading.Thread(
                target=self._make,
                args=(self._stopping, self._run),
                name="pattern",
                daemon=True,
            )
            self._thread.start()

    async def stop(self) -> None:
        """End, and wait for the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._run += 1
            self._stopping.set()
            await asyncio.to_thread(thread.join, STOP_S)

    def request_keyframe(self) -> None:
        """The next picture is one."""
        self._keyframe.set()

    def _make(self, stopping: threading.Event, run: int) -> None:
        """The thread: a tick at its time, by the monotonic clock."""
        try:
            maker = _Maker(self._rng, self._keyframe, self._wall)
        except Exception:
            log.exception("the built-in pattern cannot be encoded")
            return
        begun, tick = time.monotonic(), 0
        while not stopping.wait(max(0.0, begun + tick * TICK_S - time.monotonic())):
            behind = int((time.monotonic() - begun) / TICK_S) - tick
            if behind * TICK_S > LATE_S:
                tick += behind - behind % 2
            if not self._room.acquire(blocking=False):
                self.dropped += 1
                self._keyframe.set()
            elif not self._hand_over(maker.tick(tick), run):
                return
            tick += 1

    def _hand_over(self, made: Made, run: int) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._take, made, run)
        except RuntimeError:  # the loop is closed: the program ends
            return False
        return True

    def _take(self, made: Made, run: int) -> None:
        self._room.release()
        if run == self._run:
            self._deliver(made, self._loop.time())


class _Maker:
    """Draws and encodes."""

    def __init__(
        self, rng: random.Random, keyframe: threading.Event, wall: Callable[[], float]
    ) -> None:
        self._keyframe = keyframe
        self._wall = wall
        self._vp8 = Vp8Encoder(WIDTH, HEIGHT, RATE, VIDEO_BITS_PER_SECOND)
        self._opus = OpusEncoder(AUDIO_BITS_PER_SECOND)
        self._video = RtpSender(VIDEO_PAYLOAD_TYPE, VIDEO_CLOCK, rng)
        self._audio = RtpSender(AUDIO_PAYLOAD_TYPE, AUDIO_CLOCK, rng)
        self._picture_id = rng.getrandbits(15)

    def tick(self, tick: int) -> Made:
        """What the tick of this number makes."""
        reports = tick % REPORT_TICKS == 0
        now_s = self._wall()
        video: list[bytes] = []
        video_at, audio_at = tick * VIDEO_CLOCK // (2 * RATE), tick * SAMPLES
        if tick % 2 == 0:
            wanted = self._keyframe.is_set()
            self._keyframe.clear()
            planes = [bytes(plane) for plane in picture(tick // 2, round(1000 * now_s))]
            frame = self._vp8.encode(planes, tick // 2, keyframe=wanted)
            if frame:
                self._picture_id += 1
                payloads = vp8_payloads(frame, self._picture_id)
                video = self._video.packets(payloads, video_at, marker=True)
        audio = self._audio.packets(self._opus.encode(sound(tick), tick), audio_at, marker=False)
        return Made(
            video,
            audio,
            self._video.report(video_at, now_s) if reports else None,
            self._audio.report(audio_at, now_s) if reports else None,
        )
