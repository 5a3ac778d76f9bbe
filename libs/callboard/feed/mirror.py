"""One Consul-compatible server's catalog, mirrored into a copy by blocking queries.

Answers are asked for on many connections, so they may cross. Nothing is taken that is older than
what is known: not an answer below the index its path has shown before, not an object below the one
that is there, and nothing is missed that came after the answer was made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from callboard.catalog.changes import Change
from callboard.catalog.objects import Check, Node, ServiceInstance
from callboard.catalog.tables import CatalogTables
from callboard.feed.copy import CatalogCopy

PARKED_MAX = 100
"""Blocking queries at the same time: Consul lets a client have 200 connections."""

FIRST_PARALLEL = 16
ROUND_S = 10.0
"""How long a round through all services may take when they take turns (a second each at least)."""

BODY_OCTETS_MAX = 256 << 20
"""A longer answer is not taken."""

NODES = "/v1/catalog/nodes"
NAMES = "/v1/catalog/services"

T = TypeVar("T")


class PollError(Exception):
    """The server's answer is of no use."""


class Behind(PollError):
    """The server is at a lower index than what we have taken."""

    def __init__(self, paths: Sequence[str], index: int, known: int) -> None:
        super().__init__(f"it is behind: at index {index} of {paths[0]}, we know of {known}")
        self.paths = tuple(paths)
        self.known = known


@dataclass(slots=True)
class History:
    """One history of indexes, over all servers that tell it."""

    PREFIX: ClassVar[str] = "polled-"

    epoch: str
    """Our own name for it: the API has none."""
    indexes: dict[str, int] = field(default_factory=dict)
    """The index of what was taken last, by path."""

    @classmethod
    def of_image(cls, epoch: str) -> History | None:
        """The history of a copy that polling had saved; None if it was not polling's."""
        return cls(epoch) if epoch.startswith(cls.PREFIX) else None


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


