"""The members as this one knows them, and the order in which they are probed.

The order is SWIM's round robin (section 4.3): every member once a round, shuffled between rounds,
newcomers at a random place; so the worst case of first detection is bounded. No rule about who is
alive lives here (see `state`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from callboard.swim.messages import Address, Alive, Incarnation, NodeState, Status, Versions


@dataclass(slots=True)
class Member:
    """One member: who, where, and what we think of it."""

    name: str
    address: str
    port: int
    meta: bytes
    incarnation: Incarnation
    status: Status
    versions: Versions | None
    changed_at: float
    """When `status` last changed (monotonic seconds)."""

    @property
    def endpoint(self) -> Address:
        """Where it is reached, UDP and TCP."""
        return (self.address, self.port)

    @property
    def is_up(self) -> bool:
        """Alive, or suspected and not yet dead."""
        return self.status in (Status.ALIVE, Status.SUSPECT)

    def understands(self, protocol: int) -> bool:
        """Whether it understands a version of memberlist's protocol."""
        return self.versions is not None and self.versions.protocol_max >= protocol

    def as_alive(self) -> Alive:
        """The message that announces it."""
        return Alive(self.incarnation, self.name, self.address, self.port, self.meta, self.versions)

    def as_node_state(self) -> NodeState:
        """Its row in a push/pull exchange."""
        return NodeState(
            self.name,
            self.address,
            self.port,
            self.meta,
            self.incarnation,
            self.status,
            self.versions,
        )


class Members:
    """All members by name, ourselves included, and the probe order."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._by_name: dict[str, Member] = {}
        self._order: list[Member] = []
        self._next = 0

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Member | None:
        """The member of that name, if known."""
        return self._by_name.get(name)

    def at(self, address: Address) -> Member | None:
        """The first member known at that address and port."""
        return next((member for member in self if member.endpoint == address), None)

    def add(self, member: Member) -> None:
        """Take in a newcomer, at a random place of the probe order."""
        self._by_name[member.name] = member
        self._order.append(member)
        place = self._rng.randrange(len(self._order))
        self._order[place], self._order[-1] = self._order[-1], self._order[place]

    def next_to_probe(self, eligible: Callable[[Member], bool]) -> Member | None:
        """The next of the round; reshuffles when a round is over. None if nobody is eligible."""
        for _ in range(len(self._order)):
            if self._next >= len(self._order):
                self._rng.shuffle(self._order)
                self._next = 0
            member = self._order[self._next]
            self._next += 1
            if eligible(member):
                return member
        return None

    def forget(self, unwanted: Callable[[Member], bool]) -> None:
        """Drop the members that are long gone."""
        if not any(unwanted(member) for member in self._order):
            return
        self._order = [member for member in self._order if not unwanted(member)]
        self._by_name = {member.name: member for member in self._order}
        self._next = min(self._next, len(self._order))

    def sample(self, count: int, eligible: Callable[[Member], bool]) -> list[Member]:
        """Up to `count` different eligible members, at random."""
        candidates = [member for member in self._order if eligible(member)]
        if len(candidates) <= count:
            return candidates
        return self._rng.sample(candidates, count)
