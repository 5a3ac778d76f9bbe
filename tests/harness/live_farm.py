"""Live video on one machine: an agent, a gateway with its own pattern, a file server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from tests.harness.asking import http
from tests.harness.eventually import eventually_sync
from tests.harness.gateway_process import GatewayProcess
from tests.harness.playing import WITHIN_S
from tests.harness.routed import Door, Place, identity

TITLE = "Opus/VP8 live stream"
WATCH = "Watch or Listen"


@dataclass(frozen=True, slots=True)
class LiveFarm:
    """What runs."""

    door: Door
    gateway: GatewayProcess
    place: Place

    @property
    def live(self) -> str:
        """The page."""
        return f"{self.door.url}/live/"

    def sessions(self) -> list[dict[str, object]]:
        """What the gateway tells of who watches."""
        told: list[dict[str, object]] = []
        for name in self.gateway.streams():
            answer = http("GET", f"{self.gateway.url}/streams/{name}")
            told += answer.json()["sessions"]
        return told


@contextmanager
def live_farm(place: Place, *flags: str, outside: str = "") -> Iterator[LiveFarm]:
    """Run them until the block's end, by mutual TLS; `flags` are the gateway's.

    `outside`: an address of this machine that is no loopback, where page and media are reached.
    """
    files = place.files("gateway", "gateway-1")
    with ExitStack() as stack:
        stack.enter_context(place.catalog())
        told = [f"-catalog={place.agent}", "-pattern", *identity(files), *flags]
        where: list[str] = []
        if outside:
            told += [f"-media-bind={outside}", f"-advertise-ips={outside}"]
            where = [f"-bind={outside}"]
        folder, host = place.folder / "gateway", f"{place.network}.8"
        gateway = stack.enter_context(GatewayProcess(folder, *told, host=host))
        door = stack.enter_context(place.door("-page", *where, secure=True))
        health = f"http://{place.agent}:8500/v1/health/service/gateway?passing"
        eventually_sync(lambda: http("GET", health).json(), WITHIN_S)
        yield LiveFarm(replace(door, address=outside) if outside else door, gateway, place)
