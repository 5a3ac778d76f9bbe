"""Subscribe and publish with asyncio, on aiohttp.

async with subscribe("builds", last_event_id=known) as events:
    async for event in events:
        print(event.id, event.data)

id = await publish("builds", "done")
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from types import SimpleNamespace
from typing import Unpack

import aiohttp
from yarl import URL

from callboard.events import targets
from callboard.events.attempts import PUBLISH_S, Attempts
from callboard.events.course import CONNECT_S, Course, Wishes
from callboard.events.errors import REFUSAL_BYTES, Refused, reason_of
from callboard.events.parser import Event
from callboard.events.targets import DEFAULT_HUB, Options

Token = str | Callable[[], str | Awaitable[str]]
"""A token, or where a new one comes from: asked before every connection."""

TOKEN_S = 30.0
"""For a new token."""


class Stream:
    """The events of a subscription: an async iterator, and a context manager that ends it."""

    def __init__(self, course: Course, token: Token, tls: ssl.SSLContext | None) -> None:
        self._course = course
        self._token = token
        self._tls = tls
        self._events = self._run()
        self.last_event_id = course.last_event_id
        """Where to resume after what was taken from this stream so far."""

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the subscription, and its connection."""
        await self._events.aclose()

    async def _run(self) -> AsyncGenerator[Event, None]:
        course, loop = self._course, asyncio.get_running_loop()
        async with _session(self._tls) as session:
            while True:
                reason, timed_out = "", False
                try:
                    async with aclosing(self._connection(session)) as chunks:
                        async for chunk in chunks:
                            for event in course.received(chunk, loop.time()):
                                self.last_event_id = event.id
                                yield event
                            self.last_event_id = course.last_event_id
                            if course.hurries(loop.time()):
                                break
                except TimeoutError:
                    reason, timed_out = "nothing came in time", True
                except (aiohttp.ClientError, OSError) as problem:
                    reason = reason_of(problem)
                if course.finished:
                    return
                rest_s = course.lost(loop.time(), reason, timed_out=timed_out)
                await asyncio.sleep(rest_s)

    async def _connection(self, session: aiohttp.ClientSession) -> AsyncGenerator[bytes, None]:
        """The bytes of one connection."""
        course, loop = self._course, asyncio.get_running_loop()
        token = await _fresh(self._token)
        turn = course.turn(loop.time(), token)
        async with asyncio.timeout(course.patience_s(loop.time())) as limit:
            response = await session.get(
                URL(turn.url, encoded=True),
                headers=turn.headers,
                allow_redirects=False,
                trace_request_ctx=(course, limit),
            )
        try:
            text = ""
            if response.status != 200:
                async with asyncio.timeout(CONNECT_S):
                    text = (await response.content.read(REFUSAL_BYTES)).decode("utf-8", "replace")
            if not course.opened(response.status, _lower(response.headers), text):
                return
            while True:
                async with asyncio.timeout(course.patience_s(loop.time())):
                    chunk = await response.content.readany()
                if not chunk:
                    return
                yield chunk
        finally:
            response.close()


def subscribe(
    topics: str | Sequence[str],
    *,
    hub: str | None = None,
    token: Token = "",
    tls: ssl.SSLContext | None = None,
    last_event_id: str = "",
    since: str = "",
    last: int | None = None,
    beat_s: float = 10.0,
    lines: bool = False,
    patient: bool = True,
) -> Stream:
    """The events of topics, for ever: resumed where it stood whenever the connection is lost, none
    left out and none given twice; what the hub no longer has is told by a `Gap`.

    `topics`: names (`builds` is /builds), URLs, URI templates; `hub` is where (default: this
    machine's). An http(s) URL without `hub` is a stream's own: of a hub, or any that a browser's
    EventSource would read. `last_event_id` resumes; else `since` ("10m") or `last` say how far back
    to begin. `beat_s` is between signs of life (0: none; a stream that is held back by a proxy is
    then not noticed). `lines`: JSON lines instead of server-sent events, which tell topics and
    times. `patient`: wait for a hub that was never reached, too.

    Raises, from the iterator: Refused (a token that is not taken, a topic that cannot be),
    NotAStream, Unreachable (not `patient` only), EventTooLong, BadLine; ValueError at once.
    """
    target = targets.target(topics, hub)
    wishes = Wishes(last_event_id, since, last, beat_s, lines)
    rng = random.SystemRandom()
    course = Course(target, wishes, rng, renews=callable(token), patient=patient)
    return Stream(course, token, tls)


