"""The ingest stage: what a source sends becomes a track's packets."""

from __future__ import annotations

import random
import struct
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.stream.source import (
    PAYLOAD_TYPE,
    SSRC,
    VP8_DELTA,
    VP8_KEY,
    VP8_MORE,
    Source,
    beginnings,
    check_fit_for_viewers,
    numbers,
    payloads,
)

from callboard.gateway.stream.formats import Format, format_of
from callboard.gateway.stream.ingest import Ingest
from callboard.gateway.stream.numbering import DROPOUT_MAX, WINDOW
from callboard.gateway.stream.packet import PAYLOAD_BYTES_MAX, Packet
from callboard.media.rtp import Extension, RtpPacket, build

VP8 = format_of("VP8", 90_000, is_video=True)
OPUS = format_of("opus", 48_000, is_video=False)
PCMU = format_of("PCMU", 8000, is_video=False)
FRAME_S = 0.04


def _ingest(format: Format = VP8) -> Ingest:
    return Ingest(format, payload_type=PAYLOAD_TYPE)


def _take(ingest: Ingest, packets: list[bytes], now: float = 0.0) -> list[Packet]:
    return [made for packet in packets for made in ingest.take(packet, now)]


# ---------------------------------------------------------------------- what comes in


def test_first_packet_is_number_zero_and_the_next_ones_follow() -> None:
    ingest, source = _ingest(), Source()
    packets = _take(ingest, source.frame(VP8_KEY, VP8_MORE) + source.frame(VP8_DELTA))
    assert packets == [
        Packet(0, 0, False, VP8_KEY, True),
        Packet(1, 0, True, VP8_MORE),
        Packet(2, source.ticks, True, VP8_DELTA),
    ]
    assert (ingest.counters.packets, ingest.counters.frames, ingest.counters.keyframes) == (3, 2, 1)
    assert ingest.counters.octets == sum(map(len, payloads(packets)))
    assert ingest.ssrc == SSRC


def test_header_extension_csrcs_and_padding_are_taken_off() -> None:
    ingest = _ingest()
    extended = RtpPacket(
        PAYLOAD_TYPE, True, 7, 9, SSRC, VP8_KEY, (1, 2), Extension(0xBEDE, b"\x10\xff\x00\x00")
    )
    assert payloads(ingest.take(build(extended, padding=9), 0.0)) == [VP8_KEY]


@pytest.mark.parametrize("data", [b"", b"\x80\x60", b"\x40" + bytes(20), b"\xbf\x60" + bytes(20)])
def test_garbage_is_counted_and_dropped(data: bytes) -> None:
    ingest = _ingest()
    assert ingest.take(data, 0.0) == []
    assert ingest.counters.garbage == 1
    assert ingest.ssrc is None


def test_padding_only_packets_leave_no_gap() -> None:
    ingest, source = _ingest(), Source()
    stream = [source.packet(VP8_KEY), source.packet(b"", padding=200), source.packet(b"")]
    stream += [source.packet(VP8_MORE, marker=True)]
    assert numbers(_take(ingest, stream)) == [0, 1]
    assert ingest.counters.padding == 2
    assert ingest.counters.missing == 0


def test_padding_before_the_first_frame_begins_nothing() -> None:
    ingest, source = _ingest(), Source()
    stream = [source.packet(b"", padding=10) for _ in range(5)]
    assert _take(ingest, stream) == []
    assert numbers(_take(ingest, source.frame(VP8_KEY))) == [0]
    assert ingest.counters.restarts == 0


def test_other_payload_types_are_counted_and_leave_no_gap() -> None:
    ingest, source = _ingest(), Source()
    stream = source.frame(VP8_KEY)
    source.payload_type = 99
    stream += [source.packet(b"fec")]
    source.payload_type = PAYLOAD_TYPE
    stream += source.frame(VP8_DELTA)
    assert numbers(_take(ingest, stream)) == [0, 1]
    assert ingest.counters.payload_type == 1


