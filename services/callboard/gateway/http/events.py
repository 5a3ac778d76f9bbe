"""What happens to a stream, for who watches it: WHEP's server-sent events.

POST /whep/{stream}/{session}/sse makes an event stream, GET of its Location reads it (as an
EventSource does), DELETE ends it.

Source: "WebRTC-HTTP Egress Protocol Core Extensions", Server Sent Events extension.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Iterable

from callboard.gateway.http.frame import Refused
from callboard.gateway.http.session_resource import check_content_type
from callboard.gateway.live import Change, LiveStream
from callboard.gateway.session.renditions import Slow
from callboard.gateway.session.sessions import NoSession, Sessions
from callboard.gateway.session.viewer import Viewer
from callboard.serve import Answer, Request
from callboard.serve.resources import JSON

EVENTS = ("active", "inactive", "viewercount", "slow")
"""The first three are the extension's; `slow` is ours: the link is too slow for the stream, which
needs so many bits per second and gets so many; without figures: no longer."""
EVENTS_LINK = (
    '<{}/sse>; rel="urn:ietf:params:whep:ext:core:server-sent-events"; '
    f'events="{",".join(EVENTS)}"'
)
STREAMS_MAX = 4
"""Of one session."""
QUEUE_MAX = 32
"""Events that wait for a reader; then the oldest is dropped: a later one says more."""
PAUSE_S = 0.5
"""Between two looks at what there is to tell: many who come at once are one event."""

_CHANGES = {Change.UP: "active", Change.DOWN: "inactive", Change.VIEWERS: "viewercount"}


class EventStream:
    """What one reader is told."""

    def __init__(self, live: LiveStream, events: Iterable[str]) -> None:
        self.live = live
        self._events = frozenset(events)
        self._queue: deque[tuple[str, str]] = deque(maxlen=QUEUE_MAX)
        self._counted = False
        self._more = asyncio.Event()
        self._over = asyncio.Event()
        if live.online:
            self.put("active")
        self.put("viewercount")

    def put(self, event: str, data: str = "{}") -> None:
        """Queue an event, if it is asked for. The viewers' number is read when it is told."""
        if event not in self._events:
            return
        if event == "viewercount":
            self._counted = True
        else:
            self._queue.append((event, data))
        self._more.set()

    def end(self) -> None:
        """There will be no more."""
        self._over.set()
        self._more.set()

    async def read(self) -> AsyncIterator[dict[str, str]]:
        """The events, as they come; one reader at a time."""
        yield {"comment": "the head goes out with the first line of the body"}
        while not self._over.is_set():
            await self._more.wait()
            self._more.clear()
            while self._queue:
                event, data = self._queue.popleft()
                yield {"event": event, "data": data}
            if self._counted:
                self._counted = False
                count = {"viewercount": len(self.live.viewers)}
                yield {"event": "viewercount", "data": json.dumps(count)}
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), PAUSE_S)


class EventEndpoints:
    """See the module."""

    def __init__(self, sessions: Sessions) -> None:
        self._streams: dict[str, dict[str, EventStream]] = {}
        sessions.streams.listen(self._changed)

    def create(self, request: Request, viewer: Viewer, rest: str, where: str) -> Answer:
        """Make an event stream below `where`: 201. The body may be a JSON array of the events that
        are wanted."""
        if rest != "sse":
            raise NoSession("there is nothing here")
        wanted = _wanted(request)
        streams = self._streams.get(viewer.id)
        if streams is None:
            streams = self._streams[viewer.id] = {}
            viewer.when_ended.append(lambda: self._end(viewer.id))
            viewer.on_slow.append(lambda slow: self._slow(viewer.id, slow))
        if len(streams) >= STREAMS_MAX:
            raise Refused(429, f"a session has {STREAMS_MAX} event streams at most")
        id = secrets.token_hex(8)
        streams[id] = EventStream(viewer.live, wanted)
        if viewer.slow is not None:
            streams[id].put("slow", _slow_data(viewer.slow))
        return Answer(201, b"", [("Location", f"{where}/{id}")])

    def find(self, viewer: Viewer, rest: str) -> EventStream:
        """The event stream at a path below a session. Raises NoSession."""
        stream = self._streams.get(viewer.id, {}).get(rest.removeprefix("sse/"))
        if stream is None or not rest.startswith("sse/"):
            raise NoSession("there is no such event stream")
        return stream

    def delete(self, viewer: Viewer, rest: str) -> Answer:
        """End an event stream."""
        self.find(viewer, rest).end()
        del self._streams[viewer.id][rest.removeprefix("sse/")]
        return Answer(200)

    def _changed(self, live: LiveStream, change: Change) -> None:
        event = _CHANGES.get(change)
        if event is not None:
            for streams in self._streams.values():
                for stream in streams.values():
                    if stream.live is live:
                        stream.put(event)

    def _slow(self, session: str, slow: Slow | None) -> None:
        for stream in self._streams.get(session, {}).values():
            stream.put("slow", _slow_data(slow))

    def _end(self, session: str) -> None:
        """Event streams end with their session."""
        for stream in self._streams.pop(session, {}).values():
            stream.end()


def _slow_data(slow: Slow | None) -> str:
    return json.dumps({} if slow is None else {"needs": slow.needs, "gets": slow.gets})


def _wanted(request: Request) -> list[str]:
    if not request.body:
        return list(EVENTS)
    check_content_type(request, JSON)
    try:
        told = json.loads(request.body)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, list) or not all(isinstance(each, str) for each in told):
        raise Refused(400, "the body must be a JSON array of names of events")
    return [each for each in told if each in EVENTS]
