"""What a publisher sends, as a `Publication`: a form, a body as it is, a webhook. Pure.

Source: draft-dunglas-mercure-07 and -08, Publication. Several topics (the first is the canonical
one) are of drafts up to 07 and of version 1.0. `private` makes an update private by being there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from callboard.hub.event import Publication
from callboard.hub.matching import naming
from callboard.hub.matching.urls import HUB_URL
from callboard.hub.mercure.forms import Fields, single
from callboard.hub.mercure.webhooks import Delivery, Hook
from callboard.hub.ports import Rights

IDEMPOTENCY_KEY = "idempotency-key"


def of_form(
    fields: Fields, headers: Mapping[str, str], publisher: Rights, *, base: str = HUB_URL
) -> Publication:
    """Of a POST to the hub's URL, `base`: its body's fields. Raises Refused."""
    topics = fields.get("topic", [])
    data = (single(fields, "data") or "").encode()
    return _publication(topics, data, fields, headers, publisher, base=base)


def of_body(
    topic: str,
    query: Fields,
    headers: Mapping[str, str],
    body: bytes,
    publisher: Rights,
    *,
    base: str = HUB_URL,
) -> Publication:
    """Of a POST to a topic: the body is the data; `base` is the hub's URL. Raises Refused."""
    return _publication([topic], body, query, headers, publisher, base=base)


def of_hook(hook: Hook, delivery: Delivery, body: bytes, base: str = HUB_URL) -> Publication:
    """Of a webhook that was verified; `base` is the hub's URL. Raises Refused."""
    return naming.publication(
        [hook.fill(hook.topic, delivery.event)],
        body,
        type=hook.fill(hook.type, delivery.event),
        private=hook.private,
        idempotency_key=_digest("hook", hook.name, delivery.id) if delivery.id else "",
        base=base,
    )


def _publication(
    topics: list[str],
    data: bytes,
    fields: Fields,
    headers: Mapping[str, str],
    publisher: Rights,
    *,
    base: str,
) -> Publication:
    return naming.publication(
        topics,
        data,
        type=single(fields, "type") or "",
        id=single(fields, "id") or "",
        retry=single(fields, "retry") or "",
        private="private" in fields,
        idempotency_key=_key(headers.get(IDEMPOTENCY_KEY, ""), topics, publisher),
        base=base,
    )


def _key(text: str, topics: list[str], publisher: Rights) -> str:
    """The same key for another topic, or of another publisher, is another publication's: nobody
    gets the id of what somebody else published, or keeps it from being published.

    A publisher is the subject of its tokens, or a token that has none; all without a token are
    one.
    """
    if not text:
        return ""
    naming.checked_text(text, naming.KEY_BYTES_MAX, "the idempotency key", too_long=400)
    if publisher.subject:
        return _digest("subject", publisher.subject, text, *topics)
    return _digest("token", publisher.token_hash.hex(), text, *topics)


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
