"""How many entries three Raft cores commit per second, in one process and without a disk.

The claim: the core is not what limits the catalog (more than 10,000 entries of 200 bytes a second,
even one by one). Run: `python benchmarks/raft_core.py`.
"""

from __future__ import annotations

import random
import time

from callboard.raft import (
    Config,
    Configuration,
    InitialState,
    Message,
    Raft,
    Role,
    SnapshotMetadata,
)

NAMES = ("a", "b", "c")
CONFIGURATION = Configuration(voters=NAMES)
ENTRY = b"x" * 200
TOTAL = 100_000
KEPT = 10_000
"""Entries kept by a compaction, as Consul's TrailingLogs."""


class Cluster:
    """Three cores joined by a list; every write is durable at once."""

    def __init__(self) -> None:
        rng = random.Random(1)
        self.now = 0.0
        self.queue: list[Message] = []
        self.rafts = {
            name: Raft(Config(name), InitialState(configuration=CONFIGURATION), now=0.0, rng=rng)
            for name in NAMES
        }
        self.leader = self.rafts["a"]
        while self.leader.role is not Role.LEADER:
            self.now = self.leader.deadline()
            self.leader.tick(self.now)
            self.settle()

    def work(self, raft: Raft) -> None:
        """Do all that one core asks for."""
        while (ready := raft.ready()) is not None:
            self.queue.extend(ready.messages)
            if ready.must_persist:
                raft.persisted(ready.index, ready.term, ready.number)
            self.queue.extend(ready.after_persist)
            if ready.committed:
                raft.applied_to(ready.committed[-1].index)

    def settle(self) -> None:
        """Deliver until all is quiet, each member's share of a turn together."""
        for raft in self.rafts.values():
            self.work(raft)
        while self.queue:
            arrived, self.queue = self.queue, []
            for message in arrived:
                self.rafts[message.receiver].step(message, self.now)
            for raft in self.rafts.values():
                self.work(raft)

    def compact(self) -> None:
        """Keep the logs short."""
        for raft in self.rafts.values():
            term = raft.log.term(raft.applied)
            if term is not None and raft.applied - raft.log.offset > 2 * KEPT:
                metadata = SnapshotMetadata(raft.applied, term, CONFIGURATION)
                raft.compact(metadata, raft.applied - KEPT)


def measure(at_once: int) -> float:
    """Entries committed per second, when so many are proposed in a turn."""
    cluster = Cluster()
    started = time.perf_counter()
    for turn in range(TOTAL // at_once):
        for _ in range(at_once):
            cluster.leader.propose((ENTRY,), cluster.now)
        cluster.settle()
        if turn % 1000 == 0:
            cluster.compact()
    assert cluster.leader.applied >= TOTAL // at_once * at_once
    return TOTAL / (time.perf_counter() - started)


if __name__ == "__main__":
    for at_once in (1, 8, 32, 256):
        print(f"{at_once:4} a turn: {measure(at_once):10,.0f} entries/s")
