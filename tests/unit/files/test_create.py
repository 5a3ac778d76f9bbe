"""Exclusive creation beside `open(path, 'x')`: the same errors, and more where 'x' alone fails."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from callboard.files import create

KEY = b"-----BEGIN PRIVATE KEY-----\n"

REFUSED = {
    "an empty path": "",
    "an existing file": "there",
    "a link to a file": "link",
    "a dangling link": "dangling",
    "a link to itself": "loop",
    "a folder": "folder",
    "a folder with a slash": "folder/",
    "the folder itself": ".",
    "the folder above": "folder/..",
    "a new name with a slash": "new/",
    "a missing folder": "none/new",
    "a missing folder with a slash": "none/new/",
    "a missing folder's dot": "none/.",
    "a file as a folder": "there/new",
    "a file with a slash": "there/",
    "a loop as a folder": "loop/new",
    "a name too long": "n" * 256,
    "a path too long": "folder/../" * 500 + "new",
    "a zero byte": "new\0",
    "the root": "/",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a little of everything."""
    (tmp_path / "there").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def mask(value: int) -> Iterator[None]:
    """That umask for the block."""
    former = os.umask(value)
    try:
        yield
    finally:
        os.umask(former)


def opened(path: str) -> Exception:
    """What the built-in raises."""
    with pytest.raises((OSError, ValueError)) as caught:
        open(path, "x").close()  # noqa: PTH123 - this is what is compared
    return caught.value


def created(path: str) -> Exception:
    """What ours raises, and that it does so at the call, before the block."""
    with pytest.raises((OSError, ValueError)) as caught, create(path):
        pytest.fail("the block must not begin")
    return caught.value


@pytest.mark.parametrize("path", REFUSED.values(), ids=REFUSED.keys())
def test_what_x_refuses_is_refused_with_the_same_error(place: Path, path: str) -> None:
    before = sorted(place.iterdir())
    theirs, ours = opened(path), created(path)
    assert type(ours) is type(theirs)
    if isinstance(theirs, OSError) and isinstance(ours, OSError):
        assert (ours.errno, ours.strerror) == (theirs.errno, theirs.strerror)
        assert ours.filename == theirs.filename == path
    assert sorted(place.iterdir()) == before
    assert (place / "there").read_bytes() == b"mine"


def test_the_articles_example_prints_the_articles_error(place: Path) -> None:
    with create("new_file", "x"):
        pass
    for again in (open, create):
        with pytest.raises(FileExistsError) as caught, again("new_file", "x"):
            pass
        assert str(caught.value) == "[Errno 17] File exists: 'new_file'"


@pytest.mark.parametrize("name", ["n" * 255, "ä" * 127, "new\udcff", ".hidden", " "])
def test_what_x_takes_is_taken(place: Path, name: str) -> None:
    open(name, "x").close()  # noqa: PTH123 - this is what is compared
    Path(name).unlink()
    with create(name) as file:
        file.write(KEY)
    assert Path(name).read_bytes() == KEY


def test_a_path_may_be_given_as_bytes_or_as_a_path(place: Path) -> None:
    with create(place / "one") as file:
        file.write(KEY)
    with create(b"two") as file:  # type: ignore[call-overload]
        file.write(KEY)
    assert Path("one").read_bytes() == Path("two").read_bytes() == KEY


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_x_is_text_in_utf_8_whatever_the_locale(tmp_path: Path, locale: str) -> None:
    program = "from callboard.files import create\nwith create('a', 'x') as f: f.write('B\\xfchne')"
    environ = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environ, check=True)
    assert (tmp_path / "a").read_bytes() == "Bühne".encode()


@pytest.mark.parametrize("mode", ["w", "r", "a", "xb+", "", "bx"])
def test_other_modes_are_refused_before_anything_is_made(place: Path, mode: str) -> None:
    before = sorted(place.iterdir())
    with pytest.raises(ValueError, match="mode"), create("new", mode):  # type: ignore[call-overload]
        pass
    assert sorted(place.iterdir()) == before


# where 'x' alone fails


def test_readers_see_nothing_until_the_end_where_x_shows_a_part(place: Path) -> None:
    with open("theirs", "xb") as file:  # noqa: PTH123 - this is what is compared
        file.write(KEY[:5])
        file.flush()
        assert Path("theirs").read_bytes() == KEY[:5]
    with create("ours") as file:
        file.write(KEY[:5])
        file.flush()
        assert not Path("ours").exists()
        file.write(KEY[5:])
    assert Path("ours").read_bytes() == KEY


