"""Recursors that ask us back: this server itself under one of its addresses, and detours.

Two front ends that forward to each other would hand a question round until it times out, and each
may alter what it passes on (EDNS is hop by hop, RFC 6891, 6.2.6), so that nothing in a packet can
be relied on but the name. So each recursor is asked now and then for a name that nobody else knows:
one that comes back to us names the recursor that leads in a circle, and that one is left out until
its name comes back no more.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence

from callboard.dns.names import to_wire
from callboard.dns.recursors import Address
from callboard.dns.wire import CLASS_IN, HEADER, QUESTION_TAIL, RD, Type

log = logging.getLogger(__name__)

PROBE_INTERVAL_S = 60.0
PROBE_DOMAIN = "loop.example."
"""Names below are asked for like any other (RFC 6761, 6.5); `test.` many recursors keep to
themselves."""


class LoopWatch:
    """Which recursors lead back to us."""

    def __init__(
        self,
        recursors: Sequence[Address],
        ask: Callable[[Address, bytes], Awaitable[bool]],
        *,
        interval_s: float = PROBE_INTERVAL_S,
    ) -> None:
        """`ask` sends a query packet to a recursor, and says in time whether it answered."""
        self._recursors = list(recursors)
        self._ask = ask
        self._interval_s = interval_s
        self._due_at = float("-inf")
        self._probing: asyncio.Task[None] | None = None
        self._probes: dict[bytes, Address] = {}
        """Names that were asked for in the last round, to the recursor that was asked."""
        self._returned: set[bytes] = set()
        self.looping: set[Address] = set()

    def look(self) -> None:
        """A question is being forwarded: look for loops if it is time to."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._due_at:
            return
        self._due_at = loop.time() + self._interval_s
        if self._probing is None or self._probing.done():
            self._probing = loop.create_task(self._probe_all())

    def came_back(self, name: bytes) -> bool:
        """Whether a name (wire, lower case) that we are asked for is one that we ask for."""
        recursor = self._probes.get(name)
        if recursor is None:
            return False
        self._returned.add(name)
        if recursor not in self.looping:
            self.looping.add(recursor)
            log.warning("a recursor leads back to this server: left out", extra={"at": recursor})
        return True

    def close(self) -> None:
        """Stop looking."""
        if self._probing is not None:
            self._probing.cancel()

    async def _probe_all(self) -> None:
        self._probes.clear()
        self._returned.clear()
        await asyncio.gather(*map(self._probe, self._recursors))

    async def _probe(self, recursor: Address) -> None:
        name = to_wire(f"{secrets.token_hex(8)}.{PROBE_DOMAIN}")
        self._probes[name] = recursor
        question = name + QUESTION_TAIL.pack(Type.TXT, CLASS_IN)
        packet = HEADER.pack(secrets.randbits(16), RD, 1, 0, 0, 0) + question
        answered = await self._ask(recursor, packet)
        if answered and name not in self._returned and recursor in self.looping:
            self.looping.discard(recursor)
            log.info("a recursor leads back to this server no more", extra={"at": recursor})
