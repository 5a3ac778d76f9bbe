"""Receiver reports to a sender of RTP, as aiortc reads them."""

from __future__ import annotations

import random
import struct

from aiortc.rtp import RtcpPacket, RtcpReceiverInfo, RtcpRrPacket
from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.sources.reporting import REPORT_INTERVAL_S, ReceiverReports
from callboard.gateway.sources.rtp import RtpSender

OWN = 0xCA11B0A2


def rtp(number: int, ssrc: int = 7) -> bytes:
    return struct.pack("!BBHII", 0x80, 96, number & 0xFFFF, number * 3600 & 0xFFFFFFFF, ssrc)


def block(report: bytes | None) -> RtcpReceiverInfo:
    assert report is not None
    (packet,) = RtcpPacket.parse(report)
    assert isinstance(packet, RtcpRrPacket)
    assert packet.ssrc == OWN
    return packet.reports[0]


def test_a_report_is_due_once_in_a_second_while_packets_come() -> None:
    reports = ReceiverReports(OWN, 90_000)
    due = [n for n in range(100) if reports.take(rtp(n), n * 0.04) is not None]
    assert due == [25, 50, 75]


def test_it_tells_what_was_lost() -> None:
    reports = ReceiverReports(OWN, 90_000)
    numbers = [n for n in range(65_530, 65_561) if n % 5]
    for number in numbers[:-1]:
        assert reports.take(rtp(number), 0.0) is None
    told = block(reports.take(rtp(numbers[-1]), REPORT_INTERVAL_S))
    assert told.ssrc == 7
    assert told.packets_lost == numbers[-1] - numbers[0] + 1 - len(numbers)
    assert 0 < told.fraction_lost < 256 // 4
    assert told.highest_sequence & 0xFFFF == numbers[-1] & 0xFFFF


def test_it_tells_which_sender_report_came_last_and_when() -> None:
    reports, sender = ReceiverReports(OWN, 90_000), RtpSender(96, 90_000, random.Random(1))
    (packet,) = sender.packets([b"x"], 0, marker=True)
    reports.take(packet, 10.0)
    reports.take_rtcp(sender.report(0, 1_795_000_000.5), 10.25)
    (packet,) = sender.packets([b"x"], 90_000, marker=True)
    told = block(reports.take(packet, 11.0))
    assert told.lsr & 0xFFFF == 1 << 15  # half a second
    assert told.dlsr == round(0.75 * 65_536)


def test_another_source_is_told_of_by_itself() -> None:
    reports = ReceiverReports(OWN, 90_000)
    reports.take(rtp(1), 0.0)
    reports.take(rtp(900, ssrc=8), 0.5)
    told = block(reports.take(rtp(901, ssrc=8), 1.5))
    assert (told.ssrc, told.packets_lost) == (8, 0)


@given(st.lists(st.tuples(st.binary(min_size=12, max_size=40), st.booleans()), max_size=50))
def test_any_bytes_are_taken_and_what_is_said_is_a_report(
    packets: list[tuple[bytes, bool]],
) -> None:
    reports, now = ReceiverReports(OWN, 90_000), 0.0
    for data, is_rtcp in packets:
        now += 0.6
        if is_rtcp:
            reports.take_rtcp(data, now)
        else:
            report = reports.take(data, now)
            assert report is None or block(report).ssrc == int.from_bytes(data[8:12], "big")
