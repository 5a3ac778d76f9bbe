"""A source of RTP for the tests of this folder, and readers of what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from callboard.gateway.stream.packet import PAYLOAD_BYTES_MAX, Packet
from callboard.media.rtp import RtpPacket, build

PAYLOAD_TYPE = 96
SSRC = 0xCAFE
FRAME_TICKS = 3600
"""25 frames a second at 90 kHz."""


class Source:
    """Numbers packets as a sender does."""

    def __init__(
        self,
        *,
        sequence: int = 1000,
        timestamp: int = 50_000,
        ssrc: int = SSRC,
        payload_type: int = PAYLOAD_TYPE,
        ticks: int = FRAME_TICKS,
    ) -> None:
        self.sequence = sequence
        self.timestamp = timestamp
        self.ssrc = ssrc
        self.payload_type = payload_type
        self.ticks = ticks

    def frame(self, *payloads: bytes) -> list[bytes]:
        """The packets of one frame; the next one is a frame's time later."""
        packets = [
            self.packet(payload, marker=number == len(payloads))
            for number, payload in enumerate(payloads, 1)
        ]
        self.timestamp += self.ticks
        return packets

    def packet(self, payload: bytes, *, marker: bool = False, padding: int = 0) -> bytes:
        """The next packet."""
        header = RtpPacket(
            self.payload_type,
            marker,
            self.sequence & 0xFFFF,
            self.timestamp & 0xFFFFFFFF,
            self.ssrc,
            payload,
        )
        self.sequence += 1
        return build(header, padding=padding)


def numbers(packets: Iterable[Packet]) -> list[int]:
    """What they are numbered."""
    return [packet.sequence for packet in packets]


def payloads(packets: Iterable[Packet]) -> list[bytes]:
    """What is in them."""
    return [packet.payload for packet in packets]


def beginnings(packets: Iterable[Packet]) -> list[int]:
    """The numbers of those with which a decoder can begin."""
    return [packet.sequence for packet in packets if packet.keyframe]


def check_fit_for_viewers(packets: Sequence[Packet]) -> None:
    """Packets of a source that lost none: numbered without a gap, and none too long."""
    if packets:
        first = packets[0].sequence
        assert numbers(packets) == list(range(first, first + len(packets)))
    assert all(0 < len(packet.payload) <= PAYLOAD_BYTES_MAX for packet in packets)


VP8_KEY = b"\x10\x10key"
"""A payload of one packet: S is set, and the frame tag says keyframe."""
VP8_DELTA = b"\x10\x11delta"
VP8_MORE = b"\x00more"
