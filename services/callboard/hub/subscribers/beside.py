"""What a client was told of the topics beside the catalog's log, as a part of its cursor. Pure.

Leader and members change without a Raft index. Whoever streams is told as they change; a long poll
that comes back must say what it knows, or a change between two polls would be told to nobody. So
the cursor at the end of a poll has a digest of the value of each: the same at every hub.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from callboard.hub.catalog.naming import BESIDE
from callboard.hub.event import CatalogEvent

DIGEST_CHARACTERS = 8
"""Of each topic, in hexadecimal; zeros where nothing was told of it."""
UNKNOWN = "0" * DIGEST_CHARACTERS


class _Data(msgspec.Struct):
    Value: msgspec.Raw


def digests(told: Mapping[str, bytes]) -> str:
    """Of the events' data by topic; "" if there are none."""
    return "".join(_digest(told.get(topic)) for topic in BESIDE) if told else ""


def still_known(digests: str, events: Iterable[CatalogEvent]) -> dict[str, bytes]:
    """The data by topic of those events whose values were told already, as `digests` says."""
    size = DIGEST_CHARACTERS
    parts = (digests[at : at + size] for at in range(0, len(digests), size))
    told = dict(zip(BESIDE, parts, strict=False))
    return {it.topic: it.data for it in events if told.get(it.topic) == _digest(it.data)}


def _digest(data: bytes | None) -> str:
    """Of the value alone: at which index a hub heard of it differs from hub to hub."""
    if data is None:
        return UNKNOWN
    value = msgspec.json.decode(data, type=_Data).Value
    return hashlib.blake2b(bytes(value), digest_size=DIGEST_CHARACTERS // 2).hexdigest()
