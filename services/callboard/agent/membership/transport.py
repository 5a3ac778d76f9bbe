"""The sockets of gossip: one UDP and one TCP listener on one port, and streams that we open.

Knows bytes and messages, not what they mean: what arrives is handed on, what it answers is sent.
Everything from outside has a limit in size, number and time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
from collections.abc import Callable

from callboard.agent.membership.errors import StreamError
from callboard.swim.codec import Codec
from callboard.swim.messages import Address, ErrorReply, Message
from callboard.swim.packing import DecodeError
from callboard.swim.streams import StreamDecoder, encode_stream

log = logging.getLogger(__name__)

STREAMS_MAX = 128
"""Incoming streams at once (memberlist's maxPushPullRequests); more are closed at once."""

UDP_RECEIVE_BUFFER_BYTES = 2 * 1024 * 1024

READ_BYTES = 64 * 1024
BIND_TRIES_MAX = 16


class _Datagrams(asyncio.DatagramProtocol):
    """Hands datagrams on."""

    def __init__(self, receive: Callable[[bytes, Address], None]) -> None:
        self._receive = receive
        self.is_full = False
        """The system takes no more at the moment: gossip is dropped, it repeats itself."""

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        self._receive(data, (str(addr[0]), addr[1]))

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False

    def error_received(self, exc: Exception) -> None:
        log.debug("datagram was refused", extra={"error": str(exc)})


class Transport:
    """The listeners, and what is sent through them."""

    def __init__(
        self,
        codec: Codec,
        *,
        receive: Callable[[bytes, Address], None],
        answer: Callable[[Message, Address], Message | None],
        reject: Callable[[str, Address], None],
        stream_timeout_s: float,
        source: str = "",
    ) -> None:
        """`receive(datagram, from)`; `answer(message, from)` to a stream; `reject(reason, from)`
        is told of streams that are no use; `source`: the address that our streams leave from."""
        self._codec = codec
        self._receive = receive
        self._answer = answer
        self._reject = reject
        self._stream_timeout_s = stream_timeout_s
        self._source = source
        self._datagrams: asyncio.DatagramTransport | None = None
        self._protocol: _Datagrams | None = None
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.Task[None]] = set()
        self._version = 4

    async def start(self, bind: str, port: int) -> int:
        """Listen; return the port (a free one for 0, UDP and TCP the same). Raises OSError."""
        self._version = ipaddress.ip_address(bind).version
        udp, tcp = _bind(bind, port)
        loop = asyncio.get_running_loop()
        self._datagrams, self._protocol = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._receive), sock=udp
        )
        self._server = await asyncio.start_server(self._serve, sock=tcp, backlog=STREAMS_MAX)
        return int(udp.getsockname()[1])

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for task in list(self._streams):
            task.cancel()
        if self._streams:
            await asyncio.gather(*self._streams, return_exceptions=True)
        if self._datagrams is not None:
            self._datagrams.close()

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram, or drop it: it was one of many."""
        transport, protocol = self._datagrams, self._protocol
        if transport is None or protocol is None or transport.is_closing():
            return
        if protocol.is_full or not self._reaches(address):
            return
        try:
            transport.sendto(data, address)
        except (OSError, ValueError) as problem:
            log.debug("datagram was not sent", extra={"addr": address[0], "error": str(problem)})

    def _reaches(self, address: Address) -> bool:
        """Whether our socket's family can send there at all."""
        return bool(address[1]) and (":" in address[0]) == (self._version == 6)

    async def exchange(self, address: Address, message: Message, timeout_s: float) -> Message:
        """Open a stream, send, return the answer. Raises StreamError."""
        local = (self._source, 0) if self._source else None
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(*address, local_addr=local)
                try:
                    writer.write(encode_stream(message, self._codec))
                    await writer.drain()
                    answer = await self._read(reader)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            raise StreamError(f"no answer within {timeout_s:g} s") from None
        except (OSError, DecodeError) as problem:
            raise StreamError(_in_words(problem)) from None
        if answer is None:
            raise StreamError("closed without an answer (is its encryption key another one?)")
        if isinstance(answer, ErrorReply):
            raise StreamError(f"the peer answers: {answer.error}")
        return answer

    async def _read(self, reader: asyncio.StreamReader) -> Message | None:
        """One message; None when the stream ends before anything came. Raises DecodeError."""
        decoder = StreamDecoder(self._codec)
        came = False
        while True:
            data = await reader.read(READ_BYTES)
            if not data and came:
                raise DecodeError("the stream ended in the middle of a message")
            if not data:
                return None
            came = True
            message = decoder.feed(data)
            if message is not None:
                return message

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One stream that another opened."""
        peer = writer.get_extra_info("peername") or ("?", 0)
        source = (str(peer[0]), int(peer[1]))
        if len(self._streams) >= STREAMS_MAX:
            self._reject("too many streams at once", source)
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            async with asyncio.timeout(self._stream_timeout_s):
                await self._serve_one(reader, writer, source)
        except TimeoutError:
            self._reject(f"the stream was not done in {self._stream_timeout_s:g} s", source)
        except OSError as problem:
            log.debug("stream broke", extra={"addr": source[0], "error": str(problem)})
        except asyncio.CancelledError:
            pass  # we stop; asyncio's stream protocol would log the cancellation as an error
        finally:
            self._streams.discard(task)
            writer.transport.abort()

    async def _serve_one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: Address
    ) -> None:
        try:
            message = await self._read(reader)
        except DecodeError as problem:
            self._reject(str(problem), source)
            answer: Message | None = ErrorReply(str(problem))
        else:
            answer = None if message is None else self._answer(message, source)
        if answer is not None:
            writer.write(encode_stream(answer, self._codec))
            await writer.drain()
            # Wait for the peer to close: aborting at once could cut what it has not read yet.
            if not writer.transport.is_closing():
                writer.write_eof()
                await reader.read(1)


def _bind(bind: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on one port. Raises OSError."""
    six = ipaddress.ip_address(bind).version == 6
    family = socket.AF_INET6 if six else socket.AF_INET
    for attempt in range(BIND_TRIES_MAX):
        udp = socket.socket(family, socket.SOCK_DGRAM)
        tcp = socket.socket(family, socket.SOCK_STREAM)
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            udp.bind((bind, port))
            tcp.bind((bind, udp.getsockname()[1]))
        except OSError as problem:
            udp.close()
            tcp.close()
            if port or attempt == BIND_TRIES_MAX - 1:
                raise OSError(
                    problem.errno, f"cannot listen on {bind} port {port}: {problem.strerror}"
                ) from None
            continue
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_RECEIVE_BUFFER_BYTES)
        udp.setblocking(False)
        tcp.setblocking(False)
        return udp, tcp
    raise AssertionError("unreachable")


def _in_words(problem: Exception) -> str:
    """An error as Go's users know it: "connection refused", without the number."""
    if isinstance(problem, OSError) and problem.errno:
        return f"connect: {os.strerror(problem.errno).lower()}"
    return str(problem)
