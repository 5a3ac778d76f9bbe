"""Is there one order of all operations that explains what every client saw?

Wing and Gong's search with memory, just in time (Lowe): walk through the history in real time and
keep every (value, operations that took effect but have not returned) that is still possible. An
operation without an answer may have taken effect at any time after it was asked, or never.
One key is one register; keys are checked one by one, for linearizability is local.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

CONFIGURATIONS_MAX = 200_000


class Kind(Enum):
    """What a client asks of a register."""

    READ = "read"
    WRITE = "write"
    SWAP = "swap"
    """Write if the value is the one expected; answers whether it was."""


@dataclass(eq=False, slots=True)
class Operation:
    """One question of one client, and its answer. Times are any numbers that order events."""

    key: str
    kind: Kind
    asked_at: float
    value: bytes | None = None
    """Written; for a read, what was read (None: nothing there)."""
    expected: bytes | None = None
    answered_at: float | None = None
    """None: no answer came."""
    swapped: bool | None = None
    """The answer of a swap."""


class NotLinearizable(AssertionError):
    """No order explains the history; names the operation that cannot be explained."""


class Undecided(AssertionError):
    """Too many possibilities: the history proves nothing. Counts as a failure."""


def check(history: Iterable[Operation]) -> None:
    """Raise NotLinearizable or Undecided unless each key's history is linearizable."""
    keys: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        keys[operation.key].append(operation)
    for operations in keys.values():
        _check_register(operations)


Configuration = tuple[bytes | None, frozenset[Operation]]


def _check_register(operations: Sequence[Operation]) -> None:
    events = [(each.asked_at, 0, each) for each in operations]
    events += [(each.answered_at, 1, each) for each in operations if each.answered_at is not None]
    events.sort(key=lambda event: event[:2])
    possible: set[Configuration] = {(None, frozenset())}
    under_way: dict[Operation, None] = {}
    for _, answered, operation in events:
        if not answered:
            under_way[operation] = None
            continue
        possible = _took_effect(operation, possible, under_way)
        if not possible:
            raise NotLinearizable(f"{operation} cannot be explained")
        del under_way[operation]


def _took_effect(
    operation: Operation, possible: set[Configuration], under_way: Iterable[Operation]
) -> set[Configuration]:
    """What is possible now that `operation` has returned."""
    explained: set[Configuration] = set()
    seen = set(possible)
    unexplored = list(possible)
    while unexplored:
        value, done = unexplored.pop()
        if operation in done:
            explained.add((value, done - {operation}))
            continue
        for each in under_way:
            if each in done:
                continue
            for after in _outcomes(each, value):
                configuration = after, done | {each}
                if configuration not in seen:
                    seen.add(configuration)
                    unexplored.append(configuration)
        if len(seen) > CONFIGURATIONS_MAX:
            raise Undecided(f"{operation.key}: more than {CONFIGURATIONS_MAX} possibilities")
    return explained


def _outcomes(operation: Operation, value: bytes | None) -> list[bytes | None]:
    """The values there can be after `operation` took effect on `value`; none if it cannot."""
    if operation.kind is Kind.WRITE:
        return [operation.value]
    if operation.kind is Kind.READ:
        return [value] if operation.answered_at is None or operation.value == value else []
    matches = value == operation.expected
    if operation.swapped is not None and operation.swapped != matches:
        return []
    return [operation.value] if matches else [value]
