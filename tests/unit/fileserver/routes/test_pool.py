"""Connections to programs behind that are kept: which are used again, and when they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from tests.harness.eventually import eventually

from callboard.fileserver.routes.instances import Instance
from callboard.fileserver.routes.pool import IDLE_MAX, Pool


class Behind:
    """A program that takes connections and says what it is told to."""

    def __init__(self) -> None:
        self.open: list[asyncio.StreamWriter] = []
        self.place = Instance("hub-1", "127.0.0.1", 0, secure=False)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.open.append(writer)
            try:
                await reader.read()
            except OSError:
                pass
            self.open.remove(writer)
            writer.close()

        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.place = Instance("hub-1", "127.0.0.1", port, secure=False)
        async with server:
            yield
            await eventually(lambda: not self.open)


@pytest.fixture
async def behind() -> AsyncIterator[Behind]:
    made = Behind()
    async with made.listening():
        yield made


@pytest.fixture
def pool(behind: Behind) -> Iterator[Pool]:
    made = Pool(None)
    yield made
    made.close()


async def test_the_connection_used_last_is_used_first(behind: Behind, pool: Pool) -> None:
    first, second = await pool.take(behind.place), await pool.take(behind.place)
    pool.give(behind.place, first)
    pool.give(behind.place, second)
    assert await pool.take(behind.place) is second
    assert not second.fresh
    fresh = await pool.take(behind.place, fresh=True)
    assert fresh.fresh
    assert fresh is not first
    for one in (second, fresh):
        pool.drop(one)


async def test_no_more_are_kept_than_so_many(behind: Behind, pool: Pool) -> None:
    taken = [await pool.take(behind.place) for _ in range(IDLE_MAX + 3)]
    for one in taken:
        pool.give(behind.place, one)
    await eventually(lambda: len(behind.open) == IDLE_MAX)


async def test_one_that_the_program_closed_or_wrote_into_is_not_used(
    behind: Behind, pool: Pool
) -> None:
    closed, wrote = await pool.take(behind.place), await pool.take(behind.place)
    await eventually(lambda: len(behind.open) == 2)
    for one in (closed, wrote):
        pool.give(behind.place, one)
    behind.open[0].close()
    behind.open[1].write(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    await eventually(lambda: not (closed.idle or wrote.idle))
    other = await pool.take(behind.place)
    assert other.fresh
    pool.drop(other)


async def test_idle_ones_end_by_the_sweep(behind: Behind, pool: Pool) -> None:
    pool.give(behind.place, await pool.take(behind.place))
    pool.sweep()
    kept = await pool.take(behind.place)
    assert not kept.fresh
    impatient = Pool(None, idle_s=0.05)
    impatient.give(behind.place, await impatient.take(behind.place))

    def swept() -> bool:
        impatient.sweep()
        return len(behind.open) == 1

    await eventually(swept)
    pool.drop(kept)


async def test_what_is_given_back_after_the_end_is_closed(behind: Behind, pool: Pool) -> None:
    one = await pool.take(behind.place)
    pool.close()
    pool.give(behind.place, one)
    await eventually(lambda: not behind.open)


async def test_nobody_there_is_an_error(pool: Pool) -> None:
    with pytest.raises(OSError, match="Connect call failed"):
        await pool.take(Instance("gone", "127.0.0.1", 1, secure=False))