async def publish(
    topics: str | Sequence[str],
    data: str | bytes,
    *,
    hub: str = DEFAULT_HUB,
    token: Token = "",
    tls: ssl.SSLContext | None = None,
    timeout_s: float = PUBLISH_S,
    **options: Unpack[Options],
) -> str:
    """Publish one event; its id. Several topics are names of the same event, the first of them the
    canonical one; what else may be said of it: see `Options`. It is sent again after failures that
    may pass, which doubles nothing: see `Attempts`. Raises Refused, Unreachable after `timeout_s`,
    ValueError."""
    async with Publisher(hub, token=token, tls=tls) as publisher:
        return await publisher.publish(topics, data, timeout_s=timeout_s, **options)


class Publisher:
    """Publishes over connections that are kept. An async context manager."""

    def __init__(
        self, hub: str = DEFAULT_HUB, *, token: Token = "", tls: ssl.SSLContext | None = None
    ) -> None:
        """Raises ValueError. The session is made at the first call."""
        self._hub = targets.hub_url(hub)
        self._token = token
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Publisher:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def publish(
        self,
        topics: str | Sequence[str],
        data: str | bytes,
        *,
        timeout_s: float = PUBLISH_S,
        **options: Unpack[Options],
    ) -> str:
        """See the function of the same name."""
        posting = targets.posting(topics, data, hub=self._hub, **options)
        loop = asyncio.get_running_loop()
        attempts = Attempts(posting, random.SystemRandom(), loop.time(), timeout_s)
        while True:
            try:
                return await self._post(attempts, attempts.timeout_s(loop.time()))
            except (Refused, aiohttp.ClientError, OSError) as problem:
                rest_s = attempts.rest_s(problem, loop.time())
            await asyncio.sleep(rest_s)

    async def _post(self, attempts: Attempts, timeout_s: float) -> str:
        token = await _fresh(self._token)
        if self._session is None:
            self._session = _session(self._tls)
        async with asyncio.timeout(timeout_s):
            async with self._session.post(
                URL(attempts.posting.url, encoded=True),
                data=attempts.posting.body,
                headers=attempts.headers(token),
                allow_redirects=False,
            ) as response:
                text = (await response.content.read(REFUSAL_BYTES)).decode("utf-8", "replace")
                if response.status != 200:
                    raise Refused(response.status, _lower(response.headers), text)
                return text.strip()


async def _fresh(token: Token) -> str:
    """The token itself, or a new one. Raises what the callable raises, OSError when it dawdles."""
    if not callable(token):
        return token
    given = token()
    if isinstance(given, str):
        return given
    try:
        async with asyncio.timeout(TOKEN_S):
            return await given
    except TimeoutError as problem:
        raise OSError(f"no new token came within {TOKEN_S:g} s") from problem


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


async def _sent(
    session: aiohttp.ClientSession,
    context: SimpleNamespace,
    params: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    """A request is out: if it is a subscription's, it is its answer that is waited for now."""
    if context.trace_request_ctx is None:
        return
    course: Course
    limit: asyncio.Timeout
    course, limit = context.trace_request_ctx
    now = asyncio.get_running_loop().time()
    course.sent(now)
    limit.reschedule(now + course.patience_s(now))


def _session(tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
    """A session whose waits are bounded by whoever waits. It refers to no stream: one that is left
    is then closed at once, not when cycles are looked for."""
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_sent)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls if tls is not None else True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        trace_configs=[trace],
    )
