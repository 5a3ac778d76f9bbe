"""Atomic replacement of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from callboard.files import replace


def test_the_new_content_is_there_with_its_mode_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "server.crt"
    target.write_bytes(b"old")
    with replace(target) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [target]


def test_text_is_utf_8(tmp_path: Path) -> None:
    with replace(tmp_path / "a", "w") as file:
        file.write("Bühne")
    assert (tmp_path / "a").read_bytes() == "Bühne".encode()


def test_after_an_exception_the_former_content_stays(tmp_path: Path) -> None:
    target = tmp_path / "server.crt"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), replace(target) as file:
        file.write(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_folder_is_named_as_the_user_named_it(tmp_path: Path) -> None:
    target = tmp_path / "none" / "a"
    with pytest.raises(FileNotFoundError) as caught, replace(target):
        pass
    assert caught.value.filename == str(target)
