"""An adversary without a clock: every step is a choice of what goes wrong next.

Any packet under way may be delivered, in any order, again and again, or be lost; any write may
take as long as the adversary likes; each member's clock runs as it likes. A schedule (cluster.py)
rarely reaches such corners, and the walk reaches no long stories: each finds what the other
misses.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.harness.simulation.disk import Platter
from tests.harness.simulation.laws import Laws
from tests.harness.simulation.member import Durable, Member, Packet, Tuning

from callboard.raft import Configuration, Raft, Role
from callboard.raft.election import VOTE_REQUESTS

ELECTION_TIMEOUT_S = 0.5
"""Config.election_timeout_s of the members."""
UNDER_WAY_MAX = 60
"""More packets than this are thinned out: old ones should come back, but not only old ones."""


class Walk:
    """One walk of a cluster; `run(steps)`, then `laws.check()`."""

    def __init__(self, seed: int, members: int = 3, *, raft_class: type[Raft] = Raft) -> None:
        rng = self.rng = random.Random(seed)
        self.names = tuple(f"n{number}" for number in range(1, members + 1))
        self.laws = Laws(self.names)
        self.members: dict[str, Member] = {}
        self.clocks = dict.fromkeys(self.names, 0.0)
        self.packets: list[tuple[str, Packet]] = []
        self.steps = 0
        self._values = 0
        for name in self.names:
            self.members[name] = Member(
                name,
                Configuration(voters=self.names),
                rng=rng,
                disk=Platter(rng, Durable()),
                send=self._send,
                clock=self._clock_of(name),
                laws=self.laws,
                real_time=lambda: float(self.steps),
                tuning=Tuning(
                    max_inflight=rng.choice((1, 8)),
                    max_batch_entries=rng.choice((1, 2, 64)),
                    apply_at_once=rng.choice((1, 1_000)),
                    names_writes=rng.random() < 0.8,
                ),
                raft_class=raft_class,
            )
            self.members[name].boot()
        choices: dict[Callable[[], None], float] = {
            self.deliver: 30,
            self.double: rng.choice((0, 1, 4)),
            self.lose: rng.choice((0.1, 0.5, 2)),
            self.time_out: rng.choice((0.3, 1, 3)),
            self.rival: rng.choice((0, 0.3, 1)),
            self.heartbeat: rng.choice((1, 3)),
            self.propose: rng.choice((1, 3)),
            self.persist: rng.choice((2, 4, 12, 30)),
            self.crash: rng.choice((0, 0.1, 0.4, 1)),
            self.forget: rng.choice((0, 0.3, 1)),
            self.read: rng.choice((0.5, 3)),
            self.cut_off: rng.choice((0, 0.1, 0.3)),
            self.compact: rng.choice((0, 0.1)),
            self.transfer: rng.choice((0, 0.05)),
            self.stall: rng.choice((0, 0.05)),
        }
        self._actions = list(choices)
        self._weights = list(choices.values())

    def _clock_of(self, name: str) -> Callable[[], float]:
        # The members' clocks are the adversary's; the clients' real time counts steps.
        return lambda: self.clocks[name]

    def run(self, steps: int) -> None:
        """So many choices."""
        for action in self.rng.choices(self._actions, self._weights, k=steps):
            self.steps += 1
            action()

    # choices ------------------------------------------------------------------------------
    def deliver(self) -> None:
        """A packet arrives: the oldest, or any."""
        if self.packets:
            self._give(*self.packets.pop(self._pick()))

    def double(self) -> None:
        """A packet arrives, and will again."""
        if self.packets:
            self._give(*self.packets[self._pick()])

    def lose(self) -> None:
        """A packet is lost."""
        if self.packets:
            self.packets.pop(self._pick())

    def cut_off(self) -> None:
        """All that is under way from and to one member is lost."""
        name = self._name()
        self.packets = [
            (receiver, packet)
            for receiver, packet in self.packets
            if name not in (receiver, packet.message.sender)
        ]

    def time_out(self) -> None:
        """A member's election timer fires."""
        name = self._name()
        raft = self.members[name].raft
        if raft is None or raft.role is Role.LEADER:
            return
        self.clocks[name] = max(self.clocks[name], raft.deadline())
        self._tick(name)

    def rival(self) -> None:
        """Two members campaign at once, for one term."""
        self.time_out()
        self.time_out()

    def heartbeat(self) -> None:
        """All leaders' heartbeats are due."""
        for name in self._leaders():
            raft = self.members[name].raft
            assert raft is not None
            self.clocks[name] = max(self.clocks[name], raft.deadline())
            self._tick(name)

    def propose(self) -> None:
        """Clients write at each that believes to lead."""
        for name in self._leaders():
            if self.rng.random() < 0.7:
                self._values += 1
                self.members[name].write(b"%d" % self._values)
                self.members[name].pump()

    def read(self) -> None:
        """Clients read at each that believes to lead."""
        for name in self._leaders():
            self.members[name].read()
            self.members[name].pump()

    def persist(self) -> None:
        """A write becomes durable."""
        disk = self.members[self._name()].disk
        assert isinstance(disk, Platter)
        if disk.busy:
            disk.complete_one()

    def crash(self) -> None:
        """Power fails, and is back."""
        member = self.members[self._name()]
        member.crash()
        member.boot()

    def forget(self) -> None:
        """Power fails where it hurts: with writes under way that others may know of."""
        busy = [member for member in self.members.values() if member.disk.busy]
        if busy:
            member = self.rng.choice(busy)
            member.crash()
            member.boot()

    def compact(self) -> None:
        """A member takes a snapshot."""
        self.members[self._name()].compact(keep=self.rng.choice((0, 0, 3)))

    def transfer(self) -> None:
        """Each leader is asked to hand over."""
        for name in self._leaders():
            self.members[name].transfer(self._name())

    def stall(self) -> None:
        """A member's disk does not answer for a while."""
        self.members[self._name()].notice_stalled_disk()

    # ways -----------------------------------------------------------------------------------
    def _send(self, sender: str, receiver: str, packet: Packet) -> None:
        self.packets.append((receiver, packet))
        if len(self.packets) > UNDER_WAY_MAX:
            self.packets = self.rng.sample(self.packets, UNDER_WAY_MAX * 2 // 3)

    def _give(self, receiver: str, packet: Packet) -> None:
        if packet.message.kind in VOTE_REQUESTS and self.rng.random() < 0.8:
            # Else stickiness to a live leader would keep the peace.
            self.clocks[receiver] += ELECTION_TIMEOUT_S
        self.members[receiver].receive(packet)

    def _tick(self, name: str) -> None:
        self.members[name].tick()

    def _pick(self) -> int:
        return self.rng.randrange(len(self.packets)) if self.rng.random() < 0.5 else 0

    def _name(self) -> str:
        return self.rng.choice(self.names)

    def _leaders(self) -> list[str]:
        return [
            name
            for name, member in self.members.items()
            if member.raft is not None and member.raft.role is Role.LEADER
        ]
