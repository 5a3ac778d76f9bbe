"""A reader's place, as text: what `id:` carries and Last-Event-ID brings back. Pure.

    #EPOCH.OFFSET                       the hub's history
    #~EPOCH.INDEX[.PART]                the catalog: after this index, or after part of it
    #EPOCH.OFFSET~EPOCH.INDEX[.PART]    a stream with both
    …~EPOCH.INDEX[.PART]~BESIDE         a long poll: what it was told of leader and members, too
    earliest                            all there is
    anything else                       an id that a publisher gave

The `#` may be missing (some clients take it for a fragment). Bytes are those that need no CORS
preflight in Last-Event-ID, and fewer than 128 of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

EARLIEST = "earliest"

_EPOCH = r"[a-z0-9]{1,32}"
_NUMBER = r"(?:0|[1-9][0-9]{0,18})"
_CURSOR = re.compile(
    rf"#?(?:(?P<epoch>{_EPOCH})\.(?P<offset>{_NUMBER}))?"
    rf"(?:~(?P<catalog>{_EPOCH})\.(?P<index>{_NUMBER})(?:\.(?P<part>{_NUMBER}))?"
    rf"(?:~(?P<beside>[0-9a-f]{{16}}))?)?"
)
OWN_ID_BYTES_MAX = 512
"""A longer Last-Event-ID is nobody's."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the hub's history: all up to `offset` was seen."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class CatalogPlace:
    """A place in the catalog's: all up to `index` was seen, or up to `part` of it (0: all)."""

    epoch: str
    index: int
    part: int = 0


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reader resumes."""

    place: Place | None = None
    catalog: CatalogPlace | None = None
    own_id: str = ""
    """What may be a publisher's id: where it stands only the history knows. Together with places
    it is the second reading of a text without `#`."""
    earliest: bool = False
    beside: str = ""
    """Digests of what a long poll was told of the topics beside the catalog's log
    (`subscribers.beside`)."""

    def __str__(self) -> str:
        if self.earliest:
            return EARLIEST
        if self.own_id and self.place is None and self.catalog is None:
            return self.own_id
        hub = f"{self.place.epoch}.{self.place.offset}" if self.place else ""
        if self.catalog is None:
            return f"#{hub}"
        part = f".{self.catalog.part}" if self.catalog.part else ""
        beside = f"~{self.beside}" if self.beside else ""
        return f"#{hub}~{self.catalog.epoch}.{self.catalog.index}{part}{beside}"


def parse(text: str) -> Cursor | None:
    """The cursor of a Last-Event-ID; None for an empty one, or one that cannot be one."""
    if not text or len(text.encode()) > OWN_ID_BYTES_MAX:
        return None
    if text == EARLIEST:
        return Cursor(earliest=True)
    found = _CURSOR.fullmatch(text)
    if found is None or text == "#":
        return Cursor(own_id=text)
    place = Place(found["epoch"], int(found["offset"])) if found["epoch"] else None
    catalog = None
    if found["catalog"]:
        catalog = CatalogPlace(found["catalog"], int(found["index"]), int(found["part"] or 0))
    own_id = "" if text.startswith("#") else text
    return Cursor(place, catalog, own_id, beside=found["beside"] or "")
