"""The SQLite database: its tables, how a connection is made, and what its errors mean.

Rows of `event` are updates. `topic` and `own` find them by topic and by the publisher's id; `key`
remembers idempotency keys. `prefix` counts what is kept by prefix of the canonical topic, so that
trimming asks nothing of the whole. `standing` is one row: the head outlives the rows it counts.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from callboard.hub.event import Publication, Update

FORMAT = 1
APPLICATION = 0x43424844
"""PRAGMA application_id: `CBHD`."""

_TABLES = """
CREATE TABLE event (
  offset INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, prefix INTEGER NOT NULL,
  size INTEGER NOT NULL, private INTEGER NOT NULL, retry_ms INTEGER, type TEXT NOT NULL,
  own_id TEXT NOT NULL, topics TEXT NOT NULL, data BLOB NOT NULL);
CREATE INDEX event_prefix ON event (prefix);
CREATE TABLE topic (topic TEXT, offset INTEGER, PRIMARY KEY (topic, offset)) WITHOUT ROWID;
CREATE TABLE own (own_id TEXT, offset INTEGER, PRIMARY KEY (own_id, offset)) WITHOUT ROWID;
CREATE TABLE key (
  key TEXT PRIMARY KEY, offset INTEGER NOT NULL, time_ms INTEGER NOT NULL,
  own_id TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX key_offset ON key (offset);
CREATE TABLE epoch (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, first INTEGER NOT NULL);
CREATE TABLE prefix (
  id INTEGER PRIMARY KEY, prefix TEXT NOT NULL UNIQUE, count INTEGER NOT NULL,
  bytes INTEGER NOT NULL, trimmed INTEGER NOT NULL);
CREATE TABLE standing (
  one INTEGER PRIMARY KEY CHECK (one = 1), head INTEGER NOT NULL, time_ms INTEGER NOT NULL,
  mode TEXT NOT NULL, running INTEGER NOT NULL);
INSERT INTO prefix VALUES (0, '', 0, 0, 0);
INSERT INTO standing VALUES (1, 0, 0, 'durable', 0);
"""

COLUMNS = "offset, time_ms, private, retry_ms, type, own_id, topics, data"
"""What `update_of` takes."""
Row = tuple[int, int, int, int | None, str, str, str, bytes]

_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
"""A full disk; the second says it of the WAL's index, which holds nothing of its own."""
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def connect(path: Path, *, busy_s: float) -> sqlite3.Connection:
    """A connection for one thread at a time; transactions are begun and ended by hand."""
    return sqlite3.connect(
        path, timeout=busy_s, isolation_level=None, check_same_thread=False, cached_statements=64
    )


def prepare(connection: sqlite3.Connection) -> bool:
    """Make the tables if there are none (True), within a transaction of the caller's.

    Raises ValueError for a database of another program or format.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if (application, version) == (APPLICATION, FORMAT):
        return False
    if application == APPLICATION:
        raise ValueError(f"its format is {version}, and this program knows {FORMAT}")
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise ValueError("it is another program's database")
    for statement in _TABLES.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    return True


def is_full(problem: sqlite3.Error) -> bool:
    """Whether the disk is full."""
    return _code(problem) in _FULL


def is_busy(problem: sqlite3.Error) -> bool:
    """Whether another program (a shell) holds the database for the moment."""
    return _code(problem) & 0xFF in _BUSY


def told(problem: sqlite3.Error) -> str:
    """An error in words, with SQLite's name for it."""
    name = getattr(problem, "sqlite_errorname", "")
    return f"{problem} ({name})" if name else str(problem)


def _code(problem: sqlite3.Error) -> int:
    return getattr(problem, "sqlite_errorcode", 0) or 0


def joined(topics: tuple[str, ...]) -> str:
    """Topics as they are stored: by lines, since no topic has a control character (ValueError)."""
    text = "\n".join(topics)
    if not topics or text.count("\n") != len(topics) - 1:
        raise ValueError("an update has a topic, and a topic has no line break")
    return text


def parted(text: str) -> tuple[str, ...]:
    """Topics that were joined."""
    return tuple(text.split("\n"))


def update_of(row: Row, epoch: str) -> Update:
    """The update of a row of COLUMNS."""
    offset, time_ms, private, retry_ms, type, own_id, topics, data = row
    publication = Publication(
        parted(topics), data, type, own_id, private=bool(private), retry_ms=retry_ms
    )
    return Update(offset, epoch, time_ms, publication)
