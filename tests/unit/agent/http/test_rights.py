"""One deny-all caller on every path that writes, and callers who may do half of it."""

from __future__ import annotations

import pytest
from tests.harness.api import ApiSite, api_site
from tests.harness.raw_http import connect

from callboard.catalog.authorizer import DENY_ALL, Uniform

BODIES = {
    "/v1/agent/service/register": b'{"Name":"web"}',
    "/v1/agent/check/register": b'{"Name":"disk","TTL":"1m"}',
    "/v1/agent/check/update/": b'{"Status":"passing"}',
    "/v1/catalog/register": b'{"Node":"n","Address":"10.0.0.1","Service":{"Service":"web"}}',
    "/v1/catalog/deregister": b'{"Node":"agent-1"}',
}
RESTS = {"service_id": "web", "check_id": "service:web", "key": "a", "address": "10.0.0.1"}


def writes(site: ApiSite) -> list[tuple[str, str, bytes]]:
    """(method, target, body) of everything that changes something, as it would succeed."""
    found = []
    for resource in site.api.resources:
        for method in resource.methods if resource.tags else ():
            if method not in ("GET", "HEAD"):
                target = resource.pattern + RESTS.get(
                    resource.rest, "agent-1" * bool(resource.rest)
                )
                found.append((method, target, BODIES.get(resource.pattern, b"")))
    return found


async def test_without_rights_no_write_gets_through() -> None:
    async with (
        api_site() as before,
        connect(before.port) as may,
        api_site(
            authorize=lambda request: DENY_ALL,
            store=before.store,
            engine=before.engine,
            local=before.registry,
        ) as site,
        connect(site.port) as client,
    ):
        await may.request(
            "PUT", "/v1/agent/service/register", b'{"Name":"web","Check":{"TTL":"1m"}}'
        )
        await may.request("PUT", "/v1/kv/a", b"x")
        stands_at = site.store.applied_index
        refused = writes(site)
        assert len(refused) >= 16
        for method, target, body in [*refused, ("DELETE", "/v1/kv/?recurse", b"")]:
            answer = await client.request(method, target, body)
            assert (answer.status, answer.body) == (403, b"Permission denied"), (method, target)
        assert before.store.applied_index == stands_at
        assert (site.membership.joined, site.membership.forced) == ([], [])


class NodesOnly(Uniform):
    """May write nodes, and no service."""

    def service_write(self, service: str) -> bool:
        return False


@pytest.mark.parametrize(
    ("body", "status"),
    [(b'{"Name":"disk","TTL":"1m"}', 200), (b'{"Name":"x","ServiceID":"web","TTL":"1m"}', 403)],
    ids=["of the node", "of the service"],
)
async def test_check_of_a_service_asks_for_the_right_to_the_service(
    body: bytes, status: int
) -> None:
    async with api_site() as before, connect(before.port) as may:
        await may.request("PUT", "/v1/agent/service/register", b'{"Name":"web"}')
        rights = NodesOnly(True)
        limited = api_site(authorize=lambda request: rights, local=before.registry)
        async with limited as site, connect(site.port) as client:
            answer = await client.request("PUT", "/v1/agent/check/register", body)
    assert answer.status == status
