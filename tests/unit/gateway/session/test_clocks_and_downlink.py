"""The moments that sender reports tell, and what viewers' reports say of the way."""

from __future__ import annotations

import random
from itertools import pairwise

from callboard.gateway.sdp.codecs import AUDIO, VIDEO
from callboard.gateway.session.clocks import ntp_of, report_clocks
from callboard.gateway.session.downlink import Downlink
from callboard.gateway.session.feedback import Received
from callboard.gateway.sources.rtp import RtpSender
from callboard.gateway.stream.formats import format_of
from callboard.gateway.stream.track import Track

RATES = {VIDEO: 90_000, AUDIO: 48_000}


def track(kind: str) -> Track:
    name = "VP8" if kind == VIDEO else "opus"
    return Track(format_of(name, RATES[kind], is_video=kind == VIDEO, channels=2))


def feed(into: Track, sender: RtpSender, second: float, wall: float, *, report: bool) -> None:
    """A packet of this second of the source's clock, which arrives at once."""
    rate = into.format.clock_rate
    for data in sender.packets([b"\x10\x00\x9d\x01\x2a"], round(second * rate), marker=True):
        into.take(data, second)
    if report:
        into.take_rtcp(sender.report(round(second * rate), wall), second)


def both(*, reports: tuple[bool, bool]) -> list[Track]:
    rng = random.Random(1)
    tracks = [track(VIDEO), track(AUDIO)]
    for each, report in zip(tracks, reports, strict=True):
        sender = RtpSender(96, each.format.clock_rate, rng)
        for step in range(11):
            wall = 1_000_000.0 + step / 10
            feed(each, sender, step / 10, wall, report=report and step == 5)
    return tracks


def test_tracks_are_told_of_one_moment_by_the_sources_clock() -> None:
    tracks = both(reports=(True, True))
    video, audio = report_clocks(tracks, 1.0, wall=5.0)
    assert video is not None and audio is not None
    assert video.ntp == audio.ntp
    assert abs(video.ntp - ntp_of(1_000_001.0)) < 1 << 20
    assert abs(video.timestamp / 90_000 - audio.timestamp / 48_000) < 0.001


def test_without_reports_of_all_tracks_the_time_of_arrival_counts() -> None:
    for reports in ((False, False), (True, False), (False, True)):
        clocks = report_clocks(both(reports=reports), 1.5, wall=2_000_000.0)
        for clock, rate in zip(clocks, (90_000, 48_000), strict=True):
            assert clock is not None
            assert abs(clock.ntp - ntp_of(1_999_999.5)) < 1 << 20
            assert clock.timestamp == rate


def test_a_track_without_a_packet_has_no_clock() -> None:
    assert report_clocks([track(VIDEO)], 1.0, 1.0) == [None]
    assert report_clocks([], 1.0, 1.0) == []


def test_the_moment_goes_on_with_the_media_between_two_reports_of_the_source() -> None:
    made, sender = track(VIDEO), RtpSender(96, 90_000, random.Random(2))
    told = []
    for step in range(5):
        feed(made, sender, float(step), 1000.0 + step, report=step == 0)
        clock = report_clocks([made], float(step), 0.0)[0]
        assert clock is not None
        told.append((clock.ntp, clock.timestamp))
    assert all(b[0] - a[0] == 1 << 32 and b[1] - a[1] == 90_000 for a, b in pairwise(told))


def block(last: int, delay_s: float) -> Received:
    return Received(7, 0.5, 12, 99, 900, last, round(delay_s * 65_536))


def test_the_round_trip_is_what_is_left_of_the_time_since_a_report() -> None:
    way = Downlink(90_000)
    way.reported(0x0001_2345_6789_0000, 10.0)
    way.reported(0x0002_2345_6789_0000, 11.0)
    way.received(block(0x2345_6789, 0.9), 11.0)
    assert way.round_trip_s is not None and abs(way.round_trip_s - 0.1) < 0.001
    assert way.statistics() == {
        "fraction_lost": 0.5, "lost": 12, "jitter_ms": 10.0, "round_trip_ms": 100.0,
    }  # fmt: skip


def test_a_report_of_no_report_of_ours_tells_no_round_trip() -> None:
    way = Downlink(90_000)
    way.received(block(0x1234, 0.0), 1.0)
    way.reported(0x1111_2222_3333_0000, 2.0)
    way.received(block(0x2222_3333, 30.0), 3.0)
    assert way.round_trip_s is None
