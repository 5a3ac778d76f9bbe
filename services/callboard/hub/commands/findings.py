"""What `callboard hub doctor` makes of what it saw. Pure: times and answers are arguments."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from callboard.chassis.findings import Finding, Grade
from callboard.events.course import HELLO_S, json_fields
from callboard.events.errors import Refused

CLOCK_S = 5.0
"""Clocks that differ by more make tokens end early, or late."""
TOKEN_SOON_S = 60.0
BEAT_LATE_S = 1.0
BROWSER_STREAMS = 6
"""Connections that browsers open to one origin over HTTP/1.1."""


@dataclass(slots=True)
class Watched:
    """What a stream was seen to do. Times are seconds after the request was sent."""

    status: int = 0
    version: int = 11
    """10 or 11."""
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    """Of an answer that is no stream."""
    first_byte_s: float | None = None
    hello_s: float | None = None
    hello: Mapping[str, object] = field(default_factory=dict)
    beats_s: list[float] = field(default_factory=list)
    ended_s: float | None = None
    hub_ahead_s: float | None = None
    """Of the hub's clock before ours."""

    @property
    def is_stream(self) -> bool:
        """Whether the answer is one of server-sent events."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return self.status == 200 and kind == "text/event-stream"

    @property
    def held_back(self) -> bool:
        """Whether something in between keeps what the hub sends."""
        return self.status in (0, 200) and self.first_byte_s is None and self.ended_s is None


def judge_answer(seen: Watched) -> Iterator[Finding]:
    """Is there a hub."""
    if seen.is_stream:
        name = seen.hello.get("hub")
        if seen.hello_s is not None:
            yield Finding(Grade.GOOD, "hub", f"a hub answers, {name}" if name else "a hub answers")
        elif seen.first_byte_s is not None:
            yield Finding(
                Grade.NOTE, "hub", "an event stream that does not greet: a hub of another make"
            )
        return
    if seen.status in (401, 403):
        return
    if seen.status == 200:
        kind = seen.headers.get("content-type") or "no type"
        yield Finding(Grade.BAD, "hub", f"no hub is here: the answer is of {kind}")
    elif seen.status:
        yield Finding(Grade.BAD, "hub", str(Refused(seen.status, seen.headers, seen.text)))


def judge_buffering(seen: Watched, beat_s: float) -> Iterator[Finding]:
    """Does what a hub sends arrive at once."""
    if seen.held_back:
        yield Finding(
            Grade.BAD,
            "buffering",
            f"nothing came within {HELLO_S:g} s: a proxy in between holds the stream back, so "
            "clients fall to long polls. It must honour X-Accel-Buffering: no, or not buffer "
            "(nginx: proxy_buffering off)",
        )
        return
    if not seen.is_stream or seen.first_byte_s is None:
        return
    first = f"first byte after {seen.first_byte_s * 1000:.0f} ms"
    if seen.hello_s is not None and seen.hello_s > HELLO_S:
        yield Finding(Grade.BAD, "buffering", f"{first}, but the greeting after {seen.hello_s:.1f}")
    else:
        yield Finding(Grade.GOOD, "buffering", f"none: {first}")
    encoding = seen.headers.get("content-encoding", "identity")
    if encoding != "identity":
        yield Finding(Grade.NOTE, "buffering", f"a proxy compresses the stream ({encoding})")
    if seen.hello_s is not None:
        yield _beats(seen, beat_s)


def _beats(seen: Watched, beat_s: float) -> Finding:
    if seen.ended_s is not None:
        return Finding(Grade.BAD, "heartbeat", f"the stream ended after {seen.ended_s:.1f} s")
    if not seen.beats_s or seen.hello_s is None:
        return Finding(Grade.BAD, "heartbeat", "none came: something holds them back")
    times = [seen.hello_s, *seen.beats_s]
    longest_s = max(after - before for before, after in pairwise(times))
    text = f"{len(seen.beats_s)} came, at most {longest_s:.1f} s apart; {beat_s:g} s was asked for"
    late = longest_s > beat_s + BEAT_LATE_S
    return Finding(Grade.BAD if late else Grade.GOOD, "heartbeat", text)


def judge_protocol(seen: Watched, alpn: str | None, secure: bool) -> Iterator[Finding]:
    """How HTTP is spoken; `alpn` is what TLS agreed on when HTTP/2 was offered, too."""
    if not seen.status:
        return
    if alpn == "h2":
        yield Finding(Grade.GOOD, "http", "HTTP/2 for browsers")
    elif seen.version == 10:
        yield Finding(Grade.NOTE, "http", "HTTP/1.0: an old proxy in between, or a simple one")
    else:
        tls = " over TLS" if secure else ""
        text = f"HTTP/1.1{tls}: a browser opens at most {BROWSER_STREAMS} streams at a time"
        yield Finding(Grade.GOOD, "http", text)
    between = ", ".join(filter(None, (seen.headers.get("via"), seen.headers.get("server"))))
    if between:
        yield Finding(Grade.NOTE, "http", f"between, or in front: {between}")


def judge_clock(seen: Watched) -> Iterator[Finding]:
    """Tokens are judged by the hub's clock."""
    ahead_s = seen.hub_ahead_s
    if ahead_s is None:
        return
    way = "ahead of" if ahead_s > 0 else "behind"
    if abs(ahead_s) > CLOCK_S:
        text = f"the hub's is {abs(ahead_s):.0f} s {way} ours: tokens end early, or late"
        yield Finding(Grade.BAD, "clock", text)
    else:
        yield Finding(Grade.GOOD, "clock", f"the hub's is within {max(1, round(abs(ahead_s)))} s")


