"""Films: what a viewer's session can be told to do with one that is played for it alone.

| request | answer |
|---|---|
| GET /whep/NAME/ID/progress | 200 PROGRESS |
| POST /whep/NAME/ID/pause, /start | 200 PROGRESS |
| POST /whep/NAME/ID/seek {"position_s": SECONDS} | 200 PROGRESS |

PROGRESS is {"state": "playing", "paused" or "ended", "position_s", "duration_s"}. 409 for a stream
that is no film.
"""

from __future__ import annotations

from callboard.gateway.film import Film, NotSteered
from callboard.gateway.http.frame import Refused
from callboard.gateway.http.session_resource import NO_STORE
from callboard.gateway.session.viewer import Viewer
from callboard.media.leases import BadMessage, Progress, Seek
from callboard.serve import Answer

PROGRESS = "progress"
VERBS = frozenset({"pause", "start", "seek"})
JSON = "application/json"


async def progress(viewer: Viewer) -> Answer:
    """Where the film is. Raises Refused, ConnectionError."""
    return await _told(viewer, PROGRESS, b"")


async def steer(viewer: Viewer, verb: str, body: bytes) -> Answer:
    """Do one of VERBS. Raises Refused, ConnectionError."""
    return await _told(viewer, verb, body)


async def _told(viewer: Viewer, verb: str, body: bytes) -> Answer:
    film = viewer.live.film
    if film is None:
        raise Refused(409, "it is live: there is nothing to pause, and nowhere else to go")
    try:
        made = await _do(film, verb, body)
    except NotSteered as problem:
        raise Refused(409, str(problem)) from problem
    except BadMessage as problem:
        raise Refused(400, str(problem)) from problem
    return Answer(200, made.to_json(), [NO_STORE], JSON)


async def _do(film: Film, verb: str, body: bytes) -> Progress:
    if verb == "seek":
        return await film.seek(Seek.from_json(body).position_s)
    if verb == "pause":
        return await film.pause()
    return await (film.start() if verb == "start" else film.progress())
