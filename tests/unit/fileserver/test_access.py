"""The access log's lines, and readers that do not read them."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.harness.eventually import eventually_sync

from callboard.fileserver.access import BATCHES_MAX, LINES_BEFORE_WRITE, AccessLog, quoted
from callboard.fileserver.head import parse

HEAD = parse(b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n")


def add(access: AccessLog, *, wall_s: float = 1_700_000_000.25) -> None:
    access.add(HEAD, wall_s=wall_s, address="127.0.0.1", status=200, sent=5, took_s=0.0012)


def test_a_line_has_the_shape_of_the_other_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        access = AccessLog(file.fileno())
        add(access)
        access.add(
            None, wall_s=1_700_000_001, address="::1", status=400, sent=0, took_s=0,
            upstream='a "b"', cut=True,
        )  # fmt: skip
        access.stop()
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "callboard.fileserver.access",
        "message": "request",
        "address": "127.0.0.1",
        "method": "GET",
        "path": "/a",
        "status": 200,
        "bytes": 5,
        "ms": 1.2,
    }
    assert (second["method"], second["path"], second["upstream"]) == ("", "", 'a "b"')
    assert second["cut"] is True


@given(st.binary(max_size=60))
def test_any_path_becomes_a_json_string(path: bytes) -> None:
    assert json.loads(quoted(path)) == path.decode("utf-8", "replace")
    assert "\n" not in quoted(path)


def test_a_reader_that_does_not_read_costs_lines_and_no_time() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    access = AccessLog(writer)
    began = time.monotonic()
    for _ in range(LINES_BEFORE_WRITE * (BATCHES_MAX + 20)):
        add(access)
    assert time.monotonic() - began < 10, "it waited for its reader"
    os.set_blocking(reader, False)
    lines: list[str] = []
    rest = ""

    def told() -> bool:
        nonlocal rest
        add(access)
        access.flush()
        try:
            *whole, rest = (rest + os.read(reader, 1 << 20).decode()).split("\n")
            lines.extend(whole)
        except BlockingIOError:
            pass
        return any("were dropped" in line for line in lines)

    eventually_sync(told, timeout_s=30, interval_s=0)
    assert all(json.loads(line)["time"] for line in lines), "a line was torn"
    loss = next(json.loads(line) for line in lines if "were dropped" in line)
    assert loss["level"] == "warn" and loss["lines"] > LINES_BEFORE_WRITE
    os.close(reader)
    access.stop()
    os.close(writer)
