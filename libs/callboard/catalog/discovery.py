"""What name answers need to see of a catalog: the view the DNS code and the feed read through.

Two things offer it: the agent's state store, and the name server's own copy kept by the feed.
Lookups of node and service names are case-insensitive; objects are immutable, so a returned list
is a pinned version: it may be walked in slices while the catalog goes on changing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from callboard.catalog.changes import Change
from callboard.catalog.objects import CRITICAL, PASSING, WARNING, Check, Node, ServiceInstance

Listener = Callable[[Sequence[Change]], None]
"""Called with one batch of changes, in log order."""


class HealthEntry(NamedTuple):
    """One instance with all that decides its health (Consul: an element of health/service/:s)."""

    node: Node
    service: ServiceInstance
    checks: tuple[Check, ...]
    """The node's own checks, then the instance's, each sorted by CheckID."""

    @property
    def status(self) -> str:
        """The worst status of the checks: critical, warning or passing (no checks: passing)."""
        worst = PASSING
        for check in self.checks:
            if check.status == CRITICAL:
                return CRITICAL
            if check.status == WARNING:
                worst = WARNING
        return worst


class DiscoveryView(Protocol):
    """A catalog as readers see it."""

    @property
    def datacenter(self) -> str: ...

    @property
    def ready(self) -> bool:
        """False until the catalog is loaded: nothing may be called empty (answer SERVFAIL)."""

    @property
    def applied_index(self) -> int:
        """The log index this view stands at."""

    def node(self, name: str) -> Node | None: ...

    def nodes(self) -> Sequence[Node]:
        """Every node, sorted by name."""

    def nodes_at(self, address: str) -> Sequence[Node]:
        """The nodes with this address (exact text), sorted by name."""

    def services_at(self, address: str) -> Sequence[ServiceInstance]:
        """The instances with this address of their own, sorted by node and ID."""

    def service_names(self) -> Mapping[str, tuple[str, ...]]:
        """Service name → union of its instances' tags, both sorted."""

    def service_instances(self, name: str) -> Sequence[ServiceInstance]:
        """The instances of a service on all nodes, sorted by node and ID."""

    def node_services(self, node: str) -> Sequence[ServiceInstance]: ...

    def node_checks(self, node: str) -> Sequence[Check]:
        """All checks on a node: its own and its services', sorted by CheckID."""

    def health(self, service: str) -> Sequence[HealthEntry]: ...

    def listen(self, listener: Listener, *, reset: Callable[[], None] | None = None) -> None:
        """Call `listener` with every applied batch of changes, once per batch.

        When the whole catalog is replaced (a snapshot was restored, a fresh copy loaded) `reset`
        is called; a listener without one gets the difference as changes instead.
        """

    def unlisten(self, listener: Listener) -> None: ...
