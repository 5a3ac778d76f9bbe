"""Directories of one process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from callboard.files.directories import DirectoryInUse, lock, make_durably


def test_a_directory_is_one_owners_until_it_is_closed(tmp_path: Path) -> None:
    first = lock(tmp_path)
    with pytest.raises(DirectoryInUse, match="another process uses the directory"):
        lock(tmp_path)
    os.close(first)
    os.close(lock(tmp_path))


def test_a_file_system_without_locks_is_not_taken_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="not supported") as refused:
        lock(tmp_path)
    assert not isinstance(refused.value, DirectoryInUse)


def test_what_is_missing_above_is_made_for_the_owner_alone(tmp_path: Path) -> None:
    make_durably(tmp_path / "a" / "b")
    make_durably(tmp_path / "a" / "b")
    assert [(tmp_path / part).stat().st_mode & 0o777 for part in ("a", "a/b")] == [0o700] * 2


def test_each_directory_that_was_made_has_its_name_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    make_durably(tmp_path / "a" / "b")
    assert synced == [str(tmp_path), str(tmp_path / "a")]
