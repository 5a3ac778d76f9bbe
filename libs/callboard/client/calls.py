"""Every operation of the client as a value: what to send, and how to read what comes back.

The sync and the async client send the same `Call`s; only how differs. Reads are decoded with
`null` taken as absent, as Go's encoders write it. No socket is here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from callboard.catalog.objects import CRITICAL, PASSING, WARNING, Check, KeyValue, Node
from callboard.client.errors import ApiError, ClientError

T = TypeVar("T")

Query = tuple[tuple[str, str], ...]

PATH_SAFE = "/$&+,:;=@"
"""Characters a path keeps as they are, as Go's net/url does."""

WAIT_S = 300.0
"""How long a watch lets an agent hold its question."""

REGISTER_TTL_S = 10.0
"""Between two signs of life, at most, of a service registered with a TTL."""

DEREGISTER_AFTER_S = 60.0
"""A service that gave no sign for this long is forgotten; Consul's minimum."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and the meaning of its answer."""

    method: str
    path: str
    """Escaped, from /v1."""
    decode: Callable[[int, bytes], T]
    """(status, body) -> value; called for accepted statuses only."""
    query: Query = ()
    body: bytes | None = None
    accept: tuple[int, ...] = (200,)

    def read(self, status: int, body: bytes) -> T:
        """The value of an answer. Raises ApiError, or ClientError for a body without sense."""
        if status not in self.accept:
            raise ApiError(status, body.decode("utf-8", "replace").strip())
        try:
            return self.decode(status, body)
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            msgspec.ValidationError,
        ) as problem:
            raise ClientError(f"the answer to {self.path} has an unexpected form") from problem

    def waiting(self, index: int, wait_s: float) -> Call[T]:
        """The same as a blocking query."""
        query = (*self.query, ("index", str(index)), ("wait", f"{wait_s:g}s"))
        return Call(self.method, self.path, self.decode, query, self.body, self.accept)


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A value and what its headers said of it."""

    value: T
    index: int
    """X-Consul-Index: what a blocking query waits for to move."""
    known_leader: bool
    last_contact_s: float

    @staticmethod
    def of(value: T, headers: Mapping[str, str]) -> Answer[T]:
        """With headers named in lower case."""
        return Answer(
            value,
            _number(headers.get("x-consul-index")),
            headers.get("x-consul-knownleader", "true") == "true",
            _number(headers.get("x-consul-lastcontact")) / 1000,
        )


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a service, as someone who wants to speak with it needs it."""

    id: str
    name: str
    node: str
    address: str
    """The service's own, or else its node's."""
    port: int
    tags: tuple[str, ...]
    meta: Mapping[str, str]
    status: str
    """The worst of its checks and its node's: passing, warning or critical."""


# Reads ------------------------------------------------------------------------------------------


def instances(
    name: str, *, tag: str = "", passing: bool = True, stale: bool = False, datacenter: str = ""
) -> Call[list[Instance]]:
    """Instances of a service with their health."""
    query = _given(("tag", tag), ("dc", datacenter)) + _flags(passing=passing, stale=stale)
    return Call("GET", f"/v1/health/service/{_path(name)}", _instances, query)


def services(*, stale: bool = False) -> Call[dict[str, tuple[str, ...]]]:
    """Names of all services with the union of their tags."""
    return Call("GET", "/v1/catalog/services", _tags, _flags(stale=stale))


def nodes(*, stale: bool = False) -> Call[list[Node]]:
    """All nodes."""
    return Call("GET", "/v1/catalog/nodes", _list_of(Node), _flags(stale=stale))


def node_checks(node: str) -> Call[list[Check]]:
    """All checks on a node."""
    return Call("GET", f"/v1/health/node/{_path(node)}", _list_of(Check))


def leader() -> Call[str]:
    """ "ip:port" of the leader's RPC listener; "" without one."""
    return Call("GET", "/v1/status/leader", lambda _, body: str(json.loads(body)))


def key(name: str, *, stale: bool = False) -> Call[KeyValue | None]:
    """One key; None when it does not exist."""
    path = f"/v1/kv/{_path(name)}"
    return Call("GET", path, _first_pair, _flags(stale=stale), accept=(200, 404))


def keys_below(prefix: str, *, stale: bool = False) -> Call[list[KeyValue]]:
    """All keys that begin with a prefix."""
    query = _flags(recurse=True, stale=stale)
    return Call("GET", f"/v1/kv/{_path(prefix)}", _pairs, query, accept=(200, 404))


def key_names(prefix: str, *, separator: str = "") -> Call[list[str]]:
    """Names of the keys that begin with a prefix, cut after the first separator past it."""
    query = (("keys", ""), *_given(("separator", separator)))
    return Call("GET", f"/v1/kv/{_path(prefix)}", _names, query, accept=(200, 404))


# Writes -----------------------------------------------------------------------------------------


