"""Receiver reports to a sender of RTP: what came of its packets. Pure. Source: RFC 3550, 6.4.2."""

from __future__ import annotations

from aiortc.rtp import RtcpReceiverInfo, RtcpRrPacket

from callboard.gateway.session.feedback import Clock, read
from callboard.gateway.session.reception import Reception

REPORT_INTERVAL_S = 1.0


class ReceiverReports:
    """Of one track."""

    def __init__(self, own: int, clock_rate: int, interval_s: float = REPORT_INTERVAL_S) -> None:
        """`own` is our SSRC."""
        self._own = own
        self._clock_rate = clock_rate
        self._interval_s = interval_s
        self._reception: Reception | None = None
        self._due_at = 0.0

    def take(self, data: bytes, now: float) -> bytes | None:
        """A packet of RTP (its header is whole) came. The report that is due, if one is."""
        ssrc = int.from_bytes(data[8:12], "big")
        reception = self._reception
        if reception is None or reception.ssrc != ssrc:
            reception = self._reception = Reception(ssrc, self._clock_rate)
            self._due_at = now + self._interval_s
        number, timestamp = int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:8], "big")
        reception.take(number, timestamp, now)
        if now < self._due_at:
            return None
        self._due_at = now + self._interval_s
        return self._report(reception, now)

    def take_rtcp(self, data: bytes, now: float) -> None:
        """A compound packet of the sender's RTCP came."""
        reception = self._reception
        for said in read(data):
            if reception is not None and isinstance(said, Clock) and said.ssrc == reception.ssrc:
                reception.take_report(said.ntp, now)

    def _report(self, reception: Reception, now: float) -> bytes:
        block = reception.block(now)
        info = RtcpReceiverInfo(
            ssrc=block.ssrc,
            fraction_lost=block.fraction_lost,
            packets_lost=block.lost,
            highest_sequence=block.highest_number,
            jitter=block.jitter,
            lsr=block.last_report,
            dlsr=block.delay,
        )
        return bytes(RtcpRrPacket(ssrc=self._own, reports=[info]))
