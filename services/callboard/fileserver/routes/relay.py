"""Carries one request to a program behind and its answer back: bytes as they come, no re-framing.

Once the heads are rewritten nothing is buffered beyond what a slow side needs: an event of a stream
leaves in the tick it came. A request that nobody has answered a byte of is tried once more, on
another instance, where that cannot do harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from callboard.chassis.logs import RateLimited
from callboard.fileserver.head import Head
from callboard.fileserver.ports import ClientConnection, Relayed
from callboard.fileserver.routes.framing import BadBody, Body, Chunked, Length, Nothing
from callboard.fileserver.routes.heads import (
    AnswerHead,
    BadAnswer,
    answer_head,
    end_of_answer_head,
    parse_answer,
    request_head,
)
from callboard.fileserver.routes.instances import Instance, Instances
from callboard.fileserver.routes.policy import Forward
from callboard.fileserver.routes.pool import Pool
from callboard.fileserver.routes.upstream import Upstream

log = logging.getLogger(__name__)

ATTEMPTS = 2
ANSWER_S = 660.0
"""Until an answer begins: the longest blocking query (10 minutes and its jitter) and some more."""
HSTS = b"Strict-Transport-Security: max-age=31536000\r\n"

_REASONS = {400: b"Bad Request", 502: b"Bad Gateway", 503: b"Service Unavailable"}

REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
"""Idempotent methods (RFC 9110, 9.2.2): sent twice they do what once does."""


class NoAnswer(OSError):
    """An instance gave no byte of an answer."""


@dataclass(slots=True)
class Traffic:
    """What the relay counts."""

    requests: dict[tuple[str, str], float] = field(default_factory=dict)
    """(service, status class "2xx" or "none") -> requests."""
    retries: int = 0
    streams: int = 0
    """Requests under way."""

    def count(self, service: str, status: int) -> None:
        """One request is over."""
        key = (service, f"{status // 100}xx" if status else "none")
        self.requests[key] = self.requests.get(key, 0) + 1


class Sent:
    """The request's body on its way: what of it was read from the client already."""

    def __init__(self, head: Head, leftover: bytes) -> None:
        self.body: Body = _request_body(head)
        taken = self.body.take(leftover)
        self.first, self.behind = leftover[:taken], leftover[taken:]
        """The part that came with the head; what is behind the body is the next request."""
        self.whole = self.body.done
        """Whether the first part is all of it: then it can be sent again."""


