"""All agents' states are the same (I12): hashes at the same index are compared now and then.

The leader sends its hash at every multiple of an interval; a follower compares it with its own at
that index, once it has both. A difference is a bug or a broken memory: the follower leaves, for
what it answers cannot be trusted.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence

from callboard.agent.rpc import RpcClient
from callboard.agent.rpc.wire import ENCODER

TELL_TIMEOUT_S = 1.0
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


class HashExchange:
    """Works hashes out when they are due, and carries the leader's to the others."""

    def __init__(self, state_hash: Callable[[], int] | None, client: RpcClient) -> None:
        self._state_hash = state_hash
        self._client = client
        self._hashes = StateHashes()

    @property
    def compared(self) -> int:
        """How many were found equal."""
        return self._hashes.compared

    def due(self, index: int, tell: Sequence[str]) -> Coroutine[None, None, None] | None:
        """Just after applying `index`: record the hash. The work of telling it to the agents at
        the addresses `tell` is returned. Raises StateDiverged."""
        if self._state_hash is None:
            return None
        value = self._state_hash()
        self._hashes.record(index, value)
        return self._tell(tell, ENCODER.encode((index, value))) if tell else None

    def told(self, index: int, value: int) -> None:
        """The leader's hash came. Raises StateDiverged."""
        self._hashes.told(index, value)

    async def _tell(self, addresses: Sequence[str], body: bytes) -> None:
        # Best effort: the next hash says the same.
        await asyncio.gather(
            *(self._client.call(a, "state_hash", body, TELL_TIMEOUT_S) for a in addresses),
            return_exceptions=True,
        )


def _forget(hashes: OrderedDict[int, int]) -> None:
    while len(hashes) > KEPT:
        hashes.popitem(last=False)
