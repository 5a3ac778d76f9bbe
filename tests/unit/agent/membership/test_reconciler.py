"""The leader turns members into nodes, and never calls gone what gossip does not know yet."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.harness.eventually import eventually
from tests.harness.instant_engine import InstantEngine

from callboard.agent.membership.reconciler import Reconciler, Timing
from callboard.agent.membership.tags import AgentTags
from callboard.catalog.commands import Register, encode_command
from callboard.catalog.objects import Check, Node
from callboard.swim.serf_members import MemberEvent, MemberEventKind, MemberStatus, SerfMember

ID = "11111111-1111-1111-1111-11111111111{}"


@dataclass
class Seen:
    """A gossip member."""

    name: str
    address: str = "10.0.0.1"
    status: str = "alive"
    tags: dict[str, str] = field(default_factory=dict)


def member(name: str, number: int = 1, *, server: bool = True, status: str = "alive") -> Seen:
    tags = AgentTags(ID.format(number), "dc1", server, 8300 if server else 0)
    return Seen(name, f"10.0.0.{number}", status, tags.to_wire())


@dataclass
class World:
    """A reconciler with what it sees."""

    engine: InstantEngine
    members: list[Seen]
    reconciler: Reconciler
    time: float = 0.0

    def status(self, node: str) -> str:
        """The node's serfHealth."""
        checks = self.engine.store.node_checks(node)
        return next((check.status for check in checks if check.check_id == "serfHealth"), "")

    async def round(self) -> None:
        """Let it reconcile once."""
        self.reconciler.poke()
        for _ in range(20):
            await asyncio.sleep(0)


@asynccontextmanager
async def world(*members: Seen) -> AsyncIterator[World]:
    engine, seen = InstantEngine(), list(members)
    reconciler = Reconciler(
        catalog=engine.store,
        engine=engine,
        members=lambda: seen,
        datacenter="dc1",
        now=lambda: here.time,
        rng=random.Random(1),
        timing=Timing(grace_s=30, reconnect_timeout_s=3600, retry_s=0.01),
    )
    here = World(engine, seen, reconciler)
    reconciler.start()
    try:
        yield here
    finally:
        await reconciler.stop()


async def test_alive_server_becomes_a_node_with_serf_health_and_service_consul() -> None:
    async with world(member("agent-1")) as here:
        here.reconciler.poke()
        await eventually(lambda: here.engine.store.node("agent-1"))
        node = here.engine.store.node("agent-1")
        assert node is not None
        assert (node.address, node.id) == ("10.0.0.1", ID.format(1))
        assert here.status("agent-1") == "passing"
        assert [s.service for s in here.engine.store.node_services("agent-1")] == ["consul"]


async def test_alive_client_has_no_service_consul() -> None:
    async with world(member("agent-4", server=False)) as here:
        here.reconciler.poke()
        await eventually(lambda: here.engine.store.node("agent-4"))
        assert list(here.engine.store.node_services("agent-4")) == []


async def test_member_of_another_datacenter_is_not_a_node() -> None:
    stranger = member("far")
    stranger.tags["dc"] = "dc2"
    async with world(stranger) as here:
        await here.round()
        assert here.engine.proposed == []


async def test_serf_agent_without_our_role_is_not_a_node() -> None:
    async with world(Seen("serf", tags={"role": "web"})) as here:
        await here.round()
        assert here.engine.proposed == []


async def test_failed_member_turns_critical() -> None:
    async with world(member("agent-1")) as here:
        await here.round()
        here.members[0].status = "failed"
        here.reconciler.poke()
        await eventually(lambda: here.status("agent-1") == "critical")


async def test_member_that_left_is_removed_with_all_it_had() -> None:
    async with world(member("agent-1")) as here:
        await here.round()
        here.members[0].status = "left"
        here.reconciler.poke()
        await eventually(lambda: here.engine.store.node("agent-1") is None)


async def test_nothing_is_proposed_when_nothing_changed() -> None:
    async with world(member("agent-1"), member("agent-2", 2)) as here:
        await here.round()
        count = len(here.engine.proposed)
        await here.round()
        assert len(here.engine.proposed) == count == 2


