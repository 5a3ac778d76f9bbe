"""All agents' states are the same (I12): hashes at the same index are compared now and then.

The leader sends its hash at every multiple of an interval; a follower compares it with its own at
that index, once it has both. A difference is a bug or a broken memory: the follower leaves, for
what it answers cannot be trusted.
"""

from __future__ import annotations

from collections import OrderedDict

KEPT = 64
"""Hashes kept of each side; older ones are forgotten uncompared."""


class StateDiverged(Exception):
    """This agent's state is not the leader's."""


class StateHashes:
    """Own hashes and the leader's, by index."""

    def __init__(self) -> None:
        self._own: OrderedDict[int, int] = OrderedDict()
        self._leaders: OrderedDict[int, int] = OrderedDict()
        self.compared = 0
        """How many were found equal; for metrics."""

    def record(self, index: int, value: int) -> None:
        """Our own hash after applying `index`. Raises StateDiverged."""
        self._own[index] = value
        self._compare(index)
        _forget(self._own)

    def told(self, index: int, value: int) -> None:
        """The leader's hash after `index`. Raises StateDiverged."""
        self._leaders[index] = value
        self._compare(index)
        _forget(self._leaders)

    def _compare(self, index: int) -> None:
        if index not in self._own or index not in self._leaders:
            return
        own, leaders = self._own[index], self._leaders.pop(index)
        if own != leaders:
            raise StateDiverged(
                f"I12: the state at index {index} has hash {own:#x}, the leader's {leaders:#x}"
            )
        self.compared += 1


def _forget(hashes: OrderedDict[int, int]) -> None:
    while len(hashes) > KEPT:
        hashes.popitem(last=False)
