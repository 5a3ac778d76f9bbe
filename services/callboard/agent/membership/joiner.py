"""Finds the cluster and keeps finding it: joins by address or name, again and again.

Peers found by name are looked up again in every round, since a restarted container has another
address. Rounds come quickly at first (all agents may start at once), then seldom; and quickly
again when no peer is alive. Our own address is never a peer: to reach oneself is no success.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

from callboard.agent.membership.errors import JoinError, StreamError
from callboard.agent.membership.resolver import Resolver, split_host_port
from callboard.swim.messages import Address

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.1
PAUSE_GROWTH = 1.7
CONTACTS_MAX = 8
"""Peers contacted at the same time."""


class Joiner:
    """Contacts peers. `contact(address)` exchanges state with one, or raises StreamError."""

    def __init__(
        self,
        *,
        contact: Callable[[Address], Awaitable[None]],
        is_known: Callable[[Address], bool],
        has_live_peers: Callable[[], bool],
        own: Callable[[], frozenset[Address]],
        resolver: Resolver,
        resolve_timeout_s: float,
        default_port: int,
    ) -> None:
        """`is_known(address)`: a live member is there; `own()`: the addresses that are us."""
        self._contact = contact
        self._is_known = is_known
        self._has_live_peers = has_live_peers
        self._own = own
        self._resolver = resolver
        self._resolve_timeout_s = resolve_timeout_s
        self._default_port = default_port
        self._contacts = asyncio.Semaphore(CONTACTS_MAX)
        self._alone = asyncio.Event()

    def wake(self) -> None:
        """No peer is alive any more: look again, now."""
        self._alone.set()

    async def join(self, peers: Sequence[str]) -> int:
        """Contact every address of every peer; the number contacted. JoinError if none."""
        reasons: list[str] = []
        addresses = await self._resolve(peers, reasons)
        contacted = await self._contact_all(addresses, reasons)
        if not contacted:
            raise JoinError("; ".join(reasons) or "no address to join was given")
        return contacted

    async def keep(
        self,
        peers: Sequence[str],
        remembered: Sequence[Address],
        interval_s: float,
        attempts_max: int = 0,
    ) -> None:
        """Join `peers` (and, while alone, the `remembered`) for ever. Run as a task.

        Raises JoinError when `attempts_max` intervals have passed since the start and nobody was
        ever there; 0 is never. (All rounds of an interval are one attempt.)
        """
        now = asyncio.get_running_loop().time
        gives_up_at = now() + attempts_max * interval_s if attempts_max else float("inf")
        pause_s = FIRST_PAUSE_S
        complained = False
        while True:
            reasons: list[str] = []
            contacted = await self._round(peers, remembered, reasons)
            if self._has_live_peers():
                complained = False
                pause_s = interval_s
                gives_up_at = float("inf")
            elif now() >= gives_up_at:
                raise JoinError("; ".join(reasons) or "nobody was found")
            else:
                if reasons and not complained and pause_s > 1.0:
                    complained = True
                    log.warning("no peer could be joined yet, retrying", extra={"error": reasons})
                pause_s = min(pause_s * PAUSE_GROWTH, interval_s, max(0.0, gives_up_at - now()))
            if contacted:
                log.info("joined", extra={"peers": contacted})
            self._alone.clear()
            if await self._sleep(pause_s):
                pause_s = FIRST_PAUSE_S

    async def _sleep(self, pause_s: float) -> bool:
        """Pause; True if woken because we are alone."""
        try:
            async with asyncio.timeout(pause_s):
                return await self._alone.wait()
        except TimeoutError:
            return False

    async def _round(
        self, peers: Sequence[str], remembered: Sequence[Address], reasons: list[str]
    ) -> int:
        addresses = await self._resolve(peers, reasons)
        if not self._has_live_peers():
            addresses += [address for address in remembered if address not in addresses]
        strangers = [address for address in addresses if not self._is_known(address)]
        return await self._contact_all(strangers, reasons)

    async def _resolve(self, peers: Sequence[str], reasons: list[str]) -> list[Address]:
        found = await asyncio.gather(*(self._resolve_one(peer, reasons) for peer in peers))
        own = self._own()
        addresses = list(dict.fromkeys(address for some in found for address in some))
        if addresses and all(address in own for address in addresses):
            reasons.append("every address given is this agent's own")
        return [address for address in addresses if address not in own]

    async def _resolve_one(self, peer: str, reasons: list[str]) -> list[Address]:
        # "name/address:port" is how serf writes a member: the name is not needed here.
        text = peer.rpartition("/")[2]
        try:
            host, port = split_host_port(text, self._default_port)
            hosts = await self._resolver.resolve(host, self._resolve_timeout_s)
        except TimeoutError:
            reasons.append(f"{peer}: no answer to the look-up in {self._resolve_timeout_s:g} s")
            return []
        except socket.gaierror:
            reasons.append(f"{peer}: lookup {host}: no such host")
            return []
        except (OSError, ValueError) as problem:
            reasons.append(f"{peer}: {problem}")
            return []
        return [(host, port) for host in hosts]

    async def _contact_all(self, addresses: Sequence[Address], reasons: list[str]) -> int:
        results = await asyncio.gather(
            *(self._contact_one(address, reasons) for address in addresses)
        )
        return sum(results)

    async def _contact_one(self, address: Address, reasons: list[str]) -> bool:
        async with self._contacts:
            try:
                await self._contact(address)
            except StreamError as problem:
                host = f"[{address[0]}]" if ":" in address[0] else address[0]
                reasons.append(f"{host}:{address[1]}: {problem}")
                return False
            return True
