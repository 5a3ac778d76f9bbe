"""Runs the sidecar, under Debian's Python: `/usr/bin/python3 -m callboard.sidecar`.

It needs the standard library and gi, and of our libraries those that need no more. Health first (it
says why we are not ready), then the streams, the control port, last the registration: who finds us
may take a lease. The stop is the reverse.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence

from callboard.chassis import logs
from callboard.chassis.flags import FlagError, HelpRequested
from callboard.chassis.lifecycle import StartRefused
from callboard.chassis.settings import SettingsError
from callboard.sidecar.configured import DEFAULT, BadStreams, Source, load
from callboard.sidecar.registration import NAME, Registration, own_address
from callboard.sidecar.settings import FLAGS, SidecarSettings, build

log = logging.getLogger(__name__)

HTTPS_META = "https_port"
"""Service meta by which a program tells its port of mutual TLS."""


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard.sidecar`: run until a signal; 1 when it cannot start."""
    try:
        settings = build(FLAGS.parse(argv), environ, host_name=socket.gethostname())
    except HelpRequested:
        print(FLAGS.help())
        return 0
    except (FlagError, SettingsError) as problem:
        print(f"callboard sidecar: {problem}", file=sys.stderr)
        return 1
    flush = logs.configure(settings.log_level, plain=not settings.log_json)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        with contextlib.ExitStack() as life:
            _start(settings, life)
            ended.wait()
            log.info("stops")
    except StartRefused as problem:
        log.error("cannot start: %s", problem)
        return 1
    finally:
        flush()
    return 0


def _start(settings: SidecarSettings, life: contextlib.ExitStack) -> None:
    """Start everything; `life` ends it. Raises StartRefused."""
    try:
        from callboard.sidecar.pipeline import running  # noqa: PLC0415 - gi may not be there
    except (ImportError, ValueError) as problem:
        raise StartRefused(
            f"GStreamer for Python is wanted (python3-gi, gir1.2-gst-plugins-base-1.0): {problem}"
        ) from problem
    from callboard.sidecar.control import ControlServer  # noqa: PLC0415 - needs gi as well
    from callboard.sidecar.health import HealthServer  # noqa: PLC0415 - the same
    from callboard.sidecar.identity import open_identity  # noqa: PLC0415 - after the settings
    from callboard.sidecar.supervisor import Supervisor  # noqa: PLC0415 - needs gi as well

    try:
        running.start()
    except running.BadPipeline as problem:
        raise StartRefused(str(problem)) from problem
    supervisor = Supervisor(_sources(settings), settings.bind)
    identity = open_identity(settings.identity, settings.node)
    signal.signal(signal.SIGHUP, lambda *_: identity.look() if identity is not None else None)
    tls = identity.live.for_clients() if identity is not None else None
    try:
        control = ControlServer(
            settings.bind, settings.port, supervisor, tls=tls, trust=settings.trust_domain
        )
    except OSError as problem:
        raise StartRefused(f"{settings.bind}:{settings.port}: {problem}") from problem
    registration = None
    if settings.catalog:
        registration = Registration(
            settings.catalog,
            id=f"{NAME}-{settings.node}",
            port=control.port,
            address=settings.advertise or own_address(settings.bind),
            meta={HTTPS_META: str(control.port)} if tls is not None else {},
            token=settings.token,
            source=settings.source,
            tls=identity.live.for_servers() if identity is not None else None,
        )
    if settings.health is not None:
        try:
            health = HealthServer(*settings.health, supervisor, registration, identity)
        except OSError as problem:
            raise StartRefused(f"-health: {problem}") from problem
        life.callback(health.stop)
        health.start("health")
        log.info("health listens", extra={"address": settings.health[0], "port": health.port})
    supervisor.start()
    life.callback(supervisor.stop)
    control.start("control")
    life.callback(control.stop)
    log.info("leases at", extra={"address": settings.bind, "port": control.port})
    if registration is not None:
        registration.start()
        life.callback(registration.stop)


def _sources(settings: SidecarSettings) -> tuple[Source, ...]:
    if settings.streams is None:
        return DEFAULT
    try:
        return load(settings.streams)
    except (OSError, BadStreams) as problem:
        raise StartRefused(f"-streams={settings.streams}: {problem}") from problem


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], os.environ))
