"""One session as a resource: what WHEP and WHIP have in common once it is there.

Source: RFC 9725, 4.3 to 4.5; draft-ietf-wish-whep-03, 4.3 and 4.4.
"""

from __future__ import annotations

from callboard.chassis.proxied import prefix_of
from callboard.gateway.http.frame import FRAGMENT, SDP, Refused
from callboard.gateway.sdp import fragments
from callboard.gateway.session.session import Session, State
from callboard.serve import Answer, Request
from callboard.serve.resources import Door

ACCEPT_PATCH = ("Accept-Patch", FRAGMENT)
NO_STORE = ("Cache-Control", "no-store")


def content_type(request: Request) -> str:
    """The media type of a body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def check_content_type(request: Request, *allowed: str) -> str:
    """The media type of a body. Raises Refused (415) if it is not one of these."""
    given = content_type(request)
    if given not in allowed:
        raise Refused(415, f"the body must be {' or '.join(allowed)}", accepting(request, *allowed))
    return given


def accepting(request: Request, *types: str) -> tuple[str, str]:
    """The field that says what bodies are taken."""
    return ("Accept-Patch" if request.method == "PATCH" else "Accept-Post", ", ".join(types))


def location(request: Request, door: Door, *parts: str) -> str:
    """A path of ours as the client sees it."""
    prefix = prefix_of(request.headers) if door.proxy(request) else ""
    return "/".join([prefix, *parts])


def created(session: Session, where: str, *headers: tuple[str, str]) -> Answer:
    """201: our answer, and where the session is."""
    fields = [("Location", where), ("ETag", session.etag), ACCEPT_PATCH, NO_STORE, *headers]
    return Answer(201, session.description.encode(), fields, SDP)


def patch_ice(request: Request, session: Session) -> Answer:
    """Trickled candidates (204), or an ICE restart (200). Raises Refused, BadFragment."""
    condition = request.headers.get("if-match", "").strip()
    if not condition:
        raise Refused(428, "If-Match is needed: the session's ETag, or * to restart ICE")
    fragment = fragments.parse(request.body)
    # some clients write the asterisk as an entity tag, as the draft's example does
    anything = condition in ("*", '"*"')
    if not anything and session.etag not in _tags(condition):
        raise Refused(412, "If-Match is not the ETag of the ICE session that is running")
    if session.state not in (State.CONNECTING, State.CONNECTED):
        raise Refused(422, "the session has no ICE yet, or no more")
    if session.is_restart(fragment):
        text = session.restart(fragment)
        return Answer(200, text.encode(), [("ETag", session.etag), NO_STORE], FRAGMENT)
    if not fragment.candidates and not fragment.ended and not fragment.ufrag:
        raise Refused(422, "the fragment has neither candidates nor new credentials")
    return Answer(204)


def _tags(condition: str) -> list[str]:
    return [tag.strip() for tag in condition.split(",")]
