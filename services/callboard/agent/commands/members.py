"""Lists the members of a cluster, as the agent's gossip sees them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from callboard.agent.commands.api import (
    Agent,
    Failed,
    call_agent,
    columns,
    failing,
    flag_set,
    rows_of,
    texts_of,
)
from callboard.chassis import flags
from callboard.chassis.flags import Parsed

FLAGS = flag_set(
    "Usage: callboard members [options]\n\n  Lists the members of the cluster.",
    flags.switch("detailed", "show every tag"),
    flags.switch("wan", "ask the pool between datacenters"),
    flags.text("status", "regular expression: show members whose status it matches", ".*"),
    flags.text("segment", "accepted for Consul's sake; agents know of no segments", "_all"),
    server=False,
)

STATUSES = ("none", "alive", "leaving", "left", "failed")
"""serf's, by number."""

NO_MATCH_EXIT = 2

HEADINGS = ("Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Segment")


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard members`."""
    return call_agent(FLAGS, argv, environ, _members)


def _members(parsed: Parsed, agent: Agent) -> int:
    try:
        status = re.compile(parsed.text("status"))
    except re.error as problem:
        raise Failed(f"Failed to compile status regexp: {problem}") from problem
    query = [("segment", parsed.text("segment"))]
    if parsed.switch("wan"):
        query = [("wan", "1")]
    with failing("Error retrieving members"):
        members = rows_of(agent.json("agent/members", query))
    shown = [member for member in members if status.search(_status(member))]
    if not shown:
        return NO_MATCH_EXIT
    shown.sort(key=lambda member: (_segment(member), str(member.get("Name"))))
    print(_detailed(shown) if parsed.switch("detailed") else _standard(shown))
    return 0


def _standard(members: Sequence[Mapping[str, object]]) -> str:
    rows = [HEADINGS]
    for member in members:
        tags = texts_of(member.get("Tags"))
        kind = {"consul": "server", "node": "client"}.get(tags.get("role", ""), "unknown")
        build = tags.get("build", "").partition(":")[0] or "< 0.3"
        rows.append(
            (
                *(str(member.get("Name")), _address(member), _status(member), kind, build),
                *(tags.get("vsn", ""), tags.get("dc", ""), _segment(member)),
            )
        )
    return columns(rows)


def _detailed(members: Sequence[Mapping[str, object]]) -> str:
    rows = [("Node", "Address", "Status", "Tags")]
    for member in members:
        tags = texts_of(member.get("Tags")) | {"segment": _segment(member)}
        words = ",".join(f"{key}={value}" for key, value in sorted(tags.items()))
        rows.append((str(member.get("Name")), _address(member), _status(member), words))
    return columns(rows)


def _address(member: Mapping[str, object]) -> str:
    host = str(member.get("Addr"))
    return f"[{host}]:{member.get('Port')}" if ":" in host else f"{host}:{member.get('Port')}"


def _status(member: Mapping[str, object]) -> str:
    number = member.get("Status")
    known = isinstance(number, int) and 0 <= number < len(STATUSES)
    return STATUSES[number] if known and isinstance(number, int) else "unknown"


def _segment(member: Mapping[str, object]) -> str:
    tags = texts_of(member.get("Tags"))
    if tags.get("role") == "consul":
        return "<all>"
    return tags.get("segment") or "<default>"
