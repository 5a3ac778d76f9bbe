"""The header of a viewer's packet: RTP (RFC 3550, 5.1) with at most one extension."""

from __future__ import annotations

import struct

from callboard.gateway.fanout.numbering import Numbers
from callboard.gateway.stream.packet import Packet

HEADER_BYTES = 12
EXTENSION_BYTES = 8
"""Of a one-byte header extension (RFC 8285, 4.2) with three bytes of data: 4 + 1 + 3."""
PAYLOAD_BYTES_MAX = 1460
"""What a datagram of 1,500 bytes carries behind the headers of IPv4, UDP and RTP. What is longer
after encryption is fragmented by the kernel; longer payloads are refused."""
PACKET_BYTES_MAX = HEADER_BYTES + EXTENSION_BYTES + PAYLOAD_BYTES_MAX

SEND_TIME_URI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
SEND_TIME_PER_S = 1 << 18
"""abs-send-time counts in 6.18 fixed point: 24 bits, which wrap after 64 s."""

_HEADER = struct.Struct("!BBHII")
_EXTENSION = struct.Struct("!HHI")
_VERSION = 0x80
_EXTENDED = 0x90
_PROFILE = 0xBEDE


def send_time(now: float) -> int:
    """A time in seconds as abs-send-time has it. Its epoch is free: only differences count."""
    return int(now * SEND_TIME_PER_S) & 0xFFFFFF


def check_payload(packet: Packet) -> None:
    """Raise ValueError for a payload that no datagram carries."""
    if len(packet.payload) > PAYLOAD_BYTES_MAX:
        raise ValueError(
            f"a payload of {len(packet.payload)} bytes: at most {PAYLOAD_BYTES_MAX} can be sent"
        )


def check_identity(ssrc: int, payload_type: int, send_time_id: int) -> None:
    """Raise ValueError for what does not fit into a header."""
    if not 0 <= ssrc < 1 << 32:
        raise ValueError(f"SSRC {ssrc} is not a 32-bit number")
    if not 0 <= payload_type < 1 << 7:
        raise ValueError(f"payload type {payload_type} is not a 7-bit number")
    if not 0 <= send_time_id < 15:
        raise ValueError(f"header extension id {send_time_id}: 1 to 14 (RFC 8285, 4.2), 0 for none")


def write_header(
    view: memoryview, second: int, ssrc: int, numbers: Numbers, send_time_id: int
) -> int:
    """Write a header; return its length. `second` is its second byte: marker and payload type;
    `send_time_id` the extension's id, 0 for none."""
    first = _EXTENDED if send_time_id else _VERSION
    _HEADER.pack_into(view, 0, first, second, numbers.number, numbers.timestamp, ssrc)
    if not send_time_id:
        return HEADER_BYTES
    element = (send_time_id << 4 | 2) << 24 | numbers.send_time
    _EXTENSION.pack_into(view, HEADER_BYTES, _PROFILE, 1, element)
    return HEADER_BYTES + EXTENSION_BYTES
