"""The ports of one stream: each track's packets go into the live stream; keyframe requests and
reports go back."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

from callboard.gateway.live import LiveStream, Streams, TrackDescription
from callboard.gateway.session.feedback import keyframe_request
from callboard.gateway.sources.configured import PortStream
from callboard.gateway.sources.reporting import ReceiverReports
from callboard.gateway.sources.senders import Network
from callboard.gateway.sources.udp import IngestSocket

log = logging.getLogger(__name__)

ANY_PAYLOAD_TYPE = (*range(64), *range(96, 128))
"""The others are RTCP's where both share a port (RFC 5761, section 4)."""


class TrackPorts:
    """One socket for each track of a stream. They are open once it is made; `close` them."""

    def __init__(
        self,
        bind: str,
        tracks: Sequence[tuple[TrackDescription, int]],
        senders: Iterable[Network],
        *,
        ssrc: int,
    ) -> None:
        """`tracks` with the port of each, 0: the system chooses; `ssrc` is ours, in RTCP. Raises
        OSError."""
        self._live: LiveStream | None = None
        self._ssrc = ssrc
        self._sockets: dict[str, IngestSocket] = {}
        self._reports = {
            track.id: ReceiverReports(ssrc, track.codec.clock_rate) for track, _ in tracks
        }
        networks = tuple(senders)
        try:
            for track, port in tracks:
                types = ANY_PAYLOAD_TYPE if track.payload_type < 0 else (track.payload_type,)
                self._sockets[track.id] = IngestSocket(
                    bind,
                    port,
                    payload_types=types,
                    senders=networks,
                    on_rtp=partial(self._take, track.id),
                    on_rtcp=partial(self._take_rtcp, track.id),
                    on_turn=self._flush,
                )
        except OSError:
            self.close()
            raise

    def feed(self, live: LiveStream | None) -> None:
        """Packets go to this stream from now on; None: nowhere."""
        self._live = live
        if live is not None:
            live.on_keyframe_wanted = self.request_keyframe

    def request_keyframe(self, track_id: str) -> bool:
        """Send the sender of a track a PLI; False if there is none. One that is lost is no harm:
        the track asks again while no keyframe comes."""
        socket = self._sockets.get(track_id)
        if socket is None or not socket.ssrc:
            return False
        return socket.send(keyframe_request(self._ssrc, socket.ssrc))

    def expects(self, networks: Iterable[Network]) -> None:
        """See IngestSocket."""
        allowed = tuple(networks)
        for socket in self._sockets.values():
            socket.expects(allowed)

    def begin_anew(self) -> None:
        """What comes next is another sender's, or the same one's that was started anew: nobody has
        to wait until the last one is silent."""
        for socket in self._sockets.values():
            socket.forget_sender()
        if self._live is not None:
            end_sources(self._live)

    @property
    def numbers(self) -> dict[str, int]:
        """The port of each track."""
        return {id: socket.port for id, socket in self._sockets.items()}

    @property
    def refused(self) -> Counter[str]:
        """Packets that were not taken, by reason."""
        refused: Counter[str] = Counter()
        for socket in self._sockets.values():
            refused += socket.refused
        return refused

    def close(self) -> None:
        """Close all; idempotent."""
        for socket in self._sockets.values():
            socket.close()

    def _take(self, track_id: str, data: bytes, now: float) -> None:
        if self._live is not None:
            self._live.take(track_id, data, now, more=True)
        report = self._reports[track_id].take(data, now)
        if report is not None:
            self._sockets[track_id].send(report)

    def _flush(self) -> None:
        if self._live is not None:
            self._live.flush()

    def _take_rtcp(self, track_id: str, data: bytes, now: float) -> None:
        if self._live is not None:
            self._live.take_rtcp(track_id, data, now)
        self._reports[track_id].take_rtcp(data, now)


def end_sources(live: LiveStream) -> None:
    """Have each track take the next source (SSRC) at once. (No good-bye is made up: packets of an
    SSRC that said it are refused for a while, and this one may go on.)"""
    for track in live.tracks.values():
        track.track.forget_source()


class PortSource:
    """A stream at configured ports, from `start` to `close`."""

    def __init__(
        self, streams: Streams, stream: PortStream, bind: str, *, ssrc: int, id: str = "its ports"
    ) -> None:
        """`id` is the source's."""
        self._streams = streams
        self._stream = stream
        self._bind = bind
        self._ssrc = ssrc
        self._id = id
        self._live: LiveStream | None = None
        self.ports: TrackPorts | None = None

    def start(self) -> None:
        """Open ports and stream. Raises OSError, StreamTaken."""
        described = self._stream.description
        tracks = tuple(zip(described.tracks, self._stream.ports, strict=True))
        self.ports = TrackPorts(self._bind, tracks, self._stream.senders, ssrc=self._ssrc)
        try:
            self._live = self._streams.open(described, self._id)
        except ValueError:
            self.ports.close()
            raise
        self.ports.feed(self._live)
        log.info(
            "a stream is taken at its ports",
            extra={"stream": described.name, "ports": self.ports.numbers},
        )

    @property
    def refused(self) -> Counter[str]:
        """See TrackPorts."""
        return self.ports.refused if self.ports is not None else Counter()

    async def stop(self) -> None:
        """`close`, for the program's end."""
        self.close()

    def close(self) -> None:
        """Close both."""
        if self.ports is not None:
            self.ports.close()
        if self._live is not None:
            now = asyncio.get_running_loop().time()
            self._streams.close(self._live, "the gateway stops", now)
