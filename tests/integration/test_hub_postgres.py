"""Two hubs, as programs, over one PostgreSQL server: publish at one, read at either."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession
from tests.harness.capabilities import require
from tests.harness.eventually import eventually
from tests.harness.lone import Lone, running
from tests.harness.postgres import PostgresServer, serving
from tests.harness.sockets import free_port

from callboard.events.parser import Parser

TOPIC = "/t/builds"
DEADLINE_S = 30.0


class Hub:
    """A hub as a process of its own."""

    def __init__(self, process: Lone, url: str) -> None:
        self.process = process
        self.url = url

    async def publish(self, text: str) -> str:
        """Publish, again while it is refused, under one key; the update's id."""
        headers = {"Idempotency-Key": text}

        async def taken() -> str:
            async with (
                ClientSession() as session,
                session.post(self.url + TOPIC, data=text, headers=headers) as answer,
            ):
                assert answer.status == 200, await answer.text()
                return (await answer.text()).strip()

        return await eventually(taken, DEADLINE_S)


@contextlib.contextmanager
def hub(store: str, folder: Path, name: str, log: str = "") -> Iterator[Hub]:
    """Run a hub whose history is there."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    argv = ["hub", f"-port={port}", f"-data-dir={folder / name}", f"-store={store}"]
    with running(argv, folder / f"{log or name}.log", folder) as process:
        process.wait_for(f"{url}/stats")
        yield Hub(process, url)


class Reader:
    """What one subscriber reads, from one hub after the other."""

    def __init__(self) -> None:
        self.cursor = ""
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.gaps = 0

    @contextlib.asynccontextmanager
    async def reading(self, source: Hub) -> AsyncIterator[None]:
        """Read from a hub, from where the last one left off, until the block ends."""
        headers = {"Last-Event-ID": self.cursor or "earliest"}
        async with (
            ClientSession() as session,
            session.get(source.url + TOPIC, headers=headers) as answer,
        ):
            assert answer.status == 200
            task = asyncio.create_task(self._read(answer.content.iter_any()))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _read(self, stream: AsyncIterator[bytes]) -> None:
        parser = Parser(self.cursor)
        with contextlib.suppress(OSError):
            async for octets in stream:
                for event in parser.feed(octets):
                    self.gaps += event.type == "hub.gap"
                    if event.type == "message":
                        self.ids.append(event.id)
                        self.texts.append(event.data)
                self.cursor = parser.last_event_id

    async def until(self, count: int) -> None:
        """Wait until so many were read."""
        await eventually(lambda: len(self.texts) >= count, DEADLINE_S)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    require("postgres")
    with serving() as server:
        yield server


@pytest.fixture
def store(server: PostgresServer) -> str:
    return server.database()


async def test_a_reader_of_a_killed_hub_goes_on_at_the_other_without_gap_or_repeat(
    store: str, tmp_path: Path
) -> None:
    moving, staying = Reader(), Reader()
    with hub(store, tmp_path, "b") as b:
        async with staying.reading(b):
            with hub(store, tmp_path, "a") as a:
                async with moving.reading(a):
                    ids = [await (a, b)[n % 2].publish(f"{n}") for n in range(20)]
                    await moving.until(10)
                    a.process.stop(signal.SIGKILL)
            ids += [await b.publish(f"{n}") for n in range(20, 30)]
            async with moving.reading(b):
                ids += [await b.publish(f"{n}") for n in range(30, 40)]
                await moving.until(40)
                await staying.until(40)
    assert moving.ids == staying.ids == ids
    assert moving.texts == staying.texts == [f"{n}" for n in range(40)]
    assert (moving.gaps, staying.gaps) == (0, 0)


async def test_streams_stand_while_the_server_is_killed_and_go_on_when_it_is_back(
    server: PostgresServer, store: str, tmp_path: Path
) -> None:
    readers = (Reader(), Reader())
    with hub(store, tmp_path, "a") as a, hub(store, tmp_path, "b") as b:
        async with readers[0].reading(a), readers[1].reading(b):
            ids = [await (a, b)[n % 2].publish(f"{n}") for n in range(10)]
            server.kill()
            later = asyncio.gather(*(hub.publish(f"{name}") for hub, name in ((a, "x"), (b, "y"))))
            server.start()
            ids += await later
            ids.append(await a.publish("last"))
            for reader in readers:
                await reader.until(13)
    assert readers[0].ids == readers[1].ids
    assert sorted(readers[0].ids) == sorted(ids)
    assert [reader.gaps for reader in readers] == [0, 0]


def test_a_server_that_would_lose_updates_is_refused_by_name(
    server: PostgresServer, tmp_path: Path
) -> None:
    careless = server.database("synchronous_commit = off")
    argv = ["hub", f"-port={free_port()}", f"-data-dir={tmp_path / 'h'}", f"-store={careless}"]
    with running(argv, tmp_path / "log", tmp_path) as program:
        assert program.ended() != 0
    assert program.said("synchronous_commit is off: a power cut would lose updates")


def test_a_password_is_in_no_log(tmp_path: Path) -> None:
    require("linux")
    store = f"postgresql://someone:se.cret@127.0.0.1:{free_port()}/hub"
    argv = ["hub", f"-port={free_port()}", f"-data-dir={tmp_path / 'h'}", f"-store={store}"]
    with running(argv, tmp_path / "log", tmp_path) as program:
        assert program.ended(30.0) != 0
    assert program.said("Connection refused")
    assert not program.said("se.cret")
