"""Intents about members that are not known yet: kept a while, since gossip may reorder.

Serf's recentIntents. Bounded: when it is full, the oldest goes.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

INTENTS_MAX = 4096


@dataclass(frozen=True, slots=True)
class _Intent:
    leaves: bool
    time: int
    heard_at: float


class RecentIntents:
    """The latest intent by name."""

    def __init__(self) -> None:
        self._intents: OrderedDict[str, _Intent] = OrderedDict()

    def upsert(self, name: str, time: int, now: float, *, leaves: bool) -> bool:
        """Keep an intent if it is newer than what is kept; whether it was."""
        known = self._intents.get(name)
        if known is not None and time <= known.time:
            return False
        self._intents.pop(name, None)
        if len(self._intents) >= INTENTS_MAX:
            self._intents.popitem(last=False)
        self._intents[name] = _Intent(leaves, time, now)
        return True

    def take(self, name: str) -> tuple[bool, int] | None:
        """The intent about `name` as (leaves, Lamport time), once."""
        intent = self._intents.pop(name, None)
        return None if intent is None else (intent.leaves, intent.time)

    def expire(self, oldest: float) -> None:
        """Forget what was heard before `oldest`."""
        while self._intents:
            name, intent = next(iter(self._intents.items()))
            if intent.heard_at >= oldest:
                return
            del self._intents[name]
