"""A gateway with both listeners of Janus' API, and a client that speaks by either."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from tests.unit.gateway.http.stand import Stand, standing

from callboard.chassis.guards import HostGuard
from callboard.chassis.lifecycle import Lifecycle
from callboard.gateway.http.bearer import Bearer
from callboard.gateway.janus.listening import JanusListeners
from callboard.gateway.janus.messages import PLUGIN
from callboard.gateway.janus.websockets import SUBPROTOCOL
from callboard.gateway.session.sessions import SessionLimits

WITHIN_S = 15.0
BY = ("long polls", "websocket")


@dataclass
class JanusStand:
    """What a test has."""

    gateway: Stand
    janus: JanusListeners

    @property
    def http(self) -> str:
        assert self.janus.http is not None
        return f"http://127.0.0.1:{self.janus.http.port}/janus"

    @property
    def websocket(self) -> str:
        assert self.janus.websockets is not None
        return f"ws://127.0.0.1:{self.janus.websockets.port}/"

    async def post(
        self, message: object, path: str = "", headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        async with self.gateway.client.post(
            self.http + path, json=message, headers=headers
        ) as answer:
            assert answer.content_type == "application/json", await answer.text()
            told: dict[str, Any] = await answer.json()
            return told


@asynccontextmanager
async def janus_standing(
    *,
    token: str = "",
    hosts: HostGuard | None = None,
    allowed_origins: Iterable[str] = (),
    limits: SessionLimits | None = None,
) -> AsyncIterator[JanusStand]:
    """A gateway, and the listeners on ports of their own."""
    async with standing(limits=limits) as gateway:
        life = Lifecycle()
        janus = JanusListeners(
            gateway.sessions,
            watching=Bearer(token) if token else None,
            hosts=hosts,
            allowed_origins=allowed_origins,
        )
        try:
            await janus.start(life, "127.0.0.1", 0, 0)
            yield JanusStand(gateway, janus)
        finally:
            await life.stop_all()


class Wire(Protocol):
    """One way to speak."""

    async def ask(self, message: dict[str, object]) -> dict[str, Any]: ...

    async def event(self) -> dict[str, Any]: ...


class PollWire:
    """By HTTP."""

    def __init__(self, stand: JanusStand) -> None:
        self._stand = stand
        self._session = 0
        self._events: list[dict[str, Any]] = []

    async def ask(self, message: dict[str, object]) -> dict[str, Any]:
        named = [message.pop(name, None) for name in ("session_id", "handle_id")]
        path = "".join(f"/{id}" for id in named if id)
        answer = await self._stand.post(message, path)
        if message["janus"] == "create":
            self._session = answer["data"]["id"]
        return answer

    async def event(self) -> dict[str, Any]:
        while not self._events:
            url = f"{self._stand.http}/{self._session}?maxev=10&rid=1"
            async with self._stand.gateway.client.get(url) as answer:
                self._events = await answer.json()
        return self._events.pop(0)


class SocketWire:
    """By WebSocket: answers and events come by one way."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._events: list[dict[str, Any]] = []

    async def ask(self, message: dict[str, object]) -> dict[str, Any]:
        await self._socket.send_json(message)
        while True:
            said = await self._read()
            if "sender" not in said or said["janus"] == "success":
                return said
            self._events.append(said)

    async def event(self) -> dict[str, Any]:
        return self._events.pop(0) if self._events else await self._read()

    async def _read(self) -> dict[str, Any]:
        said: dict[str, Any] = await self._socket.receive_json(timeout=WITHIN_S)
        return said


class JanusClient:
    """A client with one handle."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.session = 0
        self.handle = 0
        self.seen: list[dict[str, Any]] = []
        """Events, in order."""
        self._numbers = itertools.count(1)

    async def ask(self, verb: str, **more: object) -> dict[str, Any]:
        """A request of our handle, or of our session, or of none."""
        return await self._ask(verb, self.handle, more)

    async def ask_of_session(self, verb: str) -> dict[str, Any]:
        """A request of our session."""
        return await self._ask(verb, 0, {})

    async def _ask(self, verb: str, handle: int, more: dict[str, object]) -> dict[str, Any]:
        message: dict[str, object] = {"janus": verb, "transaction": f"t{next(self._numbers)}"}
        if self.session:
            message["session_id"] = self.session
        if handle:
            message["handle_id"] = handle
        transaction = message["transaction"]
        answer = await self.wire.ask({**message, **more})
        assert answer["transaction"] == transaction, answer
        return answer

    async def attach(self) -> None:
        self.session = (await self.ask("create"))["data"]["id"]
        self.handle = (await self.ask("attach", plugin=PLUGIN))["data"]["id"]

    async def message(
        self, request: str, jsep: dict[str, str] | None = None, **body: object
    ) -> dict[str, Any]:
        """A message to the plugin."""
        more: dict[str, object] = {} if jsep is None else {"jsep": jsep}
        return await self.ask("message", body={"request": request, **body}, **more)

    async def until(self, kind: str, status: str = "") -> dict[str, Any]:
        """The next event of a kind, or with a status."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                said = await self.wire.event()
                self.seen.append(said)
                result = said.get("plugindata", {}).get("data", {}).get("result", {})
                if said["janus"] == kind and status in ("", result.get("status")):
                    return said

    async def refusal(self) -> int:
        """The error of the next event."""
        said = await self.until("event")
        return int(said["plugindata"]["data"]["error_code"])


@asynccontextmanager
async def client(stand: JanusStand, by: str) -> AsyncIterator[JanusClient]:
    """An attached client."""
    if by == "long polls":
        speaking = JanusClient(PollWire(stand))
        await speaking.attach()
        yield speaking
        return
    async with stand.gateway.client.ws_connect(stand.websocket, protocols=[SUBPROTOCOL]) as socket:
        speaking = JanusClient(SocketWire(socket))
        await speaking.attach()
        yield speaking
