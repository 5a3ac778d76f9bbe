"""The catalog as topics, over real hubs and an agent: a reader that goes from one to another."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from aiohttp import ClientSession
from tests.harness.eventually import eventually
from tests.harness.lone import Lone, running
from tests.harness.sockets import free_port

from callboard.events.parser import Event, Parser
from callboard.testing.inprocess import Catalog

TOPICS = ("/catalog/services/{name}", "/catalog/checks/{node}/{id}", "/catalog/nodes/{name}")
DEADLINE_S = 20.0


class Hub:
    """A hub as a process of its own."""

    def __init__(self, process: Lone, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def hub(agent: Catalog, folder: Path, name: str) -> Iterator[Hub]:
    """Run a hub that follows the agent."""
    port = free_port()
    argv = ["hub", f"-port={port}", f"-data-dir={folder / name}", f"-catalog={agent.url}"]
    with running([*argv, "-register=false"], folder / f"{name}.log", folder) as process:
        process.wait_for(f"{_url(port)}/stats")
        yield Hub(process, port)


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


class Reader:
    """What one subscriber reads, from one hub after the other."""

    def __init__(self, *topics: str) -> None:
        self.topics = topics
        self.cursor = ""
        self.values: dict[str, object] = {}
        self.changes: list[tuple[str, str]] = []
        """Those with an id: (id, data), as they came."""
        self.gaps: list[Event] = []

    @contextlib.asynccontextmanager
    async def reading(self, source: Hub) -> AsyncIterator[None]:
        """Read from a hub, from where the last one left off, until the block ends."""
        query = urlencode([("topic", topic) for topic in self.topics])
        headers = {"Last-Event-ID": self.cursor} if self.cursor else {}
        async with ClientSession() as session:
            url = f"{source.url}/.well-known/mercure?{query}"
            async with session.get(url, headers=headers) as answer:
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
                    self._take(event)
                self.cursor = parser.last_event_id

    def _take(self, event: Event) -> None:
        if event.type == "hub.gap":
            self.gaps.append(event)
        if event.type != "message":
            return
        if event.id_given:
            self.changes.append((event.id, event.data))
        data = json.loads(event.data)
        if data["Value"] is None:
            self.values.pop(data["Topic"], None)
        else:
            self.values[data["Topic"]] = data["Value"]

    def output(self) -> str:
        """What the service's own check says, as its last topic has it."""
        entries = self.values["/catalog/services/web"]
        assert isinstance(entries, list)
        (output,) = [it["Output"] for it in entries[0]["Checks"] if it["ServiceID"]]
        return str(output)

    async def until(self, fact: Callable[[], object]) -> None:
        """Wait for a fact about what was read."""
        await eventually(fact, DEADLINE_S)


@pytest.fixture
def agent() -> Iterator[Catalog]:
    """An agent with the service `web`, whose check says what `flap` makes it."""
    with Catalog() as agent:
        agent.register("web", port=80, ttl="1h")
        yield agent


async def flap(agent: Catalog, numbers: range) -> None:
    """Change the check of `web` so many times."""
    for number in numbers:
        status = "critical" if number % 2 else "passing"
        await asyncio.to_thread(agent.update, "service:web", status, f"number {number}")


async def test_a_reader_whose_hub_is_killed_resumes_on_another_without_gap_or_repeat(
    agent: Catalog, tmp_path: Path
) -> None:
    with hub(agent, tmp_path, "a") as a, hub(agent, tmp_path, "b") as b:
        reader, witness = Reader(*TOPICS), Reader(*TOPICS)
        async with witness.reading(b):
            await witness.until(lambda: "/catalog/services/web" in witness.values)
            await witness.until(lambda: witness.cursor)
            async with reader.reading(a):
                await reader.until(lambda: reader.cursor)
                await flap(agent, range(20))
                await reader.until(lambda: len(reader.changes) > 5)
                a.process.stop(signal.SIGKILL)
            await flap(agent, range(20, 40))
            async with reader.reading(b):
                await flap(agent, range(40, 50))
                await reader.until(lambda: reader.output() == "number 49")
            await witness.until(lambda: witness.output() == "number 49")
        assert reader.changes == witness.changes
        assert len(reader.changes) == len(set(reader.changes))
        assert len(reader.changes) > 50  # (an agent may write two changes of a check as one)
        assert reader.values == witness.values
        assert not reader.gaps


async def test_a_reader_that_a_hub_cannot_bring_up_is_told_of_a_gap_and_given_the_state(
    agent: Catalog, tmp_path: Path
) -> None:
    reader = Reader(*TOPICS)
    with hub(agent, tmp_path, "a") as a:
        async with reader.reading(a):
            await reader.until(lambda: reader.cursor)
        epoch, _ = reader.cursor.rsplit(".", 1)
        reader.cursor = f"{epoch}.1"  # from before there was a hub
        reader.values.clear()
        async with reader.reading(a):
            await reader.until(lambda: "/catalog/services/web" in reader.values)
        (gap,) = (json.loads(event.data) for event in reader.gaps)
        assert gap["requested"] == f"{epoch}.1"
        assert not reader.changes


async def test_a_service_is_told_from_its_start_to_its_end(agent: Catalog, tmp_path: Path) -> None:
    with hub(agent, tmp_path, "a") as a:
        reader = Reader("/catalog/services/web", "/cluster/leader", "/cluster/members")
        async with reader.reading(a):
            await reader.until(lambda: len(reader.values) == 3)
            await asyncio.to_thread(agent.deregister, "web")
            await reader.until(lambda: "/catalog/services/web" not in reader.values)
            assert len(reader.values) == 2
