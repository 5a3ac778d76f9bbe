"""Carries one request to a program behind and its answer back: bytes as they come, no re-framing.

A request that nobody has answered a byte of is tried once more, on another instance, where that
cannot do harm: nothing of it was sent, or it only reads.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from callboard.chassis.logs import RateLimited
from callboard.fileserver.guards import HSTS
from callboard.fileserver.head import Head
from callboard.fileserver.ports import ClientConnection, Relayed
from callboard.fileserver.routes.carrying import Carrying, Sent, pump, tunnel
from callboard.fileserver.routes.framing import BadBody, Chunked, UntilClose
from callboard.fileserver.routes.heads import (
    AnswerHead,
    BadAnswer,
    answer_head,
    end_of_answer_head,
    parse_answer,
    request_head,
)
from callboard.fileserver.routes.instances import Instance, Instances
from callboard.fileserver.routes.policy import SAFE, Forward
from callboard.fileserver.routes.pool import Pool
from callboard.fileserver.routes.refusing import RETRY_MS, refusal
from callboard.fileserver.routes.upstream import Upstream

ATTEMPTS = 2
INTERIM_MAX = 16
"""Answers before the answer (1xx)."""


class Failed(OSError):
    """An attempt came to nothing, and the client has got nothing of it."""


class Unreachable(Failed):
    """Nothing was sent: whatever it was may be tried elsewhere."""


class NoAnswer(Failed):
    """It was sent, and may have been done."""


class TooLate(Failed):
    """Sent, and not answered in time."""


class Broken(Failed):
    """The client did not send the body that it announced."""


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
        self._status = 0
        self._told = ""
        """Who answered."""

    async def relay(self, connection: ClientConnection, head: Head, leftover: bytes) -> Relayed:
        """Carry the request; see `ports.Route`."""
        self._traffic.streams += 1
        try:
            return await self._relay(connection, head, leftover)
        except asyncio.CancelledError:
            if not connection.closed:
                raise
            return self._cut()  # the client has left: how most streams end
        except ConnectionError:
            return self._cut()
        finally:
            self._traffic.streams -= 1
            self._traffic.count(self._forward.service, self._status)

    def _cut(self) -> Relayed:
        return Relayed(None, self._status, self._told, cut=True)

    async def _relay(self, connection: ClientConnection, head: Head, leftover: bytes) -> Relayed:
        try:
            sent = Sent(head, leftover)
        except BadBody as problem:
            return self._refuse(connection, head, None, 400, str(problem))
        service = self._forward.service
        status, text = 503, self._instances.why_none(service)
        tried: list[Instance] = []
        while len(tried) < ATTEMPTS:
            instance = self._instances.choose(service, self._clock(), tried)
            if instance is None:
                break
            self._traffic.retries += bool(tried)
            tried.append(instance)
            self._told = str(instance)
            try:
                return await self._at(instance, connection, head, sent)
            except Broken as problem:
                status, text = 400, str(problem)
                break
            except Failed as problem:
                self._failed(instance, problem)
                text = f"{service} does not answer: {_public(problem)}"
                status = 504 if isinstance(problem, TooLate) else 502
                if not isinstance(problem, Unreachable) and not _repeatable(head, sent, problem):
                    break
        return self._refuse(connection, head, sent, status, text)

    async def _at(
        self, instance: Instance, connection: ClientConnection, head: Head, sent: Sent
    ) -> Relayed:
        """One instance's attempt. Raises Failed."""
        upstream = await self._connect(instance)
        try:
            return await self._exchange(upstream, instance, connection, head, sent)
        except NoAnswer as problem:
            if upstream.fresh or not _repeatable(head, sent, problem):
                raise
        # It was kept, and ended just as it was used again: that says nothing of the instance.
        upstream = await self._connect(instance, fresh=True)
        return await self._exchange(upstream, instance, connection, head, sent)

    async def _connect(self, instance: Instance, *, fresh: bool = False) -> Upstream:
        try:
            return await self._pool.take(instance, fresh=fresh)
        except OSError as problem:
            raise Unreachable(str(problem) or type(problem).__name__) from problem

    def _failed(self, instance: Instance, problem: Failed) -> None:
        self._instances.shun(instance, self._clock())
        self._limited.warning(
            str(instance),
            "an instance does not answer",
            {
                "service": self._forward.service,
                "instance": str(instance),
                "reason": str(problem),
            },
        )

    async def _exchange(
        self,
        upstream: Upstream,
        instance: Instance,
        connection: ClientConnection,
        head: Head,
        sent: Sent,
    ) -> Relayed:
        """Ask, and carry the answer. Raises Failed while the client has got nothing."""
        pumping: asyncio.Task[None] | None = None
        reusable = False
        try:
            first = request_head(head, self._forward, connection.peer, instance.authority)
            try:
                await upstream.write(first + sent.first)
                if not sent.whole:
                    pumping = asyncio.create_task(pump(connection, upstream, sent))
                answer = await self._answer(upstream, connection, head, sent)
            except (ConnectionError, BadAnswer) as problem:
                if sent.broken:
                    raise Broken(sent.broken) from problem
                raise NoAnswer(str(problem) or type(problem).__name__) from problem
            self._instances.welcome(instance)
            self._status = answer.status
            if answer.status == 101:
                told = answer_head(answer, self._forward, hsts=b"", close=False)
                await tunnel(upstream, connection, told, sent)
                return Relayed(None, answer.status, self._told)
            ended = await self._carry(upstream, connection, head, answer, sent)
            reusable = ended is not None and answer.keep_alive and sent.body.done
            return ended or self._cut()
        finally:
            if pumping is not None:
                pumping.cancel()
            if reusable:
                self._pool.give(instance, upstream)
            else:
                self._pool.drop(upstream)

    async def _carry(
        self,
        upstream: Upstream,
        connection: ClientConnection,
        head: Head,
        answer: AnswerHead,
        sent: Sent,
    ) -> Relayed | None:
        """Carry an answer through; None: it was cut short, and looks so to the client."""
        by_close = isinstance(answer.body, UntilClose)
        close = by_close or not (head.keep_alive and head.minor and sent.body.done)
        hsts = HSTS if connection.secure_host else b""
        carrying = Carrying(upstream, connection, answer.body)
        told = answer_head(answer, self._forward, hsts=hsts, close=close)
        whole = await carrying.carry(told)
        if carrying.fault:
            self._limited.warning(
                f"{self._told} framing",
                "an answer does not keep to its framing",
                {"instance": self._told, "reason": carrying.fault},
            )
        if not whole and not (by_close and not upstream.failed):
            connection.abort()
            return None
        return Relayed(None if close else sent.behind, answer.status, self._told)

    async def _answer(
        self, upstream: Upstream, connection: ClientConnection, head: Head, sent: Sent
    ) -> AnswerHead:
        """The answer's head; interim ones (1xx) are passed on. Raises ConnectionError, BadAnswer,
        TooLate."""
        data = bytearray()
        interim = 0
        since = self._clock()
        while True:
            end = end_of_answer_head(data)
            if not end:
                piece = await self._piece(upstream, sent, since)
                if not piece:
                    raise ConnectionResetError("it closed the connection")
                data += piece
                continue
            answer = parse_answer(bytes(data[:end]), head.method)
            del data[:end]
            if answer.status >= 200 or answer.status == 101:
                if answer.status == 101 and not self._forward.websocket:
                    raise BadAnswer("it changed the protocol unasked")
                if not head.minor and isinstance(answer.body, Chunked):
                    raise BadAnswer("it sends chunks to an HTTP/1.0 client")
                upstream.give_back(bytes(data))
                return answer
            interim += 1
            if interim > INTERIM_MAX:
                raise BadAnswer("it sends interim answers without end")
            if head.minor:
                connection.write(answer_head(answer, self._forward, hsts=b"", close=False))

    async def _piece(self, upstream: Upstream, sent: Sent, since: float) -> bytes:
        """What the upstream sends next. Raises TooLate when the request's last byte, or the
        asking, was too long ago."""
        limit_s = self._forward.answer_s
        while True:
            begun = max(since, sent.moved)
            try:
                async with asyncio.timeout_at(begun + limit_s):
                    return await upstream.read()
            except TimeoutError:
                if sent.moved <= begun:
                    raise TooLate(f"no answer within {limit_s:.0f} s") from None

    def _refuse(
        self, connection: ClientConnection, head: Head, sent: Sent | None, status: int, text: str
    ) -> Relayed:
        """Answer ourselves; without a body that is known to be over the connection ends."""
        keep = head.keep_alive and bool(head.minor) and sent is not None and sent.whole
        self._status = status
        retry_ms = random.randint(*RETRY_MS)
        connection.write(refusal(head, status, text, close=not keep, retry_ms=retry_ms))
        return Relayed(sent.behind if keep and sent is not None else None, status, self._told)


def _repeatable(head: Head, sent: Sent, problem: Failed) -> bool:
    """Whether a request that may have been done may be sent again: if it only reads. Idempotent
    by HTTP is not enough: Consul's PUTs create sessions, and compare and set."""
    return sent.whole and head.method in SAFE and isinstance(problem, NoAnswer)


def _public(problem: Failed) -> str:
    """What a client may know of a failure; the log has all of it."""
    return "it cannot be reached" if isinstance(problem, Unreachable) else str(problem)