def test_other_payload_type_makes_nobody_the_source() -> None:
    ingest = _ingest()
    assert _take(ingest, Source(payload_type=99, ssrc=5).frame(b"fec")) == []
    assert (ingest.ssrc, ingest.counters.payload_type) == (None, 1)


def test_any_payload_type_is_taken_where_none_is_known() -> None:
    ingest = Ingest(VP8)
    assert len(_take(ingest, Source(payload_type=111).frame(VP8_KEY))) == 1


# ---------------------------------------------------------------------- order


def test_numbers_go_on_where_the_sources_wrap_around() -> None:
    ingest, source = _ingest(), Source(sequence=65_530)
    packets = [made for _ in range(20) for made in _take(ingest, source.frame(VP8_DELTA))]
    assert numbers(packets) == list(range(20))
    assert source.sequence & 0xFFFF < 65_530


def test_numbers_go_on_over_many_rounds() -> None:
    ingest = Ingest(OPUS)
    source = Source(sequence=0, ticks=960)
    count = 70_000
    last = 0
    for number in range(count):
        (packet,) = ingest.take(source.frame(b"x")[0], number * 0.02)
        last = packet.sequence
    assert last == count - 1


def test_timestamps_go_on_where_the_sources_wrap_around() -> None:
    ingest, source = _ingest(), Source(timestamp=(1 << 32) - 2 * 3600)
    packets = [made for _ in range(5) for made in _take(ingest, source.frame(VP8_DELTA))]
    assert [packet.timestamp for packet in packets] == [0, 3600, 7200, 10_800, 14_400]
    assert ingest.counters.jumps == 0


def test_lost_packets_leave_a_gap() -> None:
    ingest, source = _ingest(), Source()
    stream = [source.frame(VP8_DELTA)[0] for _ in range(6)]
    assert numbers(_take(ingest, stream[:2] + stream[4:])) == [0, 1, 4, 5]
    assert ingest.counters.missing == 2
    assert ingest.missing() == [1002, 1003]


def test_late_packet_keeps_its_number() -> None:
    ingest, source = _ingest(), Source(sequence=65_534)
    stream = [source.frame(VP8_DELTA + bytes((number,)))[0] for number in range(5)]
    packets = _take(ingest, [stream[0], stream[3], stream[2], stream[4], stream[1]])
    assert numbers(packets) == [0, 3, 2, 4, 1]
    for packet in packets:
        assert packet.payload[-1] == packet.sequence
        assert packet.timestamp == 3600 * packet.sequence
    assert (ingest.counters.reordered, ingest.counters.missing) == (2, 2)
    assert ingest.missing() == []


def test_late_keyframe_is_still_one() -> None:
    ingest, source = _ingest(), Source()
    stream = source.frame(VP8_DELTA) + source.frame(VP8_KEY) + source.frame(VP8_DELTA)
    packets = _take(ingest, [stream[0], stream[2], stream[1]])
    assert beginnings(packets) == [1]


def test_late_packet_keeps_its_number_behind_one_that_was_split() -> None:
    ingest, source = _ingest(), Source()
    stream = source.frame(VP8_KEY + bytes(2 * PAYLOAD_BYTES_MAX))
    stream += [source.frame(VP8_DELTA + bytes((number,)))[0] for number in range(4)]
    packets = _take(ingest, [stream[0], stream[1], stream[3], stream[2], stream[4]])
    assert numbers(packets) == [0, 1, 2, 3, 5, 4, 6]


def test_late_packet_that_must_be_split_is_dropped() -> None:
    ingest, source = _ingest(), Source()
    stream = source.frame(VP8_DELTA)
    long = source.frame(VP8_DELTA + bytes(PAYLOAD_BYTES_MAX))
    after = source.frame(VP8_DELTA)
    assert numbers(_take(ingest, stream + after + long)) == [0, 2]
    assert ingest.counters.late == 1
    assert ingest.missing() == []


