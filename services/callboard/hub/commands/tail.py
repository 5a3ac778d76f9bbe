"""Print the last events of a topic, and those that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from callboard.chassis import flags
from callboard.chassis.flags import FlagSet, Parsed
from callboard.chassis.verbs import UsageError, call
from callboard.hub.commands.sub import STREAM_FLAGS, follow

FLAGS = FlagSet(
    """Usage: callboard tail [options] TOPIC...

  Print the last events of topics, then those that follow, as `callboard sub` does.

  $ callboard tail -n 100 builds""",
    [flags.number("n", "How many events of the past.", 10), *STREAM_FLAGS],
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard tail`."""
    return call(FLAGS, argv, lambda parsed: _tail(parsed, environ))


def _tail(parsed: Parsed, environ: Mapping[str, str]) -> int:
    if not parsed.args:
        raise UsageError("which topic? callboard tail TOPIC")
    return follow(parsed, environ, last=parsed.number("n"))
