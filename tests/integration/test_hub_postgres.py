"""Two hubs, as programs, over one PostgreSQL server: publish at one, read at either."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from aiohttp import ClientSession
from tests.harness.capabilities import require
from tests.harness.eventually import eventually, eventually_sync
from tests.harness.hub_reader import WITHIN_S, HubReader
from tests.harness.lone import running
from tests.harness.postgres import PostgresServer, serving
from tests.harness.sockets import free_port
from tests.harness.sse_hub import HubProcess

from callboard.hub.cursor import EARLIEST, Cursor, parse
from callboard.testing.inprocess import Catalog

TOPIC = "/t/builds"


async def publish(at: HubProcess, text: str) -> str:
    """Publish, again while it is refused, under one key; the update's id."""

    async def taken() -> str:
        async with (
            ClientSession() as session,
            session.post(at.url + TOPIC, data=text, headers={"Idempotency-Key": text}) as answer,
        ):
            assert answer.status == 200, await answer.text()
            return (await answer.text()).strip()

    return await eventually(taken, WITHIN_S)


def hub(store: str, folder: Path) -> HubProcess:
    """A hub whose history is there."""
    return HubProcess(folder, f"-store={store}")


def reader() -> HubReader:
    """One that begins with the first update."""
    return HubReader(TOPIC, EARLIEST)


def told(one: HubReader) -> list[tuple[str, str]]:
    """Ids and data of what was read."""
    return [(event.id, event.data) for event in one.messages]


class MixedReader(HubReader):
    """One stream of a topic of the hub's and of the catalog's services."""

    def __init__(self) -> None:
        topics = [("topic", each) for each in ("/builds", "/catalog/services/{name}")]
        super().__init__("/.well-known/mercure?" + urlencode(topics))

    @property
    def place(self) -> Cursor:
        """Where it stands, in both."""
        return parse(self.cursor) or Cursor()

    @property
    def builds(self) -> list[str]:
        """What was published, as it came."""
        return [each.data for each in self.messages if not each.data.startswith("{")]

    @property
    def changes(self) -> list[str]:
        """The catalog's changes, as they came; its state at the beginning has no ids."""
        return [it.data for it in self.messages if it.data.startswith("{") and it.id_given]

    def has_read(self, number: int) -> bool:
        """Whether it is up to this number of both."""
        return self.builds[-1] == f"{number}" and f'"number {number}"' in self.changes[-1]


def min_read(one: MixedReader) -> int:
    """How much it has of either."""
    return min(len(one.builds), len(one.changes))


class Load:
    """Updates and changes of the check of `web`, numbered, two at a time, until `enough`."""

    def __init__(self, at: HubProcess, agent: Catalog) -> None:
        self.count = 0
        self._at, self._agent = at, agent
        self._enough = False
        self._task = asyncio.create_task(self._run())

    async def enough(self) -> int:
        """Stop; the last number."""
        self._enough = True
        await self._task
        return self.count - 1

    async def _run(self) -> None:
        while not self._enough:
            number = self.count
            status = "critical" if number % 2 else "passing"
            said = ("service:web", status, f"number {number}")
            change = asyncio.to_thread(self._agent.update, *said)
            await asyncio.gather(publish(self._at, f"{number}"), change)
            self.count += 1


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
    moving, staying = reader(), reader()
    with hub(store, tmp_path / "b") as b:
        async with staying.reading(b.url):
            with hub(store, tmp_path / "a") as a:
                async with moving.reading(a.url):
                    ids = [await publish((a, b)[n % 2], f"{n}") for n in range(20)]
                    await moving.until(lambda: len(moving.messages) >= 10)
                    a.end(signal.SIGKILL)
            ids += [await publish(b, f"{n}") for n in range(20, 30)]
            async with moving.reading(b.url):
                ids += [await publish(b, f"{n}") for n in range(30, 40)]
                await moving.until(lambda: len(moving.messages) >= 40)
                await staying.until(lambda: len(staying.messages) >= 40)
    assert told(moving) == told(staying) == list(zip(ids, map(str, range(40)), strict=True))
    assert moving.gaps == staying.gaps == []


async def test_a_cursor_of_history_and_catalog_goes_on_at_another_hub_without_gap_or_repeat(
    store: str, tmp_path: Path
) -> None:
    moving, staying = MixedReader(), MixedReader()
    with Catalog() as agent:
        agent.register("web", port=80, ttl="1h")
        follows = (f"-store={store}", f"-catalog={agent.url}", "-register=false")
        with HubProcess(tmp_path / "b", *follows) as b:
            async with staying.reading(b.url):
                await staying.until(lambda: staying.messages and staying.place.catalog)
                with HubProcess(tmp_path / "a", *follows) as a:
                    async with moving.reading(a.url):
                        await moving.until(lambda: moving.messages and moving.place.catalog)
                        load = Load(b, agent)
                        await moving.until(lambda: min_read(moving) >= 15)
                        a.end(signal.SIGKILL)
                left, had = moving.place, load.count
                await moving.until(lambda: load.count > had + 15)
                async with moving.reading(b.url):
                    resumed = min_read(moving)
                    await moving.until(lambda: min_read(moving) > resumed + 30)
                    last = await load.enough()
                    await moving.until(lambda: moving.has_read(last))
                    await staying.until(lambda: staying.has_read(last))
    assert left.place is not None
    assert left.catalog is not None
    assert moving.builds == staying.builds == [f"{n}" for n in range(last + 1)]
    assert moving.changes == staying.changes
    assert len(set(moving.changes)) == len(moving.changes)
    assert moving.gaps == staying.gaps == []


async def test_streams_stand_while_the_server_is_killed_and_go_on_when_it_is_back(
    server: PostgresServer, store: str, tmp_path: Path
) -> None:
    first, second = reader(), reader()
    with hub(store, tmp_path / "a") as a, hub(store, tmp_path / "b") as b:
        async with first.reading(a.url), second.reading(b.url):
            ids = [await publish((a, b)[n % 2], f"{n}") for n in range(10)]
            server.kill()
            later = asyncio.gather(publish(a, "x"), publish(b, "y"))
            server.start()
            ids += await later
            ids.append(await publish(a, "last"))
            await first.until(lambda: len(first.messages) >= 13)
            await second.until(lambda: len(second.messages) >= 13)
    assert told(first) == told(second)
    assert sorted(id for id, _ in told(first)) == sorted(ids)
    assert first.gaps == second.gaps == []


def test_a_server_that_would_lose_updates_is_refused_by_name_and_not_by_password(
    server: PostgresServer, tmp_path: Path
) -> None:
    careless = server.database("synchronous_commit = off").replace("@", ":se.cret@")
    argv = ["hub", f"-port={free_port()}", f"-data-dir={tmp_path / 'h'}", f"-store={careless}"]
    with running(argv, tmp_path / "log", tmp_path) as program:
        assert program.ended() != 0
    assert program.said("synchronous_commit is off: a power cut would lose updates")
    assert not program.said("se.cret")


def test_a_password_of_a_server_that_is_away_is_in_no_log(tmp_path: Path) -> None:
    require("linux")
    store = f"postgresql://someone:se.cret@127.0.0.1:{free_port()}/hub"
    argv = ["hub", f"-port={free_port()}", f"-data-dir={tmp_path / 'h'}", f"-store={store}"]
    with running(argv, tmp_path / "log", tmp_path) as program:
        eventually_sync(lambda: program.said("Connection refused"), WITHIN_S)
        program.stop()
    assert not program.said("se.cret")
