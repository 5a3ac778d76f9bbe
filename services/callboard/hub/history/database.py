"""The writing side of the SQLite store: one connection, used by one thread.

A commit is on the disk when it returns (`durable`), or with the next checkpoint. Checkpoints are
made here and by hand, so that one that fails is seen. What this object remembers beside the
database (head, counts) changes only after a commit.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from callboard.files import create
from callboard.files.directories import lock, make_durably
from callboard.hub.event import Update
from callboard.hub.history import mark as marks
from callboard.hub.history.prefixes import Prefixes
from callboard.hub.history.repeats import Known, repeated
from callboard.hub.history.schema import connect, is_busy, is_full, joined, parted, prepare
from callboard.hub.history.store import (
    EPOCHS_MAX,
    Acknowledge,
    Draft,
    Epoch,
    Retention,
    Standing,
    Trimmed,
    new_epoch,
    place_of,
)

FILE = "history.sqlite"
MARK = "history.mark"
BUSY_S = 5.0
CACHE_KIB = 16 * 1024
"""Of the writer, whose indexes are changed all over; readers go from page to page, and keep to
SQLite's own measure (2 MB)."""
SLICE = 500
"""Rows that are trimmed or purged in one transaction."""
CHECKPOINT_PAGES = 2_000
"""Pages written, roughly, after which they are moved from the WAL into the database."""
WAL_MAX_BYTES = 32 << 20
"""A longer WAL is emptied and cut, waiting for readers in their short transactions."""
TRUNCATE_WAIT_MS = 250
TRUNCATE_AGAIN_PAGES = 200