class Mirror:
    """One server's catalog, mirrored into a copy."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        address: str,
        copy: CatalogCopy,
        settings: PollSettings,
        history: History,
    ) -> None:
        self._session = session
        self._address = address.rstrip("/")
        self._copy = copy
        self._settings = settings
        self._history = history
        self._indexes: dict[str, int] = {}
        self._contact_s = 0.0
        self._names: set[str] = set()
        self._waiting: dict[str, float] = {}
        """Services that are not asked for now, and when they were answered last."""
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._workers = 0

    async def load(self) -> None:
        """Take everything once, aside; only then is the copy replaced. Raises PollError (Behind),
        aiohttp.ClientError, TimeoutError, OSError, alone or in a group."""
        begun_at = asyncio.get_running_loop().time()
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
        self._replace(tables, nodes)
        self._copy.current_as_of(begun_at - self._contact_s)

    def _replace(self, tables: CatalogTables, nodes: Sequence[Node]) -> None:
        copy, history = self._copy, self._history
        datacenter = nodes[0].datacenter if nodes else copy.datacenter or "dc1"
        if copy.datacenter not in ("", datacenter):
            raise PollError(f"the server is of datacenter {datacenter!r}")
        index = max(self._indexes.values())
        if copy.ready and copy.epoch == history.epoch and index < copy.applied_index:
            raise Behind(list(self._indexes), index, copy.applied_index)
        history.indexes = self._indexes  # one mapping from now on: what is told is taken
        copy.replace(tables, index, epoch=history.epoch, datacenter=datacenter)

    async def leader_is_behind(self, behind: Behind) -> bool:
        """Whether the leader is below what we know, too: then indexes have begun anew."""
        for path in behind.paths:
            _, headers = await self._fetch(path + "?consistent", 0.0)
            if _index(path, headers) >= behind.known:
                return False
        return True

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
            self._apply(list(self._node_changes(nodes, self._indexes[NODES])))

    async def _follow_names(self, group: asyncio.TaskGroup) -> None:
        while True:
            names = await self._get(NAMES, dict[str, object], self._settings.beat_wait_s)
            for name in sorted(names.keys() - self._names):
                self._names.add(name)
                self._watch(name, group)
            for name in self._names - names.keys():
                self._names.discard(name)
                self._indexes.pop(_health(name), None)
                self._waiting.pop(name, None)
                self._apply(list(self._service_changes(name, [], self._indexes[NAMES])))
            asked_s = asyncio.get_running_loop().time() - self._contact_s
            self._copy.current_as_of(min([asked_s, *self._waiting.values()]))

    def _watch(self, name: str, group: asyncio.TaskGroup) -> None:
        self._queue_up(name)
        if self._workers < PARKED_MAX:
            self._workers += 1
            group.create_task(self._work())

    def _queue_up(self, name: str) -> None:
        self._waiting[name] = asyncio.get_running_loop().time()
        self._queue.put_nowait(name)

    async def _work(self) -> None:
        """Ask for one service after another; with few services each stays with its worker."""
        while True:
            name = await self._queue.get()
            self._waiting.pop(name, None)
            if name not in self._names:
                continue
            wait_s = self._settings.wait_s
            if len(self._names) > PARKED_MAX:
                wait_s = min(wait_s, max(1.0, ROUND_S * PARKED_MAX / len(self._names)))
            rows = await self._get(_health(name), list[HealthRow], wait_s)
            if name in self._names:
                index = self._indexes[_health(name)]
                self._apply(list(self._service_changes(name, rows, index)))
                self._queue_up(name)

    # -- differences ------------------------------------------------------------------------

    def _apply(self, changes: list[Change]) -> None:
        if changes:
            copy = self._copy
            copy.applied_index = max(copy.applied_index, *self._indexes.values())
            copy.apply(changes)

    def _node_changes(self, nodes: list[Node], index: int) -> Iterator[Change]:
        """What makes the nodes these ones, which are those of `index`."""
        tables = self._copy.tables
        for node in nodes:
            if _is_news(tables.node(node.name), node):
                yield Change(node.modify_index, "put", "node", node.name, "", node)
        kept = {node.name.lower() for node in nodes}
        for node in list(tables.nodes()):
            if node.name.lower() in kept or node.modify_index > index:
                continue
            for check in tables.node_checks(node.name):
                yield Change(0, "delete", "check", node.name, check.check_id, None)
            for it in tables.node_services(node.name):
                yield Change(0, "delete", "service", node.name, it.id, None)
            yield Change(0, "delete", "node", node.name, "", None)

    def _service_changes(self, name: str, rows: list[HealthRow], index: int) -> Iterator[Change]:
        """What makes the instances of a service these ones, which are those of `index`."""
        tables = self._copy.tables
        nodes_index = self._indexes[NODES]
        kept: set[tuple[str, str]] = set()
        for row in rows:
            node, service = row.node, _of(row)
            known = tables.node(node.name)
            if known is None and node.modify_index <= nodes_index:
                continue  # it has been deleted since
            kept.add((node.name.lower(), service.id))
            if _is_news(known, node):
                yield Change(node.modify_index, "put", "node", node.name, "", node)
            if _is_news(tables.service(node.name, service.id), service):
                at = service.modify_index
                yield Change(at, "put", "service", node.name, service.id, service)
            yield from self._check_changes(node.name, service.id, row.checks, index)
        for old in list(tables.service_instances(name)):
            if (old.node.lower(), old.id) in kept or old.modify_index > index:
                continue
            for check in tables.instance_checks(old.node, old.id):
                yield Change(0, "delete", "check", old.node, check.check_id, None)
            yield Change(0, "delete", "service", old.node, old.id, None)

    def _check_changes(
        self, node: str, service_id: str, checks: Sequence[Check], index: int
    ) -> Iterator[Change]:
        """What makes the checks of a node and of one instance on it these ones."""
        tables = self._copy.tables
        for check in checks:
            if _is_news(tables.check(node, check.check_id), check):
                yield Change(check.modify_index, "put", "check", node, check.check_id, check)
        kept = {check.check_id for check in checks}
        for owner in ("", service_id):
            for old in tables.instance_checks(node, owner):
                if old.check_id not in kept and old.modify_index <= index:
                    yield Change(0, "delete", "check", node, old.check_id, None)

    # -- requests ---------------------------------------------------------------------------

    async def _get(self, path: str, shape: type[T], wait_s: float = 0.0) -> T:
        """Ask once, parked for as long as nothing changes if `wait_s` is given."""
        index = self._indexes.get(path, 0) if wait_s else 0
        query = f"?stale&index={index}&wait={int(wait_s * 1000)}ms" if index else "?stale"
        body, headers = await self._fetch(path + query, wait_s)
        new = _index(path, headers)
        known = self._history.indexes.get(path, 0)
        if new < known:
            raise Behind([path], new, known)
        try:
            value = msgspec.convert(_without_null(msgspec.json.decode(body)), shape)
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as problem:
            raise PollError(f"{path}: {problem}") from problem
        self._indexes[path] = new
        if path == NAMES:
            self._contact_s = _number(headers.get("X-Consul-Lastcontact", "")) / 1000
        return value

    async def _fetch(self, path: str, wait_s: float) -> tuple[bytes, Mapping[str, str]]:
        """The body and the headers of a 200."""
        timeout = aiohttp.ClientTimeout(total=wait_s * 17 / 16 + self._settings.request_timeout_s)
        async with self._session.get(self._address + path, timeout=timeout) as response:
            body = bytearray()
            async for part in response.content.iter_any():
                body += part
                if len(body) > BODY_OCTETS_MAX:
                    raise PollError(f"{path}: an answer of more than {BODY_OCTETS_MAX} octets")
            if response.status != 200:
                raise PollError(f"{response.status} {body[:200].decode('utf-8', 'replace')}")
            return bytes(body), response.headers


def _index(path: str, headers: Mapping[str, str]) -> int:
    """The index of an answer; never 0."""
    index = _number(headers.get("X-Consul-Index", ""))
    if not index:
        raise PollError(f"{path} has no X-Consul-Index: not a Consul-compatible server")
    return index


def _is_news(known: Node | ServiceInstance | Check | None, told: object) -> bool:
    """Whether what an answer tells is other than what is known, and not older."""
    if known is None:
        return True
    assert isinstance(told, type(known))
    return told != known and told.modify_index >= known.modify_index


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
