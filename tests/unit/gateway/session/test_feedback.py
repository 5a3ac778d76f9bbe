"""RTCP in and out."""

from __future__ import annotations

import pytest
from aiortc.rtp import (
    RtcpByePacket,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSrPacket,
)
from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.session import feedback
from callboard.gateway.session.feedback import (
    Clock,
    Estimate,
    GoodBye,
    KeyframeWanted,
    Lost,
    Received,
    read,
)

BLOCK = RtcpReceiverInfo(7, 64, -3, 70_000, 900, 0x12345678, 65_536)


def test_a_compound_packet_is_read_whole() -> None:
    data = (
        bytes(RtcpRrPacket(1, [BLOCK]))
        + bytes(RtcpRtpfbPacket(1, 1, 7, [5, 6, 30]))
        + bytes(RtcpPsfbPacket(1, 1, 7))
    )
    assert read(data) == [
        Received(7, 0.25, -3, 70_000, 900, 0x12345678, 65_536),
        Lost(7, (5, 6, 30)),
        KeyframeWanted(7),
    ]


def test_fir_names_its_sources_in_its_entries() -> None:
    entries = (11).to_bytes(4, "big") + b"\1\0\0\0" + (12).to_bytes(4, "big") + b"\1\0\0\0"
    assert read(bytes(RtcpPsfbPacket(4, 1, 0, entries))) == [KeyframeWanted(11), KeyframeWanted(12)]


def test_remb_is_an_estimate() -> None:
    assert read(feedback.estimate(1, 1_500_000, [7, 8])) == [Estimate(1_500_000, (7, 8))]


def test_a_sender_report_is_a_clock_and_a_bye_a_good_bye() -> None:
    sent = feedback.Sent(7, (5 << 32) | 9, 1234, 10, 2000)
    assert read(feedback.sender_reports([sent], "cname")) == [Clock(7, (5 << 32) | 9, 1234)]
    assert read(feedback.good_bye([7, 8], "cname")) == [GoodBye((7, 8))]


def test_reports_begin_compound_packets_and_say_whose_they_are() -> None:
    sent = feedback.Sent(7, 1 << 63, (1 << 32) + 5, (1 << 32) + 6, 7)
    report, whose = RtcpPacket.parse(feedback.sender_reports([sent], "callboard-1"))
    assert isinstance(report, RtcpSrPacket) and isinstance(whose, RtcpSdesPacket)
    assert (report.sender_info.rtp_timestamp, report.sender_info.packet_count) == (5, 6)
    assert whose.chunks[0].items == [(1, b"callboard-1")]
    kinds = [type(packet) for packet in RtcpPacket.parse(feedback.good_bye([7], "c"))]
    assert kinds == [RtcpRrPacket, RtcpSdesPacket, RtcpByePacket]


def test_the_reports_of_several_sources_are_one_packet() -> None:
    sent = [feedback.Sent(ssrc, 1 << 32, ssrc, 1, 1) for ssrc in (7, 8)]
    data = feedback.sender_reports(sent, "callboard-1")
    assert read(data) == [Clock(7, 1 << 32, 7), Clock(8, 1 << 32, 8)]
    *reports, whose = RtcpPacket.parse(data)
    assert [type(report) for report in reports] == [RtcpSrPacket, RtcpSrPacket]
    assert isinstance(whose, RtcpSdesPacket)
    assert [(chunk.ssrc, chunk.items) for chunk in whose.chunks] == [
        (ssrc, [(1, b"callboard-1")]) for ssrc in (7, 8)
    ]


@given(st.lists(st.integers(0, 300), min_size=1, max_size=60, unique=True), st.integers(0, 65_535))
def test_numbers_are_asked_for_across_the_wrap(offsets: list[int], first: int) -> None:
    numbers = [(first + offset) % (1 << 16) for offset in sorted(offsets)]
    said = read(feedback.resend_request(1, 7, numbers))
    asked = [number for each in said if isinstance(each, Lost) for number in each.numbers]
    assert asked == numbers


@given(st.binary(max_size=200))
def test_any_bytes_say_something_or_nothing(data: bytes) -> None:
    assert isinstance(read(data), list)


whole = [
    bytes(RtcpRrPacket(1, [BLOCK])),
    bytes(RtcpRtpfbPacket(1, 1, 7, [5, 6, 30])),
    feedback.estimate(1, 10**6, [7]),
    feedback.good_bye([7, 8], "cname"),
    feedback.sender_reports([feedback.Sent(n, 1, 2, 3, 4) for n in (7, 8)], "cname"),
]


@given(st.lists(st.sampled_from(whole), min_size=1, max_size=4), st.data())
def test_mutated_packets_say_something_or_nothing(parts: list[bytes], data: st.DataObject) -> None:
    body = bytearray(b"".join(parts))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(read(bytes(body)), list)
    assert isinstance(read(bytes(body[: data.draw(st.integers(0, len(body)))])), list)


@pytest.mark.parametrize("size", [5000, 70_000])
def test_longer_packets_than_datagrams_are_not_read(size: int) -> None:
    assert read(bytes(RtcpRrPacket(1)) * (size // 8)) == []


def test_a_nack_of_everything_is_cut() -> None:
    said = read(bytes(RtcpRtpfbPacket(1, 1, 7, list(range(2000)))))
    assert isinstance(said[0], Lost) and len(said[0].numbers) == feedback.NUMBERS_MAX
