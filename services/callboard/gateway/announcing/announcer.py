"""Carries media events to a hub. Without a hub they are dropped; media never waits for one.

Events are told in order, one at a time: a hub that is slow costs the oldest of those that wait.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from callboard.chassis.logs import RateLimited
from callboard.events.client import Publisher
from callboard.events.errors import EventsError
from callboard.gateway.announcing.events import MediaEvent, MediaEvents, Reading

log = logging.getLogger(__name__)

QUEUE_MAX = 256
"""Events that wait for the hub; then the oldest is dropped."""
LOOK_INTERVAL_S = 0.25
PUBLISH_S = 5.0
"""For one event with all its attempts, at one hub."""
LOG_INTERVAL_S = 60.0
FAREWELL_S = 1.0
"""For what is still to be told when the gateway stops."""

NO_HUB = "no hub"
QUEUE_FULL = "queue full"
REFUSED = "refused or unreachable"

FindHub = Callable[[], str | None]


class Announcer:
    """Looks at the streams, and tells a hub what changed."""

    def __init__(
        self,
        readings: Callable[[], Iterable[Reading]],
        find_hub: FindHub,
        *,
        avoid: Callable[[str], None] = lambda url: None,
        token: str = "",
        tls: ssl.SSLContext | None = None,
        queue_max: int = QUEUE_MAX,
        look_interval_s: float = LOOK_INTERVAL_S,
        publish_s: float = PUBLISH_S,
    ) -> None:
        """`find_hub` answers a hub's URL, None while there is none; `avoid` is told of one that
        did not take an event."""
        self._readings = readings
        self._find_hub = find_hub
        self._avoid = avoid
        self._token = token
        self._tls = tls
        self._look_interval_s = look_interval_s
        self._publish_s = publish_s
        self._queue: deque[MediaEvent] = deque()
        self._queue_max = queue_max
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._events = MediaEvents()
        self._limited = RateLimited(log, LOG_INTERVAL_S)
        self._publisher: Publisher | None = None
        self._url = ""
        self._tasks: list[asyncio.Task[None]] = []
        self.published = 0
        self.dropped: Counter[str] = Counter()
        """Events that no hub was told, by reason."""

    async def start(self) -> None:
        """Begin."""
        self._tasks = [
            asyncio.create_task(self._look(), name="look at the streams"),
            asyncio.create_task(self._carry(), name="tell the hub"),
        ]

    async def stop(self) -> None:
        """Tell what has changed until now, if a hub takes it in FAREWELL_S, and end."""
        if self._tasks:
            looking, carrying = self._tasks
            looking.cancel()
            self._announce_changes()
            try:
                async with asyncio.timeout(FAREWELL_S):
                    await self._idle.wait()
            except TimeoutError:
                log.info("media events were not told", extra={"events": len(self._queue)})
            carrying.cancel()
            await asyncio.gather(looking, carrying, return_exceptions=True)
        self._tasks = []
        await self._leave()

    @property
    def waiting(self) -> int:
        """Events that no hub was told yet."""
        return len(self._queue)

    def announce(self, events: Sequence[MediaEvent]) -> None:
        """Take events to be told; never waits."""
        for event in events:
            if self._find_hub() is None:
                self.dropped[NO_HUB] += 1
                continue
            if len(self._queue) >= self._queue_max:
                self._queue.popleft()
                self.dropped[QUEUE_FULL] += 1
            self._queue.append(event)
            self._idle.clear()
            self._more.set()

    def _announce_changes(self) -> None:
        now = asyncio.get_running_loop().time()
        self.announce(self._events.take(self._readings(), now, time.time()))

    async def _look(self) -> None:
        while True:
            try:
                self._announce_changes()
            except Exception:
                log.exception("media events cannot be made")
            await asyncio.sleep(self._look_interval_s)

    async def _carry(self) -> None:
        while True:
            await self._more.wait()
            while self._queue:
                await self._tell(self._queue.popleft())
            self._more.clear()
            self._idle.set()

    async def _tell(self, event: MediaEvent) -> None:
        url = self._find_hub()
        if url is None:
            self.dropped[NO_HUB] += 1
            return
        try:
            publisher = await self._at(url)
            await publisher.publish(event.topic, event.data, timeout_s=self._publish_s)
        except (EventsError, OSError, ValueError) as problem:
            self.dropped[REFUSED] += 1
            self._avoid(url)
            extra = {"hub": url, "reason": str(problem)}
            self._limited.warning(url, "the hub does not take media events", extra)
        else:
            self.published += 1

    async def _at(self, url: str) -> Publisher:
        if self._publisher is None or self._url != url:
            await self._leave()
            self._url = url
            self._publisher = Publisher(url, token=self._token, tls=self._tls)
        return self._publisher

    async def _leave(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await publisher.close()