@pytest.mark.parametrize("value", [0o000, 0o022, 0o077, 0o277])
def test_the_owner_alone_reads_it_where_x_follows_the_umask(place: Path, value: int) -> None:
    with mask(value):
        open("theirs", "xb").close()  # noqa: PTH123 - this is what is compared
        with create("ours") as file:
            assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077 == 0
        with create("wider", permissions=0o644):
            pass
    assert stat.S_IMODE(Path("theirs").stat().st_mode) == 0o666 & ~value
    assert stat.S_IMODE(Path("ours").stat().st_mode) == 0o600
    assert stat.S_IMODE(Path("wider").stat().st_mode) == 0o644


def test_an_exception_in_the_block_leaves_nothing_where_x_leaves_a_part(place: Path) -> None:
    before = sorted(place.iterdir())
    with pytest.raises(RuntimeError), open("theirs", "xb") as file:  # noqa: PTH123 - compared
        file.write(KEY)
        raise RuntimeError
    assert Path("theirs").read_bytes() == KEY
    Path("theirs").unlink()
    for problem in (RuntimeError, KeyboardInterrupt, GeneratorExit, SystemExit):
        with pytest.raises(problem), create("ours") as file:
            file.write(KEY)
            file.flush()
            raise problem
        assert sorted(place.iterdir()) == before


CRASHING = """
import os, signal, sys
from callboard.files import create
how = {"theirs": lambda: open("theirs", "xb"), "ours": lambda: create("ours")}[sys.argv[1]]
with how() as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_crash_leaves_no_file_where_x_leaves_half_a_key_for_ever(place: Path) -> None:
    before = {one.name for one in place.iterdir()}
    for which in ("theirs", "ours"):
        done = subprocess.run([sys.executable, "-c", CRASHING, which], cwd=place, check=False)
        assert done.returncode == -signal.SIGKILL
    assert Path("theirs").read_bytes() == b"half"
    assert isinstance(opened("theirs"), FileExistsError)
    assert not Path("ours").exists()
    with create("ours") as file:
        file.write(KEY)
    assert Path("ours").read_bytes() == KEY
    (left,) = {one.name for one in place.iterdir()} - before - {"ours", "theirs"}
    # the name is nobody's: hidden, and of no kind that anything here looks for
    assert left.startswith(".callboard-")
    assert left.endswith(".tmp")


# the end of the block


def test_who_comes_second_is_told_at_the_end_and_the_first_stays(place: Path) -> None:
    before = sorted(place.iterdir())
    with pytest.raises(FileExistsError) as caught, create("new") as file:
        file.write(b"second")
        Path("new").write_bytes(b"first")
    assert (caught.value.errno, caught.value.filename) == (errno.EEXIST, "new")
    assert Path("new").read_bytes() == b"first"
    assert sorted(place.iterdir()) == sorted([*before, place / "new"])


def test_a_link_that_appears_meanwhile_is_not_followed(place: Path) -> None:
    with pytest.raises(FileExistsError), create("new") as file:
        file.write(KEY)
        Path("new").symlink_to("nowhere")
    assert not Path("nowhere").exists()


def test_a_file_closed_in_the_block_is_complete_nevertheless(place: Path) -> None:
    with create("new") as file:
        file.write(KEY)
        file.close()
    assert Path("new").read_bytes() == KEY


def test_a_full_disk_at_the_end_leaves_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(place.iterdir())

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"), create("new") as file:
        file.write(KEY)
        monkeypatch.setattr(os, "fsync", full)
    assert sorted(place.iterdir()) == before


def test_file_and_folder_are_synced_in_the_order_that_survives_a_crash(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, link = os.fsync, os.link

    def watched_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def watched_link(source: str, target: str, *, follow_symlinks: bool) -> None:
        steps.append("link")
        link(source, target, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "link", watched_link)
    monkeypatch.setattr(os, "supports_follow_symlinks", {watched_link})
    with create("new") as file:
        file.write(KEY)
    assert steps == ["file", "link", "folder"]


def test_no_descriptor_stays_open(place: Path) -> None:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    for number in range(20):
        with create(f"new-{number}"):
            pass
        with pytest.raises(FileExistsError), create(f"new-{number}"):
            pass
        with pytest.raises(RuntimeError), create(f"other-{number}"):
            raise RuntimeError
    assert len(list(descriptors.iterdir())) == before
