"""The two listeners of Janus' API, opened and closed together with what they share."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

from callboard.chassis.guards import HostGuard
from callboard.chassis.lifecycle import Lifecycle
from callboard.chassis.opening import started
from callboard.gateway.http.bearer import Bearer
from callboard.gateway.janus.driver import Driver
from callboard.gateway.janus.gate import Gate
from callboard.gateway.janus.long_polls import LongPolls
from callboard.gateway.janus.websockets import WebSockets
from callboard.gateway.session.sessions import Sessions
from callboard.serve import Limits, Server, TimerWheel
from callboard.serve.core import Message

log = logging.getLogger(__name__)

Send = Callable[[Message], Awaitable[None]]

CONNECTIONS_MAX = 4096
"""Of HTTP: a client has one that polls, and one that asks."""
DRAIN_S = 2.0


class JanusListeners:
    """See the module. `http` and `websockets` are there after `start` if their ports are."""

    def __init__(
        self,
        sessions: Sessions,
        *,
        watching: Bearer | None = None,
        hosts: HostGuard | None = None,
        allowed_origins: Iterable[str] = (),
        wheel: TimerWheel | None = None,
    ) -> None:
        """`watching` judges the `token` of requests, as it does that of WHEP's viewers."""
        self.driver = Driver(sessions, authorise=_judge(watching))
        self.http: Server | None = None
        self.websockets: WebSockets | None = None
        self._gate = Gate(hosts, allowed_origins)
        self._wheel = wheel

    async def start(self, life: Lifecycle, host: str, http_port: int, ws_port: int) -> None:
        """Listen where a port is not -1; `life` stops it. Raises StartRefused."""
        if http_port < 0 and ws_port < 0:
            return
        self.driver.start(life)
        if http_port >= 0:
            await self._start_http(life, host, http_port)
        if ws_port >= 0:
            await self._start_websockets(life, host, ws_port)

    async def _start_http(self, life: Lifecycle, host: str, port: int) -> None:
        polls = LongPolls(self.driver, self._gate)
        server = Server(
            _nothing,
            handlers=polls.routes(),
            host=host,
            port=port,
            limits=Limits(connections_max=CONNECTIONS_MAX),
            wheel=self._wheel,
        )
        await started(server.start, f"{host}:{port}")
        self.http = server
        life.on_stop("janus over http", lambda: server.stop(DRAIN_S), deadline_s=DRAIN_S + 2)
        log.info("serving Janus' API", extra={"url": f"http://{host}:{server.port}/janus"})

    async def _start_websockets(self, life: Lifecycle, host: str, port: int) -> None:
        server = WebSockets(self.driver, self._gate, host, port)
        await started(server.start, f"{host}:{port}")
        self.websockets = server
        life.on_stop("janus over websockets", server.stop, deadline_s=2 * DRAIN_S + 2)
        log.info("serving Janus' API", extra={"url": f"ws://{host}:{server.port}/"})


async def _nothing(scope: Message, receive: object, send: Send) -> None:
    """Behind routes that answer every path."""
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _judge(watching: Bearer | None) -> Callable[[str], bool] | None:
    if watching is None:
        return None
    return lambda token: watching.refusal({"authorization": f"Bearer {token}"}) is None
