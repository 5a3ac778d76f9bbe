"""The driver's loop that DESIGN.md prints is run here, as printed."""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast

import callboard.raft.core
from callboard.raft import (
    Config,
    Configuration,
    Entry,
    HardState,
    InitialState,
    Message,
    Raft,
    ReadState,
    Role,
    SnapshotMetadata,
)

DESIGN = Path(callboard.raft.core.__file__).parent / "DESIGN.md"


class Driver(Protocol):
    """What the page's class offers."""

    raft: Raft

    def turn(self, inbox: Sequence[Message]) -> None: ...


class Disk:
    """A log in memory, durable at once."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.hard_state = HardState()

    def truncate_from(self, index: int) -> None:
        del self.entries[index - 1 :]

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        self.hard_state = hard_state or self.hard_state
        self.entries.extend(entries)

    def sync(self) -> None: ...

    def install(self, metadata: SnapshotMetadata) -> None: ...


class Network:
    """A queue."""

    def __init__(self) -> None:
        self.queue: deque[Message] = deque()

    def send(self, message: Message) -> None:
        self.queue.append(message)


class Machine:
    """It remembers what it was told."""

    def __init__(self) -> None:
        self.applied: list[bytes] = []
        self.answered: list[int] = []

    def apply(self, entry: Entry) -> None:
        self.applied.append(entry.data)

    def answer(self, state: ReadState) -> None:
        self.answered.append(state.context)

    def refuse(self, context: int) -> None: ...

    def restore(self, metadata: SnapshotMetadata) -> None: ...


def printed_driver() -> Callable[..., Driver]:
    """The class as the page prints it."""
    blocks = re.findall(r"```python\n(.*?)```", DESIGN.read_text(), re.S)
    assert len(blocks) == 1
    names: dict[str, object] = {}
    exec(blocks[0], names)
    return cast("Callable[..., Driver]", names["Driver"])


def test_three_printed_drivers_agree() -> None:
    make, network = printed_driver(), Network()
    configuration = Configuration(("a", "b", "c"))
    now = 0.0
    machines = {name: Machine() for name in configuration.voters}
    drivers = {
        name: make(
            Raft(
                Config(name),
                InitialState(configuration=configuration),
                now=now,
                rng=random.Random(number),
            ),
            Disk(),
            network,
            machines[name],
            lambda: now,
        )
        for number, name in enumerate(configuration.voters)
    }

    def settle() -> None:
        for driver in drivers.values():
            driver.turn([])
        while network.queue:
            message = network.queue.popleft()
            drivers[message.receiver].turn([message])

    while not any(driver.raft.role is Role.LEADER for driver in drivers.values()):
        now = min(driver.raft.deadline() for driver in drivers.values())
        settle()
    leader = next(driver for driver in drivers.values() if driver.raft.role is Role.LEADER)
    leader.raft.propose([b"one", b"two"], now)
    leader.raft.read_index(1, now)
    settle()

    assert all(machine.applied == [b"", b"one", b"two"] for machine in machines.values())
    assert machines[leader.raft.node_id].answered == [1]
