"""The power cut that tests act out: what must survive it does, what need not may be lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.powercut import Recorder, Recording, parse

CUTS = 60


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    require("cc")
    return Recorder(tmp_path_factory.mktemp("library"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "old").write_text("old")
    return tmp_path / "disk"


def record(recorder: Recorder, folder: Path, program: str) -> Recording:
    """Run a program in the folder."""
    recording = recorder.recording(folder, folder.with_name("log"), sync_us=0)
    code = "import os\ndef put(name, text, flags=0):\n" + (
        "    fd = os.open(name, os.O_RDWR | os.O_CREAT | flags, 0o600)\n"
        "    os.write(fd, text.encode())\n    return fd\n"
    )
    subprocess.run(
        [sys.executable, "-I", "-c", code + program],
        cwd=folder,
        env={**os.environ, **recording.environment},
        check=True,
        timeout=30,
    )
    return recording


def outcomes(recording: Recording, to: Path) -> list[dict[str, str]]:
    """What the folder may be after a cut at the end of all."""
    found = []
    (cut,) = recording.cuts(1, random.Random(7))
    for number in range(CUTS):
        place = to / f"cut-{number}"
        cut.build(place)
        found.append({p.name: p.read_text() for p in place.iterdir() if p.is_file()})
    return found


def test_what_was_there_before_stays(recorder: Recorder, folder: Path) -> None:
    found = outcomes(record(recorder, folder, "pass"), folder.parent)
    assert found == [{"old": "old"}] * CUTS


def test_what_was_synced_with_its_folder_survives(recorder: Recorder, folder: Path) -> None:
    program = "os.fsync(put('new', 'text')); os.fsync(os.open('.', os.O_RDONLY))"
    found = outcomes(record(recorder, folder, program), folder.parent)
    assert found == [{"old": "old", "new": "text"}] * CUTS


def test_what_was_not_synced_is_there_or_not(recorder: Recorder, folder: Path) -> None:
    program = "put('old', 'new')"
    found = outcomes(record(recorder, folder, program), folder.parent)
    assert {one["old"] for one in found} == {"old", "new"}


def test_a_write_after_the_sync_may_be_lost(recorder: Recorder, folder: Path) -> None:
    program = "fd = put('old', 'one'); os.fdatasync(fd); os.pwrite(fd, b'two', 0)"
    found = outcomes(record(recorder, folder, program), folder.parent)
    assert {one["old"] for one in found} == {"one", "two"}


def test_sectors_of_one_write_survive_by_themselves(recorder: Recorder, folder: Path) -> None:
    program = "fd = put('old', 'a' * 2048); os.fsync(fd); os.pwrite(fd, b'b' * 2048, 0)"
    found = {one["old"] for one in outcomes(record(recorder, folder, program), folder.parent)}
    assert all(len(text) == 2048 for text in found)
    assert all(len(set(text[n : n + 512])) == 1 for text in found for n in range(0, 2048, 512))
    assert any(len(set(text)) == 2 for text in found)
    assert {"a" * 2048, "b" * 2048} <= found


def test_a_name_without_a_sync_of_its_folder_may_be_lost(recorder: Recorder, folder: Path) -> None:
    program = "os.fsync(put('new', 'text'))"
    found = outcomes(record(recorder, folder, program), folder.parent)
    assert {one.get("new") for one in found} == {None, "text"}


def test_a_rename_is_there_whole_or_not(recorder: Recorder, folder: Path) -> None:
    program = "os.fsync(put('new', 'text')); os.fsync(os.open('.', os.O_RDONLY))\n"
    program += "os.rename('new', 'old')"
    found = outcomes(record(recorder, folder, program), folder.parent)
    assert {tuple(sorted(one.items())) for one in found} == {
        (("new", "text"), ("old", "old")),
        (("old", "text"),),
    }


def test_a_removal_may_be_undone(recorder: Recorder, folder: Path) -> None:
    found = outcomes(record(recorder, folder, "os.unlink('old')"), folder.parent)
    assert {one.get("old") for one in found} == {None, "old"}


def test_a_file_that_is_cut_short_may_be_long_again(recorder: Recorder, folder: Path) -> None:
    found = outcomes(record(recorder, folder, "put('old', '', os.O_TRUNC)"), folder.parent)
    assert {one["old"] for one in found} == {"old", ""}


def test_an_inode_that_is_used_again_is_another_file(recorder: Recorder, folder: Path) -> None:
    program = "os.fsync(put('a', 'first')); os.unlink('a')\n"
    program += "os.fsync(put('b', '2')); os.fsync(os.open('.', os.O_RDONLY))"
    found = outcomes(record(recorder, folder, program), folder.parent)
    assert found == [{"old": "old", "b": "2"}] * CUTS


def test_appends_and_descriptors_of_children_are_recorded(recorder: Recorder, folder: Path) -> None:
    program = "fd = os.dup(put('old', 'one'))\n"
    program += "if os.fork() == 0: os.write(fd, b'two'); os.fsync(fd); os._exit(0)\n"
    program += "os.wait(); os.fsync(put('old', 'three', os.O_APPEND))"
    found = outcomes(record(recorder, folder, program), folder.parent)
    assert found == [{"old": "onetwothree"}] * CUTS


def test_a_witness_says_what_was_promised_by_then(recorder: Recorder, folder: Path) -> None:
    program = "w = put('w.witness', ''); fd = put('old', '')\n"
    program += "for n in range(9): os.pwrite(fd, b'%d' % n, 0); os.fsync(fd); "
    program += "os.write(w, b'%d\\n' % n)"
    recording = record(recorder, folder, program)
    promised = []
    for number, cut in enumerate(recording.cuts(40, random.Random(1))):
        place = folder.with_name(f"cut-{number}")
        cut.build(place)
        lines = cut.witness()
        promised.append(len(lines))
        assert not (place / "w.witness").exists()
        text = (place / "old").read_text()
        if lines:
            assert int(text[0]) >= int(lines[-1])
    assert promised == sorted(promised)
    assert promised[-1] == 9
    assert len(set(promised)) > 4


def test_half_a_record_is_passed_over(recorder: Recorder, folder: Path) -> None:
    record(recorder, folder, "put('a', 'x' * 600); put('b', 'y' * 600)")
    log = folder.with_name("log").read_bytes()
    whole = [(r.kind, bytes(r.data)) for r in parse(log)]
    assert len(whole) == 4
    first = log.index(b"x" * 600)
    assert [(r.kind, bytes(r.data)) for r in parse(log[: first + 300] + log[first + 600 :])] == [
        whole[0],
        *whole[2:],
    ]
    for length in range(0, len(log), 7):
        found = [(r.kind, bytes(r.data)) for r in parse(log[:length])]
        assert found == whole[: len(found)]
