"""Runs one pipeline: the one module that calls GStreamer.

Each track has one UDP socket, for RTP and RTCP both (RFC 5761); what comes back by it goes to
rtpbin, which makes a keyframe of a PLI (RFC 4585, 6.3.1) and sends reports once a second.
"""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gi  # type: ignore[import-not-found] # Debian's own Python has it, and no stubs

from callboard.media.streams import AUDIO, BITS_PER_SECOND_MAX, VIDEO, Track
from callboard.sidecar.pipeline import picture
from callboard.sidecar.pipeline.descriptions import BITRATES, CAMERA, INPUT, PAYLOADERS, PICTURE
from callboard.sidecar.pipeline.reordering import is_bidirectional, may_reorder

gi.require_version("Gst", "1.0")
gi.require_version("GstNet", "1.0")
from gi.repository import Gio, GLib, Gst, GstNet  # type: ignore[import-not-found] # noqa: E402 - versions first

Destination = tuple[str, str, int]
"""Track, host and port."""

TRACK_IDS = (VIDEO, *(f"{VIDEO}-{number}" for number in range(2, 10)), AUDIO)
FRAME_NS = 1_000_000_000 // picture.RATE
LATE_FRAMES = 5
"""A painter that is more behind leaves frames out."""
REPORT_NS = 1_000_000_000
"""Between two sender reports."""
JOIN_S = 2.0
SLICE_BYTES = 1024
"""Of a picture, looked at for its first slice."""
PREROLL_S = 5
SEND_BUFFER_BYTES = 1 << 20
QUALITIES = (4, 5)
"""What x264enc's `pass` is where it aims at a quality, whatever that takes."""
ENDED = "the source has ended"
NOTHING = (Gst.EventType.GAP, Gst.EventType.EOS, Gst.EventType.SEGMENT_DONE)
"""Say that a track has nothing for now."""
_KEYFRAME = (
    "GstForceKeyUnit, running-time=(guint64)18446744073709551615, all-headers=(boolean)true, "
    "count=(uint)0"
)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What packets of a track have to go on with, where they follow those of another pipeline."""

    ssrc: int
    sequence: int
    """Of the first packet."""
    timestamp: int
    """The same."""


class BadPipeline(ValueError):
    """A pipeline that cannot be made or does not start; the text says why."""


@dataclass
class Figures:
    """What passed one pipeline, or several, one after the other. Written by GStreamer's threads."""

    frames: dict[str, int] = field(default_factory=dict)
    """By track; of audio, packets of the encoder."""
    octets: dict[str, int] = field(default_factory=dict)
    keyframes: int = 0
    keyframe_requests: int = 0
    """PLI of gateways among them."""
    frame_at: dict[str, float] = field(default_factory=dict)
    """Of the last frame, by track: monotonic seconds."""

    def add(self, other: Figures) -> None:
        """What passed another."""
        for sums, counts in ((self.frames, other.frames), (self.octets, other.octets)):
            for track, count in tuple(counts.items()):
                sums[track] = sums.get(track, 0) + count
        self.keyframes += other.keyframes
        self.keyframe_requests += other.keyframe_requests


def start() -> None:
    """Load GStreamer. Raises BadPipeline."""
    done, _ = Gst.init_check(None)
    if not done:
        raise BadPipeline("GStreamer does not start")


def tracks_of(description: str) -> tuple[Track, ...]:
    """The tracks of a pipeline, by its payloaders named `video` and `audio`; renditions, the best
    first, are `video`, `video-2` and so on. Raises BadPipeline."""
    pipeline = _parse(description)
    found = []
    for id in TRACK_IDS:
        payloader = pipeline.get_by_name(id)
        if payloader is None:
            continue
        name = payloader.get_factory().get_name()
        kind, known = id.partition("-")[0], PAYLOADERS.get(name)
        if known is None or known.kind != kind:
            raise BadPipeline(f"element `{id}` is a {name}: a payloader of {kind} is wanted")
        payload_type, aim = payloader.get_property("pt"), _aim_of(payloader)
        found.append(
            dataclasses.replace(known, id=id, payload_type=payload_type, bits_per_second=aim)
        )
    if len({(track.kind, track.codec) for track in found}) > len({track.kind for track in found}):
        raise BadPipeline("renditions of one track are of one codec")
    if not found:
        raise BadPipeline("no element is named `video` or `audio`: the payloaders are to be")
    return tuple(found)