async def test_follower_proposes_nothing() -> None:
    async with world(member("agent-1")) as here:
        here.engine.leaderless = True
        await here.round()
        assert here.engine.proposed == []


async def test_node_unknown_to_gossip_keeps_its_health_for_a_grace() -> None:
    async with world(member("agent-1"), member("agent-2", 2)) as here:
        await here.round()
        here.members.pop()
        await here.round()
        here.time = 29
        await here.round()
        assert here.status("agent-2") == "passing"
        here.time = 31
        here.reconciler.poke()
        await eventually(lambda: here.status("agent-2") == "critical")


async def test_node_unknown_to_gossip_is_removed_after_reconnect_timeout() -> None:
    async with world(member("agent-1"), member("agent-2", 2)) as here:
        await here.round()
        here.members.pop()
        await here.round()
        here.time = 3601
        here.reconciler.poke()
        await eventually(lambda: here.engine.store.node("agent-2") is None)


async def test_external_node_without_serf_health_is_never_touched() -> None:
    async with world(member("agent-1")) as here:
        check = Check(check_id="ping", status="passing")
        command = Register(node=Node(name="printer", address="10.9.9.9"), checks=(check,))
        await here.engine.propose(encode_command(command))
        await here.round()
        here.time = 10_000
        await here.round()
        assert here.engine.store.node("printer") is not None


async def test_late_failure_of_an_id_whose_name_was_taken_over_changes_nothing() -> None:
    async with world(member("agent-1", 2)) as here:
        await here.round()
        here.members[:] = [member("agent-1", 1, status="failed")]
        await here.round()
        assert here.status("agent-1") == "passing"


def heard(kind: MemberEventKind, of: Seen) -> MemberEvent:
    status = MemberStatus.REAP if kind == MemberEventKind.REAP else MemberStatus.ALIVE
    return MemberEvent(kind, SerfMember(of.name, of.address, 8301, of.tags, status))


async def test_reaped_member_is_removed_at_once() -> None:
    async with world(member("agent-1"), member("agent-2", 2)) as here:
        await here.round()
        gone = here.members.pop()
        here.reconciler.heard(heard(MemberEventKind.REAP, gone))
        await eventually(lambda: here.engine.store.node("agent-2") is None)


async def test_member_reaped_under_an_earlier_leader_is_removed_by_the_next() -> None:
    async with world(member("agent-1"), member("agent-2", 2)) as here:
        await here.round()
        here.engine.leaderless = True
        here.reconciler.heard(heard(MemberEventKind.REAP, here.members.pop()))
        await here.round()
        assert here.engine.store.node("agent-2") is not None
        here.engine.leaderless = False
        here.reconciler.poke()
        await eventually(lambda: here.engine.store.node("agent-2") is None)


async def test_reaped_member_that_came_back_stays() -> None:
    async with world(member("agent-1"), member("agent-2", 2)) as here:
        await here.round()
        back = here.members[1]
        here.reconciler.heard(heard(MemberEventKind.REAP, back))
        here.reconciler.heard(heard(MemberEventKind.JOIN, back))
        await here.round()
        assert here.status("agent-2") == "passing"


async def test_member_with_an_impossible_port_keeps_nobody_else_out() -> None:
    strange = member("agent-0", 3)
    strange.tags["port"] = "9" * 30
    async with world(strange, member("agent-1")) as here:
        here.reconciler.poke()
        await eventually(lambda: here.engine.store.node("agent-1"))


async def test_member_without_a_sensible_address_keeps_nobody_else_out() -> None:
    strange = member("agent-0", 3)
    strange.address = "nowhere"
    async with world(strange, member("agent-1")) as here:
        here.reconciler.poke()
        await eventually(lambda: here.engine.store.node("agent-1"))


async def test_round_that_failed_is_tried_again_soon() -> None:
    async with world(member("agent-1")) as here:
        here.engine.failures = 1
        here.reconciler.poke()
        await eventually(lambda: here.engine.store.node("agent-1"))
