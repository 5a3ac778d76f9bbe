"""Webhooks in: POST /hooks/{name} publishes what another service tells, once it is verified."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from callboard.hub.http.frame import Frame
from callboard.hub.http.publish import Publishing
from callboard.hub.matching.refusal import Refused
from callboard.hub.mercure import publications
from callboard.hub.mercure.webhooks import BadHook, BadSignature, Delivery, Hook, verify
from callboard.hub.ports import History
from callboard.serve import Answer, Request
from callboard.serve.resources import text

log = logging.getLogger(__name__)

HOOKS_PATH = "/hooks/"
HOOKS_MAX = 1_000
_MEMBERS = {"secret_file": str, "style": str, "topic": str, "type": str, "private": bool}


class HookEndpoints:
    """See the module."""

    def __init__(
        self,
        hooks: Mapping[str, Hook],
        history: History,
        frame: Frame,
        now: Callable[[], float],
        base: str,
    ) -> None:
        """`now` is wall time in seconds, `base` the hub's URL."""
        self._base = base
        self._hooks = hooks
        self._history = history
        self._frame = frame
        self._now = now

    def receive(self, request: Request) -> Answer | Publishing:
        """Publish what another service tells: signed as its hook's style wants it, the body as
        it is. What it sends again is published once."""
        hook = self._hooks.get(request.path.removeprefix(HOOKS_PATH))
        if hook is None:
            return text(404, "no hook of that name")
        try:
            delivery = verify(hook, request.headers, request.body, self._now())
        except BadSignature as problem:
            fields = {"hook": hook.name, "client": self._frame.client(request)}
            log.warning("webhook refused", extra={**fields, "reason": str(problem)})
            return text(401, "the signature is not right", ("WWW-Authenticate", hook.style.title()))
        publication = publications.of_hook(hook, delivery, request.body, self._base)
        return Publishing(self._history, publication, b"\n")


def load_hooks(path: Path) -> dict[str, Hook]:
    """The hooks of a file; secrets are beside it or at absolute paths. Raises BadHook.

        {"ci": {"style": "github", "secret_file": "ci.secret", "topic": "/ci/{event}"}}

    Optional: `type` (a template too), `private`.
    """
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as problem:
        raise BadHook(f"{path}: {problem}") from problem
    if not isinstance(told, dict) or len(told) > HOOKS_MAX:
        raise BadHook(f"{path}: not an object of at most {HOOKS_MAX} hooks")
    hooks = {}
    for name, members in told.items():
        try:
            hooks[name] = _hook(path.parent, name, members)
        except (BadHook, Refused, OSError) as problem:
            raise BadHook(f"{path}: hook {name!r}: {problem}") from problem
    return hooks


def _hook(folder: Path, name: str, members: object) -> Hook:
    if not name or "/" in name or not name.isprintable():
        raise BadHook("not a name")
    if not isinstance(members, dict):
        raise BadHook("not an object")
    for member, value in members.items():
        if member not in _MEMBERS:
            raise BadHook(f"{member!r} is none of {', '.join(_MEMBERS)}")
        if not isinstance(value, _MEMBERS[member]):
            raise BadHook(f"{member} is not a {_MEMBERS[member].__name__}")
    for member in ("secret_file", "style", "topic"):
        if member not in members:
            raise BadHook(f"{member} is missing")
    secret = (folder / members["secret_file"]).read_bytes().strip()
    type, private = members.get("type", ""), members.get("private", False)
    hook = Hook(name, members["style"], secret, members["topic"], type, private)
    publications.of_hook(hook, Delivery("event", ""), b"")  # (it must be a topic)
    return hook
