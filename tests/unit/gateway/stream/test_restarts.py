"""A source begins anew: viewers see nothing of it before its first keyframe."""

from __future__ import annotations

import random

import pytest
from tests.unit.gateway.stream.source import (
    VP8_DELTA,
    VP8_KEY,
    VP8_MORE,
    Source,
    check_fit_for_viewers,
    numbers,
    payloads,
)

from callboard.gateway.stream.formats import format_of
from callboard.gateway.stream.ingest import Ingest
from callboard.gateway.stream.packet import Packet

SPS, PPS = b"\x67\x42\xe0\x1f", b"\x68\xce\x3c\x80"
IDR, SLICE = b"\x65key", b"\x61delta"


def _ingest(codec: str = "VP8", *, is_video: bool = True) -> Ingest:
    return Ingest(format_of(codec, 90_000, is_video=is_video))


def _take(ingest: Ingest, packets: list[bytes], now: float) -> list[Packet]:
    return [made for packet in packets for made in ingest.take(packet, now)]


def _begun(codec: str, *frames: bytes) -> Ingest:
    """One of which frames have come at 1.0."""
    ingest, source = _ingest(codec), Source()
    for payload in frames:
        _take(ingest, source.frame(payload), 1.0)
    return ingest


def test_pictures_of_another_source_are_withheld_until_its_keyframe() -> None:
    ingest, second = _begun("VP8", VP8_KEY, VP8_DELTA), Source(ssrc=2)
    for step in range(10):
        assert _take(ingest, second.frame(VP8_DELTA, VP8_MORE), 5.0 + step) == []
    after = _take(ingest, second.frame(VP8_KEY, VP8_MORE) + second.frame(VP8_DELTA), 15.0)
    assert numbers(after) == [2, 3, 4]
    assert payloads(after) == [VP8_KEY, VP8_MORE, VP8_DELTA]
    assert (ingest.counters.restarts, ingest.counters.withheld) == (1, 20)


def test_time_goes_on_while_pictures_are_withheld() -> None:
    ingest, second = _begun("VP8", VP8_KEY), Source(ssrc=2, timestamp=7)
    for step in range(25):
        _take(ingest, second.frame(VP8_DELTA), 4.0 + step / 25)
    (begin,) = _take(ingest, second.frame(VP8_KEY), 5.0)
    assert begin.timestamp == 4 * 90_000


def test_what_is_lost_or_strays_while_pictures_are_withheld_leaves_no_gap() -> None:
    ingest, second, rng = _begun("VP8", VP8_KEY), Source(ssrc=2), random.Random(1)
    for step in range(50):
        second.sequence += rng.choice([-9, 0, 1, 20, 10_000])
        assert _take(ingest, second.frame(VP8_DELTA), 5.0 + step / 25) == []
    second.sequence += 3
    assert numbers(_take(ingest, second.frame(VP8_KEY), 8.0)) == [1]
    assert ingest.missing() == []


def test_padding_and_other_types_are_counted_as_such_while_pictures_are_withheld() -> None:
    ingest = Ingest(format_of("VP8", 90_000, is_video=True), payload_type=96)
    _take(ingest, Source().frame(VP8_KEY), 1.0)
    second = Source(ssrc=2)
    _take(ingest, [second.packet(b""), second.packet(VP8_DELTA)], 5.0)
    second.payload_type = 97
    assert _take(ingest, second.frame(VP8_KEY), 5.0) == []
    counters = ingest.counters
    assert (counters.padding, counters.withheld, counters.payload_type) == (1, 1, 1)


def test_pictures_after_numbers_from_elsewhere_are_withheld_until_a_keyframe() -> None:
    ingest, source = _ingest(), Source()
    _take(ingest, source.frame(VP8_KEY), 1.0)
    source.sequence += 20_000
    jumped = [_take(ingest, source.frame(VP8_DELTA), 1.1 + step / 25) for step in range(5)]
    assert jumped == [[]] * 5
    assert numbers(_take(ingest, source.frame(VP8_KEY) + source.frame(VP8_DELTA), 2.0)) == [1, 2]
    assert (ingest.counters.restarts, ingest.counters.withheld) == (1, 5)


def test_sound_is_not_withheld() -> None:
    ingest, second = _ingest("opus", is_video=False), Source(ssrc=2)
    _take(ingest, Source().frame(b"one"), 1.0)
    assert payloads(_take(ingest, second.frame(b"two"), 5.0)) == [b"two"]


def test_the_first_source_is_not_withheld() -> None:
    assert numbers(_take(_ingest(), Source().frame(VP8_DELTA), 1.0)) == [0]


@pytest.mark.parametrize("known", [True, False])
def test_h264_goes_on_with_its_sets_or_its_first_slice(known: bool) -> None:
    """Without sets too: who watched has some that may do, and the slice refers to nothing."""
    ingest, second = _begun("H264", SPS, PPS, IDR, SLICE), Source(ssrc=2)
    assert _take(ingest, second.frame(SLICE), 5.0) == []
    begin = (SPS, PPS, IDR) if known else (IDR,)
    after = _take(ingest, second.frame(*begin) + second.frame(SLICE), 6.0)
    assert payloads(after) == [*begin, SLICE]
    assert after[0].keyframe == known
    check_fit_for_viewers(after)


def test_h264_with_sets_before_every_picture_goes_on_with_a_slice_of_a_keyframe() -> None:
    ingest, source = _ingest("H264"), Source()
    for picture in (IDR, SLICE, SLICE):
        _take(ingest, source.frame(SPS, PPS, picture), 1.0)
    source.sequence += 20_000
    for step in range(5):
        assert _take(ingest, source.frame(SPS, PPS, SLICE), 1.1 + step / 25) == []
    after = _take(ingest, source.frame(SPS, PPS, IDR), 2.0)
    assert after[0].keyframe
    assert payloads(after)[-1] == IDR
    check_fit_for_viewers(after)


def test_source_that_was_forgotten_goes_on_at_once_and_so_does_another() -> None:
    """The sidecar took a new lease: its pipeline runs on, or is another."""
    ingest, first, second = _begun("VP8", VP8_KEY), Source(sequence=1001), Source(ssrc=2)
    ingest.forget_source()
    assert ingest.ssrc is None
    assert numbers(_take(ingest, first.frame(VP8_KEY), 1.1)) == [1]
    ingest.forget_source()
    assert numbers(_take(ingest, second.frame(VP8_KEY), 1.2)) == [2]
    assert (ingest.counters.foreign, ingest.counters.restarts) == (0, 2)


def test_forgetting_undoes_a_goodbye() -> None:
    ingest = _begun("VP8", VP8_KEY)
    ingest.goodbye()
    ingest.forget_source()
    assert numbers(_take(ingest, Source(sequence=1001).frame(VP8_KEY), 1.1)) == [1]


def test_sets_are_kept_of_a_source_that_goes_on_after_it_was_forgotten() -> None:
    """It may have sent them once, when it began."""
    ingest, source = _begun("H264", SPS, PPS, IDR), Source(sequence=1003, timestamp=90_000)
    ingest.forget_source()
    after = _take(ingest, source.frame(SLICE) + source.frame(IDR), 1.5)
    assert after[0].keyframe and payloads(after)[-1] == IDR
    assert len(after) == 2, "the sets, and the picture"
    ingest.forget_source()
    (other,) = _take(ingest, Source(ssrc=2).frame(IDR), 2.0)
    assert not other.keyframe
