"""Which checks of a service stay, and which do not: re-registration, restart and reload."""

from __future__ import annotations

from pathlib import Path

from tests.harness.eventually import eventually
from tests.unit.agent.local.conftest import Open
from tests.unit.agent.local.test_registry import check, service

from callboard.catalog.definitions import Definitions

TWO = [{"CheckID": "one", "TTL": "10s"}, {"CheckID": "two", "TTL": "20s"}]


async def test_check_deregistered_by_itself_stays_away_after_a_restart(
    local: Open, tmp_path: Path
) -> None:
    async with local(tmp_path) as here:
        await here.registry.register_service(service(Checks=TWO))
        await here.registry.deregister_check("one")
    async with local(tmp_path) as again:
        assert list(again.registry.checks()) == ["two"]


async def test_check_that_was_replaced_stays_away_after_a_restart(
    local: Open, tmp_path: Path
) -> None:
    async with local(tmp_path) as here:
        await here.registry.register_service(service())
        await here.registry.register_check(check("own", ServiceID="web", TTL="10s"))
        await here.registry.register_service(service(Check={"TTL": "30s"}), replace_checks=True)
    async with local(tmp_path) as again:
        assert list(again.registry.checks()) == ["service:web"]


async def test_checks_not_named_again_stay_over_a_restart(local: Open, tmp_path: Path) -> None:
    async with local(tmp_path) as here:
        await here.registry.register_service(service(Checks=TWO))
        await here.registry.register_service(service(Check={"CheckID": "two", "TTL": "30s"}))
        assert sorted(here.registry.checks()) == ["one", "two"]
    async with local(tmp_path) as again:
        assert sorted(again.registry.checks()) == ["one", "two"]
        assert again.registry.checks()["two"].definition.ttl_s == 30


async def test_reload_drops_a_check_that_its_service_lost(local: Open) -> None:
    before, after = service(Checks=TWO), service(Checks=TWO[1:])
    async with local(definitions=Definitions((before,))) as here:
        await eventually(lambda: here.status("one") == "critical")
        await here.registry.update_check("two", "passing", "fine")
        await here.registry.reload(Definitions((after,)))
        assert (here.status("one"), here.status("two")) == ("", "passing")


async def test_reload_keeps_checks_added_to_a_service_of_the_files(local: Open) -> None:
    files = Definitions((service(Checks=TWO),))
    async with local(definitions=files) as here:
        await here.registry.register_check(check("own", ServiceID="web", TTL="10s"))
        await here.registry.reload(files)
        assert sorted(here.registry.checks()) == ["one", "own", "two"]


async def test_reload_neither_renews_nor_lengthens_a_ttl(local: Open) -> None:
    async with local(definitions=Definitions((service(Check={"TTL": "10s"}),))) as here:
        await here.registry.update_check("service:web", "passing", "fine")
        here.clock.advance(4)
        await here.registry.reload(Definitions((service(Check={"TTL": "5s"}),)))
        here.clock.advance(6)
        assert here.registry.checks()["service:web"].check.status == "critical"


async def test_reload_keeps_what_a_check_last_said(local: Open) -> None:
    files = Definitions((service(Check={"TTL": "10s"}),))
    async with local(definitions=files) as here:
        await here.registry.update_check("service:web", "passing", "fine")
        here.clock.advance(11)
        said = here.registry.checks()["service:web"].check.output
        await here.registry.reload(files)
        here.clock.advance(1)
        assert here.registry.checks()["service:web"].check.output == said
        assert said.endswith("fine")
