"""What the application is given by the program around it: types, and no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from callboard.serve import resources


@dataclass(frozen=True, slots=True)
class Door(resources.Door):
    """One listener: also what those who come through it may do without a token."""

    open: bool = False
    """/t/ takes publications without a token, unless they came through a proxy."""
    scheme: str = "http"


class Statistics(Protocol):
    """What GET /stats tells."""

    def figures(self) -> Mapping[str, object]:
        """subscribers, published, delivered, lag, cuts by reason, gaps, history: JSON."""

    def topics(self, count: int) -> list[dict[str, object]]:
        """The topics most published to: {"topic", "published"}."""
