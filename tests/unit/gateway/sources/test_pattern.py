"""The built-in pattern decodes, and is what it says."""

from __future__ import annotations

import asyncio
import itertools
import random
import struct
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import av
from aiortc.codecs.vpx import VpxPayloadDescriptor
from aiortc.rtp import RtcpPacket, RtcpSrPacket, RtpPacket
from av.video.frame import VideoFrame
from tests.harness.eventually import eventually

from callboard.gateway.sources.encoding import OpusEncoder, Vp8Encoder
from callboard.gateway.sources.pattern import WAITING_MAX, Made, PatternSource
from callboard.gateway.sources.picture import HEIGHT, PATCH, RATE, WIDTH, picture, sound
from callboard.media import clock
from callboard.media.clock import BLACK, WHITE


class Received:
    """What a source made."""

    def __init__(self) -> None:
        self.ticks: list[Made] = []

    def take(self, made: Made, now: float) -> None:
        self.ticks.append(made)

    def frames(self) -> list[bytes]:
        """Encoded pictures, put together from their packets."""
        frames, frame = [], b""
        for tick in self.ticks:
            for data in tick.video:
                packet = RtpPacket.parse(data)
                frame += VpxPayloadDescriptor.parse(packet.payload)[1]
                if packet.marker:
                    frames.append(frame)
                    frame = b""
        return frames


@asynccontextmanager
async def running(received: Received) -> AsyncIterator[PatternSource]:
    source = PatternSource(received.take, rng=random.Random(1))
    source.start()
    try:
        yield source
    finally:
        await source.stop()


def is_keyframe(frame: bytes) -> bool:
    """RFC 6386, 9.1."""
    return not frame[0] & 1


def luma(frame: VideoFrame, x: int, y: int) -> int:
    plane = frame.planes[0]
    return bytes(plane)[y * plane.line_size + x]


async def test_the_picture_decodes_and_the_sound_does() -> None:
    received = Received()
    async with running(received):
        await eventually(lambda: len(received.frames()) >= 20)
    vp8 = av.CodecContext.create("libvpx", "r")
    pictures = [it for frame in received.frames()[:20] for it in vp8.decode(av.Packet(frame))]
    assert [(it.width, it.height) for it in pictures] == [(WIDTH, HEIGHT)] * 20
    x, y = PATCH[0] + 32, PATCH[1] + 32
    assert luma(pictures[0], x, y) > WHITE - 20  # the first tenth of a second flashes
    assert luma(pictures[10], x, y) < BLACK + 20
    opus = av.CodecContext.create("libopus", "r")
    payloads = [RtpPacket.parse(data).payload for tick in received.ticks for data in tick.audio]
    heard = [it for payload in payloads[:40] for it in opus.decode(av.Packet(payload))]
    assert sum(it.samples for it in heard) >= 39 * 960


async def test_two_frames_of_sound_belong_to_one_picture() -> None:
    received = Received()
    async with running(received):
        await eventually(lambda: len(received.ticks) >= 20)
    ticks = received.ticks[:20]
    video = [RtpPacket.parse(tick.video[0]).timestamp for tick in ticks[::2]]
    audio = [RtpPacket.parse(tick.audio[0]).timestamp for tick in ticks]
    assert not any(tick.video for tick in ticks[1::2])
    assert [(at - video[0]) & 0xFFFFFFFF for at in video] == [n * 3600 for n in range(10)]
    assert [(at - audio[0]) & 0xFFFFFFFF for at in audio] == [n * 960 for n in range(20)]


async def test_reports_map_both_tracks_to_one_time() -> None:
    received = Received()
    async with running(received):
        await eventually(lambda: received.ticks)
    tick = received.ticks[0]
    assert tick.video_report is not None
    assert tick.audio_report is not None
    (video,), (audio,) = RtcpPacket.parse(tick.video_report), RtcpPacket.parse(tick.audio_report)
    assert isinstance(video, RtcpSrPacket)
    assert isinstance(audio, RtcpSrPacket)
    assert video.sender_info.ntp_timestamp == audio.sender_info.ntp_timestamp
    assert video.sender_info.rtp_timestamp == RtpPacket.parse(tick.video[0]).timestamp
    assert audio.sender_info.rtp_timestamp == RtpPacket.parse(tick.audio[0]).timestamp