def test_late_padding_goes_on_empty_since_its_number_stands() -> None:
    ingest, source = _ingest(), Source()
    stream = [*source.frame(VP8_KEY), source.packet(b"", padding=4), *source.frame(VP8_DELTA)]
    packets = _take(ingest, [stream[0], stream[2], stream[1]])
    assert packets[-1] == Packet(1, 3600, False, b"")


def test_duplicates_are_dropped() -> None:
    ingest, source = _ingest(), Source()
    stream = [source.frame(VP8_DELTA)[0] for _ in range(5)]
    first = _take(ingest, [stream[0], stream[3]])
    again = _take(ingest, [stream[0], stream[3], stream[1], stream[1]])
    assert (numbers(first), numbers(again)) == ([0, 3], [1])
    assert ingest.counters.duplicate == 3


def test_packet_from_before_the_beginning_is_dropped() -> None:
    ingest, source = _ingest(), Source()
    stream = [source.frame(VP8_DELTA)[0] for _ in range(3)]
    assert numbers(_take(ingest, [stream[1], stream[0], stream[2]])) == [0, 1]


def test_packet_that_is_too_late_is_dropped() -> None:
    ingest, source = _ingest(), Source(ticks=90)
    first, older, newer = (source.frame(VP8_DELTA) for _ in range(3))
    stream = [source.frame(VP8_DELTA)[0] for _ in range(WINDOW - 1)]
    _take(ingest, first + stream)
    assert ingest.missing() == [1002]
    assert _take(ingest, older) == []
    assert numbers(_take(ingest, newer)) == [2]


def test_packet_is_lost_once_it_can_no_longer_come() -> None:
    ingest, source = _ingest(), Source(ticks=90)
    first, late, never = (source.frame(VP8_DELTA) for _ in range(3))
    _take(ingest, first + source.frame(VP8_DELTA))
    assert (ingest.counters.missing, ingest.lost()) == (2, 0)
    _take(ingest, late)
    _take(ingest, [source.frame(VP8_DELTA)[0] for _ in range(WINDOW)])
    assert ingest.lost() == 1
    assert _take(ingest, never) == []
    assert ingest.lost() == 1


def test_what_another_source_or_a_long_gap_leaves_behind_is_lost() -> None:
    ingest, source = _ingest(), Source(ticks=90)
    _take(ingest, source.frame(VP8_KEY))
    source.sequence += 2000
    _take(ingest, source.frame(VP8_DELTA))
    assert ingest.lost() == 2001 - WINDOW, "the packet behind the gap is in the window, too"
    _take(ingest, Source(ssrc=2).frame(VP8_KEY), 5.0)
    assert ingest.lost() == 2000


def test_late_packet_that_was_of_no_use_is_lost() -> None:
    ingest, source = _ingest(), Source(ticks=90)
    first, late = source.frame(VP8_KEY), source.frame(VP8_MORE + bytes(PAYLOAD_BYTES_MAX))
    _take(ingest, first + source.frame(VP8_DELTA) + late)
    assert (ingest.counters.late, ingest.lost()) == (1, 1)


def test_what_is_kept_for_late_packets_is_bounded() -> None:
    ingest, source = _ingest(), Source()
    for _ in range(5000):
        source.sequence += random.Random(source.sequence).choice([0, 1, 50, DROPOUT_MAX - 1])
        _take(ingest, source.frame(VP8_DELTA))
    assert len(ingest.missing()) <= WINDOW
    assert len(ingest._numbering._kept) <= 2 * WINDOW


@given(
    seed=st.integers(0, 1 << 32),
    start=st.integers(0, 0xFFFF),
    loss=st.sampled_from([0.0, 0.05, 0.3]),
)
def test_each_number_stands_for_one_packet_whatever_the_network_does(
    seed: int, start: int, loss: float
) -> None:
    """Shuffled within 20 packets, lost, doubled: whatever comes out is numbered as it was sent."""
    rng = random.Random(seed)
    ingest, source = Ingest(OPUS), Source(sequence=start, ticks=960)
    sent = [source.frame(b"%d" % number)[0] for number in range(200)]
    arriving = [(number + rng.random() * 20, packet) for number, packet in enumerate(sent)]
    arriving = [each for each in arriving if rng.random() >= loss]
    arriving += [(at + rng.random() * 20, packet) for at, packet in rng.sample(arriving, 10)]
    packets, lost = [], [0]
    for _, packet in sorted(arriving):
        packets += ingest.take(packet, 0.0)
        lost.append(ingest.lost())
    assert lost == sorted(lost), "a counter never goes down"
    assert max(Counter(numbers(packets)).values()) == 1
    assert len({int(packet.payload) - packet.sequence for packet in packets}) == 1
    assert len({packet.timestamp - 960 * packet.sequence for packet in packets}) == 1
    assert ingest.counters.packets == len(packets)


