"""What the API remembers of bodies: bounded, whatever clients ask for, and made once."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable

from callboard.agent.http.compression import INLINE_BYTES_MAX, Compressor
from callboard.agent.http.renderings import Renderings
from callboard.catalog.changes import WatchKey
from callboard.serve import Answer


def test_long_names_count_for_what_is_kept() -> None:
    kept = Renderings(memory_bytes_max=1 << 20)
    for number in range(1000):
        name = f"{number:030000d}"
        kept.put(WatchKey("service", name), ("health/service", name, False, ()), 1, b"[]")
    assert 0 < len(kept) <= (1 << 20) // 30_000


def test_body_is_right_at_its_index_only() -> None:
    kept = Renderings()
    key = WatchKey("service", "web")
    kept.put(key, "form", 7, b"old")
    assert kept.get(key, "form", 7) == b"old"
    assert kept.get(key, "form", 8) is None
    kept.put(key, "form", 8, b"new")
    assert (kept.get(key, "form", 8), len(kept)) == (b"new", 1)


async def test_long_body_is_compressed_once_for_all_who_wait() -> None:
    compressor = Compressor()
    body = b"callboard" * INLINE_BYTES_MAX
    outcomes = [compressor.compress(Answer(200, body)) for _ in range(50)]
    answers = await asyncio.gather(*(each for each in outcomes if isinstance(each, Awaitable)))
    assert gzip.decompress(answers[0].body) == body
    assert len(answers) == 50
    assert all(answer.body is answers[0].body for answer in answers)
    assert isinstance(compressor.compress(Answer(200, body)), Answer)
