"""Webhooks of other services: who sent it, what it tells, which topic it becomes. Pure.

    github   X-Hub-Signature-256: sha256=HEX of the body; X-GitHub-Event, X-GitHub-Delivery
    gitlab   X-Gitlab-Token is the secret itself; X-Gitlab-Event, X-Gitlab-Event-UUID
    stripe   Stripe-Signature: t=SECONDS,v1=HEX of "SECONDS.body"; `type` and `id` of the JSON
    plain    X-Signature-256: HEX of the body, with or without `sha256=` before it

HEX is HMAC-SHA-256 under the secret (RFC 2104). Everything is compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

STYLES = ("github", "gitlab", "plain", "stripe")
STRIPE_WINDOW_S = 300.0
"""An older signature is a replay (Stripe's libraries: 5 minutes)."""
SIGNATURES_MAX = 8
EVENT_OTHER = "other"
"""The event of a hook that names none, or none that may stand in a topic."""

_EVENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SECONDS = re.compile(r"[0-9]{1,15}")
_FIELD = re.compile(r"\{([^{}]*)\}")
_FIELDS = frozenset({"name", "event"})


class BadSignature(Exception):
    """Not sent by who holds the secret; the text is for the log, not for who sent it."""


class BadHook(ValueError):
    """A hook cannot be configured so; the text says why."""


@dataclass(frozen=True, slots=True)
class Hook:
    """One way in, as configured."""

    name: str
    style: str
    secret: bytes
    topic: str
    """A template: `{name}` is the hook's, `{event}` what the sender calls it (`push`)."""
    type: str = ""
    """The event's type, a template too; empty: `message`."""
    private: bool = False

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise BadHook(f"style is one of {', '.join(STYLES)}")
        if len(self.secret) < 16:
            raise BadHook("the secret has fewer than 16 bytes")
        for template in (self.topic, self.type):
            for name in _FIELD.findall(template):
                if name not in _FIELDS:
                    raise BadHook(f"{{{name}}} is no field: {{name}} and {{event}} are")

    def fill(self, template: str, event: str) -> str:
        """The template with what one delivery is."""
        return template.replace("{name}", self.name).replace("{event}", event)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a verified request tells."""

    event: str
    id: str
    """The sender's name for it, the same when it is sent again; "": it has none."""


def verify(hook: Hook, headers: Mapping[str, str], body: bytes, now_s: float) -> Delivery:
    """Who sent a request, and what it is; `now_s` is wall time. Raises BadSignature."""
    if hook.style == "github":
        _check(hook, [_signature(headers, "x-hub-signature-256")], body)
        return _delivery(headers, "x-github-event", "x-github-delivery")
    if hook.style == "gitlab":
        shown = headers.get("x-gitlab-token", "").encode("latin-1")
        if not hmac.compare_digest(shown, hook.secret):
            raise BadSignature("X-Gitlab-Token is not the secret")
        return _delivery(headers, "x-gitlab-event", "x-gitlab-event-uuid")
    if hook.style == "stripe":
        return _verify_stripe(hook, headers.get("stripe-signature", ""), body, now_s)
    _check(hook, [_signature(headers, "x-signature-256")], body)
    return _delivery(headers, "x-event", "idempotency-key")


def _verify_stripe(hook: Hook, field: str, body: bytes, now_s: float) -> Delivery:
    pairs = [pair.strip().partition("=")[::2] for pair in field[:4096].split(",")]
    stamps = [value for name, value in pairs if name == "t"]
    if len(stamps) != 1 or not _SECONDS.fullmatch(stamps[0]):
        raise BadSignature("Stripe-Signature has no timestamp")
    if abs(now_s - int(stamps[0])) > STRIPE_WINDOW_S:
        raise BadSignature("Stripe-Signature is too old, or of the future")
    signatures = [value for name, value in pairs if name == "v1"][:SIGNATURES_MAX]
    _check(hook, signatures, stamps[0].encode() + b"." + body)
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return Delivery(EVENT_OTHER, "")
    if not isinstance(told, dict):
        return Delivery(EVENT_OTHER, "")
    return Delivery(_event(str(told.get("type", ""))), _id(str(told.get("id", ""))))


def _check(hook: Hook, signatures: list[str], signed: bytes) -> None:
    expected = hmac.new(hook.secret, signed, hashlib.sha256).hexdigest().encode()
    right = False
    for signature in signatures:
        right |= hmac.compare_digest(signature.lower().encode("utf-8", "replace"), expected)
    if not right:
        raise BadSignature("the signature is not of this body under this secret")


def _signature(headers: Mapping[str, str], name: str) -> str:
    return headers.get(name, "").removeprefix("sha256=")


def _delivery(headers: Mapping[str, str], event: str, id: str) -> Delivery:
    return Delivery(_event(headers.get(event, "")), _id(headers.get(id, "")))


def _event(text: str) -> str:
    """GitLab says `Push Hook`: lower case, and hyphens for spaces."""
    text = text.strip().lower().replace(" ", "-")
    return text if _EVENT.fullmatch(text) else EVENT_OTHER


def _id(text: str) -> str:
    return text if text.isascii() and text.isprintable() and len(text) <= 128 else ""
