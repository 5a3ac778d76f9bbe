"""Films on the live page: GStreamer plays a file for each viewer, who pauses it, goes elsewhere in
it, and sees its end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from signal import SIGKILL
from typing import Any

import pytest
from playwright.async_api import Locator, Request
from tests.harness.capabilities import require
from tests.harness.eventually import eventually_sync
from tests.harness.live_farm import TITLE as LIVE
from tests.harness.live_farm import WATCH, LiveFarm, live_farm
from tests.harness.playing import WITHIN_S, Watchers, Watching, holds
from tests.harness.routed import Place, identity
from tests.unit.sidecar.sidecar_process import encode, running

NAME, TITLE = "film", "A film"
BARS_S, BLUE_S = 20, 20
"""It begins with colour bars, among them noise that moves, and goes on with nothing but blue."""
SECONDS = BARS_S + BLUE_S
PAUSED_S = 6.0
"""Longer than anything that the player bears of a source that is to be live."""
CAPS = "video/x-raw,width=160,height=120,framerate=25/1"
PICTURE = (
    f"concat name=c ! vp8enc deadline=1 cpu-used=8 keyframe-max-dist=25 ! queue ! m. "
    f"videotestsrc num-buffers={25 * BARS_S} ! {CAPS} ! c. "
    f"videotestsrc pattern=blue num-buffers={25 * BLUE_S} ! {CAPS} ! c."
)
SOUND = (
    f"audiotestsrc num-buffers={50 * SECONDS} samplesperbuffer=960 "
    "! audio/x-raw,rate=48000,channels=2 ! opusenc ! queue ! m."
)
BLUE_COLOURS_MAX = 3
"""At 5 bits each, of a picture that is nothing but blue."""

LOOK = """async (seconds) => {
  const video = document.querySelector('video'), canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext('2d', {willReadFrequently: true});
  const seen = {pictures: new Set(), states: new Set(), reasons: new Set(), times: new Set()};
  const until = performance.now() + 1000 * seconds;
  while (performance.now() < until) {
    context.drawImage(video, 0, 0);
    const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
    const hash = data.reduce((sum, value) => (31 * sum + value) | 0, 0);
    seen.pictures.add(hash);
    seen.states.add(document.getElementById('state').textContent);
    seen.reasons.add(document.getElementById('reason').textContent);
    seen.times.add(document.querySelector('#film span').textContent);
    await new Promise((done) => setTimeout(done, 100));
  }
  return Object.fromEntries(Object.entries(seen).map(([name, set]) => [name, [...set]]));
}"""
"""All that could be seen meanwhile."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFarm]:
    """A gateway, and a sidecar that has the film; all by mutual TLS."""
    require("linux", "gst-launch-1.0", "python3-gi")
    folder = tmp_path_factory.mktemp("films")
    encode("webmmux", folder / "film.webm", PICTURE, SOUND)
    streams = folder / "streams.toml"
    streams.write_text(
        f'[[streams]]\nname = "{NAME}"\ntitle = "{TITLE}"\nsource = "file"\n'
        'path = "film.webm"\nper_viewer = true\n'
    )
    place = Place(folder)
    told = [f"-streams={streams}", f"-catalog={place.agent}"]
    told += identity(place.files("sidecar", "sidecar-1"))
    with live_farm(place) as made, running(folder, *told):
        eventually_sync(lambda: NAME in made.gateway.streams(), WITHIN_S)
        yield made


@pytest.fixture
async def page(browser: Watchers, farm: LiveFarm) -> AsyncIterator[Watching]:
    """The live page, which plays the film."""
    async with watching(browser, farm) as made:
        yield made


@asynccontextmanager
async def watching(
    browser: Watchers, farm: LiveFarm, title: str = TITLE, **settings: Any
) -> AsyncIterator[Watching]:
    page = await browser.open(farm.live, **settings)
    await page.choose(title)
    await page.press(WATCH)
    await page.plays()
    await page.shows("state", "playing")
    if title == TITLE:
        await page.shows("film", "0:")
    yield page
    assert page.complaints == []


def position(page: Watching) -> Locator:
    return page.page.get_by_role("slider", name="Position in seconds")


async def position_s(page: Watching) -> int:
    """Where the page says that the film is."""
    return int(await position(page).input_value())


async def reaches(page: Watching, at_least_s: int) -> None:
    async def there() -> bool:
        return await position_s(page) >= at_least_s

    await holds(there, WITHIN_S)


async def is_blue(page: Watching) -> bool:
    return 0 < await page.colours() <= BLUE_COLOURS_MAX


def asked_of(page: Watching, *what: str) -> list[Request]:
    """What the page asks for below its session from now on."""
    found: list[Request] = []

    def note(request: Request) -> None:
        if request.url.rpartition("/")[2] in what:
            found.append(request)

    page.page.on("request", note)
    return found


