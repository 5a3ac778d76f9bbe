"""Serves a folder over TLS, and routes to programs found in the catalog.

Its life: flags and environment are read and checked, logging is set up, `service` starts
everything, signals end it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from callboard.chassis import program
from callboard.chassis.flags import Parsed
from callboard.chassis.settings import SettingsError
from callboard.fileserver.credentials import Credentials, CredentialsError
from callboard.fileserver.settings import FLAGS, FileserverSettings, build

if TYPE_CHECKING:
    from callboard.chassis.lifecycle import Lifecycle


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard fileserver`: run until a signal; 1 when it cannot start."""
    return program.run("fileserver", argv, FLAGS, lambda parsed: _checked(parsed, environ), _start)


def _checked(parsed: Parsed, environ: Mapping[str, str]) -> FileserverSettings:
    """Settings whose certificates load, where no issuer is to give them first."""
    settings = build(parsed, environ)
    if settings.identity.exchange is None:
        try:
            Credentials(settings.pairs, settings.client_ca, settings.crl)
        except CredentialsError as problem:
            raise SettingsError(str(problem)) from None
    return settings


async def _start(settings: FileserverSettings, life: Lifecycle) -> None:
    from callboard.fileserver.service import (  # noqa: PLC0415 - the settings are checked first
        Fileserver,
    )

    await Fileserver(settings).start(life)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], os.environ))