# ---------------------------------------------------------------------- who sends


def test_second_source_is_refused_while_the_first_is_live() -> None:
    ingest, first, second = _ingest(), Source(), Source(ssrc=2, sequence=7)
    packets = []
    for number in range(100):
        now = number * FRAME_S
        packets += _take(ingest, first.frame(VP8_DELTA), now)
        assert _take(ingest, second.frame(VP8_KEY), now) == []
    assert numbers(packets) == list(range(100))
    assert (ingest.counters.foreign, ingest.counters.restarts) == (100, 0)


def test_source_that_restarts_goes_on_in_place() -> None:
    ingest, first, second = _ingest(), Source(), Source(ssrc=2, sequence=60_000, timestamp=7)
    before = _take(ingest, first.frame(VP8_KEY) + first.frame(VP8_DELTA), 10.0)
    assert _take(ingest, second.frame(VP8_KEY), 11.9) == []
    after = _take(ingest, second.frame(VP8_KEY), 12.0) + _take(ingest, second.frame(VP8_DELTA))
    assert numbers(before + after) == [0, 1, 2, 3]
    assert after[0].timestamp == before[-1].timestamp + 2 * 90_000
    assert after[1].timestamp == after[0].timestamp + 3600
    assert (ingest.counters.restarts, ingest.ssrc) == (1, 2)


def test_takeover_time_is_the_callers() -> None:
    ingest = Ingest(VP8, takeover_s=0.5)
    _take(ingest, Source().frame(VP8_KEY), 0.0)
    assert _take(ingest, Source(ssrc=2).frame(VP8_KEY), 0.49) == []
    assert numbers(_take(ingest, Source(ssrc=2).frame(VP8_KEY), 0.5)) == [1]


def test_restart_moves_the_timestamp_even_in_the_same_moment() -> None:
    ingest = Ingest(VP8, takeover_s=0.0)
    (before,) = _take(ingest, Source().frame(VP8_KEY), 1.0)
    (after,) = _take(ingest, Source(ssrc=2).frame(VP8_KEY), 1.0)
    assert after.timestamp == before.timestamp + 1


def test_source_that_said_goodbye_is_followed_at_once_but_not_by_itself() -> None:
    ingest, first, second = _ingest(), Source(), Source(ssrc=2)
    _take(ingest, first.frame(VP8_KEY), 1.0)
    ingest.goodbye()
    assert ingest.ssrc is None
    assert _take(ingest, first.frame(VP8_DELTA), 1.1) == []
    assert numbers(_take(ingest, second.frame(VP8_KEY), 1.2)) == [1]
    assert ingest.counters.foreign == 1


def test_source_that_said_goodbye_may_come_back_after_a_while() -> None:
    ingest, source = _ingest(), Source()
    _take(ingest, source.frame(VP8_KEY), 1.0)
    ingest.goodbye()
    assert numbers(_take(ingest, source.frame(VP8_KEY), 3.0)) == [1]


