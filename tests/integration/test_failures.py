"""What goes on when agents die, pause, part or come back elsewhere."""

from __future__ import annotations

from functools import partial

import dns.flags
import dns.rcode
import pytest
from tests.harness.asking import addresses, get
from tests.harness.capabilities import require
from tests.harness.catalog import (
    leader_of,
    nodes_of,
    put_key,
    read_key,
    resolve,
    wait_for_leader,
)
from tests.harness.eventually import eventually_sync
from tests.harness.stack import AGENTS, CLIENT, NAMESERVER, SERVERS, Stack


def others(*without: str) -> list[str]:
    """Return the servers that are not in `without`."""
    return [name for name in SERVERS if name not in without]


@pytest.mark.parametrize("victim", SERVERS)
def test_any_one_agent_may_die(stack: Stack, victim: str) -> None:
    """Reads, writes and DNS go on through the others; it catches up when it is back."""
    assert put_key(stack, "agent-1", f"before/{victim}", b"1")
    stack.kill(victim)
    for agent in [*others(victim), CLIENT] if victim != "agent-4" else others(victim):
        if agent == CLIENT and stack.kind == "containers":
            continue  # the client agent publishes no port
        eventually_sync(partial(put_key, stack, agent, f"while/{agent}", b"2"))
        assert read_key(stack, agent, f"before/{victim}") == b"1"
    assert addresses(resolve(stack, "agent-4.node.consul"))
    stack.start(victim)
    stack.wait_ready(victim)
    for agent in others(victim):
        eventually_sync(partial(read_key, stack, victim, f"while/{agent}", "stale"))


def test_the_leader_may_die(stack: Stack) -> None:
    leader = wait_for_leader(stack)
    stack.kill(leader)
    survivor = others(leader)[0]
    eventually_sync(lambda: put_key(stack, survivor, "after-the-leader", b"x"), 15)
    assert wait_for_leader(stack, *others(leader)) != leader


def test_a_dead_agent_is_failed_and_its_services_leave_the_answers(stack: Stack) -> None:
    address = stack.inside_address(CLIENT)
    stack.kill(CLIENT)

    def noticed() -> bool:
        members = {m["Name"]: m["Status"] for m in get(stack.url("agent-1", "/v1/agent/members"))}
        return int(members[CLIENT]) == 4  # serf's number for failed

    eventually_sync(noticed, 30)
    eventually_sync(lambda: address not in addresses(resolve(stack, "web.service.consul")), 15)
    assert addresses(resolve(stack, "web.service.consul"))
    stack.start(CLIENT)
    stack.wait_ready(CLIENT)
    eventually_sync(lambda: len(addresses(resolve(stack, "web.service.consul"))) == 2, 30)


def test_all_servers_killed_come_back_at_permuted_addresses(stack: Stack) -> None:
    """A leader, nothing acknowledged is gone, no operator."""
    acknowledged = [n for n in range(50) if put_key(stack, SERVERS[n % 3], f"kept/{n}", b"%d" % n)]
    assert len(acknowledged) == 50
    for server in SERVERS:
        stack.kill(server)
    stack.permute(*SERVERS)
    stack.start(*SERVERS)
    stack.wait_ready(*SERVERS)
    wait_for_leader(stack)
    for agent in SERVERS:
        for n in acknowledged:
            assert read_key(stack, agent, f"kept/{n}") == b"%d" % n
    eventually_sync(lambda: nodes_of(stack, "web") == ["agent-1", "agent-4"], 30)
    expected = {stack.inside_address(name) for name in ("agent-1", "agent-4")}
    eventually_sync(lambda: set(addresses(resolve(stack, "web.service.consul"))) == expected, 30)


def test_dns_outlives_all_agents_and_a_restart_of_the_nameserver(stack: Stack) -> None:
    """From its copy in memory, then from the one on disk; how old it is is said (RFC 8914, 3)."""
    before = set(addresses(resolve(stack, "web.service.consul")))
    assert len(before) == 2
    for agent in AGENTS:
        stack.kill(agent)
    assert set(addresses(resolve(stack, "web.service.consul"))) == before
    stack.stop(NAMESERVER)
    stack.start(NAMESERVER)
    eventually_sync(lambda: set(addresses(resolve(stack, "web.service.consul"))) == before, 30)


def test_a_stale_answer_says_so(stack: Stack) -> None:
    """Extended DNS error 3, "stale answer" (RFC 8914, section 4.4)."""

    def codes() -> list[int]:
        answer = resolve(stack, "web.service.consul", use_edns=0)
        return [int(option.code) for option in answer.extended_errors()]

    eventually_sync(lambda: codes() == [], 20)
    for agent in AGENTS:
        stack.kill(agent)
    eventually_sync(lambda: codes() == [3], 30)


def test_a_paused_leader_is_replaced_and_steps_down(stack: Stack) -> None:
    leader = wait_for_leader(stack)
    stack.pause(leader)
    survivor = others(leader)[0]
    eventually_sync(lambda: put_key(stack, survivor, "paused", b"new"), 15)
    stack.unpause(leader)
    eventually_sync(lambda: leader_of(stack, leader) == leader_of(stack, survivor) is not None)
    assert read_key(stack, leader, "paused") == b"new"


def test_a_leader_cut_off_acknowledges_nothing(stack: Stack) -> None:
    """What it was asked meanwhile may happen later, for nobody was told that it failed."""
    require("iptables")
    leader = wait_for_leader(stack)
    rest = others(leader)
    stack.partition([leader], [*rest, CLIENT])
    eventually_sync(lambda: put_key(stack, rest[0], "cut/majority", b"x"), 15)
    assert not put_key(stack, leader, "cut/minority", b"x")
    stack.heal()
    wait_for_leader(stack)
    for agent in SERVERS:
        assert read_key(stack, agent, "cut/majority") == b"x"


def test_a_follower_that_hears_nothing_disturbs_nobody(stack: Stack) -> None:
    """Cut one way: it may send but not receive. PreVote keeps the leader in office."""
    require("iptables")
    leader = wait_for_leader(stack)
    deaf, other = others(leader)
    stack.partition([leader, other], [deaf], oneway=True)
    for number in range(20):
        assert put_key(stack, leader, f"deaf/{number}", b"x")
    assert leader_of(stack, leader) == leader
    stack.heal()
    eventually_sync(lambda: read_key(stack, deaf, "deaf/19", "stale") == b"x", 20)
    assert wait_for_leader(stack) == leader


def test_writes_go_on_over_a_lossy_network(stack: Stack) -> None:
    require("packet-loss")
    stack.degrade(SERVERS[:1], SERVERS[1:], loss=0.2)
    written = [
        eventually_sync(partial(put_key, stack, SERVERS[n % 3], f"lossy/{n}", b"x"), 20)
        for n in range(10)
    ]
    assert all(written)
    stack.heal()
    wait_for_leader(stack)


def test_dns_says_servfail_to_nobody_while_a_leader_is_elected(stack: Stack) -> None:
    leader = wait_for_leader(stack)
    stack.kill(leader)
    for _ in range(50):
        answer = resolve(stack, "agent-4.node.consul")
        assert answer.rcode() == dns.rcode.NOERROR
        assert answer.flags & dns.flags.AA
    wait_for_leader(stack, *others(leader))
