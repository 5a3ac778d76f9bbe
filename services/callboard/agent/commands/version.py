"""Prints the version."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from callboard.agent.commands.api import Failed, call
from callboard.catalog.version import CONSUL_VERSION, VERSION
from callboard.chassis import flags
from callboard.chassis.flags import FlagSet, Parsed

FLAGS = FlagSet(
    "Usage: callboard version [options]\n\n  Prints the version, and whose interface it speaks.",
    [flags.text("format", "pretty or json", "pretty")],
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard version`."""
    return call(FLAGS, argv, _version)


def _version(parsed: Parsed) -> int:
    form = parsed.text("format")
    if form == "json":
        print(json.dumps({"Version": VERSION, "ConsulVersion": CONSUL_VERSION}, indent=4))
        return 0
    if form != "pretty":
        raise Failed(f"Unknown format: {form}")
    print(f"Callboard v{VERSION}")
    print(f"Speaks the HTTP API and DNS of Consul {CONSUL_VERSION}")
    return 0
