"""GET /streams, /streams/{name}: what can be watched, and how it goes."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator

from callboard.gateway.http.bearer import Bearer
from callboard.gateway.http.frame import Refused, authorise
from callboard.gateway.live import LiveStream, LiveTrack, StreamDescription, Streams
from callboard.gateway.session.publisher import Publisher
from callboard.gateway.session.sessions import NoSession, NotYet, Sessions
from callboard.serve import Answer, Request
from callboard.serve.resources import JSON

NO_STORE = ("Cache-Control", "no-store")
SNAPSHOT = "snapshot.jpg"

Snapshot = Callable[[LiveStream], Awaitable[bytes]]
"""Gives a picture of a stream that is not too old, as JPEG; raises what `frame.answer_to` knows."""


class StreamEndpoints:
    """See the module."""

    def __init__(
        self,
        sessions: Sessions,
        clock: Callable[[], float],
        snapshot: Snapshot | None = None,
        bearer: Bearer | None = None,
    ) -> None:
        """`clock` is the loop's; `bearer` judges who wants a picture: it shows what is watched."""
        self._sessions = sessions
        self._streams: Streams = sessions.streams
        self._clock = clock
        self._snapshot = snapshot
        self._bearer = bearer

    def read_all(self, request: Request) -> Answer:
        """All streams, also those that cannot be watched, and why."""
        now = self._clock()
        told = [self._told(live.description, live, now) for live in self._streams]
        told += [self._told(described, None, now) for described in self._streams.offered()]
        told.sort(key=lambda each: str(each["name"]))
        return _json(told)

    def read(self, request: Request) -> Awaitable[Answer] | Answer:
        """One stream with its viewers' figures; below it, /snapshot.jpg."""
        name, _, rest = request.path.removeprefix("/streams/").partition("/")
        described, live, now = self._streams.describe(name), self._streams.find(name), self._clock()
        if described is None:
            raise NoSession(f"there is no stream {name[:80]}")
        if rest == SNAPSHOT:
            authorise(self._bearer, request)
            return self._picture(name, live)
        if rest:
            raise Refused(404, "there is nothing here")
        told = self._told(described, live, now)
        told["sessions"] = [viewer.statistics(now) for viewer in self._sessions.viewers(name)]
        told["publishers"] = [
            each.statistics(now)
            for each in self._sessions.each()
            if isinstance(each, Publisher) and each.stream == name
        ]
        return _json(told)

    async def _picture(self, name: str, live: LiveStream | None) -> Answer:
        if self._snapshot is None:
            raise Refused(404, "there are no pictures here")
        if live is None:
            raise NotYet(f"there is no picture of stream {name}: each viewer has one of its own")
        return Answer(200, await self._snapshot(live), [NO_STORE], "image/jpeg")

    def _told(
        self, described: StreamDescription, live: LiveStream | None, now: float
    ) -> dict[str, object]:
        viewers = (
            len(live.viewers) if live is not None else len(self._sessions.viewers(described.name))
        )
        told: dict[str, object] = {
            "name": described.name,
            "title": described.title,
            "state": _state(described, live),
            "playable": not described.problem,
            "reason": described.problem or (live.reason if live is not None else ""),
            "on_demand": described.on_demand or live is None,
            "viewers": viewers,
            "attributes": dict(described.attributes),
            "tracks": list(_tracks(described, live, now)),
        }
        if live is not None:
            told["source"] = live.source
            told["bits_per_second"] = live.bits_per_second(now)
        return told


def _state(described: StreamDescription, live: LiveStream | None) -> str:
    if described.problem:
        return "not playable"
    if live is None:
        return "on demand"
    if live.online:
        return "live"
    return "on demand" if described.on_demand and live.source else "offline"


def _tracks(
    described: StreamDescription, live: LiveStream | None, now: float
) -> Iterator[dict[str, object]]:
    for each in described.tracks:
        codec = each.codec
        told: dict[str, object] = {"id": each.id, "kind": codec.kind, "codec": codec.name}
        told |= {"clock_rate": codec.clock_rate, "parameters": dict(codec.parameters)}
        running = live.tracks.get(each.id) if live is not None else None
        yield {**told, **(_figures(running, now) if running is not None else {})}


def _figures(running: LiveTrack, now: float) -> dict[str, object]:
    counters, seen = running.track.counters, running.track.presence.last_seen
    return {
        "live": running.track.is_live(now),  # (a stream is while one of its tracks is)
        "silent_s": None if seen is None else round(now - seen, 1),
        "bits_per_second": round(running.track.bits_per_s(now)),
        "packets": counters.packets,
        "frames": counters.frames,
        "keyframes": counters.keyframes if running.kind == "video" else None,
        "keyframe_requests": running.track.requests.sent,
        "missing": counters.missing - counters.reordered,
        "restarts": counters.restarts,
    }


def _json(told: object) -> Answer:
    return Answer(200, json.dumps(told).encode(), [NO_STORE], JSON)
