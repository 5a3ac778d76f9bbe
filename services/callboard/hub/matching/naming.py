"""What a publisher may write: topics, ids, types, and their limits. Pure.

Source: draft-dunglas-mercure-08, "Terminology", "Publication" and "Reserved Hub Namespace". All of
it ends up in lines of an event stream, in Last-Event-ID and in logs: a control character, or one
that nobody sees (general category Cf), is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from callboard.hub.catalog.naming import BEGINNINGS
from callboard.hub.cursor import EARLIEST
from callboard.hub.event import Publication
from callboard.hub.matching.refusal import Refused
from callboard.hub.matching.urls import (
    HUB_PATH,
    HUB_URL,
    is_relative,
    locate,
    normal_path,
    own_paths,
)

TOPIC_BYTES_MAX = 1024
TOPICS_MAX = 100
"""In one publication: the topic and its alternates."""
ID_BYTES_MAX = 128
"""A longer Last-Event-ID costs browsers a CORS preflight."""
TYPE_BYTES_MAX = 128
KEY_BYTES_MAX = 128
"""Of an idempotency key."""
DATA_BYTES_MAX = 256 * 1024
BODY_BYTES_MAX = 1 << 20
"""Of a whole request."""
RETRY_MS_MAX = 24 * 3600 * 1000

OWN_TYPES = ("hub.", "mercure")
"""Event types of the hub itself: those that begin with the first, and the second."""

_CONTROL = re.compile(r"[\0-\x1f\x7f-\x9f]")
_DIGITS = re.compile(r"[0-9]{1,20}")


def publication(
    topics: Iterable[str],
    data: bytes,
    *,
    type: str = "",
    id: str = "",
    retry: str = "",
    private: bool = False,
    idempotency_key: str = "",
    base: str = HUB_URL,
) -> Publication:
    """What a publisher asks for, checked. `base` is the hub's URL.

    `data` must be UTF-8; `retry` is as it was written, in milliseconds. Raises Refused: 400, 403
    (the topic is the hub's own) or 413 (over a limit).
    """
    _check_size(len(data), DATA_BYTES_MAX, "data")
    try:
        data.decode()
    except UnicodeDecodeError:
        raise Refused(400, "data is not UTF-8") from None
    return Publication(
        topics=_topics(topics, base),
        data=data,
        type=_type(type),
        own_id=_id(id),
        private=private,
        retry_ms=_retry(retry),
        idempotency_key=checked_text(idempotency_key, KEY_BYTES_MAX, "the idempotency key"),
    )


def checked_topic(topic: str, base: str = HUB_URL) -> str:
    """A topic that may be published to; `base` is the hub's URL. Raises Refused: 400, 403, 413."""
    if not topic:
        raise Refused(400, "a topic is empty")
    checked_text(topic, TOPIC_BYTES_MAX, "a topic")
    if topic == "*":
        raise Refused(400, "the topic * means every topic: nothing is published to it")
    _check_reserved(topic, base)
    return topic


def checked_text(text: str, bytes_max: int, what: str, *, too_long: int = 413) -> str:
    """A text without control and format characters, not too long. Raises Refused: 400, and
    `too_long`. `what` names it in the answer."""
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise Refused(400, f"{what} is not UTF-8") from None
    _check_size(size, bytes_max, what, too_long)
    if _CONTROL.search(text) or not (
        text.isascii() or all(unicodedata.category(one) != "Cf" for one in text)
    ):
        raise Refused(400, f"{what} has a control or format character")
    return text


def _topics(topics: Iterable[str], base: str) -> tuple[str, ...]:
    once = tuple(dict.fromkeys(topics))
    if not once:
        raise Refused(400, "a publication has at least one topic")
    if len(once) > TOPICS_MAX:
        raise Refused(413, f"a publication has at most {TOPICS_MAX} topics")
    return tuple(checked_topic(topic, base) for topic in once)


def _type(type: str) -> str:
    checked_text(type, TYPE_BYTES_MAX, "the type")
    prefix, own = OWN_TYPES
    if type.startswith(prefix) or type == own:
        raise Refused(400, f"the type {type} is the hub's own")
    return type


def _id(id: str) -> str:
    checked_text(id, ID_BYTES_MAX, "the id")
    if id.startswith("#") or id == EARLIEST:
        raise Refused(400, f"an id does not begin with # and is not {EARLIEST}")
    return id


def _retry(retry: str) -> int | None:
    if not retry:
        return None
    if not _DIGITS.fullmatch(retry) or int(retry) > RETRY_MS_MAX:
        raise Refused(400, f"retry is a number of milliseconds, at most {RETRY_MS_MAX}")
    return int(retry)


def _check_reserved(topic: str, base: str) -> None:
    """The hub's own path belongs to it under every scheme and host. The catalog's topics are
    relative: https://shop.example/catalog/shoes is anybody's."""
    place = locate(topic, base)
    if place is None:
        return
    path = normal_path(place.path)
    if f"{path}/".startswith(own_paths(base)):
        raise Refused(403, f"topics of {HUB_PATH} are the hub's own")
    if f"{path}/".startswith(BEGINNINGS) and is_relative(topic):
        raise Refused(403, "topics of /catalog and /cluster come from the catalog")


def _check_size(size: int, bytes_max: int, what: str, status: int = 413) -> None:
    if size > bytes_max:
        raise Refused(status, f"{what} has {size} bytes; {bytes_max} are allowed")
