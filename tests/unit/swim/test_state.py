"""The rules of alive, suspect and dead (SWIM section 4.2; memberlist, state_test.go)."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest

from callboard.swim.awareness import Awareness
from callboard.swim.broadcasts import Broadcast
from callboard.swim.config import Config, lan
from callboard.swim.events import (
    Gone,
    Joined,
    NameConflict,
    Refuted,
    Suspected,
    SwimEvent,
    Undecodable,
    Updated,
)
from callboard.swim.members import Members
from callboard.swim.messages import (
    Alive,
    Dead,
    Message,
    NodeState,
    Status,
    Suspect,
    Versions,
)
from callboard.swim.state import MembershipState

NOW = 100.0


@dataclass
class Bench:
    """A MembershipState whose broadcasts and events are kept in lists."""

    config: Config = field(default_factory=lambda: lan("me", "10.0.0.1", 7946))
    sent: list[Message] = field(default_factory=list)
    events: list[SwimEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.members = Members(random.Random(1))
        self.awareness = Awareness(8)
        self.state = MembershipState(
            self.config,
            members=self.members,
            awareness=self.awareness,
            broadcast=self._broadcast,
            emit=self.events.append,
            now=NOW,
        )

    def _broadcast(self, name: str, message: Message) -> Broadcast:
        self.sent.append(message)
        return Broadcast(name, b"", 1)

    def knows(self, *names: str) -> Bench:
        """Members that are alive at incarnation 5; what led to that is forgotten."""
        for name in names:
            self.state.alive(alive(name), NOW)
        self.sent.clear()
        self.events.clear()
        return self

    def status(self, name: str) -> Status | None:
        member = self.members.get(name)
        return None if member is None else member.status


def alive(name: str = "a", incarnation: int = 5, *, address: str = "", meta: bytes = b"") -> Alive:
    address = address or f"10.0.1.{ord(name[0])}"
    return Alive(incarnation, name, address, 7946, meta, Versions())


# --- alive ------------------------------------------------------------------------------------


def test_unknown_member_joins_and_is_told_on() -> None:
    bench = Bench()
    bench.state.alive(alive(), NOW)
    assert bench.status("a") == Status.ALIVE
    assert [type(event) for event in bench.events] == [Joined]
    assert bench.sent == [alive()]


@pytest.mark.parametrize("incarnation", [4, 5])
def test_old_or_equal_incarnation_of_alive_is_ignored(incarnation: int) -> None:
    bench = Bench().knows("a")
    bench.state.alive(alive(incarnation=incarnation, meta=b"other"), NOW)
    assert bench.events == [] and bench.sent == []


def test_newer_meta_is_an_update() -> None:
    bench = Bench().knows("a")
    bench.state.alive(alive(incarnation=6, meta=b"new"), NOW)
    assert [type(event) for event in bench.events] == [Updated]


def test_newer_incarnation_without_a_change_is_told_on_silently() -> None:
    bench = Bench().knows("a")
    bench.state.alive(alive(incarnation=6), NOW)
    assert bench.events == [] and bench.sent == [alive(incarnation=6)]


def test_alive_clears_a_suspicion() -> None:
    bench = Bench().knows("a")
    bench.state.suspect(Suspect(5, "a", "b"), NOW)
    bench.state.alive(alive(incarnation=6), NOW)
    bench.state.expire_suspicions(NOW + 1000)
    assert bench.status("a") == Status.ALIVE


def test_dead_member_that_is_alive_again_joins() -> None:
    bench = Bench().knows("a")
    bench.state.dead(Dead(5, "a", "b"), NOW)
    bench.events.clear()
    bench.state.alive(alive(incarnation=6), NOW)
    assert [type(event) for event in bench.events] == [Joined]


def test_member_of_another_protocol_version_is_refused() -> None:
    bench = Bench()
    bench.state.alive(replace(alive(), versions=Versions(6, 7, 6)), NOW)
    assert bench.status("a") is None
    assert [type(event) for event in bench.events] == [Undecodable]


def test_member_without_versions_is_taken() -> None:
    bench = Bench()
    bench.state.alive(replace(alive(), versions=None), NOW)
    assert bench.status("a") == Status.ALIVE


# --- one name, two addresses ------------------------------------------------------------------


def test_live_name_at_another_address_is_a_conflict_and_changes_nothing() -> None:
    bench = Bench().knows("a")
    bench.state.alive(alive(incarnation=9, address="10.9.9.9"), NOW)
    conflict = NameConflict(
        "a", ("10.0.1.97", 7946), ("10.9.9.9", 7946), about_us=False, we_are_later=False
    )
    assert bench.events == [conflict]
    assert bench.sent == []


def test_left_name_may_move_at_once_at_any_incarnation() -> None:
    bench = Bench().knows("a")
    bench.state.dead(Dead(5, "a", "a"), NOW)
    bench.state.alive(alive(incarnation=1, address="10.9.9.9"), NOW)
    assert bench.status("a") == Status.ALIVE


@pytest.mark.parametrize(("reclaim_s", "status"), [(0.0, Status.ALIVE), (30.0, Status.DEAD)])
def test_dead_name_may_move_after_the_reclaim_time(reclaim_s: float, status: Status) -> None:
    bench = Bench(replace(lan("me", "10.0.0.1", 7946), dead_reclaim_s=reclaim_s)).knows("a")
    bench.state.dead(Dead(5, "a", "b"), NOW)
    bench.state.alive(alive(incarnation=1, address="10.9.9.9"), NOW + 1)
    assert bench.status("a") == status


def test_live_name_of_the_same_identity_may_move_with_a_newer_incarnation() -> None:
    config = replace(lan("me", "10.0.0.1", 7946), same_identity=lambda one, other: one == other)
    bench = Bench(config).knows("a")
    bench.state.alive(alive(incarnation=6, address="10.9.9.9"), NOW)
    member = bench.members.get("a")
    assert member is not None and member.address == "10.9.9.9"
    assert [type(event) for event in bench.events] == [Updated]


def test_our_name_in_the_cluster_we_join_is_a_conflict_that_we_lose() -> None:
    bench = Bench()
    bench.state.alive(alive("me", 7, address="10.9.9.9"), NOW, joining=True)
    assert isinstance(bench.events[0], NameConflict) and bench.events[0].we_are_later
    assert bench.state.contested and bench.sent == []


def test_our_name_claimed_by_a_newcomer_is_refuted() -> None:
    bench = Bench()
    bench.state.alive(alive("me", 7, address="10.9.9.9"), NOW)
    assert isinstance(bench.events[0], NameConflict) and not bench.events[0].we_are_later
    assert bench.state.me.incarnation == 8


def test_contest_is_over_when_the_cluster_shows_us_at_our_address() -> None:
    bench = Bench()
    bench.state.alive(alive("me", 7, address="10.9.9.9"), NOW, joining=True)
    bench.state.alive(alive("me", 7, address="10.0.0.1"), NOW, joining=True)
    assert not bench.state.contested


# --- suspect ----------------------------------------------------------------------------------


def test_suspect_is_told_on_and_noted() -> None:
    bench = Bench().knows("a")
    bench.state.suspect(Suspect(5, "a", "b"), NOW)
    assert bench.status("a") == Status.SUSPECT
    assert bench.events == [Suspected("a", "b")]
    assert bench.sent == [Suspect(5, "a", "b")]


@pytest.mark.parametrize("name", ["stranger", "a"])
def test_suspect_of_a_stranger_or_an_old_incarnation_is_ignored(name: str) -> None:
    bench = Bench().knows("a")
    bench.state.suspect(Suspect(4, name, "b"), NOW)
    assert bench.events == [] and bench.sent == []


def test_suspect_that_does_not_refute_in_time_is_dead() -> None:
    bench = Bench().knows("a")
    bench.state.suspect(Suspect(5, "a", "b"), NOW)
    bench.state.expire_suspicions(NOW + 3.999)
    assert bench.status("a") == Status.SUSPECT
    bench.state.expire_suspicions(NOW + 4.0)
    assert bench.status("a") == Status.DEAD
    assert bench.sent[-1] == Dead(5, "a", "me")


def test_confirmations_shorten_the_suspicion_and_are_told_on() -> None:
    bench = Bench().knows(*"abcdef")
    bench.state.suspect(Suspect(5, "a", "b"), NOW)
    longest = bench.state.deadline()
    bench.state.suspect(Suspect(5, "a", "c"), NOW)
    bench.state.suspect(Suspect(5, "a", "c"), NOW)
    assert bench.state.deadline() < longest
    assert bench.sent == [Suspect(5, "a", "b"), Suspect(5, "a", "c")]


def test_pause_of_ours_moves_the_deadline() -> None:
    bench = Bench().knows("a")
    bench.state.suspect(Suspect(5, "a", "b"), NOW)
    bench.state.shift(10.0)
    assert bench.state.deadline() == NOW + 14.0


def test_we_refute_a_suspicion_of_ourselves_and_doubt_our_health() -> None:
    bench = Bench()
    bench.state.suspect(Suspect(3, "me", "b"), NOW)
    assert bench.events == [Refuted(4)]
    assert isinstance(bench.sent[0], Alive) and bench.sent[0].incarnation == 4
    assert bench.awareness.score == 1


# --- dead -------------------------------------------------------------------------------------


def test_dead_by_another_is_dead_and_by_itself_is_left() -> None:
    bench = Bench().knows("a", "b")
    bench.state.dead(Dead(5, "a", "b"), NOW)
    bench.state.dead(Dead(5, "b", "b"), NOW)
    assert (bench.status("a"), bench.status("b")) == (Status.DEAD, Status.LEFT)
    assert [type(event) for event in bench.events] == [Gone, Gone]


def test_dead_twice_is_told_once() -> None:
    bench = Bench().knows("a")
    bench.state.dead(Dead(5, "a", "b"), NOW)
    bench.state.dead(Dead(5, "a", "c"), NOW)
    assert len(bench.sent) == 1


def test_we_refute_our_death() -> None:
    bench = Bench()
    bench.state.dead(Dead(1, "me", "b"), NOW)
    assert bench.events == [Refuted(2)]


def test_our_own_departure_is_not_refuted() -> None:
    bench = Bench()
    bench.state.leave(NOW)
    bench.state.dead(Dead(1, "me", "me"), NOW)
    bench.state.suspect(Suspect(1, "me", "b"), NOW)
    assert bench.sent == [Dead(1, "me", "me")]


def test_long_dead_member_is_forgotten_and_we_never_are() -> None:
    bench = Bench().knows("a")
    bench.state.dead(Dead(5, "a", "b"), NOW)
    bench.state.leave(NOW)
    bench.state.forget_the_dead(NOW + 31)
    assert [member.name for member in bench.members] == ["me"]


# --- push/pull --------------------------------------------------------------------------------


def row(name: str, status: Status) -> NodeState:
    return NodeState(name, "10.0.1.97", 7946, b"", 5, status, Versions())


@pytest.mark.parametrize(
    ("status", "becomes"),
    [
        (Status.ALIVE, Status.ALIVE),
        (Status.SUSPECT, Status.SUSPECT),
        (Status.DEAD, Status.SUSPECT),  # another's verdict is not ours
        (Status.LEFT, Status.LEFT),
    ],
)
def test_row_of_a_known_member_is_merged(status: Status, becomes: Status) -> None:
    bench = Bench().knows("a")
    bench.state.merge((row("a", status),), NOW, joining=False)
    assert bench.status("a") == becomes


@pytest.mark.parametrize("status", [Status.SUSPECT, Status.DEAD, Status.LEFT])
def test_row_of_a_stranger_that_is_not_alive_is_ignored(status: Status) -> None:
    bench = Bench()
    bench.state.merge((row("a", status),), NOW, joining=False)
    assert bench.status("a") is None


# --- our own meta -----------------------------------------------------------------------------


def test_new_meta_is_announced_at_a_newer_incarnation() -> None:
    bench = Bench()
    bench.state.set_meta(b"new")
    assert isinstance(bench.sent[0], Alive)
    assert (bench.sent[0].incarnation, bench.sent[0].meta) == (2, b"new")


def test_meta_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="513 bytes, the most is 512"):
        Bench().state.set_meta(b"x" * 513)
