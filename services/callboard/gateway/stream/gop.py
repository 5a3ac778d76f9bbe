"""The group of pictures that is running: what a viewer who joins is sent first. Pure.

It begins with the last keyframe and lies in the ring; only where it begins is kept here.
"""

from __future__ import annotations

from collections.abc import Sequence

from callboard.gateway.stream.packet import Packet
from callboard.gateway.stream.ring import Ring

SPAN_MAX_S = 3.0
PACKETS_MAX = 512
"""A longer burst would take longer than a keyframe that is asked for."""
FRAME_SPACING_PER_S = 1000
"""Frames of a burst are 1 ms apart, or as they were if that is less."""


class Gop:
    """Empty before the first keyframe; and, once a group has become too long, until the next."""

    def __init__(
        self,
        ring: Ring,
        clock_rate: int,
        *,
        span_max_s: float = SPAN_MAX_S,
        packets_max: int = PACKETS_MAX,
    ) -> None:
        self._ring = ring
        self._spacing = max(1, clock_rate // FRAME_SPACING_PER_S)
        self._span_max = round(span_max_s * clock_rate)
        self._packets_max = packets_max
        self._first: Packet | None = None

    def put(self, packet: Packet) -> None:
        """Follow a packet that has just been put into the ring."""
        first = self._first
        if packet.keyframe and (first is None or packet.sequence > first.sequence):
            self._first = first = packet
        if first is not None and (
            self._ring.newest - first.sequence >= self._packets_max
            or packet.timestamp - first.timestamp > self._span_max
        ):
            self._first = None

    def clear(self) -> None:
        """What comes does not go on from what was."""
        self._first = None

    def packets(self) -> list[Packet]:
        """The group, as it came."""
        return [] if self._first is None else list(self._ring.since(self._first.sequence))

    def burst(self) -> list[Packet]:
        """The group, in a time in which nobody sees it: its frames are 1 ms apart, and the newest
        one has its own timestamp, so that live packets go on after it."""
        return compressed(self.packets(), self._spacing)


def compressed(packets: Sequence[Packet], spacing: int) -> list[Packet]:
    """The same packets with timestamps `spacing` apart, but no earlier than they were; what was
    equal stays equal, and what was in order stays in order."""
    stamps: dict[int, int] = {}
    later: int | None = None
    for timestamp in sorted({packet.timestamp for packet in packets}, reverse=True):
        later = timestamp if later is None else max(timestamp, later - spacing)
        stamps[timestamp] = later
    return [
        packet
        if (stamp := stamps[packet.timestamp]) == packet.timestamp
        else Packet(packet.sequence, stamp, packet.marker, packet.payload, packet.keyframe)
        for packet in packets
    ]
