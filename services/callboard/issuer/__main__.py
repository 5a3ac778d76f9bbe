"""Runs the issuer, or prepares a change of its CA.

Its life: flags and environment are read and checked, logging is set up, `service` starts
everything, signals end it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from callboard.chassis import logs
from callboard.chassis.flags import FlagError, HelpRequested
from callboard.issuer.settings import FLAGS, SettingsError, build


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard issuer`: run until a signal; 1 when it cannot start."""
    if argv and argv[0] == "rotate":
        from callboard.issuer.rotate import rotate  # noqa: PLC0415 - seldom needed

        return rotate(argv[1:])
    try:
        settings = build(FLAGS.parse(argv), environ)
    except HelpRequested:
        print(FLAGS.help())
        return 0
    except (FlagError, SettingsError) as problem:
        print(f"callboard issuer: {problem}", file=sys.stderr)
        return 1
    flush = logs.configure(settings.log_level, plain=not settings.log_json)
    from callboard.chassis import lifecycle  # noqa: PLC0415 - the settings are checked first
    from callboard.issuer.service import Issuer  # noqa: PLC0415 - as above

    async def start(life: lifecycle.Lifecycle) -> None:
        await Issuer(settings).start(life)

    try:
        return lifecycle.run(start)
    finally:
        flush()


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], os.environ))
