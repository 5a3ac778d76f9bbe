"""What a publisher sends, as a `Publication`: a form, a body as it is, a webhook. Pure.

Source: draft-dunglas-mercure-07 and -08, Publication. Several topics (the first is the canonical
one) are of drafts up to 07 and of version 1.0. `private` makes an update private by being there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from callboard.hub.event import Publication
from callboard.hub.matching import naming
from callboard.hub.mercure.forms import Fields
from callboard.hub.mercure.refusals import bad_request
from callboard.hub.mercure.webhooks import Hook

IDEMPOTENCY_KEY = "idempotency-key"


def of_form(fields: Fields, headers: Mapping[str, str]) -> Publication:
    """Of a POST to the hub's URL: its body's fields. Raises Refused."""
    topics = fields.get("topic", [])
    data = _one(fields, "data").encode()
    return _publication(topics, data, fields, headers)


def of_body(topic: str, query: Fields, headers: Mapping[str, str], body: bytes) -> Publication:
    """Of a POST to a topic: the body is the data. Raises Refused."""
    return _publication([topic], body, query, headers)


def of_hook(hook: Hook, event: str, body: bytes, idempotency_key: str) -> Publication:
    """Of a webhook that was verified. Raises Refused."""
    return naming.publication(
        [hook.fill(hook.topic, event)],
        body,
        type=hook.fill(hook.type, event),
        private=hook.private,
        idempotency_key=idempotency_key,
    )


def _publication(
    topics: list[str], data: bytes, fields: Fields, headers: Mapping[str, str]
) -> Publication:
    return naming.publication(
        topics,
        data,
        type=_one(fields, "type"),
        id=_one(fields, "id"),
        retry=_one(fields, "retry") or None,
        private="private" in fields,
        idempotency_key=_key(headers.get(IDEMPOTENCY_KEY, ""), topics),
    )


def _key(text: str, topics: list[str]) -> str:
    """The same key for another topic is another publication's."""
    if not text:
        return ""
    naming.checked_text(text, naming.KEY_BYTES_MAX, "the idempotency key", too_long=400)
    return hashlib.sha256("\0".join((text, *topics)).encode("utf-8", "replace")).hexdigest()


def _one(fields: Fields, name: str) -> str:
    values = fields.get(name)
    if values is None:
        return ""
    if len(values) > 1:
        raise bad_request(f"{name} is given more than once")
    return values[0]
