"""The reading side of the SQLite store: short transactions on connections of a few threads.

Every question is one transaction, whose rows are fetched before it returns: a reader that waited
within one would keep the WAL from being emptied, and it would grow without end.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from heapq import nlargest
from pathlib import Path

from callboard.hub.event import Update
from callboard.hub.history.schema import COLUMNS, connect, parted, update_of
from callboard.hub.history.store import Epoch, Header, Page, place_of

BUSY_S = 2.0


class Reading:
    """Questions to the database, by any thread, each with a connection of its own.

    Raises sqlite3.Error from everything.
    """

    def __init__(self, path: Path, epochs: Sequence[Epoch]) -> None:
        self._path = path
        self._epochs = epochs
        self._own = threading.local()
        self._all: list[sqlite3.Connection] = []

    def read(self, after: int, bytes_max: int, count_max: int) -> Page:
        updates: list[Update] = []
        with self._snapshot() as connection:
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM event WHERE offset > ? ORDER BY offset LIMIT ?",
                (after, count_max),
            )
            for row in rows:
                update = update_of(row, place_of(self._epochs, row[0]))
                bytes_max -= update.size
                if bytes_max < 0 and updates:
                    break
                updates.append(update)
            rows.close()
            oldest, head = connection.execute(
                "SELECT (SELECT min(offset) FROM event), head FROM standing"
            ).fetchone()
            trimmed = dict(connection.execute("SELECT prefix, trimmed FROM prefix"))
        return Page(updates, head + 1 if oldest is None else oldest, trimmed)

    def newest(self, bytes_max: int, count_max: int) -> list[Update]:
        updates: list[Update] = []
        with self._snapshot() as connection:
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM event ORDER BY offset DESC LIMIT ?", (count_max,)
            )
            for row in rows:
                update = update_of(row, place_of(self._epochs, row[0]))
                bytes_max -= update.size
                if bytes_max < 0:
                    break
                updates.append(update)
            rows.close()
        updates.reverse()
        return updates

    def headers(self, before: int, count_max: int, topics: Sequence[str]) -> list[Header]:
        with self._snapshot() as connection:
            if topics:
                offsets: set[int] = set()
                for topic in topics:
                    rows = connection.execute(
                        "SELECT offset FROM topic WHERE topic = ? AND offset < ?"
                        " ORDER BY offset DESC LIMIT ?",
                        (topic, before, count_max),
                    )
                    offsets.update(offset for (offset,) in rows)
                found = connection.execute(
                    "SELECT offset, topics, private FROM event"
                    " WHERE offset IN (SELECT value FROM json_each(?)) ORDER BY offset DESC",
                    (json.dumps(nlargest(count_max, offsets)),),
                ).fetchall()
            else:
                found = connection.execute(
                    "SELECT offset, topics, private FROM event WHERE offset < ?"
                    " ORDER BY offset DESC LIMIT ?",
                    (before, count_max),
                ).fetchall()
        return [Header(offset, parted(names), bool(private)) for offset, names, private in found]

    def find(self, own_id: str) -> int | None:
        with self._snapshot() as connection:
            found: int | None = connection.execute(
                "SELECT min(offset) FROM own WHERE own_id = ?", (own_id,)
            ).fetchone()[0]
        return found

    def at_time(self, time_ms: int) -> int:
        """By bisection: times never go backwards, and no index of them is kept."""
        with self._snapshot() as connection:
            low, high, head = connection.execute(
                "SELECT (SELECT min(offset) FROM event), (SELECT max(offset) FROM event), head"
                " FROM standing"
            ).fetchone()
            if low is None:
                return int(head) + 1
            found = int(head) + 1
            while low <= high:
                middle = (low + high) // 2
                offset, time = connection.execute(
                    "SELECT offset, time_ms FROM event WHERE offset >= ? ORDER BY offset LIMIT 1",
                    (middle,),
                ).fetchone()
                if time >= time_ms:
                    found, high = offset, middle - 1
                else:
                    low = offset + 1
        return found

    def close(self) -> None:
        """Once no thread asks any more."""
        for connection in self._all:
            connection.close()

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """One read transaction."""
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = connect(self._path, busy_s=BUSY_S)
            connection.execute("PRAGMA query_only = ON")
            self._own.connection = connection
            self._all.append(connection)
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
