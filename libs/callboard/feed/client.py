"""Follows the feed of whichever agent will have us, and keeps a copy by it.

Agents are tried in a random order. One is left when its heartbeats stop, when it has no leader or
has not heard of one for long, or when it stays behind what the copy has already seen; if no other
is better, the next attempt comes back to it. The copy serves all the while.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import aiohttp

from callboard.chassis.logs import RateLimited
from callboard.feed.connector import AgentConnector
from callboard.feed.copy import CatalogCopy, FeedSession
from callboard.feed.wire import FORMAT, FeedError, FrameReader, Heartbeat
from callboard.pki.live import Judge

log = logging.getLogger(__name__)

PATH = "/v1/internal/feed"

UNREACHABLE_LOG_INTERVAL_S = 60.0

LASTING_S = 5.0
"""A stream that ended sooner counts as a failure: the next attempt waits longer."""


@dataclass(frozen=True, slots=True)
class FollowSettings:
    """When to leave an agent, and how soon to try the next, in seconds."""

    connect_timeout_s: float = 3.0
    silence_timeout_s: float = 5.0
    """Without a single octet for so long the agent is left: it beats each second."""
    leaderless_timeout_s: float = 5.0
    """An agent without a leader, or whose last contact is older, is left after so long."""
    behind_timeout_s: float = 5.0
    """An agent that is behind our copy may catch up for so long."""
    retry_min_s: float = 0.1
    retry_max_s: float = 3.0
    settle_s: float = 30.0
    """No agent is left for want of a leader sooner than this after the last time: if all are
    without one, going round would only cost snapshots."""


class LeftAgent(Exception):
    """An agent is no good any more."""


class FeedClient:
    """Runs as one task; see `run`."""

    def __init__(
        self,
        addresses: Sequence[str],
        copy: CatalogCopy,
        *,
        settings: FollowSettings | None = None,
        tls: ssl.SSLContext | None = None,
        headers: dict[str, str] | None = None,
        source: str = "",
        rng: random.Random | None = None,
    ) -> None:
        """`addresses` are URLs ("http://10.0.0.1:8500"). `headers` go with every
        request; `source` is the local address, "" lets the system choose."""
        assert addresses, "nobody to ask"
        self._addresses = list(addresses)
        self._copy = copy
        self._settings = settings or FollowSettings()
        self._tls = tls
        self._headers = dict(headers or {})
        self._source = source
        self._rng = rng or random.Random()
        self._limited = RateLimited(log, UNREACHABLE_LOG_INTERVAL_S)
        self._turn: list[str] = []
        self._last = ""
        self._left_at = float("-inf")
        self._connector: AgentConnector | None = None
        self.connected_to = ""
        """The URL that is being followed; "" while none is."""
        self.last_error = ""
        self.switches = 0
        """How often an agent was left or lost."""

    async def run(self) -> None:
        """Follow for ever; cancel to stop."""
        settings = self._settings
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=settings.connect_timeout_s,
            sock_read=settings.silence_timeout_s,
        )
        self._connector = AgentConnector(self._tls, self._source)
        async with aiohttp.ClientSession(timeout=timeout, connector=self._connector) as session:
            failures = 0
            while True:
                address = self._next()
                begun = asyncio.get_running_loop().time()
                complete = await self._follow(session, address)
                lasted_s = asyncio.get_running_loop().time() - begun
                failures = 0 if complete and lasted_s > LASTING_S else failures + 1
                await asyncio.sleep(self._pause_s(failures))

    def _next(self) -> str:
        """Every agent once in a random order, then again; the one just left comes last."""
        if not self._turn:
            order = [each for each in self._addresses if each != self._last]
            self._rng.shuffle(order)
            self._turn = order + [self._last] * (self._last in self._addresses)
        self._last = self._turn.pop(0)
        return self._last

    def _pause_s(self, failures: int) -> float:
        settings = self._settings
        longest = min(settings.retry_max_s, settings.retry_min_s * 2 ** min(failures, 16))
        return self._rng.uniform(settings.retry_min_s / 2, longest)

    async def _follow(self, session: aiohttp.ClientSession, address: str) -> bool:
        """Follow one agent until it is left or lost; whether the copy was complete from it."""
        copy = self._copy
        feed = FeedSession(copy)
        query = {"format": str(FORMAT)}
        if copy.ready and copy.epoch:
            query |= {"epoch": copy.epoch, "index": str(copy.applied_index)}
        url = f"{address.rstrip('/')}{PATH}?{urlencode(query)}"
        try:
            async with session.get(url, headers=self._headers) as response:
                if response.status != 200:
                    text = (await response.content.read(200)).decode("utf-8", "replace").strip()
                    raise LeftAgent(f"{response.status} {text}")
                self.connected_to = address
                await self._read(response, feed)
        except (aiohttp.ClientError, OSError, TimeoutError, FeedError, LeftAgent) as problem:
            self._lost(address, feed, problem)
        finally:
            self.connected_to = ""
        return feed.complete

    def judge(self, judge: Judge) -> None:
        """Leave an agent whose certificate (DER) is not accepted any more."""
        if self._connector is not None:
            self._connector.judge(judge)

    def _lost(self, address: str, feed: FeedSession, problem: Exception) -> None:
        self.switches += 1
        self.last_error = f"{address}: {type(problem).__name__} {problem}".strip()
        extra = {"address": address, "agent": feed.agent, "why": self.last_error}
        if feed.agent:
            log.warning("the feed of an agent ended", extra=extra)
        else:  # again and again, while it is down
            self._limited.warning(address, "an agent has no feed for us", extra)

    async def _read(self, response: aiohttp.ClientResponse, feed: FeedSession) -> None:
        """Take frames until the stream ends. Raises whatever ends it."""
        reader = FrameReader()
        judge = _Judge(self._settings)
        loop = asyncio.get_running_loop()
        async for data in response.content.iter_any():
            now = loop.time()
            for received in reader.feed(data):
                was_complete = feed.complete
                behind_of = self._copy.applied_index
                feed.receive(received, now)
                if feed.complete and not was_complete:
                    log.info(
                        "the copy of the catalog is complete",
                        extra={"agent": feed.agent, "index": self._copy.applied_index},
                    )
                if isinstance(received.frame, Heartbeat):
                    why = judge.beat(received.frame, behind_of, now)
                    if why and now - self._left_at > self._settings.settle_s:
                        self._left_at = now
                        raise LeftAgent(why)
        raise LeftAgent("the stream ended")


class _Judge:
    """Whether the heartbeats of an agent still say that it is worth following."""

    def __init__(self, settings: FollowSettings) -> None:
        self._settings = settings
        self._leaderless_since: float | None = None
        self._behind_since: float | None = None

    def beat(self, beat: Heartbeat, our_index: int, now: float) -> str:
        """Why to leave; "" to stay."""
        settings = self._settings
        lost = not beat.leader or beat.last_contact_ms / 1000 > settings.leaderless_timeout_s
        self._leaderless_since = (self._leaderless_since or now) if lost else None
        behind = beat.applied_index < our_index
        self._behind_since = (self._behind_since or now) if behind else None
        if self._leaderless_since is not None:
            old = beat.last_contact_ms / 1000 > settings.leaderless_timeout_s
            if old or now - self._leaderless_since > settings.leaderless_timeout_s:
                return "it has no leader"
        if self._behind_since is not None and now - self._behind_since > settings.behind_timeout_s:
            return f"it stays behind at {beat.applied_index}, we are at {our_index}"
        return ""
