"""Connections that become WebSockets: uvicorn's protocol has them, the server counts on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from callboard.serve.core import Core, Peer
from callboard.serve.peers import Shown
from callboard.serve.wire import tokens

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope

    from callboard.serve.connection import Connection
    from callboard.serve.lane import Exchange

log = logging.getLogger(__name__)


class WebSocketProtocol(Protocol):
    """What all of uvicorn's have."""

    connection_lost: Callable[[Exception | None], None]

    def data_received(self, data: bytes) -> None: ...

    def shutdown(self) -> None: ...


class WebSocket:
    """A connection that speaks WebSocket by now; it counts until it is lost."""

    __slots__ = ("_core", "_lost", "_protocol", "peer", "shown", "transport")

    def __init__(
        self, core: Core, transport: asyncio.Transport, peer: Peer, shown: Shown | None
    ) -> None:
        self._core = core
        self.transport = transport
        self.peer = peer
        self.shown = shown
        self._protocol = cast("WebSocketProtocol", transport.get_protocol())
        self._lost = self._protocol.connection_lost
        self._protocol.connection_lost = self._connection_lost
        core.connections.add(self)

    def shut(self) -> None:
        """See Standing."""
        try:
            self._protocol.shutdown()
        except Exception:
            log.exception("WebSocket failed", extra={"client": self.peer[0]})
            self.transport.abort()

    def _connection_lost(self, exc: Exception | None) -> None:
        self._core.left(self)
        self._lost(exc)


def wants_websocket(connection: Connection, exchange: Exchange) -> bool:
    """Whether a request asks for a WebSocket, and the server has them."""
    headers = exchange.headers
    return (
        connection.ws_protocol_class is not None
        and "upgrade" in tokens(headers.get("connection", ""))
        and headers.get("upgrade", "").lower() == "websocket"
    )


def to_websocket(connection: Connection, exchange: Exchange, target: bytes, rest: bytes) -> None:
    """Hand a connection over; `rest` is what the client sent behind its request."""
    transport, shown = connection.transport, connection.shown
    connection.url = target
    raw = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in exchange.headers.items()]
    connection.scope = cast("HTTPScope", {"method": exchange.method, "headers": raw})
    connection.app_state = {"peer": shown.peer if shown is not None else None}
    connection.handle_websocket_upgrade()
    connection.release()
    WebSocket(connection.core, transport, connection.peer, shown)
    if rest:
        cast("WebSocketProtocol", transport.get_protocol()).data_received(rest)
