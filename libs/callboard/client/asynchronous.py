"""The client for asyncio, on aiohttp."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from callboard.catalog.objects import PASSING, KeyValue, Node
from callboard.client import calls
from callboard.client.addresses import DEFAULT_ADDRESS, Address, parse_addresses
from callboard.client.calls import Answer, Call, Instance
from callboard.client.errors import ApiError, ClientError, Unreachable
from callboard.client.keepalive import KeepAlive
from callboard.client.transport import CONNECT_TIMEOUT_S, TlsOptions
from callboard.client.watching import WatchState

T = TypeVar("T")


class AsyncClient:
    """Speaks with the first agent of a list that answers. An async context manager.

    Every method raises Unreachable when no agent answers, ApiError when one refuses.
    """

    def __init__(
        self,
        addresses: str = DEFAULT_ADDRESS,
        *,
        token: str = "",
        tls: TlsOptions | ssl.SSLContext | None = None,
        timeout_s: float = 10.0,
        source: str = "",
    ) -> None:
        """`addresses` is written as in CONSUL_HTTP_ADDR; `tls` says how https ones are spoken to,
        or is the context itself; `source` is the local IP address that connections come from. The
        session is made at the first call."""
        self._addresses = parse_addresses(addresses)
        self._headers = {"X-Consul-Token": token} if token else {}
        self._tls = tls or TlsOptions()
        self._timeout_s = timeout_s
        self._source = source
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._current = 0

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    # Services -----------------------------------------------------------------------------------

    async def register(
        self,
        name: str,
        *,
        id: str = "",
        port: int = 0,
        address: str = "",
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        ttl_s: float = 0.0,
        check: Mapping[str, object] | None = None,
    ) -> None:
        """Register a service with the agent; see `Client.register`."""
        await self.do(
            calls.register(
                name,
                id=id,
                port=port,
                address=address,
                tags=tags,
                meta=meta,
                ttl_s=ttl_s,
                check=check,
            )
        )

    @asynccontextmanager
    async def registered(
        self,
        name: str,
        *,
        id: str = "",
        port: int = 0,
        address: str = "",
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        ttl_s: float = calls.REGISTER_TTL_S,
    ) -> AsyncIterator[None]:
        """Be registered and passing inside the block; a task gives signs of life."""
        call = calls.register(
            name, id=id, port=port, address=address, tags=tags, meta=meta, ttl_s=ttl_s
        )
        keeper = KeepAlive(self.do, call, id or name, ttl_s)
        await keeper.give_sign()
        task = asyncio.get_running_loop().create_task(keeper.run(), name=f"keep-alive {name}")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await self.deregister(id or name)

    async def deregister(self, id: str) -> None:
        """Deregister a service from the agent; an unknown one is no error."""
        await self.do(calls.deregister(id))

    async def report(self, check_id: str, status: str = PASSING, note: str = "") -> None:
        """Give a sign of life: set a TTL check's status."""
        await self.do(calls.report(check_id, status, note))

    async def resolve(
        self, name: str, *, tag: str = "", passing: bool = True, stale: bool = False
    ) -> list[Instance]:
        """Instances of a service; without `passing` the unhealthy too."""
        return (await self.do(calls.instances(name, tag=tag, passing=passing, stale=stale))).value

    async def services(self) -> dict[str, tuple[str, ...]]:
        """Names of all services with their tags."""
        return (await self.do(calls.services())).value

    async def nodes(self) -> list[Node]:
        """All nodes."""
        return (await self.do(calls.nodes())).value

    async def leader(self) -> str:
        """The leader's RPC address; "" without one."""
        return (await self.do(calls.leader())).value

    # Key/value ----------------------------------------------------------------------------------

    async def get(self, key: str, *, stale: bool = False) -> KeyValue | None:
        """A key, or None."""
        return (await self.do(calls.key(key, stale=stale))).value

    async def put(self, key: str, value: bytes, *, flags: int = 0, cas: int | None = None) -> bool:
        """Write a key; False only when `cas` (its ModifyIndex as read) no longer holds."""
        return (await self.do(calls.put_key(key, value, flags=flags, cas=cas))).value

    async def delete(self, key: str, *, recurse: bool = False, cas: int | None = None) -> bool:
        """Delete a key, or all that begin with it."""
        return (await self.do(calls.delete_key(key, recurse=recurse, cas=cas))).value

    async def list(self, prefix: str = "", *, stale: bool = False) -> list[KeyValue]:
        """All keys that begin with a prefix."""
        return (await self.do(calls.keys_below(prefix, stale=stale))).value

    async def keys(self, prefix: str = "", *, separator: str = "") -> Sequence[str]:
        """Names of the keys that begin with a prefix."""
        return (await self.do(calls.key_names(prefix, separator=separator))).value

    # Watches ------------------------------------------------------------------------------------

    def watch(
        self, name: str, *, tag: str = "", passing: bool = True, wait_s: float = calls.WAIT_S
    ) -> AsyncIterator[Sequence[Instance]]:
        """The instances of a service now, and again at every change; see `watch_call`."""
        return self.watch_call(calls.instances(name, tag=tag, passing=passing), wait_s=wait_s)

    def watch_key(
        self, key: str, *, wait_s: float = calls.WAIT_S
    ) -> AsyncIterator[KeyValue | None]:
        """A key now, and again at every change; None while it does not exist."""
        return self.watch_call(calls.key(key), wait_s=wait_s)

    async def watch_call(self, call: Call[T], *, wait_s: float = calls.WAIT_S) -> AsyncIterator[T]:
        """The value of a read now and at every change, for ever; failures are waited out."""
        state = WatchState(random.Random())
        while True:
            try:
                answer = await self.do(call, index=state.index, wait_s=wait_s)
            except ClientError as problem:
                if isinstance(problem, ApiError) and 400 <= problem.status < 429:
                    raise
                await asyncio.sleep(state.failed())
                continue
            if state.answered(answer.index):
                yield answer.value

    async def do(self, call: Call[T], *, index: int = 0, wait_s: float = 0.0) -> Answer[T]:
        """Send any call, to each address until one answers (a read: without failing, 5xx)."""
        asked = call.waiting(index, wait_s) if index else call
        timeout_s = self._timeout_s + (wait_s * 17 / 16 if index else 0.0)
        first = self._current
        last: ClientError | None = None
        for step in range(len(self._addresses)):
            number = (first + step) % len(self._addresses)
            try:
                answer = await self._try(self._addresses[number], asked, timeout_s)
            except Unreachable as problem:
                last = last if isinstance(last, ApiError) else problem
                if problem.sent and call.method != "GET":
                    raise
                continue
            except ApiError as problem:
                last = problem
                if call.method != "GET" or problem.status < 500:
                    raise
                continue
            self._current = number
            return answer
        assert last is not None
        raise last

    async def _try(self, address: Address, call: Call[T], timeout_s: float) -> Answer[T]:
        target = call.path + ("?" + urlencode(call.query) if call.query else "")
        url = URL(address.url + target, encoded=True)
        timeout = aiohttp.ClientTimeout(
            total=timeout_s,
            sock_connect=CONNECT_TIMEOUT_S if len(self._addresses) > 1 else timeout_s,
        )
        try:
            async with self._session(address).request(
                call.method, url, data=call.body, timeout=timeout, allow_redirects=False
            ) as response:
                body = await response.read()
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer.of(call.read(response.status, body), headers)
        except aiohttp.ClientConnectorError as problem:
            raise Unreachable(f"{call.method} {url}: {problem}") from problem
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            reason = str(problem) or type(problem).__name__
            raise Unreachable(f"{call.method} {url}: {reason}", sent=True) from problem

    def _context(self) -> ssl.SSLContext:
        return self._tls.context() if isinstance(self._tls, TlsOptions) else self._tls

    def _session(self, address: Address) -> aiohttp.ClientSession:
        """The session for an address: one for all of TCP, one for each unix socket."""
        name = address.host if address.scheme == "unix" else ""
        session = self._sessions.get(name)
        if session is None:
            connector: aiohttp.BaseConnector
            if name:
                connector = aiohttp.UnixConnector(name)
            else:
                secure = any(known.scheme == "https" for known in self._addresses)
                connector = aiohttp.TCPConnector(
                    ssl=self._context() if secure else True,
                    local_addr=(self._source, 0) if self._source else None,
                )
            session = aiohttp.ClientSession(connector=connector, headers=self._headers)
            self._sessions[name] = session
        return session
