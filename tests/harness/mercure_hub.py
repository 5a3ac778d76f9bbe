"""A hub that speaks Mercure, in the test's own loop or elsewhere, and clients of it.

What a test needs of a hub is in `MercureHub`: where it is, and the keys of its tokens. So the same
tests run on one that is built here of the hub's parts, under the server's own way to streams and
under plain ASGI, and on a whole program behind whatever stands in front of it.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import jwt
from tests.harness.eventually import SLOW
from tests.harness.plain_asgi import plain_asgi

from callboard.events.parser import Event, Parser
from callboard.hub.auth.keys import Keys, of_secret
from callboard.hub.auth.origins import Origins
from callboard.hub.auth.requests import Authority
from callboard.hub.auth.tokens import Trust
from callboard.hub.figures import Figures
from callboard.hub.history.sqlite import SqliteStore
from callboard.hub.history.store import Acknowledge, Retention
from callboard.hub.history.stored import StoredHistory
from callboard.hub.http.application import Hub
from callboard.hub.http.ports import Door
from callboard.hub.matching.index import Index
from callboard.hub.subscribers.limits import ReaderLimits
from callboard.hub.subscribers.readers import Readers
from callboard.serve import Server, TimerWheel

PATIENCE_S = 10.0 * SLOW
HUB = "/.well-known/mercure"
DETAIL = "https://mercure.rocks/authorization-detail"
ISSUER = "https://issuer.example"
Pairs = Iterable[tuple[str, str]]
Body = bytes | Mapping[str, str] | aiohttp.FormData | None


@dataclass
class MercureHub:
    """A running hub."""

    origin: str
    """`http://127.0.0.1:8800`."""
    publisher_key: bytes
    subscriber_key: bytes
    resource: str
    """Its resource identifier: `aud` of tokens of draft 08."""
    prefix: str = ""
    """Of a proxy in front (`/hub`)."""
    ssl: ssl.SSLContext | None = None
    session: aiohttp.ClientSession = field(init=False)

    def url(self, path: str = HUB) -> str:
        """Where a path of the hub is."""
        return f"{self.origin}{self.prefix}{path}"

    # ------------------------------------------------------------------ tokens

    def token(
        self,
        *,
        publish: Iterable[str] | None = None,
        subscribe: Iterable[str] | None = None,
        payload: object = None,
        key: bytes | None = None,
        **claims: object,
    ) -> str:
        """A token of drafts up to 07: topic selectors by what they are good for."""
        mercure: dict[str, object] = {}
        for name, topics in (("publish", publish), ("subscribe", subscribe)):
            if topics is not None:
                mercure[name] = list(topics)
        if payload is not None:
            mercure["payload"] = payload
        default = self.publisher_key if publish is not None else self.subscriber_key
        return jwt.encode({"mercure": mercure, **claims}, key or default, "HS256")

    def access_token(
        self,
        *details: Mapping[str, object],
        key: bytes | None = None,
        typ: str = "at+jwt",
        without: Iterable[str] = (),
        **claims: object,
    ) -> str:
        """A token of draft 08 with these authorization details; `without` names claims."""
        made: dict[str, object] = {
            "iss": ISSUER,
            "aud": self.resource,
            "exp": int(time.time()) + 600,
            "sub": "somebody",
            "authorization_details": list(details),
            **claims,
        }
        for name in without:
            del made[name]
        publishes = any("publish" in _actions(one) for one in details)
        default = self.publisher_key if publishes else self.subscriber_key
        return jwt.encode(made, key or default, "HS256", {"typ": typ})

    # ------------------------------------------------------------------ requests

    async def ask(
        self,
        method: str,
        path: str = HUB,
        *,
        query: Pairs = (),
        headers: Mapping[str, str] | None = None,
        data: Body = None,
        token: str = "",
    ) -> Answered:
        """One request, and its whole answer."""
        async with self._request(
            method, path, query, headers=headers, data=data, token=token
        ) as response:
            async with asyncio.timeout(PATIENCE_S):
                body = await response.read()
            return Answered(response.status, response.headers, body)

    async def publish(self, *fields: tuple[str, str], token: str | None = None) -> Answered:
        """Publish a form, by default with a token for every topic."""
        form = aiohttp.FormData(list(fields))
        allowed = self.token(publish=["*"]) if token is None else token
        return await self.ask("POST", data=form, token=allowed)

    @asynccontextmanager
    async def stream(
        self,
        *query: tuple[str, str],
        path: str = HUB,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        token: str = "",
    ) -> AsyncIterator[EventStream]:
        """An open stream of events."""
        async with self._request(
            method, path, query, headers=headers, data=data, token=token
        ) as response:
            yield EventStream(response)

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        query: Pairs,
        *,
        headers: Mapping[str, str] | None,
        data: Body,
        token: str,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        sent = dict(headers or {})
        if token:
            sent["Authorization"] = f"Bearer {token}"
        async with asyncio.timeout(PATIENCE_S):
            response = await self.session.request(
                method, self.url(path), params=list(query), headers=sent, data=data,
                ssl=self.ssl or False, allow_redirects=False,
            )  # fmt: skip
        try:
            yield response
        finally:
            response.close()


@dataclass(frozen=True)
class Answered:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def challenge(self) -> str:
        """WWW-Authenticate."""
        return self.headers.get("WWW-Authenticate", "")


class EventStream:
    """A stream as a client reads it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._parser = Parser()
        self._events: list[Event] = []
        self.raw = b""

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    async def event(self) -> Event:
        """The next event, the hub's own ones too."""
        async with asyncio.timeout(PATIENCE_S):
            while not self._events:
                data = await self._response.content.readany()
                if not data:
                    raise EOFError("the stream has ended")
                self.raw += data
                self._events += self._parser.feed(data)
        return self._events.pop(0)

    async def message(self) -> Event:
        """The next event that is not one of the hub's own."""
        while True:
            event = await self.event()
            if not event.type.startswith("hub."):
                return event

    async def rest(self) -> bytes:
        """The body to its end."""
        async with asyncio.timeout(PATIENCE_S):
            self.raw += await self._response.content.read()
        return self.raw


