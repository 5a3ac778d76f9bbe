"""Which requests are forwarded, and as what: prefixes, what is kept here, who may write. Pure.

The server adds no authority: the user's own credential travels on, our certificate proves the
transport only. Agents verify no token until tokens exist, so below /v1 only reading passes,
whatever header comes. The feed between programs and what operators ask (the keys of gossip) are
never forwarded: the programs behind would take our certificate, or our address, for the reader's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from callboard.chassis.guards import OriginGuard
from callboard.fileserver.head import Head
from callboard.fileserver.ports import Refusal

SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Methods that change nothing (RFC 9110, 9.2.1), of those we forward."""
METHODS = SAFE | {b"PUT", b"POST", b"DELETE", b"PATCH"}

AGENT, HUB, GATEWAY = "agent", "hub", "gateway"

_TWISTED = re.compile(rb"//|/\.{1,2}(?:/|\Z)|\\|\x00")
"""Paths that two readers could take for different ones."""

RESOURCE = b"/.well-known/oauth-protected-resource"
"""RFC 9728: the metadata of a resource at /hub/x lies at RESOURCE + /hub/x."""


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
        if _TWISTED.search(head.decoded) or _TWISTED.search(head.path):
            return Refusal(400, "the path has empty or dotted segments")
        if head.method not in METHODS:
            allowed = ", ".join(sorted(method.decode() for method in METHODS))
            return Refusal(405, "method not allowed", (("Allow", allowed),))
        if forward.service == AGENT and _is_internal(head.decoded):
            return Refusal(404, "not found")
        changes = head.method not in SAFE or head.upgrade != b""
        if changes and not self._own_page(head):
            return Refusal(403, "a page of another site may not do this")
        if head.method in SAFE:
            return forward
        if forward.service == AGENT and not self.allow_writes:
            return Refusal(403, "the catalog is read-only here: write at an agent")
        if forward.service == HUB and not _has_credential(head):
            return Refusal(
                401,
                "publishing here needs a token",
                (("WWW-Authenticate", 'Bearer realm="hub"'),),
            )
        return forward

    def _own_page(self, head: Head) -> bool:
        """Whether the request comes from a page of our own, of an allowed origin, or from no page.

        Sec-Fetch-Site tells of a browser that sends no Origin; `none` is a person's own doing.
        """
        origin = head.fields.get(b"origin")
        if origin is not None:
            return self.origins.allows(origin.decode("latin-1"), head.host.decode("latin-1"))
        return head.fields.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin")


def _forward(head: Head) -> Forward | None:
    """By the path as sent: a prefix is never percent-encoded."""
    path, target = head.path, head.target
    if path.startswith(b"/v1/"):
        raw = path.startswith(b"/v1/kv/") and _has_raw(head.query)
        return Forward(AGENT, target, b"", plain_text=raw)
    for prefix, service in ((b"/hub", HUB), (b"/media", GATEWAY)):
        if path == prefix or path.startswith(prefix + b"/"):
            rest = target[len(prefix) :]
            return Forward(service, rest if rest[:1] == b"/" else b"/" + rest, prefix)
    named = RESOURCE + b"/hub"
    if path == named or path.startswith(named + b"/"):
        return Forward(HUB, RESOURCE + target[len(named) :], b"/hub")
    return None


def _is_internal(decoded: bytes) -> bool:
    return decoded in (b"/v1/internal", b"/v1/operator") or decoded.startswith(
        (b"/v1/internal/", b"/v1/operator/")
    )


def _has_raw(query: bytes) -> bool:
    return any(part.partition(b"=")[0] == b"raw" for part in query.split(b"&"))


def _has_credential(head: Head) -> bool:
    """Whether a write carries a credential at all: the program behind judges it."""
    if head.fields.get(b"authorization"):
        return True
    cookies = head.fields.get(b"cookie", b"")
    named = {pair.partition(b"=")[0].strip() for pair in cookies.split(b";")}
    asked = {part.partition(b"=")[0] for part in head.query.split(b"&")}
    return b"mercureAuthorization" in named or b"authorization" in asked
