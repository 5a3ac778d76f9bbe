"""The streams that run: what comes in from a source, and who watches.

What a source does (a sidecar's, a port's, a publisher's):

    live = streams.open(description, source="sidecar-1")     # raises StreamTaken
    live.on_keyframe_wanted = lambda track: …                # send a PLI for that track
    live.on_wanted = lambda wanted: …                        # the first viewer came, the last left
    live.take("video", data, now)                            # each packet of RTP; `flush`, if more
    live.take_rtcp("video", data, now)                       # each compound packet of RTCP
    live.offline("the sidecar has ended it", now)            # at once, not after 2 s of silence
    streams.close(live, "the sidecar has gone")

A stream that falls silent, or is closed, keeps its viewers for a while: the same source, or another
one that opens it with the same tracks, goes on in place. Media for a file is made for one viewer
alone, by `streams.offer(description, open)`: `open` is called for each. Everything here happens on
the event loop; times are the loop's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from callboard.gateway.film import Film
from callboard.gateway.ports import Fanout, Group
from callboard.gateway.sdp.codecs import AUDIO, VIDEO, Codec, parameter_sets
from callboard.gateway.stream.formats import format_of
from callboard.gateway.stream.ingest import ANY_PAYLOAD_TYPE
from callboard.gateway.stream.names import NAME_LENGTH_MAX, check_name
from callboard.gateway.stream.packet import Packet
from callboard.gateway.stream.track import Track

log = logging.getLogger(__name__)

OFFLINE_AFTER_S = 2.0
"""Without a packet of RTP on any track."""
KEPT_S = 30.0
"""For so long a stream that was closed keeps its viewers, for another source to go on."""
BITRATE_INTERVAL_S = 2.0
"""Between two times that listeners are told of a stream's rate."""
TOGETHER_MAX = 16
"""Packets of a track that wait for others of the same moment."""
STREAMS_MAX = 256


class StreamTaken(ValueError):
    """Another source has the stream; or there are too many streams."""


class NotPlayable(ValueError):
    """There is no such stream, or it cannot be watched; the text says why."""


@dataclass(frozen=True, slots=True)
class TrackDescription:
    """One track of a stream. Several of one kind are renditions of it, the best first: they have
    the same codec, and a viewer gets one of them at a time."""

    id: str
    """As the source calls it: `video`, `video-low`, `audio`."""
    codec: Codec
    payload_type: int = -1
    """What the source sends; -1: any."""


