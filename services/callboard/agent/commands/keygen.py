"""Makes a new key for gossip."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence

from callboard.agent.commands.api import call
from callboard.chassis.flags import FlagSet, Parsed

KEY_BYTES = 32

FLAGS = FlagSet(
    "Usage: callboard keygen\n\n"
    "  Makes a new key for encrypting gossip: the value of -encrypt, the same on all agents.",
    [],
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard keygen`."""
    return call(FLAGS, argv, _keygen)


def _keygen(_parsed: Parsed) -> int:
    print(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode())
    return 0
