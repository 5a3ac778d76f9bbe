"""Live streams whose packets are kept for a test to look at, and who watches them."""

from __future__ import annotations

from collections.abc import Iterable

from callboard.gateway.live import LiveStream, Streams
from callboard.gateway.ports import Leg, Pair, Receiver, Srtp
from callboard.gateway.stream.packet import Packet


class Kept:
    """A group that keeps what it is to send."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []

    def join(self, leg: Receiver) -> None:
        raise NotImplementedError

    def leave(self, leg: Receiver) -> None:
        raise NotImplementedError

    def send(self, *packets: Packet) -> None:
        self.packets += packets

    def __len__(self) -> int:
        return 0


class KeepingFanout:
    """Sends to nobody."""

    def leg(
        self,
        srtp: Srtp,
        pair: Pair,
        *,
        ssrc: int,
        payload_type: int,
        sequence: int,
        timestamp: int,
        send_time_id: int = 0,
    ) -> Leg:
        raise NotImplementedError

    def group(self) -> Kept:
        return Kept()


class Viewer:
    """Somebody who watches a stream."""

    def __init__(self, live: LiveStream) -> None:
        self.live = live
        self.ended = ""
        """Why the stream is over."""
        live.join(self)

    def end(self, reason: str) -> None:
        self.ended = reason

    def leave(self) -> None:
        self.live.leave(self)


def keeping_streams() -> Streams:
    """Streams without sockets."""
    return Streams(KeepingFanout())


def kept(live: LiveStream, track_id: str) -> list[Packet]:
    """What came of a track."""
    group = live.tracks[track_id].group
    assert isinstance(group, Kept)
    return group.packets


def payloads(packets: Iterable[Packet]) -> list[bytes]:
    return [packet.payload for packet in packets]
