"""A local registry with its anti-entropy, on a catalog that applies at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.harness.instant_engine import InstantEngine

from callboard.agent.checks.clock import MovableClock
from callboard.agent.local.anti_entropy import AntiEntropy, NodeState
from callboard.agent.local.journal import LocalJournal
from callboard.agent.local.node import describe_node
from callboard.agent.local.persistence import CheckStates
from callboard.agent.local.registry import LocalRegistry
from callboard.catalog.definitions import Definitions

NODE = describe_node(
    name="here",
    node_id="11111111-1111-1111-1111-111111111111",
    address="10.0.0.1",
    datacenter="dc1",
    meta={},
)


@dataclass
class Local:
    """What a test drives."""

    engine: InstantEngine
    registry: LocalRegistry
    anti_entropy: AntiEntropy
    clock: MovableClock
    states: CheckStates

    def service_ids(self) -> list[str]:
        """What the catalog has on this node."""
        return [service.id for service in self.engine.store.node_services("here")]

    def status(self, check_id: str) -> str:
        """What the catalog says of a check."""
        check = self.engine.store.check("here", check_id)
        return "" if check is None else check.status


Open = Callable[..., AbstractAsyncContextManager[Local]]


@asynccontextmanager
async def opened(
    folder: Path | None = None,
    engine: InstantEngine | None = None,
    definitions: Definitions | None = None,
    wall: Callable[[], float] = lambda: 1000.0,
    server: bool = True,
    *,
    output_bytes_max: int = 4096,
    discard_output: bool = False,
    on_fetch: Callable[[], None] = lambda: None,
) -> AsyncIterator[Local]:
    """An agent's local side, started; stopped at the end, as a graceful stop does."""
    engine = engine or InstantEngine()
    clock = MovableClock(asyncio.get_running_loop())
    journal = LocalJournal(folder)
    states = CheckStates(journal, wall)
    rng = random.Random(1)
    registry = LocalRegistry(
        node_name="here",
        journal=journal,
        states=states,
        clock=clock,
        rng=rng,
        output_bytes_max=output_bytes_max,
        discard_output=discard_output,
    )

    async def fetch() -> NodeState:
        on_fetch()
        store = engine.store
        return NodeState(
            store.node("here"), tuple(store.node_services("here")), tuple(store.node_checks("here"))
        )

    anti_entropy = AntiEntropy(
        engine=engine,
        registry=registry,
        node=lambda: NODE,
        fetch=fetch,
        members=lambda: 1,
        server=server,
        rng=rng,
    )
    registry.attach(anti_entropy)
    states.load()
    registry.load(definitions or Definitions())
    states.start()
    anti_entropy.start()
    try:
        yield Local(engine, registry, anti_entropy, clock, states)
    finally:
        await anti_entropy.stop()
        await registry.runner.close()
        await states.stop()
        journal.close()


@pytest.fixture
def local() -> Open:
    """Opens the local side of an agent: `async with local(folder) as here`."""
    return opened
