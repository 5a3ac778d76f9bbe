"""How a viewer comes to a stream, and leaves it: WHEP, and Janus' API as janus.js uses it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any, Protocol
from urllib.parse import urljoin

import aiohttp
from benchmarks.live.viewer import Certificate, Viewer

MOUNTPOINT = 1
"""The recorded stream's, in the configuration that `servers` writes."""
KEEPALIVE_S = 25.0
"""As janus.js."""
NOT_YET_S = 10.0
"""As long a stream may take to be there, after its server has started."""


class Seat(Protocol):
    """A viewer and its place at a server."""

    viewer: Viewer

    async def leave(self) -> None:
        """Say good-bye to both."""


class WhepSeat:
    """draft-ietf-wish-whep."""

    def __init__(self, http: aiohttp.ClientSession, viewer: Viewer, place: str) -> None:
        self.viewer = viewer
        self._http = http
        self._place = place

    @classmethod
    async def take(cls, http: aiohttp.ClientSession, url: str, certificate: Certificate) -> Seat:
        """Join the stream of this endpoint."""
        viewer = await Viewer.open(certificate, controlling=True)
        loop = asyncio.get_running_loop()
        until = loop.time() + NOT_YET_S
        headers = {"Content-Type": "application/sdp"}
        while True:
            async with http.post(url, data=viewer.offer().encode(), headers=headers) as answer:
                body = await answer.text()
                if answer.status == 201:
                    place = urljoin(url, answer.headers["Location"])
                    break
                if answer.status != 409 or loop.time() > until:
                    raise ConnectionError(f"{url}: {answer.status} {body[:200]}")
            await asyncio.sleep(0.2)
        await viewer.connect(body)
        return cls(http, viewer, place)

    async def leave(self) -> None:
        """See Seat."""
        async with self._http.delete(self._place):
            pass
        await self.viewer.close()


class JanusSeat:
    """The streaming plugin, over HTTP with long polls."""

    def __init__(self, http: aiohttp.ClientSession, viewer: Viewer, url: str) -> None:
        self.viewer = viewer
        self._http = http
        self._session = self._handle = url
        self._jsep: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def take(cls, http: aiohttp.ClientSession, url: str, certificate: Certificate) -> Seat:
        """Join the stream of this server."""
        seat = cls(http, await Viewer.open(certificate, controlling=False), url)
        made = await seat._ask(url, janus="create")
        seat._session = f"{url}/{made['data']['id']}"
        seat._tasks = [asyncio.create_task(seat._poll()), asyncio.create_task(seat._keep_alive())]
        made = await seat._ask(seat._session, janus="attach", plugin="janus.plugin.streaming")
        seat._handle = f"{seat._session}/{made['data']['id']}"
        body: dict[str, object] = {"request": "watch", "id": MOUNTPOINT}
        await seat._ask(seat._handle, janus="message", body=body)
        offer = await asyncio.wait_for(seat._jsep, NOT_YET_S)
        jsep = {"type": "answer", "sdp": seat.viewer.answer(offer)}
        await seat._ask(seat._handle, janus="message", body={"request": "start"}, jsep=jsep)
        await seat.viewer.connect(offer)
        return seat

    async def leave(self) -> None:
        """See Seat."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._ask(self._session, janus="destroy")
        await self.viewer.close()

    async def _ask(self, url: str, **said: object) -> dict[str, Any]:
        said["transaction"] = f"{random.getrandbits(48):012x}"
        async with self._http.post(url, json=said) as answer:
            told: dict[str, Any] = await answer.json(content_type=None)
        if told.get("janus") not in ("success", "ack"):
            raise ConnectionError(f"{url}: {told}")
        return told

    async def _poll(self) -> None:
        while True:
            async with self._http.get(f"{self._session}?maxev=5") as answer:
                told = await answer.json(content_type=None)
            for event in told if isinstance(told, list) else [told]:
                jsep = event.get("jsep")
                if jsep is not None and not self._jsep.done():
                    self._jsep.set_result(jsep["sdp"])
                problem = event.get("plugindata", {}).get("data", {}).get("error")
                if problem and not self._jsep.done():
                    self._jsep.set_exception(ConnectionError(problem))

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(KEEPALIVE_S)
            with contextlib.suppress(aiohttp.ClientError):
                await self._ask(self._session, janus="keepalive")


async def take_seat(
    http: aiohttp.ClientSession, kind: str, url: str, certificate: Certificate
) -> Seat:
    """A seat at a server of this kind."""
    if kind == "whep":
        return await WhepSeat.take(http, url, certificate)
    return await JanusSeat.take(http, url, certificate)
