"""Publish an event to a topic."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from callboard.chassis import flags
from callboard.chassis.flags import FlagSet, Parsed
from callboard.chassis.verbs import Failed, UsageError, call
from callboard.events.synchronous import publish
from callboard.hub.commands.asking import HUB_FLAGS, asking, failing

DATA_BYTES_MAX = 16 << 20
"""Read from the standard input; a hub takes less."""

FLAGS = FlagSet(
    """Usage: callboard pub [options] TOPIC [DATA|-]

  Publish one event, and print its id. `-`, or no DATA, reads the standard input to its end; the
  line break at its end is not part of the event. `builds` is the topic /builds.

  $ callboard pub builds 'number 7 is done'
  $ git log -1 | callboard pub -type commit builds -""",
    [
        flags.text("id", "Id of the event. Default: its place in the hub's history."),
        flags.text("type", "Type of the event. Default: message."),
        flags.switch("private", "Show it only to those whose token allows it."),
        flags.text("idempotency-key", "A second event with the same key is the first one. Default: "
                   "one that is new."),
        *HUB_FLAGS,
    ],
)  # fmt: skip


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard pub`."""
    return call(FLAGS, argv, lambda parsed: _publish(parsed, environ))


def _publish(parsed: Parsed, environ: Mapping[str, str]) -> int:
    if len(parsed.args) not in (1, 2):
        raise UsageError("which topic, which data? callboard pub TOPIC [DATA|-]")
    asked = asking(parsed, environ)
    topic, data = parsed.args[0], parsed.args[1] if len(parsed.args) == 2 else "-"
    with failing("Error publishing"):
        id = publish(
            topic,
            _standard_input() if data == "-" else data,
            hub=asked.hub,
            token=asked.token,
            tls=asked.tls,
            id=parsed.text("id"),
            type=parsed.text("type"),
            private=parsed.switch("private"),
            idempotency_key=parsed.text("idempotency-key"),
        )
    print(id)
    return 0


def _standard_input() -> bytes:
    data = sys.stdin.buffer.read(DATA_BYTES_MAX + 1)
    if len(data) > DATA_BYTES_MAX:
        raise Failed(f"Error publishing: an event has at most {DATA_BYTES_MAX} bytes")
    return data.removesuffix(b"\n").removesuffix(b"\r")
