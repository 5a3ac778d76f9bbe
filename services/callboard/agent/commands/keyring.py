"""Lists and changes the keys that encrypt gossip, on all agents at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from callboard.agent.commands.api import (
    Agent,
    Failed,
    call_agent,
    failing,
    flag_set,
    rows_of,
)
from callboard.chassis import flags
from callboard.chassis.flags import Parsed

RELAY_FACTOR_MAX = 5

FLAGS = flag_set(
    "Usage: callboard keyring [options]\n\n"
    "  Lists and changes the keys that encrypt gossip, on all agents at once. A new key is\n"
    "  installed, then used, then the old one removed. Asks a server. The exit code is 0 if every\n"
    "  agent answered and did it, and 1 if any did not: then repeat the step.",
    flags.text("install", "key that all agents are to understand from now on"),
    flags.text("use", "installed key that all agents are to encrypt by from now on"),
    flags.text("remove", "key, not the primary one, that all agents are to forget"),
    flags.switch("list", "list the keys that agents understand"),
    flags.switch("list-primary", "list the keys that agents encrypt by"),
    flags.number("relay-factor", "agents answer by way of so many others as well, 5 at most"),
    flags.switch("local-only", "leave the pool between datacenters out; for lists only"),
    server=False,
)

CHANGES = {
    "install": ("POST", "Installing new gossip encryption key..."),
    "use": ("PUT", "Changing primary gossip encryption key..."),
    "remove": ("DELETE", "Removing gossip encryption key..."),
}
LISTS = {
    "list": ("Keys", "Gathering installed encryption keys..."),
    "list-primary": ("PrimaryKeys", "Gathering installed primary encryption keys..."),
}


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard keyring`."""
    return call_agent(FLAGS, argv, environ, _keyring)


def _keyring(parsed: Parsed, agent: Agent) -> int:
    lists = [name for name in LISTS if parsed.switch(name)]
    changes = [name for name in CHANGES if parsed.text(name)]
    if not lists and not changes:
        raise Failed(FLAGS.help())
    if len(lists) + len(changes) > 1:
        raise Failed("Only a single action is allowed")
    relay_factor = parsed.number("relay-factor")
    if not 0 <= relay_factor <= RELAY_FACTOR_MAX:
        raise Failed(
            f"Error parsing relay factor: Relay factor must be in range: [0, {RELAY_FACTOR_MAX}]"
        )
    if parsed.switch("local-only") and not lists:
        raise Failed("Error validating local-only: local-only can only be set for list requests")
    query = [("relay-factor", str(relay_factor))] if relay_factor else []
    if changes:
        return _change(parsed, agent, changes[0], query)
    if parsed.switch("local-only"):
        query.append(("local-only", "true"))
    return _list(agent, lists[0], query)


def _change(parsed: Parsed, agent: Agent, name: str, query: Sequence[tuple[str, str]]) -> int:
    method, heading = CHANGES[name]
    print(f"==> {heading}", flush=True)
    body = json.dumps({"Key": parsed.text(name)}).encode()
    with failing("error"):
        agent.write(method, "operator/keyring", query, body)
    return 0


def _list(agent: Agent, name: str, query: Sequence[tuple[str, str]]) -> int:
    field, heading = LISTS[name]
    print(f"==> {heading}", flush=True)
    with failing("error"):
        pools = rows_of(agent.json("operator/keyring", query))
    for pool in pools:
        print("", *_pool(pool, field), sep="\n")
    return 0


def _pool(pool: Mapping[str, object], field: str) -> list[str]:
    """One pool's lines: its name, what its members had to say, its keys and who has them."""
    segment = f" [{pool['Segment']}]" if pool.get("Segment") else ""
    lines = ["WAN:" if pool.get("WAN") else f"{pool.get('Datacenter')} (LAN){segment}:"]
    messages, keys = pool.get("Messages"), pool.get(field)
    if isinstance(messages, dict):
        lines += [f"  ===> {member}: {message}" for member, message in sorted(messages.items())]
    if isinstance(keys, dict):
        nodes = pool.get("NumNodes")
        lines += [f"  {key} [{count}/{nodes}]" for key, count in sorted(keys.items())]
    return lines
