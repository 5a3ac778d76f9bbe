"""Tells an agent to join a cluster."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from callboard.agent.commands.api import Agent, Failed, UsageError, call_agent, flag_set
from callboard.chassis import flags
from callboard.chassis.flags import Parsed
from callboard.client.errors import ClientError

FLAGS = flag_set(
    "Usage: callboard join [options] address ...\n\n"
    "  Tells the agent to join the cluster of which one of the addresses is a member.",
    flags.switch("wan", "join the pool between datacenters"),
    server=False,
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard join`."""
    return call_agent(FLAGS, argv, environ, _join)


def _join(parsed: Parsed, agent: Agent) -> int:
    if not parsed.args:
        raise UsageError("At least one address to join must be specified.")
    query = [("wan", "1")] if parsed.switch("wan") else []
    joined = 0
    for address in parsed.args:
        try:
            agent.write("PUT", f"agent/join/{address}", query)
            joined += 1
        except ClientError as problem:
            print(f"Error joining address '{address}': {problem}", file=sys.stderr)
    if not joined:
        raise Failed("Failed to join any nodes.")
    print(f"Successfully joined cluster by contacting {joined} nodes.")
    return 0