async def test_a_keyframe_comes_when_it_is_asked_for() -> None:
    received = Received()
    async with running(received) as source:
        await eventually(lambda: len(received.frames()) >= 5)
        assert [is_keyframe(frame) for frame in received.frames()[:5]] == [True] + [False] * 4
        before = len(received.frames())
        source.request_keyframe()
        await eventually(lambda: any(map(is_keyframe, received.frames()[before:])))
        assert len(received.frames()) - before < RATE  # (one would come by itself after 2 s)


async def test_it_stops_and_begins_anew_as_another_source() -> None:
    received = Received()
    async with running(received) as source:
        await eventually(lambda: received.ticks)
        await source.stop()
        assert not source.running
        assert "pattern" not in {thread.name for thread in threading.enumerate()}
        first = RtpPacket.parse(received.ticks[0].audio[0]).ssrc
        received.ticks.clear()
        source.start()
        await eventually(lambda: received.ticks)
        assert RtpPacket.parse(received.ticks[0].audio[0]).ssrc != first


async def test_a_loop_that_is_late_costs_ticks_and_no_memory() -> None:
    received = Received()
    async with running(received) as source:
        await eventually(lambda: received.ticks)
        before = len(received.ticks)
        waited = threading.Event()
        threading.Timer(1.0, waited.set).start()
        waited.wait()  # the loop does not turn meanwhile
        await asyncio.sleep(0)
        assert source.dropped > 0
        assert len(received.ticks) - before <= WAITING_MAX
        dropped_at = len(received.frames())
        await eventually(lambda: any(map(is_keyframe, received.frames()[dropped_at:])))


def test_flash_and_beep_come_at_the_same_time() -> None:
    x, y = PATCH[0] + 1, PATCH[1] + 1
    for number in range(2 * RATE):
        flashes = picture(number)[0][y * WIDTH + x] == WHITE
        assert flashes == (number % RATE < RATE // 10)
        for half in (2 * number, 2 * number + 1):
            loudest = max(struct.unpack("<1920h", sound(half)))
            assert (loudest > 10_000) == flashes


async def test_the_clock_in_the_picture_tells_when_it_was_made() -> None:
    received = Received()
    begun_ms = time.time() * 1000
    async with running(received):
        await eventually(lambda: len(received.frames()) >= 10)
    taken_ms = time.time() * 1000
    vp8 = av.CodecContext.create("libvpx", "r")
    pictures = [it for frame in received.frames()[:10] for it in vp8.decode(av.Packet(frame))]
    ages_ms = []
    for it in pictures:
        plane = it.planes[0]
        told = clock.read(bytes(plane), WIDTH, plane.line_size)
        assert told is not None
        ages_ms.append(clock.age_ms(told, round(taken_ms)))
    assert ages_ms == sorted(ages_ms, reverse=True)
    assert -1 <= ages_ms[-1] <= ages_ms[0] <= taken_ms - begun_ms + 1


def test_every_picture_differs_from_the_one_before() -> None:
    pictures = [bytes(picture(number)[0]) for number in range(50)]
    assert all(a != b for a, b in itertools.pairwise(pictures))


def test_an_encoder_makes_what_is_asked_of_its_rate() -> None:
    vp8, opus = Vp8Encoder(WIDTH, HEIGHT, RATE, 900_000), OpusEncoder(32_000)
    frames = [vp8.encode([bytes(it) for it in picture(n)], n, keyframe=n == 30) for n in range(50)]
    assert [n for n, frame in enumerate(frames) if is_keyframe(frame)] == [0, 30]
    assert sum(map(len, frames)) * 8 < 2 * 900_000 * 2
    packets = [packet for n in range(100) for packet in opus.encode(sound(n), n)]
    assert 98 <= len(packets) <= 100
    assert sum(map(len, packets)) * 8 < 2 * 32_000 * 2
