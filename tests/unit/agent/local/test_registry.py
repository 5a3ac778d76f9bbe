"""What is registered with an agent: in the catalog before the answer, and over restarts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.harness.eventually import eventually
from tests.unit.agent.local.conftest import Open

from callboard.agent.ports import LocalError
from callboard.catalog.commands import Deregister, Register, encode_command
from callboard.catalog.definitions import (
    CheckDefinition,
    Definitions,
    ServiceDefinition,
    check_from_request,
    service_from_request,
)
from callboard.catalog.objects import Node, ServiceInstance


def service(name: str = "web", **fields: object) -> ServiceDefinition:
    return service_from_request(json.dumps({"Name": name, "Port": 80, **fields}).encode())


def check(name: str, **fields: object) -> CheckDefinition:
    return check_from_request(json.dumps({"Name": name, **fields}).encode())


def everything_in(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())


async def test_registered_service_is_in_the_catalog_before_the_answer(local: Open) -> None:
    async with local() as here:
        await here.registry.register_service(service(Tags=["rails"]))
        (instance,) = here.engine.store.service_instances("web")
        assert (instance.port, instance.tags) == (80, ("rails",))


async def test_first_registration_brings_node_and_serf_health(local: Open) -> None:
    async with local() as here:
        await here.registry.register_service(service())
        assert here.status("serfHealth") == "passing"


async def test_registration_without_leader_is_pushed_once_there_is_one(local: Open) -> None:
    async with local() as here:
        await here.registry.register_service(service("first"))
        here.engine.leaderless = True
        await here.registry.register_service(service("second"))
        assert here.service_ids() == ["first"]
        here.engine.leaderless = False
        await eventually(lambda: here.service_ids() == ["first", "second"])


async def test_ttl_check_flips_when_its_time_is_over(local: Open) -> None:
    async with local() as here:
        await here.registry.register_service(service(Check={"TTL": "10s"}))
        await here.registry.update_check("service:web", "passing", "fine")
        assert here.status("service:web") == "passing"
        here.clock.advance(11)
        await eventually(lambda: here.status("service:web") == "critical")


async def test_registering_again_begins_the_ttl_anew(local: Open) -> None:
    async with local() as here:
        heartbeat = service(Check={"TTL": "10s", "Status": "passing"})
        await here.registry.register_service(heartbeat)
        here.clock.advance(9)
        await here.registry.register_service(heartbeat)
        here.clock.advance(9)
        assert here.registry.checks()["service:web"].check.status == "passing"
        here.clock.advance(2)
        assert here.registry.checks()["service:web"].check.status == "critical"


async def test_registering_again_keeps_status_and_output(local: Open) -> None:
    async with local() as here:
        await here.registry.register_service(service(Check={"TTL": "10s", "Status": "passing"}))
        await here.registry.update_check("service:web", "passing", "fine")
        here.clock.advance(11)
        said = "TTL expired (last output before timeout follows): fine"
        assert here.registry.checks()["service:web"].check.output == said
        await here.registry.register_service(service(Check={"TTL": "30s", "Status": "passing"}))
        here.clock.advance(1)
        check = here.registry.checks()["service:web"].check
        assert (check.status, check.output) == ("critical", said)


async def test_deregistered_service_takes_its_checks_along(local: Open) -> None:
    async with local() as here:
        await here.registry.register_service(service(Check={"TTL": "10s"}))
        await here.registry.deregister_service("web")
        assert here.service_ids() == []
        assert here.status("service:web") == ""


async def test_unknown_service_is_404_with_consuls_text(local: Open) -> None:
    async with local() as here:
        with pytest.raises(LocalError, match='Unknown service ID "x"') as refused:
            await here.registry.deregister_service("x")
        assert refused.value.status == 404


async def test_unknown_check_is_404_with_the_text_vault_matches(local: Open) -> None:
    text = 'Unknown check ID "x". Ensure that the check ID is passed, not the check name.'
    async with local() as here:
        with pytest.raises(LocalError) as refused:
            await here.registry.update_check("x", "passing", "")
        assert (refused.value.status, str(refused.value)) == (404, text)


async def test_check_of_an_unknown_service_is_404(local: Open) -> None:
    async with local() as here:
        with pytest.raises(LocalError) as refused:
            await here.registry.register_check(check("c", TTL="10s", ServiceID="nope"))
        assert refused.value.status == 404


async def test_update_of_a_check_without_ttl_is_refused(local: Open) -> None:
    async with local() as here:
        await here.registry.register_check(check("c", TCP="127.0.0.1:1", Interval="10s"))
        with pytest.raises(LocalError, match="does not have associated TTL"):
            await here.registry.update_check("c", "passing", "")


async def test_script_check_is_refused_in_consuls_words(local: Open) -> None:
    async with local() as here:
        with pytest.raises(LocalError, match="Scripts are disabled on this agent") as refused:
            await here.registry.register_check(check("c", Args=["true"], Interval="10s"))
        assert refused.value.status == 500


async def test_too_long_an_output_says_how_much_was_kept(local: Open) -> None:
    async with local() as here:
        await here.registry.register_check(check("c", TTL="10s", OutputMaxSize=20))
        await here.registry.update_check("c", "passing", "o" * 50)
        kept = here.registry.checks()["c"].check.output
        assert kept == "o" * 20 + " ... (captured 20 of 50 bytes)"


@pytest.mark.parametrize(("own", "kept"), [(0, 30), (20, 20), (40, 30)])
async def test_agents_limit_of_output_is_never_exceeded(local: Open, own: int, kept: int) -> None:
    async with local(output_bytes_max=30) as here:
        await here.registry.register_check(check("c", TTL="10s", OutputMaxSize=own))
        await here.registry.update_check("c", "passing", "o" * 50)
        output = here.registry.checks()["c"].check.output
        assert output == "o" * kept + f" ... (captured {kept} of 50 bytes)"


async def test_limit_above_consuls_default_is_kept(local: Open) -> None:
    async with local(output_bytes_max=8192) as here:
        await here.registry.register_check(check("c", TTL="10s"))
        await here.registry.update_check("c", "passing", "o" * 8000)
        assert here.registry.checks()["c"].check.output == "o" * 8000


async def test_discarded_output_reaches_neither_catalog_nor_disk(
    local: Open, tmp_path: Path
) -> None:
    async with local(tmp_path, discard_output=True) as here:
        await here.registry.register_check(check("c", TTL="10s"))
        await here.registry.update_check("c", "warning", "a secret")
        shown = here.engine.store.check("here", "c")
        assert shown is not None
        assert (shown.status, shown.output) == ("warning", "")
    assert "a secret" not in everything_in(tmp_path)


async def test_replace_existing_checks_drops_the_others(local: Open) -> None:
    async with local() as here:
        await here.registry.register_service(service(Checks=[{"TTL": "10s"}, {"TTL": "20s"}]))
        await here.registry.register_service(service(Check={"TTL": "30s"}), replace_checks=True)
        assert sorted(here.registry.checks()) == ["service:web"]
        await eventually(lambda: here.status("service:web:1") == "")


async def test_critical_for_too_long_is_told(local: Open) -> None:
    told: list[str] = []
    async with local() as here:
        here.registry.on_critical_too_long = told.append
        body = {"TTL": "10s", "DeregisterCriticalServiceAfter": "1m"}
        await here.registry.register_service(service(Check=body))
        here.clock.advance(59)
        assert told == []
        here.clock.advance(2)
        assert told == ["web"]


async def test_passing_again_ends_the_time_of_being_critical(local: Open) -> None:
    told: list[str] = []
    async with local() as here:
        here.registry.on_critical_too_long = told.append
        body = {"TTL": "90s", "DeregisterCriticalServiceAfter": "1m"}
        await here.registry.register_service(service(Check=body))
        here.clock.advance(50)
        await here.registry.update_check("service:web", "passing", "")
        here.clock.advance(20)
        assert told == []


async def test_new_limit_of_being_critical_counts_from_the_same_beginning(local: Open) -> None:
    told: list[str] = []
    async with local() as here:
        here.registry.on_critical_too_long = told.append
        body = {"TTL": "1h", "DeregisterCriticalServiceAfter": "10m"}
        await here.registry.register_service(service(Check=body))
        here.clock.advance(50)
        body["DeregisterCriticalServiceAfter"] = "1m"
        await here.registry.register_service(service(Check=body))
        here.clock.advance(9)
        assert told == []
        here.clock.advance(2)
        assert told == ["web"]


async def test_limit_of_output_counts_bytes_and_cuts_no_character(local: Open) -> None:
    async with local() as here:
        await here.registry.register_check(check("c", TTL="10s", OutputMaxSize=5))
        await here.registry.update_check("c", "passing", "äöüß")
        kept = here.registry.checks()["c"].check.output
        assert kept == "äö ... (captured 5 of 8 bytes)"


async def test_registrations_and_statuses_are_there_after_a_restart(
    local: Open, tmp_path: Path
) -> None:
    async with local(tmp_path) as here:
        await here.registry.register_service(service(Check={"TTL": "100s"}))
        await here.registry.update_check("service:web", "passing", "fine")
    async with local(tmp_path) as again:
        await eventually(lambda: again.service_ids() == ["web"])
        assert again.status("service:web") == "passing"


async def test_ttl_that_ran_out_during_the_restart_is_critical(local: Open, tmp_path: Path) -> None:
    async with local(tmp_path, wall=lambda: 1000.0) as here:
        await here.registry.register_service(service(Check={"TTL": "100s"}))
        await here.registry.update_check("service:web", "passing", "fine")
    async with local(tmp_path, wall=lambda: 1101.0) as again:
        await eventually(lambda: again.status("service:web") == "critical")


async def test_ttl_goes_on_over_a_restart(local: Open, tmp_path: Path) -> None:
    async with local(tmp_path, wall=lambda: 1000.0) as here:
        await here.registry.register_service(service(Check={"TTL": "100s"}))
        await here.registry.update_check("service:web", "passing", "fine")
    async with local(tmp_path, wall=lambda: 1090.0) as again:
        await eventually(lambda: again.status("service:web") == "passing")
        again.clock.advance(11)
        await eventually(lambda: again.status("service:web") == "critical")


async def test_deregistered_service_stays_away_after_a_restart(local: Open, tmp_path: Path) -> None:
    async with local(tmp_path) as here:
        await here.registry.register_service(service())
        await here.registry.deregister_service("web")
    async with local(tmp_path) as again:
        assert dict(again.registry.services()) == {}


async def test_broken_remembered_file_is_left_out_and_the_rest_loads(
    local: Open, tmp_path: Path
) -> None:
    async with local(tmp_path) as here:
        await here.registry.register_service(service())
    (tmp_path / "services" / "broken.json").write_bytes(b"{")
    async with local(tmp_path) as again:
        assert list(again.registry.services()) == ["web"]


async def test_reload_adds_drops_and_keeps_statuses(local: Open) -> None:
    kept, dropped = service("kept", Check={"TTL": "100s"}), service("dropped")
    async with local(definitions=Definitions((kept, dropped))) as here:
        await eventually(lambda: here.service_ids() == ["dropped", "kept"])
        await here.registry.update_check("service:kept", "passing", "fine")
        await here.registry.reload(Definitions((kept, service("added"))))
        assert here.service_ids() == ["added", "kept"]
        assert here.status("service:kept") == "passing"


async def test_stranger_in_the_catalog_is_removed_by_a_full_sync(local: Open) -> None:
    async with local() as here:
        await here.registry.register_service(service())
        stranger = ServiceInstance(id="ghost", service="ghost")
        node = here.engine.store.node("here")
        assert node is not None
        await here.engine.propose(encode_command(Register(node=node, service=stranger)))
        here.anti_entropy.request_full()
        await eventually(lambda: here.service_ids() == ["web"])


async def test_service_consul_of_a_server_is_the_leaders_affair(local: Open) -> None:
    async with local() as here:
        await here.registry.register_service(service())
        node = here.engine.store.node("here")
        assert node is not None
        consul = ServiceInstance(id="consul", service="consul", port=8300)
        await here.engine.propose(encode_command(Register(node=node, service=consul)))
        here.anti_entropy.request_full()
        await here.anti_entropy.flush(1)
        await here.registry.register_service(service("other"))
        assert "consul" in here.service_ids()


async def test_service_removed_behind_our_back_comes_back(local: Open) -> None:
    async with local() as here:
        await here.registry.register_service(service(Check={"TTL": "10s"}))
        await here.engine.propose(encode_command(Deregister(node="here")))
        here.anti_entropy.request_full()
        await eventually(lambda: here.service_ids() == ["web"])
        assert here.status("service:web") == "critical"


async def test_tags_of_the_catalog_win_with_enable_tag_override(local: Open) -> None:
    async with local() as here:
        await here.registry.register_service(service(Tags=["a"], EnableTagOverride=True))
        (before,) = here.engine.store.service_instances("web")
        changed = ServiceInstance(
            id="web",
            service="web",
            port=80,
            tags=("b",),
            enable_tag_override=True,
            weights=before.weights,
        )
        node = here.engine.store.node("here")
        assert node is not None
        await here.engine.propose(encode_command(Register(node=node, service=changed)))
        here.anti_entropy.request_full()
        await eventually(lambda: here.registry.services()["web"].tags == ("b",))
        (after,) = here.engine.store.service_instances("web")
        assert after.tags == ("b",)


async def test_full_sync_of_what_is_in_step_proposes_nothing(local: Open) -> None:
    async with local() as here:
        await here.registry.register_service(service(Check={"TTL": "10s"}, Meta={"a": "b"}))
        count = len(here.engine.proposed)
        here.anti_entropy.request_full()
        await here.registry.register_service(service(Check={"TTL": "10s"}, Meta={"a": "b"}))
        assert len(here.engine.proposed) <= count + 1
        index = here.engine.store.service_instances("web")[0].modify_index
        assert index < here.engine.store.applied_index or index == count


async def test_node_of_another_name_is_not_needed(local: Open) -> None:
    async with local() as here:
        await here.engine.propose(encode_command(Register(node=Node(name="x", address="10.1.1.1"))))
        await here.registry.register_service(service())
        assert here.engine.store.node("x") is not None
