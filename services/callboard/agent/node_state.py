"""The catalog's view of one node, for its agent's anti-entropy: read here, or asked of a server.

A client agent has no catalog; it asks a server by the rpc method `node_state`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from callboard.agent.local.anti_entropy import NodeState
from callboard.agent.ports import Engine, EngineError, NotReady
from callboard.agent.rpc import Peer, RpcClient, RpcError
from callboard.agent.rpc.wire import ENCODER
from callboard.agent.state.store import StateStore
from callboard.catalog.objects import Check, Node, ServiceInstance

METHOD = "node_state"
TIMEOUT_S = 10.0


class WireState(msgspec.Struct, array_like=True, frozen=True):
    """A NodeState on the wire. Only append fields, with defaults."""

    node: Node | None
    services: tuple[ServiceInstance, ...]
    checks: tuple[Check, ...]


_NAME = msgspec.msgpack.Decoder(str)
_STATE = msgspec.msgpack.Decoder(WireState)


class StateHere:
    """On a server: reads its own store behind a read barrier, and serves other agents."""

    def __init__(self, store: StateStore, engine: Engine) -> None:
        self._store = store
        self._engine = engine

    async def fetch(self, name: str) -> NodeState:
        """What the catalog holds of a node. Raises EngineError."""
        await self._engine.read_index()
        if not self._engine.ready:
            raise NotReady("the catalog is not loaded yet")
        store = self._store
        return NodeState(
            store.node(name), tuple(store.node_services(name)), tuple(store.node_checks(name))
        )

    async def serve(self, peer: Peer, body: bytes) -> bytes:
        """The rpc method."""
        try:
            state = await self.fetch(_NAME.decode(body))
        except (EngineError, msgspec.MsgspecError) as problem:
            raise RpcError(str(problem)) from problem
        return ENCODER.encode(WireState(state.node, state.services, state.checks))


class StateElsewhere:
    """On a client agent: asks the servers in turn."""

    def __init__(self, client: RpcClient, servers: Callable[[], Sequence[str]]) -> None:
        self._client = client
        self._servers = servers

    async def fetch(self, name: str) -> NodeState:
        """What the catalog holds of a node. Raises EngineError when no server says."""
        problem: Exception | None = None
        for address in self._servers():
            try:
                body = ENCODER.encode(name)
                answer = await self._client.call(address, METHOD, body, TIMEOUT_S)
            except RpcError as failed:
                problem = failed
                continue
            try:
                state = _STATE.decode(answer)
            except msgspec.MsgspecError as malformed:
                problem = malformed
                continue
            return NodeState(state.node, state.services, state.checks)
        raise EngineError(str(problem) if problem else "No known Consul servers")
