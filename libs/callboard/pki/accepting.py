"""Accepting TLS connections on asyncio's loops, stock and uvloop.

`loop.create_server(ssl=…)` keeps quiet about a handshake that fails, bounds neither their number
nor (well) their time, and never sends the alert that would tell the other side why. Here each
accepted socket is shaken hands with under a deadline, a failure is told in words, and its alert
goes out before the connection ends (RFC 8446, 6.2; lingering, for a reset would overtake it).
Plain bytes, silence and floods cost a slot for a while and nothing else.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from callboard.pki.contexts import check_resumed
from callboard.pki.reasons import explain

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 5.0
SHUTDOWN_TIMEOUT_S = 2.0
"""For the other side to take what is left and to say farewell (close_notify). The loops do not tell
how much is left: it is one time for both, from `close` on."""
LINGER_S = 1.0
"""For the other side to take the alert and hang up."""
LINGER_BYTES_MAX = 256 << 10
HANDSHAKES_MAX = 64
"""At once. One more ends the oldest: an honest one takes milliseconds, so the oldest is none."""
ACCEPT_BATCH = 16
"""In one turn of the loop: each costs a signature."""
BACKLOG = 256
EXHAUSTED_PAUSE_S = 0.5
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Factory = Callable[[], asyncio.BaseProtocol]


class HandshakeFailed(ConnectionError):
    """No TLS connection came about; the text says why, from our end."""


class _Telling(ssl.SSLObject):
    """One end of a handshake that keeps what a failure would still have sent: the loops drop it.

    Whoever resumed a session is looked at here, before its protocol gets a byte.
    """

    outgoing: ssl.MemoryBIO
    alert: bytes

    def do_handshake(self) -> None:
        """As SSLObject's."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            self.alert = self.outgoing.read()
            raise
        check_resumed(self)


class _Witness(ssl.SSLContext):
    """A context of one handshake at a time, which knows the end that it made."""

    behind: ssl.SSLContext
    end: _Telling | None

    def __new__(cls, behind: ssl.SSLContext) -> _Witness:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        made.behind = behind
        made.end = None
        return made

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **kwargs: Any
    ) -> ssl.SSLObject:
        """As SSLContext's."""
        made: Any = self.behind.wrap_bio(incoming, outgoing, *args, **kwargs)
        made.__class__ = _Telling  # (SSLObject's constructor is nobody's to call)
        made.outgoing, made.alert = outgoing, b""
        made.write = made._sslobj.write  # (SSLObject.write calls that and nothing else)
        self.end = made
        return self.end


