"""/v1/agent/…: this agent itself, its members, and what is registered with it.

Answered by the agent that is asked, never forwarded. Registrations go through the local registry,
which has them in the catalog before the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from callboard.agent.http.catalog import DENIED
from callboard.agent.http.context import ApiContext
from callboard.agent.http.frame import Call, Resource, empty_answer, json_answer
from callboard.agent.http.parameters import boolean, first, refuse_later
from callboard.agent.http.problems import ApiError
from callboard.agent.ports import LocalCheck
from callboard.catalog import render
from callboard.catalog.authorizer import ALLOW_ALL
from callboard.catalog.decode import decode
from callboard.catalog.definitions import check_from_request, service_from_request
from callboard.catalog.objects import CRITICAL, PASSING, WARNING
from callboard.catalog.specs import CHECK_UPDATE
from callboard.serve import Answer, Outcome

_STATUSES = frozenset({PASSING, WARNING, CRITICAL})


class AgentEndpoints:
    """Services and checks; `AgentProcessEndpoints` has the rest of the agent."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._local = context.local

    def resources(self) -> Iterable[Resource]:
        """The paths served here."""
        for pattern, method, endpoint, summary, rest in (
            ("services", "GET", self.services, "This agent's services", ""),
            ("service/", "GET", self.service, "One of this agent's services", "service_id"),
            ("service/register", "PUT", self.register_service, "Register a service", ""),
            (
                "service/deregister/",
                "PUT",
                self.deregister_service,
                "Deregister a service and its checks",
                "service_id",
            ),
            ("checks", "GET", self.checks, "This agent's checks", ""),
            ("check/register", "PUT", self.register_check, "Register a check", ""),
            ("check/deregister/", "PUT", self.deregister_check, "Deregister a check", "check_id"),
            ("check/pass/", "PUT", self.passes, "Set a TTL check to passing", "check_id"),
            ("check/warn/", "PUT", self.warns, "Set a TTL check to warning", "check_id"),
            ("check/fail/", "PUT", self.fails, "Set a TTL check to critical", "check_id"),
            ("check/update/", "PUT", self.update, "Set a TTL check's status", "check_id"),
        ):
            yield Resource(
                f"/v1/agent/{pattern}",
                {method: endpoint},
                summary,
                rest,
                replicated=False,
                tags=("agent",),
            )

    # ------------------------------------------------------------------ reads

    def services(self, call: Call) -> Outcome:
        """Service ID → service."""
        refuse_later(call.request, ("filter",))
        services = self._local.services()
        return json_answer(
            render.mapping(
                (service_id, self._service_json(service_id))
                for service_id in sorted(services)
                if call.rights is ALLOW_ALL or call.rights.service_read(services[service_id].name)
            )
        )

    def service(self, call: Call) -> Outcome:
        """One service, with a hash of what it says."""
        refuse_later(call.request, ("hash", "filter"))
        service_id = call.rest
        definition = self._local.services().get(service_id)
        if definition is None:
            raise ApiError(404, f"unknown service ID: {service_id}")
        if not call.rights.service_read(definition.name):
            raise ApiError(403, DENIED)
        body = self._service_json(service_id)
        digest = blake2b(body, digest_size=8).hexdigest()
        body = body[:-1] + b',"ContentHash":"' + digest.encode() + b'"}'
        return json_answer(body, [("X-Consul-Contenthash", digest)])

    def checks(self, call: Call) -> Outcome:
        """Check ID → check."""
        refuse_later(call.request, ("filter",))
        checks = self._local.checks()
        return json_answer(
            render.mapping(
                (check_id, render.check_json(checks[check_id].check))
                for check_id in sorted(checks)
                if self._may_read(call, checks[check_id])
            )
        )

    def _may_read(self, call: Call, local: LocalCheck) -> bool:
        if call.rights is ALLOW_ALL:
            return True
        if local.check.service_name:
            return call.rights.service_read(local.check.service_name)
        return call.rights.node_read(self._context.node_name)

    def _service_json(self, service_id: str) -> bytes:
        instance = self._local.services()[service_id].instance(self._context.node_name)
        return render.agent_service_json(instance, self._context.datacenter)

    # ------------------------------------------------------------------ services

    async def register_service(self, call: Call) -> Answer:
        """In the catalog when answered."""
        definition = service_from_request(call.request.body)
        if not call.rights.service_write(definition.name):
            raise ApiError(403, DENIED)
        replacing = "replace-existing-checks" in call.request.query
        if replacing:
            replacing = boolean(first(call.request, "replace-existing-checks") or "true") is True
        await self._local.register_service(definition, replacing)
        return empty_answer()

    async def deregister_service(self, call: Call) -> Answer:
        """With its checks."""
        service_id = call.rest
        definition = self._local.services().get(service_id)
        if definition is not None and not call.rights.service_write(definition.name):
            raise ApiError(403, DENIED)
        await self._local.deregister_service(service_id)
        return empty_answer()

    # ------------------------------------------------------------------ checks

    async def register_check(self, call: Call) -> Answer:
        """Of the node, or of one of its services."""
        definition = check_from_request(call.request.body)
        service = self._local.services().get(definition.service_id)
        self._authorize_write(call, service.name if service is not None else "")
        await self._local.register_check(definition)
        return empty_answer()

    async def deregister_check(self, call: Call) -> Answer:
        """No longer run, no longer in the catalog."""
        check_id = call.rest
        self._authorize_check(call, check_id)
        await self._local.deregister_check(check_id)
        return empty_answer()

    async def passes(self, call: Call) -> Answer:
        """TTL: all is well."""
        return await self._update(call, PASSING, first(call.request, "note"))

    async def warns(self, call: Call) -> Answer:
        """TTL: a warning."""
        return await self._update(call, WARNING, first(call.request, "note"))

    async def fails(self, call: Call) -> Answer:
        """TTL: critical."""
        return await self._update(call, CRITICAL, first(call.request, "note"))

    async def update(self, call: Call) -> Answer:
        """TTL: the status that the body says."""
        fields = decode(call.request.body, CHECK_UPDATE)
        status = str(fields.get("Status", ""))
        if status not in _STATUSES:
            raise ApiError(400, f"Invalid check status: '{status}'")
        return await self._update(call, status, str(fields.get("Output", "")))

    async def _update(self, call: Call, status: str, output: str) -> Answer:
        check_id = call.rest
        self._authorize_check(call, check_id)
        await self._local.update_check(check_id, status, output)
        return empty_answer()

    def _authorize_check(self, call: Call, check_id: str) -> None:
        if call.rights is ALLOW_ALL:
            return
        local = self._local.checks().get(check_id)
        self._authorize_write(call, local.check.service_name if local is not None else "")

    def _authorize_write(self, call: Call, service: str) -> None:
        """Of a service, or of the node alone."""
        allowed = (
            call.rights.service_write(service)
            if service
            else call.rights.node_write(self._context.node_name)
        )
        if not allowed:
            raise ApiError(403, DENIED)
