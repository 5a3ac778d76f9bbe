"""The DNS front: one catalog, answered over UDP, TCP and, with a certificate, TLS.

The sockets and the clock live here; what is answered is `responder`. Names outside the domain go to
a forwarder, if there is one, for clients of private networks only: an open resolver is a weapon.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

from callboard.catalog.authorizer import ALLOW_ALL, Authorizer
from callboard.catalog.changes import Change
from callboard.catalog.discovery import DiscoveryView
from callboard.dns.addresses import read_address
from callboard.dns.foreign import address_query, addresses_in
from callboard.dns.ratelimit import RateLimit, Verdict
from callboard.dns.responder import Condition, Forward, Responder
from callboard.dns.settings import DnsSettings
from callboard.dns.tcp import TcpListener
from callboard.dns.udp import Peer, UdpListener
from callboard.dns.wire import Query, parse, truncated

log = logging.getLogger(__name__)

CONDITION_INTERVAL_S = 1.0
"""How often the catalog's age is looked at."""

UNKNOWN_INTERVAL_S = 0.05
"""The same while the age of a new copy is not known yet."""

FORWARDS_MAX = 256
"""Queries that wait for a recursor, each with a socket; further ones are SERVFAIL at once."""

PORT_ATTEMPTS = 16
"""To find a number that is free for UDP and TCP, when asked for port 0."""


class Forwarder(Protocol):
    """Asks recursors."""

    async def ask(self, packet: bytes, *, tcp: bool) -> bytes | None:
        """The answer to a query packet, with the query's own ID; None if no recursor gave one in
        time. With `tcp` the answer may be as long as it likes."""


