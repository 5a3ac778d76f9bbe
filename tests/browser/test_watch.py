"""/watch/NAME as another site's page has it: in a frame, from the gateway or through 1443."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web
from playwright.async_api import Frame
from tests.harness.capabilities import require
from tests.harness.eventually import eventually
from tests.harness.live_farm import LiveFarm, live_farm
from tests.harness.playing import Watchers, Watching
from tests.harness.routed import Place

NAME = "test-pattern"
ATTACKS = (
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "%",
)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[LiveFarm]:
    require("linux")
    with live_farm(Place(tmp_path)) as made:
        yield made


@asynccontextmanager
async def framed(browser: Watchers, url: str) -> AsyncIterator[Watching]:
    """A page of another origin that has `url` in a frame."""
    allow = "autoplay; fullscreen"
    body = f'<!doctype html><iframe width=640 height=360 allow="{allow}" src="{html.escape(url)}">'

    async def embed(request: web.Request) -> web.Response:
        return web.Response(text=body, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", embed)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield await browser.open(f"http://127.0.0.1:{runner.addresses[0][1]}/")
    finally:
        await runner.cleanup()


def frame_of(page: Watching) -> Frame:
    (frame,) = page.page.main_frame.child_frames
    return frame


async def shows_pictures(frame: Frame) -> None:
    async def moves() -> bool:
        video = await frame.query_selector("video")
        return video is not None and bool(
            await video.evaluate("(video) => video.videoWidth > 0 && video.currentTime > 1")
        )

    moving: bool = await eventually(moves, 30)
    assert moving


@pytest.mark.parametrize("way", ["gateway", "1443"])
async def test_a_page_of_another_origin_shows_the_stream_in_a_frame(
    browser: Watchers, farm: LiveFarm, way: str
) -> None:
    origin = farm.gateway.url if way == "gateway" else f"{farm.door.url}/media"
    async with framed(browser, f"{origin}/watch/{NAME}") as page:
        frame = frame_of(page)
        await shows_pictures(frame)
        box = await frame.evaluate(
            "(() => { const { width, height } = document.querySelector('video')"
            ".getBoundingClientRect(); return [width, height]; })()"
        )
        assert box == [640, 360]
        assert await frame.title() == NAME
        assert page.complaints == []


async def test_who_is_not_listed_frames_nothing(browser: Watchers, tmp_path: Path) -> None:
    with live_farm(Place(tmp_path), "-frame-ancestors=https://example.com") as farm:
        async with framed(browser, f"{farm.gateway.url}/watch/{NAME}") as page:
            refused: bool = await eventually(lambda: frame_of(page).url.startswith("chrome-error:"))
        assert refused


async def test_a_name_that_no_stream_has_is_told_so(browser: Watchers, farm: LiveFarm) -> None:
    page = await browser.open(f"{farm.gateway.url}/watch/no-such-stream")
    await page.shows("words", "there is no stream no-such-stream")


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_name_is_text_and_nothing_else(
    browser: Watchers, farm: LiveFarm, name: str
) -> None:
    page = await browser.open("about:blank")
    alerts: list[str] = []
    page.page.on("dialog", lambda dialog: alerts.append(dialog.message))
    url = f"{farm.gateway.url}/watch/{quote(name, safe='')}"
    await page.page.goto(url)
    await page.shows("words", "waiting", "failed")
    assert await page.run("document.querySelectorAll('img, main script').length") == 0
    assert await page.run("document.scripts.length") == 1
    assert alerts == [] and page.complaints == []


async def test_options_of_the_address_say_how_it_plays(browser: Watchers, farm: LiveFarm) -> None:
    at = f"{farm.gateway.url}/watch/{NAME}"
    page = await browser.open(f"{at}?autoplay=0&controls=0&muted")
    assert await page.run("document.querySelector('video').srcObject") is None
    await page.press("Watch or Listen")
    await page.plays()
    video = "document.querySelector('video')"
    assert await page.run(f"[{video}.muted, {video}.controls]") == [True, False]
    await page.page.goto(at)
    await page.plays()
    controlled: bool = await eventually(lambda: page.run(f"{video}.controls"))
    assert controlled
