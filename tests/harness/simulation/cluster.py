"""A cluster of simulated members under a schedule, with clients and with an enemy.

    cluster = Cluster(seed=17, members=3)
    cluster.torment(20.0)
    cluster.heal_and_check()

One seed decides everything: the same seed plays the same run.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from tests.harness.simulation.disk import Disk
from tests.harness.simulation.laws import Laws
from tests.harness.simulation.member import Durable, Member, Packet, Tuning
from tests.harness.simulation.network import FAIR, Network, Weather, stormy
from tests.harness.simulation.schedule import Schedule

from callboard.raft import Configuration, Raft, Role

TIMER_S = 0.01
"""How often a member looks at its timer: as coarse as a busy event loop."""
ELECTION_TIMEOUT_S = 0.5
"""Config.election_timeout_s of the members."""


class Cluster:
    """Members n1, n2 ..., all voters, booted."""

    def __init__(
        self,
        seed: int,
        members: int = 3,
        *,
        weather: Weather | None = None,
        raft_class: type[Raft] = Raft,
        acknowledged_early: bool = False,
    ) -> None:
        rng = self.rng = random.Random(seed)
        self.schedule = Schedule()
        self.names = tuple(f"n{number}" for number in range(1, members + 1))
        self.laws = Laws(self.names)
        self.faults: Counter[str] = Counter()
        self._weather = weather or stormy(rng)
        self._values = 0
        self._client_pace_s = rng.choice((0.01, 0.03, 0.1))
        self._enemy_pace_s = rng.choice((0.06, 0.2, 0.8))
        self._strikes = rng.choice((0.0, 0.02, 0.1))
        """Share of acknowledged writes after which power fails at once somewhere."""
        self._may_wipe = rng.random() < 0.3
        """One directory may be lost in this run: more could be a majority's."""
        self._acknowledged = 0
        self._peace = True
        self._quiet = False
        configuration = Configuration(voters=self.names)
        self.network: Network[Packet] = Network(self.schedule, rng, self._weather)
        self.disks: dict[str, Disk[Durable]] = {}
        self.members: dict[str, Member] = {}
        for name in self.names:
            slow = rng.choice((0.001, 0.02, 0.15))
            self.disks[name] = Disk(self.schedule, rng, Durable(), (0.0001, slow))
            member = self.members[name] = Member(
                name,
                configuration,
                rng=rng,
                disk=self.disks[name],
                send=self.network.send,
                clock=lambda: self.schedule.now,
                laws=self.laws,
                tuning=Tuning(
                    max_inflight=rng.choice((1, 4, 64)),
                    max_batch_entries=rng.choice((1, 3, 64)),
                    apply_at_once=rng.choice((1, 1_000)),
                    names_writes=rng.random() < 0.8,
                ),
                raft_class=raft_class,
            )
            self.network.attach(name, member.receive)
            member.boot()
            self._every(TIMER_S, member.tick)

    def _every(self, interval_s: float, action: Callable[[], None]) -> None:
        def again() -> None:
            action()
            self.schedule.after(interval_s, again)

        self.schedule.after(interval_s * self.rng.random(), again)

    # what one may see ---------------------------------------------------------------------
    @property
    def leader(self) -> Member | None:
        """The leader of the latest term, if one is up and awake."""
        leading = [
            member
            for member in self.members.values()
            if member.raft is not None and member.raft.role is Role.LEADER and not member.asleep
        ]
        return max(leading, key=_term, default=None)

    @property
    def campaigns(self) -> int:
        """Elections that members now up have stood in since they came up."""
        return sum(each.raft.campaigns for each in self.members.values() if each.raft)

    def settled(self) -> bool:
        """All members are up and have applied the same, up to the end of the leader's log."""
        leader = self.leader
        if leader is None or leader.raft is None:
            return False
        end = leader.raft.last_index
        return all(
            each.raft is not None and each.image.index == end for each in self.members.values()
        )

    # clients ------------------------------------------------------------------------------
    def serve_clients(self) -> None:
        """Writes and reads at random members, until the run ends."""
        self._every(self._client_pace_s, self._client)

    def _client(self) -> None:
        if self._quiet:
            return
        for _ in range(self.rng.randrange(1, 4)):
            member = self.members[self.rng.choice(self.names)]
            if self.rng.random() < 0.7:
                self._values += 1
                member.write(b"%d" % self._values)
            else:
                member.read()
            if self.rng.random() < 0.8:  # else the next turn's share their append
                member.pump()
        self._strike_after_acknowledgement()

    def _strike_after_acknowledgement(self) -> None:
        """The worst moment: a client has just been told. Power fails, or a link, at once."""
        acknowledged = len(self.laws.committed)
        if self._peace or acknowledged == self._acknowledged:
            return
        if self.rng.random() >= self._strikes:
            return
        self._acknowledged = acknowledged
        leader = self.leader
        for name in self.names:
            leads = leader is not None and leader.name == name
            if self.rng.random() < (0.7 if leads else 0.4):
                self.crash(name, 0.6)
            elif self.rng.random() < 0.3:
                self.network.isolate(name)
                self.schedule.after(self.rng.uniform(0.05, 0.6), self.network.heal)

    # the enemy ----------------------------------------------------------------------------
    def crash(self, name: str, down_s: float) -> None:
        """Cut the power of one member, for up to `down_s`."""
        member = self.members[name]
        if member.raft is None:
            return
        self.faults["crash"] += 1
        member.crash()
        self.schedule.after(self.rng.uniform(0.001, down_s), lambda: self._boot(member))

    def _boot(self, member: Member) -> None:
        if member.raft is None:
            member.boot()

    def sleep(self, name: str, seconds: float) -> None:
        """Stop one member for a while, as SIGSTOP does."""
        self.faults["pause"] += 1
        self.members[name].sleep()
        self.schedule.after(seconds, self.members[name].wake)

    def _enemy(self) -> None:
        if self._peace:
            return
        choice = self.rng.random()
        name = self.rng.choice(self.names)
        if choice < 0.2:
            self.crash(name, 0.8)
        elif choice < 0.25:
            for each in self.names:
                self.crash(each, 0.8)
        elif choice < 0.42:
            self.faults["partition"] += 1
            self.network.isolate(name)
        elif choice < 0.57:
            self.faults["one_way"] += 1
            self.network.cut(
                (one, other)
                for one in self.names
                for other in self.names
                if one != other and self.rng.random() < 0.3
            )
        elif choice < 0.77:
            self.network.heal()
        elif choice < 0.85:
            self.sleep(name, self.rng.uniform(0.05, 1.5))
        elif choice < 0.89:
            self.faults["stall"] += 1
            self.disks[name].stall(self.rng.uniform(0.1, 1.0))
        elif choice < 0.92:
            self.members[name].lose_connections()
        elif choice < 0.94 and self._may_wipe:
            self._may_wipe = False
            self.faults["wipe"] += 1
            self.members[name].wipe()
            self.schedule.after(
                self.rng.uniform(0.001, 1.0), lambda: self._boot(self.members[name])
            )
        else:
            to = self.rng.choice(self.names)
            self.faults["transfer"] += self.members[name].transfer(to)
        compacted = self.members[self.rng.choice(self.names)]
        if self.rng.random() < 0.4:
            compacted.compact(keep=self.rng.choice((0, 0, 5, 50)))
        self.schedule.after(self.rng.uniform(0.02, 0.02 + 2 * self._enemy_pace_s), self._enemy)

    # a run --------------------------------------------------------------------------------
    def torment(self, seconds: float) -> None:
        """Clients and the enemy, for `seconds`; then the enemy retires."""
        self._peace = False
        self.serve_clients()
        self._enemy()
        self.schedule.run_for(seconds)
        self._peace = True

    def heal(self) -> None:
        """Everybody is up, awake and connected from now on."""
        self.network.heal()
        self.network.weather = FAIR
        for name, member in self.members.items():
            self.disks[name].latency_s = (0.0001, 0.001)
            if member.raft is None:
                member.boot()
            member.wake()

    def heal_and_check(self) -> None:
        """Liveness: a leader within 10 election timeouts, then everybody agrees. And the laws."""
        self.heal()
        healed_at = self.schedule.now
        found = self.schedule.run_until(lambda: self.leader is not None, 10 * ELECTION_TIMEOUT_S)
        assert found, f"LIVENESS: no leader {self.schedule.now - healed_at:.1f} s after healing"
        self._quiet = True
        settled = self.schedule.run_until(self._writes_and_settles, 20 * ELECTION_TIMEOUT_S)
        assert settled, f"LIVENESS: not settled: {self.story()}"
        self.laws.check()

    def _writes_and_settles(self) -> bool:
        return self.settled() and bool(self.laws.committed)

    def story(self) -> str:
        """Where everybody is, for a failure's message."""
        return "; ".join(
            f"{name} {_term(member)} {member.raft.role.name if member.raft else 'DOWN'}"
            f" last={member.raft.last_index if member.raft else '-'}"
            f" applied={member.image.index}"
            f" {member.raft.progress if member.raft else ''}"
            for name, member in self.members.items()
        )


def _term(member: Member) -> int:
    return member.raft.term if member.raft is not None else -1
