"""The catalog as topics, over real hubs and an agent: a reader that goes from one to another."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.harness.hub_reader import HubReader
from tests.harness.sse_hub import HubProcess

from callboard.events.parser import Event
from callboard.testing.inprocess import Catalog

TOPICS = ("/catalog/services/{name}", "/catalog/checks/{node}/{id}", "/catalog/nodes/{name}")


def hub(agent: Catalog, folder: Path) -> HubProcess:
    """A hub that follows the agent."""
    return HubProcess(folder, f"-catalog={agent.url}", "-register=false")


class Reader(HubReader):
    """What one subscriber reads, and the values that this leaves it with."""

    def __init__(self, *topics: str) -> None:
        super().__init__("/.well-known/mercure?" + urlencode([("topic", each) for each in topics]))
        self.values: dict[str, object] = {}

    def take(self, event: Event) -> None:
        super().take(event)
        if event.type != "message":
            return
        data = json.loads(event.data)
        if data["Value"] is None:
            self.values.pop(data["Topic"], None)
        else:
            self.values[data["Topic"]] = data["Value"]

    @property
    def changes(self) -> list[tuple[str, str]]:
        """Those with an id: (id, data), as they came."""
        return [(event.id, event.data) for event in self.messages if event.id_given]

    def output(self) -> str:
        """What the service's own check says, as its last topic has it."""
        entries = self.values["/catalog/services/web"]
        assert isinstance(entries, list)
        (output,) = [it["Output"] for it in entries[0]["Checks"] if it["ServiceID"]]
        return str(output)


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
    with hub(agent, tmp_path / "a") as a, hub(agent, tmp_path / "b") as b:
        reader, witness = Reader(*TOPICS), Reader(*TOPICS)
        async with witness.reading(b.url):
            await witness.until(lambda: "/catalog/services/web" in witness.values)
            await witness.until(lambda: witness.cursor)
            async with reader.reading(a.url):
                await reader.until(lambda: reader.cursor)
                await flap(agent, range(20))
                await reader.until(lambda: len(reader.changes) > 5)
                a.end(signal.SIGKILL)
            await flap(agent, range(20, 40))
            async with reader.reading(b.url):
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
    with hub(agent, tmp_path / "a") as a:
        async with reader.reading(a.url):
            await reader.until(lambda: reader.cursor)
        epoch, _ = reader.cursor.rsplit(".", 1)
        reader.cursor = f"{epoch}.1"  # from before there was a hub
        reader.values.clear()
        async with reader.reading(a.url):
            await reader.until(lambda: "/catalog/services/web" in reader.values)
        (gap,) = (json.loads(event.data) for event in reader.gaps)
        assert gap["requested"] == f"{epoch}.1"
        assert not reader.changes


async def test_a_service_is_told_from_its_start_to_its_end(agent: Catalog, tmp_path: Path) -> None:
    with hub(agent, tmp_path / "a") as a:
        reader = Reader("/catalog/services/web", "/cluster/leader", "/cluster/members")
        async with reader.reading(a.url):
            await reader.until(lambda: len(reader.values) == 3)
            await asyncio.to_thread(agent.deregister, "web")
            await reader.until(lambda: "/catalog/services/web" not in reader.values)
            assert len(reader.values) == 2
