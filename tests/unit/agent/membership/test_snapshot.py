"""The file of last time's peers: a hint that may be missing or broken."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from callboard.agent.membership.snapshot import (
    Peer,
    Snapshot,
    SnapshotWriter,
    read_snapshot,
    write_snapshot,
)

SNAPSHOT = Snapshot(time=3, event_time=4, query_time=5, peers=(Peer("a", "10.0.0.1", 8301),))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "serf" / "peers.json"
    write_snapshot(path, SNAPSHOT)
    assert read_snapshot(path) == SNAPSHOT


def test_only_the_file_itself_stays(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    write_snapshot(path, SNAPSHOT)
    write_snapshot(path, Snapshot())
    assert [entry.name for entry in tmp_path.iterdir()] == ["peers.json"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_missing_file_is_empty(tmp_path: Path) -> None:
    assert read_snapshot(tmp_path / "none") == Snapshot()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"peers": 1}', b'{"format": 2}', b"\xff\xfe"]
)
def test_broken_file_is_empty_and_logged(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "peers.json"
    path.write_bytes(content)
    assert read_snapshot(path) == Snapshot()
    assert "not usable" in caplog.text


def test_newest_of_several_saves_is_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    writer = SnapshotWriter(path)
    for time in range(50):
        writer.save(Snapshot(time=time))
    writer.flush(5.0)
    assert read_snapshot(path).time == 49


def test_disk_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    release = threading.Event()
    writer = SnapshotWriter(tmp_path / "peers.json", lambda _path, _snapshot: _wait(release))
    writer.save(Snapshot())
    writer.save(Snapshot(time=1))
    writer.flush(0.01)
    release.set()
    writer.flush(5.0)


def _wait(release: threading.Event) -> None:
    release.wait(30)


def test_disk_that_fails_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    writer = SnapshotWriter(tmp_path / "file" / "peers.json")
    writer.save(Snapshot())
    writer.flush(5.0)
    assert "cannot write the member snapshot" in caplog.text
