"""Asks recursors for the names outside our domain (Consul: `recursors`).

Each question goes out from a socket of its own, so from a port the system chose at random, under a
random ID; an answer counts only if it comes from where it was asked, with that ID and that question
(RFC 5452). Recursors are tried in order, or in one drawn for each question; only a silent one, or a
SERVFAIL-class answer, moves on to the next. Identical questions in flight share one, and of others
for the same name and type there are only so many: that bounds a loop (a recursor that asks us back)
until `loops` has found it. Nothing is kept: that is the recursor's work.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import socket
from collections import Counter
from collections.abc import Sequence

from callboard.dns.loops import PROBE_INTERVAL_S, LoopWatch
from callboard.dns.recursors import Address
from callboard.dns.wire import HEADER, QR, TC, Query, Rcode, parse

log = logging.getLogger(__name__)

REPLY_OCTETS_MAX = 65535
STRAYS_MAX = 16
"""Packets that are no answer to our question, before a recursor is given up."""

SPELLINGS_MAX = 16
"""Questions in flight for one name and type that differ in flags, case or EDNS."""

_MOVE_ON = frozenset({Rcode.SERVFAIL, Rcode.NOTIMP, Rcode.REFUSED, Rcode.FORMERR})


class RecursorForwarder:
    """The `Forwarder` of a DNS server."""

    def __init__(
        self,
        recursors: Sequence[Address],
        timeout_s: float = 2.0,
        *,
        shuffle: random.Random | None = None,
        probe_interval_s: float = PROBE_INTERVAL_S,
    ) -> None:
        """`timeout_s` is for each recursor; `shuffle` draws their order for each question, None
        leaves it as it is (Consul: recursor_strategy). Each that is used is looked at for loops
        every `probe_interval_s`.
        """
        self._recursors = list(recursors)
        self._timeout_s = timeout_s
        self._loops = LoopWatch(self._recursors, self._probe, interval_s=probe_interval_s)
        self._spellings: Counter[tuple[bytes, int]] = Counter()
        self._shuffle = shuffle
        self._flights: dict[tuple[bytes, bool], asyncio.Future[bytes | None]] = {}
        self.failures = 0
        """Questions no recursor answered."""

    async def ask(self, packet: bytes, *, tcp: bool) -> bytes | None:
        """See `Forwarder`."""
        query = parse(packet)
        if not isinstance(query, Query) or self._loops.came_back(query.name):
            return None
        self._loops.look()
        key = (packet[2:], tcp)
        flight = self._flights.get(key)
        if flight is None and self._spellings[query.name, query.type] >= SPELLINGS_MAX:
            answer: bytes | None = None
        elif flight is None:
            answer = await self._fly(packet, query, tcp=tcp)
        else:
            answer = await asyncio.shield(flight)
        if answer is None:
            self.failures += 1
            return None
        return packet[:2] + answer[2:]

    def close(self) -> None:
        """Give up what is asked on the forwarder's own account."""
        self._loops.close()

    async def _fly(self, packet: bytes, query: Query, *, tcp: bool) -> bytes | None:
        """Ask, so that others may wait for the same answer."""
        key, spelling = (packet[2:], tcp), (query.name, query.type)
        flight: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._flights[key] = flight
        self._spellings[spelling] += 1
        answer: bytes | None = None
        try:
            answer = await self._ask_all(packet, query, tcp=tcp)
        finally:
            del self._flights[key]
            self._spellings[spelling] -= 1
            if not self._spellings[spelling]:
                del self._spellings[spelling]
            flight.set_result(answer)
        return answer

    async def _probe(self, recursor: Address, packet: bytes) -> bool:
        query = parse(packet)
        assert isinstance(query, Query)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await _over_udp(recursor, packet, query) is not None
        except (OSError, TimeoutError):
            return False

    async def _ask_all(self, packet: bytes, query: Query, *, tcp: bool) -> bytes | None:
        last: bytes | None = None
        recursors = [each for each in self._recursors if each not in self._loops.looping]
        if self._shuffle is not None:
            recursors = self._shuffle.sample(recursors, len(recursors))
        for recursor in recursors:
            ours = secrets.token_bytes(2) + packet[2:]
            try:
                async with asyncio.timeout(self._timeout_s):
                    reply = await _over_udp(recursor, ours, query)
                    if reply is not None and tcp and _flags(reply) & TC:
                        reply = await _over_tcp(recursor, ours, query)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as problem:
                log.debug("a recursor is silent", extra={"at": recursor, "why": repr(problem)})
                continue
            if reply is not None:
                last = reply
                if (_flags(reply) & 0xF) not in _MOVE_ON:
                    return reply
        return last


def _flags(message: bytes) -> int:
    return int.from_bytes(message[2:4], "big")


def _answers(reply: bytes, ours: bytes, query: Query) -> bool:
    """Whether a packet is the answer to our question."""
    if len(reply) < HEADER.size or reply[:2] != ours[:2] or not _flags(reply) & QR:
        return False
    if reply[4:6] == b"\0\0":  # an error may leave the question out
        return bool(_flags(reply) & 0xF)
    end = HEADER.size + len(query.question)
    return reply[HEADER.size : end].lower() == query.question.lower()


async def _over_udp(recursor: Address, ours: bytes, query: Query) -> bytes | None:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in recursor[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(recursor)
        await loop.sock_sendall(sock, ours)
        for _ in range(STRAYS_MAX):
            reply = await loop.sock_recv(sock, REPLY_OCTETS_MAX)
            if _answers(reply, ours, query):
                return reply
    return None


async def _over_tcp(recursor: Address, ours: bytes, query: Query) -> bytes | None:
    reader, writer = await asyncio.open_connection(*recursor)
    try:
        writer.write(len(ours).to_bytes(2, "big") + ours)
        length = int.from_bytes(await reader.readexactly(2), "big")
        reply = await reader.readexactly(length)
        return reply if _answers(reply, ours, query) else None
    finally:
        writer.close()
