"""/v1/operator/keyring: the keys of gossip, in the whole cluster at once.

The keys are secrets, so they are told more narrowly than the catalog: on the port of mutual TLS to
agents and operators; on the plain port to loopback clients, and to everybody where a plain port
may leave loopback and there is no mutual TLS. There is one pool, Consul's LAN; its WAN pool, which
joins datacenters, is not listed, since there is none.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

import msgspec

from callboard.agent.http.catalog import DENIED
from callboard.agent.http.context import ApiContext
from callboard.agent.http.frame import KEEPERS, Call, Resource, empty_answer, json_answer, trusts
from callboard.agent.http.parameters import boolean, first
from callboard.agent.http.problems import ApiError
from callboard.catalog import render
from callboard.catalog.decode import STRING, DecodeError, Spec, decode
from callboard.serve import Answer, Request
from callboard.swim.key_queries import KeyAction, KeyTally

KEYRING_ARGUMENTS = Spec(
    "keyringArgs",
    {"Key": STRING, "Token": STRING},
    go_type="agent.keyringArgs",
)
RELAY_FACTOR_MAX = 5

_ALPHABET = re.compile(r"[A-Za-z0-9+/]*")
_CHANGES = {"POST": KeyAction.INSTALL, "PUT": KeyAction.USE, "DELETE": KeyAction.REMOVE}


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of one pool as the API shows them, in Consul's key order."""

    WAN: bool = False
    Datacenter: str
    Segment: str = ""
    Messages: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    Keys: dict[str, int]
    PrimaryKeys: dict[str, int]
    NumNodes: int


class OperatorEndpoints:
    """See the module."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def resources(self) -> Iterable[Resource]:
        """The path served here."""
        yield Resource(
            "/v1/operator/keyring",
            {"GET": self.list, "POST": self.change, "PUT": self.change, "DELETE": self.change},
            "The keys of gossip: list, install, use, remove",
            replicated=False,
            tags=("operator",),
        )

    async def list(self, call: Call) -> Answer:
        """Which keys how many members have."""
        self._authorize(call, call.rights.keyring_read())
        relay_factor = _relay_factor(call.request)
        _local_only(call.request, listing=True)
        tally = await self._ask(KeyAction.LIST, b"", relay_factor)
        pool = Pool(
            Datacenter=self._context.datacenter,
            Messages=tally.messages or msgspec.UNSET,
            Keys=tally.keys,
            PrimaryKeys=tally.primary_keys,
            NumNodes=tally.nodes,
        )
        return json_answer(render.json([pool]))

    async def change(self, call: Call) -> Answer:
        """Install, use or remove a key. 500 unless every member did it."""
        self._authorize(call, call.rights.keyring_write())
        try:
            fields = decode(call.request.body, KEYRING_ARGUMENTS)
        except DecodeError as problem:
            raise _bad(str(problem)) from problem
        relay_factor = _relay_factor(call.request)
        _local_only(call.request, listing=False)
        key = self._key(str(fields.get("Key", "")))
        await self._ask(_CHANGES[call.request.method], key, relay_factor)
        return empty_answer()

    async def _ask(self, action: KeyAction, key: bytes, relay_factor: int) -> KeyTally:
        if not self._context.server:
            raise ApiError(500, "keyring operations must run against a server node")
        try:
            tally = await self._context.membership.keys.ask(action, key, relay_factor)
        except ValueError as problem:
            raise self._failed(str(problem)) from problem
        if tally.failure:
            said = [f"{name}: {message}" for name, message in sorted(tally.messages.items())]
            raise self._failed(tally.failure, *said)
        return tally

    def _key(self, text: str) -> bytes:
        if not self._context.server:
            return b""  # _ask refuses, as Consul does before it looks
        try:
            return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
        except (binascii.Error, ValueError) as problem:
            matched = _ALPHABET.match(text)
            place = matched.end() if matched is not None else 0
            raise self._failed(f"illegal base64 data at input byte {place}") from problem

    def _failed(self, failure: str, *messages: str) -> ApiError:
        errors = [f"{self._context.datacenter} (LAN) error: {failure}", *messages]
        head = "1 error occurred" if len(errors) == 1 else f"{len(errors)} errors occurred"
        return ApiError(500, f"{head}:\n\t* " + "\n\t* ".join(errors) + "\n\n")

    def _authorize(self, call: Call, allowed: bool) -> None:
        if not allowed:
            raise ApiError(403, DENIED)
        if not trusts(self._context, call.request, KEEPERS):
            raise ApiError(403, "the keys of gossip are for agents and operators")


def _bad(text: str) -> ApiError:
    return ApiError(400, f"Bad request: {text}")


def _relay_factor(request: Request) -> int:
    text = first(request, "relay-factor")
    if not text:
        return 0
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise _bad(f'Error parsing relay factor: strconv.Atoi: parsing "{text}": invalid syntax')
    if len(text) > 19 or not -(1 << 63) <= int(text) < 1 << 63:
        raise _bad(
            f'Error parsing relay factor: strconv.Atoi: parsing "{text}": value out of range'
        )
    factor = int(text)
    if not 0 <= factor <= RELAY_FACTOR_MAX:
        raise _bad(f"Invalid relay-factor: Relay factor must be in range: [0, {RELAY_FACTOR_MAX}]")
    return factor


def _local_only(request: Request, *, listing: bool) -> None:
    """`?local-only` leaves Consul's WAN pool out, which is not there in any case."""
    text = first(request, "local-only")
    if not text:
        return
    value = boolean(text)
    if value is None:
        raise _bad(f'Error parsing local-only: strconv.ParseBool: parsing "{text}": invalid syntax')
    if value and not listing:
        raise _bad("Invalid use of local-only: local-only can only be set for list requests")
