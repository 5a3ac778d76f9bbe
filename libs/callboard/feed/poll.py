"""Fills a copy by blocking queries alone: works in front of any Consul-compatible server.

The names of services are asked for, then every service's health, each answer being parked at the
server until something changes. More services than `PARKED_MAX` take turns. What a feed gives in one
stream costs a request a change here; it is the fallback, and a differential test of the feed.

Consul's API has no name for the history its indexes count in. A lower index than one seen before is
taken for a server that lags, which is left for another, unless the leader confirms it by a
consistent read: then the cluster was set up anew, or restored, and everything is taken from it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Sequence

import aiohttp

from callboard.chassis.logs import RateLimited
from callboard.feed.connector import AgentConnector
from callboard.feed.copy import CatalogCopy
from callboard.feed.mirror import (
    FIRST_PARALLEL,
    PARKED_MAX,
    Behind,
    History,
    Mirror,
    PollError,
    PollSettings,
)
from callboard.pki.live import Judge

log = logging.getLogger(__name__)

FAILURE_LOG_INTERVAL_S = 60.0

FAILURES = (aiohttp.ClientError, OSError, TimeoutError, PollError)


class PollClient:
    """Runs as one task; see `run`."""

    def __init__(
        self,
        addresses: Sequence[str],
        copy: CatalogCopy,
        *,
        settings: PollSettings | None = None,
        tls: ssl.SSLContext | None = None,
        headers: dict[str, str] | None = None,
        source: str = "",
        rng: random.Random | None = None,
    ) -> None:
        """As `FeedClient`; `addresses` are URLs of any Consul-compatible server."""
        assert addresses, "nobody to ask"
        self._addresses = list(addresses)
        self._copy = copy
        self._settings = settings or PollSettings()
        self._tls = tls
        self._headers = dict(headers or {})
        self._source = source
        self._rng = rng or random.Random()
        self._limited = RateLimited(log, FAILURE_LOG_INTERVAL_S)
        self._history = History("")
        self._connector: AgentConnector | None = None
        self.connected_to = ""
        self.last_error = ""
        self.switches = 0

    async def run(self) -> None:
        """Follow for ever, one server at a time; cancel to stop."""
        settings = self._settings
        limit = PARKED_MAX + FIRST_PARALLEL
        self._connector = connector = AgentConnector(self._tls, self._source, limit=limit)
        self._history = History.of_image(self._copy.epoch) or self._new_history()
        async with aiohttp.ClientSession(connector=connector, headers=self._headers) as session:
            failures = 0
            self._rng.shuffle(self._addresses)
            while True:
                address = self._addresses[failures % len(self._addresses)]
                mirror = Mirror(session, address, self._copy, settings, self._history)
                try:
                    await mirror.load()
                    self.connected_to, failures = address, 0
                    await mirror.follow()
                except* FAILURES as problems:
                    self._lost(address, problems)
                    await self._examine(mirror, problems)
                failures += 1
                self.connected_to = ""
                longest = min(settings.retry_max_s, settings.retry_min_s * 2 ** min(failures, 8))
                await asyncio.sleep(self._rng.uniform(settings.retry_min_s, longest))

    def judge(self, judge: Judge) -> None:
        """Leave a server whose certificate (DER) is not accepted any more."""
        if self._connector is not None:
            self._connector.judge(judge)

    def _new_history(self) -> History:
        return History(f"{History.PREFIX}{self._rng.getrandbits(64):016x}")

    async def _examine(self, mirror: Mirror, problems: BaseExceptionGroup[Exception]) -> None:
        """If a server was left for being behind: is it, or has the cluster begun anew?"""
        behind = _first(problems, Behind)
        if not isinstance(behind, Behind):
            return
        try:
            begun_anew = await mirror.leader_is_behind(behind)
        except FAILURES as problem:
            log.debug("the leader cannot say which index it is at", extra={"why": repr(problem)})
            return
        if begun_anew:
            self._history = self._new_history()

    def _lost(self, address: str, problems: BaseExceptionGroup[Exception]) -> None:
        self.switches += 1
        first = _first(problems, Exception)
        self.last_error = f"{address}: {type(first).__name__} {first}".strip()
        self._limited.warning(
            address, "polling ended", {"address": address, "why": self.last_error}
        )


def _first(problems: BaseExceptionGroup[Exception], kind: type[Exception]) -> BaseException | None:
    """The first problem of a kind in a group of groups; None if there is none."""
    found: BaseException | None = problems.subgroup(kind)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
