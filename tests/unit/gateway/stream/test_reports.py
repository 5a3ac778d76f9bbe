"""What a source says of itself by RTCP."""

from __future__ import annotations

import struct

import pytest
from aiortc.rtp import (
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
)
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.stream import encoded

from callboard.gateway.stream.reports import Goodbye, SenderReport, read
from callboard.media.rtp import parse

INFO = RtcpSenderInfo(
    ntp_timestamp=0xE1234567_89ABCDEF, rtp_timestamp=90_000, packet_count=7, octet_count=700
)
BLOCK = RtcpReceiverInfo(
    ssrc=9, fraction_lost=0, packets_lost=0, highest_sequence=1, jitter=0, lsr=0, dlsr=0
)
REPORT = bytes(RtcpSrPacket(ssrc=5, sender_info=INFO, reports=[BLOCK]))
NAMES = bytes(RtcpSdesPacket(chunks=[RtcpSourceInfo(ssrc=5, items=[(1, b"somebody")])]))
BYE = bytes(RtcpByePacket(sources=[5, 6]))
SAID = SenderReport(5, 0xE1234567_89ABCDEF, 90_000)


def test_report_and_goodbye_are_read_in_a_compound_packet() -> None:
    assert list(read(REPORT + NAMES + BYE)) == [SAID, Goodbye((5, 6))]


def test_other_kinds_are_passed_over() -> None:
    request = bytes(RtcpPsfbPacket(fmt=1, ssrc=1, media_ssrc=5))
    assert list(read(request + REPORT)) == [SAID]


def test_report_of_a_real_sender_is_near_its_first_packet() -> None:
    recording = encoded.video("VP8")
    first = parse(recording.frames[0].packets[0])
    (report,) = read(recording.reports[0])
    assert isinstance(report, SenderReport)
    assert (report.ssrc, report.timestamp) == (first.ssrc, first.timestamp)


@pytest.mark.parametrize("cut", range(len(REPORT)))
def test_report_that_is_cut_says_nothing(cut: int) -> None:
    assert list(read(REPORT[:cut])) == []


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!BBHI", 0x80, 200, 1, 5),  # a report without its sender's part
        struct.pack("!BBHI", 0x82, 203, 1, 5),  # a good-bye of two that names one
        b"\x00" + REPORT[1:],
    ],
)
def test_what_is_malformed_says_nothing(data: bytes) -> None:
    assert list(read(data)) == []


@given(data=st.binary(max_size=100), kind=st.sampled_from([200, 203]))
def test_any_bytes_are_read_without_an_error(data: bytes, kind: int) -> None:
    for each in (data, bytes((0x80 | len(data) & 0x1F, kind)) + data):
        assert all(isinstance(said, SenderReport | Goodbye) for said in read(each))
