"""What a peer's RTCP says, in our own words. Pure.

aiortc's classes read the packets; what they raise for bytes that are none ends here: a compound
packet is read as far as it is right, or not at all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    RtcpByePacket,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
    pack_remb_fci,
    unpack_remb_fci,
)

BYTES_MAX = 4096
"""Of a compound packet; a datagram has less."""
NUMBERS_MAX = 512
"""Of one NACK: more of a stream is lost than a resend could help."""
CNAME = 1
"""SDES item (RFC 3550, 6.5.1)."""
FIR_ENTRY = struct.Struct("!IB3x")
"""RFC 5104, 4.3.1.1."""


@dataclass(frozen=True, slots=True)
class Lost:
    """NACK: packets of a source that did not come (RFC 4585, 6.2.1)."""

    ssrc: int
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KeyframeWanted:
    """PLI or FIR: nothing can be decoded without one."""

    ssrc: int


@dataclass(frozen=True, slots=True)
class Received:
    """A report block (RFC 3550, 6.4.1): how a source comes."""

    ssrc: int
    fraction_lost: float
    """Since the last report, 0 to 1."""
    lost: int
    """In all; negative where packets came twice."""
    highest_number: int
    """With the cycles before it, 32 bits."""
    jitter: int
    """In units of the clock rate."""
    last_report: int
    """The middle 32 bits of the NTP timestamp of our last sender report; 0: none came."""
    delay: int
    """Since that came, in 1/65,536 s."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """REMB: what the way bears (draft-alvestrand-rmcat-remb-03)."""

    bits_per_second: int
    ssrcs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Clock:
    """A sender report's: this RTP timestamp is this moment (RFC 3550, 6.4.1)."""

    ssrc: int
    ntp: int
    """64 bits."""
    timestamp: int


@dataclass(frozen=True, slots=True)
class GoodBye:
    """BYE: these sources have ended."""

    ssrcs: tuple[int, ...]


Feedback = Lost | KeyframeWanted | Received | Estimate | Clock | GoodBye


def read(data: bytes) -> list[Feedback]:
    """What a compound packet says; [] if it is none."""
    if len(data) > BYTES_MAX:
        return []
    try:
        return [said for packet in RtcpPacket.parse(data) for said in _said(packet)]
    except (ValueError, IndexError, struct.error):
        return []


def _said(packet: AnyRtcpPacket) -> Iterator[Feedback]:
    match packet:
        case RtcpRtpfbPacket(fmt=fmt) if fmt == RTCP_RTPFB_NACK:
            yield Lost(packet.media_ssrc, tuple(n & 0xFFFF for n in packet.lost[:NUMBERS_MAX]))
        case RtcpPsfbPacket(fmt=fmt) if fmt == RTCP_PSFB_PLI:
            yield KeyframeWanted(packet.media_ssrc)
        case RtcpPsfbPacket(fmt=fmt) if fmt == RTCP_PSFB_FIR:
            whole = len(packet.fci) // FIR_ENTRY.size * FIR_ENTRY.size
            yield from (
                KeyframeWanted(each[0]) for each in FIR_ENTRY.iter_unpack(packet.fci[:whole])
            )
        case RtcpPsfbPacket(fmt=fmt) if fmt == RTCP_PSFB_APP and packet.fci[:4] == b"REMB":
            bitrate, ssrcs = unpack_remb_fci(packet.fci)
            yield Estimate(bitrate, tuple(ssrcs))
        case RtcpSrPacket():
            info = packet.sender_info
            yield Clock(packet.ssrc, info.ntp_timestamp, info.rtp_timestamp)
            yield from _blocks(packet)
        case RtcpRrPacket():
            yield from _blocks(packet)
        case RtcpByePacket():
            yield GoodBye(tuple(packet.sources))


def _blocks(packet: RtcpSrPacket | RtcpRrPacket) -> Iterator[Received]:
    for block in packet.reports:
        yield Received(
            block.ssrc,
            block.fraction_lost / 256,
            block.packets_lost,
            block.highest_sequence,
            block.jitter,
            block.lsr,
            block.dlsr,
        )


# ------------------------------------------------------------------ what we say


@dataclass(frozen=True, slots=True)
class Sent:
    """What a sender report tells of a source of ours."""

    ssrc: int
    ntp: int
    timestamp: int
    packets: int
    octets: int


def sender_reports(sent: Sequence[Sent], cname: str) -> bytes:
    """A compound packet: a sender report of each source, and whose they are (RFC 3550, 6.1; RFC
    8108, 5.3.1: several in one packet)."""
    reports = []
    for each in sent:
        info = RtcpSenderInfo(
            ntp_timestamp=each.ntp % (1 << 64),
            rtp_timestamp=each.timestamp % (1 << 32),
            packet_count=each.packets % (1 << 32),
            octet_count=each.octets % (1 << 32),
        )
        reports.append(bytes(RtcpSrPacket(ssrc=each.ssrc, sender_info=info)))
    return b"".join(reports) + _whose([each.ssrc for each in sent], cname)


def good_bye(ssrcs: Iterable[int], cname: str) -> bytes:
    """A compound packet that ends sources (RFC 3550, 6.6)."""
    ended = list(ssrcs)
    first = ended[0] if ended else 0
    return bytes(RtcpRrPacket(ssrc=first)) + _whose([first], cname) + bytes(RtcpByePacket(ended))


def keyframe_request(own: int, ssrc: int) -> bytes:
    """A PLI, in a packet of its own (RFC 5506)."""
    return bytes(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=own, media_ssrc=ssrc))


def resend_request(own: int, ssrc: int, numbers: Sequence[int]) -> bytes:
    """NACKs of these numbers, in ascending order (modulo 2¹⁶)."""
    # aiortc's class counts from the first number of a run on, and not past 2¹⁶
    wrap = next((at for at in range(1, len(numbers)) if numbers[at] < numbers[at - 1]), 0)
    runs = [list(run) for run in (numbers[:wrap], numbers[wrap:]) if run]
    packets = (
        RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=own, media_ssrc=ssrc, lost=run) for run in runs
    )
    return b"".join(map(bytes, packets))


def estimate(own: int, bits_per_second: int, ssrcs: Iterable[int]) -> bytes:
    """REMB."""
    fci = pack_remb_fci(bits_per_second, list(ssrcs))
    return bytes(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=own, media_ssrc=0, fci=fci))


def _whose(ssrcs: Iterable[int], cname: str) -> bytes:
    items = [(CNAME, cname.encode()[:255])]
    chunks = [RtcpSourceInfo(ssrc=ssrc, items=items) for ssrc in ssrcs]
    return bytes(RtcpSdesPacket(chunks=chunks))
