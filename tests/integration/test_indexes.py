"""X-Consul-Index comes of the applied state: all servers answer the same one."""

from __future__ import annotations

from tests.harness.asking import http
from tests.harness.catalog import put_key, wait_for_leader
from tests.harness.eventually import eventually_sync
from tests.harness.stack import SERVERS, Stack

PATHS = (
    *("/v1/catalog/nodes", "/v1/catalog/services", "/v1/catalog/service/web"),
    *("/v1/catalog/node/agent-1", "/v1/health/service/web", "/v1/health/state/any"),
    *("/v1/health/service/missing", "/v1/kv/index/a", "/v1/kv/index/missing", "/v1/kv/?recurse"),
)


def indexes(stack: Stack, server: str, *, stale: bool = False) -> dict[str, int]:
    """Path -> the index of a server's answer. With `stale`, of its own state and nobody's else."""
    found = {}
    for path in PATHS:
        mode = "&stale" if "?" in path else "?stale"
        reply = http("GET", stack.url(server, path + mode * stale))
        found[path] = int(reply.headers.get("X-Consul-Index", "0"))
    return found


def agreed(stack: Stack) -> dict[str, int] | None:
    """The indexes, once all servers give the same; None until then."""
    first, *others = (indexes(stack, server, stale=True) for server in SERVERS)
    return first if all(other == first for other in others) else None


def test_servers_give_one_index_and_the_same_after_a_restart(stack: Stack) -> None:
    leader = wait_for_leader(stack)
    assert put_key(stack, leader, "index/a", b"1")
    before = eventually_sync(lambda: agreed(stack), 20)
    assert isinstance(before, dict)
    assert min(before.values()) >= 1
    for server in SERVERS:
        stack.stop(server)
        stack.start(server)
        stack.wait_ready(server)
    after = eventually_sync(lambda: agreed(stack), 30)
    assert isinstance(after, dict)
    assert after["/v1/kv/index/a"] == before["/v1/kv/index/a"]
    assert after["/v1/kv/?recurse"] == before["/v1/kv/?recurse"]
    assert put_key(stack, SERVERS[0], "index/a", b"2")
    assert indexes(stack, SERVERS[1])["/v1/kv/index/a"] > before["/v1/kv/index/a"]
