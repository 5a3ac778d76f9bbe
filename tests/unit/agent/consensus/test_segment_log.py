"""The log on disk: what was acknowledged survives, what is damaged is refused, errors poison."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from callboard.agent.consensus.disk import Disk, LocalDisk, MemoryDisk
from callboard.agent.consensus.records import (
    HEADER_SIZE,
    LogCorrupt,
    decode_header,
    scan,
)
from callboard.agent.consensus.segment_log import (
    MAX_BATCH_BYTES,
    ForeignLog,
    LogFailed,
    Recovered,
    SegmentLog,
    create_log,
    has_log,
    open_log,
)
from callboard.raft.messages import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    SnapshotMetadata,
)

CLUSTER = "7f1f2c9e-1c5e-4a1b-9b4e-0f6a6a4e2d11"
VOTERS = Configuration(("a", "b", "c"))


def entry(index: int, term: int = 1, data: bytes = b"") -> Entry:
    return Entry(index, term, EntryKind.NORMAL, data or b"value %d" % index)


def entries(first: int, last: int, term: int = 1, data: bytes = b"") -> list[Entry]:
    return [entry(index, term, data) for index in range(first, last + 1)]


def create(disk: Disk, segment_bytes: int = 1 << 16) -> SegmentLog:
    return create_log(disk, CLUSTER, VOTERS, segment_bytes=segment_bytes)[0]


def reopen(disk: Disk, segment_bytes: int = 1 << 16) -> Recovered:
    opened, found = open_log(disk, CLUSTER, segment_bytes=segment_bytes)
    opened.close()
    return found


def content(disk: MemoryDisk, name: str) -> bytearray:
    return disk._files[name].written


@pytest.fixture(params=["memory", "local"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return MemoryDisk(remembers=True) if request.param == "memory" else LocalDisk(tmp_path / "r")


def test_empty_directory_has_no_log(disk: Disk) -> None:
    assert not has_log(disk)


def test_new_log_remembers_cluster_and_configuration(disk: Disk) -> None:
    create(disk).close()
    found = reopen(disk)
    assert (found.cluster_id, found.configuration) == (CLUSTER, VOTERS)
    assert (found.entries, found.last_index, found.hard_state) == ([], 0, HardState())


def test_entries_term_vote_and_commit_survive(disk: Disk) -> None:
    log = create(disk)
    log.append(entries(1, 3), HardState(1, "b"), commit=0)
    log.append([], HardState(2, "c"), commit=2)
    log.close()
    found = reopen(disk)
    assert found.entries == entries(1, 3)
    assert (found.hard_state, found.commit) == (HardState(2, "c"), 2)
    assert (found.last_index, found.last_term) == (3, 1)


def test_appending_goes_on_after_reopening(disk: Disk) -> None:
    log = create(disk)
    log.append(entries(1, 3))
    log.close()
    log, _ = open_log(disk, CLUSTER)
    log.append(entries(4, 5))
    log.close()
    assert reopen(disk).entries == entries(1, 5)


def test_conflicting_tail_is_void(disk: Disk) -> None:
    log = create(disk)
    log.append(entries(1, 5))
    log.append(entries(3, 4, term=2))
    log.close()
    found = reopen(disk)
    assert found.entries == entries(1, 2) + entries(3, 4, term=2)
    assert (found.last_index, found.last_term) == (4, 2)


def test_segments_roll_over_and_are_read_in_order(disk: Disk) -> None:
    log = create(disk, 4096)
    for index in range(1, 101):
        log.append([entry(index, data=b"x" * 100)], HardState(index, "a"))
    assert log.segment_count > 3
    log.close()
    found = reopen(disk, 4096)
    assert [e.index for e in found.entries] == list(range(1, 101))
    assert found.hard_state == HardState(100, "a")


def test_batch_larger_than_a_record_is_split(disk: Disk) -> None:
    log = create(disk, 16 << 20)
    big = [entry(index, data=b"x" * (MAX_BATCH_BYTES // 2)) for index in range(1, 8)]
    log.append(big, HardState(1, "a"))
    log.close()
    found = reopen(disk)
    assert found.entries == big
    assert found.hard_state == HardState(1, "a")


def test_compaction_removes_whole_segments_and_keeps_the_rest(disk: Disk) -> None:
    log = create(disk, 4096)
    for index in range(1, 101):
        log.append([entry(index, data=b"x" * 100)], HardState(5, "a"), commit=index)
    before = log.segment_count
    snapshot = SnapshotMetadata(80, 1, VOTERS)
    log.compact(snapshot, 81)
    assert log.segment_count < before
    log.close()
    found = reopen(disk, 4096)
    assert found.snapshot == snapshot
    assert [e.index for e in found.entries] == list(range(81, 101))
    assert (found.hard_state, found.commit) == (HardState(5, "a"), 100)


def test_reset_replaces_the_whole_log_by_the_snapshot(disk: Disk) -> None:
    log = create(disk, 4096)
    for index in range(1, 60):
        log.append([entry(index, data=b"x" * 100)], HardState(3, "a"))
    snapshot = SnapshotMetadata(500, 3, VOTERS)
    log.reset(snapshot)
    log.append(entries(501, 502, term=3))
    log.close()
    found = reopen(disk, 4096)
    assert found.snapshot == snapshot
    assert found.entries == entries(501, 502, term=3)
    assert (found.commit, found.hard_state) == (500, HardState(3, "a"))


def test_snapshot_at_the_end_of_the_log_leaves_no_entries(disk: Disk) -> None:
    log = create(disk)
    log.append(entries(1, 9))
    log.compact(SnapshotMetadata(9, 1, VOTERS), 10)
    log.close()
    found = reopen(disk)
    assert (found.entries, found.last_index, found.last_term) == ([], 9, 1)


def test_log_of_another_cluster_is_refused(disk: Disk) -> None:
    create(disk).close()
    with pytest.raises(ForeignLog, match="belongs to cluster"):
        open_log(disk, "another")


def torn_log() -> tuple[MemoryDisk, int, int]:
    """A log of two batches; (disk, start and end of the last record)."""
    disk = MemoryDisk(remembers=True)
    log = create(disk)
    log.append(entries(1, 2))
    start = len(content(disk, "00000001.log"))
    log.append(entries(3, 4), HardState(1, "b"), commit=1)  # (ends in a byte that is not 0)
    return disk, start, len(content(disk, "00000001.log"))


def test_torn_tail_is_cut_at_every_offset_of_the_last_record() -> None:
    _, start, end = torn_log()
    for cut in range(start, end):
        disk, _, _ = torn_log()
        data = content(disk, "00000001.log")
        data[cut:] = bytes(len(data) - cut)
        log, found = open_log(disk, CLUSTER)
        assert found.entries == entries(1, 2), cut
        log.append(entries(3, 3, term=2))
        assert reopen(disk).entries == entries(1, 2) + entries(3, 3, term=2), cut


def test_last_record_whose_first_page_was_lost_is_cut() -> None:
    disk, start, _ = torn_log()
    content(disk, "00000001.log")[start : start + 20] = bytes(20)
    assert reopen(disk).entries == entries(1, 2)
    assert not bytes(content(disk, "00000001.log"))[start:].strip(b"\0")


def test_damage_before_a_valid_record_is_refused_with_segment_and_offset() -> None:
    disk, _, _ = torn_log()
    data = content(disk, "00000001.log")
    found = scan(bytes(data), decode_header(bytes(data), "s").seed, "s")
    offset = found.records[1][0]
    data[offset + 15] ^= 0xFF
    with pytest.raises(LogCorrupt, match=rf"00000001\.log: damaged record at offset {offset}"):
        open_log(disk, CLUSTER)


def test_damage_at_the_end_of_a_segment_before_another_is_refused() -> None:
    disk = MemoryDisk(remembers=True)
    log = create(disk, 4096)
    for index in range(1, 61):
        log.append([entry(index, data=b"x" * 100)])
    content(disk, "00000001.log")[-1] ^= 1
    with pytest.raises(LogCorrupt, match=r"00000001\.log.*a later segment is valid"):
        open_log(disk, CLUSTER)


def test_lost_end_of_a_segment_before_another_is_refused() -> None:
    disk = MemoryDisk(remembers=True)
    log = create(disk, 4096)
    for index in range(1, 61):
        log.append([entry(index, data=b"x" * 100)])
    data = content(disk, "00000001.log")
    last = scan(bytes(data), decode_header(bytes(data), "s").seed, "s").records[-1][0]
    data[last:] = bytes(len(data) - last)
    with pytest.raises(LogCorrupt, match="the segment before it ends at"):
        open_log(disk, CLUSTER)


def test_missing_segment_is_refused_by_name() -> None:
    disk = MemoryDisk(remembers=True)
    log = create(disk, 4096)
    for index in range(1, 101):
        log.append([entry(index, data=b"x" * 100)])
    disk.remove("00000002.log")
    with pytest.raises(LogCorrupt, match=r"00000002\.log is missing"):
        open_log(disk, CLUSTER)


def test_half_made_segment_is_removed() -> None:
    disk = MemoryDisk(remembers=True)
    create(disk).append(entries(1, 2))
    disk.create("00000002.log.tmp").write(0, b"half")
    assert reopen(disk).entries == entries(1, 2)
    assert disk.names() == ["00000001.log"]


def test_power_cut_loses_nothing_that_was_acknowledged() -> None:
    disk = MemoryDisk(remembers=True)
    log = create(disk, 4096)
    for index in range(1, 101):
        log.append([entry(index, data=b"x" * 100)])
    disk.lose_unsynced()
    assert [e.index for e in reopen(disk, 4096).entries] == list(range(1, 101))


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_failed_write_poisons_the_log_for_ever(number: int) -> None:
    disk = MemoryDisk(remembers=True)
    log = create(disk)
    log.append(entries(1, 2))

    def fail(operation: str) -> None:
        if operation == "sync":
            raise OSError(number, "injected")

    disk.before = fail
    with pytest.raises(LogFailed, match=r"segment 00000001\.log offset \d+: .*injected"):
        log.append(entries(3, 3))
    disk.before = lambda operation: None
    with pytest.raises(LogFailed, match="failed before"):
        log.append(entries(3, 3))


def test_full_disk_at_a_new_segment_poisons_the_log() -> None:
    disk = MemoryDisk(remembers=True)
    log = create(disk, 4096)

    def full(operation: str) -> None:
        if operation == "allocate":
            raise OSError(errno.ENOSPC, "No space left on device")

    disk.before = full
    with pytest.raises(LogFailed, match="No space left"):
        for index in range(1, 101):
            log.append([entry(index, data=b"x" * 100)])


def test_error_of_the_file_system_reaches_the_caller(tmp_path: Path) -> None:
    local = LocalDisk(tmp_path / "r")
    with pytest.raises(FileNotFoundError):
        local.open("none")


def test_new_directories_are_durable_in_those_above_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink())
    )
    LocalDisk(tmp_path / "new" / "raft").close()
    assert synced == [tmp_path, tmp_path / "new"]
    LocalDisk(tmp_path / "new" / "raft").close()
    assert len(synced) == 2


def test_directory_is_locked_for_one_owner(tmp_path: Path) -> None:
    local = LocalDisk(tmp_path / "r")
    with pytest.raises(OSError, match="another process uses the directory"):
        LocalDisk(tmp_path / "r")
    local.close()
    LocalDisk(tmp_path / "r").close()


def test_first_record_offset_is_behind_the_header() -> None:
    disk = MemoryDisk()
    create(disk)
    data = bytes(content(disk, "00000001.log"))
    assert scan(data, decode_header(data, "s").seed, "s").records[0][0] == HEADER_SIZE
