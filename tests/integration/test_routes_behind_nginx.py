"""The routes with nginx in front, by the very configuration that docs/fileserver.md shows."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from tests.harness.capabilities import require
from tests.harness.eventually import SLOW, eventually
from tests.harness.front_nginx import NAME, nginx
from tests.harness.routed import Place, StandIn, carries_events
from tests.harness.tls_clients import end_transports

from callboard.pki.roles import names_for

TOKEN = {"Authorization": "Bearer t"}


class Here(AbstractResolver):
    """Finds every name at 127.0.0.1."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        """Nothing to end."""


async def until(fact: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until it is so."""
    await eventually(fact)


async def answers(session: aiohttp.ClientSession, url: str) -> None:
    """Wait until a URL is answered with 200."""

    async def asked() -> bool:
        async with session.get(url) as answer:
            return answer.status == 200

    await until(asked)


async def test_streams_and_websockets_of_programs_come_through_nginx(tmp_path: Path) -> None:
    require("linux", "nginx")
    place = Place(tmp_path)
    files = place.authority.leaf(names_for("fileserver", "", dns=[NAME])).write(tmp_path, "front")
    authorities = place.authority.write(tmp_path, "front-ca")
    hub, gateway = StandIn(place, "hub", "hub-1"), StandIn(place, "gateway", "gateway-1")
    try:
        with place.catalog(), place.door(f"-allowed-host={NAME}") as door:
            async with (
                nginx(tmp_path, f"{door.address}:1443", files, authorities) as port,
                aiohttp.ClientSession(
                    f"https://{NAME}:{port}",
                    connector=aiohttp.TCPConnector(ssl=place.client(), resolver=Here()),
                    timeout=aiohttp.ClientTimeout(total=20 * SLOW),
                ) as session,
            ):
                await hub.start()
                await gateway.start()
                await answers(session, "/hub/x")
                await answers(session, "/media/x")
                await carries_events(session, "/hub/events", hub)
                await _speaks(session, f"https://{NAME}:{port}", gateway)
                await _publishes(session, f"https://{NAME}:{port}", hub)
        await end_transports()
    finally:
        await hub.kill()
        await gateway.kill()


async def _speaks(session: aiohttp.ClientSession, origin: str, gateway: StandIn) -> None:
    async with session.ws_connect("/media/echo", origin=origin) as websocket:
        await websocket.send_str("hello")
        assert await websocket.receive_str() == "gateway-1: hello"
    await eventually(lambda: not gateway.streams)
    assert gateway.told[-1].headers["X-Forwarded-Prefix"] == "/media"


async def _publishes(session: aiohttp.ClientSession, origin: str, hub: StandIn) -> None:
    """Pages of the origin that the browser sees may write, nginx's port included."""
    for page, status in ((origin, 200), (f"https://{NAME}", 403), ("https://evil.example", 403)):
        headers = TOKEN | {"Origin": page}
        async with session.post("/hub/t/x", data=b"hello", headers=headers) as answer:
            assert answer.status == status, page
    assert hub.told[-1].body == b"hello"
