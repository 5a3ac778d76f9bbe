"""Exclusive creation on file systems that know no hard links, or lose an answer."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from callboard.files import create, exclusive
from callboard.files.temporary import Temporary

KEY = b"-----BEGIN PRIVATE KEY-----\n"


def without_links(monkeypatch: pytest.MonkeyPatch, code: int = errno.EPERM) -> None:
    """link(2) answers as on vfat."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)


def without_renameat2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "other")


@pytest.fixture(params=["renameat2", "O_EXCL"])
def fallback(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file system without links, by itself or on a system without renameat2 as well."""
    without_links(monkeypatch)
    if request.param == "O_EXCL":
        without_renameat2(monkeypatch)
    return str(request.param)


@pytest.mark.parametrize("permissions", [0o600, 0o644])
def test_without_links_the_file_is_the_same(
    fallback: str, tmp_path: Path, permissions: int
) -> None:
    target = tmp_path / "new"
    with create(target, permissions=permissions) as file:
        file.write(KEY)
    assert target.read_bytes() == KEY
    assert stat.S_IMODE(target.stat().st_mode) == permissions
    assert target.stat().st_nlink == 1
    assert list(tmp_path.iterdir()) == [target]


def test_without_links_the_second_is_told(fallback: str, tmp_path: Path) -> None:
    target = tmp_path / "new"
    with pytest.raises(FileExistsError) as caught, create(target) as file:
        file.write(b"second")
        target.write_bytes(b"first")
    assert caught.value.filename == str(target)
    assert target.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]


def test_each_way_is_really_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    rename, write = exclusive._rename_exclusively, exclusive._write_exclusively

    def watched_rename(temporary: Temporary) -> bool:
        taken.append("renameat2" if (done := rename(temporary)) else "no renameat2")
        return done

    def watched_write(temporary: Temporary) -> None:
        taken.append("O_EXCL")
        write(temporary)

    monkeypatch.setattr(exclusive, "_rename_exclusively", watched_rename)
    monkeypatch.setattr(exclusive, "_write_exclusively", watched_write)
    with create(tmp_path / "by-link"):
        pass
    assert taken == []
    without_links(monkeypatch)
    with create(tmp_path / "by-rename"):
        pass
    assert taken == ["renameat2"]
    without_renameat2(monkeypatch)
    with create(tmp_path / "by-open"):
        pass
    assert taken == ["renameat2", "no renameat2", "O_EXCL"]


@pytest.mark.parametrize("code", sorted(exclusive.NO_LINKS))
def test_every_way_of_saying_that_there_are_no_links_is_understood(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_links(monkeypatch, code)
    with create(tmp_path / "new") as file:
        file.write(KEY)
    assert (tmp_path / "new").read_bytes() == KEY


def test_another_error_of_link_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_links(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output error") as caught, create(tmp_path / "new"):
        pass
    assert caught.value.filename == str(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_what_reads_back_differently_is_removed_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_links(monkeypatch)
    without_renameat2(monkeypatch)
    target = tmp_path / "new"
    read = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: b"" if path == target else read(path), raising=True
    )
    with pytest.raises(OSError, match="not what was written"), create(target) as file:
        file.write(KEY)
    assert list(tmp_path.iterdir()) == []


def test_a_link_whose_answer_got_lost_has_been_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def lost(source: str, target: str, **_: object) -> None:
        """NFS: the first call did it, its answer was lost, the retry finds its own work."""
        link(source, target)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), source, None, target)

    monkeypatch.setattr(os, "link", lost)
    target = tmp_path / "new"
    with create(target) as file:
        file.write(KEY)
    assert target.read_bytes() == KEY
    assert list(tmp_path.iterdir()) == [target]


def test_two_links_elsewhere_are_not_taken_for_the_lost_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def refuse(source: str, target: str, **_: object) -> None:
        """Somebody's backup holds a link to ours, and the target is another's."""
        link(source, tmp_path / "backup")
        Path(target).write_bytes(b"first")
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), source, None, target)

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(FileExistsError), create(tmp_path / "new") as file:
        file.write(KEY)
    assert (tmp_path / "new").read_bytes() == b"first"
