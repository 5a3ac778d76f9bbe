"""What a repeated publication (by its idempotency key) is answered with. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from callboard.hub.event import Publication, Update

Known = tuple[int, int, str]
"""Of an idempotency key: offset, time_ms and own id of its update."""


def repeated(publication: Publication, known: Known, epoch: str) -> Update:
    """The update of a repeat: the first one's offset, epoch, time and id, with what it brought."""
    offset, time_ms, own_id = known
    return Update(offset, epoch, time_ms, replace(publication, own_id=own_id))
