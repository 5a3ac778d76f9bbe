"""Long polls: a stream that is one whole answer, for where streams do not pass.

The reader behind it is one like all others; its connection is a buffer that becomes the answer at
the end of the turn in which the first event came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from callboard.events.encoder import block
from callboard.hub.event import Format, named
from callboard.serve.exchange import Answer
from callboard.serve.timerwheel import Timer, TimerWheel

if TYPE_CHECKING:
    from callboard.hub.subscribers.reader import Reader

POLL_BYTES = 256 * 1024
"""An answer that is so long ends there; the next one goes on. (The catalog's state is one.)"""


class Poll:
    """A `Parked` request, and the `Detached` connection of its reader."""

    chunked = False

    def __init__(
        self, reader: Reader, wheel: TimerWheel, wait_s: float, headers: Iterable[tuple[str, str]]
    ) -> None:
        """`headers` are the answer's: those that a stream would have."""
        self._reader: Reader | None = reader
        self._format = reader.subscription.format
        self._wheel = wheel
        self._wait_s = wait_s
        self._headers = list(headers)
        self._parts: list[bytes] = []
        self._size = 0
        self._deliver: Callable[[Answer], None] | None = None
        self._timer: Timer | None = None
        self._scheduled = False

    # ------------------------------------------------------------------ the request

    def start(self, deliver: Callable[[Answer], None]) -> None:
        """See Parked."""
        self._deliver = deliver
        self._timer = self._wheel.add(self._wait_s, self._finish)
        if self._reader is not None:
            self._reader.start(self)

    def cancel(self) -> None:
        """See Parked."""
        self._deliver = None
        self._end()

    # ------------------------------------------------------------------ the connection

    def write(self, data: bytes) -> None:
        """See Detached. The reader's greeting is not worth an answer; what follows is, and of the
        catalog's state all of it: half a state has no cursor that the next poll could go on from.
        """
        self._parts.append(data)
        self._size += len(data)
        if self._reader is not None and self._reader.values is not None:
            return
        if self._size >= POLL_BYTES and self._reader is not None:
            self._reader.paused = True
        if len(self._parts) > 1 and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn_ends)

    def waiting_bytes(self) -> int:
        """See Detached."""
        return self._size

    def acknowledged_bytes(self) -> int | None:
        """See Detached."""
        return None

    def close(self, last: bytes = b"") -> None:
        """See Detached: the reader has ended."""
        self._parts.append(last)
        self._reader = None
        self._finish()

    def abort(self) -> None:
        """See Detached."""
        self._reader = None
        self._finish()

    # ------------------------------------------------------------------ the end

    def _turn_ends(self) -> None:
        self._scheduled = False
        if self._reader is None or self._reader.values is None:
            self._finish()  # (else a gap was told, and the state after it is under way)

    def _finish(self) -> None:
        deliver, self._deliver = self._deliver, None
        if deliver is None:
            return
        if self._reader is not None:
            id, sse = self._reader.cursor(), self._format is Format.SSE
            last = block(None, id=id) if sse else named(self._format, "hub.beat", {}, id=id)
            self._parts.append(last)
        self._end()
        body = b"".join(self._parts)
        deliver(Answer(200, body, self._headers, self._format.value))

    def _end(self) -> None:
        if self._timer is not None:
            self._wheel.cancel(self._timer)
            self._timer = None
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.end("poll")
