"""Disks that are full, slow or broken, and clocks that jump."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import partial

import pytest
from tests.harness.asking import get, http
from tests.harness.capabilities import require
from tests.harness.catalog import put_key, read_key, wait_for_leader
from tests.harness.eventually import eventually_sync
from tests.harness.stack import SERVERS, Disk, Plan, Stack

Fresh = Callable[[Plan], Stack]


def clock_is_off(stack: Stack, server: str, offset_s: float) -> bool:
    """Say whether a server's answers are dated as if its clock were off by so much."""
    dated = http("GET", stack.url(server, "/v1/status/leader")).headers["Date"]
    return abs(parsedate_to_datetime(dated).timestamp() - time.time() - offset_s) < 60


def others(name: str) -> list[str]:
    """Return the other servers."""
    return [server for server in SERVERS if server != name]


def test_a_full_disk_costs_its_agent_only(fresh: Fresh) -> None:
    """Acknowledged writes stay; once there is room again, the agent is back with all of them."""
    require("small-disk")
    stack = fresh(Plan(small_disks=frozenset(SERVERS)))
    leader = wait_for_leader(stack)
    stack.disk(leader, Disk.FULL)
    survivor = others(leader)[0]
    for number in range(20):
        eventually_sync(partial(put_key, stack, survivor, f"full/{number}", b"x" * 10_000), 20)
    stack.disk(leader, Disk.HEALTHY)
    stack.start(leader)  # it may have left: a full disk is no place for a log
    stack.wait_ready(leader)
    eventually_sync(lambda: read_key(stack, leader, "full/19", "stale") == b"x" * 10_000, 30)


def test_a_failed_fsync_makes_the_agent_leave(stack: Stack) -> None:
    """After it nobody knows what is on the disk (fsyncgate): the process ends, the rest go on."""
    require("strace")
    victim = others(wait_for_leader(stack))[0]
    stack.disk(victim, Disk.FAILING)
    survivor = next(name for name in SERVERS if name != victim)
    eventually_sync(lambda: put_key(stack, survivor, "fsync", b"x"), 15)
    if stack.kind == "processes":
        eventually_sync(lambda: not stack.running(victim), 15)
    stack.disk(victim, Disk.HEALTHY)
    stack.start(victim)
    stack.wait_ready(victim)
    eventually_sync(lambda: read_key(stack, victim, "fsync", "stale") == b"x", 20)


def test_a_slow_disk_costs_no_election(stack: Stack) -> None:
    """Heartbeats have their own connection and wait for no disk."""
    require("strace")
    leader = wait_for_leader(stack)
    follower = others(leader)[0]
    stack.disk(follower, Disk.SLOW)
    for number in range(10):
        assert put_key(stack, leader, f"slow/{number}", b"x")
    assert wait_for_leader(stack) == leader


@pytest.mark.parametrize("offset_s", [86_400.0, -86_400.0])
def test_a_clock_that_jumps_costs_no_election(fresh: Fresh, offset_s: float) -> None:
    require("faketime")
    stack = fresh(Plan(clocks=True))
    leader = wait_for_leader(stack)
    for server in SERVERS[:2]:
        stack.clock(server, offset_s)
    for server in SERVERS[:2]:
        eventually_sync(partial(clock_is_off, stack, server, offset_s))
    for number in range(10):
        assert put_key(stack, SERVERS[number % 3], f"clock/{number}", b"x")
    assert wait_for_leader(stack) == leader
    passing = get(stack.url(leader, "/v1/health/state/passing"))
    assert {check["Node"] for check in passing} >= set(SERVERS)
