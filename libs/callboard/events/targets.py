"""Where a hub's streams and topics are, and what a publication is on the wire. Pure.

Source: draft-dunglas-mercure-07 (`topic=`, which hubs of both generations read), and the short
paths of our hub: /t/NAME is the topic /NAME, a POST's body is the data as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict
from urllib.parse import quote, urlencode, urlsplit

DEFAULT_HUB = "http://127.0.0.1:8800"
WELL_KNOWN = "/.well-known/mercure"
PATH_SAFE = "/$&+,:;=@!*'()"

Query = Sequence[tuple[str, str]]


def hub_url(text: str) -> str:
    """A hub's address as a URL without a slash at its end: `host:port` is http. Raises
    ValueError."""
    url = text.strip()
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as problem:
        raise ValueError(f"{text!r} is no hub's URL: {problem}") from problem
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is no hub's URL: http://host:port or https://host/prefix is")
    return url.rstrip("/")


def topic_name(text: str) -> str:
    """The topic that a user means: `builds` is /builds. URLs, URNs, `*` and templates are as they
    are. Raises ValueError for an empty one."""
    if not text:
        raise ValueError("a topic has a name")
    if text == "*" or text[0] in "/{" or ":" in text.partition("/")[0]:
        return text
    return f"/{text}"


def has_path(topic: str) -> bool:
    """Whether /t/ can name a topic: one whose path no proxy would change on the way, and no
    pattern."""
    segments = topic.split("/")[1:]
    plain = topic.startswith("/") and not {"", ".", ".."} & set(segments)
    return plain and not any(letter in topic for letter in "{}")


@dataclass(frozen=True, slots=True)
class Target:
    """A stream."""

    url: str
    """Without what a connection adds to its query."""
    query: Query = ()

    def url_with(self, more: Query) -> str:
        """The URL of one connection."""
        words = urlencode([*self.query, *more])
        if not words:
            return self.url
        return f"{self.url}{'&' if urlsplit(self.url).query else '?'}{words}"


def target(topics: str | Sequence[str], hub: str | None) -> Target:
    """The stream of one or more topics of a hub, or, without a hub, of an http(s) URL. Raises
    ValueError."""
    if isinstance(topics, str):
        if hub is None and topics.startswith(("http://", "https://")):
            return Target(topics.partition("#")[0])
        topics = (topics,)
    if not topics:
        raise ValueError("no topic is given")
    base = hub_url(DEFAULT_HUB if hub is None else hub)
    names = [topic_name(text) for text in topics]
    if len(names) == 1 and has_path(names[0]):
        return Target(f"{base}/t{quote(names[0], safe=PATH_SAFE)}")
    return Target(base + WELL_KNOWN, [("topic", name) for name in names])


class Options(TypedDict, total=False):
    """What may be said of a publication beside its topics and data."""

    id: str
    type: str
    private: bool
    """Shown only to those whose token allows it."""
    retry_ms: int | None
    """Time until readers come back when they lose their stream."""
    idempotency_key: str
    """A second publication with the same one is the first one."""


@dataclass(frozen=True, slots=True)
class Posting:
    """A publication as a request."""

    url: str
    headers: Mapping[str, str]
    body: bytes


def posting(
    topics: str | Sequence[str],
    data: str | bytes,
    *,
    hub: str = DEFAULT_HUB,
    id: str = "",
    type: str = "",
    private: bool = False,
    retry_ms: int | None = None,
    idempotency_key: str = "",
) -> Posting:
    """What is sent to publish; the first topic is the canonical one. Raises ValueError.

    One topic goes by /t/, which an open hub takes without a token; several by the protocol's own.
    """
    names = [topic_name(text) for text in ((topics,) if isinstance(topics, str) else topics)]
    if not names:
        raise ValueError("no topic is given")
    try:
        text = data if isinstance(data, str) else data.decode()
        body = text.encode()
    except UnicodeError as problem:
        raise ValueError(f"an event's data is UTF-8: {problem}") from problem
    fields = [("id", id), ("type", type), ("private", "on" if private else "")]
    if retry_ms is not None:
        fields.append(("retry", str(retry_ms)))
    fields = [(name, value) for name, value in fields if value]
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    if idempotency_key:
        headers["Idempotency-Key"] = idempotency_key
    base = hub_url(hub)
    if len(names) == 1 and has_path(names[0]):
        place = Target(f"{base}/t{quote(names[0], safe=PATH_SAFE)}", fields)
        return Posting(place.url_with(()), headers, body)
    form = urlencode([*(("topic", name) for name in names), ("data", text), *fields])
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    return Posting(base + WELL_KNOWN, headers, form.encode())
