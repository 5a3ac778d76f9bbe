"""What is in a file of media, and the pipeline that sends it: as it is where browsers take that,
else encoded anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gi  # type: ignore[import-not-found] # Debian's own Python has it, and no stubs

from callboard.sidecar.pipeline.descriptions import DEMUXERS, file_pipeline
from callboard.sidecar.pipeline.reordering import may_reorder
from callboard.sidecar.pipeline.running import BadPipeline

gi.require_version("Gst", "1.0")
gi.require_version("GstPbutils", "1.0")
from gi.repository import GLib, Gst, GstPbutils  # type: ignore[import-not-found] # noqa: E402 - versions first

LOOK_S = 5
"""For reading a file's head."""
H264 = "video/x-h264"


@dataclass(frozen=True, slots=True)
class File:
    """A file that can be played."""

    launch: str
    duration_s: float
    """0: not known."""


def describe_file(path: Path) -> File:
    """What plays a file. Raises BadPipeline, with the reason: it is shown to everybody who may list
    streams, so it names the file, not where it lies."""
    try:
        found = GstPbutils.Discoverer.new(LOOK_S * Gst.SECOND).discover_uri(path.as_uri())
    except GLib.Error as problem:
        why = problem.message.replace(path.as_uri(), path.name).replace(str(path), path.name)
        raise BadPipeline(f"{path.name}: {why}") from None
    container = _type(found.get_stream_info())
    if container not in DEMUXERS:
        raise BadPipeline(f"{path.name} is {container}: WebM, Matroska and MP4 are played")
    streams = [*found.get_video_streams()[:1], *found.get_audio_streams()[:1]]
    if not streams:
        raise BadPipeline(f"{path.name} has neither picture nor sound")
    missing = found.get_missing_elements_installer_details()
    if missing:
        names = ", ".join(each.split("|")[3] for each in missing if each.count("|") >= 3)
        raise BadPipeline(f"{path.name}: GStreamer has no {names} here")
    codecs = [(_type(stream), _reorders(stream)) for stream in streams]
    return File(file_pipeline(str(path), container, codecs), found.get_duration() / 1e9)


def _reorders(stream: Any) -> bool:
    """Whether pictures may come in another order than they are shown."""
    caps = stream.get_caps()
    if _type(stream) != H264:
        return False
    data = caps.get_structure(0).get_value("codec_data")
    return data is None or may_reorder(data.extract_dup(0, data.get_size()))


def _type(stream: Any) -> str:
    """The media type of a stream: "video/x-vp8"."""
    caps = stream.get_caps()
    return str(caps.get_structure(0).get_name()) if caps is not None and caps.get_size() else "?"