_INSERT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Database:
    """The store's one writer. Raises sqlite3.Error from everything."""

    def __init__(self, folder: Path, mode: Acknowledge, retention: Retention) -> None:
        """Open the database below `folder`, made if need be, for this process alone.

        Raises OSError (also when another process has it) or ValueError (damaged, another format).
        """
        self.path = folder / FILE
        self._mark = folder / MARK
        self._mode = mode
        self._retention = retention
        self._level = "FULL" if mode is Acknowledge.DURABLE else "NORMAL"
        self._pages = 0
        self._marked: marks.Mark | None = None
        self.head = 0
        self.time_ms = 0
        """Of the newest update."""
        self.epochs: list[Epoch] = []
        self.prefixes: Prefixes
        with ExitStack() as opened:
            make_durably(folder)
            opened.callback(os.close, lock(folder))
            try:
                self._begin(opened)
            except sqlite3.OperationalError as problem:
                raise OSError(f"{self.path}: {problem}") from problem
            except (sqlite3.DatabaseError, ValueError) as problem:
                raise ValueError(f"{self.path}: {problem}") from problem
            self._opened = opened.pop_all()

    def standing(self) -> Standing:
        return Standing(tuple(self.epochs), self.head, self.oldest(), self.prefixes.trimmed())

    def oldest(self) -> int:
        """The lowest offset kept; head + 1 when none is."""
        found = self._connection.execute("SELECT min(offset) FROM event").fetchone()[0]
        return self.head + 1 if found is None else int(found)

    # ------------------------------------------------------------------------ appending

    def append(self, batch: Sequence[Draft]) -> tuple[list[Update], list[Update]]:
        """Commit a batch: the updates of all drafts, and those of them that are new."""
        answers: list[Update] = []
        new: list[Update] = []
        keys: dict[str, Known] = {}
        offset, time_ms = self.head, self.time_ms
        with self._transaction():
            for draft in batch:
                wanted = draft.publication
                key = wanted.idempotency_key
                known = (keys.get(key) or self._known(key)) if key else None
                if known is not None:
                    answers.append(repeated(wanted, known, place_of(self.epochs, known[0])))
                    continue
                offset, time_ms = offset + 1, max(time_ms, draft.time_ms)
                update = Update(offset, self.epochs[-1].name, time_ms, wanted)
                answers.append(update)
                new.append(update)
                if key:
                    keys[key] = (offset, time_ms, wanted.own_id)
            kept = self._insert(new, keys)
        self._took(new, kept)
        return answers, new

    def write(self, batch: Sequence[tuple[Update, str]]) -> None:
        """Commit updates that have their offsets already."""
        updates = [update for update, _ in batch]
        keys = {key: (u.offset, u.time_ms, u.own_id) for u, key in batch if key}
        if updates[0].offset != self.head + 1:
            raise ValueError(f"offset {updates[0].offset} does not follow {self.head}")
        with self._transaction():
            kept = self._insert(updates, keys)
        self._took(updates, kept)

    def keys(self) -> dict[str, Known]:
        """All idempotency keys, in the order of offsets."""
        rows = self._connection.execute(
            "SELECT key, offset, time_ms, own_id FROM key ORDER BY offset"
        )
        return {key: (offset, time_ms, own_id) for key, offset, time_ms, own_id in rows}

    def _known(self, key: str) -> Known | None:
        found: Known | None = self._connection.execute(
            "SELECT offset, time_ms, own_id FROM key WHERE key = ?", (key,)
        ).fetchone()
        return found

    def _insert(
        self, updates: Sequence[Update], keys: dict[str, Known]
    ) -> dict[int, tuple[int, int]]:
        """Write rows; what came to each prefix, for `_took` after the commit."""
        kept: dict[int, tuple[int, int]] = {}
        events, topics, own = [], [], []
        for u in updates:
            prefix = self.prefixes.id_of(u.topics[0])
            count, size = kept.get(prefix, (0, 0))
            kept[prefix] = (count + 1, size + u.size)
            names = joined(u.topics)
            signs = (u.private, u.retry_ms, u.type, u.own_id)
            events.append((u.offset, u.time_ms, prefix, u.size, *signs, names, u.data))
            topics += [(topic, u.offset) for topic in set(u.topics)]
            if u.own_id:
                own.append((u.own_id, u.offset))
        run = self._connection.executemany
        run(_INSERT, events)
        topics.sort()
        run("INSERT INTO topic VALUES (?, ?)", topics)
        if own:
            run("INSERT INTO own VALUES (?, ?)", own)
        if keys:
            run("INSERT INTO key VALUES (?, ?, ?, ?)", [(k, *known) for k, known in keys.items()])
        self.prefixes.add(kept)
        if updates:
            last = updates[-1]
            self._connection.execute(
                "UPDATE standing SET head = ?, time_ms = ?", (last.offset, last.time_ms)
            )
        return kept

    def _took(self, updates: Sequence[Update], kept: dict[int, tuple[int, int]]) -> None:
        self.prefixes.added(kept)
        if updates:
            self.head, self.time_ms = updates[-1].offset, updates[-1].time_ms
        size = sum(update.size for update in updates)
        self._pages += 8 + 3 * len(updates) + size // 4096

    # ------------------------------------------------------------------------ trimming

    def trim(self, now_ms: int) -> Trimmed:
        """One slice of what retention asks for. It need not be on the disk: what comes back after
        a power cut is trimmed again."""
        more = False
        with self._synchronous("NORMAL"):
            more |= self._trim_keys(now_ms)
            for prefix in self.prefixes.all():
                more |= self._trim_prefix(prefix, now_ms)
        return Trimmed(self.oldest(), self.prefixes.trimmed(), more, self._kept())

    def _kept(self) -> dict[str, int]:
        """As in `Trimmed`."""
        kept = {}
        for prefix in self.prefixes.all():
            first = self._connection.execute(
                "SELECT min(offset) FROM event WHERE prefix = ?", (prefix,)
            ).fetchone()[0]
            kept[self.prefixes.text(prefix)] = self.head + 1 if first is None else int(first)
        return kept

    def _trim_keys(self, now_ms: int) -> bool:
        before = now_ms - int(self._retention.keys_age_s * 1000)
        old = self._connection.execute(
            "SELECT offset FROM (SELECT offset, time_ms FROM key ORDER BY offset LIMIT ?)"
            " WHERE offset <= ? OR time_ms < ?",
            (SLICE, self.head - self._retention.keys_count, before),
        ).fetchall()
        if old:
            with self._transaction():
                self._connection.execute("DELETE FROM key WHERE offset <= ?", old[-1])
            self._pages += 8 + len(old)
        return len(old) == SLICE

    def _trim_prefix(self, prefix: int, now_ms: int) -> bool:
        bound = self._retention.bound(self.prefixes.text(prefix))
        count, size = self.prefixes.kept(prefix)
        before = 0 if bound.age_s is None else now_ms - int(bound.age_s * 1000)
        old = []
        rows = self._connection.execute(
            "SELECT offset, time_ms, size, own_id, topics FROM event"
            " WHERE prefix = ? ORDER BY offset LIMIT ?",
            (prefix, SLICE),
        )
        for offset, time_ms, one, own_id, topics in rows:
            over = (
                (bound.count is not None and count > bound.count)
                or (bound.bytes is not None and size > bound.bytes)
                or time_ms < before
            )
            if not over:
                break
            old.append((offset, one, own_id, parted(topics)))
            count, size = count - 1, size - one
        rows.close()
        if old:
            self._remove(prefix, old, trimmed=True)
        return len(old) == SLICE

    def _remove(
        self, prefix: int, rows: Sequence[tuple[int, int, str, tuple[str, ...]]], *, trimmed: bool
    ) -> None:
        """Delete rows (offset, size, own id, topics) of one prefix, and all that points at them."""
        lost = {prefix: (-len(rows), -sum(row[1] for row in rows))}
        raised = self.prefixes.marks(
            (topic, offset) for offset, _, _, topics in rows for topic in topics
        )
        run = self._connection.executemany
        with self._transaction():
            run("DELETE FROM event WHERE offset = ?", [row[:1] for row in rows])
            run(
                "DELETE FROM topic WHERE topic = ? AND offset = ?",
                [(topic, offset) for offset, _, _, topics in rows for topic in topics],
            )
            run(
                "DELETE FROM own WHERE own_id = ? AND offset = ?",
                [(own_id, offset) for offset, _, own_id, _ in rows if own_id],
            )
            self.prefixes.add(lost)
            if trimmed:
                self.prefixes.raise_marks(raised)
        self.prefixes.added(lost)
        if trimmed:
            self.prefixes.raised(raised)
        self._pages += 8 + 3 * len(rows)

    def purge(self, topic: str, head: int) -> int:
        """Remove a slice of the updates of a topic up to `head`; how many (0: none are left).

        What they held is overwritten with zeros.
        """
        rows = self._connection.execute(
            "SELECT event.offset, size, own_id, topics, prefix FROM topic"
            " JOIN event ON event.offset = topic.offset"
            " WHERE topic = ? AND topic.offset <= ? ORDER BY topic.offset LIMIT ?",
            (topic, head, SLICE),
        ).fetchall()
        self._connection.execute("PRAGMA secure_delete = ON")
        try:
            for prefix in {row[4] for row in rows}:
                own = [(r[0], r[1], r[2], parted(r[3])) for r in rows if r[4] == prefix]
                self._remove(prefix, own, trimmed=False)
        finally:
            self._connection.execute("PRAGMA secure_delete = OFF")
        return len(rows)

    def settle_purge(self) -> None:
        """What was purged is gone from the WAL too, and that is on the disk."""
        with self._synchronous("FULL"):
            self.checkpoint("TRUNCATE")

    # ------------------------------------------------------------------------ the disk

    @property
    def untidy(self) -> bool:
        """Whether there is something for `tidy`."""
        return self._pages >= CHECKPOINT_PAGES

    def tidy(self) -> None:
        """Move pages from the WAL into the database."""
        if self._wal_bytes() <= WAL_MAX_BYTES:
            self._pages = 0
            self.checkpoint("PASSIVE")
        else:
            whole = self.checkpoint("TRUNCATE")
            self._pages = 0 if whole else CHECKPOINT_PAGES - TRUNCATE_AGAIN_PAGES

    def checkpoint(self, kind: str) -> bool:
        """Whether readers let it do all it was to do."""
        self._connection.execute(f"PRAGMA busy_timeout = {TRUNCATE_WAIT_MS}")
        try:
            busy = self._connection.execute(f"PRAGMA wal_checkpoint({kind})").fetchone()[0]
        except sqlite3.Error as problem:
            if not (is_full(problem) or is_busy(problem)):
                raise
            busy = 1  # the WAL holds it all; what a full disk means, the next append finds out
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}")
        return not busy

    def mark(self) -> None:
        """Write down how far the store is. Raises OSError."""
        now = marks.Mark(self.epochs[-1].name, self.head)
        if now != self._marked:
            marks.write(self._mark, now)
            self._marked = now

    def close(self) -> None:
        """The end of a clean run; `mark` comes before."""
        with self._synchronous("FULL"):
            with self._transaction():
                self._connection.execute("UPDATE standing SET running = 0")
            self.checkpoint("TRUNCATE")
        self._opened.close()

    def abandon(self) -> None:
        """Touch the files no more, whatever becomes of this object.

        When its last connection is closed, or forgotten, SQLite would move into the database what
        it believes to be in the WAL: of a disk that failed nobody knows that.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))

    def _wal_bytes(self) -> int:
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size
        except FileNotFoundError:
            return 0

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the block or nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException as problem:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(problem, sqlite3.Error) and is_full(problem):
                self._pages = CHECKPOINT_PAGES  # to empty the WAL may make room
            raise

    @contextmanager
    def _synchronous(self, level: str) -> Iterator[None]:
        """Commits of the block are synced so; then as the mode says again."""
        self._connection.execute(f"PRAGMA synchronous = {level}")
        try:
            yield
        finally:
            self._connection.execute(f"PRAGMA synchronous = {self._level}")

    # ------------------------------------------------------------------------ beginning

    def _begin(self, opened: ExitStack) -> None:
        if not self.path.exists():
            with create(self.path):
                pass  # an empty database; SQLite gives its other files the same permissions
        self._connection = connect(self.path, busy_s=BUSY_S)
        opened.callback(self._connection.close)
        run = self._connection.execute
        run(f"PRAGMA cache_size = -{CACHE_KIB}")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA wal_autocheckpoint = 0")
        run(f"PRAGMA journal_size_limit = {WAL_MAX_BYTES // 2}")
        # FULL, whatever the mode: that a run began must be on the disk before it is one
        run("PRAGMA synchronous = FULL")
        with self._transaction():
            made = prepare(self._connection)
            self.head, self.time_ms, mode, running = run(
                "SELECT head, time_ms, mode, running FROM standing"
            ).fetchone()
            self.epochs = [
                Epoch(*row) for row in run("SELECT name, first FROM epoch ORDER BY number")
            ]
            self._marked = marks.read(self._mark)
            if made or (running and mode != Acknowledge.DURABLE.value) or self._restored():
                self._begin_epoch()
            run("UPDATE standing SET mode = ?, running = 1", (self._mode.value,))
            self.prefixes = Prefixes(self._connection, self._retention)
        run(f"PRAGMA synchronous = {self._level}")
        self.checkpoint("TRUNCATE")
        self.mark()

    def _restored(self) -> bool:
        """Whether this database was further once, or may have been."""
        if self._marked is None:
            return self.head > 0
        known = self._marked.epoch in {epoch.name for epoch in self.epochs}
        return self._marked.head > self.head or (not known and self.head > 0)

    def _begin_epoch(self) -> None:
        self.epochs = [*self.epochs, Epoch(new_epoch(), self.head + 1)][-EPOCHS_MAX:]
        run = self._connection.execute
        run("INSERT INTO epoch (name, first) VALUES (?, ?)", (self.epochs[-1].name, self.head + 1))
        run("DELETE FROM epoch WHERE number <= (SELECT max(number) FROM epoch) - ?", (EPOCHS_MAX,))
