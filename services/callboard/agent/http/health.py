"""/v1/health/…: instances with their checks (Consul: HTTP API, Health)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from callboard.agent.http import views
from callboard.agent.http.catalog import required
from callboard.agent.http.consistency import Reads
from callboard.agent.http.context import ApiContext
from callboard.agent.http.frame import Call, Resource
from callboard.agent.http.parameters import other_peer, passing, refuse_later, tags
from callboard.catalog import render
from callboard.catalog.changes import WatchKey
from callboard.catalog.objects import CRITICAL, PASSING, WARNING, Check
from callboard.serve import Outcome

CHECKS = WatchKey("checks")
STATUSES = frozenset((PASSING, WARNING, CRITICAL))


class HealthEndpoints:
    """See the module."""

    def __init__(self, context: ApiContext, reads: Reads) -> None:
        self._store = context.store
        self._reads = reads

    def resources(self) -> Iterable[Resource]:
        """The paths served here."""
        for pattern, endpoint, summary, rest in (
            ("service/", self.service, "A service's instances with node and checks", "service"),
            ("connect/", self.none, "Mesh-capable instances: none", "service"),
            ("ingress/", self.none, "Ingress gateways of a service: none", "service"),
            ("checks/", self.checks, "A service's checks", "service"),
            ("node/", self.node, "A node's checks", "node"),
            ("state/", self.state, "All checks in a state", "state"),
        ):
            yield Resource(
                f"/v1/health/{pattern}", {"GET": endpoint}, summary, rest, tags=("health",)
            )

    def service(self, call: Call) -> Outcome:
        """Every instance, or with ?passing those whose checks all pass."""
        refuse_later(call.request)
        name = required(call.rest, "Missing service name")
        only_passing = passing(call.request)
        wanted = tags(call.request)

        def made() -> bytes:
            found = [] if other_peer(call.request) else self._store.health(name)
            entries = views.entries(call.rights, found)
            return render.array(
                render.health_entry_json(entry)
                for entry in entries
                if (not only_passing or entry.status == PASSING)
                and views.has_tags(entry.service.tags, wanted)
            )

        key = WatchKey("service", name)
        return self._reads.discovery(
            call, key, made, ("health/service", name, only_passing, wanted)
        )

    def none(self, call: Call) -> Outcome:
        """No instance here is part of a mesh."""
        key = WatchKey("service", required(call.rest, "Missing service name"))
        return self._reads.discovery(call, key, lambda: b"[]", "health/none")

    def checks(self, call: Call) -> Outcome:
        """The checks of a service's instances."""
        name = required(call.rest, "Missing service name")
        return self._checks(
            call, WatchKey("service-checks", name), lambda: self._store.service_checks(name)
        )

    def node(self, call: Call) -> Outcome:
        """The checks on a node, its services' too."""
        name = required(call.rest, "Missing node name")
        key = WatchKey("node-checks", name)
        return self._checks(call, key, lambda: self._store.node_checks(name))

    def state(self, call: Call) -> Outcome:
        """All checks in one state, or in any; none for a state that does not exist."""
        state = required(call.rest, "Missing check state")
        key = WatchKey("checks", state) if state in STATUSES else CHECKS
        return self._checks(call, key, lambda: self._store.checks(state))

    def _checks(self, call: Call, key: WatchKey, found: Callable[[], Sequence[Check]]) -> Outcome:
        refuse_later(call.request)

        def made() -> bytes:
            visible = [] if other_peer(call.request) else views.checks(call.rights, found())
            return render.array(map(render.check_json, visible))

        return self._reads.discovery(call, key, made, ("health", call.request.path))
