"""The catalog says of a node what its agent says: whatever goes on at the same time."""

from __future__ import annotations

import asyncio
import json

from tests.harness.eventually import eventually
from tests.harness.instant_engine import InstantEngine
from tests.unit.agent.local.conftest import NODE, Local, Open

from callboard.agent.ports import Applied
from callboard.catalog.commands import Deregister, Register, encode_command
from callboard.catalog.definitions import Definitions, ServiceDefinition, service_from_request
from callboard.catalog.objects import CRITICAL, PASSING, Check, Node, ServiceInstance


def service(name: str = "web", **fields: object) -> ServiceDefinition:
    return service_from_request(json.dumps({"Name": name, "Port": 80, **fields}).encode())


class SlowEngine(InstantEngine):
    """Takes a moment for each proposal."""

    moment_s = 0.005

    async def propose(self, command: bytes, timeout_s: float = 7.0) -> Applied:
        await asyncio.sleep(self.moment_s)
        return await super().propose(command, timeout_s)


class FaultyEngine(InstantEngine):
    """Fails once in a way that nobody foresaw."""

    def __init__(self) -> None:
        super().__init__()
        self.faults = 0

    async def propose(self, command: bytes, timeout_s: float = 7.0) -> Applied:
        if self.faults:
            self.faults -= 1
            raise RuntimeError("unforeseen")
        return await super().propose(command, timeout_s)


async def occupied(status: str) -> InstantEngine:
    """A catalog in which another node has our name, with a service."""
    engine = InstantEngine()
    command = Register(
        node=Node(id="2" * 36, name=NODE.name, address="10.0.0.2"),
        service=ServiceInstance(id="theirs", service="theirs"),
        checks=(Check(check_id="serfHealth", status=status),),
    )
    await engine.propose(encode_command(command))
    return engine


async def settled(here: Local) -> None:
    assert await here.anti_entropy.flush(1.0)


async def test_full_sync_asked_for_during_one_is_not_lost(local: Open) -> None:
    fetches: list[int] = []

    def on_fetch() -> None:
        fetches.append(1)
        if len(fetches) == asked:
            here.anti_entropy.request_full()

    asked = 0
    async with local(on_fetch=on_fetch) as here:
        await settled(here)
        asked = len(fetches) + 1
        here.anti_entropy.request_full()
        await eventually(lambda: len(fetches) > asked)


async def test_check_that_a_changed_service_lost_while_we_were_away_is_removed(
    local: Open,
) -> None:
    engine = InstantEngine()
    before = service(Checks=[{"TTL": "10s"}, {"TTL": "20s"}])
    async with local(engine=engine, definitions=Definitions((before,))) as here:
        await settled(here)
        assert here.status("service:web:2") == CRITICAL
    after = service(Port=81, Check={"TTL": "10s"})
    async with local(engine=engine, definitions=Definitions((after,))) as again:
        await settled(again)
        assert [c.check_id for c in engine.store.node_checks("here")] == [
            "serfHealth",
            "service:web",
        ]


async def test_services_of_a_live_node_of_our_name_are_left_alone(local: Open) -> None:
    engine = await occupied(PASSING)
    async with local(engine=engine) as here:
        assert not await here.anti_entropy.flush(0.3)
        assert here.service_ids() == ["theirs"]


async def test_name_of_a_failed_node_is_taken_over_and_swept(local: Open) -> None:
    engine = await occupied(CRITICAL)
    async with local(engine=engine, definitions=Definitions((service(),))) as here:
        await eventually(lambda: here.service_ids() == ["web"])
        assert here.status("serfHealth") == PASSING


async def test_check_update_brings_back_a_service_removed_behind_our_back(local: Open) -> None:
    async with local() as here:
        await here.registry.register_service(service(Check={"TTL": "10s"}))
        await here.engine.propose(encode_command(Deregister(node="here", service_id="web")))
        await here.registry.update_check("service:web", PASSING, "")
        await eventually(lambda: here.status("service:web") == PASSING)
        assert here.service_ids() == ["web"]


async def test_what_is_refused_keeps_nothing_else_back(local: Open) -> None:
    async with local() as here:
        await settled(here)
        await here.registry.register_service(service(Check={"TTL": "10s"}))
        here.registry._services.pop("web")  # a check whose service is nowhere
        await here.engine.propose(encode_command(Deregister(node="here", service_id="web")))
        await here.registry.update_check("service:web", PASSING, "")
        await here.registry.register_service(service("other"))
        assert "other" in here.service_ids()


async def test_waiting_for_a_change_ends_though_others_go_on_changing(local: Open) -> None:
    async def churn() -> None:
        while True:
            here.anti_entropy.check_changed("service:busy")
            await asyncio.sleep(0.001)

    async with local(engine=SlowEngine()) as here:
        await here.registry.register_service(service("busy", Check={"TTL": "10s"}))
        churning = asyncio.get_running_loop().create_task(churn())
        try:
            await eventually(lambda: len(here.engine.proposed) > 3)
            assert await here.anti_entropy.flush(0.5)
        finally:
            churning.cancel()


async def test_waiting_covers_a_push_that_is_under_way(local: Open) -> None:
    async with local(engine=SlowEngine()) as here:
        await settled(here)
        asking = asyncio.ensure_future(here.registry.register_service(service()))
        await eventually(lambda: here.anti_entropy._busy, interval_s=0.001)
        await settled(here)
        assert here.service_ids() == ["web"]
        await asking


async def test_unforeseen_fault_does_not_end_it(local: Open) -> None:
    engine = FaultyEngine()
    async with local(engine=engine) as here:
        await settled(here)
        engine.faults = 1
        await here.registry.register_service(service())
        assert here.service_ids() == ["web"]


async def test_word_of_a_leader_ends_the_wait_before_the_next_attempt(local: Open) -> None:
    async with local() as here:
        await settled(here)
        here.engine.leaderless = True
        here.anti_entropy._delay_s = 15.0  # as after a long time without a leader
        waiting = asyncio.ensure_future(here.registry.register_service(service()))
        behind = here.anti_entropy
        await eventually(lambda: behind._waiting and not behind._busy)
        here.engine.leaderless = False
        here.anti_entropy.hurry()
        await eventually(lambda: here.service_ids() == ["web"])
        await waiting


async def test_nobody_waits_for_what_is_stopped(local: Open) -> None:
    async with local() as here:
        await settled(here)
        await here.anti_entropy.stop()
        async with asyncio.timeout(0.5):
            await here.registry.register_service(service())


async def test_full_sync_leaves_deferred_output_deferred(local: Open) -> None:
    async with local() as here:
        await here.registry.register_service(service(Check={"TTL": "10s"}))
        await here.registry.update_check("service:web", PASSING, "first")
        await here.registry.update_check("service:web", PASSING, "second")
        here.anti_entropy.request_full()
        await settled(here)
        shown = here.engine.store.check("here", "service:web")
        assert shown is not None
        assert shown.output == "first"
