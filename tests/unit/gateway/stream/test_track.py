"""A track as a whole: what viewers get, and what is known of it."""

from __future__ import annotations

import pytest
from aiortc.rtp import RtcpByePacket, RtcpSenderInfo, RtcpSrPacket
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.stream.source import (
    FRAME_TICKS,
    SSRC,
    VP8_DELTA,
    VP8_KEY,
    VP8_MORE,
    Source,
    numbers,
)

from callboard.gateway.stream.formats import format_of
from callboard.gateway.stream.packet import Packet
from callboard.gateway.stream.track import Track

FRAME_S = 0.04


class Sender:
    """A source, and a track that takes what it sends, a frame every 40 ms."""

    def __init__(self, codec: str = "VP8", *, is_video: bool = True) -> None:
        self.track = Track(format_of(codec, 90_000, is_video=is_video))
        self.source = Source()
        self.now = 100.0

    def frame(self, *payloads: bytes) -> list[Packet]:
        """Send a frame."""
        self.now += FRAME_S
        packets = self.source.frame(*payloads)
        return [made for each in packets for made in self.track.take(each, self.now)]

    def frames(self, count: int) -> list[Packet]:
        """Send a keyframe of two packets, and frames that follow it."""
        made = self.frame(VP8_KEY, VP8_MORE)
        for _ in range(count - 1):
            made += self.frame(VP8_DELTA)
        return made


def test_burst_is_the_group_and_live_goes_on_after_it() -> None:
    sender = Sender()
    sender.frames(3)
    group = sender.frames(5)
    burst = sender.track.burst(sender.now)
    assert numbers(burst) == numbers(group)
    assert burst[0].keyframe
    assert burst[-1].timestamp == group[-1].timestamp == sender.track.newest_timestamp
    (live,) = sender.frame(VP8_DELTA)
    assert live.sequence == burst[-1].sequence + 1
    assert live.timestamp == burst[-1].timestamp + FRAME_TICKS


def test_burst_is_empty_when_nothing_comes_any_more() -> None:
    sender = Sender()
    sender.frames(5)
    assert sender.track.burst(sender.now + 1.9)
    assert sender.track.burst(sender.now + 2.0) == []


def test_burst_holds_nothing_of_a_source_that_was_before() -> None:
    sender = Sender()
    sender.frames(5)
    sender.now += 2.0
    sender.source = Source(ssrc=2)
    assert sender.frame(VP8_DELTA) == []
    assert sender.track.burst(sender.now) == []
    assert sender.track.keyframe_due(sender.now)
    assert numbers(sender.frames(1)) == numbers(sender.track.burst(sender.now)) == [6, 7]


def test_source_whose_pictures_are_withheld_comes_all_the_same() -> None:
    sender = Sender()
    sender.frames(5)
    sender.source = Source(ssrc=2)
    sender.now += 2.0
    for _ in range(100):
        assert sender.frame(VP8_DELTA) == []
    assert sender.track.is_live(sender.now)
    assert sender.track.take(b"\x80garbage", sender.now + 1.0) == []
    assert sender.track.presence.last_seen == sender.now


def test_burst_of_a_source_that_begins_with_a_keyframe_is_there_at_once() -> None:
    sender = Sender()
    sender.frames(5)
    sender.now += 2.0
    sender.source = Source(ssrc=2)
    assert numbers(sender.frames(1)) == numbers(sender.track.burst(sender.now)) == [6, 7]
    assert sender.track.requests.deadline is None


def test_burst_of_audio_is_its_last_packet() -> None:
    sender = Sender("opus", is_video=False)
    for number in range(5):
        sender.frame(b"%d" % number)
    assert [packet.payload for packet in sender.track.burst(sender.now)] == [b"4"]


def test_lost_packets_are_sent_again_as_they_were() -> None:
    sender = Sender()
    sent = sender.frames(50)
    assert sender.track.lost([3, 7, 49, 5000, -1]) == [sent[3], sent[7], sent[49]]
    assert sender.track.newest == 50


