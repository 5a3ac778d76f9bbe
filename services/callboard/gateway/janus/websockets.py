"""Janus' API over WebSockets (RFC 6455), subprotocol `janus-protocol`: requests, answers and events
are text messages; identifiers of sessions and handles are in them.

The listener is aiohttp's. It is bounded by us: in connections, in the time a client has for its
first request, in what it may leave unread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque

from aiohttp import WSMsgType, web

from callboard.gateway.http.places import asks_loopback
from callboard.gateway.janus.driver import Driver
from callboard.gateway.janus.gate import Gate
from callboard.gateway.janus.messages import BYTES_MAX, Message, write
from callboard.gateway.session.asker import Asker

log = logging.getLogger(__name__)

SUBPROTOCOL = "janus-protocol"
CONNECTIONS_MAX = 2048
HEAD_TIMEOUT_S = 10.0
"""From the connection to the end of the request's head."""
PING_S = 30.0
"""Who does not answer a ping within half of it is gone."""
WRITE_TIMEOUT_S = 30.0
UNREAD_MAX = 512
"""Messages that a client has not taken: of more, it is cut."""
UNREAD_PAUSE = 64
"""With so many, no further request of it is read."""
CLOSE_S = 2.0


class WebSockets:
    """The listener. `port` 0: any; see `port` after start."""

    def __init__(
        self,
        driver: Driver,
        gate: Gate,
        host: str,
        port: int,
        *,
        connections_max: int = CONNECTIONS_MAX,
        head_timeout_s: float = HEAD_TIMEOUT_S,
    ) -> None:
        self._driver = driver
        self._gate = gate
        self._host = host
        self._port = port
        self._connections_max = connections_max
        self._head_timeout_s = head_timeout_s
        self._web = web.Server(self._handle, access_log=None, keepalive_timeout=0)
        self._server: asyncio.Server | None = None
        self._asked: set[object] = set()
        """Connections whose request has come."""
        self._links: set[_Link] = set()

    @property
    def port(self) -> int:
        """The port listened on."""
        if self._server is None:
            return self._port
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, self._host, self._port)

    async def stop(self) -> None:
        """Close all connections."""
        if self._server is None:
            return
        self._server.close()
        await asyncio.gather(*(link.close() for link in tuple(self._links)))
        await self._web.shutdown(CLOSE_S)
        self._server = None

    # ------------------------------------------------------------------ connections

    def _connection(self) -> asyncio.Protocol:
        if len(self._web.connections) >= self._connections_max:
            return _Refusing()
        protocol = self._web()
        asyncio.get_running_loop().call_later(self._head_timeout_s, self._look_at, protocol)
        return protocol

    def _look_at(self, protocol: web.RequestHandler) -> None:
        if protocol not in self._asked:
            protocol.force_close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._asked.add(request.protocol)
        try:
            return await self._serve(request)
        finally:
            self._asked.discard(request.protocol)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        refused = self._gate.refusal(headers)
        if refused:
            return _plain(403, refused)
        socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,),
            heartbeat=PING_S,
            max_msg_size=BYTES_MAX,
            compress=False,
            timeout=CLOSE_S,
        )
        if not socket.can_prepare(request):
            return _plain(426, f"a WebSocket of the subprotocol {SUBPROTOCOL} is spoken here")
        if SUBPROTOCOL not in _offered(headers):
            return _plain(400, f"Sec-WebSocket-Protocol must have {SUBPROTOCOL}")
        await socket.prepare(request)
        asker = Asker(request.remote or "", asks_loopback(headers))
        link = _Link(self._driver, socket, asker)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
            if request.transport is not None:
                # (who takes nothing would keep what is left for it, and its place)
                asyncio.get_running_loop().call_later(CLOSE_S, request.transport.abort)
        return socket


class _Link:
    """One WebSocket."""

    def __init__(self, driver: Driver, socket: web.WebSocketResponse, asker: Asker) -> None:
        self._driver = driver
        self._socket = socket
        self._asker = asker
        self._unread: deque[Message] = deque()
        self._to_write = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._reading: asyncio.Task[None] | None = None

    def send(self, message: Message) -> None:
        """Write when the client takes it. A client that leaves too much is cut."""
        if len(self._unread) >= UNREAD_MAX:
            if self._reading is not None:
                self._reading.cancel()
            return
        self._unread.append(message)
        self._to_write.set()
        if len(self._unread) >= UNREAD_PAUSE:
            self._room.clear()

    async def run(self) -> None:
        """Read and write, to the end."""
        number = self._driver.listen(self)
        self._reading = asyncio.create_task(self._read(number), name="janus: read")
        writing = asyncio.create_task(self._write(), name="janus: write")
        both = (self._reading, writing)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._driver.unlisten(number)
            for task in both:
                task.cancel()
            for problem in await asyncio.gather(*both, return_exceptions=True):
                if isinstance(problem, Exception):
                    log.error("a WebSocket of Janus' API failed", exc_info=problem)
            await self.close()

    async def close(self) -> None:
        """Say good-bye, to who still listens."""
        with contextlib.suppress(ConnectionError, TimeoutError, RuntimeError):
            async with asyncio.timeout(CLOSE_S):
                await self._socket.close()

    async def _read(self, number: int) -> None:
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                self.send(self._driver.receive_text(message.data, self._asker, number))
            elif message.type is WSMsgType.BINARY:
                self.send(self._driver.receive_text("", self._asker, number))
            await self._room.wait()

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            while await self._to_write.wait():
                self._to_write.clear()
                while self._unread:
                    async with asyncio.timeout(WRITE_TIMEOUT_S):
                        await self._socket.send_str(write(self._unread.popleft()))
                    if len(self._unread) < UNREAD_PAUSE:
                        self._room.set()


class _Refusing(asyncio.Protocol):
    """For a connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it at once."""
        log.warning("too many WebSockets of Janus' API")
        transport.close()


def _offered(headers: dict[str, str]) -> list[str]:
    return [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]


def _plain(status: int, line: str) -> web.Response:
    response = web.Response(status=status, text=line + "\n")
    response.force_close()
    return response
