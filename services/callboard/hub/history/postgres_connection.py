"""Connections to a PostgreSQL server that may go away and come back."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import select
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from callboard.hub.history.store import StoreAway

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
T = TypeVar("T")

log = logging.getLogger(__name__)

CONNECT_S = 5.0
ANSWER_S = 12.0
"""The client's limit; the server's, a little less, comes first and is the more exact one."""
STATEMENT_MS = 10_000
PAUSE_S = 0.1
PAUSE_MAX_S = 2.0
"""Between attempts to connect: doubled each time, and between 0.5 and 1.5 times that."""

DAMAGED = ("XX001", "XX002")
"""SQLSTATE: data_corrupted, index_corrupted."""

DEFAULTS: dict[str, str | int] = {
    "application_name": "callboard-hub",
    "connect_timeout": int(CONNECT_S),
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "target_session_attrs": "read-write",
}
"""Parameters of libpq that hold where the URL says nothing else."""

SESSION = f"""
SELECT set_config('statement_timeout', '{STATEMENT_MS}', false),
       set_config('lock_timeout', '{STATEMENT_MS}', false),
       set_config('idle_in_transaction_session_timeout', '{STATEMENT_MS}', false),
       set_config('client_min_messages', 'warning', false)
"""


class Unfit(ValueError):
    """A server, or a database, that cannot keep the history as promised."""


class Server:
    """A server: how to connect, and whether it can be reached. One line in the log when it is
    lost, one when it is back."""

    def __init__(self, url: str, prepare: Callable[[Connection], Awaitable[None]]) -> None:
        """`url` is what libpq takes (`postgresql://…`). `prepare` is called with each new
        connection; it may raise Unfit. Raises ValueError for another URL."""
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError as problem:
            raise ValueError(f"not an address of PostgreSQL: {problem}") from None
        missing = {name: value for name, value in DEFAULTS.items() if name not in given}
        self._address = make_conninfo(url, **missing)
        self._prepare = prepare
        self._failures = 0
        self._again_at = 0.0
        self._lost_at: float | None = None

    @property
    def away_s(self) -> float:
        """For how long it has not been reached; 0 if it is there."""
        return 0.0 if self._lost_at is None else time.monotonic() - self._lost_at

    async def connect(self) -> Connection:
        """A new connection, prepared, in autocommit mode. Raises StoreAway, at once between
        attempts."""
        if time.monotonic() < self._again_at:
            raise StoreAway("PostgreSQL cannot be reached")
        connection: Connection | None = None
        try:
            async with asyncio.timeout(CONNECT_S + ANSWER_S):
                connection = await psycopg.AsyncConnection.connect(self._address, autocommit=True)
                await connection.execute(SESSION)
                await self._prepare(connection)
        except (psycopg.Error, OSError, Unfit) as problem:
            if connection is not None:
                await connection.close()
            self.lost(problem)
            raise StoreAway(reason(problem)) from problem
        except BaseException:
            if connection is not None:
                await connection.close()
            raise
        self._found()
        return connection

    def lost(self, problem: BaseException) -> None:
        """Take note that it did not answer."""
        now = time.monotonic()
        if now >= self._again_at:  # connections that are lost together are one failure
            pause = min(PAUSE_MAX_S, PAUSE_S * 2 ** min(self._failures, 10))
            self._again_at = now + pause * random.uniform(0.5, 1.5)
            self._failures += 1
        if self._lost_at is None:
            self._lost_at = now
            log.warning("PostgreSQL is away: %s", reason(problem))

    def _found(self) -> None:
        if self._lost_at is not None:
            log.warning("PostgreSQL is back after %.1f s", self.away_s)
        self._lost_at = None
        self._failures = 0
        self._again_at = 0.0

    async def pause(self) -> None:
        """Wait until the next attempt is due; a moment in any case."""
        await asyncio.sleep(max(PAUSE_S / 2, self._again_at - time.monotonic()))


class Link:
    """One connection, for one use at a time; made when it is needed, and anew after it broke."""

    def __init__(self, server: Server, damaged: Callable[[str], None]) -> None:
        """`damaged` is told if the server finds its data corrupted."""
        self._server = server
        self._damaged = damaged
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()

    @property
    def busy(self) -> bool:
        """Whether it is in use."""
        return self._lock.locked()

    async def ask(
        self, work: Callable[[Connection], Awaitable[T]], timeout_s: float | None = None
    ) -> T:
        """Do something with the connection, within a time (ANSWER_S).

        Raises StoreAway where there is none: nothing was sent. Raises psycopg.Error or OSError
        otherwise; `broken` says whether the connection was lost over it.
        """
        async with self._lock:
            connection = await self._healthy()
            limit = ANSWER_S if timeout_s is None else timeout_s
            timer = asyncio.get_running_loop().call_later(limit, self.sever)
            try:
                return await work(connection)
            except (psycopg.Error, OSError) as problem:
                if isinstance(problem, psycopg.Error) and problem.sqlstate in DAMAGED:
                    self._damaged(f"history: PostgreSQL: {reason(problem)}")
                if connection.closed or isinstance(problem, OSError):
                    self._server.lost(problem)
                    await self._drop()
                raise
            except BaseException:
                await self._drop()
                raise
            finally:
                timer.cancel()

    def sever(self) -> None:
        """Cut the connection: who waits for an answer gets an error at once. To cancel the
        question instead would ask a server that does not answer for one more."""
        if self._connection is None or self._connection.closed:
            return
        with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as cut:
            cut.shutdown(socket.SHUT_RDWR)

    @property
    def broken(self) -> bool:
        """Whether there is no connection."""
        return self._connection is None

    async def close(self) -> None:
        """Close the connection, after who uses it."""
        async with self._lock:
            await self._drop()

    async def _healthy(self) -> Connection:
        """The connection, if it has not been closed by the other side meanwhile, or a new one."""
        if self._connection is not None:
            try:
                _take_what_came(self._connection)
            except psycopg.Error as problem:
                self._server.lost(problem)
                await self._drop()
        if self._connection is None:
            self._connection = await self._server.connect()
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _take_what_came(connection: Connection) -> None:
    """Read what came unasked: its last words, and then the end, of a server that went away.
    Raises psycopg.Error at the end."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    while poll.poll(0):
        connection.pgconn.consume_input()


def reason(problem: BaseException) -> str:
    """What went wrong, on one line."""
    text = " ".join(str(problem).split())
    return text or type(problem).__name__
