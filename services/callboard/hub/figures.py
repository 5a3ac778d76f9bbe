"""What the hub counts: for GET /stats and for /metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from callboard.chassis.metrics import Labels, Metrics
from callboard.hub.event import Update
from callboard.hub.ports import History
from callboard.hub.subscribers.readers import Readers

TOPICS_MAX = 10_000
"""Topics that are counted; further ones are not, until the next start."""


class Figures:
    """A `Statistics` of the application."""

    def __init__(self, history: History, readers: Readers) -> None:
        self._history = history
        self._readers = readers
        self._published = 0
        self._topics: Counter[str] = Counter()
        history.listen(self._count)

    def _count(self, updates: Sequence[Update]) -> None:
        self._published += len(updates)
        topics = self._topics
        for update in updates:
            topic = update.topics[0]
            if topic in topics or len(topics) < TOPICS_MAX:
                topics[topic] += 1

    def figures(self) -> Mapping[str, object]:
        """See Statistics."""
        readers, history = self._readers, self._history
        lagging, behind = readers.lag()
        return {
            "subscribers": len(readers),
            "subscribed": readers.counts.begun,
            "published": self._published,
            "delivered": readers.delivery.delivered,
            "lagging": lagging,
            "lag": behind,
            "ended": dict(readers.counts.ended),
            "gaps": readers.gaps,
            "history": {
                "epoch": history.epoch,
                "oldest": history.oldest,
                "head": history.head,
            },
        }

    def topics(self, count: int) -> list[dict[str, object]]:
        """See Statistics."""
        return [{"topic": t, "published": n} for t, n in self._topics.most_common(count)]

    def register(self, metrics: Metrics) -> None:
        """Have /metrics tell the same."""
        readers = self._readers
        metrics.read_gauge(
            "callboard_hub_subscribers", "Streams open now.", lambda: float(len(readers))
        )
        metrics.read_gauge(
            "callboard_hub_subscribers_lagging",
            "Streams that catch up, or whose client is behind.",
            lambda: float(readers.lag()[0]),
        )
        metrics.read_gauge(
            "callboard_hub_lag_updates",
            "How many updates the last stream is behind.",
            lambda: float(readers.lag()[1]),
        )
        metrics.read_counter(
            "callboard_hub_published_total",
            "Updates published.",
            lambda: float(self._published),
        )
        metrics.read_counter(
            "callboard_hub_delivered_total",
            "Events written to streams.",
            lambda: float(readers.delivery.delivered),
        )
        metrics.read_counter(
            "callboard_hub_ended_total", "Streams that ended, by reason.", self._ended, ("reason",)
        )
        metrics.read_counter(
            "callboard_hub_gaps_total", "Gaps told to readers.", lambda: float(readers.gaps)
        )

        metrics.read_gauge(
            "callboard_hub_catalog_age_seconds",
            "How old the copy of the catalog is; -1 without one.",
            self._catalog_age,
        )

    def _catalog_age(self) -> float:
        catalog = self._readers.catalog
        age_s = catalog.age_s() if catalog is not None else float("inf")
        return -1.0 if age_s == float("inf") else age_s

    def _ended(self) -> dict[Labels, float]:
        return {(why,): float(count) for why, count in self._readers.counts.ended.items()}
