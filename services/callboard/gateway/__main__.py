"""Runs the gateway, or one of the verbs about it.

Its life: flags and environment are read and checked, logging is set up, `service` starts
everything, signals end it.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from callboard.chassis import program
from callboard.chassis.flags import Parsed
from callboard.gateway.settings import FLAGS, GatewaySettings, build

if TYPE_CHECKING:
    from callboard.chassis.lifecycle import Lifecycle


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard gateway`: run until a signal; 1 when it cannot start."""
    if argv and argv[0] == "doctor":
        from callboard.gateway.commands import doctor  # noqa: PLC0415 - seldom needed

        return doctor.run(argv[1:], environ)

    def settings(parsed: Parsed) -> GatewaySettings:
        return build(parsed, environ, host_name=socket.gethostname())

    return program.run("gateway", argv, FLAGS, settings, _start)


async def _start(settings: GatewaySettings, life: Lifecycle) -> None:
    from callboard.gateway.service import (  # noqa: PLC0415 - the settings are checked first
        GatewayProgram,
    )

    await GatewayProgram(settings).start(life)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], os.environ))
