"""What Consul has and this version has not: a clear refusal, never a wrong 200.

501 for what will come, 404 for what is out of scope.
"""

from __future__ import annotations

from collections.abc import Iterable

from callboard.agent.http.frame import Call, Resource
from callboard.agent.http.problems import text_answer
from callboard.serve import Outcome

METHODS = ("GET", "PUT", "POST", "DELETE")
NOT_YET = (
    "/v1/session/",
    "/v1/txn",
    "/v1/event/",
    "/v1/query",
    "/v1/query/",
    "/v1/coordinate/",
    "/v1/operator/",
    "/v1/snapshot",
    "/v1/acl/",
    "/v1/config",
    "/v1/config/",
    "/v1/watch",
    "/v1/internal/",
    "/v1/agent/maintenance",
    "/v1/agent/service/maintenance/",
    "/v1/agent/health/",
    "/v1/agent/monitor",
    "/v1/agent/host",
    "/v1/agent/metrics/stream",
    "/v1/agent/token/",
)
OUT_OF_SCOPE = (
    "/v1/connect/",
    "/v1/agent/connect/",
    "/v1/discovery-chain/",
    "/v1/catalog/gateway-services/",
    "/v1/exported-services",
    "/v1/imported-services",
    "/v1/peering",
    "/v1/peering/",
    "/v1/peerings",
    "/v1/namespace/",
    "/v1/namespaces",
    "/v1/partition/",
    "/v1/partitions",
)


class LaterEndpoints:
    """See the module."""

    def resources(self) -> Iterable[Resource]:
        """The paths refused here."""
        for patterns, endpoint, summary in (
            (NOT_YET, self.not_yet, "Not there yet"),
            (OUT_OF_SCOPE, self.out_of_scope, "Out of scope"),
        ):
            for pattern in patterns:
                yield Resource(
                    pattern, dict.fromkeys(METHODS, endpoint), summary, "rest", replicated=False
                )

    def not_yet(self, call: Call) -> Outcome:
        """501."""
        path = call.request.path
        return text_answer(501, f"{call.request.method} {path} is not there yet in Callboard")

    def out_of_scope(self, call: Call) -> Outcome:
        """404."""
        return text_answer(404, f"{call.request.path} is out of Callboard's scope")
