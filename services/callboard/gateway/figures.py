"""What the gateway counts, for /metrics.

What goes out is counted by each viewer's legs, which go with the viewer: they are looked at every
few seconds, and what a viewer got after the last look is missing in the sums.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from callboard.chassis.metrics import Labels, Metrics
from callboard.gateway.announcing.announcer import Announcer
from callboard.gateway.live import Change, LiveStream, LiveTrack, Streams
from callboard.gateway.mux.counters import MediaCounters
from callboard.gateway.session.publisher import Publisher
from callboard.gateway.session.sessions import Sessions
from callboard.gateway.session.viewer import Viewer
from callboard.gateway.sources.opening import Sources

LOOK_S = 2.0
SENT = ("packets", "octets", "dropped", "resent", "not_resent", "keyframes_wanted")
"""Of what a viewer's statistics tell of each track."""


class Figures:
    """Reads the others; `follow` is its task."""

    def __init__(
        self,
        streams: Streams,
        sessions: Sessions,
        sources: Sources,
        announcer: Announcer,
        media: MediaCounters,
    ) -> None:
        self._streams = streams
        self._sessions = sessions
        self._sources = sources
        self._announcer = announcer
        self._media = media
        self._sent: Counter[str] = Counter()
        self._seen: dict[str, Counter[str]] = {}
        """Of each viewer that is there: what it got until the last look."""
        self._watching: dict[LiveStream, int] = {}
        self._joins = 0
        streams.listen(self._changed)

    async def follow(self) -> None:
        """Look at what viewers got, again and again."""
        while True:
            self.look(asyncio.get_running_loop().time())
            await asyncio.sleep(LOOK_S)

    def look(self, now: float) -> None:
        """Add what viewers got since the last look."""
        seen: dict[str, Counter[str]] = {}
        for session in self._sessions.each():
            if isinstance(session, Viewer):
                got = seen[session.id] = _got(session, now)
                self._sent += got - self._seen.get(session.id, Counter())
        self._seen = seen

    def register(self, metrics: Metrics) -> None:
        """Have /metrics tell."""
        self._register_streams(metrics)
        self._register_viewers(metrics)
        self._register_transport(metrics)
        announcer = self._announcer
        metrics.read_counter(
            "callboard_gateway_events_published_total",
            "Media events that a hub took.",
            lambda: float(announcer.published),
        )
        metrics.read_counter(
            "callboard_gateway_events_dropped_total",
            "Media events that no hub was told, by reason.",
            lambda: _labelled(announcer.dropped),
            ("reason",),
        )

    def _register_streams(self, metrics: Metrics) -> None:
        metrics.read_gauge(
            "callboard_gateway_streams", "Streams on the list, by state.", self._states, ("state",)
        )
        for name, help, read in (
            ("received_packets", "Packets of RTP from the source.", lambda it: it.packets),
            ("received_bytes", "Octets of RTP from the source.", lambda it: it.octets),
            ("keyframes", "Keyframes from the source.", _keyframes),
            (
                "keyframe_requests",
                "Keyframes that the source was asked for.",
                lambda it: it.track.requests.sent,
            ),
        ):
            metrics.read_counter(
                f"callboard_gateway_{name}_total",
                help,
                self._by_track(read),
                ("stream", "track"),
            )
        metrics.read_counter(
            "callboard_gateway_received_lost_total",
            "Packets of RTP that did not come, and are too old to be sent again.",
            self._by_track(lambda it: it.track.given_up()),
            ("stream", "track"),
        )
        metrics.read_counter(
            "callboard_gateway_received_dropped_total",
            "Packets of RTP that were not passed on, by reason.",
            self._not_passed_on,
            ("stream", "track", "reason"),
        )
        metrics.read_counter(
            "callboard_gateway_refused_packets_total",
            "Packets that ports of RTP refused, by reason.",
            lambda: _labelled(self._sources.refused()),
            ("reason",),
        )
        metrics.read_gauge(
            "callboard_gateway_sidecars",
            "Sidecars that answer.",
            lambda: float(self._sources.sidecars.answering if self._sources.sidecars else 0),
        )

    def _register_viewers(self, metrics: Metrics) -> None:
        sessions = self._sessions
        metrics.read_gauge(
            "callboard_gateway_viewers", "Viewers, by stream.", self._viewers, ("stream",)
        )
        metrics.read_gauge(
            "callboard_gateway_publishers",
            "Publishers.",
            lambda: float(sum(isinstance(each, Publisher) for each in sessions.each())),
        )
        metrics.read_counter(
            "callboard_gateway_joins_total", "Viewers who came.", lambda: float(self._joins)
        )
        metrics.read_counter(
            "callboard_gateway_refused_sessions_total",
            "Viewers and publishers who were one too many.",
            lambda: float(sessions.refused),
        )
        for key, name, help in (
            ("packets", "sent_packets", "Packets of RTP to viewers."),
            ("octets", "sent_bytes", "Octets of payload to viewers."),
            ("dropped", "sent_dropped", "Packets to viewers that found no room or no way."),
            ("resent", "resent_packets", "Packets that viewers missed and were sent again."),
            ("not_resent", "not_resent_packets", "Those that could not be sent again."),
            ("keyframes_wanted", "keyframes_wanted", "Keyframes that viewers asked for."),
        ):
            metrics.read_counter(f"callboard_gateway_{name}_total", help, self._total(key))

    def _register_transport(self, metrics: Metrics) -> None:
        media = self._media

        def read(name: str) -> Callable[[], float]:
            return lambda: float(getattr(media, name))

        for name, help in (
            ("datagrams", "Datagrams at the media port."),
            ("frames", "Packets that came to the media port by TCP."),
            ("checks", "ICE checks with the right password."),
            ("unsent", "Packets that the media port had no room for."),
            ("peers_gone", "Peers that vanished without a word."),
            ("tcp_connections", "TCP connections to the media port."),
        ):
            metrics.read_counter(f"callboard_gateway_media_{name}_total", help, read(name))
        metrics.read_counter(
            "callboard_gateway_media_refused_total",
            "What came to the media port and was not taken, by reason.",
            lambda: _labelled({name: getattr(media, name) for name in REFUSALS}),
            ("reason",),
        )

    # ------------------------------------------------------------------ reading

    def _changed(self, live: LiveStream, change: Change) -> None:
        if change is Change.VIEWERS:
            before, there = self._watching.get(live, 0), len(live.viewers)
            self._joins += max(0, there - before)
            if there:
                self._watching[live] = there
            else:
                self._watching.pop(live, None)

    def _states(self) -> Mapping[Labels, float]:
        states = Counter({"online": 0, "offline": 0, "on demand": 0, "not playable": 0})
        for live in self._streams:
            if live.description.problem:
                states["not playable"] += 1
            elif live.online:
                states["online"] += 1
            else:
                states["on demand" if live.description.on_demand else "offline"] += 1
        states["on demand"] += len(self._streams.offered())
        return _labelled(states)

    def _viewers(self) -> Mapping[Labels, float]:
        viewers: dict[Labels, float] = {
            (live.name,): float(len(live.viewers)) for live in self._streams
        }
        for described in self._streams.offered():
            personal = self._streams.personal(described.name)
            viewers[described.name,] = float(sum(len(each.viewers) for each in personal))
        return viewers

    def _tracks(self) -> Iterator[tuple[Labels, LiveTrack]]:
        for live in self._streams:
            for id, track in live.tracks.items():
                yield (live.name, id), track

    def _by_track(self, read: Callable[[LiveTrack], int]) -> Callable[[], Mapping[Labels, float]]:
        return lambda: {labels: float(read(track)) for labels, track in self._tracks()}

    def _not_passed_on(self) -> Mapping[Labels, float]:
        return {
            (*labels, reason): float(getattr(track.track.counters, reason))
            for labels, track in self._tracks()
            for reason in REASONS
        }

    def _total(self, key: str) -> Callable[[], float]:
        return lambda: float(self._sent[key])


REASONS = (
    "garbage", "payload_type", "foreign", "padding", "duplicate", "late", "wild", "oversize",
    "withheld",
)  # fmt: skip
"""Counters of a track: why a packet was not passed on."""
REFUSALS = (
    "strangers", "malformed", "refused_checks", "unanswered", "tcp_refused", "tcp_closed",
    "dtls_dropped", "srtp_replayed", "srtp_forged",
)  # fmt: skip
"""Counters of the media port."""


def _keyframes(track: LiveTrack) -> int:
    return track.track.counters.keyframes if track.kind == "video" else 0


def _got(viewer: Viewer, now: float) -> Counter[str]:
    got: Counter[str] = Counter()
    tracks = viewer.statistics(now).get("tracks", ())
    for track in tracks if isinstance(tracks, list) else ():
        for key in SENT:
            got[key] += track[key]
    return got


def _labelled(counts: Mapping[str, int]) -> Mapping[Labels, float]:
    return {(reason,): float(count) for reason, count in counts.items()}