def judge_cors(status: int, headers: Mapping[str, str], origin: str) -> Iterator[Finding]:
    """May a page of another site read; `headers` answer a preflight from `origin`."""
    allowed = headers.get("access-control-allow-origin", "")
    credentials = headers.get("access-control-allow-credentials", "") == "true"
    if allowed == origin and credentials:
        text = "any site's pages may use a visitor's cookie: the origin is repeated as it comes"
        yield Finding(Grade.BAD, "cors", text)
    elif not allowed:
        text = f"pages of other sites cannot read (preflight: {status}); of its own, they can"
        yield Finding(Grade.NOTE, "cors", text)
    else:
        names = headers.get("access-control-allow-headers", "").lower()
        missing = [name for name in ("Last-Event-ID", "Authorization") if name.lower() not in names]
        if missing and names != "*":
            text = f"pages of other sites may not send {', '.join(missing)}"
            yield Finding(Grade.NOTE, "cors", text)
        else:
            yield Finding(Grade.GOOD, "cors", f"pages of other sites may read ({allowed})")


def judge_token(token: str, seen: Watched, now: float) -> Iterator[Finding]:
    """What the hub makes of a token, and what stands in it; `now` is wall time."""
    refused = seen.status in (401, 403)
    if not token:
        if refused:
            text = f"none was shown, and reading needs one: {_refusal(seen)}"
            yield Finding(Grade.BAD, "token", text)
        return
    if refused:
        yield Finding(Grade.BAD, "token", f"refused: {_refusal(seen)}")
    elif seen.is_stream:
        yield Finding(Grade.GOOD, "token", "taken")
    claims = _claims(token)
    if not claims:
        yield Finding(Grade.NOTE, "token", "it is no JWT that says anything")
        return
    expires = claims.get("exp")
    if isinstance(expires, int | float):
        left_s = expires - now
        grade = Grade.BAD if left_s <= 0 else Grade.NOTE if left_s < TOKEN_SOON_S else Grade.GOOD
        words = f"expired {-left_s:.0f} s ago" if left_s <= 0 else f"expires in {left_s:.0f} s"
        yield Finding(grade, "token", words)
    for action in ("publish", "subscribe"):
        topics = _topics(claims, action)
        yield Finding(
            Grade.GOOD if topics else Grade.NOTE,
            "token",
            f"to {action}: {', '.join(topics)}" if topics else f"nothing to {action}",
        )


def _refusal(seen: Watched) -> str:
    return str(Refused(seen.status, seen.headers, seen.text))


def _claims(token: str) -> Mapping[str, object]:
    """What stands in a token, if it can be read; whether it is true only the hub knows."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        return json_fields(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}


def _topics(claims: Mapping[str, object], action: str) -> Sequence[str]:
    """Of both generations: `mercure`, and `authorization_details` (RFC 9396)."""
    found: list[str] = []
    legacy = claims.get("mercure")
    if isinstance(legacy, dict) and isinstance(legacy.get(action), list):
        found += [str(topic) for topic in legacy[action]]
    details = claims.get("authorization_details")
    for detail in details if isinstance(details, list) else []:
        actions = detail.get("actions") if isinstance(detail, dict) else None
        if not isinstance(actions, list) or action not in actions:
            continue
        topics = detail.get("topics")
        for topic in topics if isinstance(topics, list) else []:
            if isinstance(topic, dict) and "match" in topic:
                found.append(str(topic["match"]))
    return found
