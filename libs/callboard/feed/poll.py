"""Fills a copy by blocking queries alone: works in front of any Consul-compatible server.

The names of services are asked for, then every service's health, each answer being parked at the
server until something changes. More services than `PARKED_MAX` take turns. What a feed gives in one
stream costs a request a change here; it is the fallback, and a differential test of the feed.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from callboard.catalog.changes import Change
from callboard.catalog.objects import Check, Node, ServiceInstance
from callboard.catalog.tables import CatalogTables
from callboard.chassis.logs import RateLimited
from callboard.feed.copy import CatalogCopy

log = logging.getLogger(__name__)

PARKED_MAX = 100
"""Blocking queries at the same time: Consul lets a client have 200 connections."""

FIRST_PARALLEL = 16
FAILURE_LOG_INTERVAL_S = 60.0
NODES = "/v1/catalog/nodes"
NAMES = "/v1/catalog/services"

T = TypeVar("T")


class PollError(Exception):
    """The server's answer is of no use."""


@dataclass(frozen=True, slots=True)
class PollSettings:
    """Times in seconds."""

    wait_s: float = 30.0
    """How long a query of a service may be parked."""
    beat_wait_s: float = 3.0
    """The same for the list of services: its answers tell how fresh the copy is."""
    request_timeout_s: float = 10.0
    """Beyond the wait."""
    retry_min_s: float = 0.2
    retry_max_s: float = 5.0


class HealthRow(msgspec.Struct, frozen=True):
    """An element of health/service/<name>."""

    node: Node = msgspec.field(name="Node")
    service: ServiceInstance = msgspec.field(name="Service")
    checks: tuple[Check, ...] = msgspec.field(name="Checks", default=())


class PollClient:
    """Runs as one task; see `run`."""

    def __init__(
        self,
        addresses: Sequence[str],
        copy: CatalogCopy,
        *,
        settings: PollSettings | None = None,
        tls: ssl.SSLContext | None = None,
        headers: dict[str, str] | None = None,
        source: str = "",
        rng: random.Random | None = None,
    ) -> None:
        """As `FeedClient`; `addresses` are URLs of any Consul-compatible server."""
        assert addresses, "nobody to ask"
        self._addresses = list(addresses)
        self._copy = copy
        self._settings = settings or PollSettings()
        self._tls = tls
        self._headers = dict(headers or {})
        self._local = (source, 0) if source else None
        self._rng = rng or random.Random()
        self._limited = RateLimited(log, FAILURE_LOG_INTERVAL_S)
        self.connected_to = ""
        self.last_error = ""
        self.switches = 0

    async def run(self) -> None:
        """Follow for ever, one server at a time; cancel to stop."""
        settings = self._settings
        connector = aiohttp.TCPConnector(
            ssl=self._tls if self._tls is not None else True,
            local_addr=self._local,
            limit=PARKED_MAX + FIRST_PARALLEL,
        )
        async with aiohttp.ClientSession(connector=connector, headers=self._headers) as session:
            failures = 0
            self._rng.shuffle(self._addresses)
            while True:
                address = self._addresses[failures % len(self._addresses)]
                mirror = Mirror(session, address, self._copy, settings)
                try:
                    await mirror.load()
                    self.connected_to, failures = address, 0
                    await mirror.follow()
                except* (aiohttp.ClientError, OSError, TimeoutError, PollError) as problems:
                    self._lost(address, problems)
                failures += 1
                self.connected_to = ""
                longest = min(settings.retry_max_s, settings.retry_min_s * 2 ** min(failures, 8))
                await asyncio.sleep(self._rng.uniform(settings.retry_min_s, longest))

    def _lost(self, address: str, problems: BaseExceptionGroup[Exception]) -> None:
        self.switches += 1
        first: BaseException = problems
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        self.last_error = f"{address}: {type(first).__name__} {first}".strip()
        self._limited.warning(
            address, "polling ended", {"address": address, "why": self.last_error}
        )


