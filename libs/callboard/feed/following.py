"""What all who follow the catalog do alike, with `FeedClient` or `PollClient`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from callboard.feed.copy import CatalogCopy

log = logging.getLogger(__name__)

RESTART_PAUSE_S = 1.0


class Following(Protocol):
    """A client that fills a copy."""

    @property
    def last_error(self) -> str: ...


async def follow_for_ever(run: Callable[[], Awaitable[None]], doubt: Callable[[], None]) -> None:
    """Run for ever: a mistake of ours on the way must not leave us stale for good. `doubt` is told
    of one: something may have been missed."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("following the catalog failed: begun anew")
        doubt()
        await asyncio.sleep(RESTART_PAUSE_S)


def why_not_ready(copy: CatalogCopy, client: Following) -> str | None:
    """Why nothing can be told of the catalog; None if something can."""
    if copy.ready:
        return None
    return f"no complete copy of the catalog yet: {client.last_error or 'connecting'}"
