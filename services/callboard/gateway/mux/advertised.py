"""Where viewers reach the media port: what ADVERTISE_IPS says, made addresses.

Entries are addresses, names (asked again each minute, since they move), either with a port if the
media port is published at another one, and `stun:HOST:PORT` (a STUN server is asked, from the media
port, as whom it sees us). Browsers get addresses only: not all of them take names in candidates.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from callboard.chassis.listeners import is_loopback
from callboard.gateway.ice import binding
from callboard.gateway.ice.candidates import Place
from callboard.gateway.ports import Address

log = logging.getLogger(__name__)

RESOLVE_INTERVAL_S = 60.0
RESOLVE_TIMEOUT_S = 5.0
STUN_INTERVAL_S = 25.0
"""Also keeps the mapping of the NAT alive, which UDP's may forget after 30 s (RFC 4787, 4.3)."""
STUN_PORT = 3478
STUN_WAITS_S = (0.5, 1.0, 2.0)
"""For an answer, before asking again (RFC 8489, 6.2.1, cut short: the next round comes soon)."""
ADDRESSES_PER_NAME_MAX = 4
_STUN = "stun:"
_WHERE = re.compile(
    r"(?:\[(?P<bracketed>[^]]*:[^]]*)\]|(?P<plain>[^:]+))(?::(?P<port>[0-9]{1,5}))?"
)

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Gives a name's addresses; raises OSError."""
Ask = Callable[[bytes, Address], bool]
"""Sends a request from the media port."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One word of ADVERTISE_IPS."""

    host: str
    """An address, in its usual form, or a name."""
    stun_port: int = 0
    """Not 0: `host` is a STUN server."""
    port: int = 0
    """Where the media port is reached; 0: at its own number."""

    @property
    def is_address(self) -> bool:
        """Whether `host` needs no asking."""
        return _address(self.host) is not None

    @property
    def is_loopback(self) -> bool:
        """Whether it names a loopback address."""
        return not self.stun_port and is_loopback(self.host)

    def __str__(self) -> str:
        port = self.stun_port or self.port
        host = f"[{self.host}]" if port and ":" in self.host else self.host
        return f"{_STUN if self.stun_port else ''}{host}{f':{port}' if port else ''}"


