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

from callboard.chassis import logs
from callboard.chassis.flags import FlagError, HelpRequested
from callboard.nameserver.settings import FLAGS, SettingsError, build

COLLECTOR_THRESHOLDS = (50_000, 20, 100)
"""Of the garbage collector: at Python's own, taking 100,000 instances and checks is three times as
slow and stops the loop for 200 ms, to find nothing (the catalog has no cycles)."""


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard nameserver`: run until a signal; 1 when it cannot start."""
    try:
        settings = build(FLAGS.parse(argv), environ, host_name=socket.gethostname())
    except HelpRequested:
        print(FLAGS.help())
        return 0
    except (FlagError, SettingsError) as problem:
        print(f"callboard nameserver: {problem}", file=sys.stderr)
        return 1
    flush = logs.configure(settings.log_level, plain=not settings.log_json)
    from callboard.chassis import lifecycle  # noqa: PLC0415 - the settings are checked first
    from callboard.chassis.identity import open_identity  # noqa: PLC0415 - as above
    from callboard.chassis.metrics import Metrics  # noqa: PLC0415 - as above
    from callboard.chassis.registration import own_address  # noqa: PLC0415 - as above
    from callboard.nameserver.service import Nameserver  # noqa: PLC0415 - as above

    gc.set_threshold(*COLLECTOR_THRESHOLDS)

    async def start(life: lifecycle.Lifecycle) -> None:
        metrics = Metrics()
        address = settings.advertise or own_address(settings.bind)
        identity = await open_identity(
            settings.identity, settings.node, life, metrics, [address] if address else []
        )
        await Nameserver(settings, metrics=metrics, identity=identity).start(life)

    try:
        return lifecycle.run(start)
    finally:
        flush()


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], os.environ))
