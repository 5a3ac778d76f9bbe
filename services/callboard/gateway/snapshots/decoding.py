"""From an encoded keyframe to JPEG, by PyAV. Takes some 10 ms: for a thread beside the loop."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext

DECODERS = {
    "VP8": ("vp8",),
    "VP9": ("vp9",),
    "H264": ("h264",),
    "H265": ("hevc",),
    "AV1": ("libdav1d", "av1"),
}
"""FFmpeg's, by the names of RTP; the first one that it was built with is taken."""
PIXELS_MAX = 4096 * 2304
"""A picture that says it is larger is refused before it has memory."""
QUALITY = 5
"""Of mjpeg's quantizers: 2 is the best, 31 the smallest."""


def jpeg_of(codec: str, parts: Sequence[bytes]) -> bytes:
    """The last picture in `parts`, as JPEG. Raises ValueError if there is none."""
    decoder = _decoder(codec)
    picture: av.VideoFrame | None = None
    try:
        for part in parts:
            for frame in decoder.decode(av.Packet(part)):
                picture = frame
        for frame in decoder.decode(None):
            picture = frame
        if picture is None:
            raise ValueError("no picture is in it")
        return _encoded(picture)
    except (av.FFmpegError, ValueError) as problem:
        raise ValueError(f"{codec} that cannot be decoded: {problem}") from None


def _decoder(codec: str) -> VideoCodecContext:
    for name in DECODERS.get(codec.upper(), ()):
        try:
            decoder = av.CodecContext.create(name, "r")
        except av.codec.codec.UnknownCodecError:
            continue
        assert isinstance(decoder, VideoCodecContext)
        decoder.thread_count = 1
        decoder.options = {"max_pixels": str(PIXELS_MAX)}
        return decoder
    raise ValueError(f"{codec} cannot be decoded here")


def _encoded(picture: av.VideoFrame) -> bytes:
    full = picture.reformat(format="yuvj420p", dst_color_range="JPEG")
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = full.width, full.height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.thread_count = 1
    encoder.options = {"qmin": str(QUALITY), "qmax": str(QUALITY)}
    full.pts = 0
    encoded = [bytes(packet) for packet in (*encoder.encode(full), *encoder.encode(None))]
    return b"".join(encoded)