@pytest.mark.parametrize("jump", [DROPOUT_MAX + 1, 30_000, -WINDOW - 10, -30_000])
def test_source_that_numbers_anew_goes_on_in_place(jump: int) -> None:
    ingest, source = _ingest(), Source(sequence=65_000)
    before = _take(ingest, source.frame(VP8_KEY) + source.frame(VP8_DELTA), 1.0)
    source.sequence += jump
    source.timestamp += 1 << 31
    after = _take(ingest, source.frame(VP8_KEY, VP8_MORE) + source.frame(VP8_DELTA), 1.5)
    assert numbers(before + after) == [0, 1, 2, 3, 4]
    assert payloads(after) == [VP8_KEY, VP8_MORE, VP8_DELTA]
    assert after[0].timestamp == before[-1].timestamp + 45_000
    assert (ingest.counters.restarts, ingest.counters.wild) == (1, 0)


@pytest.mark.parametrize("back", [2, 100, WINDOW, WINDOW + 1])
def test_source_that_was_silent_and_numbers_from_a_little_before_goes_on_in_place(
    back: int,
) -> None:
    """It was started anew with the SSRC it had: after a silence nothing is late."""
    ingest, source = _ingest(), Source(sequence=5000)
    for n in range(5):
        _take(ingest, source.frame(VP8_DELTA), n * FRAME_S)
    source.sequence -= back
    made = [
        *_take(ingest, source.frame(VP8_KEY), 3.0),
        *_take(ingest, source.frame(VP8_DELTA), 3.04),
        *_take(ingest, source.frame(VP8_DELTA), 3.08),
    ]
    assert numbers(made) == [5, 6, 7] and made[0].keyframe
    assert (ingest.counters.restarts, ingest.counters.duplicate) == (1, 0)


def test_late_packet_behind_a_silence_is_no_restart() -> None:
    ingest, source = _ingest(), Source(sequence=5000)
    first = [source.frame(VP8_DELTA) for _ in range(5)]
    for n, frame in enumerate(first):
        _take(ingest, frame, n * FRAME_S)
    assert _take(ingest, first[3], 3.0) == []
    assert numbers(_take(ingest, source.frame(VP8_DELTA), 3.04)) == [5]
    assert ingest.counters.restarts == 0


def test_numbers_kept_for_late_packets_are_not_another_sources() -> None:
    ingest, first = _ingest(), Source()
    stream = [first.frame(VP8_DELTA)[0] for _ in range(3)]
    _take(ingest, [stream[0], stream[2]], 1.0)
    second = Source(ssrc=2, sequence=1001)
    early, begin = second.frame(VP8_MORE), second.frame(VP8_KEY)
    assert numbers(_take(ingest, begin + early, 5.0)) == [3]
    assert ingest.counters.duplicate == 1


def test_stray_packets_before_and_after_a_loss_are_no_restart() -> None:
    ingest, source, strays = _ingest(), Source(), Source(sequence=40_000)
    packets = _take(ingest, source.frame(VP8_DELTA) + strays.frame(VP8_KEY))
    source.sequence += 1
    packets += _take(ingest, source.frame(VP8_DELTA) + strays.frame(VP8_KEY))
    assert numbers(packets) == [0, 2]
    assert ingest.counters.restarts == 0


def test_stray_packets_from_far_away_are_dropped() -> None:
    ingest, source = _ingest(), Source()
    strays = Source(sequence=40_000)
    packets = []
    for _ in range(50):
        packets += _take(ingest, source.frame(VP8_DELTA) + strays.frame(VP8_KEY))
    packets += _take(ingest, source.frame(VP8_DELTA))
    assert numbers(packets) == list(range(51))
    assert (ingest.counters.wild, ingest.counters.restarts) == (50, 0)


def test_replayed_packets_change_nothing() -> None:
    ingest, source = _ingest(), Source()
    stream = [source.frame(VP8_DELTA)[0] for _ in range(2000)]
    packets = _take(ingest, stream[:1000])
    for number in range(1000, 2000):
        packets += _take(ingest, [stream[number], stream[number - 1000]])
    assert numbers(packets) == list(range(2000))
    assert ingest.counters.restarts == 0


# ---------------------------------------------------------------------- time