def test_packet_that_never_came_cannot_be_sent_again() -> None:
    sender = Sender()
    sender.frames(3)
    sender.source.sequence += 1
    sender.frames(1)
    assert sender.track.lost([4]) == []
    assert sender.track.missing() == [1004]


def test_wishes_become_one_request_and_a_keyframe_fulfils_them() -> None:
    sender = Sender()
    sender.frames(2)
    assert sender.track.wants_keyframe(sender.now)
    sender.track.keyframe_asked(sender.now)
    assert not sender.track.wants_keyframe(sender.now + 0.1)
    assert sender.track.requests.deadline == sender.now + 0.4
    assert sender.track.keyframe_due(sender.now + 0.4)
    assert not sender.track.wants_keyframe(sender.now + 0.5)
    sender.frames(1)
    assert not sender.track.keyframe_due(sender.now + 10)


def test_reports_and_goodbye_are_taken_from_rtcp() -> None:
    sender = Sender()
    sender.frames(1)
    info = RtcpSenderInfo(
        ntp_timestamp=3 << 32, rtp_timestamp=50_090, packet_count=1, octet_count=1
    )
    report = bytes(RtcpSrPacket(ssrc=SSRC, sender_info=info))
    assert not sender.track.take_rtcp(report, sender.now)
    assert sender.track.clock() == (3 << 32, 90)
    assert not sender.track.take_rtcp(bytes(RtcpByePacket(sources=[1])), sender.now)
    assert sender.track.is_live(sender.now)
    assert sender.track.take_rtcp(report + bytes(RtcpByePacket(sources=[1, SSRC])), sender.now)
    assert not sender.track.is_live(sender.now)
    assert sender.track.ssrc is None
    assert not sender.track.take_rtcp(bytes(RtcpByePacket(sources=[SSRC])), sender.now)


def test_source_that_was_forgotten_is_followed_at_once_even_by_itself() -> None:
    sender = Sender()
    sender.frames(3)
    sender.track.forget_source()
    assert sender.track.burst(sender.now) == [] and sender.track.ssrc is None
    assert sender.frame(VP8_DELTA) == [] == sender.track.burst(sender.now)
    assert sender.track.keyframe_due(sender.now)
    assert numbers(sender.frames(1)) == numbers(sender.track.burst(sender.now)) == [4, 5]
    assert sender.track.counters.foreign == 0


def test_report_that_was_read_elsewhere_is_taken_too() -> None:
    sender = Sender()
    sender.frames(1)
    sender.track.sender_report(SSRC, 1 << 32, 50_000)
    assert sender.track.clock() == (1 << 32, 0)


def test_track_knows_its_rate_and_presence() -> None:
    sender = Sender("opus", is_video=False)
    assert not sender.track.is_live(0.0)
    for _ in range(100):
        sender.frame(bytes(500))
    assert sender.track.bits_per_s(sender.now) == pytest.approx(100_000, rel=0.07)
    assert sender.track.is_live(sender.now)
    assert sender.track.presence.last_seen == sender.now


def test_garbage_keeps_no_track_alive() -> None:
    sender = Sender()
    sender.frames(1)
    for step in range(30):
        assert sender.track.take(b"\x80garbage", sender.now + step * 0.1) == []
    assert not sender.track.is_live(sender.now + 3.0)
    assert sender.track.counters.garbage == 30


@given(stream=st.lists(st.binary(max_size=60), max_size=40), codec=st.sampled_from(["VP8", "H264"]))
def test_any_bytes_are_taken_without_an_error(stream: list[bytes], codec: str) -> None:
    track = Track(format_of(codec, 90_000, is_video=True))
    for number, data in enumerate(stream):
        track.take(b"\x80\x60" + data, number * 0.1)
        track.take_rtcp(b"\x80\xc8" + data, number * 0.1)
        track.burst(number * 0.1)
    assert track.newest <= 2 * len(stream) * 3000
