"""The checker knows good histories from bad ones."""

from __future__ import annotations

import random

import pytest
from tests.harness.linearizability import Kind, NotLinearizable, Operation, Undecided, check


def write(asked_at: float, answered_at: float | None, value: bytes, key: str = "k") -> Operation:
    return Operation(key, Kind.WRITE, asked_at, value, answered_at=answered_at)


def read(asked_at: float, answered_at: float, value: bytes | None, key: str = "k") -> Operation:
    return Operation(key, Kind.READ, asked_at, value, answered_at=answered_at)


def swap(
    asked_at: float, answered_at: float | None, expected: bytes, value: bytes, swapped: bool | None
) -> Operation:
    return Operation(
        "k", Kind.SWAP, asked_at, value, expected, answered_at=answered_at, swapped=swapped
    )


GOOD = {
    "nothing": [],
    "nothing is there at first": [read(0, 1, None)],
    "what was written is read": [write(0, 1, b"a"), read(2, 3, b"a")],
    "a write under way may be seen": [write(0, 10, b"a"), read(1, 2, b"a")],
    "a write under way may not be seen yet": [write(0, 10, b"a"), read(1, 2, None)],
    "two at once in either order": [
        write(0, 10, b"a"),
        write(0, 10, b"b"),
        read(11, 12, b"a"),
    ],
    "no answer, and yet it happened": [write(0, None, b"a"), read(5, 6, b"a")],
    "no answer, and it never happened": [write(0, None, b"a"), read(5, 6, None)],
    "no answer, and it happened late": [
        write(0, None, b"a"),
        write(1, 2, b"b"),
        read(3, 4, b"b"),
        read(5, 6, b"a"),
    ],
    "a swap of what is there": [write(0, 1, b"a"), swap(2, 3, b"a", b"b", True), read(4, 5, b"b")],
    "a swap of what is not": [write(0, 1, b"a"), swap(2, 3, b"x", b"b", False), read(4, 5, b"a")],
    "a swap without an answer": [
        write(0, 1, b"a"),
        swap(2, None, b"a", b"b", None),
        read(3, 4, b"a"),
        read(5, 6, b"b"),
    ],
    "keys are apart": [write(0, 1, b"a"), read(2, 3, None, key="other")],
}

BAD = {
    "an acknowledged write is lost": [write(0, 1, b"a"), read(2, 3, None)],
    "a read is stale": [write(0, 1, b"a"), write(2, 3, b"b"), read(4, 5, b"a")],
    "time goes back between two reads": [
        write(0, 10, b"a"),
        read(1, 2, b"a"),
        read(3, 4, None),
    ],
    "something is read that nobody wrote": [read(0, 1, b"ghost")],
    "it is read before it is written": [read(0, 1, b"a"), write(2, 3, b"a")],
    "two orders at once": [
        write(0, 10, b"a"),
        write(0, 10, b"b"),
        read(11, 12, b"a"),
        read(13, 14, b"b"),
    ],
    "two swaps of the same value": [
        write(0, 1, b"a"),
        swap(2, 5, b"a", b"b", True),
        swap(3, 6, b"a", b"c", True),
    ],
    "a swap that said no, and did it": [
        write(0, 1, b"a"),
        swap(2, 3, b"a", b"b", False),
        read(4, 5, b"b"),
    ],
    "no answer, but it happened twice": [
        write(0, None, b"a"),
        read(1, 2, b"a"),
        write(3, 4, b"b"),
        read(5, 6, b"a"),
    ],
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD)
def test_good_history_is_accepted(history: list[Operation]) -> None:
    check(history)


@pytest.mark.parametrize("history", BAD.values(), ids=BAD)
def test_bad_history_is_rejected(history: list[Operation]) -> None:
    with pytest.raises(NotLinearizable):
        check(history)


def generated(seed: int) -> list[Operation]:
    """What eight clients of one register see that takes effect at a random time in between."""
    rng = random.Random(seed)
    history: list[Operation] = []
    effects: list[tuple[float, Operation]] = []
    for client in range(8):
        now = rng.random()
        for number in range(20):
            ends_at = now + rng.random()
            kind = rng.choice(list(Kind))
            operation = Operation("k", kind, now, b"%d-%d" % (client, number), answered_at=ends_at)
            history.append(operation)
            effects.append((rng.uniform(now, ends_at), operation))
            now = ends_at + rng.random()
    value: bytes | None = None
    for _, operation in sorted(effects, key=lambda effect: effect[0]):
        if operation.kind is Kind.READ:
            operation.value = value
            continue
        if operation.kind is Kind.SWAP:
            operation.expected = value if rng.random() < 0.7 else b"other"
            operation.swapped = operation.expected == value
            if not operation.swapped:
                continue
        value = operation.value
    return history


@pytest.mark.parametrize("seed", range(20))
def test_generated_histories_are_accepted(seed: int) -> None:
    check(generated(seed))


@pytest.mark.parametrize("seed", range(20))
def test_generated_histories_with_one_stale_read_are_rejected(seed: int) -> None:
    history = generated(seed)
    writes = [each for each in history if each.kind is Kind.WRITE]
    old = min(writes, key=lambda each: each.answered_at or 0.0)
    last = max(each.answered_at or 0.0 for each in history)
    history.append(read(last + 1, last + 2, old.value))

    with pytest.raises(NotLinearizable):
        check(history)


def test_too_many_possibilities_are_a_failure() -> None:
    history = [write(0, None, b"%d" % number) for number in range(25)]

    with pytest.raises(Undecided):
        check([*history, read(1, 2, b"ghost")])
