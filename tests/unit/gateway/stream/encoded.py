"""Real media: pictures encoded and put into RTP by FFmpeg, in packets of up to 1,500 bytes."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import cast

import av
from av.video.stream import VideoStream

from callboard.media.rtp import is_rtcp

FRAMES = 24
KEYFRAME_EVERY = 8
WIDTH, HEIGHT = 320, 240
RATE = 25
SAMPLES = 960

_FAST = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "VP8": ("libvpx", _FAST),
    "VP9": ("libvpx-vp9", _FAST),
    "H264": ("libx264", {"preset": "ultrafast", "tune": "zerolatency"}),
    "H265": (
        "libx265",
        {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none"},
    ),
    "AV1": ("libsvtav1", {"preset": "12", "svtav1-params": "rc=2:pred-struct=1"}),
}
"""By codec: FFmpeg's name, and what makes it quick and free of B-frames."""
DECODERS = {"VP8": "vp8", "VP9": "vp9", "H264": "h264", "H265": "hevc", "AV1": "libdav1d"}


@dataclass
class Frame:
    """One frame as it was encoded, and as it was sent."""

    encoded: bytes
    is_keyframe: bool
    packets: list[bytes] = field(default_factory=list)


@dataclass
class Recording:
    """What a sender sent."""

    frames: list[Frame]
    reports: list[bytes]
    """RTCP."""


class _Sink:
    """Where the muxer writes its packets."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []

    def write(self, data: bytes) -> int:
        """One packet a call."""
        self.packets.append(bytes(data))
        return len(data)


@contextmanager
def as_it_was_scheduled() -> Iterator[None]:
    """Give this thread its scheduling back: run as root, libsvtav1 makes who calls it SCHED_FIFO
    99, and with it every thread and program that is started from there on."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


@cache
@as_it_was_scheduled()
def video(codec: str, *, size_max: int = 1500, noise: int = 40) -> Recording:
    """Frames of noise, so that they are long, with a keyframe every KEYFRAME_EVERY."""
    name, options = ENCODERS[codec]
    sink = _Sink()
    muxer = {"packetsize": str(size_max), "strict": "-2"}
    frames: list[Frame] = []
    sent: list[int] = []
    with av.open(sink, "w", format="rtp", options=muxer) as output:
        stream = cast(VideoStream, output.add_stream(name, rate=RATE, options=options))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.gop_size, stream.bit_rate = KEYFRAME_EVERY, 1_500_000

        def mux(packets: list[av.Packet[VideoStream]]) -> None:
            for packet in packets:
                frames.append(Frame(bytes(packet), packet.is_keyframe))
                output.mux(packet)
                sent.append(len(sink.packets))

        rng = random.Random(7)
        for number in range(FRAMES):
            mux(stream.encode(_picture(rng, number, noise)))
        mux(stream.encode())
    return _recording(frames, sent, sink.packets)


def _picture(rng: random.Random, number: int, noise: int) -> av.VideoFrame:
    picture = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    picture.pts = number
    for plane in picture.planes:
        grain = bytes(rng.randrange(noise) for _ in range(1024))
        plane.update((grain * (plane.buffer_size // 1024 + 1))[: plane.buffer_size])
    return picture


@cache
def opus() -> Recording:
    """Noise in packets of 20 ms."""
    sink = _Sink()
    frames: list[Frame] = []
    sent: list[int] = []
    with av.open(sink, "w", format="rtp", options={"packetsize": "1500"}) as output:
        stream = output.add_stream("libopus", rate=48_000, layout="stereo")
        rng = random.Random(7)
        for number in range(FRAMES):
            sound = av.AudioFrame("s16", "stereo", SAMPLES)
            sound.sample_rate, sound.pts = 48_000, number * SAMPLES
            sound.planes[0].update(rng.randbytes(sound.planes[0].buffer_size))
            for packet in stream.encode(sound):
                frames.append(Frame(bytes(packet), packet.is_keyframe))
                output.mux(packet)
                sent.append(len(sink.packets))
    return _recording(frames, sent, sink.packets)


def _recording(frames: list[Frame], sent: list[int], packets: list[bytes]) -> Recording:
    """The muxer sends a frame at once, so what it had written after each frame is that frame's."""
    begin = 0
    for frame, end in zip(frames, sent, strict=True):
        frame.packets += [packet for packet in packets[begin:end] if not is_rtcp(packet)]
        begin = end
    return Recording(frames, [packet for packet in packets if is_rtcp(packet)])


def decoded(codec: str, frames: list[bytes]) -> int:
    """How many pictures a decoder makes of these frames. Raises av.error.FFmpegError."""
    context = av.CodecContext.create(DECODERS[codec], "r")
    context.thread_count = 1
    context.options = {"err_detect": "explode"}
    pictures = 0
    for frame in frames:
        pictures += len(context.decode(av.Packet(frame)))  # type: ignore[attr-defined]
    return pictures + len(context.decode(None))  # type: ignore[attr-defined]
