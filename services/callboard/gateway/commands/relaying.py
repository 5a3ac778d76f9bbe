"""One request to each ICE server, from here: by UDP, TCP and TLS.

An allocation at TURN servers (RFC 8656), given back at once; a Binding at STUN servers (RFC 8489).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from aioice import stun
from aioice.turn import TurnClientMixin, TurnClientTcpProtocol, TurnClientUdpProtocol

from callboard.gateway.commands.ice_findings import Fate, IceServer, Tried
from callboard.pki.reasons import explain

WITHIN_S = 4.0
"""For a name, then for a connection, then for an answer; by UDP it is four requests."""
GIVEN_BACK_WITHIN_S = 1.0
LIFETIME_S = 60
"""Of an allocation that could not be given back, if the server makes any so short."""
AT_ONCE_MAX = 16
"""Servers that are asked."""

T = TypeVar("T")


def trusting(ca_file: str = "") -> ssl.SSLContext:
    """What judges certificates: the machine's trust, as browsers do, and a file besides. Raises
    OSError for one that cannot be used."""
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    return context


async def ask_all(servers: Sequence[IceServer], trust: ssl.SSLContext) -> Sequence[Tried]:
    """Ask all at the same time that can be asked."""
    asked = [server for server in servers if server.can_be_asked][:AT_ONCE_MAX]
    return await asyncio.gather(*(ask(server, trust) for server in asked))


async def ask(server: IceServer, trust: ssl.SSLContext, within_s: float = WITHIN_S) -> Tried:
    """Ask one, at its first address of either family; never raises for what the network does."""
    try:
        addresses = await asyncio.wait_for(_addresses(server), within_s)
    except (OSError, UnicodeError, TimeoutError) as problem:
        return Tried(server, Fate.UNRESOLVED, why=_reason(problem))
    first: Tried | None = None
    for address in addresses:
        tried = await _ask_at(address, server, trust, within_s)
        if tried.fate not in (Fate.SILENT, Fate.REFUSED, Fate.UNREACHABLE):
            return tried
        first = first or tried
    return first or Tried(server, Fate.UNRESOLVED, why="no address")


async def _addresses(server: IceServer) -> Sequence[str]:
    kind = socket.SOCK_DGRAM if server.transport == "udp" else socket.SOCK_STREAM
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(server.host, server.port, type=kind)
    by_family: dict[int, str] = {}
    for family, _, _, _, place in found:
        by_family.setdefault(family, str(place[0]))
    return list(by_family.values())


class _Watched(TurnClientMixin):
    """aioice's client, which by itself waits on when the way is known to be lost."""

    def __init__(self, server: IceServer) -> None:
        place, username, credential = (server.host, server.port), server.username, server.credential
        super().__init__(place, username or None, credential or None, LIFETIME_S, LIFETIME_S)
        self._lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.BaseProtocol."""
        self.error_received(exc or ConnectionResetError("it was closed"))
        super().connection_lost(exc)

    def error_received(self, exc: Exception) -> None:
        """An ICMP message, or what the kernel says."""
        if not self._lost.done():
            self._lost.set_result(exc)

    def datagram_received(self, data: bytes | str, addr: tuple[str, int]) -> None:
        """See asyncio.DatagramProtocol."""
        # the codec raises what its unpacking of the bytes raises
        with contextlib.suppress(Exception):
            super().datagram_received(data, addr)

    async def unless_lost(self, work: Coroutine[Any, Any, T], within_s: float) -> T:
        """Its result. Raises what it raises, TimeoutError, or why the way was lost."""
        task = asyncio.ensure_future(work)
        either: tuple[asyncio.Future[Any], ...] = (task, self._lost)
        try:
            await asyncio.wait(either, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise self._lost.result() if self._lost.done() else TimeoutError
        finally:
            task.cancel()

    async def first_address(self, relays: bool) -> tuple[str, int]:
        """The relayed address of an allocation, or the mapped one of a Binding."""
        if relays:
            return await self.connect()
        answer, _ = await self.request(stun.Message(stun.Method.BINDING, stun.Class.REQUEST))
        for name in ("XOR-MAPPED-ADDRESS", "MAPPED-ADDRESS"):
            if name in answer.attributes:
                mapped: tuple[str, int] = answer.attributes[name]
                return mapped
        raise ConnectionError("its answer has no address")


class _ByUdp(_Watched, TurnClientUdpProtocol):
    """A socket's."""


