"""Which sidecar sends which stream, where several have one of the same name. Pure.

The same name is the same stream. Who listed it first is used; the others stand by in the order they
came, and the next one takes its place once it lists the stream no longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """Who sends a stream."""

    sidecar: str
    listed: T


class Directory(Generic[T]):
    """What all sidecars list."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[str, T]] = {}
        """Of each stream: who lists it, in the order they came."""

    def choice(self, name: str) -> Choice[T] | None:
        """Who sends a stream; None if nobody lists it."""
        for sidecar, listed in self._by_name.get(name, {}).items():
            return Choice(sidecar, listed)
        return None

    def names(self) -> list[str]:
        """Of all streams, sorted."""
        return sorted(self._by_name)

    def listed(self, sidecar: str, streams: Mapping[str, T]) -> list[str]:
        """A sidecar lists these streams, and no others. The names whose choice is another now."""
        before = {name: self.choice(name) for name in {*self._of(sidecar), *streams}}
        for name in before:
            if name in streams:
                self._by_name.setdefault(name, {})[sidecar] = streams[name]
            else:
                self._drop(name, sidecar)
        return sorted(name for name, choice in before.items() if self.choice(name) != choice)

    def gone(self, sidecar: str) -> list[str]:
        """A sidecar is no more; names as above."""
        return self.listed(sidecar, {})

    def _of(self, sidecar: str) -> list[str]:
        return [name for name, listers in self._by_name.items() if sidecar in listers]

    def _drop(self, name: str, sidecar: str) -> None:
        listers = self._by_name.get(name, {})
        listers.pop(sidecar, None)
        if not listers:
            self._by_name.pop(name, None)
