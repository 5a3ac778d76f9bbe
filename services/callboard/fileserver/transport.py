"""One client's TLS connection: a non-blocking SSLSocket on the event loop's readers and writers.

OpenSSL reads and writes the socket itself. asyncio's own TLS goes through memory buffers, which
costs more than all the rest of a small answer, and never sends the alert that tells a client why
its certificate is refused. Here the alert goes out, and the end lingers until it was read: unread
bytes at a close would become a reset, and the reset would overtake the alert.

Never os.sendfile here: what it writes goes past OpenSSL, in the clear.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections import deque
from enum import IntEnum
from typing import Protocol

from callboard.fileserver.limits import Limits
from callboard.pki.contexts import check_resumed

log = logging.getLogger(__name__)

RECORD_BYTES = 16 * 1024
"""The most that a TLS record carries."""
READ_BYTES = 4 * 1024
"""Read at a time: a head fits, and Python allocates all of it beforehand."""
FILE_PART_BYTES = 64 * 1024
"""Of a file that is not in memory: what is read, and kept for the connection, at a time."""
TURN_BYTES = 512 * 1024
"""Written at most before other connections have their turn."""
LINGER_BYTES_MAX = 1 << 20
"""Read and thrown away at most of a client that is refused."""
PLAIN_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 44\r\nConnection: close\r\n\r\nThis port speaks TLS: https://, not http://\n"
)

_SCRATCH = memoryview(bytearray(FILE_PART_BYTES))
"""Files are read into this one buffer, which stays in the processor's cache; what a client does not
take at once is copied out of it."""

_WantRead = ssl.SSLWantReadError
_WantWrite = ssl.SSLWantWriteError


class State(IntEnum):
    """What a connection is doing; each has its time limit."""

    HANDSHAKE = 0
    HEAD = 1
    IDLE = 2
    SENDING = 3
    RELAYING = 4
    LINGERING = 5
    CLOSED = 6


# Members of an Enum are looked up slowly, and these are for every request.
_HANDSHAKE, _HEAD, _IDLE = State.HANDSHAKE, State.HEAD, State.IDLE
_RELAYING, _LINGERING, _CLOSED = State.RELAYING, State.LINGERING, State.CLOSED


class FilePart:
    """Bytes of an open file that are still to be sent; closes the descriptor at its end."""

    __slots__ = ("descriptor", "position", "stop")

    def __init__(self, descriptor: int, start: int, stop: int) -> None:
        self.descriptor = descriptor
        self.position = start
        self.stop = stop

    def next_into(self, scratch: memoryview) -> memoryview:
        """The next bytes, in `scratch`; none at the end. Raises OSError when the file became
        shorter."""
        wanted = min(len(scratch), self.stop - self.position)
        if wanted <= 0:
            return scratch[:0]
        size = os.preadv(self.descriptor, [scratch[:wanted]], self.position)
        if not size:
            raise OSError("the file became shorter while it was sent")
        self.position += size
        return scratch[:size]

    def close(self) -> None:
        """Give the descriptor back."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Owner(Protocol):
    """What a connection needs of its server."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    now: float
    """The loop's time, at most a tick old."""

    def forget(self, transport: Transport) -> None:
        """The connection's descriptor is closed."""

    def count_failure(self, kind: str) -> None:
        """A handshake or connection ended for this reason."""


