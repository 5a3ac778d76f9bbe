"""What all connections of a server share: limits, timers, counters, the owner of their tasks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from callboard.pki.live import Judge
from callboard.serve.exchange import Answer, Dispatcher
from callboard.serve.fanout import FanOut
from callboard.serve.limits import Limits
from callboard.serve.peers import Shown
from callboard.serve.timerwheel import TimerWheel
from callboard.serve.wire import DateLine

log = logging.getLogger(__name__)

TURN_S = 0.005
"""Work on requests in one turn of the loop."""

METHODS = "OPTIONS,GET,HEAD,POST,PUT,DELETE,PATCH"
"""What some path may allow; of a method that is none no path is known."""

Peer = tuple[str, int]
"""A client's address and port."""
Message = MutableMapping[str, Any]
Asgi = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]
"""An ASGI 3 application (the types of the specification are as loose as this)."""


class Observer(Protocol):
    """Told of every answer: for the access log and metrics."""

    def __call__(self, method: str, pattern: str, status: int, seconds: float) -> None: ...


class Standing(Protocol):
    """A client's connection, whatever is spoken on it by now: HTTP, a WebSocket, a sink's bytes."""

    @property
    def transport(self) -> asyncio.Transport: ...

    @property
    def peer(self) -> Peer: ...

    @property
    def shown(self) -> Shown | None: ...

    def shut(self) -> None:
        """The server stops: end it soon."""


@dataclass(slots=True)
class Core:
    """One per server; connections hold a reference."""

    loop: asyncio.AbstractEventLoop
    app: Asgi
    handlers: Dispatcher | None
    limits: Limits
    wheel: TimerWheel
    fast_lane: bool
    observe: Observer | None
    date: DateLine = field(default_factory=DateLine)
    connections: set[Standing] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    on_lost: Callable[[Standing], None] | None = None
    trust: str = ""
    """The trust domain whose names give clients roles ("dc1.consul")."""
    stopping: bool = False
    _turn_ends: float = 0.0
    """When what came in this turn of the loop has had its time; 0: nothing came in yet."""
    backlog: FanOut = field(init=False)
    """Connections whose bytes came beyond that time."""

    def __post_init__(self) -> None:
        self.backlog = FanOut(self.loop)

    def admits(self) -> bool:
        """Whether bytes that came in are to be worked on at once.

        A turn of the loop hands over the bytes of all ready sockets before it runs a timer: ten
        thousand clients at once would hold up heartbeats. Beyond a few milliseconds the rest goes
        to the backlog, which the loop works off in slices.
        """
        if self._turn_ends:
            return time.monotonic() < self._turn_ends
        self._turn_ends = time.monotonic() + TURN_S
        self.loop.call_soon(self._end_turn)
        return True

    def ends(self, connection: Standing) -> bool:
        """Whether the next answer of a connection is its last, for our own reasons."""
        shown = connection.shown
        return self.stopping or (shown is not None and shown.too_old(self.loop.time()))

    def left(self, connection: Standing) -> None:
        """A connection is lost."""
        self.connections.discard(connection)
        if self.on_lost is not None:
            self.on_lost(connection)

    def judge(self, judge: Judge) -> int:
        """Cut the connections whose certificate is not accepted any more; how many."""
        cut = 0
        for one, shown in [(one, one.shown) for one in self.connections if one.shown is not None]:
            reason = judge(shown.der)
            if reason is not None:
                cut += 1
                log.warning(
                    "connection cut: the client's certificate is not accepted any more",
                    extra={"node": shown.peer.node, "reason": reason},
                )
                one.transport.abort()
        return cut

    def _end_turn(self) -> None:
        self._turn_ends = 0.0

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine of a request; kept until done, cancelled by the server's stop."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def date_line(self) -> str:
        """The Date header of this second, with its line end."""
        return self.date.at(time.time())


def refusal(status: int, text: str) -> Answer:
    """A plain text error of the server itself."""
    headers = [("Allow", METHODS)] if status == 405 else []  # RFC 9110, 15.5.6
    return Answer(status, text.encode(), headers, "text/plain; charset=utf-8")


def log_refusal(client: str, path: str, answer: Answer) -> None:
    """Say that a request was refused before it was read whole: its connection ends with it, so
    that no client can write many lines."""
    reason = answer.body.decode("utf-8", "replace")
    told = {"client": client, "path": path[:256], "status": answer.status, "reason": reason}
    log.info("request refused", extra=told)
