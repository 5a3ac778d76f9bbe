"""What pipelines are made of, as gst-launch writes it. Pure.

In every one the payloaders are named `video` and `audio`; `running` joins them to rtpbin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from callboard.media.streams import AUDIO, VIDEO, Track
from callboard.sidecar.pipeline.picture import HEIGHT, RATE, WIDTH

VIDEO_PAYLOAD_TYPE, AUDIO_PAYLOAD_TYPE = 96, 111
VIDEO_BITS_PER_SECOND, AUDIO_BITS_PER_SECOND = 900_000, 32_000
KEYFRAME_FRAMES = 2 * RATE
"""Between two keyframes, at most."""
PACKET_BYTES_MAX = 1200
"""Of a packet of RTP, headers included: it fits where a path carries 1,280 octets."""
PICTURE = "picture"
"""The element that takes the test pattern's frames."""

VP8 = Track(VIDEO, VIDEO, "VP8", 90_000, VIDEO_PAYLOAD_TYPE)
OPUS = Track(AUDIO, AUDIO, "opus", 48_000, AUDIO_PAYLOAD_TYPE, channels=2)

PAYLOADERS: Mapping[str, Track] = {
    "rtpvp8pay": VP8,
    "rtpvp9pay": Track(VIDEO, VIDEO, "VP9", 90_000, VIDEO_PAYLOAD_TYPE),
    "rtph264pay": Track(
        VIDEO, VIDEO, "H264", 90_000, VIDEO_PAYLOAD_TYPE, parameters={"packetization-mode": "1"}
    ),
    "rtph265pay": Track(VIDEO, VIDEO, "H265", 90_000, VIDEO_PAYLOAD_TYPE),
    "rtpav1pay": Track(VIDEO, VIDEO, "AV1", 90_000, VIDEO_PAYLOAD_TYPE),
    "rtpopuspay": OPUS,
    "rtppcmupay": Track(AUDIO, AUDIO, "PCMU", 8_000, 0),
    "rtppcmapay": Track(AUDIO, AUDIO, "PCMA", 8_000, 8),
}
"""What the payloaders of GStreamer make; the payload type is each one's own."""

BITRATES: Mapping[str, tuple[str, int]] = {
    "vp8enc": ("target-bitrate", 1),
    "vp9enc": ("target-bitrate", 1),
    "x264enc": ("bitrate", 1000),
    "opusenc": ("bitrate", 1),
}
"""By which property an encoder is told what to aim at, and how many bits a second one of it is."""

_RAW_VIDEO = f"video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={RATE}/1"
_RAW_AUDIO = "audio/x-raw,rate=48000,channels=2"

ENCODE_VP8 = (
    f"vp8enc deadline=1 cpu-used=8 target-bitrate={VIDEO_BITS_PER_SECOND} end-usage=cbr "
    f"keyframe-max-dist={KEYFRAME_FRAMES} error-resilient=partitions "
    f"! rtpvp8pay name={VIDEO} pt={VIDEO_PAYLOAD_TYPE} mtu={PACKET_BYTES_MAX} picture-id-mode=2"
)
ENCODE_OPUS = (
    f"opusenc frame-size=20 bitrate={AUDIO_BITS_PER_SECOND} "
    f"! rtpopuspay name={AUDIO} pt={AUDIO_PAYLOAD_TYPE} mtu={PACKET_BYTES_MAX}"
)

TEST = (
    f"appsrc name={PICTURE} is-live=true format=time max-buffers=2 leaky-type=downstream "
    f"caps={_RAW_VIDEO} ! queue max-size-buffers=2 leaky=downstream ! {ENCODE_VP8} "
    # a beep of 100 ms at the begin of each second
    "audiotestsrc is-live=true samplesperbuffer=960 wave=ticks freq=1000 volume=0.4 "
    f"sine-periods-per-tick=100 tick-interval=1000000000 ! {_RAW_AUDIO} ! queue ! {ENCODE_OPUS}"
)
"""The test pattern; who runs it pushes the frames of `picture` into PICTURE, which drops the oldest
when the encoder is too slow."""

FILE_PAYLOADERS: Mapping[str, str] = {
    "video/x-vp8": f"rtpvp8pay name={VIDEO} pt={VIDEO_PAYLOAD_TYPE} picture-id-mode=2",
    "video/x-vp9": f"rtpvp9pay name={VIDEO} pt={VIDEO_PAYLOAD_TYPE} picture-id-mode=2",
    "video/x-h264": (
        f"h264parse ! rtph264pay name={VIDEO} pt={VIDEO_PAYLOAD_TYPE} config-interval=-1 "
        "aggregate-mode=zero-latency"
    ),
    "audio/x-opus": f"rtpopuspay name={AUDIO} pt={AUDIO_PAYLOAD_TYPE}",
}
"""What is sent of a file as it is, by its media type."""

DEMUXERS: Mapping[str, str] = {
    "video/webm": "matroskademux",
    "audio/webm": "matroskademux",
    "video/x-matroska": "matroskademux",
    "audio/x-matroska": "matroskademux",
    "video/quicktime": "qtdemux",
    "audio/x-m4a": "qtdemux",
    "application/x-3gp": "qtdemux",
}
"""By the media type of a file."""

INPUT = "-input"
"""After a track's name: the element of a file's pipeline that this track comes in by."""

