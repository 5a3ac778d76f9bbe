"""What the integration tests ask of a stack's catalog, in the words of the HTTP API."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import dns.message
from tests.harness.asking import ask, get, http
from tests.harness.eventually import eventually_sync
from tests.harness.stack import DNS_INSIDE_PORT, NAMESERVER, SERVERS, Stack


def put_key(stack: Stack, agent: str, key: str, value: bytes) -> bool:
    """Write a key through one agent; say whether it was acknowledged."""
    try:
        reply = http("PUT", stack.url(agent, f"/v1/kv/{key}"), value)
    except OSError:
        return False
    return reply.status == 200 and reply.body.strip() == b"true"


def read_key(stack: Stack, agent: str, key: str, mode: str = "") -> bytes | None:
    """Read a key through one agent; None if it is not there, or the agent has no answer."""
    try:
        reply = http("GET", stack.url(agent, f"/v1/kv/{key}?raw{mode and '&' + mode}"))
    except OSError:
        return None
    return reply.body if reply.status == 200 else None


def leader_of(stack: Stack, asked: str) -> str | None:
    """Return the name of the leader that one agent knows, or None."""
    try:
        address = str(get(stack.url(asked, "/v1/status/leader")))
    except (OSError, AssertionError):
        return None
    for name in SERVERS:
        if stack.running(name) and address == f"{stack.inside_address(name)}:8300":
            return name
    return None


def wait_for_leader(stack: Stack, *among: str, timeout_s: float = 20.0) -> str:
    """Return the leader once all of `among` (the servers, if none is named) agree on it."""
    asked = among or SERVERS

    def agreed() -> str | None:
        known = {leader_of(stack, name) for name in asked}
        return known.pop() if len(known) == 1 else None

    return str(eventually_sync(agreed, timeout_s))


def register(stack: Stack, agent: str, definition: dict[str, Any]) -> None:
    """Register a service at an agent, and wait until every server lists it."""
    url = stack.url(agent, "/v1/agent/service/register")
    reply = http("PUT", url, json.dumps(definition).encode())
    assert reply.status == 200, reply.body
    for name in SERVERS:
        if stack.running(name):
            eventually_sync(partial(_lists, stack, name, definition["Name"]))


def _lists(stack: Stack, agent: str, service: str) -> bool:
    return service in services(stack, agent)


def deregister(stack: Stack, agent: str, service_id: str) -> None:
    """Take a service off an agent."""
    url = stack.url(agent, f"/v1/agent/service/deregister/{service_id}")
    assert http("PUT", url).status == 200


def services(stack: Stack, agent: str) -> dict[str, list[str]]:
    """Return the catalog's service names and tags, as one agent lists them."""
    listed: dict[str, list[str]] = get(stack.url(agent, "/v1/catalog/services"))
    return listed


def nodes_of(stack: Stack, service: str, agent: str = "agent-1") -> list[str]:
    """Return the names of the nodes that announce a service, sorted."""
    rows = get(stack.url(agent, f"/v1/catalog/service/{service}"))
    return sorted(str(row["Node"]) for row in rows)


def resolve(
    stack: Stack, name: str, kind: str = "A", *, tcp: bool = False, **edns: Any
) -> dns.message.Message:
    """Ask the nameserver of a stack."""
    place = stack.addr(NAMESERVER, DNS_INSIDE_PORT, "tcp" if tcp else "udp")
    return ask(place, name, kind, tcp=tcp, **edns)
