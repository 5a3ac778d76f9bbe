"""Runs the DNS front.

Its life: flags and environment are read and checked, logging is set up, `service` starts
everything, signals end it.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from callboard.chassis import program
from callboard.chassis.flags import Parsed
from callboard.nameserver.settings import FLAGS, NameserverSettings, build

if TYPE_CHECKING:
    from callboard.chassis.lifecycle import Lifecycle

COLLECTOR_THRESHOLDS = (50_000, 20, 100)
"""Of the garbage collector: at Python's own, taking 100,000 instances and checks is three times as
slow and stops the loop for 200 ms, to find nothing (the catalog has no cycles)."""


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard nameserver`: run until a signal; 1 when it cannot start."""

    def settings(parsed: Parsed) -> NameserverSettings:
        return build(parsed, environ, host_name=socket.gethostname())

    return program.run("nameserver", argv, FLAGS, settings, _start)


async def _start(settings: NameserverSettings, life: Lifecycle) -> None:
    from callboard.chassis.identity import open_identity  # noqa: PLC0415 - checked first
    from callboard.chassis.metrics import Metrics  # noqa: PLC0415 - as above
    from callboard.chassis.registration import own_address  # noqa: PLC0415 - as above
    from callboard.nameserver.service import Nameserver  # noqa: PLC0415 - as above

    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    metrics = Metrics()
    address = settings.advertise or own_address(settings.bind)
    identity = await open_identity(
        settings.identity, settings.node, life, metrics, [address] if address else []
    )
    await Nameserver(settings, metrics=metrics, identity=identity).start(life)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], os.environ))