@pytest.mark.parametrize("jump", [-100_000, -(1 << 30), 11 * 90_000, 1 << 30])
def test_clock_that_is_set_anew_goes_on_by_the_time_that_went_by(jump: int) -> None:
    ingest, source = _ingest(), Source()
    (before,) = _take(ingest, source.frame(VP8_KEY), 1.0)
    source.timestamp += jump
    (after,) = _take(ingest, source.frame(VP8_KEY), 1.04)
    (later,) = _take(ingest, source.frame(VP8_DELTA), 1.08)
    assert after.timestamp == before.timestamp + 3600
    assert later.timestamp == after.timestamp + 3600
    assert ingest.counters.jumps == 1


def test_pause_of_which_the_clock_knows_is_no_jump() -> None:
    ingest, source = _ingest(), Source()
    _take(ingest, source.frame(VP8_KEY), 1.0)
    source.timestamp += 60 * 90_000
    (after,) = _take(ingest, source.frame(VP8_KEY), 61.0)
    assert after.timestamp == 60 * 90_000 + 3600
    assert ingest.counters.jumps == 0


def test_frames_out_of_order_are_no_jump() -> None:
    ingest, source = _ingest(), Source()
    stamps = []
    for step in (0, 3, 1, 2, 6, 4, 5):
        source.timestamp = 50_000 + 3600 * step
        stamps += [packet.timestamp for packet in _take(ingest, source.frame(VP8_DELTA))]
    assert stamps == [3600 * step for step in (0, 3, 1, 2, 6, 4, 5)]
    assert ingest.newest_timestamp == 6 * 3600


def test_late_packet_of_another_clock_is_dropped() -> None:
    ingest, source = _ingest(), Source()
    first, late = source.frame(VP8_KEY), source.frame(VP8_DELTA)
    source.timestamp += 1 << 30
    assert numbers(_take(ingest, first + source.frame(VP8_KEY) + late)) == [0, 2]
    assert ingest.counters.late == 1


def test_clock_is_unknown_until_a_report_has_come() -> None:
    ingest, source = _ingest(), Source(timestamp=(1 << 32) - 1800)
    _take(ingest, source.frame(VP8_KEY))
    assert ingest.clock() is None
    ingest.sender_report(SSRC + 1, 5 << 32, 0)
    assert ingest.clock() is None
    ingest.sender_report(SSRC, 6 << 32, 1800)
    assert ingest.clock() == (6 << 32, 3600)


def test_report_holds_in_our_timestamps_after_a_restart() -> None:
    ingest, second = _ingest(), Source(ssrc=2, timestamp=900)
    _take(ingest, Source().frame(VP8_KEY), 0.0)
    ingest.sender_report(SSRC, 1 << 32, 50_000)
    _take(ingest, second.frame(VP8_KEY), 4.0)
    assert ingest.clock() is None
    ingest.sender_report(2, 9 << 32, 900 + 90_000)
    assert ingest.clock() == (9 << 32, 5 * 90_000)


def test_report_that_comes_before_its_source_is_remembered() -> None:
    ingest, source = _ingest(), Source()
    ingest.sender_report(SSRC, 1 << 32, source.timestamp - 9000)
    _take(ingest, source.frame(VP8_KEY))
    assert ingest.clock() == (1 << 32, -9000)


def test_report_of_another_source_is_not_taken_for_the_one_that_begins() -> None:
    ingest, source = _ingest(), Source()
    ingest.sender_report(SSRC + 1, 1 << 32, source.timestamp)
    _take(ingest, source.frame(VP8_KEY))
    assert ingest.clock() is None


def test_report_does_not_hold_beyond_a_jump_of_the_clock() -> None:
    ingest, source = _ingest(), Source()
    _take(ingest, source.frame(VP8_KEY))
    ingest.sender_report(SSRC, 1 << 32, 50_000)
    source.timestamp += 1 << 30
    _take(ingest, source.frame(VP8_KEY))
    assert ingest.clock() is None


# ---------------------------------------------------------------------- length


def test_long_packet_becomes_several_and_the_marker_ends_the_frame() -> None:
    ingest, source = _ingest(), Source()
    stream = source.frame(VP8_KEY + bytes(3000)) + source.frame(VP8_DELTA)
    packets = _take(ingest, stream)
    check_fit_for_viewers(packets)
    assert [packet.marker for packet in packets] == [False, False, True, True]
    assert beginnings(packets) == [0]
    assert (ingest.counters.split, ingest.counters.packets) == (1, 2)


