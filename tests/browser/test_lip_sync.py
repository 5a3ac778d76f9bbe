"""Picture and sound belong together where a person meets them: flash and beep of the test pattern,
seen on the page and heard from its connection, after joining and after the source began anew."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.dropping import dropping
from tests.harness.eventually import SLOW, eventually_sync
from tests.harness.lip_sync import lip_sync
from tests.harness.live_farm import TITLE, WATCH, LiveFarm, live_farm
from tests.harness.pattern_sender import TITLE as SCRIPT
from tests.harness.pattern_sender import PatternSender
from tests.harness.playing import WITHIN_S, Watchers, Watching
from tests.harness.routed import Place, identity
from tests.unit.sidecar.sidecar_process import running

NAME, GSTREAMER = "test-pattern", "Opus/VP8 live stream coming from gstreamer"
APART_MS = 45.0
"""What nobody notices (ITU-R BT.1359: detected from 45 ms on)."""
WATCHED_S = 180.0 if os.environ.get("BUDGET") == "ci" else 30.0
SHORT_S = 30.0
SETTLED_S = 3.0
"""A browser brings the two together once it has had two reports of each clock (RFC 3550, 6.4.1)."""

pytestmark = pytest.mark.timeout(420)


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[LiveFarm]:
    require("linux")
    with live_farm(Place(tmp_path)) as made:
        yield made


@pytest.fixture
def sidecar(farm: LiveFarm, tmp_path: Path) -> Iterator[None]:
    """GStreamer makes the test pattern, and the gateway's own makes way."""
    require("python3-gi")
    place, folder = farm.place, tmp_path / "sidecar"
    folder.mkdir()
    files = place.files("sidecar", "sidecar-1")
    with running(folder, f"-catalog={place.agent}", *identity(files)):
        eventually_sync(lambda: farm.gateway.streams()[NAME]["title"] == GSTREAMER, WITHIN_S)
        yield


@pytest.fixture
async def page(browser: Watchers, farm: LiveFarm) -> Watching:
    return await browser.open(farm.live)


async def belong_together(page: Watching, seconds: float) -> None:
    """Assert that flashes and beeps come each second, and at the same time."""
    pictures = await page.watch_clock(SETTLED_S)
    assert pictures.in_order and len(pictures.times_ms) > SETTLED_S, pictures
    seen = await lip_sync(page, seconds)
    apart_ms = seen.apart_ms
    assert len(apart_ms) >= 0.8 * (seconds - 2), seen
    assert abs(statistics.median(apart_ms)) <= APART_MS * SLOW, [round(ms) for ms in apart_ms]


async def test_sound_and_picture_belong_together_after_joining(page: Watching) -> None:
    await page.choose(TITLE)
    await page.press(WATCH)
    await page.plays()
    await belong_together(page, SHORT_S)
    assert (await page.figures())["video"]["freezeCount"] <= SHORT_S / 60 * SLOW


@pytest.mark.usefixtures("sidecar")
async def test_sound_and_picture_of_gstreamer_belong_together(page: Watching) -> None:
    await page.choose(GSTREAMER)
    await page.press(WATCH)
    await page.plays()
    await belong_together(page, WATCHED_S)


async def test_sound_and_picture_belong_together_after_the_source_began_anew(
    page: Watching, farm: LiveFarm
) -> None:
    sender = PatternSender(farm.gateway)
    sender.start()
    try:
        await page.choose(SCRIPT)
        await page.press(WATCH)
        await page.plays()
        await sender.stop()
        await page.shows("state", "waiting")
        sender.start()
        await page.shows("state", "playing")
        await belong_together(page, SHORT_S)
    finally:
        await sender.stop()


async def test_sound_and_picture_belong_together_where_one_packet_in_twenty_is_lost(
    page: Watching, farm: LiveFarm
) -> None:
    require("packet-loss")
    chance = ["-m", "statistic", "--mode", "random", "--probability", "0.05"]
    media = ["-s", farm.gateway.host, "-p", "udp", "--sport", str(farm.gateway.ports["media-port"])]
    await page.choose(TITLE)
    await page.press(WATCH)
    await page.plays()
    with dropping([*media, *chance]):
        await belong_together(page, SHORT_S)
    lost = await page.run(LOST)
    assert lost > 0


LOST = """async () => {
  let lost = 0;
  for (const one of (await connections.at(-1).getStats()).values())
    if (one.type === 'inbound-rtp') lost += (one.nackCount ?? 0) + one.packetsLost;
  return lost;
}"""