@dataclass(frozen=True, slots=True)
class StreamDescription:
    """What a stream is, before anything of it has come."""

    name: str
    """In paths: see `check_name`."""
    title: str
    tracks: tuple[TrackDescription, ...]
    on_demand: bool = False
    """The source sends only while somebody watches: a viewer is taken before there is media."""
    problem: str = ""
    """Why it cannot be played; "" if it can."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """More that a list may show: kind of source, picture size, …"""

    def renditions(self, kind: str) -> list[TrackDescription]:
        """The tracks of a kind, the best first."""
        return [track for track in self.tracks if track.codec.kind == kind]

    def codec(self, kind: str) -> Codec | None:
        """What the tracks of a kind are encoded with; None if there are none."""
        return next((track.codec for track in self.renditions(kind)), None)


class Change(Enum):
    """What listeners are told of a stream."""

    OPENED = "opened"
    """It is on the list; nothing may have come yet."""
    UP = "up"
    """Media comes."""
    DOWN = "down"
    """It does not any more; `reason` says why."""
    CLOSED = "closed"
    """It is off the list."""
    VIEWERS = "viewers"
    KEYFRAME = "keyframe"
    BITRATE = "bitrate"
    """It may have changed."""


Listener = Callable[["LiveStream", Change], None]
"""To be quick: it is called between two packets."""


class Watcher(Protocol):
    """A viewer, as its stream sees it."""

    def end(self, reason: str) -> None:
        """The stream is over for it."""


class LiveTrack:
    """One rendition of a track: its packets, and the legs that they go to."""

    def __init__(self, description: TrackDescription, track: Track, group: Group) -> None:
        self.description = description
        self.track = track
        self.group = group
        self.waiting: list[Packet] = []
        """To be sent with others that came at the same moment."""
        self.packets = 0
        """Taken from the source."""
        self.octets = 0
        """Of those, headers included."""

    @property
    def kind(self) -> str:
        """AUDIO or VIDEO."""
        return self.description.codec.kind


def _ignore(told: object) -> None:
    """For a source that does not listen."""


def _nobody(track: str) -> bool:
    """Likewise: a request for a keyframe was not sent."""
    return False


class LiveStream:
    """One stream that a source has opened. Made by `Streams.open`."""

    def __init__(
        self,
        description: StreamDescription,
        source: str,
        tracks: Mapping[str, LiveTrack],
        tell: Listener,
    ) -> None:
        self.description = description
        self.source = source
        """Whose it is; "" once it is closed."""
        self.tracks = dict(tracks)
        self.viewers: set[Watcher] = set()
        self.online = False
        """Media comes."""
        self.reason = "nothing has come yet"
        """Why it is not online."""
        self.keyframes = 0
        """Of all renditions, since it was opened."""
        self.heard_at = float("-inf")
        """When the last packet of RTP came."""
        self.closed_at: float | None = None
        self.personal = False
        """For one viewer alone, and not on the list."""
        self.film: Film | None = None
        """What plays it, if that can be told to pause."""
        self.on_keyframe_wanted: Callable[[str], bool | None] = _nobody
        """Called with a track's id, no more often than the track lets it, and again while none
        comes; False: nobody could be asked."""
        self.on_wanted: Callable[[bool], None] = _ignore
        """Called with True when the first viewer has come, with False when the last has left."""
        self._tell = tell

    # ------------------------------------------------------------------ what the source does

    def take(self, track_id: str, data: bytes, now: float, *, more: bool = False) -> None:
        """Take a packet of RTP, as it came; what is none is counted. `more`: others of this moment
        follow at once, and then `flush`: what becomes of them goes out together."""
        live = self.tracks.get(track_id)
        if live is None:
            return
        live.packets += 1
        live.octets += len(data)
        packets = live.track.take(data, now)
        if not packets and live.track.presence.last_seen != now:  # (what is withheld has come)
            return
        self.heard_at = now
        if not self.online:
            self._up(now)
        if packets:
            live.waiting += packets
            if not more or len(live.waiting) >= TOGETHER_MAX:
                self._send(live)
        for packet in packets:
            if packet.keyframe and live.kind == VIDEO:
                self.keyframes += 1
                self._tell(self, Change.KEYFRAME)
        self._ask_if_due(live, now)  # (the next tick may be far)

    def flush(self) -> None:
        """Send what was taken with `more`."""
        for live in filter(lambda each: each.waiting, self.tracks.values()):
            self._send(live)

    def take_rtcp(self, track_id: str, data: bytes, now: float) -> None:
        """Take a compound packet of the source's RTCP: its sender reports, its good-bye."""
        live = self.tracks.get(track_id)
        if live is not None and live.track.take_rtcp(data, now):
            self.offline("the source has said good-bye", now)

    def offline(self, reason: str, now: float) -> None:
        """Nothing more comes for now. Viewers stay."""
        if self.online:
            self.online = False
            self.reason = reason
            log.info("a stream is offline", extra={"stream": self.name, "reason": reason})
            self._tell(self, Change.DOWN)
        else:
            self.reason = reason

    # ------------------------------------------------------------------ what viewers do

    @property
    def name(self) -> str:
        """See StreamDescription."""
        return self.description.name

    @property
    def octets(self) -> int:
        """Of RTP, all tracks."""
        return sum(live.octets for live in self.tracks.values())

    def bits_per_second(self, now: float) -> int:
        """Of all tracks, over the last two seconds."""
        return round(sum(live.track.bits_per_s(now) for live in self.tracks.values()))

    def renditions(self, kind: str) -> list[LiveTrack]:
        """The tracks of a kind, the best first."""
        return [live for live in self.tracks.values() if live.kind == kind]

    def want_keyframe(self, live: LiveTrack, now: float) -> None:
        """A viewer cannot go on without a keyframe: the source is asked, if it is not too soon."""
        if live.track.wants_keyframe(now):
            self._ask(live, now)

    def join(self, viewer: Watcher) -> None:
        """A viewer comes."""
        self.viewers.add(viewer)
        if len(self.viewers) == 1:
            self.on_wanted(True)
        self._tell(self, Change.VIEWERS)

    def leave(self, viewer: Watcher) -> None:
        """A viewer goes; idempotent."""
        if viewer in self.viewers:
            self.viewers.discard(viewer)
            if not self.viewers:
                self.on_wanted(False)
            self._tell(self, Change.VIEWERS)

    def tick(self, now: float) -> None:
        """Who is silent is offline; wishes for keyframes that had to wait are due."""
        if self.online and now - self.heard_at > OFFLINE_AFTER_S:
            self.offline(f"nothing came for {OFFLINE_AFTER_S:g} s", now)
        for live in self.tracks.values():
            self._ask_if_due(live, now)

    def tell(self, change: Change) -> None:
        """Tell the listeners."""
        self._tell(self, change)

    def _send(self, live: LiveTrack) -> None:
        packets, live.waiting = live.waiting, []
        live.group.send(*packets)

    def _ask_if_due(self, live: LiveTrack, now: float) -> None:
        if live.track.keyframe_due(now):
            self._ask(live, now)

    def _ask(self, live: LiveTrack, now: float) -> None:
        if self.on_keyframe_wanted(live.description.id) is not False:
            live.track.keyframe_asked(now)

    def _up(self, now: float) -> None:
        self.online, self.reason = True, ""
        log.info("a stream is online", extra={"stream": self.name, "source": self.source})
        self._tell(self, Change.UP)


