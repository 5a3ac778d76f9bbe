"""The access log: one JSON line a request, in the shape of the program's other lines.

Lines are collected and written by a thread twice a second, or sooner when there are many: the event
loop never waits for whoever reads them. When the thread cannot keep up the newest lines are dropped
and the loss is told. A line costs a fifth of what a `logging` record does.
"""

from __future__ import annotations

import json
import os
import queue
import re
import stat
import threading
import time
from datetime import UTC, datetime

from callboard.fileserver.head import Head

LINES_BEFORE_WRITE = 2048
BATCHES_MAX = 16
"""Waiting for the thread: about 6 MB of lines."""
REQUESTS_MAX = 1024
PATH_BYTES_MAX = 256
"""Of the parts of lines that are kept."""
PIPE_BUF = 4096
"""Written to a pipe at a time: so much is never mixed with the lines of others (pipe(7))."""

_PLAIN = re.compile(rb"[ !#-\[\]-~]*")
"""Bytes that a JSON string holds as they are."""


class AccessLog:
    """Collects lines; `flush` is called from time to time by its owner."""

    def __init__(self, descriptor: int) -> None:
        """Lines go to `descriptor`, which stays the caller's."""
        self._descriptor = descriptor
        self._atomic = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._lines: list[str] = []
        self._requests: dict[tuple[str, bytes, bytes], str] = {}
        self._batches: queue.Queue[list[str] | None] = queue.Queue(BATCHES_MAX)
        self._second = -1
        self._prefix = ""
        self._lost = 0
        self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._thread.start()

    def add(
        self,
        head: Head | None,
        *,
        wall_s: float,
        address: str,
        status: int,
        sent: int,
        took_s: float,
        upstream: str = "",
        cut: bool = False,
    ) -> None:
        """One request. Of its target only the path is written: queries carry credentials. `cut`:
        the connection ended before the answer did."""
        second = int(wall_s)
        if second != self._second:
            self._second = second
            day = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
            self._prefix = f'{{"time": "{day}'
        request = (address, head.method, head.path) if head else (address, b"", b"")
        what = self._requests.get(request) or self._request(request)
        more = f', "upstream": {json.dumps(upstream)}' if upstream else ""
        if cut:
            more += ', "cut": true'
        self._lines.append(
            f"{self._prefix}{int((wall_s - second) * 1000):03d}{what}"
            f'"status": {status}, "bytes": {sent}, "ms": {took_s * 1000:.1f}{more}}}\n'
        )
        if len(self._lines) >= LINES_BEFORE_WRITE:
            self.flush()

    def _request(self, request: tuple[str, bytes, bytes]) -> str:
        """The part of a line that many requests share."""
        address, method, path = request
        what = (
            'Z", "level": "info", "logger": "callboard.fileserver.access", "message": "request", '
            f'"address": "{address}", "method": "{method.decode()}", "path": {quoted(path)}, '
        )
        if len(self._requests) >= REQUESTS_MAX:
            self._requests.clear()
        if len(path) < PATH_BYTES_MAX:
            self._requests[request] = what
        return what

    def flush(self) -> None:
        """Hand the lines to the thread."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        if self._lost:
            lines.append(_loss(self._lost))
        try:
            self._batches.put_nowait(lines)
            self._lost = 0
        except queue.Full:
            self._lost += len(lines) - (1 if self._lost else 0)

    def stop(self) -> None:
        """Write what is there, for two seconds at most."""
        self.flush()
        try:
            self._batches.put(None, timeout=1.0)
        except queue.Full:
            return
        self._thread.join(timeout=1.0)

    def _write(self) -> None:
        while (lines := self._batches.get()) is not None:
            if self._atomic:
                self._put("".join(lines))
                continue
            part = ""
            for line in lines:
                if part and len(part) + len(line) > PIPE_BUF:
                    self._put(part)
                    part = ""
                part += line
            self._put(part)

    def _put(self, text: str) -> None:
        data = text.encode()
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                time.sleep(0.01)  # a terminal or pipe that somebody made non-blocking
            except OSError:
                return  # nobody reads


def quoted(value: bytes) -> str:
    """A JSON string of bytes that a client sent."""
    if _PLAIN.fullmatch(value):
        return f'"{value.decode()}"'
    return json.dumps(value.decode("utf-8", "replace"))


def _loss(lines: int) -> str:
    now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return (
        f'{{"time": "{now}", "level": "warn", "logger": "callboard.fileserver.access", '
        f'"message": "access log lines were dropped: their reader is slow", "lines": {lines}}}\n'
    )
