"""What a joining viewer is still to get, and when: audio first, then video in order.

A leaky bucket (GCRA, ITU-T I.371) at a multiple of the stream's rate: each packet puts the next one
off by its length over the rate; what was not used is kept for `SLACK_S`, so that a timer's grain
costs nothing. In any span of time no more goes than rate times (span + slack), and one packet.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

from callboard.gateway.fanout.header import HEADER_BYTES
from callboard.gateway.stream.packet import Packet

FACTOR = 2.5
"""Of the stream's rate. It must be over 1, or the burst never ends: what comes live is added."""
RATE_MIN_BIT_S = 1_000_000.0
"""Of the stream, as pacing takes it: a still picture's rate tells nothing of its next keyframe."""
SLACK_S = 0.01
PACKETS_MAX = 1024
BYTES_MAX = 1_500_000
"""Over either bound all queued video goes, and a keyframe is wanted: that viewer is too slow, or
the stream grew. A group of pictures of 512 packets, and what comes while it drains, fit."""


class Kind(Enum):
    """Which leg a packet is for."""

    AUDIO = "audio"
    VIDEO = "video"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of the queue."""

    packets: int = PACKETS_MAX
    bytes: int = BYTES_MAX
    """Of RTP, headers included."""


class Pacing:
    """The queue of one joining viewer. Times are seconds, of any one clock."""

    def __init__(
        self,
        rate_bit_s: float,
        now: float,
        *,
        factor: float = FACTOR,
        slack_s: float = SLACK_S,
        bounds: Bounds | None = None,
    ) -> None:
        """`rate_bit_s` is the stream's; RATE_MIN_BIT_S is the least it is taken for."""
        if factor <= 1.0:
            raise ValueError(f"a burst at {factor} times the stream's rate never ends")
        self.rate_bit_s = max(rate_bit_s, RATE_MIN_BIT_S) * factor
        """What goes out."""
        self.dropped = 0
        """Packets that were queued, or were to be, and were not sent."""
        self._slack_s = slack_s
        self._bounds = bounds or Bounds()
        self._queues: dict[Kind, deque[Packet]] = {Kind.AUDIO: deque(), Kind.VIDEO: deque()}
        self._packets = self._bytes = 0
        self._ready_at = now
        self.needs_keyframe = False
        """Video is dropped until one comes."""

    def __len__(self) -> int:
        return self._packets

    @property
    def done(self) -> bool:
        """Nothing is queued, and the next packet of video can be decoded."""
        return not self._packets and not self.needs_keyframe

    def put(self, kind: Kind, packet: Packet) -> bool:
        """Queue a packet; False if a keyframe is wanted: the queued video was dropped just now.
        Video is then dropped until one comes."""
        if kind is Kind.VIDEO and self.needs_keyframe:
            if not packet.keyframe:
                self.dropped += 1
                return True
            self.needs_keyframe = False
        self._queues[kind].append(packet)
        self._packets += 1
        self._bytes += _bytes(packet)
        if not self._over():
            return True
        video = self._queues[Kind.VIDEO]
        wanted = bool(video)
        while video:
            self._drop(video)
        self.needs_keyframe |= wanted
        while self._over():
            self._drop(self._queues[Kind.AUDIO])
        return not wanted

    def due_at(self) -> float | None:
        """When `take` gives something; None if nothing is queued."""
        return self._ready_at if self._packets else None

    def take(self, now: float) -> list[tuple[Kind, Packet]]:
        """Take out what may go now, in order."""
        taken = []
        while self._ready_at <= now and self._packets:
            kind = Kind.AUDIO if self._queues[Kind.AUDIO] else Kind.VIDEO
            packet = self._queues[kind].popleft()
            size = _bytes(packet)
            self._packets -= 1
            self._bytes -= size
            begun = max(self._ready_at, now - self._slack_s)
            self._ready_at = begun + size * 8 / self.rate_bit_s
            taken.append((kind, packet))
        return taken

    def _over(self) -> bool:
        return self._packets > self._bounds.packets or self._bytes > self._bounds.bytes

    def _drop(self, queue: deque[Packet]) -> None:
        self._packets -= 1
        self._bytes -= _bytes(queue.popleft())
        self.dropped += 1


def _bytes(packet: Packet) -> int:
    return HEADER_BYTES + len(packet.payload)
