"""Makes an agent read its configuration files again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from callboard.agent.commands.api import Agent, UsageError, call_agent, failing, flag_set
from callboard.chassis.flags import Parsed

FLAGS = flag_set(
    "Usage: callboard reload [options]\n\n"
    "  Makes the agent read its configuration again: services, checks, log level. SIGHUP does\n"
    "  the same.",
    server=False,
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard reload`."""
    return call_agent(FLAGS, argv, environ, _reload)


def _reload(parsed: Parsed, agent: Agent) -> int:
    if parsed.args:
        raise UsageError(f"Too many arguments (expected 0, got {len(parsed.args)})")
    with failing("Error reloading"):
        agent.write("PUT", "agent/reload")
    print("Configuration reload triggered")
    return 0
