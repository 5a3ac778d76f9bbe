"""Runs the issuer, or prepares a change of its CA.

Its life: flags and environment are read and checked, logging is set up, `service` starts
everything, signals end it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from callboard.chassis import program
from callboard.issuer.settings import FLAGS, IssuerSettings, build

if TYPE_CHECKING:
    from callboard.chassis.lifecycle import Lifecycle


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard issuer`: run until a signal; 1 when it cannot start."""
    if argv and argv[0] == "rotate":
        from callboard.issuer.rotate import rotate  # noqa: PLC0415 - seldom needed

        return rotate(argv[1:])
    return program.run("issuer", argv, FLAGS, lambda parsed: build(parsed, environ), _start)


async def _start(settings: IssuerSettings, life: Lifecycle) -> None:
    from callboard.issuer.service import Issuer  # noqa: PLC0415 - the settings are checked first

    await Issuer(settings).start(life)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], os.environ))
