"""Exact wake sets: who waits for which resource, and who is to be woken by a command.

A waiter is woken when its resource's index moved, never for a neighbour's. Waiters are collected
while a batch is applied and called by the driver after it, so a change of a thousand objects wakes
a reader once. No timer lives here.
"""

from __future__ import annotations

from typing import Protocol

from callboard.catalog.changes import WatchKey


class Waiter(Protocol):
    """Someone parked on a resource: a blocking query."""

    def wake(self) -> None:
        """The index moved (or the whole state was replaced): look again. Must not raise."""


class WaitSets:
    """Waiters by resource. A waiter may wait for several; each wait fires at most once."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, dict[Waiter, int]]] = {}
        self._prefix_lengths: dict[int, int] = {}
        self._woken: dict[Waiter, None] = {}

    def __len__(self) -> int:
        return sum(len(waiters) for table in self._waiting.values() for waiters in table.values())

    def wait(self, key: WatchKey, waiter: Waiter, above: int) -> None:
        """Wake `waiter` at the first move of the resource to an index above `above`."""
        table = self._waiting.setdefault(key.kind, {})
        waiters = table.get(key.name)
        if waiters is None:
            waiters = table[key.name] = {}
            if key.kind == "kv-prefix":
                length = len(key.name)
                self._prefix_lengths[length] = self._prefix_lengths.get(length, 0) + 1
        waiters[waiter] = above

    def unwait(self, key: WatchKey, waiter: Waiter) -> None:
        """Forget the wait; an unknown one is ignored."""
        waiters = self._waiting.get(key.kind, {}).get(key.name)
        if waiters is None or waiter not in waiters:
            return
        del waiters[waiter]
        if not waiters:
            self._forget(key.kind, key.name)

    def moved(self, kind: str, name: str, index: int) -> None:
        """The resource now stands at `index`."""
        table = self._waiting.get(kind)
        if not table:
            return
        waiters = table.get(name)
        if waiters is None:
            return
        ripe = [waiter for waiter, above in waiters.items() if above < index]
        self._woken.update(dict.fromkeys(ripe))
        if len(ripe) == len(waiters):
            self._forget(kind, name)
            return
        for waiter in ripe:
            del waiters[waiter]

    def keys_moved(self, keys: list[str], index: int) -> None:
        """Keys were written or deleted: wakes their waiters and those of every prefix."""
        if not self._waiting.get("kv") and not self._prefix_lengths:
            return
        for key in keys:
            self.moved("kv", key, index)
            for length in tuple(self._prefix_lengths):
                if length <= len(key):
                    self.moved("kv-prefix", key[:length], index)

    def wake_all(self) -> None:
        """The whole state was replaced: everybody has to look again."""
        for table in self._waiting.values():
            for waiters in table.values():
                self._woken.update(dict.fromkeys(waiters))
        self._waiting.clear()
        self._prefix_lengths.clear()

    def drain(self) -> list[Waiter]:
        """The waiters woken since the last call, each once, in the order of their wakes."""
        woken = list(self._woken)
        self._woken.clear()
        return woken

    def _forget(self, kind: str, name: str) -> None:
        del self._waiting[kind][name]
        if kind == "kv-prefix":
            length = len(name)
            self._prefix_lengths[length] -= 1
            if self._prefix_lengths[length] == 0:
                del self._prefix_lengths[length]
