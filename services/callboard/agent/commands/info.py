"""Shows what an agent says of itself, for finding faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from callboard.agent.commands.api import Agent, call_agent, failing, flag_set, texts_of
from callboard.chassis.flags import Parsed

FLAGS = flag_set(
    "Usage: callboard info [options]\n\n  Shows the agent's state, by component.", server=False
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard info`."""
    return call_agent(FLAGS, argv, environ, _info)


def _info(parsed: Parsed, agent: Agent) -> int:
    with failing("Error querying agent"):
        answer = agent.json("agent/self")
    stats = answer.get("Stats") if isinstance(answer, dict) else None
    for component, values in sorted(stats.items() if isinstance(stats, dict) else ()):
        print(f"{component}:")
        for name, value in sorted(texts_of(values).items()):
            print(f"\t{name} = {value}")
    return 0
