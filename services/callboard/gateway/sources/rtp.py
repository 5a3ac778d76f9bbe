"""Makes RTP of encoded frames: headers, VP8's descriptor, sender reports. Pure.

For the built-in source only: what comes from elsewhere is RTP already. Sources: RFC 3550, 5.1 and
6.4.1; RFC 7741, 4.2 (VP8); RFC 7587 (Opus: the payload is the frame).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from aiortc.codecs.vpx import VpxPayloadDescriptor
from aiortc.rtp import RtcpSenderInfo, RtcpSrPacket

from callboard.media.rtp import RtpPacket, build

NTP_BEFORE_UNIX_S = 2_208_988_800
"""From 1900 to 1970 (RFC 5905, 6)."""
VP8_DATA_BYTES_MAX = 1180
"""Of a frame, in one packet; with descriptor and header below 1,200."""


class RtpSender:
    """Numbers the packets of one track."""

    def __init__(self, payload_type: int, clock_rate: int, rng: random.Random) -> None:
        self.payload_type = payload_type
        self.clock_rate = clock_rate
        self.ssrc = rng.getrandbits(32)
        self._sequence = rng.getrandbits(15)
        self._offset = rng.getrandbits(32)
        self._packets = 0
        self._octets = 0

    def packets(self, payloads: Sequence[bytes], timestamp: int, *, marker: bool) -> list[bytes]:
        """The packets of one frame; with `marker` the last one says that the frame ends.
        `timestamp` is from 0 up, in units of the clock rate."""
        stamp = (timestamp + self._offset) & 0xFFFFFFFF
        made = []
        for number, payload in enumerate(payloads, 1):
            ends = marker and number == len(payloads)
            packet = RtpPacket(self.payload_type, ends, self._sequence, stamp, self.ssrc, payload)
            made.append(build(packet))
            self._sequence = (self._sequence + 1) & 0xFFFF
            self._octets += len(payload)
        self._packets += len(made)
        return made

    def report(self, timestamp: int, wall_s: float) -> bytes:
        """A sender report: `timestamp` was at `wall_s` seconds since 1970."""
        info = RtcpSenderInfo(
            ntp_timestamp=int((wall_s + NTP_BEFORE_UNIX_S) * (1 << 32)) & (1 << 64) - 1,
            rtp_timestamp=(timestamp + self._offset) & 0xFFFFFFFF,
            packet_count=self._packets & 0xFFFFFFFF,
            octet_count=self._octets & 0xFFFFFFFF,
        )
        return bytes(RtcpSrPacket(ssrc=self.ssrc, sender_info=info))


def vp8_payloads(frame: bytes, picture_id: int) -> list[bytes]:
    """The payloads of one frame's packets. `picture_id` counts frames, modulo 2¹⁵."""
    payloads = []
    for at in range(0, len(frame), VP8_DATA_BYTES_MAX):
        begins = 1 if at == 0 else 0
        descriptor = VpxPayloadDescriptor(begins, 0, picture_id=picture_id & 0x7FFF)
        payloads.append(bytes(descriptor) + frame[at : at + VP8_DATA_BYTES_MAX])
    return payloads