def _address(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _is_name(host: str) -> bool:
    plain = host.replace(".", "").replace("-", "").replace("_", "")
    return plain.isascii() and plain.isalnum() and len(host) < 254


def parse_entry(word: str) -> Entry:
    """Raises ValueError for what is neither HOST, nor HOST:PORT, nor stun:HOST[:PORT]. HOST is an
    address or a name; before a port, an IPv6 address is in brackets."""
    where = word.removeprefix(_STUN)
    host, port = _address(where), None
    if host is None and (found := _WHERE.fullmatch(where)) is not None:
        plain, bracketed, port = found["plain"], found["bracketed"], found["port"]
        host = _address(plain or bracketed) or (plain if plain and _is_name(plain) else None)
    if host is None or (port is not None and not 0 < int(port) < 1 << 16):
        raise ValueError(f"{word!r} is neither HOST nor HOST:PORT nor stun:HOST:PORT")
    if where != word:
        return Entry(host, int(port or STUN_PORT))
    return Entry(host, port=int(port or 0))


async def resolve(name: str) -> Sequence[str]:
    """Ask the system's resolver, off the loop."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    return [str(where[0]) for *_, where in found]


class Advertised:
    """The places of the media port at `bind`:`port`, kept up from `start` to `stop`."""

    def __init__(
        self, words: Sequence[str], bind: str, port: int, ask: Ask, *, resolve: Resolve = resolve
    ) -> None:
        """Raises ValueError for words that are no entries."""
        self._entries = tuple(parse_entry(word) for word in words)
        self._bind = bind
        self._port = port
        self._ask = ask
        self._resolve = resolve
        self._found: dict[Entry, tuple[Place, ...]] = {}
        for entry in self._entries:
            if entry.is_address and not entry.stun_port:
                self._found[entry] = (self._place(entry, entry.host),)
        self._waiting: dict[bytes, tuple[Address, asyncio.Future[Address | None]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._told: dict[Entry, str] = {}

    async def start(self) -> None:
        """Ask once for everything, within some seconds; what was not found then comes later."""
        asked = [entry for entry in self._entries if entry.stun_port or not entry.is_address]
        await asyncio.gather(*(self._look(entry) for entry in asked))
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep(entry)) for entry in asked]

    async def stop(self) -> None:
        """Ask no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    @property
    def missing(self) -> tuple[str, ...]:
        """Words of which no address is known: names without one, STUN servers that are silent."""
        return tuple(str(entry) for entry in self._entries if not self._found.get(entry))

    def places(self, *, loopback: bool) -> tuple[Place, ...]:
        """Best first; those of loopback addresses only if asked for, and then before all others."""
        known = [place for entry in self._entries for place in self._found.get(entry, ())]
        distant = [place for place in known if not is_loopback(place.address.host)]
        if not loopback:
            return tuple(distant)
        own = [Place(Address(host, self._port)) for host in self._own_loopback()]
        near = [place for place in known if is_loopback(place.address.host)]
        return tuple(dict.fromkeys((*near, *own, *distant)))

    def _own_loopback(self) -> tuple[str, ...]:
        bind = ipaddress.ip_address(self._bind)
        if bind.is_loopback:
            return (self._bind,)
        if not bind.is_unspecified:
            return ()
        return ("127.0.0.1",) if bind.version == 4 else ("127.0.0.1", "::1")

    # ------------------------------------------------------------------ asking

    async def _keep(self, entry: Entry) -> None:
        interval = STUN_INTERVAL_S if entry.stun_port else RESOLVE_INTERVAL_S
        while True:
            await asyncio.sleep(interval)
            await self._look(entry)

    async def _look(self, entry: Entry) -> None:
        """What was found last stays while nothing is found."""
        try:
            found = await (self._mapped(entry) if entry.stun_port else self._named(entry))
        except (OSError, TimeoutError, UnicodeError) as problem:
            self._say(entry, f"not found: {problem or 'no answer in time'}")
            return
        self._found[entry] = found
        self._say(entry, ", ".join(place.address.host for place in found))

    def _say(self, entry: Entry, what: str) -> None:
        if self._told.get(entry) != what:
            self._told[entry] = what
            log.info("advertised", extra={"entry": str(entry), "addresses": what})

    async def _addresses(self, name: str) -> list[str]:
        found = await asyncio.wait_for(self._resolve(name), RESOLVE_TIMEOUT_S)
        usable = [host for host in dict.fromkeys(found) if "%" not in host]
        if not usable:
            raise OSError("it has no address")
        return usable[:ADDRESSES_PER_NAME_MAX]

    async def _named(self, entry: Entry) -> tuple[Place, ...]:
        return tuple(self._place(entry, host) for host in await self._addresses(entry.host))

    def _place(self, entry: Entry, host: str) -> Place:
        return Place(Address(host, entry.port or self._port))

    async def _mapped(self, entry: Entry) -> tuple[Place, ...]:
        hosts = [entry.host] if entry.is_address else await self._addresses(entry.host)
        base = Address(self._bind, self._port)
        for host in hosts:
            mapped = await self._query(Address(host, entry.stun_port))
            if mapped == base:  # there is no NAT between
                return (Place(mapped),)
            if mapped is not None:
                return (Place(mapped, base),)
        raise TimeoutError

    async def _query(self, server: Address) -> Address | None:
        transaction = secrets.token_bytes(12)
        answer: asyncio.Future[Address | None] = asyncio.get_running_loop().create_future()
        self._waiting[transaction] = (server, answer)
        try:
            for wait_s in STUN_WAITS_S:
                if not self._ask(binding.request(transaction), server):
                    break  # no way there: of the other family, or the network is down
                with contextlib.suppress(TimeoutError):
                    return await asyncio.wait_for(asyncio.shield(answer), wait_s)
        finally:
            del self._waiting[transaction]
        return None

    def answered(self, mapped: binding.Mapped, sender: Address) -> bool:
        """Take a STUN server's answer; False if it is to nothing that was asked."""
        server, answer = self._waiting.get(mapped.transaction, (None, None))
        if answer is None or server != sender:
            return False
        if not answer.done():
            answer.set_result(mapped.address)
        return True
