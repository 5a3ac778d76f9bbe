"""Live video as a person sees it: Chromium, the file server at 1443, a gateway behind it.

The programs are processes and speak mutual TLS, as compose and `make run` have them; the stream is
the gateway's built-in pattern.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Request
from tests.harness.capabilities import require
from tests.harness.dropping import dropping
from tests.harness.eventually import SLOW, eventually
from tests.harness.live_farm import TITLE, WATCH, LiveFarm, live_farm
from tests.harness.pattern_sender import TITLE as SCRIPT
from tests.harness.pattern_sender import PatternSender
from tests.harness.playing import Watchers, Watching
from tests.harness.routed import Place
from tests.harness.sources import ROOT

STOP = "Stop"
RECOVERY_S = 5.0
FIRST_PICTURE_MS = 200.0
"""Median of what is promised; the source of this test is warm and its pictures are small."""
SHOTS = ROOT / "run" / "browser"
"""Screenshots that are kept."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[LiveFarm]:
    require("linux")
    with live_farm(Place(tmp_path)) as made:
        yield made


@pytest.fixture
async def page(browser: Watchers, farm: LiveFarm) -> Watching:
    """The live page, the stream chosen."""
    page = await browser.open(farm.live)
    await page.choose(TITLE)
    return page


async def playing(page: Watching) -> None:
    await page.press(WATCH)
    await page.plays()
    await page.shows("state", "playing")


async def test_the_stream_is_chosen_and_moves_and_sounds(page: Watching, farm: LiveFarm) -> None:
    await playing(page)
    before = await page.figures()
    watched = await page.watch_clock(10)
    after = await page.figures()
    assert watched.in_order and watched.unread == 0
    decoded = after["video"]["framesDecoded"] - before["video"]["framesDecoded"]
    assert decoded >= 0.95 * watched.sent
    assert watched.share >= 0.95
    assert after["video"]["freezeCount"] == 0
    assert await page.colours() >= 20
    heard = after["audio"]["totalSamplesReceived"] - before["audio"]["totalSamplesReceived"]
    assert heard >= 0.95 * 48_000 * 10
    assert after["audio"]["concealedSamples"] <= 0.05 * after["audio"]["totalSamplesReceived"]
    await page.shot(SHOTS / "live.png")
    assert page.complaints == []


async def test_the_first_picture_comes_soon_after_the_click(page: Watching, farm: LiveFarm) -> None:
    await playing(page)  # the source is made for its first viewer
    await page.press(STOP)
    times = []
    for _ in range(7):
        times.append(await page.first_picture_ms())
        await page.shows("state", "playing")
        await page.press(STOP)
        await page.shows("state", "stopped")
    assert sorted(times)[len(times) // 2] <= FIRST_PICTURE_MS * SLOW, times


async def test_the_gateway_knows_who_watches_until_they_stop(
    page: Watching, farm: LiveFarm
) -> None:
    await playing(page)
    assert [one["state"] for one in farm.sessions()] == ["connected"]
    await page.shows("streams", "1 viewer")
    await page.press(STOP)
    await eventually(lambda: farm.sessions() == [], 5)


async def test_the_root_leads_to_the_live_page(browser: Watchers, farm: LiveFarm) -> None:
    page = await browser.open(f"{farm.door.url}/")
    await page.page.wait_for_url("**/live/")
    await page.choose(TITLE)


async def test_a_gateway_that_was_killed_is_found_again(page: Watching, farm: LiveFarm) -> None:
    await playing(page)
    farm.gateway.end(signal.SIGKILL)
    await page.shows("state", "waiting")
    await asyncio.to_thread(farm.gateway.start)
    begun = time.monotonic()
    await page.plays()
    assert time.monotonic() - begun <= RECOVERY_S * SLOW
    await page.shows("state", "playing")


async def test_a_source_that_began_anew_is_shown_on_the_same_connection(
    browser: Watchers, farm: LiveFarm
) -> None:
    """Its SSRCs, numbers and clocks are others."""
    sender = PatternSender(farm.gateway)
    sender.start()
    try:
        page = await browser.open(farm.live)
        await page.choose(SCRIPT)
        await playing(page)
        await sender.stop()
        await page.shows("reason", "the source is silent")
        sender.start()
        begun = time.monotonic()
        await page.shows("state", "playing")
        await page.plays()
        assert time.monotonic() - begun <= RECOVERY_S * SLOW
        await page.shows_in_order()
        assert await page.connections() == 1
    finally:
        await sender.stop()


async def test_a_gateway_that_stops_in_order_is_found_again(page: Watching, farm: LiveFarm) -> None:
    await playing(page)
    await asyncio.to_thread(farm.gateway.end)
    await page.shows("state", "waiting", "connecting")
    await asyncio.to_thread(farm.gateway.start)
    begun = time.monotonic()
    await page.plays()
    assert time.monotonic() - begun <= RECOVERY_S * SLOW


async def test_a_way_that_is_lost_is_replaced_by_an_ice_restart(
    page: Watching, farm: LiveFarm
) -> None:
    """The browser's port is cut off for good, as by a router that forgot it."""
    require("iptables")
    asked: list[str] = []

    def note(request: Request) -> None:
        if "/whep/" in request.url:
            asked.append(request.method)

    page.page.on("request", note)
    await playing(page)
    pair = (await page.figures())["pair"]
    local = await page.run(
        "async (id) => (await connections.at(-1).getStats()).get(id).port", pair["localCandidateId"]
    )
    media = str(farm.gateway.ports["media-port"])
    to_gateway = ["-d", farm.gateway.host, "-p"]
    udp = [*to_gateway, "udp", "--dport", media, "--sport", str(local)]
    back = ["-s", farm.gateway.host, "-p", "udp", "--sport", media, "--dport", str(local)]
    tcp = [*to_gateway, "tcp", "--dport", media]
    with dropping(udp, back, tcp):
        begun = time.monotonic()
        await page.shows("state", "waiting")
        await page.shows("state", "playing")
        took = time.monotonic() - begun
        await page.plays()
    assert "PATCH" in asked and asked.count("POST") == 1, asked
    assert took <= RECOVERY_S * SLOW


async def test_a_network_that_was_away_is_used_again_without_a_reload(
    page: Watching, farm: LiveFarm
) -> None:
    require("iptables")
    await playing(page)
    media = str(farm.gateway.ports["media-port"])
    to_gateway = ["-d", farm.gateway.host, "-p"]
    door = ["-d", farm.door.address, "-p", "tcp", "--dport", "1443"]
    udp, tcp = ([*to_gateway, kind, "--dport", media] for kind in ("udp", "tcp"))
    back = ["-s", farm.gateway.host, "-p", "udp", "--sport", media]
    with dropping(udp, tcp, back, door):
        await page.shows("state", "waiting")
        await page.shows("reason", "the gateway does not answer")
    begun = time.monotonic()
    await page.plays()
    assert time.monotonic() - begun <= RECOVERY_S * SLOW