def _aim_of(payloader: Any) -> int:
    """How many bits a second the encoder before a payloader aims at; 0: there is none, or it is
    not known."""
    element = payloader
    while True:
        pad = element.get_static_pad("sink")
        peer = pad.get_peer() if pad is not None else None
        element = peer.get_parent_element() if peer is not None else None
        if element is None or element.get_factory() is None:
            return 0
        if "Encoder" in element.get_metadata("klass").split("/"):
            break
    name = element.get_factory().get_name()
    if name not in BITRATES or (name == "x264enc" and element.get_property("pass") in QUALITIES):
        return 0
    key, bits = BITRATES[name]
    return min(int(element.get_property(key)) * bits, BITS_PER_SECOND_MAX)


class Pipeline:
    """One pipeline, from `play` to `stop`; not used again."""

    def __init__(
        self,
        description: str,
        tracks: Iterable[Track],
        bind: str,
        *,
        paced: bool,
        looped: bool = False,
        position_s: float = 0.0,
        numbers: Mapping[str, Numbers] | None = None,
        sockets: Mapping[str, Any] | None = None,
        figures: Figures | None = None,
    ) -> None:
        """`bind` is the local IP address that is sent from. `paced`: packets wait for their time,
        as those of a file must. `looped`: it begins anew at its end. A file may begin at
        `position_s`: at the keyframe there or before. `numbers` and `sockets` (of `open_socket`,
        which stay open) by track are for what follows another pipeline; so are `figures`, that go
        on being counted. Raises BadPipeline."""
        self.figures = figures if figures is not None else Figures()
        self._looped = looped
        self._position_ns = round(position_s * 1e9)
        self._numbers = numbers or {}
        self._given = sockets or {}
        self._pipeline = _parse(description)
        self._bus = self._pipeline.get_bus()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._sinks: dict[str, tuple[Any, Any]] = {}
        self._sockets: list[Any] = []
        self._sent_to: frozenset[Destination] = frozenset()
        self._hosts: frozenset[str] = frozenset()
        self._painter: threading.Thread | None = None
        self.reordered = False
        """Pictures of H.264 have come in another order than they are shown."""
        self._length_bytes = 0
        """Before each NAL unit, where pictures may be reordered; 0: they are not looked at."""
        self.announced: list[tuple[str, str]] = []
        """Kind and codec of what a camera of the network offers."""
        self._resting: set[str] = set()
        """Tracks of a looped file that have nothing to bring now: they have ended in this pass.
        Written by GStreamer's threads, as the next."""
        self._rested_at: dict[str, float] = {}
        """When such a time was over."""
        self._rtpbin = _make("rtpbin")
        _set(self._rtpbin, "rtp-profile", "avpf")
        _set(self._rtpbin, "ntp-time-source", "ntp")
        self._rtpbin.set_property("rtcp-sync-send-time", False)
        self._pipeline.add(self._rtpbin)
        camera = self._pipeline.get_by_name(CAMERA)
        if camera is not None and camera.get_factory().get_name() == "rtspsrc":
            camera.connect("select-stream", self._is_announced)
        try:
            for number, track in enumerate(tracks):
                self._join(number, track, bind, paced)
        except BaseException:
            self._close()
            raise

    def play(self) -> None:
        """Begin. Raises BadPipeline."""
        begun = True
        if self._looped:
            begun = self._begin_by_seek(0, Gst.SeekFlags.SEGMENT)
        elif self._position_ns:
            where = Gst.SeekFlags.KEY_UNIT | Gst.SeekFlags.SNAP_BEFORE
            begun = self._begin_by_seek(self._position_ns, where)
        if (
            not begun
            or self._pipeline.set_state(Gst.State.PLAYING) == Gst.StateChangeReturn.FAILURE
        ):
            reason = self.poll(0.5) or "it does not start"
            self.stop()
            raise BadPipeline(reason)
        source = self._pipeline.get_by_name(PICTURE)
        if source is not None:
            self._painter = threading.Thread(target=self._paint, args=(source,), daemon=True)
            self._painter.start()

    def poll(self, timeout_s: float) -> str | None:
        """Why it has ended, waited for so long; None while it goes on."""
        wanted = Gst.MessageType.ERROR | Gst.MessageType.EOS | Gst.MessageType.SEGMENT_DONE
        message = self._bus.timed_pop_filtered(int(timeout_s * 1e9), wanted)
        if message is None:
            return ENDED if self._has_sent_all else None
        if message.type == Gst.MessageType.SEGMENT_DONE:
            return None if self._seek(Gst.SeekFlags.SEGMENT) else "it cannot begin anew"
        if message.type == Gst.MessageType.EOS:
            return ENDED
        error, detail = message.parse_error()
        where = message.src.get_name() if message.src is not None else ""
        said = (detail or "").strip().splitlines()
        return ": ".join(filter(None, (where, error.message, said[-1] if said else "")))[:500]

    @property
    def _has_sent_all(self) -> bool:
        """Whether all RTP is sent. The pipeline's own word of that waits for the sinks of RTCP,
        too, and rtpbin does not always end those: reports may come back at that moment."""
        pads = (sink.get_static_pad("sink") for sink, _ in self._sinks.values())
        return not self._looped and all(
            pad.get_sticky_event(Gst.EventType.EOS, 0) is not None for pad in pads
        )

    @property
    def frame_at(self) -> float:
        """When the last frame came, of whatever track; 0 before there is one."""
        return max((self.figures.frame_at.get(track, 0.0) for track in self._sinks), default=0.0)

    @property
    def brought_at(self) -> dict[str, float]:
        """When each track last brought a frame, or last had none to bring; 0: not yet."""
        now, frame_at, rested_at = time.monotonic(), self.figures.frame_at, self._rested_at
        return {
            track: now
            if track in self._resting
            else max(frame_at.get(track, 0.0), rested_at.get(track, 0.0))
            for track in self._sinks
        }

    def send_to(self, destinations: frozenset[Destination]) -> None:
        """Send there, and nowhere else, from now on."""
        with self._lock:
            added = destinations - self._sent_to
            for track, host, port in self._sent_to - destinations:
                for sink in self._sinks.get(track, ()):
                    sink.emit("remove", host, port)
            for track, host, port in added:
                for sink in self._sinks.get(track, ()):
                    sink.emit("add", host, port)
            self._sent_to = destinations
            self._hosts = frozenset(host for _, host, _ in destinations)
        for track in {track for track, _, _ in added}:
            self.ask_keyframe(track)

    def stop(self) -> None:
        """End, and close the ports; idempotent."""
        self._stopping.set()
        if self._painter is not None:
            self._painter.join(JOIN_S)
        self._close()

    @property
    def position_s(self) -> float | None:
        """How far a file has been sent, in its own time; None while that is not known."""
        known, position_ns = self._pipeline.query_position(Gst.Format.TIME)
        return position_ns / 1e9 if known else None

    def next_sequence(self, track: str) -> int:
        """The number of the packet that would follow."""
        return int(self._pipeline.get_by_name(track).get_property("seqnum")) + 1 & 0xFFFF

    def _begin_by_seek(self, position_ns: int, flags: Any) -> bool:
        """A segment (SEGMENT) ends without an end of the stream: what follows is joined to it
        without a gap. The first seek needs sinks that have something to show; the pipeline has
        sockets to read, too, which have not before it plays."""
        self._pipeline.set_state(Gst.State.PAUSED)
        for sink, _ in self._sinks.values():
            if sink.get_state(PREROLL_S * Gst.SECOND)[0] != Gst.StateChangeReturn.SUCCESS:
                return False
        return self._seek(flags | Gst.SeekFlags.FLUSH, position_ns)

    def _seek(self, flags: Any, position_ns: int = 0) -> bool:
        """To there, and then to the end. Asked of one track, it is done for all."""
        begin, end = Gst.SeekType.SET, Gst.SeekType.NONE
        seek = Gst.Event.new_seek(1.0, Gst.Format.TIME, flags, begin, position_ns, end, -1)
        payloader = self._pipeline.get_by_name(next(iter(self._sinks)))
        return bool(payloader.get_static_pad("src").send_event(seek))

    def _close(self) -> None:
        self._pipeline.set_state(Gst.State.NULL)
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    def _join(self, number: int, track: Track, bind: str, paced: bool) -> None:
        """From the payloader over rtpbin to the socket, and back."""
        payloader = self._pipeline.get_by_name(track.id)
        payloader.get_static_pad("sink").add_probe(
            Gst.PadProbeType.BUFFER | Gst.PadProbeType.BUFFER_LIST, self._passes, track.id
        )
        payloader.get_static_pad("sink").add_probe(Gst.PadProbeType.EVENT_UPSTREAM, self._upstream)
        if track.codec == "H264":
            payloader.get_static_pad("sink").add_probe(
                Gst.PadProbeType.EVENT_DOWNSTREAM, self._is_formed
            )
        entry = self._pipeline.get_by_name(f"{track.id}{INPUT}") if self._looped else None
        if entry is not None:
            looked_at = Gst.PadProbeType.EVENT_DOWNSTREAM | Gst.PadProbeType.BUFFER
            entry.get_static_pad("sink").add_probe(looked_at, self._is_read, track.id)
        numbers = self._numbers.get(track.id)
        if numbers is not None:
            payloader.set_property("ssrc", numbers.ssrc)
            payloader.set_property("seqnum-offset", numbers.sequence)
            payloader.set_property("timestamp-offset", numbers.timestamp)
        both = self._given.get(track.id)
        if both is None:
            both = open_socket(bind)
            self._sockets.append(both)
        sinks = []
        for sync in (paced, False):
            sink = _make("multiudpsink")
            name = "socket-v6" if ":" in bind else "socket"
            sink.set_property(name, both)
            for key, value in (
                ("close-socket", False), ("send-duplicates", False), ("auto-multicast", False),
                ("sync", sync), ("async", sync),
            ):  # fmt: skip
                sink.set_property(key, value)
            self._pipeline.add(sink)
            sinks.append(sink)
        source = _make("udpsrc")
        source.set_property("socket", both)
        source.set_property("close-socket", False)
        source.set_property("caps", Gst.Caps.from_string("application/x-rtcp"))
        source.get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, self._comes)
        self._pipeline.add(source)
        self._link(payloader, "src", self._rtpbin, f"send_rtp_sink_{number}")
        self._link(self._rtpbin, f"send_rtp_src_{number}", sinks[0], "sink")
        self._link(self._rtpbin, f"send_rtcp_src_{number}", sinks[1], "sink")
        self._link(source, "src", self._rtpbin, f"recv_rtcp_sink_{number}")
        session = self._rtpbin.emit("get-internal-session", number)
        session.set_property("rtcp-min-interval", REPORT_NS)
        self._sinks[track.id] = (sinks[0], sinks[1])

    def _link(self, source: Any, source_pad: str, sink: Any, sink_pad: str) -> None:
        if not source.link_pads(source_pad, sink, sink_pad):
            raise BadPipeline(f"{source.get_name()} and {sink.get_name()} do not fit together")

    def _passes(self, _pad: Any, info: Any, track: str) -> Any:
        """A frame, on its way to the payloader."""
        figures = self.figures
        buffer = info.get_buffer()
        if buffer is None:  # a list of buffers: of no encoder that is in use here
            buffer = info.get_buffer_list().get(0)
        figures.frames[track] = figures.frames.get(track, 0) + 1
        figures.octets[track] = figures.octets.get(track, 0) + buffer.get_size()
        figures.frame_at[track] = time.monotonic()
        if track.startswith(VIDEO) and not buffer.has_flags(Gst.BufferFlags.DELTA_UNIT):
            figures.keyframes += 1
        elif self._length_bytes and not self.reordered and track.startswith(VIDEO):
            begin = buffer.extract_dup(0, min(SLICE_BYTES, buffer.get_size()))
            self.reordered = is_bidirectional(begin, self._length_bytes)
        return Gst.PadProbeReturn.OK

    def _is_read(self, _pad: Any, info: Any, track: str) -> Any:
        """Of a file: something of a track, or that there is nothing now. Looked at where it comes
        from the file: a decoder keeps the word of a gap until something follows."""
        if info.type & Gst.PadProbeType.BUFFER:
            if track in self._resting:
                self._rested_at[track] = time.monotonic()
                self._resting.discard(track)
        elif info.get_event().type in NOTHING:
            self._resting.add(track)
        return Gst.PadProbeReturn.OK

    def _is_formed(self, _pad: Any, info: Any) -> Any:
        """How H.264 comes. A parameter set that does not say whether pictures are reordered is
        common with cameras: theirs are looked at."""
        event = info.get_event()
        if event.type == Gst.EventType.CAPS:
            data = event.parse_caps().get_structure(0).get_value("codec_data")
            told = data.extract_dup(0, data.get_size()) if data is not None else b""
            self._length_bytes = (told[4] & 3) + 1 if len(told) > 4 and may_reorder(told) else 0
        return Gst.PadProbeReturn.OK

    def _is_announced(self, _source: Any, _number: int, caps: Any) -> bool:
        """A track that a camera offers; nothing changes by that."""
        offered = caps.get_structure(0)
        kind, codec = offered.get_string("media"), offered.get_string("encoding-name")
        self.announced.append((kind or "", (codec or "").upper()))
        return True

    def _upstream(self, _pad: Any, info: Any) -> Any:
        structure = info.get_event().get_structure()
        if structure is not None and structure.get_name() == "GstForceKeyUnit":
            self.figures.keyframe_requests += 1
        return Gst.PadProbeReturn.OK

    def _comes(self, _pad: Any, info: Any) -> Any:
        """A packet that comes in: only those of whom we send to are read."""
        meta = GstNet.buffer_get_net_address_meta(info.get_buffer())
        host = meta.addr.get_address().to_string() if meta is not None else ""
        if host.removeprefix("::ffff:") not in self._hosts:  # (IPv4 at a socket of IPv6)
            return Gst.PadProbeReturn.DROP
        return Gst.PadProbeReturn.OK

    def ask_keyframe(self, track: str = VIDEO) -> None:
        """Have the encoder make the next picture one."""
        payloader = self._pipeline.get_by_name(track)
        if payloader is None or not track.startswith(VIDEO):
            return
        structure, _ = Gst.Structure.from_string(_KEYFRAME)
        event = Gst.Event.new_custom(Gst.EventType.CUSTOM_UPSTREAM, structure)
        payloader.get_static_pad("src").send_event(event)

    def _paint(self, source: Any) -> None:
        """Push the test pattern's frames, each at its time."""
        self._pipeline.get_state(2 * Gst.SECOND)
        clock = self._pipeline.get_clock()
        if clock is None:
            return
        base = self._pipeline.get_base_time()
        number = max(0, (clock.get_time() - base) // FRAME_NS + 1)
        while not self._stopping.wait(max(0, base + number * FRAME_NS - clock.get_time()) / 1e9):
            late = (clock.get_time() - base) // FRAME_NS - number
            if late > LATE_FRAMES:
                number += late
            buffer = Gst.Buffer.new_wrapped(picture.frame(number, time.time_ns() // 1_000_000))
            buffer.pts, buffer.duration = number * FRAME_NS, FRAME_NS
            if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                return
            number += 1


def _parse(description: str) -> Any:
    try:
        made = Gst.parse_launch(description)
    except GLib.Error as problem:
        raise BadPipeline(problem.message) from None
    if not isinstance(made, Gst.Pipeline):
        whole = Gst.Pipeline.new(None)
        whole.add(made)
        return whole
    return made


def _make(factory: str) -> Any:
    made = Gst.ElementFactory.make(factory, None)
    if made is None:
        raise BadPipeline(f"GStreamer has no element {factory} here")
    return made


def _set(element: Any, name: str, value: str) -> None:
    Gst.util_set_object_arg(element, name, value)


def open_socket(bind: str) -> Any:
    """A socket to send from; to be closed. Raises BadPipeline."""
    family = Gio.SocketFamily.IPV6 if ":" in bind else Gio.SocketFamily.IPV4
    try:
        made = Gio.Socket.new(family, Gio.SocketType.DATAGRAM, Gio.SocketProtocol.UDP)
        made.bind(Gio.InetSocketAddress.new_from_string(bind, 0), False)
        made.set_option(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    except GLib.Error as problem:
        raise BadPipeline(f"no port at {bind}: {problem.message}") from None
    return made
