"""Serf's queries about keys: `_serf_install-key` and its like, their answers, and who answered.

A change of keys is asked of every member; each answers for itself. Only a change that every
member made is one: a member without the new primary key is lost to the others. Source:
hashicorp/serf, internal_query.go and keymanager.go.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from callboard.swim.packing import DecodeError, pack, text, unpack_map
from callboard.swim.serf_messages import ACKNOWLEDGEMENT, Query, QueryResponse, SerfType

RESPONSE_BYTES_MAX = 1024
"""Serf's QueryResponseSizeLimit: answers are datagrams."""
HEAD_BYTES = 64
"""Of an answer around its payload and the answering member's name, at most."""
QUERY_BYTES_MAX = 1024
"""Serf's QuerySizeLimit."""


class KeyAction(StrEnum):
    """What is asked; the value is the query's name after `_serf_`."""

    INSTALL = "install-key"
    USE = "use-key"
    REMOVE = "remove-key"
    LIST = "list-keys"


@dataclass(frozen=True, slots=True)
class KeyQuery:
    """A member asks us to change our keys, or to tell them."""

    query: Query
    action: KeyAction
    key: bytes = field(repr=False)
    """b"" for LIST."""


@dataclass(frozen=True, slots=True)
class KeyResponse:
    """One member's answer."""

    result: bool
    """It was done."""
    message: str = ""
    """Why not, or what to know of it."""
    keys: tuple[bytes, ...] = ()
    """The member's keys, the primary first; answers to LIST only."""


def encode_key_request(key: bytes) -> bytes:
    """The payload of a query."""
    return bytes((SerfType.KEY_REQUEST,)) + pack({"Key": key})


def decode_key_request(payload: bytes) -> bytes:
    """The key a query is about. Raises DecodeError."""
    if not payload or payload[0] != SerfType.KEY_REQUEST:
        raise DecodeError("not a request about a key")
    return unpack_map(payload[1:]).raw("Key")


def encode_key_response(response: KeyResponse, bytes_max: int = RESPONSE_BYTES_MAX) -> bytes:
    """The payload of an answer, in `bytes_max` at most: keys that do not fit are left out, and
    the message says so."""
    texts = [base64.b64encode(key).decode() for key in response.keys]
    shown, message = len(texts), response.message
    while True:
        body = {
            "Result": response.result,
            "Message": message,
            "Keys": texts[:shown],
            "PrimaryKey": texts[0] if texts else "",
        }
        encoded = bytes((SerfType.KEY_RESPONSE,)) + pack(body)
        if len(encoded) <= bytes_max or shown == 0:
            return encoded
        shown -= 1
        message = f"truncated key list response, showing first {shown} of {len(texts)} keys"


@dataclass(slots=True)
class KeyTally:
    """What the members have answered to one query of ours, so far."""

    nodes: int
    """How many members there were when it was asked, ourselves included."""
    responses: int = 0
    errors: int = 0
    messages: dict[str, str] = field(default_factory=dict)
    """What members had to say, by their names."""
    keys: dict[str, int] = field(default_factory=dict)
    """How many members have each key (base64)."""
    primary_keys: dict[str, int] = field(default_factory=dict)
    """How many members encrypt with each key. Older serfs do not tell."""
    heard: set[str] = field(default_factory=set)
    """Who has answered."""

    @property
    def complete(self) -> bool:
        """Everybody has answered."""
        return self.responses >= self.nodes

    @property
    def failure(self) -> str:
        """Why this is no success, in serf's words; "" for a success."""
        if self.errors:
            return f"{self.errors}/{self.nodes} nodes reported failure"
        if self.responses != self.nodes:
            return f"{self.responses}/{self.nodes} nodes reported success"
        return ""

    def add(self, response: QueryResponse) -> None:
        """Count an answer; only a member's first counts (relays repeat them)."""
        if response.flags & ACKNOWLEDGEMENT or response.source in self.heard:
            return
        self.heard.add(response.source)
        self.responses += 1
        try:
            done, message, keys, primary = _decode_response(response.payload)
        except DecodeError as problem:
            done, message, keys, primary = False, f"invalid key query response: {problem}", (), ""
        if not done:
            self.errors += 1
        if not done or message:
            self.messages[response.source] = message
        for key in keys:
            self.keys[key] = self.keys.get(key, 0) + 1
        if primary:
            self.primary_keys[primary] = self.primary_keys.get(primary, 0) + 1


def _decode_response(payload: bytes) -> tuple[bool, str, Sequence[str], str]:
    if not payload or payload[0] != SerfType.KEY_RESPONSE:
        raise DecodeError("not an answer about keys")
    source = unpack_map(payload[1:])
    keys = tuple(dict.fromkeys(text(key) for key in source.items("Keys")))
    return source.flag("Result"), source.text("Message"), keys, source.text("PrimaryKey")
