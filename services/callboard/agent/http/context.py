"""What the HTTP API needs of the agent, as one frozen value, and the seams behind it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from callboard.agent.ports import Engine, LocalCheck
from callboard.agent.settings import HttpSettings
from callboard.agent.state.store import StateStore
from callboard.catalog.authorizer import ALLOW_ALL, Authorizer
from callboard.catalog.definitions import CheckDefinition, ServiceDefinition
from callboard.serve import FanOut, Request, Stream, TimerWheel
from callboard.swim.key_queries import KeyAction, KeyTally
from callboard.swim.serf_members import SerfMember


class LocalRegistry(Protocol):
    """The agent's own services and checks. Writes are in the catalog when they return (or, with
    no leader, soon after one is there); they raise LocalError with Consul's status and text."""

    def services(self) -> Mapping[str, ServiceDefinition]: ...

    def checks(self) -> Mapping[str, LocalCheck]: ...

    async def register_service(
        self, definition: ServiceDefinition, replace_checks: bool = False
    ) -> None: ...

    async def deregister_service(self, service_id: str) -> None: ...

    async def register_check(self, definition: CheckDefinition) -> None: ...

    async def deregister_check(self, check_id: str) -> None: ...

    async def update_check(self, check_id: str, status: str, output: str) -> None: ...


class Keys(Protocol):
    """The keys of gossip."""

    async def ask(self, action: KeyAction, key: bytes = b"", relay_factor: int = 0) -> KeyTally:
        """Ask every member, ourselves included; raises ValueError for what can be no key."""


class Membership(Protocol):
    """Gossip, as far as the API shows and steers it."""

    @property
    def keys(self) -> Keys: ...

    def members(self) -> Sequence[SerfMember]: ...

    async def join(self, addresses: Sequence[str]) -> int:
        """Number of members contacted; raises an exception whose text says why none was."""

    async def force_leave(self, name: str, *, prune: bool = False) -> None: ...


class Forwarding(Protocol):
    """How a client agent reaches a server: one call of the rpc channel."""

    def servers(self) -> Sequence[str]:
        """ "ip:port" of the servers thought alive."""

    async def call(self, address: str, method: str, body: bytes, timeout_s: float) -> bytes:
        """Raises RpcUnreachable or RpcFailed."""


async def _nothing() -> None:
    """A reload or leave that does nothing (tests)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """Everything the API works on. `now` is monotonic seconds."""

    store: StateStore
    engine: Engine
    local: LocalRegistry
    membership: Membership
    wheel: TimerWheel
    fanout: FanOut
    rng: random.Random
    now: Callable[[], float]

    node_name: str
    node_id: str = ""
    datacenter: str = "dc1"
    domain: str = "consul"
    alt_domain: str = ""
    server: bool = True
    http: HttpSettings = field(default_factory=HttpSettings)
    known_hosts: tuple[str, ...] = ()
    """Further names of this agent: its host name, compose's names, PUBLIC_HOST."""
    hold_timeout_s: float = 7.0
    """How long a request waits for a leader (Consul: rpc_hold_timeout)."""
    allow_plain: bool = False
    """The feed and the keys of gossip may be read by others than loopback on a plain port."""

    authorize: Callable[[Request], Authorizer] = lambda request: ALLOW_ALL
    """The rights of a request's token: `parameters.token_of` finds it."""
    forwarding: Forwarding | None = None
    """Set on a client agent: catalog, health, kv and status requests go to a server."""
    feed: Callable[[Request], Stream] | None = None
    """Makes the stream of one reader of GET /v1/internal/feed."""
    reload: Callable[[], Awaitable[None]] = _nothing
    """Read the configuration files again; raises an exception whose text says why not."""
    leave: Callable[[], Awaitable[None]] = _nothing
    """Leave gossip and have the agent stop after the answer."""
    stats: Callable[[], Mapping[str, Mapping[str, str]]] = dict
    """More of agent/self's Stats: section → key → value."""
    metrics: Callable[[], bytes] | None = None
    """The Prometheus text of agent/metrics?format=prometheus."""
    debug_config: Mapping[str, object] = field(default_factory=dict)
    """agent/self's DebugConfig."""
