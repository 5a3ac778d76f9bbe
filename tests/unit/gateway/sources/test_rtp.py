"""RTP of encoded frames, read by aiortc."""

from __future__ import annotations

import itertools
import random

from aiortc.codecs.vpx import VpxPayloadDescriptor
from aiortc.rtp import RtcpPacket, RtcpSrPacket, RtpPacket
from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.sources.rtp import NTP_BEFORE_UNIX_S, RtpSender, vp8_payloads
from callboard.gateway.stream.packet import PAYLOAD_BYTES_MAX


def test_packets_of_a_frame_are_numbered_and_the_last_has_the_marker() -> None:
    sender = RtpSender(96, 90_000, random.Random(1))
    first = [RtpPacket.parse(it) for it in sender.packets([b"a", b"b"], 0, marker=True)]
    (second,) = (RtpPacket.parse(it) for it in sender.packets([b"c"], 3600, marker=True))
    numbers = [it.sequence_number for it in (*first, second)]
    assert [(number - numbers[0]) & 0xFFFF for number in numbers] == [0, 1, 2]
    assert [it.marker for it in (*first, second)] == [0, 1, 1]
    assert first[0].timestamp == first[1].timestamp
    assert (second.timestamp - first[0].timestamp) & 0xFFFFFFFF == 3600
    assert {(it.payload_type, it.ssrc) for it in (*first, second)} == {(96, sender.ssrc)}
    assert [it.payload for it in (*first, second)] == [b"a", b"b", b"c"]


def test_a_frame_of_sound_has_no_marker() -> None:
    (packet,) = RtpSender(111, 48_000, random.Random(1)).packets([b"a"], 0, marker=False)
    assert RtpPacket.parse(packet).marker == 0


def test_numbers_and_timestamps_wrap_around() -> None:
    sender = RtpSender(96, 90_000, random.Random(1))
    packets = [
        RtpPacket.parse(sender.packets([b"x"], n * (1 << 20), marker=True)[0])
        for n in range(70_000)
    ]
    for before, after in itertools.pairwise(packets):
        assert after.sequence_number == (before.sequence_number + 1) & 0xFFFF
        assert after.timestamp == (before.timestamp + (1 << 20)) & 0xFFFFFFFF


def test_a_report_maps_the_track_s_time_to_the_world_s() -> None:
    sender = RtpSender(96, 90_000, random.Random(1))
    packet = RtpPacket.parse(sender.packets([b"abc"], 9000, marker=True)[0])
    (report,) = RtcpPacket.parse(sender.report(9000, 1_795_000_000.5))
    assert isinstance(report, RtcpSrPacket)
    assert report.ssrc == sender.ssrc
    assert report.sender_info.rtp_timestamp == packet.timestamp
    assert report.sender_info.ntp_timestamp >> 32 == 1_795_000_000 + NTP_BEFORE_UNIX_S & 0xFFFFFFFF
    assert report.sender_info.ntp_timestamp & 0xFFFFFFFF == 1 << 31
    assert (report.sender_info.packet_count, report.sender_info.octet_count) == (1, 3)


@given(st.binary(min_size=1, max_size=20_000), st.integers(0, 1 << 20))
def test_a_frame_is_the_sum_of_its_payloads(frame: bytes, picture_id: int) -> None:
    whole = b""
    for number, payload in enumerate(vp8_payloads(frame, picture_id)):
        assert len(payload) <= PAYLOAD_BYTES_MAX
        descriptor, data = VpxPayloadDescriptor.parse(payload)
        assert descriptor.partition_start == (number == 0)
        assert descriptor.picture_id == picture_id & 0x7FFF
        whole += data
    assert whole == frame
