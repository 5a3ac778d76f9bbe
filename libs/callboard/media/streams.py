"""Streams as a sidecar lists them: GET /streams at its control port. Pure; the standard library.

{"streams": [{name, title, tracks, on_demand, per_viewer, problem, attributes}]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

AUDIO, VIDEO = "audio", "video"
KINDS = (VIDEO, AUDIO)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a stream may be called: it stands in paths."""
TRACK = re.compile(r"(?:video|audio)(?:-[2-9])?")
"""What a track is called: its kind; further renditions of it have a number."""
TITLE_LENGTH_MAX = 200
STREAMS_MAX = 256
TRACKS_MAX = 8
CLOCK_RATE_MAX = 1_000_000
CHANNELS_MAX = 16
BITS_PER_SECOND_MAX = 1_000_000_000


class BadListing(ValueError):
    """A list of streams that is none; the text says why."""


@dataclass(frozen=True, slots=True)
class Track:
    """One track, as RTP carries it. Several of one kind are renditions, the best first."""

    id: str
    """As TRACK has it."""
    kind: str
    codec: str
    """As a=rtpmap names it: VP8, opus."""
    clock_rate: int
    payload_type: int = -1
    """-1: any."""
    channels: int = 1
    parameters: Mapping[str, str] = field(default_factory=dict)
    """As a=fmtp has them."""
    bits_per_second: int = 0
    """What the encoder aims at; 0: not known."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream that there is to be had."""

    name: str
    title: str
    tracks: tuple[Track, ...]
    on_demand: bool = False
    """It is made only while somebody holds a lease."""
    per_viewer: bool = False
    """It is made anew for each lease, from its begin: one can pause it and seek in it."""
    problem: str = ""
    """Why it cannot be played; "" if it can."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """More that a list may show."""


def listing(streams: tuple[Stream, ...]) -> bytes:
    """The answer to GET /streams."""
    return json.dumps({"streams": [asdict(stream) for stream in streams]}).encode()


def parse_listing(body: bytes) -> tuple[Stream, ...]:
    """Read such an answer; keys that are not known are ignored. Raises BadListing."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as problem:
        raise BadListing(f"no JSON: {problem}") from None
    streams = told.get("streams") if isinstance(told, dict) else None
    if not isinstance(streams, list) or len(streams) > STREAMS_MAX:
        raise BadListing(f"streams: a list of at most {STREAMS_MAX} is wanted")
    made = tuple(_stream(_object(each, "a stream")) for each in streams)
    if len({stream.name for stream in made}) != len(made):
        raise BadListing("a stream is there twice")
    return made


def _stream(told: Mapping[str, object]) -> Stream:
    name = _text(told, "name", "a stream")
    if not NAME.fullmatch(name):
        raise BadListing(f"{name[:80]!r} is no name of a stream")
    where = f"stream {name}"
    tracks = told.get("tracks")
    if not isinstance(tracks, list) or len(tracks) > TRACKS_MAX:
        raise BadListing(f"{where}: tracks is a list of at most {TRACKS_MAX}")
    made = tuple(_track(_object(each, f"{where}: a track"), where) for each in tracks)
    if len({track.id for track in made}) != len(made):
        raise BadListing(f"{where}: a track is there twice")
    return Stream(
        name,
        _text(told, "title", where, name),
        made,
        _flag(told, "on_demand", where),
        _flag(told, "per_viewer", where),
        _text(told, "problem", where, ""),
        _texts(told, "attributes", where),
    )


def _track(told: Mapping[str, object], where: str) -> Track:
    id, kind = _text(told, "id", where), _text(told, "kind", where)
    if not TRACK.fullmatch(id) or kind not in KINDS or not id.startswith(kind):
        raise BadListing(f"{where}: {id[:80]!r} is no track of {kind[:80]!r}")
    return Track(
        id,
        kind,
        _text(told, "codec", where),
        _number(told, "clock_rate", where, (1, CLOCK_RATE_MAX)),
        _number(told, "payload_type", where, (-1, 127), -1),
        _number(told, "channels", where, (1, CHANNELS_MAX), 1),
        _texts(told, "parameters", where),
        _number(told, "bits_per_second", where, (0, BITS_PER_SECOND_MAX), 0),
    )


def _object(told: object, what: str) -> Mapping[str, object]:
    if not isinstance(told, dict):
        raise BadListing(f"{what} is an object")
    return told


def _text(told: Mapping[str, object], key: str, where: str, absent: str | None = None) -> str:
    value = told.get(key, absent)
    if not isinstance(value, str):
        raise BadListing(f"{where}: {key} is a text")
    return value


def _flag(told: Mapping[str, object], key: str, where: str) -> bool:
    value = told.get(key, False)
    if not isinstance(value, bool):
        raise BadListing(f"{where}: {key} is true or false")
    return value


def _number(
    told: Mapping[str, object],
    key: str,
    where: str,
    limits: tuple[int, int],
    absent: int | None = None,
) -> int:
    least, most = limits
    value = told.get(key, absent)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadListing(f"{where}: {key} is a number from {least} to {most}")
    return value


def _texts(told: Mapping[str, object], key: str, where: str) -> Mapping[str, str]:
    value = told.get(key, {})
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise BadListing(f"{where}: {key} is an object of texts")
    return value
