"""Makes a new key for gossip."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence

from callboard.agent.commands.api import Failed, call
from callboard.chassis import flags
from callboard.chassis.flags import FlagSet, Parsed
from callboard.files import create

KEY_BYTES = 32

FLAGS = FlagSet(
    "Usage: callboard keygen [options]\n\n"
    "  Makes a new key for encrypting gossip: the value of -encrypt, the same on all agents.",
    [flags.text("out", "new file to write it to, for its owner alone, instead of showing it")],
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard keygen`."""
    return call(FLAGS, argv, _keygen)


def _keygen(parsed: Parsed) -> int:
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    if not parsed.given("out"):
        print(key)
        return 0
    path = parsed.text("out")
    try:
        with create(path, "x") as file:
            file.write(key + "\n")
    except FileExistsError as problem:
        raise Failed(f"{path} is there already; a key is never overwritten") from problem
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise Failed(f"Error writing the key to {path!r}: {reason}") from problem
    return 0
