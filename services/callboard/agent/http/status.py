"""GET /v1/status/…: who leads, who votes; answered without a leader too."""

from __future__ import annotations

from collections.abc import Iterable

from callboard.agent.http.context import ApiContext
from callboard.agent.http.frame import Call, Resource, json_answer
from callboard.agent.http.parameters import read_options
from callboard.catalog import render
from callboard.serve import Outcome


class StatusEndpoints:
    """See the module."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def resources(self) -> Iterable[Resource]:
        """The paths served here."""
        yield Resource(
            "/v1/status/leader", {"GET": self.leader}, "The leader's RPC address", tags=("status",)
        )
        yield Resource(
            "/v1/status/peers", {"GET": self.peers}, "The voters' RPC addresses", tags=("status",)
        )

    def leader(self, call: Call) -> Outcome:
        """ "ip:port", or "" while there is none."""
        read_options(call.request, self._context.datacenter)
        leader = self._context.engine.leader
        return json_answer(render.json(leader.address if leader is not None else ""))

    def peers(self, call: Call) -> Outcome:
        """["ip:port", …] of the voters whose address is known."""
        read_options(call.request, self._context.datacenter)
        addresses = [address for _, address in self._context.engine.voters if address]
        return json_answer(render.json(addresses))
