"""What the agent remembers of its registrations: whole or not at all, and what a failed disk is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from callboard.agent.local.journal import LocalJournal, SyncFailed

BODY: dict[str, object] = {"id": "web"}


class FailingSync:
    """Stands for a disk: the fsyncs from the `first` on fail with `number`."""

    def __init__(self, number: int, first: int = 1) -> None:
        self.number = number
        self.first = first
        self.calls = 0

    def __call__(self, descriptor: int) -> None:
        self.calls += 1
        if self.calls >= self.first:
            raise OSError(self.number, os.strerror(self.number))


@pytest.fixture
def told() -> list[str]:
    """Why the process was told to leave."""
    return []


@pytest.fixture
def journal(tmp_path: Path, told: list[str]) -> LocalJournal:
    """A journal in a directory of its own."""
    return LocalJournal(tmp_path, told.append)


async def test_what_was_saved_is_loaded(journal: LocalJournal, tmp_path: Path) -> None:
    await journal.save("services", "web", BODY)
    assert LocalJournal(tmp_path).load("services") == [BODY]


async def test_what_was_forgotten_is_gone(journal: LocalJournal) -> None:
    await journal.save("services", "web", BODY)
    await journal.forget("services", "web")
    assert journal.load("services") == []


@pytest.mark.parametrize("first", [1, 2], ids=["of the file", "of the folder"])
async def test_after_a_failed_fsync_the_process_is_told_to_leave_once(
    journal: LocalJournal, told: list[str], monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    disk = FailingSync(errno.EIO, first)
    monkeypatch.setattr(os, "fsync", disk)
    for _ in range(3):
        with pytest.raises(SyncFailed):
            await journal.save("services", "web", BODY)
    assert len(told) == 1
    assert "cannot be trusted" in told[0]
    assert disk.calls == first, "something was tried again"


async def test_a_failed_fsync_of_a_removal_is_fatal_too(
    journal: LocalJournal, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.save("services", "web", BODY)
    monkeypatch.setattr(os, "fsync", FailingSync(errno.EIO))
    with pytest.raises(SyncFailed):
        await journal.forget("services", "web")
    assert len(told) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_refuses_leaves_nothing_and_is_not_fatal(
    journal: LocalJournal,
    told: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", FailingSync(number))
        with pytest.raises(OSError):
            await journal.save("services", "web", BODY)
    assert list((tmp_path / "services").iterdir()) == []
    assert told == []
    await journal.save("services", "web", BODY)
    assert journal.load("services") == [BODY]


async def test_a_broken_file_is_left_aside(journal: LocalJournal, tmp_path: Path) -> None:
    await journal.save("services", "web", BODY)
    (tmp_path / "services" / "broken.json").write_text("{")
    assert journal.load("services") == [BODY]
