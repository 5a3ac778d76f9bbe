"""What media events are made of: every stream as it is now."""

from __future__ import annotations

from collections.abc import Iterator

from callboard.gateway.announcing.events import Reading
from callboard.gateway.live import Streams


def readings(streams: Streams) -> Iterator[Reading]:
    """Of all streams on the list. One that is made for each viewer is never online by itself: of it
    only the number of viewers is told."""
    for live in streams:
        yield Reading(
            live.name,
            live.description.title,
            live.online,
            len(live.viewers),
            live.keyframes,
            live.octets,
            live.reason,
        )
    for described in streams.offered():
        viewers = sum(len(each.viewers) for each in streams.personal(described.name))
        yield Reading(described.name, described.title, False, viewers, 0, 0)