class Handshaker:
    """Turns accepted sockets into TLS connections by one context, which may be a LiveContext."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        timeout_s: float = HANDSHAKE_TIMEOUT_S,
        shutdown_timeout_s: float = SHUTDOWN_TIMEOUT_S,
    ) -> None:
        self._context = context
        self._timeout_s = timeout_s
        self._shutdown_timeout_s = shutdown_timeout_s
        self._idle: list[_Witness] = []
        # (a context takes a quarter of a millisecond to make: they are used again)

    async def adopt(self, factory: Factory, accepted: socket.socket) -> None:
        """Shake hands, then let a protocol of `factory` have the connection.

        Raises HandshakeFailed; the socket is closed then.
        """
        loop = asyncio.get_running_loop()
        accepted.setblocking(False)
        try:
            kept = accepted.dup()
        except OSError as problem:
            accepted.close()
            raise HandshakeFailed(str(problem)) from problem
        witness = self._idle.pop() if self._idle else _Witness(self._context)
        try:
            await loop.connect_accepted_socket(
                factory,
                accepted,
                ssl=witness,
                ssl_handshake_timeout=self._timeout_s,
                ssl_shutdown_timeout=self._shutdown_timeout_s,
            )
        except (OSError, ValueError) as problem:
            accepted.close()
            await _send_alert(kept, witness.end.alert if witness.end is not None else b"")
            raise HandshakeFailed(explain(problem)) from problem
        finally:
            kept.close()
            witness.end = None
            self._idle.append(witness)


class Handshakes:
    """Handshakes under way, the oldest first, and no more than so many."""

    def __init__(self, most: int = HANDSHAKES_MAX) -> None:
        self._most = most
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._ending: set[asyncio.Task[None]] = set()
        """Cancelled to make room; that takes a turn of the loop or two."""

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def full(self) -> bool:
        """Whether the next ends the oldest: then let the loop turn before it is accepted."""
        return len(self._tasks) >= self._most

    def begin(self, shaking: Coroutine[Any, Any, None], given_up: Callable[[], None]) -> None:
        """One more. `given_up` is told when it is cancelled, be it before it began."""
        if self.full:
            oldest = next(iter(self._tasks))
            del self._tasks[oldest]
            self._ending.add(oldest)
            oldest.cancel()

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.pop(task, None)
            self._ending.discard(task)
            if task.cancelled():
                given_up()

        task = asyncio.get_running_loop().create_task(shaking)
        self._tasks[task] = None
        task.add_done_callback(ended)

    async def stop(self) -> None:
        """Give all up."""
        tasks = [*self._tasks, *self._ending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class TlsListener:
    """One listening socket; its connections are TLS before their protocol sees them."""

    def __init__(
        self,
        factory: Factory,
        context: ssl.SSLContext,
        *,
        timeout_s: float = HANDSHAKE_TIMEOUT_S,
        handshakes_max: int = HANDSHAKES_MAX,
        failed: Callable[[str, str], None] = lambda address, reason: None,
    ) -> None:
        """`failed` is told the address ("ip:port") and why, for every handshake that fails."""
        self._factory = factory
        self._handshaker = Handshaker(context, timeout_s=timeout_s)
        self._handshakes = Handshakes(handshakes_max)
        self._failed = failed
        self._socket: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen on an IP address. Raises OSError when it is taken or not ours."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._socket.setblocking(False)
        self._listen()

    @property
    def port(self) -> int:
        """The port listened on; valid after `start`."""
        return int(self.name[1])

    @property
    def name(self) -> tuple[Any, ...]:
        """The socket's own address."""
        assert self._socket is not None
        return tuple(self._socket.getsockname())

    async def stop(self) -> None:
        """Listen no more and give up handshakes; connections are their protocols' business."""
        if self._pause is not None:
            self._pause.cancel()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
        await self._handshakes.stop()

    def _listen(self) -> None:
        assert self._socket is not None
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPT_BATCH):
            try:
                accepted, address = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue
            except OSError as problem:
                if problem.errno not in _EXHAUSTED:
                    raise
                log.error("cannot accept connections", extra={"reason": str(problem)})
                loop.remove_reader(self._socket.fileno())
                self._pause = loop.call_later(EXHAUSTED_PAUSE_S, self._listen)
                return
            self._admit(accepted, address)
            if self._handshakes.full:
                return

    def _admit(self, accepted: socket.socket, address: tuple[Any, ...]) -> None:
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        where = f"{host}:{address[1]}"

        def given_up() -> None:
            accepted.close()
            self._failed(where, "too many handshakes at once")

        self._handshakes.begin(self._adopt(accepted, where), given_up)

    async def _adopt(self, accepted: socket.socket, where: str) -> None:
        try:
            await self._handshaker.adopt(self._factory, accepted)
        except HandshakeFailed as problem:
            self._failed(where, str(problem))


async def _send_alert(kept: socket.socket, alert: bytes) -> None:
    """Send what OpenSSL had to say, then wait until the other side has hung up."""
    if not alert:
        return
    loop = asyncio.get_running_loop()
    try:
        kept.send(alert)
        kept.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(LINGER_S):
            left = LINGER_BYTES_MAX
            while left > 0 and (data := await loop.sock_recv(kept, 16 << 10)):
                left -= len(data)
    except (OSError, TimeoutError):
        pass  # It has gone, or takes nothing: then it is not told.
