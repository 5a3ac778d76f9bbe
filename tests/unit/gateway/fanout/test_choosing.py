"""Which fan-out a gateway gets, and that it says so."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.capabilities import require

from callboard.gateway.fanout import build as building
from callboard.gateway.fanout.build import SOURCE, build
from callboard.gateway.fanout.choosing import LIBRARY, open_fanout
from callboard.gateway.fanout.native import LayoutError, NativeFanout
from callboard.gateway.fanout.plain import PlainFanout


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    """A UDP socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        yield sock


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log, with what is told only."""
    caplog.set_level(logging.INFO)
    return caplog


def test_built_helper_is_taken_and_named(
    sock: socket.socket, library: Path, records: pytest.LogCaptureFixture
) -> None:
    assert isinstance(open_fanout(sock, library=library), NativeFanout)
    assert records.messages == ["fan-out by the C helper"]


def test_without_a_helper_python_sends_and_a_warning_says_how_to_get_it(
    sock: socket.socket, tmp_path: Path, records: pytest.LogCaptureFixture
) -> None:
    missing = tmp_path / "_fanout.so"
    assert isinstance(open_fanout(sock, library=missing), PlainFanout)
    (record,) = records.records
    assert record.levelno == logging.WARNING
    assert "callboard.gateway.fanout.build" in record.getMessage()
    assert not missing.exists(), "nothing is compiled by a gateway that runs"


def test_python_is_taken_when_asked_for(
    sock: socket.socket, library: Path, records: pytest.LogCaptureFixture
) -> None:
    assert isinstance(open_fanout(sock, "plain", library), PlainFanout)
    assert records.messages == ["fan-out in Python, as asked for"]


def test_file_that_is_no_library_is_not_taken(
    sock: socket.socket, tmp_path: Path, records: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "_fanout.so"
    broken.write_bytes(b"\x7fELF and no more")
    assert isinstance(open_fanout(sock, library=broken), PlainFanout)
    assert [record.levelno for record in records.records] == [logging.WARNING]


def test_another_library_is_not_taken(
    sock: socket.socket, tmp_path: Path, records: pytest.LogCaptureFixture
) -> None:
    require("linux", "cc")
    other = tmp_path / "_fanout.so"
    subprocess.run(["cc", "-shared", "-x", "c", "-o", str(other), "-"], input=b"int x;", check=True)
    assert isinstance(open_fanout(sock, library=other), PlainFanout)
    assert [record.levelno for record in records.records] == [logging.WARNING]


@pytest.mark.parametrize(
    "flag", ["-DLAYOUT=1", "-DREMEMBERED=512", "-DPAYLOAD_BYTES_MAX=1400", "-DRUN=8"]
)
def test_helper_of_another_layout_is_not_taken(
    sock: socket.socket, tmp_path: Path, flag: str, records: pytest.LogCaptureFixture
) -> None:
    require("linux", "cc")
    name, value = flag[2:].split("=")
    lines = SOURCE.read_text("utf-8").splitlines()
    changed = [
        f"#define {name} {value}" if line.startswith(f"#define {name} ") else line for line in lines
    ]
    assert changed != lines
    source, other = tmp_path / "fanout.c", tmp_path / "_fanout.so"
    source.write_text("\n".join(changed) + "\n", "utf-8")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(other), str(source)], check=True)
    with pytest.raises(LayoutError, match=r"another fanout\.c"):
        NativeFanout(sock, other)
    assert isinstance(open_fanout(sock, library=other), PlainFanout)
    assert len(records.messages) == 1


def test_command_builds_a_helper_that_is_taken(sock: socket.socket, tmp_path: Path) -> None:
    require("linux", "cc")
    out = tmp_path / "helper.so"
    done = subprocess.run(
        [sys.executable, "-m", "callboard.gateway.fanout.build", str(out)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert f"built {out}" in done.stderr
    assert isinstance(open_fanout(sock, library=out), NativeFanout)


def test_build_without_a_compiler_says_so(
    tmp_path: Path, records: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert building.main([str(tmp_path / "_fanout.so")]) == 1
    assert records.messages == [
        "no C compiler: the gateway will send in Python (install gcc and libc6-dev)"
    ]


def test_build_that_fails_says_why(tmp_path: Path, records: pytest.LogCaptureFixture) -> None:
    require("cc")
    assert not build(tmp_path / "_fanout.so", ["-Werror=nonsense"])
    (message,) = records.messages
    assert "did not compile" in message
    assert "nonsense" in message


def test_build_takes_one_argument(tmp_path: Path) -> None:
    assert building.main(["a", "b"]) == 2


def test_helper_is_looked_for_beside_the_package() -> None:
    assert (LIBRARY.parent, LIBRARY.name) == (SOURCE.parent, "_fanout.so")
