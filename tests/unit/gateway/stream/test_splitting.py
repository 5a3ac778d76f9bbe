"""Long payloads become several that carry the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.stream import depacketizing as depacketizers
from tests.unit.gateway.stream.depacketizing import DEPACKETIZERS

from callboard.gateway.stream.formats import format_of
from callboard.gateway.stream.keyframes import h264 as h264_units
from callboard.gateway.stream.keyframes import h265 as h265_units
from callboard.gateway.stream.splitting import (
    LIMIT_MIN,
    av1,
    chunks,
    h264,
    h265,
    samples,
    vp8,
    vp9,
    whole,
)

Split = Callable[[bytes, int], list[bytes] | None]

SPLITS: dict[str, Split] = {
    "VP8": vp8.split,
    "VP9": vp9.split,
    "H264": h264.split,
    "H265": h265.split,
    "AV1": av1.split,
}
LIMITS = st.integers(LIMIT_MIN, 300)


def _data(size_min: int = 1, size_max: int = 700) -> st.SearchStrategy[bytes]:
    """Bytes of any length alike: `st.binary` seldom makes what is long enough to be split."""
    return st.builds(
        lambda size, seed: random.Random(seed).randbytes(size),
        st.integers(size_min, size_max),
        st.integers(0, 1000),
    )


DATA = _data()


def _check(
    depacketize: Callable[[Sequence[bytes]], list[bytes]],
    split: Split,
    payloads: list[bytes],
    limit: int,
) -> list[bytes]:
    """Split payloads that make a whole frame; the parts make the same one, and fit."""
    made: list[bytes] = []
    for payload in payloads:
        parts = split(payload, limit)
        assert parts
        assert all(0 < len(part) <= limit for part in parts)
        made += parts
    assert depacketize(made) == depacketize(payloads)
    return made


@given(data=st.binary(max_size=500), size_max=st.integers(1, 100))
def test_chunks_are_alike_and_in_order(data: bytes, size_max: int) -> None:
    parts = chunks(data, size_max)
    assert b"".join(parts) == data
    sizes = {len(part) for part in parts}
    assert max(sizes) <= size_max
    assert max(sizes) - min(sizes) <= 1


VP8_DESCRIPTORS = st.sampled_from(
    [b"\x10", b"\x30", b"\x90\x80\x05", b"\x90\x80\x85\x06", b"\x90\xf0\x85\x06\x01\x40"]
)


@given(descriptor=VP8_DESCRIPTORS, data=DATA, more=DATA, limit=LIMITS)
def test_vp8_parts_make_the_same_partition(
    descriptor: bytes, data: bytes, more: bytes, limit: int
) -> None:
    later = bytes((descriptor[0] & ~0x10,)) + descriptor[1:]
    made = _check(depacketizers.vp8, vp8.split, [descriptor + data, later + more], limit)
    assert [bool(part[0] & 0x10) for part in made] == [True] + [False] * (len(made) - 1)


VP9_STRUCTURE = b"\x18\x02\x80\x01\x68\x02\x00\x14\x01"
VP9_DESCRIPTORS = st.sampled_from(
    [
        (0x0C, b"", b""),
        (0x8C, b"\x05", b""),
        (0x8C, b"\x85\x06", b""),
        (0xAC, b"\x85\x06\x00\x07", b""),
        (0xFC, b"\x85\x06\x00\x03\x05\x02", b""),
        (0x0E, b"", VP9_STRUCTURE),
        (0xAE, b"\x85\x06\x00\x07", VP9_STRUCTURE),
    ]
)


@given(descriptor=VP9_DESCRIPTORS, data=DATA, more=DATA, limit=LIMITS)
def test_vp9_parts_make_the_same_frame(
    descriptor: tuple[int, bytes, bytes], data: bytes, more: bytes, limit: int
) -> None:
    flags, fields, structure = descriptor
    whole = [
        bytes((flags & ~0x04,)) + fields + structure + data,
        bytes((flags & ~0x0A,)) + fields + more,
    ]
    made = _check(depacketizers.vp9, vp9.split, whole, limit)
    structures = [bool(part[0] & 0x02) for part in made]
    assert structures == [bool(structure)] + [False] * (len(made) - 1)


def _h264_units(size_min: int = 1) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda kind, importance, data: bytes((importance << 5 | kind,)) + data,
        st.sampled_from([1, 5, 6, 7, 8, 9]),
        st.integers(0, 3),
        _data(size_min),
    )


def _h265_units(size_min: int = 1) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda kind, temporal, data: bytes((kind << 1, temporal)) + data,
        st.sampled_from([0, 1, 19, 20, 21, 32, 33, 34, 39]),
        st.integers(1, 7),
        _data(size_min),
    )


@given(unit=_h264_units(), limit=LIMITS)
def test_h264_unit_becomes_fragments(unit: bytes, limit: int) -> None:
    made = h264.split(unit, limit) or []
    assert depacketizers.h264(made) == [unit] or len(unit) < 3
    assert all(len(part) <= limit for part in made)


@given(units=st.lists(_h264_units(), min_size=1, max_size=6), limit=LIMITS)
def test_h264_aggregation_becomes_shorter_ones(units: list[bytes], limit: int) -> None:
    aggregated = h264_units.aggregate(units)
    assert depacketizers.h264([aggregated]) == units
    assert depacketizers.h264(_check(depacketizers.h264, h264.split, [aggregated], limit)) == units


@given(unit=_h264_units(200), limit=st.integers(LIMIT_MIN, 90))
def test_h264_fragments_become_shorter_ones(unit: bytes, limit: int) -> None:
    made = h264.split(unit, 100)
    assert made
    again = _check(depacketizers.h264, h264.split, made, limit)
    assert depacketizers.h264(again) == [unit]


@given(units=st.lists(_h265_units(), min_size=1, max_size=6), limit=LIMITS)
def test_h265_aggregation_becomes_shorter_ones(units: list[bytes], limit: int) -> None:
    aggregated = h265_units.aggregate(units)
    assert depacketizers.h265([aggregated]) == units
    assert depacketizers.h265(_check(depacketizers.h265, h265.split, [aggregated], limit)) == units


@given(unit=_h265_units(200), limit=st.integers(LIMIT_MIN, 90))
def test_h265_unit_becomes_fragments_and_those_shorter_ones(unit: bytes, limit: int) -> None:
    made = h265.split(unit, 100)
    assert made
    assert depacketizers.h265(made) == [unit]
    assert depacketizers.h265(_check(depacketizers.h265, h265.split, made, limit)) == [unit]


@given(
    obus=st.lists(_data(1, 400), min_size=1, max_size=6),
    counted=st.booleans(),
    flags=st.sampled_from([0, 0x08]),
    limit=LIMITS,
)
def test_av1_elements_are_spread_over_packets(
    obus: list[bytes], counted: bool, flags: int, limit: int
) -> None:
    count = len(obus) if counted and len(obus) <= 3 else 0
    payload = bytes((flags | count << 4,))
    for number, obu in enumerate(obus, 1):
        if number != count:
            payload += bytes((len(obu) & 0x7F | 0x80, len(obu) >> 7))
        payload += obu
    assert depacketizers.av1([payload]) == obus
    made = _check(depacketizers.av1, av1.split, [payload], limit)
    assert [part[0] & 0x08 for part in made] == [flags] + [0] * (len(made) - 1)


def test_av1_element_that_fits_is_not_cut_and_the_next_packet_continues_nothing() -> None:
    full, rest = b"\x30" + bytes(60), b"\x30rest"
    payload = b"\x00\x3d" + full + b"\x05" + rest
    assert av1.split(payload, 64) == [b"\x10" + full, b"\x10" + rest]


@given(obu=_data(300, 900), limit=st.integers(LIMIT_MIN, 90))
def test_av1_fragments_stay_fragments(obu: bytes, limit: int) -> None:
    whole = [b"\x50" + obu[:100], b"\xd0" + obu[100:200], b"\x90" + obu[200:]]
    assert depacketizers.av1(whole) == [obu]
    _check(depacketizers.av1, av1.split, whole, limit)


@given(data=DATA, limit=LIMITS)
def test_samples_are_cut_anywhere(data: bytes, limit: int) -> None:
    parts = samples.split(data, limit)
    assert parts is not None
    assert b"".join(parts) == data
    assert all(0 < len(part) <= limit for part in parts)


def test_opus_is_not_cut() -> None:
    assert whole.split(bytes(100), 100) == [bytes(100)]
    assert whole.split(bytes(101), 100) is None
    assert format_of("opus", 48_000, is_video=False).split(bytes(101), 100) is None


def test_samples_of_several_channels_are_not_cut() -> None:
    stereo = format_of("PCMU", 8000, is_video=False, channels=2)
    assert stereo.split(bytes(2000), 1200) is None


@pytest.mark.parametrize("codec", SPLITS)
@given(payload=st.binary(max_size=400), limit=LIMITS)
def test_any_bytes_are_split_or_not_without_an_error(
    codec: str, payload: bytes, limit: int
) -> None:
    parts = SPLITS[codec](payload, limit)
    if parts is not None:
        assert parts
        assert all(0 < len(part) <= limit for part in parts)


@pytest.mark.parametrize(
    ("codec", "payload"),
    [
        ("VP8", b"\x90\x80\x80"),  # a descriptor that is not whole
        ("VP8", b"\x10"),
        ("VP9", b"\x8c\x80"),
        ("VP9", b"\x0c"),
        ("VP9", b"\x5c\x01\x01\x01" + bytes(200)),  # more references than there may be
        ("H264", b"\x79" + bytes(200)),  # STAP-B
        ("H264", b"\x7d\x85" + bytes(200)),  # FU-B
        ("H264", b"\x60" + bytes(200)),  # type 0
        ("H264", b"\x78\xff\xff" + bytes(200)),  # a STAP-A whose unit is longer than it is
        ("H265", b"\x64\x01" + bytes(200)),  # PACI
        ("H265", b"\x60\x01\xff\xff" + bytes(200)),
        ("AV1", b"\x00\xff\xff" + bytes(200)),
        ("AV1", b"\x30\x01a" + bytes(200)[:1]),  # W = 3, and one is missing
    ],
)
def test_what_cannot_be_split_is_left_alone(codec: str, payload: bytes) -> None:
    assert SPLITS[codec](payload, LIMIT_MIN) is None


def test_every_video_codec_is_tested_here() -> None:
    assert SPLITS.keys() == DEPACKETIZERS.keys()
    for name, split in SPLITS.items():
        assert format_of(name, 90_000, is_video=True).split is split
