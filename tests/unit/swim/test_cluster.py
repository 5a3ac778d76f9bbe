"""Clusters of whole cores in virtual time: what SWIM and Lifeguard promise, with seeds."""

from __future__ import annotations

import statistics

import pytest
from tests.harness.gossip_cluster import GossipCluster

from callboard.swim.codec import Codec
from callboard.swim.config import SerfConfig
from callboard.swim.events import NameConflict, Suspected
from callboard.swim.keyring import Keyring
from callboard.swim.serf_members import MemberEventKind


def test_two_cores_know_each_other_after_a_join() -> None:
    cluster = GossipCluster()
    cluster.add("a")
    cluster.add("b")
    assert cluster.join("b", "a")
    assert cluster.statuses("a") == cluster.statuses("b") == {"a": "alive", "b": "alive"}


def test_third_core_is_heard_of_by_gossip_alone() -> None:
    cluster = GossipCluster()
    for name in "abc":
        cluster.add(name)
    cluster.join("b", "a")
    cluster.join("c", "a")
    cluster.run(1.0)
    assert cluster.statuses("b")["c"] == "alive"


def test_encrypted_cores_know_each_other() -> None:
    keyring = Keyring([bytes(32)], lambda: bytes(12))
    cluster = GossipCluster(codec=Codec(keyring))
    assert len(cluster.form(3)) == 3


def test_killed_member_of_three_fails_within_seven_seconds() -> None:
    cluster = GossipCluster(seed=3)
    cluster.form(3)
    cluster.kill("n2")
    cluster.run(7.5)
    assert cluster.statuses("n0")["n2"] == cluster.statuses("n1")["n2"] == "failed"


def test_last_peer_that_dies_is_not_waited_for_six_times_as_long() -> None:
    cluster = GossipCluster(seed=3)
    cluster.form(3)
    for name in ("n1", "n2"):
        cluster.kill(name)
        cluster.run(12.0)
    assert cluster.statuses("n0") == {"n0": "alive", "n1": "failed", "n2": "failed"}


def test_leaver_is_left_and_never_failed() -> None:
    cluster = GossipCluster()
    cluster.form(4)
    serf = cluster.nodes["n3"].serf
    serf.announce_leave(cluster.now)
    cluster.pump("n3")
    cluster.run(1.0)
    serf.leave(cluster.now)
    cluster.pump("n3")
    cluster.run(1.0)
    cluster.kill("n3")
    cluster.run(20.0)
    assert {cluster.statuses(name)["n3"] for name in ("n0", "n1", "n2")} == {"left"}
    assert cluster.events(MemberEventKind.FAILED) == []


def test_member_that_restarts_is_alive_again() -> None:
    cluster = GossipCluster()
    cluster.form(3)
    address = cluster.nodes["n2"].serf.swim.me.address
    cluster.kill("n2")
    cluster.run(10.0)
    cluster.add("n2", address=address)
    cluster.join("n2", "n0")
    cluster.run(2.0)
    assert cluster.statuses("n1")["n2"] == "alive"


def test_restarted_member_with_its_identity_may_move_before_it_is_found_dead() -> None:
    cluster = GossipCluster()
    for name in "abc":
        cluster.add(name, tags={"id": f"id-{name}"})
    cluster.join("b", "a")
    cluster.join("c", "a")
    cluster.run(2.0)
    cluster.kill("c")
    cluster.add("c", address="10.9.9.9", tags={"id": "id-c"})
    cluster.join("c", "a")
    cluster.run(2.0)
    assert [m.address for m in cluster.nodes["b"].serf.members() if m.name == "c"] == ["10.9.9.9"]
    assert cluster.events(MemberEventKind.FAILED) == []


def test_later_agent_of_two_with_one_name_learns_it_and_the_first_keeps_the_name() -> None:
    cluster = GossipCluster()
    cluster.form(3)
    first = cluster.nodes["n2"]
    cluster.nodes["first"] = first  # the harness goes by name; there are two of one name now
    cluster.add("n2", address="10.9.9.9")
    cluster.join("n2", "n0")
    cluster.run(10.0)
    conflicts = [s.event for s in cluster.seen if isinstance(s.event, NameConflict)]
    assert any(c.about_us and c.we_are_later for c in conflicts)
    assert any(not c.about_us for c in conflicts)
    assert cluster.nodes["n0"].serf.member("n2") is not None
    assert cluster.nodes["n0"].serf.swim.members.get("n2").address == "10.0.0.3"  # type: ignore[union-attr]


def test_new_agent_takes_over_the_name_once_the_old_one_is_found_dead() -> None:
    cluster = GossipCluster()
    cluster.form(3)
    cluster.kill("n2")
    cluster.add("n2", address="10.9.9.9")
    cluster.join("n2", "n0")  # too early: it is still thought to be alive
    cluster.run(12.0)
    assert [m.address for m in cluster.nodes["n1"].serf.members() if m.name == "n2"] == ["10.9.9.9"]
    assert cluster.statuses("n1")["n2"] == "alive"


def test_split_cluster_fails_the_other_side_and_is_whole_again_after_it_heals() -> None:
    config = SerfConfig(reconnect_interval_s=5.0)
    cluster = GossipCluster(seed=5, serf_config=config)
    names = cluster.form(6)
    cluster.split(names[:3], names[3:])
    cluster.run(40.0)
    assert set(cluster.statuses("n0").values()) == {"alive", "failed"}
    cluster.heal()
    cluster.run(60.0)
    for name in names:
        assert set(cluster.statuses(name).values()) == {"alive"}, name


def test_member_woken_from_a_pause_declares_nobody_dead() -> None:
    cluster = GossipCluster(seed=7)
    cluster.form(3)
    cluster.pause("n2", 10.0)
    cluster.run(30.0)
    assert [s for s in cluster.events(MemberEventKind.FAILED) if s.observer == "n2"] == []
    assert cluster.statuses("n0")["n2"] == cluster.statuses("n1")["n2"] == "alive"


@pytest.mark.slow
def test_first_suspicion_and_death_come_as_fast_as_published() -> None:
    """SWIM: first detection after e/(e-1) = 1.58 periods on average, plus the probe itself."""
    first_suspicions, deaths = [], []
    for seed in range(4):
        cluster = GossipCluster(seed=seed)
        cluster.form(32)
        killed_at = cluster.now
        cluster.kill("n9")
        cluster.run(20.0)
        suspected = [
            s.at for s in cluster.seen if isinstance(s.event, Suspected) and s.at > killed_at
        ]
        first_suspicions.append(min(suspected) - killed_at)
        deaths += [s.at - killed_at for s in cluster.events(MemberEventKind.FAILED, "n9")]
    assert statistics.mean(first_suspicions) < 2.6
    assert statistics.median(deaths) < 11.0
    assert len(deaths) == 4 * 31


@pytest.mark.slow
def test_five_percent_loss_kills_nobody() -> None:
    cluster = GossipCluster(seed=11, loss=0.05)
    cluster.form(32)
    cluster.run(120.0)
    assert cluster.events(MemberEventKind.FAILED) == []


def test_load_per_member_is_a_few_datagrams_a_second() -> None:
    cluster = GossipCluster(seed=13)
    cluster.form(8)
    before = cluster.datagrams
    cluster.run(60.0)
    assert (cluster.datagrams - before) / 60 / 8 < 3.0
