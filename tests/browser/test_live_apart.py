"""Live video in a network of its own: Chromium in a namespace, the gateway and the page outside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.eventually import SLOW
from tests.harness.live_farm import TITLE, WATCH, LiveFarm, live_farm
from tests.harness.namespaces import NetworkNamespace
from tests.harness.playing import CHROMIUM, Watching, chromium
from tests.harness.routed import Place

RECOVERY_S = 5.0
LOSS = 0.05

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def apart() -> Iterator[NetworkNamespace]:
    """The viewer's network."""
    require("chromium")
    with NetworkNamespace() as made:
        yield made


@pytest.fixture
def farm(apart: NetworkNamespace, tmp_path: Path) -> Iterator[LiveFarm]:
    with live_farm(Place(tmp_path), outside=apart.here) as made:
        yield made


@asynccontextmanager
async def watching(apart: NetworkNamespace, farm: LiveFarm, tmp: Path) -> AsyncIterator[Watching]:
    """The live page in there, playing."""
    async with chromium(program=apart.wrapper(CHROMIUM, tmp / "programs")) as browser:
        page = await browser.open(farm.live)
        await page.choose(TITLE)
        await page.press(WATCH)
        await page.plays()
        await page.shows("state", "playing")
        yield page


async def test_a_viewer_in_another_network_sees_and_hears(
    apart: NetworkNamespace, farm: LiveFarm, tmp_path: Path
) -> None:
    async with watching(apart, farm, tmp_path) as page:
        await page.shows_in_order()
        figures = await page.figures()
        assert (figures["remote"]["address"], figures["remote"]["protocol"]) == (apart.here, "udp")
        assert figures["video"]["freezeCount"] == 0
        assert figures["audio"]["totalSamplesReceived"] > 48_000
        assert page.complaints == []


async def test_a_viewer_whose_network_has_no_udp_sees_and_hears_by_tcp(
    apart: NetworkNamespace, farm: LiveFarm, tmp_path: Path
) -> None:
    """RFC 6544: the gateway's candidate is passive, on the same port."""
    apart.drop("OUTPUT", "-p", "udp")
    apart.drop("INPUT", "-p", "udp")
    async with watching(apart, farm, tmp_path) as page:
        await page.shows_in_order()
        figures = await page.figures()
        assert figures["local"]["protocol"] == "tcp"
        assert figures["video"]["freezeCount"] == 0
        assert figures["audio"]["totalSamplesReceived"] > 48_000


@pytest.mark.parametrize("seconds", [2, 8], ids=["a moment", "longer than ICE waits"])
async def test_a_cable_that_was_out_is_used_again_without_a_reload(
    apart: NetworkNamespace, farm: LiveFarm, tmp_path: Path, seconds: float
) -> None:
    async with watching(apart, farm, tmp_path) as page:
        loads = await page.run("performance.timeOrigin")
        with apart.cut():
            frames = await page.frames()
            await asyncio.sleep(seconds)
            assert await page.frames() <= frames + 10
        begun = time.monotonic()
        await page.plays()
        assert time.monotonic() - begun <= RECOVERY_S * SLOW
        assert await page.run("performance.timeOrigin") == loads
        await page.shows_in_order()


async def test_one_packet_in_twenty_is_lost_and_all_is_shown(
    apart: NetworkNamespace, farm: LiveFarm, tmp_path: Path
) -> None:
    require("packet-loss")
    async with watching(apart, farm, tmp_path) as page:
        chance = ["-m", "statistic", "--mode", "random", "--probability", str(LOSS)]
        apart.drop("INPUT", "-p", "udp", *chance)
        before = await page.figures()
        await page.shows_in_order(15)
        after = await page.figures()
        received, asked = (
            after["video"][name] - before["video"][name]
            for name in ("packetsReceived", "nackCount")
        )
        assert received > 0 and asked > 0, after
