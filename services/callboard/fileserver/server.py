"""The listener: accepts, limits, keeps time, looks at files again, and stops in order.

Everything that connections share is here: the newest table, contexts and names of hosts, the
clock's ticks, the beginnings of answers, counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http
import ipaddress
import logging
import socket
from collections import Counter
from email.utils import formatdate
from time import time

from callboard.chassis.logs import RateLimited
from callboard.fileserver.access import AccessLog
from callboard.fileserver.connection import CLOSE, KEEP_1_0, Connection
from callboard.fileserver.credentials import Credentials
from callboard.fileserver.entries import Table, security_fields
from callboard.fileserver.folder import Folder, FolderError
from callboard.fileserver.guards import HSTS, Hosts
from callboard.fileserver.head import Heads
from callboard.fileserver.keepalive import keep_alive
from callboard.fileserver.limits import Limits
from callboard.fileserver.ports import Router
from callboard.fileserver.transport import State, Transport
from callboard.pki.live import Judge
from callboard.pki.standing import Standing

log = logging.getLogger(__name__)

BACKLOG = 1024
ACCEPTS_MAX = 32
"""New connections taken before others have their turn."""
PAUSE_S = 0.2
"""Without accepting, when the system has no descriptor left."""
KEEPALIVE = {"idle_s": 60, "between_s": 15, "probes": 4}
"""Of clients: a silent stream's may have gone."""
LOOK_S = 2.0
"""Between two looks at the folder and the certificates, at least."""
LOOK_SHARE = 20
"""A look may take one in this many seconds, so a large folder is looked at less often."""


