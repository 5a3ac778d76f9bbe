"""gzip for answers, remembered: the same bytes are compressed once.

Consul compresses every body, however small, for who accepts it; Go's clients always do. A small
memory of compressed bodies makes that free for what is asked often (`true`, a busy service).
"""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from collections.abc import Awaitable

from callboard.serve import Answer

LEVEL = 1
"""Fast: catalogs are repetitive, higher levels gain little for several times the work."""
INLINE_BYTES_MAX = 128 * 1024
"""Longer bodies are compressed in a thread: on the loop they would take over 2 ms."""


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding value names gzip (RFC 9110, 12.5.3). As for Consul, `*` alone
    does not: clients send it that cannot unzip."""
    if accept_encoding == "gzip":
        return True
    for part in accept_encoding.split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip().lower() == "gzip":
            quality = parameters.strip().lower().removeprefix("q=").strip() or "1"
            try:
                return float(quality) > 0
            except ValueError:
                return False
    return False


class Compressor:
    """Compresses bodies; keeps the most recently used results, up to a number of bytes."""

    def __init__(self, *, memory_bytes_max: int = 8 << 20) -> None:
        self._memory: OrderedDict[bytes, bytes] = OrderedDict()
        self._under_way: dict[bytes, asyncio.Task[bytes]] = {}
        self._bytes = 0
        self._bytes_max = memory_bytes_max

    def compress(self, answer: Answer) -> Answer | Awaitable[Answer]:
        """The answer with its body compressed; later, if the body is long."""
        body = answer.body
        known = self._memory.get(body)
        if known is not None:
            self._memory.move_to_end(body)
            return _encoded(answer, known)
        if len(body) > INLINE_BYTES_MAX:
            return self._compress_later(answer)
        return _encoded(answer, self._remember(body, _gzip(body)))

    async def _compress_later(self, answer: Answer) -> Answer:
        """In a thread; once for all who wait for the same body (a change woke them together)."""
        body = answer.body
        task = self._under_way.get(body)
        if task is None:
            task = asyncio.get_running_loop().create_task(asyncio.to_thread(_gzip, body))
            self._under_way[body] = task
            task.add_done_callback(lambda done: self._compressed(body, done))
        return _encoded(answer, await asyncio.shield(task))

    def _compressed(self, body: bytes, done: asyncio.Task[bytes]) -> None:
        del self._under_way[body]
        if done.cancelled() or done.exception() is not None:
            return
        if len(body) + len(done.result()) <= self._bytes_max // 4:  # others are to stay
            self._remember(body, done.result())

    def _remember(self, body: bytes, compressed: bytes) -> bytes:
        self._memory[body] = compressed
        self._bytes += len(body) + len(compressed)
        while self._bytes > self._bytes_max:
            old, old_compressed = self._memory.popitem(last=False)
            self._bytes -= len(old) + len(old_compressed)
        return compressed


def _gzip(body: bytes) -> bytes:
    return zlib.compress(body, LEVEL, wbits=31)


def _encoded(answer: Answer, compressed: bytes) -> Answer:
    headers = [*answer.headers, ("Content-Encoding", "gzip")]
    return Answer(answer.status, compressed, headers, answer.content_type)