async def test_a_paused_film_stands_still_and_goes_on_from_there(page: Watching) -> None:
    await reaches(page, 2)
    await page.press("Pause")
    await page.shows("film", "Play")
    await page.shows("state", "paused")

    async def stands() -> bool:
        """Whether what had come before is through."""
        return len((await page.run(LOOK, 0.5))["pictures"]) == 1

    await holds(stands, 5.0)
    at_s, frames = await position_s(page), await page.frames()
    asked = asked_of(page, NAME, "progress")
    seen = await page.run(LOOK, PAUSED_S)
    assert (seen["states"], seen["reasons"]) == (["paused"], [""])
    assert len(seen["pictures"]) == 1 and await page.colours() >= 8, "the last one is still there"
    assert seen["times"] == [f"0:{at_s:02} / 0:{SECONDS}"]
    assert await page.frames() == frames
    assert (await page.connections(), asked) == (1, []), "nobody is asked for anything meanwhile"
    await page.press("Play")
    await page.shows("state", "playing")
    await page.plays()
    assert at_s - 1 <= await position_s(page) <= at_s + 3
    seen = await page.run(LOOK, PAUSED_S)
    assert (seen["states"], await page.connections()) == (["playing"], 1)
    assert len(seen["pictures"]) > 10
    assert len(seen["times"]) >= PAUSED_S - 2, "it is told each second"


async def test_one_goes_elsewhere_once_the_range_is_let_go(page: Watching) -> None:
    sought = asked_of(page, "seek")
    await position(page).evaluate(
        "(range) => { for (const to of [5, 15, 25, 30]) {"
        " range.value = to; range.dispatchEvent(new Event('input')); } }"
    )
    assert await page.shows("film", "0:30 / 0:40")
    assert sought == []
    await position(page).dispatch_event("change")
    await holds(lambda: is_blue(page), WITHIN_S)
    assert [json.loads(each.post_data or "") for each in sought] == [{"position_s": 30}]
    await reaches(page, 30)
    await page.plays()
    await position(page).fill("2")

    async def is_left() -> bool:
        return not await is_blue(page)

    await holds(is_left, WITHIN_S)
    assert await page.text("state") == "playing"
    assert await page.connections() == 1


async def test_a_film_that_is_over_is_played_again(page: Watching) -> None:
    await position(page).fill(str(SECONDS - 2))
    await page.shows("film", "Play again")
    await page.shows("reason", "the film has ended")
    assert await page.text("state") == "paused"
    assert await is_blue(page)
    assert await position_s(page) == SECONDS
    await page.press("Play again")
    await page.shows("state", "playing")
    await page.shows("film", "0:01", "0:02", "0:03", "0:04")
    await page.plays()
    assert not await is_blue(page)
    assert await page.connections() == 1


async def test_what_the_gateway_refuses_is_told_until_it_is_done(page: Watching) -> None:
    async def refuse(route: Any) -> None:
        await route.fulfill(status=503, body="the sidecar does not play it\n")

    await page.page.route("**/pause", refuse)
    await page.press("Pause")
    await page.shows("hint", "the sidecar does not play it")
    await reaches(page, await position_s(page) + 2)
    assert await page.text("hint") == "the sidecar does not play it", (
        "though it is told where it is"
    )
    await page.page.unroute("**/pause")
    await page.press("Pause")
    await page.shows("state", "paused")
    assert not await page.page.locator("#hint").is_visible()


async def test_what_all_viewers_share_has_no_such_controls(
    browser: Watchers, farm: LiveFarm
) -> None:
    page = await browser.open(farm.live)
    asked = asked_of(page, "progress")
    await page.choose(LIVE)
    await page.press(WATCH)
    await page.plays()
    await page.shows("state", "playing")
    assert not await page.page.locator("#film").is_visible()
    await page.choose(TITLE)
    await page.plays()
    await page.shows("film", "0:")
    assert asked
    await page.press("Pause")
    await page.shows("state", "paused")
    asked.clear()
    await page.choose(LIVE)
    await holds(page.page.locator("#film").is_hidden, WITHIN_S)
    await page.shows("state", "playing")
    await page.plays()
    assert not asked
    assert page.complaints == []


@pytest.mark.parametrize("scheme", ["dark", "light"])
async def test_the_controls_are_used_by_keys_and_fit_a_telephone(
    browser: Watchers, farm: LiveFarm, scheme: str
) -> None:
    small = {"width": 320, "height": 640}
    async with watching(browser, farm, viewport=small, color_scheme=scheme) as page:
        assert await page.run("document.documentElement.scrollWidth") <= 320
        await page.page.get_by_role("button", name="Pause").focus()
        await page.page.keyboard.press("Space")
        await page.shows("state", "paused")
        at_s = await position_s(page)
        await page.page.keyboard.press("Tab")
        assert await position(page).evaluate("(range) => range === document.activeElement")
        for _ in range(3):
            await page.page.keyboard.press("ArrowRight")
        await page.shows("film", f"0:{at_s + 3:02} / 0:{SECONDS}")
        assert await position(page).get_attribute("aria-valuetext") == f"0:{at_s + 3:02} of 0:40"
        await page.page.keyboard.press("Shift+Tab")
        await page.page.keyboard.press("Enter")
        await page.shows("state", "playing")
        await page.plays()
        assert await position_s(page) >= at_s + 2


async def test_a_gateway_that_dies_while_a_film_is_paused_is_found_again(
    page: Watching, farm: LiveFarm
) -> None:
    await page.press("Pause")
    await page.shows("state", "paused")
    farm.gateway.end(SIGKILL)
    await page.shows("state", "waiting")
    farm.gateway.start()
    await page.plays()
    await page.shows("state", "playing")
    await page.shows("film", "Pause")
    assert await page.connections() > 1
