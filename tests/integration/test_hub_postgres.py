"""Two hubs, as programs, over one PostgreSQL server: publish at one, read at either."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession
from tests.harness.capabilities import require
from tests.harness.eventually import eventually, eventually_sync
from tests.harness.hub_reader import WITHIN_S, HubReader
from tests.harness.lone import running
from tests.harness.postgres import PostgresServer, serving
from tests.harness.sockets import free_port
from tests.harness.sse_hub import HubProcess

from callboard.hub.cursor import EARLIEST

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
