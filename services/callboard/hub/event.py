"""What the hub carries: publications, updates with their place in the history, catalog events.

Pure. A `Publication` becomes an `Update` when the history gives it an offset. What a reader gets
is encoded once, however many readers there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum

import msgspec

from callboard.events.encoder import block


class Format(Enum):
    """How a stream is written; the value is its media type."""

    SSE = "text/event-stream"
    NDJSON = "application/x-ndjson"


class Publication(msgspec.Struct, frozen=True, gc=False):
    """What a publisher asks for, validated (`matching.naming`)."""

    topics: tuple[str, ...]
    """The first is the canonical one."""
    data: bytes
    """UTF-8."""
    type: str = ""
    """Empty: `message`."""
    own_id: str = ""
    """The publisher's; without one readers get the history's (`#epoch.offset`)."""
    private: bool = False
    retry_ms: int | None = None
    idempotency_key: str = ""
    """A second publication with the same key gets the first one's update."""


class Update:
    """A publication in the history."""

    __slots__ = (
        "_ndjson",
        "_sse",
        "data",
        "epoch",
        "offset",
        "own_id",
        "private",
        "retry_ms",
        "time_ms",
        "topics",
        "type",
    )

    def __init__(self, offset: int, epoch: str, time_ms: int, publication: Publication) -> None:
        """`time_ms` is wall time since 1970."""
        self.offset = offset
        self.epoch = epoch
        self.time_ms = time_ms
        self.topics = publication.topics
        self.data = publication.data
        self.type = publication.type
        self.own_id = publication.own_id
        self.private = publication.private
        self.retry_ms = publication.retry_ms
        self._sse: bytes | None = None
        self._ndjson: bytes | None = None

    @property
    def id(self) -> str:
        """What readers see as the event's id."""
        return self.own_id or f"#{self.epoch}.{self.offset}"

    @property
    def size(self) -> int:
        """Bytes that keeping it costs, roughly."""
        return 2 * len(self.data) + sum(map(len, self.topics)) + 400

    def encoded(self, format: Format) -> bytes:
        """The event as all readers of its own topics get it; made once."""
        if format is Format.SSE:
            if self._sse is None:
                self._sse = self.encoded_as(format, self.id)
            return self._sse
        if self._ndjson is None:
            self._ndjson = self.encoded_as(format, self.id)
        return self._ndjson

    def encoded_as(self, format: Format, id: str) -> bytes:
        """The event under another id: that of a stream that has more than one history."""
        if format is Format.SSE:
            return block(self.data, id=id, type=self.type, retry_ms=self.retry_ms)
        return ndjson(id, self.type, self.data, topics=self.topics, time_ms=self.time_ms)


class CatalogEvent:
    """The value of one catalog topic, as of one change of the catalog."""

    __slots__ = ("data", "epoch", "index", "last", "part", "topic")

    def __init__(
        self, topic: str, epoch: str, index: int, part: int, *, last: bool, data: bytes
    ) -> None:
        """`part` counts the topics that this index changed, from 1, in the order of their names;
        `last` is the last of them. An event beside the catalog's log (leader, members) has
        part 0: it moves no cursor. `data` is the JSON that readers get."""
        self.topic = topic
        self.epoch = epoch
        self.index = index
        self.part = part
        self.last = last
        self.data = data

    def encoded_as(self, format: Format, id: str | None) -> bytes:
        """The event under a stream's cursor; None leaves the reader's where it is."""
        if format is Format.SSE:
            return block(self.data, id=id)
        return ndjson(id, "", self.data, topics=(self.topic,))


def named(
    format: Format, type: str, fields: Mapping[str, object], *, id: str | None = None
) -> bytes:
    """One of the hub's own events: `hub.hello`, `hub.beat`, `hub.gap`, `hub.bye`, `hub.limit`."""
    data = json.dumps(fields, separators=(",", ":")).encode()
    if format is Format.SSE:
        return block(data, id=id, type=type)
    return ndjson(id, type, data)


def ndjson(
    id: str | None,
    type: str,
    data: bytes,
    *,
    topics: tuple[str, ...] = (),
    time_ms: int | None = None,
) -> bytes:
    """One event as a line of JSON: `id`, `type` ("message" if it has none), `topics`, `time`
    (milliseconds since 1970) and `data` (text, as it was published)."""
    line: dict[str, object] = {"type": type or "message", "data": data.decode("utf-8", "replace")}
    if id is not None:
        line["id"] = id
    if topics:
        line["topics"] = topics
    if time_ms is not None:
        line["time"] = time_ms
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
