"""Many callbacks without one long pause: they run in batches, and the event loop turns between.

One change may wake 10,000 parked requests. Answering them in one go would hold heartbeats and
new requests for a tenth of a second; in batches nothing waits longer than one batch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)


class FanOut:
    """A queue of callbacks, run soon and in order. Its bound is the number of parked requests:
    each posts at most once."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, batch: int = 512, slice_s: float = 0.005
    ) -> None:
        self._loop = loop
        self._batch = batch
        self._slice_s = slice_s
        self._queue: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._queue)

    def post(self, callback: Callable[[], None]) -> None:
        """Run `callback` soon, never within this call."""
        self._queue.append(callback)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        # (the loop's own time stands still while it runs callbacks, uvloop's)
        until = time.monotonic() + self._slice_s
        for _ in range(min(self._batch, len(self._queue))):
            try:
                self._queue.popleft()()
            except Exception:
                log.exception("posted callback failed")
            if time.monotonic() > until:
                break
        if self._queue and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)
