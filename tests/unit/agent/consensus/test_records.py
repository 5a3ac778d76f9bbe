"""The log's bytes: golden, round trip, and what a scan makes of damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.agent.consensus.records import (
    HEADER_SIZE,
    Batch,
    Checkpoint,
    Compaction,
    LogCorrupt,
    Record,
    Reset,
    SegmentHeader,
    decode_header,
    encode_record,
    frame,
    next_valid,
    scan,
)
from callboard.raft.messages import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    SnapshotMetadata,
)

HEADER = SegmentHeader(sequence=7, cluster_id="c" * 36, salt=bytes(range(16)))
CONFIGURATION = Configuration(("a", "b", "c"))

indexes = st.integers(0, 1 << 62)
metadata = st.builds(
    SnapshotMetadata, indexes, indexes, st.builds(Configuration, st.tuples(st.text()), st.just(()))
)
hard_states = st.builds(HardState, indexes, st.text(max_size=40))
entries = st.builds(Entry, indexes, indexes, st.sampled_from(EntryKind), st.binary(max_size=200))
records = st.one_of(
    st.builds(
        Batch, indexes, st.lists(entries, max_size=5).map(tuple), st.none() | hard_states, indexes
    ),
    st.builds(Compaction, metadata, indexes),
    st.builds(Reset, metadata),
    st.builds(
        Checkpoint,
        hard_states,
        st.just(CONFIGURATION),
        st.none() | metadata,
        indexes,
        indexes,
        indexes,
    ),
)


def segment(*items: Record) -> bytes:
    data = HEADER.encode()
    for item in items:
        data += encode_record(item, len(data), HEADER.seed)
    return data


def test_header_has_golden_bytes() -> None:
    assert (
        HEADER.encode().hex()
        == (
            "43414c4c4252444c"  # magic
            "0100" + "0000"  # format, reserved
            "0700000000000000"  # sequence
            "000102030405060708090a0b0c0d0e0f"  # salt
            + "63" * 36  # cluster id
            + "00" * 52
            + "6f306f83"  # CRC32C
        )
    )


def test_batch_has_golden_bytes() -> None:
    record = Batch(0, (Entry(1, 1, EntryKind.NORMAL, b"x"),), HardState(1, "a"), 0)
    assert encode_record(record, HEADER_SIZE, HEADER.seed).hex() == (
        "cb0a5243"  # marker
        "0f000000"  # payload length
        "a515a2ef"  # CRC32C
        "02"  # type
        "94" + "00" + "91" + "94010101c40178" + "9201a161" + "00"
    )


@given(st.lists(records, max_size=4))
def test_scan_reads_what_was_encoded(items: list[Record]) -> None:
    data = segment(*items)
    found = scan(data + bytes(100), HEADER.seed, "s")
    assert [record for _, record in found.records] == items
    assert (found.end, found.torn) == (len(data), False)


@given(st.binary(max_size=300))
def test_scan_of_garbage_finds_nothing_and_never_raises(garbage: bytes) -> None:
    found = scan(HEADER.encode() + garbage, HEADER.seed, "s")
    assert found.records == ()
    assert found.torn == bool(garbage.strip(b"\0"))


@given(st.binary(max_size=HEADER_SIZE * 2))
def test_decode_header_of_garbage_raises_log_corrupt(garbage: bytes) -> None:
    with pytest.raises(LogCorrupt):
        decode_header(garbage, "s")


def test_header_of_another_format_is_refused_by_number() -> None:
    newer = SegmentHeader(1, "c", bytes(16), format=9).encode()
    with pytest.raises(LogCorrupt, match="format 9 is unknown"):
        decode_header(newer, "s")


def test_record_of_unknown_type_is_refused_by_number() -> None:
    data = HEADER.encode() + frame(99, b"", HEADER_SIZE, HEADER.seed)
    with pytest.raises(LogCorrupt, match=f"unknown type 99 at offset {HEADER_SIZE}"):
        scan(data, HEADER.seed, "s")


def test_record_that_cannot_be_understood_is_refused() -> None:
    data = HEADER.encode() + frame(2, b"\x01", HEADER_SIZE, HEADER.seed)
    with pytest.raises(LogCorrupt, match="cannot be understood"):
        scan(data, HEADER.seed, "s")


def test_record_at_another_offset_is_not_valid() -> None:
    record = encode_record(Batch(0, (), None, 1), HEADER_SIZE, HEADER.seed)
    assert next_valid(HEADER.encode() + b"\0" + record, HEADER_SIZE, HEADER.seed) == -1


def test_record_of_another_segment_is_not_valid() -> None:
    other = SegmentHeader(7, "c" * 36, bytes(16))
    record = encode_record(Batch(0, (), None, 1), HEADER_SIZE, other.seed)
    assert next_valid(HEADER.encode() + record, HEADER_SIZE, HEADER.seed) == -1


@pytest.mark.parametrize("position", range(38))
def test_flipped_bit_before_a_valid_record_is_damage(position: int) -> None:
    first = Batch(0, (Entry(1, 1, EntryKind.NORMAL, b"value" * 3),), None, 0)
    data = bytearray(segment(first, Batch(0, (), None, 1)))
    data[HEADER_SIZE + position] ^= 1
    with pytest.raises(LogCorrupt, match=f"damaged record at offset {HEADER_SIZE}, but a valid"):
        scan(bytes(data), HEADER.seed, "s")