@asynccontextmanager
async def connected(hub: MercureHub) -> AsyncIterator[MercureHub]:
    """A hub with a client's session."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=None)
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=jar
    ) as session:
        hub.session = session
        yield hub


def detail(
    actions: Iterable[str],
    *topics: str | Mapping[str, str],
    payload: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """An authorization detail of draft 08; a topic that is text is matched exactly."""
    made: dict[str, object] = {
        "type": DETAIL,
        "actions": list(actions),
        "topics": [{"match": one} if isinstance(one, str) else dict(one) for one in topics],
    }
    return made if payload is None else made | {"payload": payload}


def pattern(text: str) -> dict[str, str]:
    """A topic matcher of a detail: a URL pattern."""
    return {"match": text, "match_type": "urlpattern"}


def _actions(one: Mapping[str, object]) -> Iterable[str]:
    actions = one.get("actions")
    return actions if isinstance(actions, list) else ()


PUBLISHER_KEY, SUBSCRIBER_KEY = b"p" * 32, b"s" * 32
APP = "https://app.example"
"""The page of another site that is allowed."""
RESOURCE = "https://hub.example/.well-known/mercure"


@dataclass
class LocalHub:
    """A hub in the test's own loop, and its parts."""

    hub: MercureHub
    server: Server
    history: StoredHistory
    readers: Readers
    application: Hub


@asynccontextmanager
async def local_hub(
    folder: Path,
    *,
    detach: bool = True,
    fast_lane: bool = True,
    door: Door | None = None,
    limits: ReaderLimits | None = None,
    listen: Mapping[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[LocalHub]:
    """A hub of the parts, with its history in a folder. `detach=False`: streams go by plain ASGI,
    as under any other server; `fast_lane=False`: everything goes through FastAPI. What else its
    `Server` is told is in `listen`, and its `Hub` in `more`."""
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop)
    store = SqliteStore(folder, Acknowledge.WRITTEN, Retention())
    failures: list[str] = []
    history = StoredHistory(store, Retention(), clock=time.time, fatal=failures.append)
    await history.start()
    readers = Readers(history, None, Index(RESOURCE), wheel=wheel, limits=limits)
    keys = Keys(of_secret(PUBLISHER_KEY), of_secret(SUBSCRIBER_KEY))
    authority = Authority(keys, Trust(RESOURCE), Origins([APP]))
    more = {"subscriptions": True, **more}
    application = Hub(history, readers, authority, Figures(history, readers), **more)
    api = application.api(door or Door())
    app = await api.app.app()
    served = app if detach else plain_asgi(app)
    told = dict(listen or {})
    server = Server(served, handlers=api.publishing, wheel=wheel, fast_lane=fast_lane, **told)
    await server.start()
    origin = f"http://127.0.0.1:{server.port}"
    mercure = MercureHub(origin, PUBLISHER_KEY, SUBSCRIBER_KEY, RESOURCE)
    try:
        async with connected(mercure):
            yield LocalHub(mercure, server, history, readers, application)
    finally:
        await server.stop(2.0)
        await readers.stop()
        await history.close()
    assert not failures
