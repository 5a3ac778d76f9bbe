"""Streams as mountpoints: the numbers that clients know them by, and what lists say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from callboard.gateway.live import LiveStream, StreamDescription, Streams
from callboard.gateway.sdp.codecs import AUDIO, VIDEO
from callboard.gateway.sdp.server_offers import MIDS

NUMBERS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Mountpoint:
    """One stream, as clients see it."""

    number: int
    name: str
    type: str
    """"live", or "on demand" where each viewer has media of its own."""
    description: str
    enabled: bool
    """It can be watched now."""
    viewers: int
    media: tuple[Mapping[str, object], ...]

    def listed(self) -> dict[str, object]:
        """For `list`."""
        brief = ("mid", "type", "label", "age_ms")
        media = [{key: each[key] for key in brief if key in each} for each in self.media]
        return {**self._head(), "media": media}

    def full(self) -> dict[str, object]:
        """For `info`."""
        return {**self._head(), "viewers": self.viewers, "media": [dict(one) for one in self.media]}

    def _head(self) -> dict[str, object]:
        return {
            "id": self.number,
            "name": self.name,
            "type": self.type,
            "description": self.description,
            "enabled": self.enabled,
        }


class Numbers:
    """Numbers of names: from 1, in the order in which they were first seen."""

    def __init__(self, numbers_max: int = NUMBERS_MAX) -> None:
        self._max = numbers_max
        self._last = 0
        self._of: dict[str, int] = {}

    def of(self, name: str) -> int:
        """The number of a name; of more than NUMBERS_MAX, the one longest not asked for is
        forgotten."""
        number = self._of.pop(name, 0)
        if not number:
            self._last += 1
            number = self._last
            if len(self._of) >= self._max:
                del self._of[next(iter(self._of))]
        self._of[name] = number
        return number


class Mountpoints:
    """All streams, as mountpoints."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._numbers = Numbers()

    def number(self, name: str) -> int:
        """What clients know a stream by."""
        return self._numbers.of(name)

    def all(self, now: float) -> list[Mountpoint]:
        """By number."""
        found = [self._of(live.description, live, now) for live in self._streams]
        found += [self._of(described, None, now) for described in self._streams.offered()]
        return sorted(found, key=lambda each: each.number)

    def _of(self, described: StreamDescription, live: LiveStream | None, now: float) -> Mountpoint:
        name = described.name
        everyone = [live] if live is not None else self._streams.personal(name)
        title = described.title or name
        return Mountpoint(
            self._numbers.of(name),
            name,
            "live" if live is not None else "on demand",
            f"{title}: not playable: {described.problem}" if described.problem else title,
            not described.problem and _is_there(described, live),
            sum(len(each.viewers) for each in everyone),
            tuple(_media(described, live, now)),
        )


def _is_there(described: StreamDescription, live: LiveStream | None) -> bool:
    return live is None or live.online or (described.on_demand and bool(live.source))


def _media(
    described: StreamDescription, live: LiveStream | None, now: float
) -> Iterable[dict[str, object]]:
    kinds = [kind for kind in (AUDIO, VIDEO) if described.codec(kind) is not None]
    for index, kind in enumerate(kinds):
        codec = described.codec(kind)
        assert codec is not None
        told: dict[str, object] = {
            "mid": MIDS[kind],
            "mindex": index,
            "type": kind,
            "label": kind,
            "codec": codec.name.lower(),
            "rtpmap": codec.rtpmap,
        }
        if codec.fmtp:
            told["fmtp"] = codec.fmtp
        if live is not None and live.heard_at != float("-inf"):
            told["age_ms"] = max(0, round(1000 * (now - live.heard_at)))
        yield told
