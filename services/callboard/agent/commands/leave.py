"""Makes an agent leave its cluster and stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from callboard.agent.commands.api import Agent, UsageError, call_agent, failing, flag_set
from callboard.chassis.flags import Parsed

FLAGS = flag_set(
    "Usage: callboard leave [options]\n\n"
    "  Makes the agent leave the cluster gracefully, and shuts it down.",
    server=False,
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard leave`."""
    return call_agent(FLAGS, argv, environ, _leave)


def _leave(parsed: Parsed, agent: Agent) -> int:
    if parsed.args:
        raise UsageError(f"Too many arguments (expected 0, got {len(parsed.args)})")
    with failing("Error leaving"):
        agent.write("PUT", "agent/leave")
    print("Graceful leave complete")
    return 0