def put_key(name: str, value: bytes, *, flags: int = 0, cas: int | None = None) -> Call[bool]:
    """Write a key; with `cas` only if its ModifyIndex is still that (0: it does not exist)."""
    query: Query = (("flags", str(flags)),) if flags else ()
    if cas is not None:
        query += (("cas", str(cas)),)
    return Call("PUT", f"/v1/kv/{_path(name)}", _boolean, query, value)


def delete_key(name: str, *, recurse: bool = False, cas: int | None = None) -> Call[bool]:
    """Delete a key, or all that begin with it."""
    query = _flags(recurse=recurse)
    if cas is not None:
        query += (("cas", str(cas)),)
    return Call("DELETE", f"/v1/kv/{_path(name)}", _boolean, query)


def register(
    name: str,
    *,
    id: str = "",
    port: int = 0,
    address: str = "",
    tags: Sequence[str] = (),
    meta: Mapping[str, str] | None = None,
    ttl_s: float = 0.0,
    check: Mapping[str, object] | None = None,
) -> Call[None]:
    """Register a service with the agent. With `ttl_s` it has a TTL check, critical until its first
    sign of life; `check` is a check in Consul's JSON instead."""
    service: dict[str, object] = {"Name": name, "ID": id or name, "Port": port}
    service |= {"Address": address, "Tags": list(tags), "Meta": dict(meta or {})}
    if ttl_s:
        check = {
            "CheckID": ttl_check_id(id or name),
            "TTL": f"{ttl_s:g}s",
            "DeregisterCriticalServiceAfter": f"{DEREGISTER_AFTER_S:g}s",
        }
    if check:
        service["Check"] = dict(check)
    return Call("PUT", "/v1/agent/service/register", _nothing, body=json.dumps(service).encode())


def ttl_check_id(service_id: str) -> str:
    """The ID of the check that `register` makes of `ttl_s`."""
    return f"service:{service_id}"


def deregister(id: str) -> Call[None]:
    """Deregister a service from the agent; one it does not know is no error."""
    path = f"/v1/agent/service/deregister/{_path(id)}"
    return Call("PUT", path, _nothing, accept=(200, 404))


def report(check_id: str, status: str = PASSING, note: str = "") -> Call[None]:
    """A sign of life: set a TTL check's status. An unknown check is ApiError 404."""
    verb = {PASSING: "pass", WARNING: "warn", CRITICAL: "fail"}[status]
    return Call(
        "PUT", f"/v1/agent/check/{verb}/{_path(check_id)}", _nothing, _given(("note", note))
    )


# Decoding ---------------------------------------------------------------------------------------


def _instances(_status: int, body: bytes) -> list[Instance]:
    return [_instance(entry) for entry in json.loads(body) or ()]


def _instance(entry: Mapping[str, Any]) -> Instance:
    node, service = entry["Node"], entry["Service"]
    tags, meta, port = service.get("Tags"), service.get("Meta"), service.get("Port")
    return Instance(
        id=str(service["ID"]),
        name=str(service["Service"]),
        node=str(node["Node"]),
        address=str(service.get("Address") or node["Address"]),
        port=port if isinstance(port, int) else 0,
        tags=tuple(str(tag) for tag in tags) if isinstance(tags, list) else (),
        meta=dict(meta) if isinstance(meta, dict) else {},
        status=worst_status([str(check["Status"]) for check in entry.get("Checks") or ()]),
    )


def worst_status(statuses: Sequence[str]) -> str:
    """The one that counts, of several checks; passing without any."""
    for status in (CRITICAL, WARNING):
        if status in statuses:
            return status
    return PASSING


def _list_of(kind: type[T]) -> Callable[[int, bytes], list[T]]:
    def decode(_status: int, body: bytes) -> list[T]:
        rows = _without_nulls(json.loads(body) or [])
        return msgspec.convert(rows, type=list[kind])  # type: ignore[valid-type]  # a variable

    return decode


def _pairs(status: int, body: bytes) -> list[KeyValue]:
    return _list_of(KeyValue)(status, body) if status == 200 else []


def _first_pair(status: int, body: bytes) -> KeyValue | None:
    found = _pairs(status, body)
    return found[0] if found else None


def _names(status: int, body: bytes) -> list[str]:
    return [str(name) for name in json.loads(body) or ()] if status == 200 else []


def _tags(_status: int, body: bytes) -> dict[str, tuple[str, ...]]:
    return {name: tuple(tags or ()) for name, tags in (json.loads(body) or {}).items()}


def _boolean(_status: int, body: bytes) -> bool:
    return body.strip() == b"true"


def _nothing(_status: int, _body: bytes) -> None:
    return None


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _path(text: str) -> str:
    return quote(text, safe=PATH_SAFE)


def _given(*pairs: tuple[str, str]) -> Query:
    return tuple((name, value) for name, value in pairs if value)


def _flags(**switches: bool) -> Query:
    return tuple((name, "") for name, on in switches.items() if on)


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0