class DnsServer:
    """Answers from `start` to `stop`."""

    def __init__(
        self,
        view: DiscoveryView,
        settings: DnsSettings,
        host: str,
        port: int,
        *,
        authorizer: Authorizer = ALLOW_ALL,
        forwarder: Forwarder | None = None,
        age_s: Callable[[], float] = lambda: 0.0,
        tls: ssl.SSLContext | None = None,
        tls_port: int = 853,
        rng: random.Random | None = None,
    ) -> None:
        """`port` 0 lets the system choose one for UDP and TCP. `age_s` is how old the catalog is,
        in seconds: from `stale_after_s` on answers say so, past `max_stale_s` they are SERVFAIL.
        `tls` opens DNS over TLS (RFC 7858) on `tls_port`."""
        self._view = view
        self._settings = settings
        self._host = host
        self._port = port
        self._authorizer = authorizer
        self._forwarder = forwarder
        self._age_s = age_s
        self._tls = tls
        self._tls_port = tls_port
        self._draw = (rng or random.Random()).random
        self._responder: Responder | None = None
        self._udp: UdpListener | None = None
        self._tcp = TcpListener(self._answer_tcp)
        self._dot = TcpListener(self._answer_tcp)
        self._bound_port = 0
        self._timer: asyncio.TimerHandle | None = None
        self._forwards: set[asyncio.Task[None]] = set()
        limit = settings.answers_per_second
        self._limit = RateLimit(limit) if limit else None
        self.forwarded = 0
        self.held_back = 0
        """UDP answers that were not sent, or empty: their network had had too many."""

    async def start(self) -> None:
        """Bind and answer. Raises OSError when the address is taken or not ours."""
        self._responder = Responder(
            self._view,
            self._settings,
            draw=self._draw,
            clock=time.time,
            authorizer=self._authorizer,
            recursion=self._forwarder is not None,
        )
        try:
            await self._bind()
            if self._tls is not None:
                await self._dot.start(self._host, self._tls_port, self._tls)
        except BaseException:
            await self.stop()
            raise
        self._view.listen(self._changed, reset=self._replaced)
        self._look_at_age()
        log.info("dns listens", extra={"address": f"{self._host}:{self.udp_port}"})

    async def stop(self) -> None:
        """Close the sockets; queries that wait for a recursor are given up."""
        self._view.unlisten(self._changed)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        for task in self._forwards:
            task.cancel()
        await asyncio.gather(*self._forwards, return_exceptions=True)
        await self._tcp.stop()
        await self._dot.stop()
        if self._responder is not None:
            self._responder.close()
            self._responder = None

    @property
    def udp_port(self) -> int:
        """The UDP port; valid after `start`."""
        return self._bound_port

    @property
    def tcp_port(self) -> int:
        """The TCP port; valid after `start`."""
        return self._tcp.port

    @property
    def tls_port(self) -> int:
        """The port of DNS over TLS; valid after `start` with a certificate."""
        return self._dot.port

    @property
    def condition(self) -> Condition:
        """How fresh the catalog was found at the last look."""
        return self._responder.condition if self._responder else Condition.FRESH

    def figures(self) -> dict[str, int]:
        """Counts since the start, by what was counted."""
        return {
            "queries_udp": self._udp.queries if self._udp else 0,
            "queries_tcp": self._tcp.queries,
            "queries_tls": self._dot.queries,
            "answers_unsent": self._udp.unsent if self._udp else 0,
            "handshakes_failed": self._dot.handshakes_failed,
            "connections_refused": self._tcp.refused + self._dot.refused,
            "answers_held_back": self.held_back,
            "forwarded": self.forwarded,
            "answers_kept": len(self._responder.cache) if self._responder else 0,
        }

    # -- queries ----------------------------------------------------------------------------

    def _answer_udp(self, packet: bytes, peer: Peer) -> bytes | None:
        assert self._responder is not None
        reply = self._responder.respond(packet)
        if not isinstance(reply, Forward):
            if self._limit is None or reply is None or is_private(peer[0]):
                return reply
            return self._limited(self._limit, packet, peer[0], reply)

        def send(late: bytes) -> None:
            if late and self._udp is not None:
                self._udp.send(late, peer)

        return self._forward(reply, peer[0], send, tcp=False)

    def _limited(self, limit: RateLimit, packet: bytes, client: str, reply: bytes) -> bytes | None:
        """An answer to a client outside, if its network has not had too many."""
        verdict = limit.judge(client, asyncio.get_running_loop().time())
        if verdict is Verdict.SEND:
            return reply
        self.held_back += 1
        query = parse(packet) if verdict is Verdict.TRUNCATE else None
        recursion = self._forwarder is not None
        return truncated(query, recursion=recursion) if isinstance(query, Query) else None

    def _answer_tcp(
        self, packet: bytes, client: str, send: Callable[[bytes], None]
    ) -> bytes | None:
        if self._responder is None:
            return b""
        reply = self._responder.respond(packet, tcp=True)
        if not isinstance(reply, Forward):
            return reply or b""
        return self._forward(reply, client, send, tcp=True)

    def _forward(
        self, forward: Forward, client: str, send: Callable[[bytes], None], *, tcp: bool
    ) -> bytes | None:
        """Ask a recursor and answer later (None), or say at once why not."""
        assert self._responder is not None
        if not is_private(client):
            if forward.answer is not None:
                return self._responder.complete(forward, (), tcp=tcp)
            return self._responder.refuse(forward.query)
        if len(self._forwards) >= FORWARDS_MAX:
            return self._responder.fail(forward.query)
        self.forwarded += 1
        task = asyncio.get_running_loop().create_task(self._ask(forward, send, tcp=tcp))
        self._forwards.add(task)
        task.add_done_callback(self._forwards.discard)
        return None

    async def _ask(self, forward: Forward, send: Callable[[bytes], None], *, tcp: bool) -> None:
        """One forwarded query; the forwarder has its own time limit."""
        assert self._forwarder is not None
        assert self._responder is not None
        responder, answer = self._responder, forward.answer
        try:
            if answer is not None:
                query = address_query(answer.chase, forward.query.type)
                reply = await self._forwarder.ask(query, tcp=True)
                records = addresses_in(reply) if reply is not None else ()
                send(responder.complete(forward, records, tcp=tcp))
            else:
                reply = await self._forwarder.ask(forward.packet, tcp=tcp)
                send(responder.fail(forward.query) if reply is None else reply)
        except Exception:
            log.exception("a query could not be forwarded")
            send(responder.fail(forward.query))

    # -- sockets ----------------------------------------------------------------------------

    async def _bind(self) -> None:
        """Bind UDP and TCP to one number."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        for attempt in range(PORT_ATTEMPTS):
            sock = socket.socket(family, socket.SOCK_DGRAM)
            try:
                sock.bind((self._host, self._port))
                self._bound_port = int(sock.getsockname()[1])
                await self._tcp.start(self._host, self._bound_port)
            except OSError:
                sock.close()
                if self._port or attempt == PORT_ATTEMPTS - 1:
                    raise
            else:
                self._udp = UdpListener(sock, self._answer_udp)
                return

    def _look_at_age(self) -> None:
        assert self._responder is not None
        age_s = self._age_s() if self._view.ready else 0.0  # without a copy nothing is old
        condition = Condition.FRESH
        if age_s >= self._settings.stale_after_s:
            condition = Condition.STALE
        if age_s > self._settings.max_stale_s:
            condition = Condition.EXPIRED
        if condition is not self._responder.condition:
            log.warning(
                "the catalog's age changed what is answered",
                extra={"condition": condition.name.lower(), "age_s": round(age_s, 1)},
            )
        self._responder.set_condition(condition)
        # a new copy's age is known with the first heartbeat, milliseconds later
        pause_s = UNKNOWN_INTERVAL_S if age_s == float("inf") else CONDITION_INTERVAL_S
        self._look_after(pause_s)

    def _look_after(self, pause_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(pause_s, self._look_at_age)

    def _changed(self, changes: Sequence[Change]) -> None:
        """The responder's business."""

    def _replaced(self) -> None:
        self._look_after(0.0)


@lru_cache(maxsize=4096)
def is_private(client: str) -> bool:
    """Whether an address is of a private network, this machine's included (RFC 6890)."""
    address = read_address(client)
    if address is None:
        return False
    return address.is_private or address.is_loopback or address.is_link_local
