"""The group of pictures that a viewer who joins is sent."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.stream.source import numbers

from callboard.gateway.stream.gop import PACKETS_MAX, Gop, compressed
from callboard.gateway.stream.packet import Packet
from callboard.gateway.stream.ring import Ring

CLOCK_RATE = 90_000
FRAME = 3600
MILLISECOND = 90


class Stream:
    """A ring and the cache above it."""

    def __init__(self) -> None:
        self.ring = Ring()
        self.gop = Gop(self.ring, CLOCK_RATE)

    def put(self, number: int, timestamp: int, *, keyframe: bool = False) -> None:
        """A packet comes."""
        packet = Packet(number, timestamp, False, b"x", keyframe)
        self.ring.put(packet)
        self.gop.put(packet)

    def frames(self, count: int, *, packets: int = 1) -> None:
        """A keyframe and what follows, each of so many packets."""
        begin, number = self.ring.newest + 1, self.ring.newest + 1
        for frame in range(count):
            for _ in range(packets):
                self.put(number, (begin + frame) * FRAME, keyframe=number == begin)
                number += 1


def test_nothing_is_kept_before_the_first_keyframe() -> None:
    stream = Stream()
    stream.put(0, 0)
    assert stream.gop.burst() == []


def test_group_begins_with_the_last_keyframe() -> None:
    stream = Stream()
    stream.frames(10)
    stream.frames(5)
    assert numbers(stream.gop.packets()) == [10, 11, 12, 13, 14]


def test_late_packet_is_part_of_the_group() -> None:
    stream = Stream()
    stream.put(0, 0, keyframe=True)
    stream.put(2, 2 * FRAME)
    stream.put(1, FRAME)
    assert numbers(stream.gop.packets()) == [0, 1, 2]


def test_late_keyframe_begins_the_group_with_what_came_after_it() -> None:
    stream = Stream()
    stream.put(0, 0)
    stream.put(2, FRAME)
    stream.put(1, FRAME, keyframe=True)
    assert numbers(stream.gop.packets()) == [1, 2]


def test_keyframe_that_is_older_than_the_group_changes_nothing() -> None:
    stream = Stream()
    stream.put(5, 5 * FRAME, keyframe=True)
    stream.put(3, 3 * FRAME, keyframe=True)
    assert numbers(stream.gop.packets()) == [5]


def test_group_longer_than_three_seconds_is_dropped_until_the_next_keyframe() -> None:
    stream = Stream()
    stream.frames(76)  # from 0 to 3 s
    assert len(stream.gop.packets()) == 76
    stream.put(76, 76 * FRAME)
    assert stream.gop.packets() == []
    stream.put(77, 77 * FRAME)
    assert stream.gop.packets() == []
    stream.put(78, 78 * FRAME, keyframe=True)
    assert numbers(stream.gop.packets()) == [78]


def test_group_of_too_many_packets_is_dropped_until_the_next_keyframe() -> None:
    stream = Stream()
    stream.frames(8, packets=PACKETS_MAX // 8)
    assert len(stream.gop.packets()) == PACKETS_MAX
    stream.put(PACKETS_MAX, 8 * FRAME)
    assert stream.gop.burst() == []
    stream.frames(1)
    assert len(stream.gop.burst()) == 1


def test_group_can_be_cleared() -> None:
    stream = Stream()
    stream.frames(3)
    stream.gop.clear()
    stream.put(3, 3 * FRAME)
    assert stream.gop.burst() == []


def test_burst_ends_at_the_newest_frames_timestamp_in_steps_of_a_millisecond() -> None:
    stream = Stream()
    stream.frames(5, packets=2)
    stamps = [packet.timestamp for packet in stream.gop.burst()]
    newest = 4 * FRAME
    assert stamps[::2] == stamps[1::2] == [newest - MILLISECOND * back for back in (4, 3, 2, 1, 0)]


def test_burst_changes_nothing_but_timestamps() -> None:
    stream = Stream()
    stream.frames(5, packets=3)
    for packet, original in zip(stream.gop.burst(), stream.gop.packets(), strict=True):
        assert (packet.sequence, packet.payload) == (original.sequence, original.payload)
        assert (packet.marker, packet.keyframe) == (original.marker, original.keyframe)


def test_burst_of_reordered_frames_keeps_their_order() -> None:
    packets = [Packet(number, FRAME * at, False, b"x") for number, at in enumerate((0, 3, 1, 2))]
    stamps = [packet.timestamp for packet in compressed(packets, MILLISECOND)]
    assert stamps == [3 * FRAME - MILLISECOND * back for back in (3, 0, 2, 1)]


@given(
    steps=st.lists(st.integers(0, 8000), min_size=1, max_size=60),
    spacing=st.sampled_from([1, 8, 48, 90]),
)
def test_bursts_rise_strictly_and_end_at_live(steps: list[int], spacing: int) -> None:
    packets, timestamp = [], 0
    for number, step in enumerate(steps):
        timestamp += step
        packets.append(Packet(number, timestamp, False, b"x"))
    burst = compressed(packets, spacing)
    assert burst[-1].timestamp == packets[-1].timestamp
    pairs = list(zip(packets, burst, strict=True))
    for (before, before_now), (after, after_now) in pairwise(pairs):
        if before.timestamp == after.timestamp:
            assert before_now.timestamp == after_now.timestamp
        else:
            assert 0 < after_now.timestamp - before_now.timestamp <= spacing
    assert all(now.timestamp >= original.timestamp for original, now in pairs)


@pytest.mark.parametrize(("clock_rate", "spacing"), [(90_000, 90), (48_000, 48), (8000, 8)])
def test_spacing_is_a_millisecond_of_the_clock(clock_rate: int, spacing: int) -> None:
    ring = Ring()
    gop = Gop(ring, clock_rate)
    for number in range(3):
        packet = Packet(number, number * clock_rate // 50, False, b"x", number == 0)
        ring.put(packet)
        gop.put(packet)
    stamps = [packet.timestamp for packet in gop.burst()]
    assert {after - before for before, after in pairwise(stamps)} == {spacing}
