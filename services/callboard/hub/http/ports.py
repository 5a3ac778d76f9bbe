"""What the application is given by the program around it: types, and no code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from callboard.chassis.guards import HostGuard
from callboard.serve import Request


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


class Statistics(Protocol):
    """What GET /stats tells."""

    def figures(self) -> Mapping[str, object]:
        """subscribers, published, delivered, lag, cuts by reason, gaps, history: JSON."""

    def topics(self, count: int) -> list[dict[str, object]]:
        """The topics most published to: {"topic", "published"}."""
