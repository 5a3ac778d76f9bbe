"""/v1/catalog/…: nodes, services, and registrations by hand (Consul: HTTP API, Catalog)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable

import msgspec

from callboard.agent.http import views
from callboard.agent.http.consistency import Reads
from callboard.agent.http.context import ApiContext
from callboard.agent.http.frame import Call, Resource, json_answer
from callboard.agent.http.parameters import check_datacenter, other_peer, refuse_later, tags
from callboard.agent.http.problems import ApiError
from callboard.agent.ports import ProposalUnknown
from callboard.catalog import render
from callboard.catalog.authorizer import ALLOW_ALL, Authorizer
from callboard.catalog.changes import WatchKey
from callboard.catalog.commands import Deregister, Register, encode_command
from callboard.catalog.registration import deregister_from_request, register_from_request
from callboard.serve import Answer, Outcome

NODES = WatchKey("nodes")
SERVICES = WatchKey("services")
DENIED = "Permission denied"
REQUEST_ID_BYTES = 16
AGAIN_S = 0.05
"""Before a registration whose fate nobody knows is asked for again."""


class CatalogEndpoints:
    """See the module."""

    def __init__(self, context: ApiContext, reads: Reads) -> None:
        self._context = context
        self._store = context.store
        self._reads = reads

    def resources(self) -> Iterable[Resource]:
        """The paths served here."""
        for pattern, methods, summary, rest in (
            ("register", {"PUT": self.register}, "Register a node, service or check", ""),
            ("deregister", {"PUT": self.deregister}, "Remove a node, service or check", ""),
            ("datacenters", {"GET": self.datacenters}, "The datacenters known", ""),
            ("nodes", {"GET": self.nodes}, "All nodes", ""),
            ("services", {"GET": self.services}, "All service names with their tags", ""),
            ("service/", {"GET": self.service}, "The instances of a service", "service"),
            ("connect/", {"GET": self.connect}, "Mesh-capable instances: none", "service"),
            ("node/", {"GET": self.node}, "A node and its services, by ID", "node"),
            ("node-services/", {"GET": self.node_services}, "A node and its services", "node"),
        ):
            yield Resource(f"/v1/catalog/{pattern}", methods, summary, rest, tags=("catalog",))

    # ------------------------------------------------------------------ writes

    async def register(self, call: Call) -> Answer:
        """`true` once the registration is committed and applied here."""
        check_datacenter(call.request, self._context.datacenter)
        command = register_from_request(call.request.body, self._context.datacenter)
        if call.rights is not ALLOW_ALL:
            _authorize_register(call.rights, command)
        return await self._propose(command)

    async def deregister(self, call: Call) -> Answer:
        """`true`, for what is unknown too."""
        check_datacenter(call.request, self._context.datacenter)
        command = deregister_from_request(call.request.body, self._context.datacenter)
        if call.rights is not ALLOW_ALL:
            self._authorize_deregister(call.rights, command)
        return await self._propose(command)

    async def _propose(self, command: Register | Deregister) -> Answer:
        """Ask again while nobody knows what became of it: by its id it is done once (I13)."""
        command = msgspec.structs.replace(command, request_id=secrets.token_bytes(REQUEST_ID_BYTES))
        body, clock = encode_command(command), asyncio.get_running_loop().time
        until = clock() + self._context.hold_timeout_s
        while True:
            try:
                applied = await self._context.engine.propose(body, max(0.001, until - clock()))
                break
            except ProposalUnknown:
                if clock() + AGAIN_S >= until:
                    raise
                await asyncio.sleep(AGAIN_S)
        if isinstance(applied.value, str):
            raise ApiError(500, applied.value)
        return json_answer(b"true")

    def _authorize_deregister(self, rights: Authorizer, command: Deregister) -> None:
        service = None
        if command.service_id:
            service = self._store.service(command.node, command.service_id)
        allowed = (
            rights.service_write(service.service)
            if service is not None
            else rights.node_write(command.node)
        )
        if not allowed:
            raise ApiError(403, DENIED)

    # ------------------------------------------------------------------ reads

    def datacenters(self, call: Call) -> Outcome:
        """The one there is."""
        answer = json_answer(render.json([self._context.datacenter]))
        return self._reads.fixed(call.request, lambda: answer)

    def nodes(self, call: Call) -> Outcome:
        """Every node, sorted by name."""
        refuse_later(call.request)

        def made() -> bytes:
            found = [] if other_peer(call.request) else self._store.nodes()
            return render.array(map(render.node_json, views.nodes(call.rights, found)))

        return self._reads.discovery(call, NODES, made, "catalog/nodes")

    def services(self, call: Call) -> Outcome:
        """Service name → union of tags."""
        refuse_later(call.request)

        def made() -> bytes:
            names = {} if other_peer(call.request) else self._store.service_names()
            if call.rights is not ALLOW_ALL:
                names = {n: t for n, t in names.items() if call.rights.service_read(n)}
            return render.service_names_json(names)

        return self._reads.discovery(call, SERVICES, made, "catalog/services")

    def service(self, call: Call) -> Outcome:
        """The instances of a service, one row each."""
        refuse_later(call.request)
        name = required(call.rest, "Missing service name")
        wanted = tags(call.request)

        def made() -> bytes:
            found = [] if other_peer(call.request) else self._store.service_instances(name)
            rows = []
            for instance in views.instances(call.rights, found):
                node = self._store.node(instance.node)
                if node is not None and views.has_tags(instance.tags, wanted):
                    rows.append(render.catalog_service_row_json(node, instance))
            return render.array(rows)

        key = WatchKey("service-instances", name)
        return self._reads.discovery(call, key, made, ("catalog/service", name, wanted))

    def connect(self, call: Call) -> Outcome:
        """No instance here is mesh-capable."""
        key = WatchKey("service-instances", required(call.rest, "Missing service name"))
        return self._reads.discovery(call, key, lambda: b"[]", "catalog/connect")

    def node(self, call: Call) -> Outcome:
        """A node with its services by ID; null if it is unknown."""
        return self._of_node(call, render.catalog_node_json)

    def node_services(self, call: Call) -> Outcome:
        """A node with the list of its services; a null node if it is unknown."""
        unknown = b'{"Node":null,"Services":null}'
        return self._of_node(call, render.catalog_node_services_json, unknown)

    def _of_node(
        self, call: Call, rendered: Callable[..., bytes], unknown: bytes = b"null"
    ) -> Outcome:
        refuse_later(call.request)
        name = required(call.rest, "Missing node name")

        def made() -> bytes:
            node = None if other_peer(call.request) else self._store.node(name)
            if node is None or not call.rights.node_read(node.name):
                return unknown
            services = views.instances(call.rights, self._store.node_services(name))
            return rendered(node, services)

        return self._reads.discovery(call, WatchKey("node-services", name), made, rendered)


def required(rest: str, missing: str) -> str:
    """The name in a path. Raises ApiError 400 if there is none."""
    if not rest:
        raise ApiError(400, missing)
    return rest


def _authorize_register(rights: Authorizer, command: Register) -> None:
    allowed = rights.node_write(command.node.name)
    if command.service is not None:
        allowed = allowed and rights.service_write(command.service.service)
    if not allowed:
        raise ApiError(403, DENIED)