class Server:
    """One listener, from `start` to `stop`."""

    def __init__(
        self,
        folder: Folder,
        credentials: Credentials,
        *,
        host: str,
        port: int,
        limits: Limits | None = None,
        allowed_hosts: tuple[str, ...] = (),
        access: AccessLog | None = None,
        router: Router | None = None,
        asks_certificates: bool = False,
        look_s: float = LOOK_S,
    ) -> None:
        self.folder = folder
        self.credentials = credentials
        self.limits = limits or Limits()
        self.access = access
        self.router = router
        self.asks_certificates = asks_certificates
        self.security = security_fields(folder.csp)
        self.table = Table()
        self.hosts = Hosts(credentials.loaded.names, allowed_hosts)
        self.heads = Heads()
        self.connections: set[Transport] = set()
        self.draining = False
        self.answered: dict[int, int] = {}
        """Requests by status."""
        self.sent_bytes = 0
        """Of bodies of files, and of everything relayed."""
        self.accepted = 0
        self.looks = 0
        """How often folder and certificates were looked at again."""
        self.failures: Counter[str] = Counter()
        self._address = (host, port)
        self._allowed_hosts = allowed_hosts
        self._look_s = look_s
        self._per_address: Counter[str] = Counter()
        self._second = -1
        self._prefixes: dict[int, bytes] = {}
        self._listener: socket.socket | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._look = asyncio.Event()
        self._empty = asyncio.Event()
        self._limited = RateLimited(log)
        self._standing: Standing | None = None
        if asks_certificates:
            self._standing = Standing(credentials)
            self._standing.watch(self._judge)
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time()

    @property
    def port(self) -> int:
        """The port it listens on; valid after `start`."""
        assert self._listener is not None
        return int(self._listener.getsockname()[1])

    async def start(self) -> None:
        """Read the folder, then listen. Raises FolderError, or OSError for the address."""
        await self._read_folder()
        self._listener = _listen(*self._address)
        self.loop.add_reader(self._listener.fileno(), self._accept)
        self._tasks = [
            self.loop.create_task(self._keep_time(), name="time limits"),
            self.loop.create_task(self._keep_looking(), name="look at files"),
        ]

    async def stop(self) -> None:
        """Accept nothing more, let answers end for `limits.drain_s`, then end what is left."""
        self.draining = True
        if self._listener is not None and self._listener.fileno() >= 0:
            self.loop.remove_reader(self._listener.fileno())
            self._listener.close()
        for transport in list(self.connections):
            if transport.state is State.IDLE:
                transport.finish(linger=False)
        if self.connections:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), self.limits.drain_s)
        for transport in list(self.connections):
            transport.abort("stop")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.access is not None:
            self.access.flush()

    def look_now(self) -> None:
        """Look at folder and certificates soon, not at the next time."""
        self._look.set()

    # what connections use

    def prefix(self, status: int, mode: int, public: bool) -> bytes:
        """Status line, Date, Connection and HSTS of an answer; made once a second each."""
        second = int(time())
        if second != self._second:
            self._second = second
            self._prefixes.clear()
        key = status * 8 + mode * 2 + public
        made = self._prefixes.get(key)
        if made is None:
            phrase = http.HTTPStatus(status).phrase
            connection = {CLOSE: "Connection: close\r\n", KEEP_1_0: "Connection: keep-alive\r\n"}
            made = self._prefixes[key] = (
                f"HTTP/1.1 {status} {phrase}\r\nDate: {formatdate(second, usegmt=True)}\r\n"
                f"{connection.get(mode, '')}"
            ).encode() + (HSTS if public else b"")
        return made

    def forget(self, transport: Transport) -> None:
        """A connection's descriptor is closed."""
        if transport not in self.connections:
            return
        self.connections.remove(transport)
        group = address_group(transport.address)
        left = self._per_address[group] - 1
        if left > 0:
            self._per_address[group] = left
        else:
            del self._per_address[group]
        if not self.connections:
            self._empty.set()

    def count_failure(self, kind: str) -> None:
        """A connection ended by itself or its time; strangers can cause this."""
        self.failures[kind] += 1
        self._limited.log(logging.INFO, kind, "a connection failed", {"kind": kind})

    # the loop's callbacks and tasks

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(ACCEPTS_MAX):
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as problem:
                if problem.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self.count_failure("no_descriptor")
                    self.loop.remove_reader(self._listener.fileno())
                    self.loop.call_later(PAUSE_S, self._accept_again)
                    return
                continue
            self._admit(sock, (address[0].partition("%")[0], address[1]))

    def _accept_again(self) -> None:
        if self._listener is not None and self._listener.fileno() >= 0:
            self.loop.add_reader(self._listener.fileno(), self._accept)

    def _admit(self, sock: socket.socket, address: tuple[str, int]) -> None:
        self.accepted += 1
        group = address_group(address[0])
        theirs = self._per_address[group]
        if len(self.connections) >= self.limits.connections:
            self.count_failure("too_many")
        elif theirs >= self.limits.connections_per_address:
            self.count_failure("too_many_of_address")
        else:
            try:
                sock.getpeername()  # who has gone already is not wrapped: that would warn
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                made = Connection(self, sock, self.credentials.loaded.context, address)
            except OSError:
                self.count_failure("handshake_lost")
            else:
                self.connections.add(made)
                self._per_address[group] = theirs + 1
                return
        if not theirs:
            del self._per_address[group]
        sock.close()

    async def _keep_time(self) -> None:
        tick_s = self.limits.tick_s
        while True:
            await asyncio.sleep(tick_s)
            now = self.now = self.loop.time()
            oldest = now - self.limits.age_s
            for transport in list(self.connections):
                try:
                    if transport.deadline < now:
                        transport.expire()
                    elif transport.born < oldest:
                        self._end_old(transport)
                except Exception:  # one connection's fault must not end the limits of all
                    log.exception("a connection could not be ended")
                    self.forget(transport)
            if self.access is not None:
                self.access.flush()

    def _end_old(self, transport: Transport) -> None:
        """A connection past its age: at once if it is idle; a relay only where a certificate was
        asked for, since that may be revoked by now."""
        if transport.state is State.IDLE:
            transport.finish(linger=False)
        elif transport.state is State.RELAYING and self.asks_certificates:
            transport.abort("age")

    def _judge(self, judge: Judge) -> None:
        """End the connections of clients whose certificate is not accepted any more."""
        for transport in list(self.connections):
            certificate = transport.certificate
            reason = judge(certificate) if certificate else None
            if reason is not None:
                self._limited.warning("standing", f"a connection was ended: {reason}")
                transport.abort("certificate")

    async def _keep_looking(self) -> None:
        pause_s = self._look_s
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), pause_s)
            self._look.clear()
            began = self.loop.time()
            if await asyncio.to_thread(self.credentials.look):
                self.hosts = Hosts(self.credentials.loaded.names, self._allowed_hosts)
            if self._standing is not None:
                self._standing.look()
            try:
                await self._read_folder()
            except FolderError as problem:
                self._limited.warning("folder", f"the folder cannot be read: {problem}")
            except Exception:  # the old table stays, and certificates are looked at further on
                log.exception("the folder could not be read")
            self.looks += 1
            took_s = self.loop.time() - began
            pause_s = max(self._look_s, took_s * LOOK_SHARE)
            # A file that never stays the same could be asked for again and again.
            await asyncio.sleep(took_s * 3)

    async def _read_folder(self) -> None:
        table = await asyncio.to_thread(self._read_table)
        if table is not None:
            self.table = table
            log.info(
                "the folder is read",
                extra={"paths": len(table.paths), "memory_bytes": table.memory_bytes},
            )

    def _read_table(self) -> Table | None:
        """In a thread. A key that was replaced has another inode, and its old one may be a page's
        by now."""
        self.folder.hidden = self.credentials.key_inodes()
        return self.folder.read()


def address_group(address: str) -> str:
    """What is counted as one client: an IPv4 address, or 64 bits of an IPv6 one."""
    if ":" not in address:
        return address
    parsed = ipaddress.IPv6Address(address)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keep_alive(listener, **KEEPALIVE)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
