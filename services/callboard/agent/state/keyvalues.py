"""The key/value store: sorted keys, check-and-set, tombstones that keep indexes from falling.

A deleted key leaves a tombstone with the index of its deletion, so readers of the key and of every
prefix above it see the index move. TombstoneReap forgets old ones; from then on the reaped
index is a floor under the index of missing keys and of prefixes, so none ever falls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from callboard.agent.state.digest import MASK, key_value_hash, position_hash
from callboard.agent.state.ranges import KeyRanges
from callboard.catalog.commands import KeyValueDelete, KeyValueSet
from callboard.catalog.objects import KeyValue


class KeyValueTable:
    """All keys, living and dead."""

    def __init__(self, moved: Callable[[list[str], int], None]) -> None:
        self._moved = moved
        self._live: dict[str, KeyValue] = {}
        self._dead: dict[str, int] = {}
        """Tombstones, in the order of their indexes."""
        self._ranges = KeyRanges()
        self._floor = 0
        self._digest = 0

    def __len__(self) -> int:
        return len(self._live)

    @property
    def digest(self) -> int:
        """Hash of all keys, tombstones and the floor."""
        return (self._digest + position_hash("kv", "\0floor") * self._floor) & MASK

    @property
    def floor(self) -> int:
        """The newest index a reap has forgotten."""
        return self._floor

    # ---------------------------------------------------------------- reads

    def get(self, key: str) -> KeyValue | None:
        return self._live.get(key)

    def below(self, prefix: str) -> list[KeyValue]:
        """Every key that begins with the prefix, in byte order."""
        live = self._live
        if not self._dead:
            return [live[key] for key in self._ranges.below(prefix)]
        return [live[key] for key in self._ranges.below(prefix) if key in live]

    def tombstones(self) -> tuple[int, int]:
        """How many deleted keys are remembered, and the newest deletion's index (0: none)."""
        return len(self._dead), next(reversed(self._dead.values()), 0)

    def index(self, key: str) -> int:
        """The ModifyIndex of a key; of a missing one its deletion's, at least the floor."""
        entry = self._live.get(key)
        if entry is not None:
            return entry.modify_index
        return self._dead.get(key, self._floor)

    def prefix_index(self, prefix: str) -> int:
        """The newest write or deletion below the prefix, at least the floor."""
        return max(self._ranges.newest(prefix), self._floor)

    # ---------------------------------------------------------------- writes

    def set(self, index: int, command: KeyValueSet) -> bool:
        """Put a key; False when check-and-set forbids it. The same value again changes nothing."""
        key = command.key
        old = self._live.get(key)
        expected = command.check_and_set
        if expected >= 0 and expected != (old.modify_index if old else 0):
            return False
        if old is not None and old.value == command.value and old.flags == command.flags:
            return True
        entry = KeyValue(
            key=key,
            value=command.value,
            flags=command.flags,
            lock_index=old.lock_index if old else 0,
            session=old.session if old else "",
            create_index=old.create_index if old else index,
            modify_index=index,
        )
        if old is not None:
            self._digest -= key_value_hash(old)
        else:
            self._revive(key)
        self._digest += key_value_hash(entry)
        self._live[key] = entry
        self._ranges.touch(key, index)
        self._moved([key], index)
        return True

    def delete(self, index: int, command: KeyValueDelete) -> bool:
        """Delete a key; False when check-and-set forbids it. A missing key is no failure."""
        old = self._live.get(command.key)
        expected = command.check_and_set
        if old is None:
            return True  # also with check-and-set, as Consul's
        if expected >= 0 and expected != old.modify_index:
            return False
        self._bury([old], index)
        self._ranges.touch(old.key, index)
        return True

    def delete_below(self, index: int, prefix: str) -> bool:
        """Delete every key that begins with the prefix."""
        entries = self.below(prefix)
        self._ranges.touch_below(prefix, index, self._live)
        self._bury(entries, index)
        return True

    def reap(self, up_to: int) -> int:
        """Forget the tombstones at or below an index; how many they were."""
        doomed = []
        for key, index in self._dead.items():
            if index > up_to:
                break
            doomed.append((key, index))
        if not doomed:
            return 0
        for key, index in doomed:
            del self._dead[key]
            self._digest -= position_hash("kv", key) * index
        self._floor = max(self._floor, doomed[-1][1])
        live, dead = self._live, self._dead
        self._ranges.discard(lambda key: key in live or key in dead)
        return len(doomed)

    def _bury(self, entries: list[KeyValue], index: int) -> None:
        live, dead = self._live, self._dead
        digest = 0
        for entry in entries:
            key = entry.key
            del live[key]
            dead[key] = index
            digest += position_hash("kv", key) * index - key_value_hash(entry)
        self._digest += digest
        self._moved([entry.key for entry in entries], index)

    def _revive(self, key: str) -> None:
        index = self._dead.pop(key, None)
        if index is not None:
            self._digest -= position_hash("kv", key) * index

    # ---------------------------------------------------------------- snapshots

    def pin(self) -> tuple[list[KeyValue], list[tuple[str, int]], int]:
        """This version for a slow reader: (living keys, tombstones, floor)."""
        return list(self._live.values()), list(self._dead.items()), self._floor

    def load(self, entries: Iterable[KeyValue], tombstones: Iterable[tuple[str, int]]) -> None:
        """Add keys and tombstones of a snapshot; nobody is woken."""
        for entry in entries:
            self._live[entry.key] = entry
            self._digest += key_value_hash(entry)
            self._ranges.touch(entry.key, entry.modify_index)
        for key, index in tombstones:
            self._dead[key] = index
            self._digest += position_hash("kv", key) * index
            self._ranges.touch(key, index)

    def raise_floor(self, floor: int) -> None:
        """Tombstones up to this index are forgotten already (a snapshot's header says so)."""
        self._floor = max(self._floor, floor)
