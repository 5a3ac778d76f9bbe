"""The live page in Firefox ESR: the test pattern moves and sounds. It makes no candidates of
loopback addresses, so media is advertised at another address of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.firefox import PROGRAM, Tab, firefox
from tests.harness.live_farm import TITLE, LiveFarm, live_farm
from tests.harness.routed import Place

from callboard.chassis.registration import own_address
from callboard.gateway.sources.picture import HEIGHT, WIDTH

pytestmark = pytest.mark.timeout(300)

FIGURES = "document.getElementById('statistics').textContent"
STATE = "document.getElementById('state').textContent"


def farm_at(tmp_path: Path, *flags: str) -> Iterator[LiveFarm]:
    require("linux", PROGRAM)
    with live_farm(Place(tmp_path), *flags) as farm:
        yield farm


@pytest.fixture
def reachable(tmp_path: Path) -> Iterator[LiveFarm]:
    """Its media port is advertised at this machine's address of the default route."""
    require("own-address")
    yield from farm_at(tmp_path, f"-advertise-ips={own_address('0.0.0.0')}")


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[LiveFarm]:
    yield from farm_at(tmp_path)


async def watch(tab: Tab, farm: LiveFarm) -> None:
    await tab.open(farm.live)
    await tab.click("li[data-name=test-pattern] button")
    assert TITLE in await tab.run("document.getElementById('title').textContent")
    # kept for what is read past the player
    await tab.run(
        "(() => { const { getStats } = RTCPeerConnection.prototype;"
        " RTCPeerConnection.prototype.getStats = function (...given)"
        " { window.connection = this; return getStats.apply(this, given); }; })()"
    )
    await tab.click("#watch")


def inbound(kind: str, name: str) -> str:
    """A figure of the connection's, 0 while there is none."""
    return (
        "(async () => [...(await window.connection?.getStats() ?? new Map()).values()]"
        f".find((one) => one.type === 'inbound-rtp' && one.kind === '{kind}')?.{name} ?? 0)()"
    )


async def test_the_pattern_moves_and_sounds(reachable: LiveFarm, tmp_path: Path) -> None:
    async with firefox(tmp_path / "firefox") as tab:
        await watch(tab, reachable)
        await tab.holds(f"{STATE} === 'playing'")
        video = "document.querySelector('video')"
        assert await tab.run(f"{video}.videoWidth") == WIDTH
        assert await tab.run(f"{video}.videoHeight") == HEIGHT
        assert await tab.run(f"{video}.muted") is False
        frames = await tab.run(inbound("video", "framesDecoded"))
        octets = await tab.run(inbound("audio", "bytesReceived"))
        moment = await tab.run(f"{video}.currentTime")
        more = f"(async () => await {inbound('video', 'framesDecoded')} > {frames + 50})()"
        await tab.holds(more)
        assert await tab.run(inbound("audio", "bytesReceived")) > octets
        assert await tab.run(inbound("audio", "packetsReceived")) > 50
        assert await tab.run(f"{video}.currentTime") > moment
        assert "first picture after" in await tab.run(FIGURES)
        assert await tab.run(f"{STATE} === 'playing'")


async def test_where_loopback_alone_is_advertised_the_page_says_what_to_do(
    loopback: LiveFarm, tmp_path: Path
) -> None:
    async with firefox(tmp_path / "firefox") as tab:
        await watch(tab, loopback)
        hint = "document.getElementById('hint')"
        await tab.holds(f"!{hint}.hidden && {hint}.textContent.includes('ADVERTISE_IPS')")
        assert await tab.run(STATE) != "playing"
