"""The prefixes that retention knows, as rows: what is kept of each, and what was trimmed."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping

from callboard.hub.history.schema import parted
from callboard.hub.history.store import Retention

log = logging.getLogger(__name__)

DEFAULT = 0
_CACHED_MAX = 10_000

Change = Mapping[int, tuple[int, int]]
"""By prefix's id: how many updates more, and bytes."""


class Prefixes:
    """Counts by prefix. Statements run within the caller's transaction; what is remembered here
    changes by `added` and `raised`, which the caller calls after its commit."""

    def __init__(self, connection: sqlite3.Connection, retention: Retention) -> None:
        self._connection = connection
        self._retention = retention
        self._ids: dict[str, int] = {}
        self._texts: dict[int, str] = {}
        self._kept: dict[int, tuple[int, int]] = {}
        self._trimmed: dict[int, int] = {}
        self._cached: dict[str, int] = {}
        self._load()
        if set(self._ids) != {"", *retention.prefixes}:
            self._sort_anew()

    def all(self) -> Iterator[int]:
        """Their ids."""
        return iter(self._kept)

    def text(self, prefix: int) -> str:
        return self._texts[prefix]

    def kept(self, prefix: int) -> tuple[int, int]:
        """How many updates, and bytes."""
        return self._kept[prefix]

    def trimmed(self) -> dict[str, int]:
        """By prefix: the highest offset that was trimmed."""
        return {self._texts[prefix]: offset for prefix, offset in self._trimmed.items()}

    def id_of(self, topic: str) -> int:
        """The prefix of a topic."""
        found = self._cached.get(topic)
        if found is None:
            found = self._ids[self._retention.prefix_of(topic)]
            if len(self._cached) >= _CACHED_MAX:
                self._cached.clear()
            self._cached[topic] = found
        return found

    def add(self, change: Change) -> None:
        """Write counts."""
        self._connection.executemany(
            "UPDATE prefix SET count = count + ?, bytes = bytes + ? WHERE id = ?",
            [(count, size, prefix) for prefix, (count, size) in change.items()],
        )

    def added(self, change: Change) -> None:
        """The same, remembered."""
        for prefix, (count, size) in change.items():
            had = self._kept[prefix]
            self._kept[prefix] = (had[0] + count, had[1] + size)

    def marks(self, removed: Iterable[tuple[str, int]]) -> dict[int, int]:
        """The highest offset by prefix, of topics and offsets."""
        found: dict[int, int] = {}
        for topic, offset in removed:
            prefix = self.id_of(topic)
            found[prefix] = max(found.get(prefix, 0), offset)
        return found

    def raise_marks(self, marks: Mapping[int, int]) -> None:
        """Write what was trimmed."""
        self._connection.executemany(
            "UPDATE prefix SET trimmed = max(trimmed, ?) WHERE id = ?",
            [(offset, prefix) for prefix, offset in marks.items()],
        )

    def raised(self, marks: Mapping[int, int]) -> None:
        """The same, remembered."""
        for prefix, offset in marks.items():
            self._trimmed[prefix] = max(self._trimmed[prefix], offset)

    def _load(self) -> None:
        for row in self._connection.execute("SELECT id, prefix, count, bytes, trimmed FROM prefix"):
            prefix, text, count, size, trimmed = row
            self._ids[text] = prefix
            self._texts[prefix] = text
            self._kept[prefix] = (count, size)
            self._trimmed[prefix] = trimmed

    def _sort_anew(self) -> None:
        """The configured prefixes changed: every update is told its own again."""
        log.info("history: the prefixes of retention changed, sorting updates anew")
        run = self._connection.execute
        before = {self._texts[prefix]: trimmed for prefix, trimmed in self._trimmed.items()}
        former = Retention(prefixes={text: self._retention.default for text in before if text})
        run("DELETE FROM prefix WHERE id != ?", (DEFAULT,))
        for number, text in enumerate(sorted(self._retention.prefixes), start=1):
            run("INSERT INTO prefix VALUES (?, ?, 0, 0, 0)", (number, text))
        self._ids = dict(run("SELECT prefix, id FROM prefix"))
        self._connection.create_function(
            "prefix_of", 1, lambda topics: self.id_of(parted(topics)[0]), deterministic=True
        )
        run("UPDATE event SET prefix = prefix_of(topics) WHERE prefix != prefix_of(topics)")
        run(
            "UPDATE prefix SET count = (SELECT count(*) FROM event WHERE prefix = prefix.id),"
            " bytes = (SELECT coalesce(sum(size), 0) FROM event WHERE prefix = prefix.id)"
        )
        for text, number in self._ids.items():
            # what was trimmed of its topics: under the prefix they had, or under longer ones
            under = [m for had, m in before.items() if self._retention.prefix_of(had) == text]
            mark = max([before[former.prefix_of(text)], *under])
            run("UPDATE prefix SET trimmed = ? WHERE id = ?", (mark, number))
        self._texts, self._kept, self._trimmed = {}, {}, {}
        self._cached.clear()
        self._load()
