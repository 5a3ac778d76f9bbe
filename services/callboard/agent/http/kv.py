"""/v1/kv/:key: the key/value store (Consul: HTTP API, KV)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import urlencode

from callboard.agent.http import views
from callboard.agent.http.catalog import DENIED, required
from callboard.agent.http.consistency import Reads
from callboard.agent.http.context import ApiContext
from callboard.agent.http.frame import NOSNIFF, Call, Resource, json_answer
from callboard.agent.http.parameters import first, read_options, refuse_later, unsigned
from callboard.agent.http.problems import ApiError
from callboard.catalog import render
from callboard.catalog.changes import WatchKey
from callboard.catalog.commands import (
    Command,
    KeyValueDelete,
    KeyValueDeleteTree,
    KeyValueSet,
    encode_command,
)
from callboard.catalog.keys import key_error
from callboard.catalog.objects import KeyValue
from callboard.serve import Answer, Outcome, Request

MISSING_KEY = "Missing key name"
_RAW_HEADERS = (NOSNIFF, ("Content-Security-Policy", "sandbox"))
"""A value is whoever's: a browser must not take it for a page (CVE-2020-25864)."""


class KeyValueEndpoints:
    """See the module."""

    def __init__(self, context: ApiContext, reads: Reads) -> None:
        self._context = context
        self._store = context.store
        self._reads = reads

    def resources(self) -> Iterable[Resource]:
        """The path served here."""
        yield Resource(
            "/v1/kv/",
            {"GET": self.get, "PUT": self.put, "DELETE": self.delete},
            "Read, write or delete a key",
            "key",
            body_bytes_max=self._context.http.kv_value_bytes_max,
            tags=("kv",),
        )

    # ------------------------------------------------------------------ reads

    def get(self, call: Call) -> Outcome:
        """One key, or with ?recurse or ?keys all below a prefix."""
        query = call.request.query
        if "keys" in query:
            return self._names(call)
        if "recurse" in query:
            return self._tree(call)
        key = required(call.rest, MISSING_KEY)
        if not call.rights.key_read(key):
            raise ApiError(403, DENIED)

        def made() -> Answer:
            entry = self._store.key(key)
            if entry is None:
                return Answer(404)
            if "raw" in query:
                return Answer(200, entry.value, list(_RAW_HEADERS), "text/plain")
            return json_answer(render.array((render.key_value_json(entry),)))

        return self._reads.keys(call.request, WatchKey("kv", key), made)

    def _tree(self, call: Call) -> Outcome:
        prefix = call.rest

        def made() -> Answer:
            found = self._below(call, prefix)
            if not found:
                return Answer(404)
            return json_answer(render.array(map(render.key_value_json, found)))

        return self._reads.keys(call.request, WatchKey("kv-prefix", prefix), made)

    def _names(self, call: Call) -> Outcome:
        prefix = call.rest
        separator = first(call.request, "separator") or first(call.request, "seperator")

        def made() -> Answer:
            names = cut_names((e.key for e in self._below(call, prefix)), prefix, separator)
            if not names and prefix:
                return Answer(404)
            return json_answer(render.json(names))

        return self._reads.keys(call.request, WatchKey("kv-prefix", prefix), made)

    def _below(self, call: Call, prefix: str) -> Sequence[KeyValue]:
        if not call.rights.key_list(prefix):
            raise ApiError(403, DENIED)
        return views.keys(call.rights, self._store.keys_below(prefix))

    # ------------------------------------------------------------------ writes

    async def put(self, call: Call) -> Answer:
        """Set a key: `true`, or `false` when ?cas does not match."""
        request = call.request
        read_options(request, self._context.datacenter)  # only for what Consul refuses there
        key = required(call.rest, MISSING_KEY)
        refuse_conflicts(request, ("cas", "acquire", "release"))
        refuse_later(request, ("acquire", "release"))
        if "acquire" in request.query or "release" in request.query:
            raise ApiError(500, "missing session")
        if self._context.http.kv_key_validation:
            wrong = key_error(key)
            if wrong is not None:
                raise ApiError(400, wrong)
        flags = unsigned(request, "flags") if "flags" in request.query else 0
        cas = unsigned(request, "cas") if "cas" in request.query else -1
        if not call.rights.key_write(key):
            raise ApiError(403, DENIED)
        return await self._propose(KeyValueSet(key, request.body, flags, cas))

    async def delete(self, call: Call) -> Answer:
        """Delete a key, or with ?recurse all below a prefix: `true`, or `false` by ?cas."""
        request = call.request
        read_options(request, self._context.datacenter)
        refuse_conflicts(request, ("recurse", "cas"))
        if "recurse" in request.query:
            if not call.rights.key_write_prefix(call.rest):
                raise ApiError(403, DENIED)
            return await self._propose(KeyValueDeleteTree(call.rest))
        key = required(call.rest, MISSING_KEY)
        if not call.rights.key_write(key):
            raise ApiError(403, DENIED)
        cas = unsigned(request, "cas") if "cas" in request.query else -1
        return await self._propose(KeyValueDelete(key, cas))

    async def _propose(self, command: Command) -> Answer:
        applied = await self._context.engine.propose(
            encode_command(command), self._context.hold_timeout_s
        )
        if isinstance(applied.value, str):
            raise ApiError(500, applied.value)
        return json_answer(b"true" if applied.value is True else b"false")


def refuse_conflicts(request: Request, names: tuple[str, ...]) -> None:
    """Refuse more than one of these parameters at once, with Consul's text."""
    if len(request.query.keys() & set(names)) > 1:
        shown = urlencode(sorted(request.query.items()), doseq=True)
        raise ApiError(400, f"Conflicting flags: {shown}")


def cut_names(keys: Iterable[str], prefix: str, separator: str) -> list[str]:
    """Key names, each cut after the first separator past the prefix, without repetition."""
    if not separator:
        return list(keys)
    names: dict[str, None] = {}
    for key in keys:
        at = key.find(separator, len(prefix))
        names[key if at < 0 else key[: at + len(separator)]] = None
    return list(names)