Opener = Callable[[StreamDescription], Awaitable[LiveStream]]


class Streams:
    """All streams."""

    def __init__(self, fanout: Fanout, *, streams_max: int = STREAMS_MAX) -> None:
        self._fanout = fanout
        self._streams_max = streams_max
        self._live: dict[str, LiveStream] = {}
        self._offered: dict[str, tuple[StreamDescription, Opener]] = {}
        self._personal: set[LiveStream] = set()
        self._listeners: list[Listener] = []
        self._told_bitrate_at = float("-inf")

    # ------------------------------------------------------------------ what sources do

    def open(self, description: StreamDescription, source: str) -> LiveStream:
        """Open a stream: it is on the list from now on. One that is there already and has lost its
        source goes on with its viewers, if the tracks are the same; else they are sent away, to
        come back. Raises StreamTaken; ValueError for a name that is none, or a codec that cannot be
        passed on."""
        check_name(description.name)
        name = description.name
        old = self._live.get(name)
        if old is not None and old.source and old.source != source:
            raise StreamTaken(f"stream {name} is sent by {old.source}")
        if name in self._offered or (old is None and self._is_full()):
            raise StreamTaken(
                f"stream {name} is offered already" if name in self._offered else "too many streams"
            )
        if old is not None:
            if old.description.tracks == description.tracks:
                old.description, old.source, old.closed_at = description, source, None
                old.tell(Change.OPENED)
                if old.viewers:
                    old.on_wanted(True)
                return old
            self._remove(old, "the stream has other tracks now")
        live = self._live[name] = self._make(description, source)
        live.tell(Change.OPENED)
        return live

    def open_personal(self, description: StreamDescription, source: str) -> LiveStream:
        """Open a stream for one viewer alone: what an opener of `offer` gives. It is closed by the
        source, when `on_wanted(False)` is called."""
        check_name(description.name)
        if self._is_full():
            raise StreamTaken("too many streams")
        live = self._make(description, source)
        live.personal = True
        self._personal.add(live)
        return live

    def offer(self, description: StreamDescription, open: Opener) -> None:
        """List a stream that is made anew for each viewer, by `open`."""
        check_name(description.name)
        if description.name in self._live:
            raise StreamTaken(f"stream {description.name} is there already")
        if description.name not in self._offered and self._is_full():
            raise StreamTaken("too many streams")
        self._offered[description.name] = (description, open)

    def withdraw(self, name: str) -> None:
        """Take an offer back; who watches is not disturbed."""
        self._offered.pop(name, None)

    def close(self, live: LiveStream, reason: str, now: float) -> None:
        """The source has gone. Viewers stay for KEPT_S; nobody new is let in meanwhile. Idempotent;
        for a stream that another source has taken over it does nothing."""
        if live in self._personal:
            self._personal.discard(live)
            live.offline(reason, now)
            _end_viewers(live, reason)
        elif self._live.get(live.name) is live and live.closed_at is None:
            live.source, live.closed_at = "", now
            live.on_keyframe_wanted, live.on_wanted = _nobody, _ignore
            live.offline(reason, now)
            if not live.viewers:
                self._remove(live, reason)

    # ------------------------------------------------------------------ what viewers do

    async def watch(self, name: str) -> LiveStream:
        """The stream for a new viewer, who then joins it. Raises NotPlayable; what an opener
        raises (ConnectionError, TimeoutError, StreamTaken) goes through."""
        offered = self._offered.get(name)
        if offered is not None:
            description, opener = offered
            if description.problem:
                raise NotPlayable(description.problem)
            return await opener(description)
        live = self._live.get(name)
        if live is None:
            raise NotPlayable(f"there is no stream {name}")
        if live.description.problem:
            raise NotPlayable(live.description.problem)
        return live

    def find(self, name: str) -> LiveStream | None:
        """A stream that is open (not one that is only offered)."""
        return self._live.get(name)

    def describe(self, name: str) -> StreamDescription | None:
        """What a stream is, opened or offered."""
        live, offered = self._live.get(name), self._offered.get(name)
        if live is not None:
            return live.description
        return offered[0] if offered is not None else None

    def __iter__(self) -> Iterator[LiveStream]:
        """The open ones that are on the list, by name."""
        return iter(sorted(self._live.values(), key=lambda live: live.name))

    def offered(self) -> Sequence[StreamDescription]:
        """Those that are made anew for each viewer, by name."""
        return [self._offered[name][0] for name in sorted(self._offered)]

    def personal(self, name: str) -> Sequence[LiveStream]:
        """Those that were made for viewers of an offered one."""
        return [live for live in self._personal if live.name == name]

    @property
    def viewers(self) -> int:
        """Of all streams."""
        return sum(len(live.viewers) for live in (*self._live.values(), *self._personal))

    # ------------------------------------------------------------------ time

    def listen(self, listener: Listener) -> None:
        """Be told of changes, from now on."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """Be told no more."""
        self._listeners.remove(listener)

    def tick(self, now: float) -> None:
        """To be called a few times a second: who is silent is offline, who is gone is removed."""
        for live in (*self._live.values(), *self._personal):
            live.tick(now)
            closed = live.closed_at
            if closed is not None and (not live.viewers or now - closed > KEPT_S):
                self._remove(live, live.reason)
        if now - self._told_bitrate_at >= BITRATE_INTERVAL_S:
            self._told_bitrate_at = now
            for live in tuple(self._live.values()):
                if live.online:
                    live.tell(Change.BITRATE)

    # ------------------------------------------------------------------ private

    def _is_full(self) -> bool:
        return len(self._live) + len(self._offered) + len(self._personal) >= self._streams_max

    def _make(self, description: StreamDescription, source: str) -> LiveStream:
        tracks = {
            each.id: LiveTrack(each, make_track(each), self._fanout.group())
            for each in (() if description.problem else description.tracks)
        }
        return LiveStream(description, source, tracks, self._told)

    def _told(self, live: LiveStream, change: Change) -> None:
        for listener in tuple(self._listeners):
            listener(live, change)

    def _remove(self, live: LiveStream, reason: str) -> None:
        if self._live.get(live.name) is live:
            del self._live[live.name]
        _end_viewers(live, reason)
        live.tell(Change.CLOSED)


def _end_viewers(live: LiveStream, reason: str) -> None:
    for viewer in tuple(live.viewers):
        viewer.end(reason)
    live.viewers.clear()


def make_track(description: TrackDescription) -> Track:
    """The stream core of a track. Raises ValueError for video that cannot be passed on."""
    codec = description.codec
    video = codec.kind == VIDEO
    format = format_of(codec.name, codec.clock_rate, is_video=video, channels=codec.channels)
    payload_type = ANY_PAYLOAD_TYPE if description.payload_type < 0 else description.payload_type
    return Track(format, payload_type=payload_type, parameter_sets=parameter_sets(codec))


__all__ = [
    "AUDIO", "NAME_LENGTH_MAX", "VIDEO", "Change", "LiveStream", "LiveTrack", "NotPlayable",
    "Opener", "StreamDescription", "StreamTaken", "Streams", "TrackDescription", "Watcher",
    "check_name",
]  # fmt: skip
