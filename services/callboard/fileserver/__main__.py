"""Serves a folder over TLS, and routes to programs found in the catalog.

Its life: flags and environment are read and checked, logging is set up, `service` starts
everything, signals end it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from callboard.chassis import logs
from callboard.chassis.flags import FlagError, HelpRequested
from callboard.fileserver.credentials import Credentials, CredentialsError
from callboard.fileserver.settings import FLAGS, SettingsError, build


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard fileserver`: run until a signal; 1 when it cannot start."""
    try:
        settings = build(FLAGS.parse(argv), environ)
    except HelpRequested:
        print(FLAGS.help())
        return 0
    except (FlagError, SettingsError) as problem:
        print(f"callboard fileserver: {problem}", file=sys.stderr)
        return 1
    if settings.identity.exchange is None:
        try:
            Credentials(settings.pairs, settings.client_ca, settings.crl)
        except CredentialsError as problem:
            print(f"callboard fileserver: {problem}", file=sys.stderr)
            return 1
    flush = logs.configure(settings.log_level, plain=not settings.log_json)
    from callboard.chassis import lifecycle  # noqa: PLC0415 - the settings are checked first
    from callboard.fileserver.service import Fileserver  # noqa: PLC0415 - as above

    async def start(life: lifecycle.Lifecycle) -> None:
        await Fileserver(settings).start(life)

    try:
        return lifecycle.run(start)
    finally:
        flush()


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], os.environ))
