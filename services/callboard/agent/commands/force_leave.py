"""Makes a failed member count as left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from callboard.agent.commands.api import Agent, UsageError, call_agent, failing, flag_set
from callboard.chassis import flags
from callboard.chassis.flags import Parsed

FLAGS = flag_set(
    "Usage: callboard force-leave [options] name\n\n"
    "  Makes a failed member count as left: it leaves the catalog at once. A member that still\n"
    "  lives joins again by itself.",
    flags.switch("prune", "forget the member altogether"),
    flags.switch("wan", "in the pool between datacenters"),
    server=False,
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard force-leave`."""
    return call_agent(FLAGS, argv, environ, _force_leave)


def _force_leave(parsed: Parsed, agent: Agent) -> int:
    if len(parsed.args) != 1:
        raise UsageError("A single node name must be specified to force leave.")
    query = [(name, "1") for name in ("prune", "wan") if parsed.switch(name)]
    with failing("Error force leaving"):
        agent.write("PUT", f"agent/force-leave/{parsed.args[0]}", query)
    return 0
