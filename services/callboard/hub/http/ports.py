"""What the application is given by the program around it: types, and no code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from callboard.chassis.guards import HostGuard
from callboard.hub.ports import Subscription
from callboard.serve import Parked, Request
from callboard.serve.exchange import Sink


@dataclass(frozen=True, slots=True)
class Door:
    """One listener: what those who come through it may do without a token."""

    open: bool = False
    """/t/ takes publications without a token, unless they came through a proxy."""
    scheme: str = "http"
    hosts: HostGuard | None = None
    """The names that a Host header may carry; None: any. An open door needs it: a page can make
    its own name mean 127.0.0.1 (DNS rebinding)."""
    proxy: Callable[[Request], bool] = lambda request: False
    """Whether who connects is a proxy whose X-Forwarded-For is believed."""


class Opened(Protocol):
    """A stream that may begin."""

    @property
    def sink(self) -> Sink: ...

    @property
    def last_event_id(self) -> str:
        """Where it begins; `earliest` after a gap."""


class Readers(Protocol):
    """The hub's streams."""

    on_begin: Callable[[Subscription], None] | None
    on_end: Callable[[Subscription], None] | None

    async def open(self, subscription: Subscription) -> Opened:
        """Raises `Full`."""

    def poll(self, opened: Opened, wait_s: float) -> Parked: ...


class Statistics(Protocol):
    """What GET /stats tells."""

    def figures(self) -> Mapping[str, object]:
        """subscribers, published, delivered, lag, cuts by reason, gaps, history: JSON."""

    def topics(self, count: int) -> list[dict[str, object]]:
        """The topics most published to: {"topic", "published"}."""
