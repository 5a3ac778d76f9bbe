"""What must NOT happen: elections that nobody needed, and reads or leaders lost to a pause."""

from __future__ import annotations

import pytest
from tests.harness.simulation.cluster import ELECTION_TIMEOUT_S, Cluster
from tests.harness.simulation.member import Member
from tests.harness.simulation.network import FAIR, Weather

from callboard.raft import Role


def calm(seed: int = 1, members: int = 3, weather: Weather = FAIR) -> Cluster:
    """A cluster with a settled leader and clients."""
    cluster = Cluster(seed, members, weather=weather)
    for disk in cluster.disks.values():
        disk.latency_s = (0.0001, 0.005)
    assert cluster.schedule.run_until(lambda: cluster.leader is not None, 5.0)
    cluster.serve_clients()
    cluster.schedule.run_for(1.0)
    return cluster


def leader_of(cluster: Cluster) -> Member:
    """The leader, which is there."""
    leader = cluster.leader
    assert leader is not None
    return leader


def followers_of(cluster: Cluster) -> list[Member]:
    """Everybody else."""
    leader = leader_of(cluster)
    return [member for member in cluster.members.values() if member is not leader]


def term_of(cluster: Cluster) -> int:
    """The leader's term."""
    raft = leader_of(cluster).raft
    assert raft is not None
    return raft.term


@pytest.mark.parametrize("members", [1, 3, 5])
def test_no_election_in_ten_minutes_of_load(members: int) -> None:
    cluster = calm(members=members)
    term = term_of(cluster)

    cluster.schedule.run_for(120.0 if members == 5 else 600.0)

    assert term_of(cluster) == term
    assert cluster.campaigns == 1


def test_no_election_when_one_packet_in_ten_is_lost() -> None:
    cluster = calm(
        weather=Weather(loss=0.1, duplication=0.05, delay_s=(0.001, 0.08), ordered=False)
    )
    term = term_of(cluster)

    cluster.schedule.run_for(30.0)

    assert term_of(cluster) == term


@pytest.mark.parametrize("seed", range(5))
def test_a_follower_stopped_for_ten_seconds_causes_no_election(seed: int) -> None:
    cluster = calm(seed)
    term = term_of(cluster)

    cluster.sleep(followers_of(cluster)[0].name, 10.0)
    cluster.schedule.run_for(20.0)

    assert term_of(cluster) == term


@pytest.mark.parametrize("seed", range(5))
def test_a_leader_stopped_for_ten_seconds_costs_one_election(seed: int) -> None:
    cluster = calm(seed)
    old = leader_of(cluster)
    term = term_of(cluster)

    cluster.sleep(old.name, 10.0)
    cluster.schedule.run_for(5.0)
    new_term = term_of(cluster)
    cluster.schedule.run_for(15.0)

    assert leader_of(cluster) is not old
    assert term_of(cluster) == new_term > term
    assert old.raft is not None and old.raft.role is Role.FOLLOWER


@pytest.mark.parametrize("seed", range(5))
def test_a_whole_cluster_stopped_for_an_hour_keeps_its_leader(seed: int) -> None:
    cluster = calm(seed)
    term = term_of(cluster)

    for name in cluster.names:
        cluster.sleep(name, 3600.0)
    cluster.schedule.run_for(3600.0 + 5.0)

    assert term_of(cluster) == term


@pytest.mark.parametrize("seed", range(5))
def test_a_returning_outcast_does_not_disturb_the_leader(seed: int) -> None:
    """Pre-vote: its term has not risen meanwhile (section 9.6)."""
    cluster = calm(seed)
    term = term_of(cluster)
    outcast = followers_of(cluster)[0]

    cluster.network.isolate(outcast.name)
    cluster.schedule.run_for(30.0)
    cluster.network.heal()
    cluster.schedule.run_for(5.0)

    assert term_of(cluster) == term


@pytest.mark.parametrize("seed", range(5))
def test_a_member_that_hears_nobody_but_is_heard_does_not_disturb_the_leader(seed: int) -> None:
    """Cut one way: it asks for votes, and sticks to nobody (section 4.2.3)."""
    cluster = calm(seed)
    term = term_of(cluster)
    deaf = followers_of(cluster)[0].name

    cluster.network.cut((other, deaf) for other in cluster.names if other != deaf)
    cluster.schedule.run_for(30.0)

    assert term_of(cluster) == term


@pytest.mark.parametrize("seed", range(5))
def test_a_leader_that_hears_nobody_is_replaced(seed: int) -> None:
    """CheckQuorum: it still sends heartbeats, and would else lead for ever (section 6.2)."""
    cluster = calm(seed)
    deaf = leader_of(cluster)

    cluster.network.cut((other, deaf.name) for other in cluster.names if other != deaf.name)
    replaced = cluster.schedule.run_until(
        lambda: cluster.leader not in (None, deaf), 10 * ELECTION_TIMEOUT_S
    )

    assert replaced


@pytest.mark.parametrize("seed", range(10))
def test_a_dead_leader_is_replaced_within_two_seconds(seed: int) -> None:
    cluster = calm(seed)
    old = leader_of(cluster)

    old.crash()

    assert cluster.schedule.run_until(lambda: cluster.leader is not None, 2.0)


@pytest.mark.parametrize("seed", range(5))
def test_leadership_is_handed_over_without_a_gap(seed: int) -> None:
    cluster = calm(seed)
    to = followers_of(cluster)[0]

    assert leader_of(cluster).transfer(to.name)

    assert cluster.schedule.run_until(lambda: cluster.leader is to, ELECTION_TIMEOUT_S)


@pytest.mark.parametrize("seed", range(5))
def test_a_leader_with_a_stalled_disk_hands_over(seed: int) -> None:
    cluster = calm(seed)
    old = leader_of(cluster)

    cluster.disks[old.name].stall(5.0)
    cluster.schedule.run_for(ELECTION_TIMEOUT_S)
    old.notice_stalled_disk()

    assert cluster.schedule.run_until(lambda: cluster.leader not in (None, old), 2.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_cluster_restarted_whole_finds_a_leader_and_has_everything(seed: int) -> None:
    cluster = calm(seed)
    acknowledged = len(cluster.laws.history.completed("write"))

    for member in cluster.members.values():
        member.crash()
    for member in cluster.members.values():
        member.boot()
    cluster.heal_and_check()

    assert acknowledged > 0


@pytest.mark.parametrize("seed", range(3))
def test_a_member_far_behind_is_fed_a_snapshot_under_load(seed: int) -> None:
    cluster = calm(seed)
    slow = followers_of(cluster)[0]

    slow.crash()
    cluster.schedule.run_for(10.0)
    for member in cluster.members.values():
        member.compact(keep=0)
    cluster.schedule.run_for(1.0)
    slow.boot()
    cluster.heal_and_check()

    assert slow.snapshots_installed >= 1