class Relay:
    """A Route (see `ports`): one request of one client."""

    def __init__(
        self,
        forward: Forward,
        instances: Instances,
        pool: Pool,
        traffic: Traffic,
        limited: RateLimited,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._forward = forward
        self._instances = instances
        self._pool = pool
        self._traffic = traffic
        self._limited = limited
        self._clock = clock

    async def relay(self, connection: ClientConnection, head: Head, leftover: bytes) -> Relayed:
        """Carry the request; see `ports.Route`."""
        self._traffic.streams += 1
        ended = Relayed(None)
        try:
            ended = await self._attempts(connection, head, leftover)
        finally:
            self._traffic.streams -= 1
            self._traffic.count(self._forward.service, ended.status)
        return ended

    async def _attempts(self, connection: ClientConnection, head: Head, leftover: bytes) -> Relayed:
        try:
            sent = Sent(head, leftover)
        except BadBody as problem:
            connection.write(_said(400, str(problem), close=True, method=head.method))
            await connection.drain()
            return Relayed(None, 400)
        tried: list[Instance] = []
        why = ""
        while len(tried) < ATTEMPTS:
            instance = self._instances.choose(self._forward.service, self._clock(), tried)
            if instance is None:
                break
            if tried:
                self._traffic.retries += 1
            tried.append(instance)
            upstream = await self._connect(instance)
            if upstream is None:
                why = "cannot be reached"
                continue
            try:
                return await self._exchange(upstream, instance, connection, head, sent)
            except NoAnswer as problem:
                self._failed(instance, str(problem))
                why = str(problem)
                if not (sent.whole and head.method in REPEATABLE):
                    break
        return await self._refuse(connection, head, sent, tried, why)

    async def _connect(self, instance: Instance) -> Upstream | None:
        try:
            return await self._pool.take(instance)
        except OSError as problem:
            self._failed(instance, str(problem) or type(problem).__name__)
            return None

    def _failed(self, instance: Instance, why: str) -> None:
        self._instances.shun(instance, self._clock())
        self._limited.warning(
            f"{instance}", f"{instance} does not answer: {why}", {"service": self._forward.service}
        )

    async def _exchange(
        self,
        upstream: Upstream,
        instance: Instance,
        connection: ClientConnection,
        head: Head,
        sent: Sent,
    ) -> Relayed:
        """One attempt. Raises NoAnswer while the client has got nothing."""
        pump: asyncio.Task[None] | None = None
        reusable = False
        try:
            first = request_head(head, self._forward, connection.peer) + sent.first
            try:
                await upstream.write(first)
                if not sent.whole:
                    pump = asyncio.create_task(_pump(connection, upstream, sent))
                answer = await self._answer(upstream, connection, head)
            except (OSError, BadAnswer) as problem:
                raise NoAnswer(str(problem) or type(problem).__name__) from problem
            self._instances.welcome(instance)
            told = str(instance)
            if answer.status == 101:
                return await self._tunnel(upstream, connection, answer, told, sent)
            close = not (answer.keep_alive and head.keep_alive and sent.body.done)
            hsts = HSTS if connection.secure_host else b""
            connection.write(answer_head(answer, self._forward, hsts=hsts, close=close))
            whole = await _carry(upstream, connection, answer.body)
            if not whole and not _ends_by_close(answer):
                connection.abort()  # a truncated answer must look like one
                return Relayed(None, answer.status, told)
            reusable = answer.keep_alive and sent.body.done
            return Relayed(None if close else sent.behind, answer.status, told)
        finally:
            if pump is not None:
                pump.cancel()
            if reusable:
                self._pool.give(instance, upstream)
            else:
                self._pool.drop(upstream)

    async def _answer(
        self, upstream: Upstream, connection: ClientConnection, head: Head
    ) -> AnswerHead:
        """The answer's head; interim ones (1xx) are passed on. Raises OSError, BadAnswer."""
        data = bytearray()
        async with asyncio.timeout(ANSWER_S):
            while True:
                end = end_of_answer_head(data)
                if not end:
                    piece = await upstream.read()
                    if not piece:
                        raise ConnectionResetError("it closed the connection")
                    data += piece
                    continue
                answer = parse_answer(bytes(data[:end]), head.method)
                del data[:end]
                if answer.status >= 200 or answer.status == 101:
                    if answer.status == 101 and not head.upgrade:
                        raise BadAnswer("it changed the protocol unasked")
                    upstream.give_back(bytes(data))
                    return answer
                connection.write(answer_head(answer, self._forward, hsts=b"", close=False))

    async def _tunnel(
        self,
        upstream: Upstream,
        connection: ClientConnection,
        answer: AnswerHead,
        told: str,
        sent: Sent,
    ) -> Relayed:
        """Bytes both ways until one side ends (WebSockets)."""
        connection.write(answer_head(answer, self._forward, hsts=b"", close=False))
        if sent.behind:
            await upstream.write(sent.behind)

        async def back() -> None:
            while data := await upstream.read():
                connection.write(data)
                await connection.drain()

        async def forth() -> None:
            while data := await connection.read():
                await upstream.write(data)

        tasks = {asyncio.create_task(back()), asyncio.create_task(forth())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return Relayed(None, answer.status, told)

    async def _refuse(
        self,
        connection: ClientConnection,
        head: Head,
        sent: Sent,
        tried: list[Instance],
        why: str,
    ) -> Relayed:
        """Say that nobody answered: 503 when nobody could be asked, 502 when somebody failed."""
        service = self._forward.service
        status, text = 503, f"no healthy instance of {service} is known"
        if tried:
            status, text = 502, f"{service} does not answer: {why}"
        close = not (head.keep_alive and sent.whole)
        connection.write(_said(status, text, close=close, method=head.method))
        await connection.drain()
        return Relayed(None if close else sent.behind, status, str(tried[-1]) if tried else "")


def _said(status: int, text: str, *, close: bool, method: bytes) -> bytes:
    """An answer of our own."""
    body = text.encode("ascii", "replace") + b"\n"
    return (
        b"HTTP/1.1 %d %b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
        b"X-Content-Type-Options: nosniff\r\nContent-Security-Policy: sandbox\r\n"
        b"Cache-Control: no-store\r\n%b%b\r\n%b"
    ) % (
        status,
        _REASONS[status],
        len(body),
        b"Retry-After: 1\r\n" if status >= 500 else b"",
        b"Connection: close\r\n" if close else b"",
        b"" if method == b"HEAD" else body,
    )


async def _carry(upstream: Upstream, connection: ClientConnection, body: Body) -> bool:
    """Pass the answer's body on as it comes; whether its end was seen."""
    while not body.done:
        data = await upstream.read()
        if not data:
            break
        try:
            taken = body.take(data)
        except BadBody as problem:
            log.warning("an answer does not keep to its framing: %s", problem)
            break
        connection.write(data if taken == len(data) else data[:taken])
        if taken < len(data):
            upstream.give_back(data[taken:])  # then it is not idle, and will not be used again
        await connection.drain()
    await connection.drain()
    return body.done


async def _pump(connection: ClientConnection, upstream: Upstream, sent: Sent) -> None:
    """The rest of the request's body; ends the upstream when the client breaks it off."""
    try:
        while not sent.body.done:
            data = await connection.read()
            if not data:
                upstream.close()
                return
            taken = sent.body.take(data)
            sent.behind = data[taken:]
            await upstream.write(data[:taken])
    except (OSError, BadBody):
        upstream.close()


def _request_body(head: Head) -> Body:
    if head.chunked:
        return Chunked()
    return Length(head.content_length) if head.content_length else Nothing()


def _ends_by_close(answer: AnswerHead) -> bool:
    """Whether the connection's end is the body's."""
    return not isinstance(answer.body, Nothing | Length | Chunked)
