"""The hub's protected resource metadata: what tokens it takes, and where.

Source: RFC 9728, 2; draft-dunglas-mercure-08, Discovery. `resource` is the hub's configured
identifier: what tokens of draft 08 must have in `aud`.
"""

from __future__ import annotations

import json

from callboard.hub.auth.requests import COOKIE
from callboard.hub.auth.tokens import DETAIL_TYPE
from callboard.hub.matching.queries import MATCHER_TYPES


def metadata(resource: str, *, subscriptions: bool) -> bytes:
    """The document, as JSON; `subscriptions`: whether active ones are told."""
    document: dict[str, object] = {
        "resource": resource,
        "resource_name": "Callboard hub",
        "bearer_methods_supported": ["header"],
        "authorization_details_types_supported": [DETAIL_TYPE],
        "mercure_cookie": COOKIE,
        "mercure_matcher_types_supported": MATCHER_TYPES,
    }
    if subscriptions:
        document["mercure_subscriptions"] = True
    return json.dumps(document, separators=(",", ":")).encode()