_DECODE = "decodebin"
_RAW_FILE_VIDEO = "videoconvert ! video/x-raw,format=I420"
_RAW_FILE_AUDIO = f"audioconvert ! audioresample ! {_RAW_AUDIO}"


def file_pipeline(path: str, container: str, codecs: Iterable[tuple[str, bool]]) -> str:
    """Tracks of a file whose media type is one of DEMUXERS, each of another media type; one that
    WebRTC does not know, or whose pictures are reordered (True), is encoded anew."""
    place = path.replace("\\", "\\\\").replace('"', '\\"')
    tracks = (
        f"demux. ! {codec} ! queue name={_kind(codec)}{INPUT} ! {_sent(codec, reorders)}"
        for codec, reorders in codecs
    )
    return " ".join((f'filesrc location="{place}" ! {DEMUXERS[container]} name=demux', *tracks))


def _sent(codec: str, reorders: bool) -> str:
    payloader = FILE_PAYLOADERS.get(codec)
    if payloader is not None and not reorders:
        return f"{payloader} mtu={PACKET_BYTES_MAX}"
    if _kind(codec) == VIDEO:
        return f"{_DECODE} ! {_RAW_FILE_VIDEO} ! {ENCODE_VP8}"
    return f"{_DECODE} ! {_RAW_FILE_AUDIO} ! {ENCODE_OPUS}"


def _kind(codec: str) -> str:
    return VIDEO if codec.startswith(("video/", "image/")) else AUDIO


_SMALL = f"mtu={PACKET_BYTES_MAX}"
CAMERA_VIDEO: Mapping[str, str] = {
    # (as AVC: the parameter set stands in the caps, for `running` to look at)
    "H264": f"rtph264depay ! h264parse ! video/x-h264,stream-format=avc,alignment=au "
    f"! {FILE_PAYLOADERS['video/x-h264'].removeprefix('h264parse ! ')} {_SMALL}",
    "VP8": f"rtpvp8depay ! {FILE_PAYLOADERS['video/x-vp8']} {_SMALL}",
    "VP9": f"rtpvp9depay ! {FILE_PAYLOADERS['video/x-vp9']} {_SMALL}",
    "H265": f"rtph265depay ! h265parse ! rtph265pay name={VIDEO} pt={VIDEO_PAYLOAD_TYPE} "
    f"config-interval=-1 {_SMALL}",
}
"""What becomes of a network camera's picture, by its encoding name in RTP."""
CAMERA_VIDEO_ANEW: Mapping[str, str] = {
    "H264": f"rtph264depay ! {_DECODE} ! {_RAW_FILE_VIDEO} ! {ENCODE_VP8}",
}
"""The same where it turns out that pictures are reordered."""
CAMERA_AUDIO: Mapping[str, str] = {
    "PCMU": f"rtppcmudepay ! rtppcmupay name={AUDIO} pt=0 {_SMALL}",
    "PCMA": f"rtppcmadepay ! rtppcmapay name={AUDIO} pt=8 {_SMALL}",
    "OPUS": f"rtpopusdepay ! opusparse ! {FILE_PAYLOADERS['audio/x-opus']} {_SMALL}",
    "MPEG4-GENERIC": f"rtpmp4gdepay ! {_DECODE} ! {_RAW_FILE_AUDIO} ! {ENCODE_OPUS}",
}
"""The same of its sound; MPEG4-GENERIC is AAC."""
CAMERA_BUFFER_MS = 100
CAMERA_TIMEOUT_US = 5_000_000


CAMERA = "camera"
"""The element that asks a network camera."""


@dataclass(frozen=True, slots=True)
class NetworkCamera:
    """What a network camera sends, asked for by RTSP over TCP (RFC 7826, RFC 2326)."""

    url: str = field(repr=False)
    video: str
    """A key of CAMERA_VIDEO; "" for none."""
    audio: str
    """The same of CAMERA_AUDIO."""

    def launch(self, *, anew: bool = False) -> str:
        """Its pipeline; `anew`: its pictures, which are reordered, are encoded anew."""
        place = self.url.replace("\\", "\\\\").replace('"', '\\"')
        parts = [
            f'rtspsrc name={CAMERA} location="{place}" protocols=tcp latency={CAMERA_BUFFER_MS} '
            f"tcp-timeout={CAMERA_TIMEOUT_US}"
        ]
        videos = CAMERA_VIDEO_ANEW if anew else CAMERA_VIDEO
        for kind, codec, table in (
            (VIDEO, self.video, videos), (AUDIO, self.audio, CAMERA_AUDIO),
        ):  # fmt: skip
            if codec:
                wanted = f"application/x-rtp,media={kind},encoding-name={codec}"
                parts.append(f"{CAMERA}. ! {wanted} ! queue ! {table[codec]}")
        return " ".join(parts)

    def takes(self, kind: str, codec: str) -> bool:
        """Whether this is what is taken of it."""
        return codec == {VIDEO: self.video, AUDIO: self.audio}.get(kind, codec)


def camera_pipeline(device: str) -> str:
    """A camera of this machine (V4L2)."""
    place = device.replace("\\", "\\\\").replace('"', '\\"')
    return (
        f'v4l2src device="{place}" ! decodebin ! {_RAW_FILE_VIDEO} '
        f"! queue max-size-buffers=2 leaky=downstream ! {ENCODE_VP8}"
    )
