"""A blocking query as a parked object: a place in a wake set and one on the timer wheel.

It answers when its resource moves above the client's index, when its wait is over (200, with our
index, which may be lower than the client's), or when the whole state was replaced. Woken queries
answer in batches (`FanOut`), so that one change with 10,000 readers holds nothing else up.
"""

from __future__ import annotations

from collections.abc import Callable

from callboard.agent.http.context import ApiContext
from callboard.agent.http.problems import answer_to
from callboard.catalog.changes import WatchKey
from callboard.serve import Answer, Timer

JITTER_FRACTION = 16
"""Up to wait/16 more, so that those parked together do not return together (Consul's)."""


class BlockingQuery:
    """A `Parked` request, and a `Waiter` of the state store."""

    __slots__ = ("_above", "_answer", "_context", "_deliver", "_key", "_timer", "_wait_s")

    def __init__(
        self,
        context: ApiContext,
        key: WatchKey,
        above: int,
        wait_s: float,
        answer: Callable[[], Answer],
    ) -> None:
        self._context = context
        self._key = key
        self._above = above
        self._wait_s = wait_s
        self._answer = answer
        self._deliver: Callable[[Answer], None] | None = None
        self._timer: Timer | None = None

    def start(self, deliver: Callable[[Answer], None]) -> None:
        """Park. See Parked."""
        self._deliver = deliver
        self._context.store.wait(self._key, self, self._above)
        self._timer = self._context.wheel.add(self._wait_s, self._expired)

    def cancel(self) -> None:
        """The client has gone. See Parked."""
        self._deliver = None
        self._leave()

    def wake(self) -> None:
        """The resource moved. See Waiter."""
        self._context.fanout.post(self._settle)

    def _expired(self) -> None:
        self._timer = None
        self._context.store.unwait(self._key, self)
        self._settle()

    def _settle(self) -> None:
        deliver, self._deliver = self._deliver, None
        if deliver is None:
            return
        self._leave()
        try:
            answer = self._answer()
        except Exception as problem:
            answer = answer_to(problem)
        deliver(answer)

    def _leave(self) -> None:
        self._context.store.unwait(self._key, self)
        if self._timer is not None:
            self._context.wheel.cancel(self._timer)
            self._timer = None


def effective_wait_s(context: ApiContext, asked_s: float) -> float:
    """How long a query parks: the default for none, at most the maximum, and jitter."""
    http = context.http
    wait_s = min(asked_s, http.max_query_time_s) if asked_s > 0 else http.default_query_time_s
    return wait_s + context.rng.random() * wait_s / JITTER_FRACTION