def test_long_packet_of_samples_becomes_several_with_their_own_timestamps() -> None:
    ingest, source = Ingest(PCMU), Source(ticks=3000)
    sound = bytes(range(250)) * 12
    (talk,) = source.frame(sound)
    packets = _take(ingest, [talk, *source.frame(b"next")])
    assert b"".join(payloads(packets[:3])) == sound
    assert [packet.timestamp for packet in packets] == [0, 1200, 2400, 3000]
    assert [packet.marker for packet in packets] == [True, False, False, True]
    assert beginnings(packets) == [0, 1, 2, 3]


def test_long_packet_that_cannot_be_split_leaves_a_gap() -> None:
    ingest, source = Ingest(OPUS), Source(ticks=960)
    stream = source.frame(b"a") + source.frame(bytes(PAYLOAD_BYTES_MAX + 1)) + source.frame(b"b")
    assert numbers(_take(ingest, stream)) == [0, 2]
    assert ingest.counters.oversize == 1


@pytest.mark.parametrize("codec", ["VP8", "VP9", "H264", "H265", "AV1", "opus", "PCMU"])
@given(data=st.data())
def test_nothing_that_comes_raises_or_is_lost_from_the_counters(
    codec: str, data: st.DataObject
) -> None:
    is_video = codec not in ("opus", "PCMU")
    ingest = Ingest(format_of(codec, 90_000, is_video=is_video), payload_type=PAYLOAD_TYPE)
    header = st.builds(
        lambda first, kind, sequence, timestamp, ssrc, rest: (
            struct.pack("!BBHII", first, kind, sequence, timestamp, ssrc) + rest
        ),
        st.sampled_from([0x80, 0x80, 0x80, 0x90, 0xA0, 0x8F, 0x00]),
        st.sampled_from([PAYLOAD_TYPE, PAYLOAD_TYPE | 0x80, 0]),
        st.sampled_from([0, 1, 2, 3, 4, 40_000, 40_001, 65_535]),
        st.sampled_from([0, 3000, 1 << 31, (1 << 32) - 1]),
        st.sampled_from([1, 1, 1, 2]),
        st.binary(max_size=30) | st.binary(max_size=8).map(lambda start: start + bytes(1300)),
    )
    stream = data.draw(st.lists(header | st.binary(max_size=30), max_size=30))
    made: list[Packet] = []
    for number, packet in enumerate(stream):
        made += ingest.take(packet, number * 0.3)
    assert all(len(packet.payload) <= PAYLOAD_BYTES_MAX for packet in made)
    assert max(Counter(numbers(made)).values(), default=1) == 1
    counted = ingest.counters
    dropped = (
        counted.garbage, counted.payload_type, counted.foreign, counted.padding,
        counted.duplicate, counted.late, counted.wild, counted.oversize, counted.withheld,
    )  # fmt: skip
    held = 1 if ingest._held is not None else 0
    assert counted.packets + sum(dropped) + held == len(stream)


@given(
    start=st.integers(0, 0xFFFF),
    sizes=st.lists(st.integers(0, 4000), min_size=1, max_size=30),
    codec=st.sampled_from(["VP8", "H264", "H265", "PCMU"]),
)
def test_numbers_of_a_source_that_loses_nothing_have_no_gap(
    start: int, sizes: list[int], codec: str
) -> None:
    ingest = Ingest(format_of(codec, 90_000, is_video=codec != "PCMU"))
    source = Source(sequence=start)
    begin = {"VP8": b"\x10\x01", "H264": b"\x61", "H265": b"\x02\x01", "PCMU": b""}[codec]
    made = []
    for size in sizes:
        made += _take(ingest, source.frame(begin + bytes(size)) if size else source.frame(b""))
    check_fit_for_viewers(made)
    assert ingest.next_sequence == len(made)
