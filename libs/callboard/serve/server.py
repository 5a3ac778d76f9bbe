"""The server: listens, accepts, and stops in order. Everything per connection is in `connection`.

Accepting is done here and not by `loop.create_server`, because running out of file descriptors
must neither flood the log nor stop the service, and because connections are bounded.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable

from uvicorn.config import Config
from uvicorn.server import ServerState

from callboard.chassis.logs import RateLimited
from callboard.pki.accepting import HANDSHAKE_TIMEOUT_S, HANDSHAKES_MAX, Handshaker, Handshakes
from callboard.pki.live import Judge
from callboard.serve.connection import Connection
from callboard.serve.core import TURN_S, Asgi, Core, Observer, Peer, Standing
from callboard.serve.exchange import Dispatcher
from callboard.serve.limits import Limits, affordable
from callboard.serve.timerwheel import TimerWheel

log = logging.getLogger(__name__)
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_ACCEPT_BATCH = 64
_ENDED_IN_A_TURN = 64
_LOST_S = 1.0
"""For what was cut to be told so."""
_TOO_MANY = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 57\r\nConnection: close\r\n\r\n"
    b"Your IP is issuing too many concurrent connections, slow\n"
)


class Server:
    """An HTTP/1.1 server on one host and port (port 0: any; see `port` after start).

    `handlers` are asked first, for every request; what they do not know goes to `app`. With
    `fast_lane=False` everything goes to `app`, and `handlers` give only the body limits.
    """

    def __init__(
        self,
        app: Asgi,
        *,
        handlers: Dispatcher | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        trust: str = "",
        limits: Limits | None = None,
        wheel: TimerWheel | None = None,
        fast_lane: bool = True,
        websockets: bool = False,
        observe: Observer | None = None,
    ) -> None:
        """`trust` is the trust domain whose names give clients with a certificate their roles."""
        self._app = app
        self._handlers = handlers
        self._host = host
        self._port = port
        self._handshaker: Handshaker | None = None
        self._trust = trust
        self._limits = limits or Limits()
        if ssl_context is not None:
            timeout_s = min(HANDSHAKE_TIMEOUT_S, self._limits.head_timeout_s)
            # (a client that takes the rest of its last answer slowly has as long as any reader)
            self._handshaker = Handshaker(
                ssl_context,
                timeout_s=timeout_s,
                shutdown_timeout_s=self._limits.write_timeout_s,
            )
        self._failures = RateLimited(log)
        self.handshakes_failed = 0
        """TLS connections that did not come about."""
        self.cut = 0
        """Connections whose certificate ceased to be accepted."""
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._connections_max = affordable(self._limits.connections_max, descriptors)
        self._wheel = wheel
        self._fast_lane = fast_lane
        self._websockets = websockets
        self._observe = observe
        self._core: Core | None = None
        self._listeners: list[socket.socket] = []
        self._accepting: set[int] = set()
        most = self._connections_max if ssl_context is None else HANDSHAKES_MAX
        self._adopting = Handshakes(most)
        self._clients: Counter[str] = Counter()
        self._quiet = asyncio.Event()

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._listeners[0].getsockname()[1]) if self._listeners else self._port

    @property
    def connections(self) -> int:
        """Open connections: those of HTTP, WebSockets, and detached ones."""
        return len(self._core.connections) if self._core is not None else 0

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be had."""
        loop = asyncio.get_running_loop()
        core = Core(
            loop=loop,
            app=self._app,
            handlers=self._handlers,
            limits=self._limits,
            wheel=self._wheel or TimerWheel(loop),
            fast_lane=self._fast_lane,
            observe=self._observe,
            on_lost=self._lost,
            trust=self._trust,
        )
        self._core = core
        self._state = ServerState()
        self._config = Config(
            self._app,
            http=Connection,
            ws="auto" if self._websockets else "none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
        )
        self._config.load()
        self._listeners = await _listen(self._host, self._port, self._limits.backlog)
        for listener in self._listeners:
            self._resume(listener)

    async def stop(self, drain_s: float = 5.0) -> None:
        """Stop listening, end parked requests and streams, let others finish for `drain_s`: so
        long detached connections have to say good-bye."""
        core = self._core
        if core is None:
            return
        core.stopping = True
        cut_at = core.loop.time() + drain_s
        for listener in self._listeners:
            self._pause(listener)
        await self._adopting.stop()
        await _in_slices(core.connections, lambda connection: connection.shut())
        if not await self._emptied(core, cut_at - core.loop.time()):
            log.warning("cut connections at stop", extra={"count": len(core.connections)})
            await _in_slices(core.connections, lambda connection: connection.transport.abort())
            await self._emptied(core, _LOST_S)
        tasks = list(core.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        if self._wheel is None:
            core.wheel.close()
        self._core = None

    async def _emptied(self, core: Core, timeout_s: float) -> bool:
        """Wait until no connection is left; whether that came about in time."""
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                while core.connections:
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            return not core.connections
        return True

    def judge(self, judge: Judge) -> None:
        """Cut the connections whose certificate is not accepted any more."""
        if self._core is not None:
            self.cut += self._core.judge(judge)

    # ------------------------------------------------------------------ accepting

    def _resume(self, listener: socket.socket) -> None:
        core = self._core
        if core is not None and not core.stopping and listener.fileno() not in self._accepting:
            self._accepting.add(listener.fileno())
            core.loop.add_reader(listener.fileno(), self._accept, listener)

    def _pause(self, listener: socket.socket) -> None:
        core = self._core
        if core is not None and listener.fileno() in self._accepting:
            self._accepting.discard(listener.fileno())
            core.loop.remove_reader(listener.fileno())

    def _accept(self, listener: socket.socket) -> None:
        core = self._core
        assert core is not None
        for _ in range(_ACCEPT_BATCH):
            if len(core.connections) + len(self._adopting) >= self._connections_max:
                log.warning("connection limit reached", extra={"count": len(core.connections)})
                self._pause(listener)
                if self._adopting:  # (a handshake that fails leaves no connection to be lost)
                    core.wheel.add(self._limits.accept_backoff_s, lambda: self._resume(listener))
                return
            try:
                accepted, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue
            except OSError as problem:
                if problem.errno not in _EXHAUSTED:
                    raise
                log.error("cannot accept connections", extra={"reason": str(problem)})
                self._pause(listener)
                core.wheel.add(self._limits.accept_backoff_s, lambda: self._resume(listener))
                return
            self._admit(core, accepted, (str(address[0]), int(address[1])))
            if self._adopting.full:
                return

    def _admit(self, core: Core, accepted: socket.socket, peer: Peer) -> None:
        accepted.setblocking(False)
        client = peer[0]
        per_client = self._limits.connections_per_client_max
        if per_client and self._clients[client] >= per_client:
            log.warning("too many connections of one client", extra={"client": client})
            try:
                accepted.send(_TOO_MANY)
            except OSError:
                pass
            accepted.close()
            return
        self._clients[client] += 1

        def failed(reason: str) -> None:
            self.handshakes_failed += self._handshaker is not None
            told = {"client": client, "reason": reason}
            self._failures.log(logging.INFO, client, "connection failed", told)
            self._forget(client)
            accepted.close()

        adopting = self._adopt(core, accepted, peer, failed)
        self._adopting.begin(adopting, lambda: failed("given up"))

    async def _adopt(
        self, core: Core, accepted: socket.socket, peer: Peer, failed: Callable[[str], None]
    ) -> None:
        def made() -> Connection:
            return Connection(core, self._config, self._state, peer)

        try:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._handshaker is not None:
                await self._handshaker.adopt(made, accepted)
            else:
                await core.loop.connect_accepted_socket(made, accepted)
        except OSError as problem:
            failed(str(problem))

    def _lost(self, connection: Standing) -> None:
        self._forget(connection.peer[0])
        core = self._core
        if core is None:
            return
        if not core.connections:
            self._quiet.set()
        if not core.stopping and len(core.connections) < self._connections_max:
            for listener in self._listeners:
                if listener.fileno() not in self._accepting:
                    self._resume(listener)

    def _forget(self, client: str) -> None:
        self._clients[client] -= 1
        if self._clients[client] <= 0:
            del self._clients[client]


async def _in_slices(connections: Iterable[Standing], ending: Callable[[Standing], None]) -> None:
    """End many connections; between slices the loop turns, and does what ending them takes."""
    until = time.monotonic() + TURN_S
    for number, connection in enumerate(list(connections), start=1):
        ending(connection)
        if number % _ENDED_IN_A_TURN == 0 or time.monotonic() > until:
            await asyncio.sleep(0)
            until = time.monotonic() + TURN_S


async def _listen(host: str, port: int, backlog: int) -> list[socket.socket]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listeners: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setblocking(False)
            listener.bind(address)
            listener.listen(backlog)
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners
