"""A browser watches the stack: Chromium, the page through 1443, the sidecar's pattern through the
gateway; by UDP, by TCP where no UDP passes, and after the sidecar was killed."""

from __future__ import annotations

import asyncio
import time

import pytest
from make.programs import FILESERVER, GATEWAY, GATEWAY_PORT, HTTPS_PORT, SIDECAR
from tests.harness.asking import http
from tests.harness.capabilities import require
from tests.harness.dropping import dropping
from tests.harness.eventually import SLOW, eventually, eventually_sync
from tests.harness.live_farm import WATCH
from tests.harness.playing import Watching, chromium
from tests.harness.sources import ROOT
from tests.harness.stack import Stack

from callboard.chassis.listeners import default_port

TITLE = "Opus/VP8 live stream coming from gstreamer"
MEDIA = default_port("gateway", "media")
BACK_WITHIN_S = 5.0 * SLOW
WATCHED_S = 10.0
SHOTS = ROOT / "run" / "browser"
"""Screenshots that are kept."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def _plays(stack: Stack) -> None:
    """The sidecar's pattern is there."""
    require("chromium")
    if stack.kind == "processes":
        require("python3-gi")
    eventually_sync(lambda: live(stack), 30.0)


def live(stack: Stack) -> bool:
    told = http("GET", stack.url(GATEWAY, "/streams/test-pattern", GATEWAY_PORT)).json()
    return bool(told["state"] == "live" and told["title"] == TITLE)


def made(stack: Stack) -> int:
    """Pictures that have come from the sidecar."""
    told = http("GET", stack.url(GATEWAY, "/streams/test-pattern", GATEWAY_PORT)).json()
    return int(next(track["frames"] for track in told["tracks"] if track["id"] == "video"))


async def moves_and_sounds(page: Watching, stack: Stack) -> None:
    before = await page.figures()
    await page.shows_in_order(WATCHED_S, made=lambda: made(stack))
    after = await page.figures()
    assert after["video"]["freezeCount"] == before["video"]["freezeCount"]
    heard = after["audio"]["totalSamplesReceived"] - before["audio"]["totalSamplesReceived"]
    assert heard >= 0.95 * 48_000 * WATCHED_S
    concealed = after["audio"]["concealedSamples"] - before["audio"]["concealedSamples"]
    assert concealed <= 0.05 * heard


async def watch(stack: Stack, protocol: str) -> None:
    host, port = stack.addr(FILESERVER, HTTPS_PORT)
    async with chromium() as browser:
        page = await browser.open(f"https://{host}:{port}/live/")
        await page.choose(TITLE)
        await page.press(WATCH)
        await page.plays()
        assert (await page.figures())["local"]["protocol"] == protocol
        await moves_and_sounds(page, stack)
        await page.shot(SHOTS / f"{stack.kind}-{protocol}.png")
        assert page.complaints == []


def test_the_pattern_moves_and_sounds_by_udp(stack: Stack) -> None:
    asyncio.run(watch(stack, "udp"))


def test_the_pattern_moves_and_sounds_by_tcp_where_no_udp_passes(stack: Stack) -> None:
    require("iptables")
    host, port = stack.addr(GATEWAY, MEDIA, "udp")
    rules = [["-p", "udp", "-d", host, "--dport", str(port)]]
    if stack.kind == "containers":  # (its address on the bridge is reached from here, too)
        inside = stack.inside_address(GATEWAY)
        rules.append(["-p", "udp", "-s", inside, "--sport", str(MEDIA)])
    with dropping(*rules):
        asyncio.run(watch(stack, "tcp"))


async def watch_until_it_is_back(stack: Stack) -> None:
    host, port = stack.addr(FILESERVER, HTTPS_PORT)
    async with chromium() as browser:
        page = await browser.open(f"https://{host}:{port}/live/")
        await page.choose(TITLE)
        await page.press(WATCH)
        await page.plays()
        await asyncio.to_thread(stack.kill, SIDECAR)  # (the gateway's own pattern may step in)
        assert await eventually(lambda: not live(stack), 30.0)
        await asyncio.to_thread(stack.start, SIDECAR)
        begun = time.monotonic()
        assert await eventually(lambda: live(stack), 30.0)
        await page.shows("state", "playing")
        await page.plays()
        assert time.monotonic() - begun <= BACK_WITHIN_S
        await moves_and_sounds(page, stack)


def test_the_pattern_is_back_in_five_seconds_after_its_sidecar_was_killed(stack: Stack) -> None:
    asyncio.run(watch_until_it_is_back(stack))
