"""The seam between the server's core and its routes: types, and no code that does I/O.

The core reads a head, asks the router, and answers itself (None), refuses (Refusal), or hands the
connection to a Route until that says the request is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from callboard.fileserver.head import Head


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """Who is at the other end of a client's connection."""

    address: str
    """IP address, without a zone."""
    port: int
    certificate: Mapping[str, object] | None = None
    """The verified client certificate as `SSLSocket.getpeercert()` gives it; None without one."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer instead of what was asked for; sent as text/plain."""

    status: int
    text: str
    """One line for a person; the core adds its line end."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further ones: ("Allow", "GET, HEAD"), ("Retry-After", "1")."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """How a relayed request ended."""

    leftover: bytes | None
    """Bytes read behind the request: the connection goes on with them (b"" is usual). None: the
    connection is to be closed once everything written is sent."""
    status: int = 0
    """Of the answer, for the access log; 0 when there was none."""
    upstream: str = ""
    """Who answered ("hub-1 10.0.0.7:8801"), for the access log."""
    cut: bool = False
    """The client left, or got less than the whole answer."""


class ClientConnection(Protocol):
    """A client's connection while a Route has it: decrypted bytes both ways.

    One task reads and one writes at a time. After the client has gone every method still may be
    called. The core limits the time of a write without progress; reading and being silent have no
    limit (a stream may say nothing for hours) unless the route sets one around `read`.
    """

    @property
    def peer(self) -> PeerInfo:
        """Who is at the other end."""

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""

    @property
    def secure_host(self) -> bool:
        """Whether answers carry HSTS: the request's Host is a public name."""

    @property
    def queued(self) -> int:
        """Bytes written that wait to be sent."""

    async def read(self) -> bytes:
        """The next bytes, at most 64 KB; b"" at the client's end and after `close`.

        Nothing is read from the network while nobody waits here and 64 KB are kept already.
        May be cancelled without losing bytes.
        """

    def write(self, data: bytes) -> None:
        """Send, or queue what the system does not take at once. Call `drain` before more."""

    async def drain(self) -> None:
        """Wait until at most 64 KB are queued. Raises ConnectionError when the client has gone."""

    def close(self) -> None:
        """End it in order: what is queued is sent, then close_notify, then the socket."""

    def abort(self) -> None:
        """End it at once: the client sees a truncated answer (no close_notify)."""


class Route(Protocol):
    """Where one request goes."""

    async def relay(self, connection: ClientConnection, head: Head, leftover: bytes) -> Relayed:
        """Carry the request and its answer; `leftover` are bytes read behind the head (body, or
        the next request). Cancelled when the client's connection is lost, or ended by the
        client while nobody reads; at the program's stop after its grace; at the connection's
        greatest age. What it raises ends the connection.
        """


class Router(Protocol):
    """Decides which requests are not for files. Called for each request: must be quick."""

    def route(self, head: Head, peer: PeerInfo) -> Route | Refusal | None:
        """None: the files answer. The Host was found in the allow-list before."""
