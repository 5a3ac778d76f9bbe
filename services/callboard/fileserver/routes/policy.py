"""Which requests are forwarded, and as what: prefixes, what is kept here, who may write. Pure.

The server adds no authority: the user's own credential travels on, our certificate proves the
transport only. Agents verify no token until tokens exist, so below /v1 only reading passes,
whatever header comes. The feed between programs and what operators ask (the keys of gossip) are
never forwarded: the programs behind would take our certificate, or our address, for the reader's.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from callboard.chassis.guards import OriginGuard
from callboard.fileserver.head import Head
from callboard.fileserver.ports import Refusal

SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"QUERY"})
"""Methods that change nothing (RFC 9110, 9.2.1; RFC 10008), of those we forward."""
METHODS = SAFE | {b"PUT", b"POST", b"DELETE", b"PATCH"}

COOKIES = frozenset({b"__Secure-mercure_access_token", b"mercureAuthorization"})
"""That carry a token to the hub: of Mercure's draft 08, and of those before."""

AGENT, HUB, GATEWAY = "agent", "hub", "gateway"

_DOTTED = re.compile(rb"/\.{1,2}(?:/|\Z)|\\")
_EMPTY = re.compile(rb"//")
"""Paths that two readers could take for different ones. An encoded empty segment is nothing but
a name for hub and gateway: Mercure's subscriptions have topics (https%3A%2F%2F…) in their paths."""

RESOURCE = b"/.well-known/oauth-protected-resource"
"""RFC 9728: the metadata of a resource at /hub/x lies at RESOURCE + /hub/x."""
_RESOURCE_HUB = RESOURCE + b"/hub"

_HUBS_METADATA = _RESOURCE_HUB + b"/.well-known/mercure"
"""Where the hub's own 401 points to, too, as it is told of X-Forwarded-Prefix."""

_HOOK = re.compile(rb"/hub/hooks/[^/]+")
"""A webhook, decoded. Its sender has no token: it signs by the hook's own secret, and the hub
verifies that."""

_PREFIXES = ((b"/hub", b"/hub/", HUB), (b"/media", b"/media/", GATEWAY))

ANSWER_S = 120.0
"""Until an answer begins, from the last byte of the request."""
BLOCKING_S = 660.0
"""The same of a blocking query: 10 minutes and its jitter, and some more."""
_BLOCKING = frozenset({b"index", b"hash"})


@dataclass(frozen=True, slots=True)
class Forward:
    """Where a request goes, and its target there."""

    service: str
    """AGENT, HUB or GATEWAY."""
    target: bytes
    prefix: bytes
    """For X-Forwarded-Prefix; b"" for none."""
    plain_text: bool = False
    """The answer's body is somebody's bytes, to be shown as text and nothing else."""
    websocket: bool = False
    """The client may change to a WebSocket; an Upgrade to anything else is left out: what h2c
    carries would go past us unread."""
    answer_s: float = ANSWER_S
    """How long an answer may take to begin."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is forwarded."""

    origins: OriginGuard
    allow_writes: bool = False
    """Let writes below /v1 pass (`--allow-writes`)."""

    def decide(self, head: Head) -> Forward | Refusal | None:
        """None for what is not ours: the files answer."""
        forward = _forward(head)
        if forward is None:
            return None
        twisted = _DOTTED.search(head.decoded) or _EMPTY.search(head.path)
        if twisted or (forward.service == AGENT and _EMPTY.search(head.decoded)):
            return Refusal(400, "the path has empty or dotted segments")
        if head.method not in METHODS:
            allowed = ", ".join(sorted(method.decode() for method in METHODS))
            return Refusal(405, "method not allowed", (("Allow", allowed),))
        if forward.service == AGENT and _is_internal(head.decoded):
            return Refusal(404, "not found")
        changes = head.method not in SAFE
        if (changes or forward.websocket) and not self._own_page(head):
            return Refusal(403, "a page of another site may not do this")
        if not changes:
            return forward
        if forward.service == AGENT and not self.allow_writes:
            return Refusal(403, "the catalog is read-only here: write at an agent")
        if _publishes(head, forward) and not _has_credential(head):
            challenge = _challenge(head, forward)
            return Refusal(401, "publishing here needs a token", (("WWW-Authenticate", challenge),))
        return forward

    def _own_page(self, head: Head) -> bool:
        """Whether the request comes from a page of our own, of an allowed origin, or from no page.

        Scheme, name and port count: another port of localhost is another program's page.
        Sec-Fetch-Site tells of a browser that sends no Origin; `none` is a person's own doing.
        """
        origin = head.fields.get(b"origin")
        if origin is None:
            return head.fields.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin")
        if origin.lower() == _own_origin(head):
            return True
        return self.origins.allows(origin.decode("latin-1"), "")


