"""An agent in a thread of the test's own process.

The agent is the real one: one server with its Raft log in memory, gossip, HTTP and DNS on loopback
ports that the system chooses, ready within a fifth of a second. Only time limits of checks run on
a clock of their own, which the test may move.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from callboard.catalog.definitions import ServiceDefinition, service_from_request

T = TypeVar("T")

START_TIMEOUT_S = 10.0
CALL_TIMEOUT_S = 10.0


class _Agent(Protocol):
    """What is used of `callboard.agent.service.Agent` (libraries do not import services)."""

    http_port: int
    dns_port: int
    local: Any
    clock: Any

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def settle(self) -> None: ...


class Clock:
    """The clock of the agent's checks: goes by itself, and jumps when told."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def advance(self, seconds: float) -> None:
        """Jump ahead; on return what fell due (a TTL, say) is in the catalog."""
        self._catalog._run(self._catalog._advance(seconds))


class Catalog:
    """A running agent. `start` and `stop`, or a `with` block."""

    def __init__(self, node: str = "test-node", datacenter: str = "dc1") -> None:
        self._node = node
        self._datacenter = datacenter
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._agent: _Agent | None = None
        self._problem: BaseException | None = None
        self.clock = Clock(self)

    def __enter__(self) -> Catalog:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the HTTP API answers: `http://127.0.0.1:N`, no slash at the end."""
        return f"http://127.0.0.1:{self._running.http_port}"

    @property
    def dns(self) -> tuple[str, int]:
        """Where DNS answers, UDP and TCP: host and port."""
        return ("127.0.0.1", self._running.dns_port)

    def start(self) -> None:
        """Start the agent; it leads and answers on return. Raises what its start raised."""
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._live, args=(started,), name="callboard-catalog", daemon=True
        )
        self._thread.start()
        if not started.wait(START_TIMEOUT_S):
            raise TimeoutError(f"the catalog did not start within {START_TIMEOUT_S} s")
        if self._problem is not None:
            raise self._problem

    def stop(self) -> None:
        """Stop the agent; its ports are free on return."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(START_TIMEOUT_S)
        self._thread = None
        self._agent = None

    def register(
        self,
        name: str,
        *,
        port: int = 0,
        tags: Sequence[str] = (),
        id: str = "",
        address: str = "",
        meta: Mapping[str, str] | None = None,
        ttl: str = "",
        status: str = "passing",
    ) -> str:
        """Announce a service; returns its ID. With `ttl` ("10s") it gets a TTL check, `status` at
        first. Raises ValueError for what the agent refuses."""
        body: dict[str, object] = {"Name": name, "Port": port, "Tags": list(tags)}
        body |= {"ID": id} if id else {}
        body |= {"Address": address} if address else {}
        body |= {"Meta": dict(meta)} if meta else {}
        body |= {"Check": {"TTL": ttl, "Status": status}} if ttl else {}
        definition: ServiceDefinition = service_from_request(json.dumps(body).encode())
        self._run(self._running.local.register_service(definition))
        return definition.id

    def deregister(self, service_id: str) -> None:
        """Take a service away."""
        self._run(self._running.local.deregister_service(service_id))

    def update(self, check_id: str, status: str = "passing", output: str = "") -> None:
        """Set a TTL check (`service:<id>`), as its service would."""
        self._run(self._running.local.update_check(check_id, status, output))

    @property
    def _running(self) -> _Agent:
        if self._agent is None:
            raise RuntimeError("the catalog is not started")
        return self._agent

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None, "the catalog is not started"
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT_S)

    async def _advance(self, seconds: float) -> None:
        self._running.clock.advance(seconds)
        await self._running.settle()

    def _live(self, started: threading.Event) -> None:
        try:
            asyncio.run(self._serve(started))
        except BaseException as problem:
            self._problem = problem
        finally:
            started.set()

    async def _serve(self, started: threading.Event) -> None:
        service = importlib.import_module("callboard.agent.service")
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        agent: _Agent = service.for_tests(self._node, self._datacenter)
        await agent.start()
        try:
            await agent.settle()
            self._agent = agent
            started.set()
            await self._ending.wait()
        finally:
            await agent.stop()
