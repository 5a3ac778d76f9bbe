"""What an agent takes up at its start and at a reload, and what it says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.agent.local.conftest import Open
from tests.unit.agent.local.test_registry import check, service

from callboard.agent.ports import LocalError
from callboard.catalog.definitions import Definitions

ORPHAN = check("c", ServiceID="nope", TTL="10s")


async def test_check_of_a_service_nobody_defines_stops_the_start(local: Open) -> None:
    with pytest.raises(LocalError, match='check "c": ServiceID "nope" does not exist'):
        async with local(definitions=Definitions((service(),), (ORPHAN,))):
            raise AssertionError("it started")


async def test_check_of_a_service_nobody_defines_leaves_all_as_it_was_at_a_reload(
    local: Open,
) -> None:
    async with local(definitions=Definitions((service(),))) as here:
        with pytest.raises(LocalError, match="does not exist"):
            await here.registry.reload(Definitions((service("other"),), (ORPHAN,)))
        assert list(here.registry.services()) == ["web"]
        with pytest.raises(LocalError, match='ServiceID "web" does not exist'):
            await here.registry.reload(Definitions((), (check("c", ServiceID="web", TTL="1s"),)))


async def test_check_in_the_files_may_be_of_a_service_that_came_by_the_api(
    local: Open, tmp_path: Path
) -> None:
    async with local(tmp_path) as here:
        await here.registry.register_service(service())
    files = Definitions((), (check("c", ServiceID="web", TTL="10s"),))
    async with local(tmp_path, definitions=files) as again:
        assert again.registry.checks()["c"].check.service_name == "web"


async def test_remembered_check_knows_its_service_of_the_files(local: Open, tmp_path: Path) -> None:
    files = Definitions((service(Tags=["a"]),))
    async with local(tmp_path, definitions=files) as here:
        await here.registry.register_check(check("own", ServiceID="web", TTL="10s"))
    async with local(tmp_path, definitions=files) as again:
        shown = again.registry.checks()["own"].check
        assert (shown.service_name, shown.service_tags) == ("web", ("a",))


async def test_remembered_check_of_a_service_that_is_gone_is_left_out(
    local: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with local(tmp_path, definitions=Definitions((service(),))) as here:
        await here.registry.register_check(check("own", ServiceID="web", TTL="10s"))
    async with local(tmp_path) as again:
        assert dict(again.registry.checks()) == {}
    assert "remembered check left out" in caplog.text


async def test_what_will_surprise_is_logged(local: Open, caplog: pytest.LogCaptureFixture) -> None:
    quick = {"HTTP": "http://127.0.0.1:1/", "Interval": "10ms"}
    async with local(definitions=Definitions((service("of_files"),))) as here:
        await here.registry.register_service(service("by_api", Check=quick))
        await here.registry.register_check(check("c", **quick))
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert sum("of_files" in text for text in said) == 1
    assert sum("by_api" in text for text in said) == 1
    assert said.count("check interval 10ms is below the minimum of 1s") == 2
