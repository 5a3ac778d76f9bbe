"""Which hub media events are told to: the configured one, or one of the catalog. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from callboard.gateway.sources.instances import Instance

AVOIDED_S = 10.0
"""A hub that did not take an event is the last choice for so long."""


class Hubs:
    """Chooses a hub, and stays with it while it is there."""

    def __init__(
        self,
        instances: Callable[[], Sequence[Instance]],
        *,
        clock: Callable[[], float],
        rng: random.Random,
        fixed: str = "",
    ) -> None:
        """`instances` are the catalog's; `clock` is monotonic; `fixed` is a URL, and the catalog is
        then not asked."""
        self._instances = instances
        self._clock = clock
        self._rng = rng
        self._fixed = fixed
        self._chosen = ""
        self._avoided: dict[str, float] = {}

    def find(self) -> str | None:
        """A hub's URL; None while there is none."""
        if self._fixed:
            return self._fixed
        there = [instance.url for instance in self._instances()]
        if not there:
            return None
        now = self._clock()
        good = [url for url in there if self._avoided.get(url, 0.0) <= now]
        if self._chosen not in (good or there):
            self._chosen = self._rng.choice(good or there)
        return self._chosen

    def avoid(self, url: str) -> None:
        """It did not take an event."""
        now = self._clock()
        self._avoided = {each: until for each, until in self._avoided.items() if until > now}
        self._avoided[url] = now + AVOIDED_S
