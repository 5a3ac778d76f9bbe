"""Live video by TURN alone: Chromium, coturn, and a gateway that hands the credentials out.

The browser is told to use nothing but relayed candidates (iceTransportPolicy, W3C webrtc 4.2.5).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.live_farm import TITLE, WATCH, live_farm
from tests.harness.playing import RELAY_ONLY, Watching, chromium
from tests.harness.routed import Place
from tests.harness.turn_server import TurnServer

from callboard.tls import command

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    require("linux", "chromium")
    return Place(tmp_path)


@pytest.fixture
def turn(place: Place) -> Iterator[TurnServer]:
    files = place.files("coturn", "coturn")
    with TurnServer(place.folder / "turn", f"{place.network}.7", files) as server:
        yield server


@asynccontextmanager
async def relayed(
    place: Place, flags: list[str], home: Path | None = None
) -> AsyncIterator[Watching]:
    """The live page, in a browser that only relays."""
    with live_farm(place, *flags) as farm:
        async with chromium(script=RELAY_ONLY, home=home) as browser:
            page = await browser.open(farm.live)
            await page.choose(TITLE)
            await page.press(WATCH)
            yield page


async def shown_in_order(page: Watching, by: str) -> None:
    """Assert that it plays, and that all of it comes by this kind of TURN."""
    await page.plays()
    local = (await page.figures())["local"]
    assert (local["candidateType"], local["relayProtocol"]) == ("relay", by), local
    await page.shows_in_order()
    figures = await page.figures()
    assert figures["video"]["freezeCount"] == 0
    assert figures["audio"]["totalSamplesReceived"] > 48_000


async def test_a_viewer_that_only_relays_sees_and_hears_by_turn(
    place: Place, turn: TurnServer
) -> None:
    async with relayed(place, turn.flags(turn.turn)) as page:
        await shown_in_order(page, "udp")
        assert page.complaints == []


async def test_a_viewer_that_only_relays_sees_and_hears_by_turn_over_tls(
    place: Place, turn: TurnServer
) -> None:
    """The browser believes the server by the CA that `callboard tls trust` told it of."""
    require("nss-certutil")
    home = place.folder / "home"
    home.mkdir()
    authorities = str(place.door_files.authorities)
    environ = {"HOME": str(home), "PATH": os.environ["PATH"]}
    assert command.run(["trust", "-ca", authorities, "-stores=chromium"], environ) == 0
    async with relayed(place, turn.flags(turn.turns), home) as page:
        await shown_in_order(page, "tls")


async def test_a_server_of_a_ca_that_is_not_believed_relays_nothing(
    place: Place, turn: TurnServer
) -> None:
    home = place.folder / "home"
    home.mkdir()
    async with relayed(place, turn.flags(turn.turns), home) as page:
        await page.shows("state", "waiting", "failed")
        assert await page.frames() == 0


async def test_a_server_with_another_secret_relays_nothing(place: Place, turn: TurnServer) -> None:
    other = place.folder / "another-secret"
    other.write_text("not that one\n")
    flags = [f"-turn-secret={other}", f"-ice-server={turn.turn}"]
    async with relayed(place, flags) as page:
        await page.shows("state", "waiting", "failed")
        assert await page.frames() == 0
    assert "401" in turn.log
