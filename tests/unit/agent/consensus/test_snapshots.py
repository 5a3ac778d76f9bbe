"""Snapshot files: whole, checked, and removed when they no longer count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.agent.consensus.disk import MemoryDisk
from callboard.agent.consensus.snapshots import SnapshotCorrupt, SnapshotStore, file_name
from callboard.raft.messages import Configuration, SnapshotMetadata

METADATA = SnapshotMetadata(42, 3, Configuration(("a", "b", "c")))
CHUNKS = [b"first", b"second" * 100, b"third"]


def written(
    chunks: list[bytes] = CHUNKS, metadata: SnapshotMetadata = METADATA
) -> tuple[MemoryDisk, SnapshotStore]:
    disk = MemoryDisk(remembers=True)
    store = SnapshotStore(disk, "cluster")
    writer = store.begin(metadata)
    for chunk in chunks:
        writer.add(chunk)
    writer.finish()
    return disk, store


def content(disk: MemoryDisk) -> bytearray:
    return disk._files[file_name(METADATA)].written


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=5))
def test_chunks_are_read_as_they_were_written(chunks: list[bytes]) -> None:
    _, store = written(chunks)
    assert list(store.chunks(METADATA)) == chunks


def test_finished_snapshot_survives_a_power_cut() -> None:
    disk, store = written()
    disk.lose_unsynced()
    assert list(store.chunks(METADATA)) == CHUNKS


def test_unfinished_snapshot_is_not_there_after_a_power_cut() -> None:
    disk = MemoryDisk(remembers=True)
    store = SnapshotStore(disk, "cluster")
    writer = store.begin(METADATA)
    writer.add(b"half")
    disk.lose_unsynced()
    with pytest.raises(SnapshotCorrupt, match="is missing"):
        list(store.chunks(METADATA))


def test_snapshot_is_begun_anew_after_a_half_made_one() -> None:
    disk = MemoryDisk(remembers=True)
    store = SnapshotStore(disk, "cluster")
    store.begin(METADATA).add(b"half")
    writer = store.begin(METADATA)
    writer.add(b"whole")
    writer.finish()
    assert list(store.chunks(METADATA)) == [b"whole"]


def test_every_flipped_byte_is_found() -> None:
    disk, _ = written([b"a", b"bc"])
    for position in range(len(content(disk))):
        disk, store = written([b"a", b"bc"])
        content(disk)[position] ^= 0x40
        with pytest.raises(SnapshotCorrupt):
            list(store.chunks(METADATA))


def test_every_shortened_file_is_found() -> None:
    disk, _ = written([b"a", b"bc"])
    for length in range(len(content(disk))):
        disk, store = written([b"a", b"bc"])
        del content(disk)[length:]
        with pytest.raises(SnapshotCorrupt):
            list(store.chunks(METADATA))


def test_damage_names_file_and_offset() -> None:
    disk, store = written()
    content(disk)[-20] ^= 1
    with pytest.raises(SnapshotCorrupt, match=r"snapshot-0+42-3\.snap: damaged chunk at offset \d"):
        list(store.chunks(METADATA))


def test_snapshot_of_another_cluster_is_refused() -> None:
    disk, _ = written()
    with pytest.raises(SnapshotCorrupt, match="belongs to cluster cluster"):
        list(SnapshotStore(disk, "another").chunks(METADATA))


def test_received_bytes_become_a_snapshot() -> None:
    disk, _ = written()
    other = SnapshotStore(MemoryDisk(remembers=True), "cluster")
    intake = other.receive("1a")
    data = bytes(content(disk))
    for start in range(0, len(data), 7):
        intake.add(data[start : start + 7])
    other.accept(intake, METADATA)
    assert list(other.chunks(METADATA)) == CHUNKS


def test_received_bytes_that_are_damaged_are_not_accepted() -> None:
    disk, _ = written()
    other_disk = MemoryDisk()
    other = SnapshotStore(other_disk, "cluster")
    intake = other.receive("1a")
    data = bytearray(content(disk))
    data[-20] ^= 1
    intake.add(bytes(data))
    with pytest.raises(SnapshotCorrupt, match="damaged chunk"):
        other.accept(intake, METADATA)
    intake.abandon()
    assert other_disk.names() == []


def test_start_removes_all_but_the_one_that_counts() -> None:
    disk, store = written()
    for index in (7, 99):
        store.begin(SnapshotMetadata(index, 3)).finish()
    store.receive("1a")
    store.begin(SnapshotMetadata(100, 3))
    store.clean(METADATA)
    assert disk.names() == [file_name(METADATA)]


def test_later_snapshots_are_kept_when_older_ones_are_removed() -> None:
    disk, store = written()
    for index in (7, 99):
        store.begin(SnapshotMetadata(index, 3)).finish()
    store.remove_older(METADATA)
    assert disk.names() == [file_name(METADATA), file_name(SnapshotMetadata(99, 3))]
