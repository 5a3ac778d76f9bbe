"""What clients saw, and whether one order of all operations explains it (linearizability).

The log's order is the witness: each completed operation has a position in it (a write its index,
a read the index of the state it saw, just after it). If positions respect real time, the history
is linearizable. That is sufficient, and checked in O(n log n), without search.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Operation:
    """One client operation; open (outcome unknown) until it has returned."""

    kind: str
    """"write" or "read"."""
    invoked_at: float
    value: bytes = b""
    returned_at: float | None = None
    position: float = 0.0
    """Where in the log it took effect: a write at its index, a read half a step after."""


@dataclass(slots=True)
class History:
    """All operations of a run."""

    operations: list[Operation] = field(default_factory=list)

    def invoke(self, kind: str, now: float, value: bytes = b"") -> Operation:
        """A client asks."""
        operation = Operation(kind, now, value)
        self.operations.append(operation)
        return operation

    def completed(self, kind: str) -> list[Operation]:
        """Operations of `kind` that returned."""
        return [
            each for each in self.operations if each.kind == kind and each.returned_at is not None
        ]

    def check(self) -> None:
        """Raise AssertionError if an operation took effect before one that had returned before
        it was asked for."""
        edges: list[tuple[float, int, Operation]] = []
        for operation in self.operations:
            if operation.returned_at is not None:
                edges.append((operation.returned_at, 1, operation))
                edges.append((operation.invoked_at, 0, operation))
        # At the same instant nothing is ordered: what is asked comes first.
        edges.sort(key=lambda edge: (edge[0], edge[1]))
        highest = 0.0
        for _, returned, operation in edges:
            if returned:
                highest = max(highest, operation.position)
            elif operation.position < highest:
                raise AssertionError(f"LINEARIZABILITY: {operation} took effect before {highest}")
