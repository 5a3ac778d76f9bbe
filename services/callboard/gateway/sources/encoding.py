"""VP8 and Opus by PyAV, as a live source needs them: no delay, keyframes when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
from av.video.frame import PictureType

VIDEO_CLOCK = 90_000
AUDIO_CLOCK = 48_000

Planes = Sequence[bytes]
"""Y, U and V of 4:2:0, without gaps between rows."""


class Vp8Encoder:
    """Of one picture size; constant bit rate."""

    def __init__(self, width: int, height: int, rate: int, bits_per_second: int) -> None:
        """`rate` is frames per second."""
        codec = av.CodecContext.create("libvpx", "w")
        codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
        codec.time_base, codec.framerate = Fraction(1, rate), Fraction(rate)
        codec.bit_rate = bits_per_second
        codec.gop_size = 2 * rate
        codec.thread_count = 1
        codec.options = {
            "deadline": "realtime",
            "cpu-used": "-8",
            "lag-in-frames": "0",
            "error-resilient": "1",
            "minrate": str(bits_per_second),
            "maxrate": str(bits_per_second),
            "bufsize": str(bits_per_second // 2),
        }
        self._codec = codec
        self._size = width, height

    def encode(self, planes: Planes, number: int, *, keyframe: bool) -> bytes:
        """One frame; `number` counts them. `keyframe` asks for one."""
        frame = av.VideoFrame(*self._size, "yuv420p")
        for plane, data in zip(frame.planes, planes, strict=True):
            plane.update(data)
        frame.pts = number
        if keyframe:
            frame.pict_type = PictureType.I
        return b"".join(bytes(packet) for packet in self._codec.encode(frame))


class OpusEncoder:
    """Stereo, frames of 20 ms."""

    SAMPLES = AUDIO_CLOCK // 50
    """Of a frame, in each channel."""

    def __init__(self, bits_per_second: int) -> None:
        codec = av.CodecContext.create("libopus", "w")
        codec.sample_rate, codec.layout, codec.format = AUDIO_CLOCK, "stereo", "s16"
        codec.bit_rate = bits_per_second
        codec.time_base = Fraction(1, AUDIO_CLOCK)
        codec.options = {"application": "lowdelay", "frame_duration": "20"}
        self._codec = codec

    def encode(self, samples: bytes, number: int) -> list[bytes]:
        """The packets of one frame of 16-bit samples, left and right by turns."""
        frame = av.AudioFrame(format="s16", layout="stereo", samples=self.SAMPLES)
        frame.planes[0].update(samples)
        frame.sample_rate = AUDIO_CLOCK
        frame.pts = number * self.SAMPLES
        frame.time_base = Fraction(1, AUDIO_CLOCK)
        return [bytes(packet) for packet in self._codec.encode(frame)]