def _forward(head: Head) -> Forward | None:
    """By the path as sent: a prefix is never percent-encoded."""
    path, target = head.path, head.target
    if path.startswith(b"/v1/"):
        asked = _asked(head.query)
        raw = b"raw" in asked and head.decoded.startswith(b"/v1/kv/")
        answer_s = ANSWER_S if _BLOCKING.isdisjoint(asked) else BLOCKING_S
        return Forward(AGENT, target, b"", plain_text=raw, answer_s=answer_s)
    for prefix, below, service in _PREFIXES:
        if path == prefix or path.startswith(below):
            websocket = head.upgrade == b"websocket" and head.method == b"GET" and not head.has_body
            rest = target[len(prefix) :]
            rest = rest if rest[:1] == b"/" else b"/" + rest
            return Forward(service, rest, prefix, websocket=websocket)
    if path == _RESOURCE_HUB or path.startswith(_RESOURCE_HUB + b"/"):
        return Forward(HUB, RESOURCE + target[len(_RESOURCE_HUB) :], b"/hub")
    return None


def _is_internal(decoded: bytes) -> bool:
    return decoded in (b"/v1/internal", b"/v1/operator") or decoded.startswith(
        (b"/v1/internal/", b"/v1/operator/")
    )


def _asked(query: bytes) -> Set[bytes]:
    """The names of a query's parameters, decoded."""
    if not query:
        return frozenset()
    names = (part.partition(b"=")[0] for part in query.split(b"&"))
    return {unquote_to_bytes(name.replace(b"+", b" ")) for name in names}


def _publishes(head: Head, forward: Forward) -> bool:
    """Whether a change is a publication: everything at the hub but webhooks, at the gateway by
    WHIP (watching by WHEP is a POST too)."""
    if forward.service != GATEWAY:
        return forward.service == HUB and not _is_hook(head)
    return (head.decoded.removeprefix(forward.prefix) + b"/").startswith(b"/whip/")


def _is_hook(head: Head) -> bool:
    """Whether it is one in every reading of the path: no other publication passes as a hook."""
    below = head.path.startswith(b"/hub/hooks/") and _HOOK.fullmatch(head.decoded) is not None
    return below and head.method == b"POST"


def _challenge(head: Head, forward: Forward) -> str:
    """Of a 401: RFC 6750, 3; at the hub with the metadata's URL (RFC 9728, 5.1), as the hub itself
    writes it. The gate does not leave these to the hub: nothing of a body is taken before, and a
    program that does not know a proxied request from its neighbour's publishes none of them."""
    if forward.service != HUB:
        return f'Bearer realm="{forward.service}"'
    return f'Bearer resource_metadata="{(_own_origin(head) + _HUBS_METADATA).decode("ascii")}"'


def _own_origin(head: Head) -> bytes:
    """Scheme, name and port that a request came to."""
    return b"https://" + head.host.lower().removesuffix(b":443")


def _has_credential(head: Head) -> bool:
    """Whether a write carries a credential at all: the program behind judges it."""
    if head.fields.get(b"authorization"):
        return True
    cookies = head.fields.get(b"cookie", b"")
    named = {pair.partition(b"=")[0].strip() for pair in cookies.split(b";")}
    return not COOKIES.isdisjoint(named) or b"authorization" in _asked(head.query)
