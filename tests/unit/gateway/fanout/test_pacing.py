"""The queue of a joining viewer: its pace, its order, its bounds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.fanout.viewers import packet

from callboard.gateway.fanout.header import HEADER_BYTES
from callboard.gateway.fanout.pacing import FACTOR, RATE_MIN_BIT_S, SLACK_S, Bounds, Kind, Pacing

AUDIO, VIDEO = Kind.AUDIO, Kind.VIDEO
RATE = 2_000_000.0


def _drain(pacing: Pacing, now: float) -> list[tuple[Kind, int, float]]:
    """Take everything as it comes due: kind, number and time of each."""
    taken = []
    while (due_at := pacing.due_at()) is not None:
        now = max(now, due_at)
        taken += [(kind, one.sequence, now) for kind, one in pacing.take(now)]
    return taken


def test_video_goes_out_at_two_and_a_half_times_its_rate() -> None:
    pacing = Pacing(RATE, 10.0)
    for n in range(100):
        pacing.put(VIDEO, packet(n, bytes(1238)))
    times = [at for _, _, at in _drain(pacing, 10.0)]
    assert times[-1] - times[0] == pytest.approx(99 * 1250 * 8 / (2.5 * RATE))


def test_first_packet_goes_at_once() -> None:
    pacing = Pacing(RATE, 10.0)
    pacing.put(VIDEO, packet(1))
    assert pacing.due_at() == 10.0
    assert pacing.take(9.99) == []
    assert [one.sequence for _, one in pacing.take(10.0)] == [1]


def test_audio_goes_before_video_and_each_in_order() -> None:
    pacing = Pacing(RATE, 0.0)
    for n in range(3):
        pacing.put(VIDEO, packet(n))
    for n in range(2):
        pacing.put(AUDIO, packet(n))
    order = [(kind, number) for kind, number, _ in _drain(pacing, 0.0)]
    assert order == [(AUDIO, 0), (AUDIO, 1), (VIDEO, 0), (VIDEO, 1), (VIDEO, 2)]


def test_late_timer_loses_no_time_within_the_slack() -> None:
    """20 Mbit/s in wakes of 2 ms: more than one packet each."""
    pacing = Pacing(20e6, 0.0)
    for n in range(1000):
        pacing.put(VIDEO, packet(n, bytes(1238)))
    sent = sum(len(pacing.take(tick * 0.002)) for tick in range(51))
    assert sent == pytest.approx(0.1 * 50e6 / 8 / 1250, abs=3)


def test_stream_that_stands_still_is_taken_for_the_least_rate() -> None:
    assert Pacing(0.0, 0.0).rate_bit_s == FACTOR * RATE_MIN_BIT_S


def test_factor_that_never_drains_is_refused() -> None:
    with pytest.raises(ValueError, match="never ends"):
        Pacing(RATE, 0.0, factor=1.0)


def test_over_the_bound_queued_video_goes_and_a_keyframe_is_wanted() -> None:
    pacing = Pacing(RATE, 0.0, bounds=Bounds(packets=5))
    pacing.put(AUDIO, packet(100))
    assert [pacing.put(VIDEO, packet(n)) for n in range(5)] == [True, True, True, True, False]
    assert (len(pacing), pacing.dropped) == (1, 5)
    assert not pacing.done
    assert [(kind, number) for kind, number, _ in _drain(pacing, 0.0)] == [(AUDIO, 100)]


def test_bound_in_bytes_is_kept_too() -> None:
    pacing = Pacing(RATE, 0.0, bounds=Bounds(bytes=3 * (1000 + HEADER_BYTES)))
    assert [pacing.put(VIDEO, packet(n, bytes(1000))) for n in range(4)] == [True] * 3 + [False]
    assert len(pacing) == 0


def test_what_was_sent_counts_for_the_bound_no_more() -> None:
    pacing = Pacing(RATE, 0.0, bounds=Bounds(bytes=3000))
    for n in range(100):
        assert pacing.put(VIDEO, packet(n, bytes(1000)))
        assert len(pacing.take(float(n))) == 1


def test_after_a_drop_video_goes_on_with_a_keyframe_and_it_is_wanted_once() -> None:
    pacing = Pacing(RATE, 0.0, bounds=Bounds(packets=2))
    answers = [pacing.put(VIDEO, packet(n)) for n in range(5)]
    assert answers == [True, True, False, True, True]
    assert pacing.due_at() is None
    assert not pacing.done
    assert pacing.put(VIDEO, packet(5, keyframe=True))
    assert pacing.put(VIDEO, packet(6))
    assert [number for _, number, _ in _drain(pacing, 0.0)] == [5, 6]
    assert pacing.done
    assert pacing.dropped == 5


def test_audio_alone_over_the_bound_loses_its_oldest() -> None:
    pacing = Pacing(RATE, 0.0, bounds=Bounds(packets=3))
    assert all(pacing.put(AUDIO, packet(n)) for n in range(5))
    assert [number for _, number, _ in _drain(pacing, 0.0)] == [2, 3, 4]
    assert pacing.done


puts = st.lists(
    st.tuples(
        st.floats(0, 0.05),
        st.lists(st.tuples(st.sampled_from(Kind), st.integers(0, 1460)), max_size=8),
    ),
    max_size=30,
)


@given(puts=puts, rate=st.floats(1e5, 1e8), slack_s=st.sampled_from([0.0, SLACK_S]))
def test_no_span_of_time_sees_more_than_the_rate_the_slack_and_one_packet(
    puts: list[tuple[float, list[tuple[Kind, int]]]], rate: float, slack_s: float
) -> None:
    pacing = Pacing(rate, 0.0, slack_s=slack_s)
    now, sent = 0.0, []
    numbers = itertools.count()
    for passed, packets in puts:
        for kind, size in packets:
            pacing.put(kind, packet(next(numbers), bytes(size)))
        now += passed
        sent += [(now, one) for _, one in pacing.take(now)]
    sizes = [(at, (len(one.payload) + HEADER_BYTES) * 8) for at, one in sent]
    for first, (begun, _) in enumerate(sizes):
        total = 0
        for at, bits in sizes[first:]:
            total += bits
            span = at - begun + slack_s
            assert total <= pacing.rate_bit_s * span + bits + 1e-3


@given(puts=puts, packets_max=st.integers(1, 20), bytes_max=st.integers(1500, 9000))
def test_queue_stays_in_its_bounds_and_in_order(
    puts: list[tuple[float, list[tuple[Kind, int]]]], packets_max: int, bytes_max: int
) -> None:
    pacing = Pacing(RATE, 0.0, bounds=Bounds(packets_max, bytes_max))
    now = 0.0
    numbers = itertools.count()
    sent: dict[Kind, list[int]] = {AUDIO: [], VIDEO: []}
    for passed, packets in puts:
        for kind, size in packets:
            pacing.put(kind, packet(next(numbers), bytes(size)))
            assert len(pacing) <= packets_max
        now += passed
        for kind, one in pacing.take(now):
            sent[kind].append(one.sequence)
    for kind, number, _ in _drain(pacing, now):
        sent[kind].append(number)
    for numbers_sent in sent.values():
        assert numbers_sent == sorted(set(numbers_sent))
    assert sum(map(len, sent.values())) + pacing.dropped == next(numbers)
