"""Streams at ports of their own, as a file describes them (-streams FILE). Pure but for `load`.

    [[streams]]
    name = "studio"
    title = "The studio"
    from = ["192.0.2.10"]
    tracks = [
        { codec = "H264", port = 5006, payload_type = 96 },
        { codec = "opus", port = 5008, payload_type = 111 },
    ]

Several video tracks are renditions of one picture, the best first. `from` are addresses and
networks that may send, besides loopback. A file whose name ends with .json is JSON, of the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from callboard.gateway.live import StreamDescription, TrackDescription, check_name
from callboard.gateway.sdp.codecs import AUDIO, VIDEO, Codec
from callboard.gateway.sources.senders import LOOPBACK, Network, network_of

FILE_BYTES_MAX = 1 << 20
TRACKS_MAX = 8

SCRIPT = "gst-script"
"""The stream of -rtp-port and -rtp-audio-port."""
SCRIPT_TITLE = "RTP from a script"

CODECS = {
    codec.name.lower(): codec
    for codec in (
        Codec(VIDEO, "VP8", 90_000),
        Codec(VIDEO, "VP9", 90_000),
        Codec(VIDEO, "H264", 90_000),
        Codec(VIDEO, "H265", 90_000),
        Codec(VIDEO, "AV1", 90_000),
        Codec(AUDIO, "opus", 48_000, 2),
        Codec(AUDIO, "PCMU", 8_000),
        Codec(AUDIO, "PCMA", 8_000),
    )
}
"""What a stream may be encoded with, as a source that says no more means it."""
STATIC_PAYLOAD_TYPES = {"pcmu": 0, "pcma": 8}


class BadStreams(ValueError):
    """A file that describes no streams; the text says where it is wrong."""


@dataclass(frozen=True, slots=True)
class PortStream:
    """A stream whose tracks come to ports of this machine."""

    description: StreamDescription
    ports: tuple[int, ...]
    """Of each track, in the description's order."""
    senders: tuple[Network, ...]


class _Track(msgspec.Struct, forbid_unknown_fields=True):
    codec: str
    port: int
    payload_type: int = -1
    parameters: dict[str, str] = {}


class _Stream(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    tracks: list[_Track]
    title: str = ""
    from_: list[str] = msgspec.field(name="from", default_factory=list)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    streams: list[_Stream]


def load(path: Path) -> tuple[PortStream, ...]:
    """The streams of a file. Raises BadStreams, OSError."""
    with path.open("rb") as file:
        text = file.read(FILE_BYTES_MAX + 1)
    return parse(text, json=path.suffix == ".json")


def parse(text: bytes, *, json: bool = False) -> tuple[PortStream, ...]:
    """The same of its bytes. Raises BadStreams."""
    if len(text) > FILE_BYTES_MAX:
        raise BadStreams(f"more than {FILE_BYTES_MAX} octets")
    decode = msgspec.json.decode if json else msgspec.toml.decode
    try:
        file = decode(text, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise BadStreams(str(problem)) from None
    names: set[str] = set()
    ports: set[int] = set()
    made = []
    for stream in file.streams:
        made.append(_stream(stream))
        if stream.name in names:
            raise BadStreams(f"stream {stream.name} is there twice")
        names.add(stream.name)
        for port in made[-1].ports:
            if port in ports:
                raise BadStreams(f"stream {stream.name}: port {port} is another track's")
            ports.add(port)
    return tuple(made)


def script_stream(
    video_port: int, audio_port: int, senders: tuple[Network, ...]
) -> PortStream | None:
    """The stream of plain scripts: VP8 as payload type 96, Opus as 111. A port may be -1: off;
    None if both are."""
    tracks = [
        (port, TrackDescription(kind, CODECS[codec], payload_type))
        for port, kind, codec, payload_type in (
            (video_port, VIDEO, "vp8", 96),
            (audio_port, AUDIO, "opus", 111),
        )
        if port >= 0
    ]
    if not tracks:
        return None
    described = StreamDescription(SCRIPT, SCRIPT_TITLE, tuple(track for _, track in tracks))
    return PortStream(described, tuple(port for port, _ in tracks), senders)


def _stream(stream: _Stream) -> PortStream:
    try:
        check_name(stream.name)
        senders = tuple(network_of(text) for text in stream.from_)
    except ValueError as problem:
        raise BadStreams(f"stream {stream.name[:80]!r}: {problem}") from None
    if not 0 < len(stream.tracks) <= TRACKS_MAX:
        raise BadStreams(f"stream {stream.name}: one to {TRACKS_MAX} tracks")
    made: list[TrackDescription] = []
    for track in stream.tracks:
        made.append(_track(stream.name, track, [it.codec.kind for it in made]))
    _check_renditions(stream.name, made)
    described = StreamDescription(stream.name, stream.title or stream.name, tuple(made))
    ports = tuple(track.port for track in stream.tracks)
    return PortStream(described, ports, (*LOOPBACK, *senders))


def _track(stream: str, track: _Track, before: list[str]) -> TrackDescription:
    known = CODECS.get(track.codec.lower())
    if known is None:
        names = ", ".join(codec.name for codec in CODECS.values())
        raise BadStreams(f"stream {stream}: codec is one of {names}, not {track.codec[:80]!r}")
    if not 0 < track.port < 65536:
        raise BadStreams(f"stream {stream}: {track.port} is no port")
    static = STATIC_PAYLOAD_TYPES.get(track.codec.lower(), -1)
    payload_type = static if track.payload_type == -1 else track.payload_type
    if payload_type not in (*range(64), *range(96, 128)):  # (RFC 5761, 4: the others are RTCP's)
        raise BadStreams(f"stream {stream}: payload_type is 0 to 63 or 96 to 127")
    codec = Codec(known.kind, known.name, known.clock_rate, known.channels, dict(track.parameters))
    number = before.count(codec.kind) + 1
    id = codec.kind if number == 1 else f"{codec.kind}-{number}"
    return TrackDescription(id, codec, payload_type)


def _check_renditions(stream: str, tracks: list[TrackDescription]) -> None:
    for kind in (VIDEO, AUDIO):
        codecs = [track.codec for track in tracks if track.codec.kind == kind]
        if any(codec != codecs[0] for codec in codecs):
            raise BadStreams(f"stream {stream}: renditions of {kind} have the same codec")
