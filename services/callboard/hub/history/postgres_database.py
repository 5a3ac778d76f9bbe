"""What is asked of the history's database, and what its rows mean. Raises psycopg.Error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql as identifiers

from callboard.hub.event import Publication, Update
from callboard.hub.history import postgres_schema as sql
from callboard.hub.history.postgres_connection import Connection, Unfit
from callboard.hub.history.repeats import repeated
from callboard.hub.history.schema import joined, parted
from callboard.hub.history.store import (
    EPOCHS_MAX,
    Draft,
    Epoch,
    Header,
    Page,
    Retention,
    Standing,
    Trimmed,
    new_epoch,
    place_of,
)

Known = tuple[bool, int, int, str]
"""What became of a draft: whether it is new, offset, time_ms and own id."""
ALWAYS = 1 << 62
"""As a head: no database has come so far."""
DURABLE = ("on", "local", "remote_write", "remote_apply")
"""Values of synchronous_commit that wait for the server's disk."""


class Batch:
    """Drafts as columns of parameters: of those with one idempotency key the first alone."""

    def __init__(self, drafts: Sequence[Draft], retention: Retention) -> None:
        self._drafts = drafts
        self._rows: list[int] = []
        """By draft: the row that it is, or repeats."""
        by_key: dict[str, int] = {}
        sent: list[Publication] = []
        for draft in drafts:
            key = draft.publication.idempotency_key
            if key and key in by_key:
                self._rows.append(by_key[key])
                continue
            if key:
                by_key[key] = len(sent)
            self._rows.append(len(sent))
            sent.append(draft.publication)
        self._updates = [Update(0, "", 0, publication) for publication in sent]
        self.parameters: dict[str, Any] = {
            "now": max(draft.time_ms for draft in drafts),
            "topics": [joined(p.topics) for p in sent],
            "data": [p.data for p in sent],
            "types": [p.type for p in sent],
            "own_ids": [p.own_id for p in sent],
            "privates": [p.private for p in sent],
            "retries": [p.retry_ms for p in sent],
            "keys": [p.idempotency_key for p in sent],
            "prefixes": [retention.prefix_of(p.topics[0]) for p in sent],
            "sizes": [update.size for update in self._updates],
            "keys_count": retention.keys_count,
            "keys_age_ms": int(retention.keys_age_s * 1000),
        }

    def answers(
        self, known: Sequence[Known], epochs: Sequence[Epoch]
    ) -> tuple[list[Update], list[Update]]:
        """The updates of all drafts, and those of them that are new, in their order."""
        new = []
        for update, (fresh, offset, time_ms, _) in zip(self._updates, known, strict=True):
            if fresh:
                update.offset, update.time_ms = offset, time_ms
                update.epoch = place_of(epochs, offset)
                new.append(update)
        answers = []
        taken: set[int] = set()
        for draft, row in zip(self._drafts, self._rows, strict=True):
            fresh, offset, time_ms, own_id = known[row]
            if fresh and row not in taken:
                answers.append(self._updates[row])
            else:
                first = (offset, time_ms, own_id)
                answers.append(repeated(draft.publication, first, place_of(epochs, offset)))
            taken.add(row)
        return answers, new


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A page, and where the database stood then."""

    page: Page
    head: int
    purges: int
    """How many purges there ever were."""


class Database:
    """The statements, and what is remembered of the database: the epochs."""

    def __init__(self, retention: Retention, changed: Callable[[Sequence[Epoch]], None]) -> None:
        """`changed` is told of epochs that were not known; what it raises is raised."""
        self._retention = retention
        self._changed = changed
        self._known = sorted({"", *retention.prefixes})
        self.epochs: tuple[Epoch, ...] = ()

    # ------------------------------------------------------------------------ connecting

    async def join(self, connection: Connection, told: int, last: Update | None) -> bool:
        """Look at a server that was just connected to: make the schema if there is none, begin a
        new epoch if the server was restored, or is behind what was `told`.

        `last` is the newest update that was told; False if there is another in its place. Raises
        Unfit.
        """
        await self._see_that_it_is_fit(connection)
        await self._make(connection)
        same = last is None or not await self._has_another(connection, last)
        if not same:
            told = ALWAYS
        await self._join(connection, told)
        return same

    async def _see_that_it_is_fit(self, connection: Connection) -> None:
        commit, fsync, encoding, replica = await _row(
            connection,
            "SELECT current_setting('synchronous_commit'), current_setting('fsync'),"
            " current_setting('server_encoding'), pg_is_in_recovery()",
        )
        if replica:
            raise Unfit("PostgreSQL: this server is a replica, and takes no updates")
        if commit not in DURABLE:
            raise Unfit(
                f"PostgreSQL: synchronous_commit is {commit}: a power cut would lose updates"
            )
        if fsync != "on":
            raise Unfit("PostgreSQL: fsync is off: a power cut would lose updates")
        if encoding != "UTF8":
            raise Unfit(f"PostgreSQL: the database's encoding is {encoding}, and must be UTF8")

    async def _make(self, connection: Connection) -> None:
        if await self._is_made(connection):
            return
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (sql.LOCK,))
            if await self._is_made(connection):
                return
            if not (await _row(connection, sql.HAS_SCHEMA))[0]:
                await connection.execute("CREATE SCHEMA callboard_hub")
            for part in sql.SCHEMA:
                await connection.execute(identifiers.SQL(part))

    async def _is_made(self, connection: Connection) -> bool:
        """Raises Unfit for another format."""
        if not (await _row(connection, sql.HAS_TABLES))[0]:
            return False
        version = (await _row(connection, "SELECT format FROM callboard_hub.state"))[0]
        if version != sql.FORMAT:
            raise Unfit(f"PostgreSQL: the format is {version}, and this program knows {sql.FORMAT}")
        return True

    async def _has_another(self, connection: Connection, last: Update) -> bool:
        """Whether there is another update where `last` was; one that is gone is not another."""
        cursor = await connection.execute(
            'SELECT time_ms, topics, data FROM callboard_hub.updates WHERE "offset" = %s',
            (last.offset,),
        )
        row = await cursor.fetchone()
        return row is not None and row != (last.time_ms, joined(last.topics), last.data)

    async def _read_epochs(self, connection: Connection) -> None:
        cursor = await connection.execute(
            "SELECT name, first FROM callboard_hub.epochs ORDER BY number"
        )
        found = tuple(Epoch(*row) for row in await cursor.fetchall())
        new = [epoch for epoch in found if epoch not in self.epochs]
        if new:
            self._changed(new)
        self.epochs = found

    async def standing(self, connection: Connection) -> tuple[Standing, int]:
        """The standing, and the number of purges; the prefixes of retention are made these."""
        await connection.execute("SET statement_timeout = 0")
        await connection.execute("SELECT callboard_hub.classify(%s)", (self._known,))
        await connection.execute("RESET statement_timeout")
        now = await self.snapshot(connection, ALWAYS, 1, 1)
        return Standing(self.epochs, now.head, now.page.oldest, now.page.trimmed), now.purges

    async def begin_epoch(self, connection: Connection) -> tuple[Standing, int]:
        """Begin a new epoch; then as `standing`."""
        await self._join(connection, ALWAYS)
        return await self.standing(connection)

    async def _join(self, connection: Connection, told: int) -> None:
        lineage = (await _row(connection, sql.LINEAGE))[0]
        await connection.execute(
            "SELECT callboard_hub.join(%s, %s, %s, %s)", (lineage, new_epoch(), told, EPOCHS_MAX)
        )
        await self._read_epochs(connection)

    # ------------------------------------------------------------------------ asking

    async def append(self, connection: Connection, parameters: Mapping[str, Any]) -> list[Known]:
        """One batch, in one transaction and one round trip."""
        cursor = connection.cursor(binary=True)
        await cursor.execute(sql.CALL_APPEND, parameters)
        rows = await cursor.fetchall()
        await self._see_epoch(connection, rows[0][0])
        return [(fresh, offset, time_ms, own_id) for _, fresh, offset, time_ms, own_id in rows]

    async def head(self, connection: Connection) -> int:
        head: int = (await _row(connection, "SELECT head FROM callboard_hub.state"))[0]
        return head

    async def snapshot(
        self, connection: Connection, after: int, bytes_max: int, count_max: int
    ) -> Snapshot:
        """A page of what follows an offset."""
        cursor = connection.cursor(binary=True)
        await cursor.execute(sql.PAGE, {"after": after, "bytes": bytes_max, "count": count_max})
        rows = sorted(await cursor.fetchall(), key=lambda row: row[0])
        _, oldest, marks, epoch, purges, head, *_ = rows[0]
        await self._see_epoch(connection, epoch.decode())
        updates = [self._update(row) for row in rows[1:]]
        return Snapshot(Page(updates, oldest, self._trimmed(marks)), int(head), int(purges))

    async def newest(self, connection: Connection, bytes_max: int, count_max: int) -> list[Update]:
        cursor = connection.cursor(binary=True)
        await cursor.execute(sql.NEWEST, {"bytes": bytes_max, "count": count_max})
        return [self._update(row) for row in await cursor.fetchall()]

    async def headers(
        self, connection: Connection, before: int, count_max: int, topics: Sequence[str]
    ) -> list[Header]:
        cursor = await connection.execute(
            sql.HEADERS_OF if topics else sql.HEADERS,
            {"before": before, "count": count_max, "topics": list(topics)},
        )
        return [
            Header(offset, parted(t), private) for offset, t, private in await cursor.fetchall()
        ]

    async def find(self, connection: Connection, own_id: str) -> int | None:
        found: int | None = (await _row(connection, sql.FIND, {"own_id": own_id}))[0]
        return found

    async def at_time(self, connection: Connection, time_ms: int) -> int:
        found: int = (await _row(connection, sql.AT_TIME, {"time_ms": time_ms}))[0]
        return found

    async def trim(self, connection: Connection, now_ms: int, slice: int) -> Trimmed:
        bounds = [self._retention.bound(prefix) for prefix in self._known]
        parameters = {
            "known": self._known,
            "counts": [bound.count for bound in bounds],
            "bytes": [bound.bytes for bound in bounds],
            "since": [
                None if bound.age_s is None else now_ms - int(bound.age_s * 1000)
                for bound in bounds
            ],
            "keys_count": self._retention.keys_count,
            "keys_since": now_ms - int(self._retention.keys_age_s * 1000),
            "slice": slice,
        }
        more = (await _row(connection, sql.CALL_TRIM, parameters))[0]
        # by every hub; before the marks, which then cover it
        kept: dict[str, int] = json.loads((await _row(connection, sql.KEPT))[0])
        page = (await self.snapshot(connection, ALWAYS, 1, 1)).page
        return Trimmed(page.oldest, page.trimmed, more, kept)

    async def purge(self, connection: Connection, topic: str, through: int, slice: int) -> int:
        """A slice of the updates of a topic up to an offset; how many (0: none are left)."""
        count: int = (
            await _row(
                connection, "SELECT callboard_hub.purge(%s, %s, %s)", (topic, through, slice)
            )
        )[0]
        return count

    async def purges(self, connection: Connection, after: int, last: int) -> list[tuple[str, int]]:
        """Purges after one, up to another, as far as they are remembered: the topic, and up to
        which offset."""
        cursor = await connection.execute(sql.PURGES, {"after": after, "last": last})
        return [(topic, through) for topic, through in await cursor.fetchall()]

    async def _see_epoch(self, connection: Connection, name: str) -> None:
        """Another hub may have begun one."""
        if name != self.epochs[-1].name:
            await self._read_epochs(connection)

    # ------------------------------------------------------------------------ rows

    def _update(self, row: tuple[Any, ...]) -> Update:
        offset, time_ms, topics, data, type, own_id, private, retry_ms = row
        publication = Publication(parted(topics), data, type, own_id, private, retry_ms)
        return Update(offset, place_of(self.epochs, offset), time_ms, publication)

    def _trimmed(self, text: str) -> dict[str, int]:
        """What was trimmed of the prefixes that this hub knows.

        Hubs that know other prefixes may have counted it for a longer or a shorter one.
        """
        marks: dict[str, int] = json.loads(text)
        if set(marks) == set(self._known):
            return marks
        return {
            prefix: max(
                (
                    offset
                    for other, offset in marks.items()
                    if other.startswith(prefix) or prefix.startswith(other)
                ),
                default=0,
            )
            for prefix in self._known
        }


async def _row(connection: Connection, query: str, parameters: Any = None) -> tuple[Any, ...]:
    """The one row of an answer."""
    cursor = await connection.execute(identifiers.SQL(query), parameters)
    row = await cursor.fetchone()
    assert row is not None
    return row