class Mirror:
    """One server's catalog, mirrored into a copy."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        address: str,
        copy: CatalogCopy,
        settings: PollSettings,
    ) -> None:
        self._session = session
        self._address = address.rstrip("/")
        self._copy = copy
        self._settings = settings
        self._indexes: dict[str, int] = {}
        self._names: set[str] = set()
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._workers = 0

    async def load(self) -> None:
        """Take everything once, aside; only then is the copy replaced."""
        nodes = await self._get(NODES, list[Node])
        names = await self._get(NAMES, dict[str, object])
        gate = asyncio.Semaphore(FIRST_PARALLEL)

        async def health(name: str) -> list[HealthRow]:
            async with gate:
                return await self._get(_health(name), list[HealthRow])

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(health(name)) for name in names]
        tables = CatalogTables()
        for node in nodes:
            tables.put_node(node)
        for task in tasks:
            for row in task.result():
                tables.put_node(row.node)
                tables.put_service(_of(row))
                for check in row.checks:
                    tables.put_check(check)
        self._names = set(names)
        datacenter = nodes[0].datacenter if nodes else self._copy.datacenter or "dc1"
        if self._copy.datacenter not in ("", datacenter):
            raise PollError(f"the server is of datacenter {datacenter!r}")
        index = max(self._indexes.values())
        self._copy.replace(tables, index, epoch="", datacenter=datacenter)

    async def follow(self) -> None:
        """Follow what changes until the server fails."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_nodes())
            group.create_task(self._follow_names(group))
            for name in sorted(self._names):
                self._watch(name, group)

    async def _follow_nodes(self) -> None:
        while True:
            nodes = await self._get(NODES, list[Node], self._settings.wait_s)
            self._apply(list(self._node_changes(nodes)))

    async def _follow_names(self, group: asyncio.TaskGroup) -> None:
        while True:
            names = await self._get(NAMES, dict[str, object], self._settings.beat_wait_s)
            for name in sorted(names.keys() - self._names):
                self._names.add(name)
                self._watch(name, group)
            for name in self._names - names.keys():
                self._names.discard(name)
                self._indexes.pop(_health(name), None)
                self._apply(list(self._service_changes(name, [])))

    def _watch(self, name: str, group: asyncio.TaskGroup) -> None:
        self._queue.put_nowait(name)
        if self._workers < PARKED_MAX:
            self._workers += 1
            group.create_task(self._work())

    async def _work(self) -> None:
        """Ask for one service after another; with few services each stays with its worker."""
        while True:
            name = await self._queue.get()
            if name not in self._names:
                continue
            share = PARKED_MAX / max(PARKED_MAX, len(self._names))
            wait_s = max(1.0, self._settings.wait_s * share)
            rows = await self._get(_health(name), list[HealthRow], wait_s)
            if name in self._names:
                self._apply(list(self._service_changes(name, rows)))
                self._queue.put_nowait(name)

    # -- differences ------------------------------------------------------------------------

    def _apply(self, changes: list[Change]) -> None:
        if changes:
            self._copy.applied_index = max(self._indexes.values())
            self._copy.apply(changes)

    def _node_changes(self, nodes: list[Node]) -> Iterator[Change]:
        tables = self._copy.tables
        for node in nodes:
            if tables.node(node.name) != node:
                yield Change(node.modify_index, "put", "node", node.name, "", node)
        kept = {node.name.lower() for node in nodes}
        for node in list(tables.nodes()):
            if node.name.lower() in kept:
                continue
            for check in tables.node_checks(node.name):
                yield Change(0, "delete", "check", node.name, check.check_id, None)
            for it in tables.node_services(node.name):
                yield Change(0, "delete", "service", node.name, it.id, None)
            yield Change(0, "delete", "node", node.name, "", None)

    def _service_changes(self, name: str, rows: list[HealthRow]) -> Iterator[Change]:
        tables = self._copy.tables
        kept: set[tuple[str, str]] = set()
        for row in rows:
            node, service = row.node, _of(row)
            kept.add((node.name.lower(), service.id))
            if tables.node(node.name) != node:
                yield Change(node.modify_index, "put", "node", node.name, "", node)
            if tables.service(node.name, service.id) != service:
                index = service.modify_index
                yield Change(index, "put", "service", node.name, service.id, service)
            yield from self._check_changes(node.name, service.id, row.checks)
        for old in list(tables.service_instances(name)):
            if (old.node.lower(), old.id) in kept:
                continue
            for check in tables.instance_checks(old.node, old.id):
                yield Change(0, "delete", "check", old.node, check.check_id, None)
            yield Change(0, "delete", "service", old.node, old.id, None)

    def _check_changes(
        self, node: str, service_id: str, checks: Sequence[Check]
    ) -> Iterator[Change]:
        """What makes the checks of a node and of one instance on it these ones."""
        tables = self._copy.tables
        for check in checks:
            if tables.check(node, check.check_id) != check:
                yield Change(check.modify_index, "put", "check", node, check.check_id, check)
        kept = {check.check_id for check in checks}
        for owner in ("", service_id):
            for old in tables.instance_checks(node, owner):
                if old.check_id not in kept:
                    yield Change(0, "delete", "check", node, old.check_id, None)

    # -- requests ---------------------------------------------------------------------------

    async def _get(self, path: str, shape: type[T], wait_s: float = 0.0) -> T:
        """Ask once, parked for as long as nothing changes if `wait_s` is given."""
        index = self._indexes.get(path, 0) if wait_s else 0
        query = f"?stale&index={index}&wait={int(wait_s * 1000)}ms" if index else "?stale"
        timeout = aiohttp.ClientTimeout(total=wait_s * 17 / 16 + self._settings.request_timeout_s)
        async with self._session.get(self._address + path + query, timeout=timeout) as response:
            body = await response.read()
            if response.status != 200:
                raise PollError(f"{response.status} {body[:200].decode('utf-8', 'replace')}")
            headers = response.headers
        new = _number(headers.get("X-Consul-Index", ""))
        if not new:
            raise PollError(f"{path} has no X-Consul-Index: not a Consul-compatible server")
        self._indexes[path] = new if new >= index else 0
        if path == NAMES:
            contact_s = _number(headers.get("X-Consul-Lastcontact", "")) / 1000
            self._copy.current_as_of(asyncio.get_running_loop().time() - contact_s)
        try:
            return msgspec.convert(_without_null(msgspec.json.decode(body)), shape)
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as problem:
            raise PollError(f"{path}: {problem}") from problem


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0


def _health(name: str) -> str:
    return f"/v1/health/service/{quote(name, safe='')}"


def _of(row: HealthRow) -> ServiceInstance:
    """The instance, which in this answer does not say which node it is on."""
    return msgspec.structs.replace(row.service, node=row.node.name)


def _without_null(value: object) -> object:
    """A decoded body without its nulls: Go writes one for an empty list or map."""
    if isinstance(value, dict):
        return {key: _without_null(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_null(each) for each in value]
    return value