class _ByTcp(_Watched, TurnClientTcpProtocol):
    """A connection's, over TLS or not."""


async def _ask_at(address: str, server: IceServer, trust: ssl.SSLContext, within_s: float) -> Tried:
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        client = await asyncio.wait_for(_open(address, server, trust, within_s), within_s)
    except Exception as problem:
        return _not_opened(server, problem)
    try:
        work = client.first_address(server.relays)
        found = await client.unless_lost(work, within_s)
        took_ms = (loop.time() - began) * 1000
        if server.relays:
            with contextlib.suppress(TimeoutError, OSError, stun.TransactionError):
                await asyncio.wait_for(client.delete(), GIVEN_BACK_WITHIN_S)
        return Tried(server, Fate.ANSWERED, found, took_ms)
    except (OSError, stun.TransactionError) as problem:
        return _not_answered(server, problem)
    finally:
        if client.refresh_task is not None:
            client.refresh_task.cancel()
        client.transport.abort()


async def _open(
    address: str, server: IceServer, trust: ssl.SSLContext, within_s: float
) -> _ByUdp | _ByTcp:
    loop = asyncio.get_running_loop()
    place = (address, server.port)
    if server.transport == "udp":
        _, by_udp = await loop.create_datagram_endpoint(lambda: _ByUdp(server), remote_addr=place)
        return by_udp
    if not server.is_secured:
        _, by_tcp = await loop.create_connection(lambda: _ByTcp(server), *place)
        return by_tcp
    # half of the time, so that a handshake that hangs is not taken for a port that is closed
    _, by_tls = await loop.create_connection(
        lambda: _ByTcp(server),
        *place,
        ssl=trust,
        server_hostname=server.host,
        ssl_handshake_timeout=within_s / 2,
    )
    return by_tls


def _not_opened(server: IceServer, problem: Exception) -> Tried:
    """Raises what is no matter of the network."""
    match problem:
        case TimeoutError():
            return Tried(server, Fate.SILENT)
        case ConnectionRefusedError():
            return Tried(server, Fate.REFUSED)
        case ssl.SSLCertVerificationError():
            why = problem.verify_message.rstrip(".")
            return Tried(server, Fate.UNTRUSTED, code=problem.verify_code, why=why)
        case ConnectionAbortedError() if server.is_secured:
            return Tried(server, Fate.NO_TLS, why="the handshake has no end")
        case ssl.SSLError() | ConnectionResetError() if server.is_secured:
            return Tried(server, Fate.NO_TLS, why=explain(problem))
        case OSError():
            return Tried(server, Fate.UNREACHABLE, why=_reason(problem))
    raise problem


def _not_answered(server: IceServer, problem: OSError | stun.TransactionError) -> Tried:
    match problem:
        case stun.TransactionFailed():
            code, reason = problem.response.attributes.get("ERROR-CODE", (0, "an error"))
            return Tried(server, Fate.DENIED, code=code, why=reason)
        case ConnectionRefusedError():
            return Tried(server, Fate.REFUSED)
        case TimeoutError() | stun.TransactionError() if server.transport == "udp":
            return Tried(server, Fate.SILENT)
        case TimeoutError() | stun.TransactionError():
            return Tried(server, Fate.STRANGER, why="it says nothing")
        case ConnectionError():
            return Tried(server, Fate.STRANGER, why=_reason(problem))
    return Tried(server, Fate.UNREACHABLE, why=_reason(problem))


def _reason(problem: Exception) -> str:
    if isinstance(problem, TimeoutError):
        return "no answer in time"
    return getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