class Transport:
    """Handshake, bytes both ways, and the end. What the bytes mean is the subclass's."""

    __slots__ = (
        "_out", "_queued", "_reading", "_shut", "_writing", "address", "born", "deadline", "fd",
        "lingered", "owner", "port", "raw", "sock", "state",
    )  # fmt: skip

    def __init__(
        self, owner: Owner, sock: socket.socket, context: ssl.SSLContext, address: tuple[str, int]
    ) -> None:
        """Begin the handshake. Raises OSError when the client has gone already."""
        self.owner = owner
        self.address, self.port = address
        self.sock = context.wrap_socket(
            sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        self.raw: socket.socket | None = None
        self.fd = self.sock.fileno()
        self.state = _HANDSHAKE
        self.born = owner.now
        self.deadline = owner.now + owner.limits.handshake_s
        self.lingered = 0
        self._out: deque[bytes | memoryview | FilePart] = deque()
        self._queued = 0
        self._reading = True
        self._writing = False
        self._shut = False
        owner.loop.add_reader(self.fd, self._readable)

    # what a subclass gives meaning to

    def established(self) -> None:
        """The handshake is done."""

    def received(self, data: bytes) -> None:
        """Decrypted bytes came."""
        raise NotImplementedError

    def ended(self) -> None:
        """The client sends no more."""
        raise NotImplementedError

    def flushed(self) -> None:
        """Everything that was queued is sent."""

    def lost(self) -> None:
        """The connection is gone; called once."""

    @property
    def certificate(self) -> bytes | None:
        """The client's certificate (DER), while the connection stands."""
        return self.sock.getpeercert(True) if _HANDSHAKE < self.state < _LINGERING else None

    # sending

    @property
    def queued(self) -> int:
        """Bytes that wait to be sent (a file counts for what is read of it)."""
        return self._queued

    def send(self, data: bytes | memoryview) -> None:
        """Send, or queue what does not go out at once."""
        if not self._out:
            try:
                sent = self.sock.write(data)
            except (_WantWrite, _WantRead):
                sent = 0
            except OSError:
                self.abort("write")
                return
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
        self._out.append(data)
        self._queued += len(data)

    def send_file(self, part: FilePart) -> None:
        """Queue bytes of a file."""
        self._out.append(part)

    def flush(self) -> bool:
        """Send what is queued as far as it goes; whether nothing is left.

        What is left goes on by itself, and then `flushed` is called.
        """
        out, write = self._out, self.sock.write
        turn = TURN_BYTES
        try:
            while out:
                first = out[0]
                if isinstance(first, FilePart):
                    if not self._load(first):
                        return False
                    continue
                view = memoryview(first)
                while view and turn > 0:
                    sent = write(view)
                    view = view[sent:]
                    turn -= sent
                    self._queued -= sent
                    out[0] = view
                if view:
                    break
                out.popleft()
        except (_WantWrite, _WantRead):
            pass
        except OSError:
            self.abort("write")
            return False
        if turn < TURN_BYTES and self.state is not _CLOSED:
            self.deadline = self.owner.now + self.owner.limits.write_stall_s
        if out:
            if self._queued and getattr(out[0], "obj", None) is _SCRATCH.obj:
                out[0] = bytes(out[0])  # type: ignore[arg-type]
            if not self._writing:
                self._writing = True
                self.owner.loop.add_writer(self.fd, self._writable)
            return False
        if self._writing:
            self._writing = False
            self.owner.loop.remove_writer(self.fd)
        return True

    def _load(self, file: FilePart) -> bool:
        """Put the next bytes of a file before it, or take it out at its end; False: it changed."""
        try:
            part = file.next_into(_SCRATCH)
        except OSError:
            self.abort("file_changed")
            return False
        if part:
            self._out.appendleft(part)
            self._queued += len(part)
        else:
            file.close()
            self._out.popleft()
        return True

    def pause(self) -> None:
        """Read nothing more until `resume`."""
        if self._reading:
            self._reading = False
            self.owner.loop.remove_reader(self.fd)

    def resume(self) -> None:
        """Read again; what OpenSSL has decrypted already comes with the loop's next turn."""
        if not self._reading and self.state < _LINGERING:
            self._reading = True
            self.owner.loop.add_reader(self.fd, self._readable)
            if self.sock.pending():
                self.owner.loop.call_soon(self._readable)

    # the end

    def finish(self, *, linger: bool = True) -> None:
        """End in order: close_notify, no more from us, and then wait until the client has read."""
        if self.state >= _LINGERING:
            return
        try:
            self.sock.unwrap()
        except (OSError, ValueError):
            pass  # it is sent; nobody waits for the client's
        if linger:
            self._linger()
        else:
            self.abort("")

    def abort(self, kind: str = "") -> None:
        """Close at once; `kind` is counted, "" is not."""
        if self.state is _CLOSED:
            return
        if kind:
            self.owner.count_failure(kind)
        was = self.state
        self._let_go()
        self.state = _CLOSED
        (self.raw or self.sock).close()
        self.owner.forget(self)
        if was is not _LINGERING:
            self.lost()

    def expire(self) -> None:
        """The state's time is over."""
        kinds = ("handshake", "head", "", "write_stall", "write_stall", "", "")
        if self.state is _IDLE:
            self.finish(linger=False)
        else:
            self.abort(f"{kinds[self.state]}_timeout" if kinds[self.state] else "")

    def _linger(self, last: bytes = b"") -> None:
        """Take the socket from OpenSSL, send no more, and read until the client ends."""
        self._let_go()
        raw = self.raw = socket.socket(
            self.sock.family, self.sock.type, self.sock.proto, self.sock.detach()
        )
        self.state = _LINGERING
        self.deadline = self.owner.now + self.owner.limits.linger_s
        self.lost()
        try:
            if last:
                raw.send(last)
            raw.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort("")
            return
        self._reading = True
        self.owner.loop.add_reader(self.fd, self._discard)

    def _discard(self) -> None:
        assert self.raw is not None
        try:
            data = self.raw.recv(FILE_PART_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.lingered += len(data)
        if not data or self.lingered > LINGER_BYTES_MAX:
            self.abort("")

    def _let_go(self) -> None:
        if self._reading:
            self._reading = False
            self.owner.loop.remove_reader(self.fd)
        if self._writing:
            self._writing = False
            self.owner.loop.remove_writer(self.fd)
        for item in self._out:
            if type(item) is FilePart:
                item.close()
        self._out.clear()
        self._queued = 0

    # what the loop calls

    def _readable(self) -> None:
        if self.state is _HANDSHAKE:
            self._shake()
            return
        if not self._reading or self.state >= _LINGERING:
            return  # called by `resume` for what was there before its connection ended
        size = READ_BYTES if self.state is not _RELAYING else RECORD_BYTES
        while True:
            try:
                data = self.sock.read(size)
            except (_WantRead, _WantWrite):
                return
            except OSError:
                self.abort("read")
                return
            if not data:
                self.pause()
                self.ended()
                return
            try:
                self.received(data)
            except Exception:
                log.exception("a request could not be answered")
                self.abort("error")
                return
            # OpenSSL reads record by record: nothing is left of one that did not fill the buffer
            if len(data) < size or not self._reading or self.state >= _LINGERING:
                return
            if not self.sock.pending():
                return

    def _writable(self) -> None:
        if self.state is _HANDSHAKE:
            self._shake()
        elif self.flush():
            self.flushed()

    def _shake(self) -> None:
        try:
            self.sock.do_handshake()
            check_resumed(self.sock)
        except _WantRead:
            self._want_write(False)
        except _WantWrite:
            self._want_write(True)
        except ssl.SSLError as problem:
            plain = problem.reason == "HTTP_REQUEST"
            self.owner.count_failure(f"handshake_{(problem.reason or 'failed').lower()}")
            self._linger(PLAIN_HTTP if plain else b"")
        except OSError:
            self.abort("handshake_lost")
        else:
            self._want_write(False)
            self.state = _HEAD
            self.deadline = self.owner.now + self.owner.limits.head_s
            self.established()

    def _want_write(self, wanted: bool) -> None:
        if wanted is not self._writing:
            self._writing = wanted
            if wanted:
                self.owner.loop.add_writer(self.fd, self._writable)
            else:
                self.owner.loop.remove_writer(self.fd)
