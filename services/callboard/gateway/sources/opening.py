"""Opens all sources that the settings name, until the program's end."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from callboard.chassis.lifecycle import Lifecycle, StartRefused
from callboard.chassis.standing import judge_standing
from callboard.gateway.live import Streams
from callboard.gateway.settings import GatewaySettings
from callboard.gateway.sources import configured
from callboard.gateway.sources.builtin import BuiltInStream
from callboard.gateway.sources.catalog import Catalog
from callboard.gateway.sources.configured import BadStreams, PortStream
from callboard.gateway.sources.control import Controls
from callboard.gateway.sources.neighbour import default_gateway
from callboard.gateway.sources.ports import PortSource
from callboard.gateway.sources.senders import Network
from callboard.gateway.sources.sidecars import Sidecars
from callboard.pki.live import LiveIdentity

log = logging.getLogger(__name__)

SIDECAR = "sidecar"


class Sources:
    """What was opened."""

    def __init__(self) -> None:
        self.ports: list[PortSource] = []
        self.built_in: BuiltInStream | None = None
        self.sidecars: Sidecars | None = None
        """None without a catalog."""

    def refused(self) -> Counter[str]:
        """Packets of RTP that ports did not take, by reason."""
        refused = Counter(self.sidecars.refused) if self.sidecars is not None else Counter[str]()
        for source in self.ports:
            refused += source.refused
        return refused


def open_sources(
    streams: Streams,
    settings: GatewaySettings,
    catalog: Catalog | None,
    identity: LiveIdentity | None,
    life: Lifecycle,
    *,
    rng: random.Random,
) -> Sources:
    """Open ports, begin to follow sidecars. Raises StartRefused."""
    sources = Sources()
    for stream in _port_streams(settings):
        source = PortSource(streams, stream, settings.bind, ssrc=rng.getrandbits(32))
        try:
            source.start()
        except (OSError, ValueError) as problem:
            raise StartRefused(f"stream {stream.description.name}: {problem}") from problem
        sources.ports.append(source)
        life.on_stop(f"ports of {stream.description.name}", source.stop)
    if settings.pattern:
        sources.built_in = BuiltInStream(streams, rng)
        life.on_stop("built-in pattern", sources.built_in.stop)
        sources.built_in.start()
    if catalog is not None:
        # RTP comes to where a lease is asked from
        here = settings.source or settings.bind
        controls = Controls(
            tls=identity.for_servers() if identity is not None else None,
            source="" if here in ("0.0.0.0", "::") else here,
        )
        judge_standing(life, identity, controls.judge)
        sources.sidecars = Sidecars(
            streams,
            lambda: catalog.instances(SIDECAR),
            controls.connect,
            bind=here,
            rng=rng,
            make_way=sources.built_in.make_way if sources.built_in is not None else _nothing,
        )
        life.on_stop("sidecars", sources.sidecars.stop)
        sources.sidecars.start()
    return sources


def _port_streams(settings: GatewaySettings) -> Iterator[PortStream]:
    script = configured.script_stream(
        settings.rtp_port, settings.rtp_audio_port, script_senders(settings)
    )
    if script is not None:
        yield script
    if settings.streams is not None:
        yield from _load(settings.streams)


def script_senders(settings: GatewaySettings) -> tuple[Network, ...]:
    """The networks that scripts of this machine come from."""
    if not settings.rtp_from_neighbour:
        return settings.rtp_from
    neighbour = default_gateway()
    if neighbour is None:
        log.warning("there is no default route: scripts may send from the other addresses only")
        return settings.rtp_from
    return (*settings.rtp_from, neighbour)


def _load(path: Path) -> tuple[PortStream, ...]:
    try:
        return configured.load(path)
    except (OSError, BadStreams) as problem:
        raise StartRefused(f"-streams={path}: {problem}") from problem


def _nothing(name: str) -> None:
    """There is no built-in pattern."""
