"""The streams of a sidecar, as a file describes them (-streams FILE). Pure but for `load`.

[[streams]]
name = "test-pattern"
title = "Opus/VP8 live stream coming from gstreamer"
source = "test"

[[streams]]
name = "camera"
source = "launch"
launch = "v4l2src ! … ! rtpvp8pay name=video pt=96"
on_demand = true
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from callboard.media.streams import NAME, TITLE_LENGTH_MAX
from callboard.sidecar.pipeline import descriptions

FILE_BYTES_MAX = 1 << 20
STREAMS_MAX = 64
LAUNCH_LENGTH_MAX = 8192

TEST, LAUNCH, FILE, RTSP, CAMERA = "test", "launch", "file", "rtsp", "camera"
TEST_TITLE = "Opus/VP8 live stream coming from gstreamer"
_KEYS = {
    "name": str, "title": str, "source": str, "on_demand": bool,
    "launch": str, "paced": bool, "path": str, "per_viewer": bool,
    "url": str, "video": str, "audio": str, "device": str,
}  # fmt: skip
_KEYS_OF: dict[str, tuple[str, ...]] = {
    TEST: (),
    LAUNCH: ("launch", "paced"),
    FILE: ("path", "per_viewer"),
    RTSP: ("url", "video", "audio"),
    CAMERA: ("device",),
}


_COMMON = {"name", "title", "source", "on_demand"}


class BadStreams(ValueError):
    """A file that describes no streams; the text says where it is wrong."""


@dataclass(frozen=True, slots=True)
class Source:
    """One stream, and what it is made of."""

    name: str
    title: str
    launch: str = field(repr=False)
    """A pipeline as gst-launch writes it, with payloaders named `video` and `audio`."""
    on_demand: bool = False
    paced: bool = True
    """Packets wait for their time. A source that is live needs not."""
    path: Path | None = None
    """A file that is played, instead of `launch`: over and over."""
    per_viewer: bool = False
    """It is played once for each viewer, from its beginning."""
    camera: descriptions.NetworkCamera | None = None
    """What `launch` asks, of a camera of the network."""


DEFAULT = (Source("test-pattern", TEST_TITLE, descriptions.TEST, paced=False),)
"""Without a file."""


def load(path: Path) -> tuple[Source, ...]:
    """The streams of a file; paths in it are relative to it. Raises BadStreams, OSError."""
    with path.open("rb") as file:
        text = file.read(FILE_BYTES_MAX + 1)
    return parse(text, path.absolute().parent)


def parse(text: bytes, folder: Path = Path("/")) -> tuple[Source, ...]:
    """The same of its bytes. Raises BadStreams."""
    if len(text) > FILE_BYTES_MAX:
        raise BadStreams(f"more than {FILE_BYTES_MAX} octets")
    try:
        told = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as problem:
        raise BadStreams(str(problem)) from None
    unknown = sorted(set(told) - {"streams"})
    if unknown:
        raise BadStreams(f"unknown key {unknown[0][:80]!r}: streams is the only one")
    streams = told.get("streams", [])
    if not isinstance(streams, list) or not all(isinstance(each, dict) for each in streams):
        raise BadStreams("[[streams]] is wanted, once for each stream")
    if len(streams) > STREAMS_MAX:
        raise BadStreams(f"more than {STREAMS_MAX} streams")
    made = [_source(each, folder) for each in streams]
    names = [each.name for each in made]
    for name in names:
        if names.count(name) > 1:
            raise BadStreams(f"stream {name} is there twice")
    return tuple(made)


def _source(told: dict[str, object], folder: Path) -> Source:
    name = told.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise BadStreams(f"{str(name)[:80]!r} is no name of a stream: letters, digits and -_. are")
    for key, value in told.items():
        if key not in _KEYS:
            raise BadStreams(f"stream {name}: unknown key {key[:80]!r}")
        if not isinstance(value, _KEYS[key]):
            raise BadStreams(f"stream {name}: {key} is not of type {_KEYS[key].__name__}")
    title = str(told.get("title", name))
    if not 0 < len(title) <= TITLE_LENGTH_MAX:
        raise BadStreams(f"stream {name}: a title has 1 to {TITLE_LENGTH_MAX} characters")
    source, on_demand = told.get("source"), bool(told.get("on_demand", False))
    if source not in _KEYS_OF:
        raise BadStreams(f"stream {name}: source is {', '.join(map(repr, _KEYS_OF))}")
    for key in sorted({*_KEYS} - _COMMON):
        if key in told and key not in _KEYS_OF[str(source)]:
            raise BadStreams(f"stream {name}: {key} is not for source = {source!r}")
    if source == TEST:
        return Source(name, title, descriptions.TEST, on_demand, paced=False)
    if source == RTSP:
        seen = _rtsp(name, told)
        return Source(name, title, seen.launch(), on_demand, paced=False, camera=seen)
    if source == CAMERA:
        device = str(told.get("device", "/dev/video0"))
        return Source(name, title, descriptions.camera_pipeline(device), on_demand, paced=False)
    if source == FILE:
        path = str(told.get("path", ""))
        if not path or "\0" in path:
            raise BadStreams(f"stream {name}: path is that of a file")
        per_viewer = bool(told.get("per_viewer", False))
        if per_viewer and on_demand:
            raise BadStreams(f"stream {name}: what is per_viewer is on demand by itself")
        return Source(name, title, "", on_demand, path=folder / path, per_viewer=per_viewer)
    launch = str(told.get("launch", ""))
    if not launch.strip() or len(launch) > LAUNCH_LENGTH_MAX:
        raise BadStreams(f"stream {name}: launch is a pipeline of at most {LAUNCH_LENGTH_MAX}")
    return Source(name, title, launch, on_demand, paced=bool(told.get("paced", True)))


def _rtsp(name: str, told: dict[str, object]) -> descriptions.NetworkCamera:
    url = str(told.get("url", ""))
    if not url.startswith(("rtsp://", "rtsps://")):
        raise BadStreams(f"stream {name}: url begins with rtsp:// or rtsps://")
    video, audio = str(told.get("video", "H264")).upper(), str(told.get("audio", "")).upper()
    for key, codec, known in (
        ("video", video, descriptions.CAMERA_VIDEO),
        ("audio", audio, descriptions.CAMERA_AUDIO),
    ):
        if codec and codec not in known:
            raise BadStreams(f"stream {name}: {key} is one of {', '.join(known)}")
    return descriptions.NetworkCamera(url, video, audio)
