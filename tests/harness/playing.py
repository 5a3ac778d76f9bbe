"""A browser that watches: Debian's Chromium, driven by Playwright, and what it sees and hears.

    async with chromium() as browser:
        page = await browser.open(url)
        await page.choose("Opus/VP8 …")
        await page.press("Watch or Listen")
        await page.plays()
        figures = await page.figures()               # of the browser's own getStats
        watched = await page.watch_clock(seconds=5)  # the pictures' clocks, read from a canvas

Everything is read past the player: from the video element, from a canvas, and from the connections
that the page has made.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright
from tests.harness.capabilities import require
from tests.harness.eventually import SLOW, eventually

from callboard.gateway.sources.picture import RATE
from callboard.media import clock

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server")
GESTURELESS = "--autoplay-policy=no-user-gesture-required"
WITHIN_S = 30.0

_COUNT_CONNECTIONS = """
window.connections = [];
if (window.RTCPeerConnection) {
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...given) { super(...given); window.connections.push(this); }
  };
}
"""

RELAY_ONLY = """
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(settings, ...more) { super({...settings, iceTransportPolicy: 'relay'}, ...more); }
  setConfiguration(settings) {
    super.setConfiguration({...settings, iceTransportPolicy: 'relay'});
  }
};
"""
"""A script for `chromium`: no candidates but relayed ones are used (W3C webrtc, 4.2.5)."""

_FIGURES = """async () => {
  const found = {};
  for (const connection of window.connections) {
    if (connection.connectionState === 'closed') continue;
    for (const one of (await connection.getStats()).values()) {
      if (one.type === 'inbound-rtp') found[one.kind] = {...one};
      if (one.type === 'candidate-pair' && one.nominated) found.pair = {...one};
    }
    if (!found.pair) continue;
    const all = await connection.getStats();
    found.local = {...all.get(found.pair.localCandidateId)};
    found.remote = {...all.get(found.pair.remoteCandidateId)};
  }
  return found;
}"""

_COLOURS = """() => {
  const video = document.querySelector('video'), canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  if (!canvas.width) return 0;
  const context = canvas.getContext('2d');
  context.drawImage(video, 0, 0);
  const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
  const seen = new Set();
  for (let at = 0; at < data.length; at += 4)
    seen.add(data[at] >> 3 << 10 | data[at + 1] >> 3 << 5 | data[at + 2] >> 3);
  return seen.size;
}"""

_CLOCK = """async ([blocks, seconds]) => {
  const video = document.querySelector('video'), canvas = document.createElement('canvas');
  const block = video.videoWidth / blocks, side = Math.ceil(block);
  [canvas.width, canvas.height] = [video.videoWidth, side];
  const context = canvas.getContext('2d', {willReadFrequently: true});
  const seen = [];
  const read = () => {
    context.drawImage(video, 0, 0, canvas.width, side, 0, 0, canvas.width, side);
    const {data} = context.getImageData(0, 0, canvas.width, side);
    const white = (x, y) => data[4 * (y * canvas.width + x) + 1];
    let bits = '';
    for (let number = 0; number < blocks; number += 1) {
      const [x, y] = [Math.floor((number + 0.5) * block), Math.floor(block / 2)];
      const sum = white(x, y) + white(x - 1, y) + white(x, y - 1) + white(x - 1, y - 1);
      bits += sum > 4 * 127 ? '1' : '0';
    }
    return bits;
  };
  const until = performance.now() + 1000 * seconds;
  await new Promise((done) => {
    const take = (now, {expectedDisplayTime}) => {
      seen.push([read(), performance.timeOrigin + expectedDisplayTime]);
      if (now < until) video.requestVideoFrameCallback(take); else done();
    };
    video.requestVideoFrameCallback(take);
    setTimeout(done, 1000 * seconds + 5000);
  });
  return seen;
}"""


@dataclass(frozen=True, slots=True)
class Watched:
    """The clocks of pictures, as the canvas showed them."""

    times_ms: tuple[int, ...]
    """After the first one's."""
    unread: int
    """Pictures without a clock in them."""
    ages_ms: tuple[float, ...]
    """From the clock until the browser means to show the picture, by the clock of this machine."""

    @property
    def in_order(self) -> bool:
        """Whether they only rise (the same picture may be told twice)."""
        return all(earlier <= later for earlier, later in pairwise(self.times_ms))

    @property
    def sent(self) -> int:
        """Pictures that were made meanwhile."""
        return round(self.times_ms[-1] * RATE / 1000) + 1 if self.times_ms else 0

    @property
    def share(self) -> float:
        """Pictures seen, of these."""
        return len(set(self.times_ms)) / self.sent if self.sent else 0.0


def watched(told: list[tuple[str, float]]) -> Watched:
    """What a canvas showed: the bits of clocks, and when (milliseconds since 1970)."""
    clocks = [(clock.decode(bits), at_ms) for bits, at_ms in told]
    read = [(value, at_ms) for value, at_ms in clocks if value is not None]
    times_ms = tuple(-clock.age_ms(value, read[0][0]) for value, _ in read)
    ages_ms = tuple(float(clock.age_ms(value, round(at_ms))) for value, at_ms in read)
    return Watched(times_ms, len(clocks) - len(read), ages_ms)


@dataclass
class Watching:
    """One page with a player in it."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    """Errors that no script caught."""

    async def choose(self, title: str) -> None:
        """Press a stream's button in the list."""
        await self.page.get_by_role("button", name=title).first.click(timeout=WITHIN_S * 1000)

    async def press(self, name: str) -> None:
        """Press another button."""
        button = self.page.get_by_role("button", name=name, exact=True)
        await button.click(timeout=WITHIN_S * 1000)

    async def text(self, id: str) -> str:
        """What an element shows."""
        return await self.page.locator(f"#{id}").inner_text()

    async def shows(self, id: str, *words: str, within_s: float = WITHIN_S) -> str:
        """Wait until an element shows one of these; its text."""

        async def has() -> str:
            text = await self.text(id)
            return text if any(word in text for word in words) else ""

        text: str = await eventually(has, within_s)
        return text

    async def run(self, script: str, argument: object = None) -> Any:
        """The value of a function or an expression."""
        return await self.page.evaluate(script, argument)

    async def figures(self) -> dict[str, dict[str, Any]]:
        """`audio`, `video`, `pair` and its candidates, `local` and `remote`, of the connection's
        statistics (W3C, webrtc-stats)."""
        found: dict[str, dict[str, Any]] = await self.run(_FIGURES)
        return found

    async def frames(self) -> int:
        """Decoded by the connection that is there; 0 without one."""
        return int((await self.figures()).get("video", {}).get("framesDecoded", 0))

    async def plays(self, within_s: float = WITHIN_S) -> None:
        """Wait until pictures are shown and go on."""

        async def moves() -> bool:
            before = await self.run("document.querySelector('video').currentTime")
            frames = await self.frames()
            await asyncio.sleep(3 / RATE)
            after = await self.run("document.querySelector('video').currentTime")
            return bool(after > before and await self.frames() > frames > 0)

        moving: bool = await eventually(moves, within_s)
        assert moving

    async def first_picture_ms(self) -> float:
        """Press the button; the player's own measure from there until a picture is shown."""
        await self.press("Watch or Listen")
        return float((await self.shows("statistics", "first picture")).split()[3])

    async def colours(self) -> int:
        """How many different ones the picture has, at 5 bits each."""
        return int(await self.run(_COLOURS))

    async def watch_clock(self, seconds: float) -> Watched:
        """Read the clock of each picture of the test pattern that is shown."""
        return watched(await self.run(_CLOCK, [clock.BLOCKS, seconds]))

    async def shows_in_order(
        self, seconds: float = 5, made: Callable[[], int] | None = None
    ) -> None:
        """Assert that pictures come in order, and 95 of 100 of those that were sent meanwhile are
        decoded. (A busy machine does not draw all of them, so that a canvas misses some.)

        `made` counts those of a source that leaves some out on a busy machine."""
        before, begun = await self.frames(), made() if made is not None else 0
        seen = await self.watch_clock(seconds)
        sent = made() - begun if made is not None else seen.sent
        decoded = await self.frames() - before
        assert seen.in_order and seen.times_ms, seen
        assert decoded >= 0.95 * sent - 1, (decoded, sent, seen)
        assert await self.colours() >= 20

    async def connections(self) -> int:
        """Made so far, whether they served or not."""
        return int(await self.run("window.connections.length"))

    async def shot(self, path: Path) -> None:
        """Keep a picture of the page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=path, full_page=True)


class Watchers:
    """A browser; each page that it opens knows nothing of the others."""

    def __init__(self, browser: Browser, script: str = "") -> None:
        """`script` is run in each page before its own."""
        self._browser = browser
        self._script = script

    async def open(self, url: str, **settings: Any) -> Watching:
        """Open a page. `settings` are those of Playwright's new_context; certificates are not
        looked at: what is believed is tests/browser/test_trust.py's."""
        context = await self._browser.new_context(ignore_https_errors=True, **settings)
        await context.add_init_script(_COUNT_CONNECTIONS + self._script)
        page = await context.new_page()
        made = Watching(page)
        page.on("pageerror", lambda error: made.complaints.append(str(error)))
        page.set_default_timeout(WITHIN_S * 1000 * SLOW)
        await page.goto(url)
        return made


async def holds(
    fact: Callable[[], Awaitable[bool]], within_s: float = 10, interval_s: float = 0.02
) -> None:
    """Wait until something that a page is asked for is so. Raises AssertionError."""
    held: bool = await eventually(fact, within_s, interval_s)
    assert held


@asynccontextmanager
async def chromium(
    *flags: str, program: Path = CHROMIUM, home: Path | None = None, script: str = ""
) -> AsyncIterator[Watchers]:
    """Chromium without a window, until the block's end.

    `program` may be one that becomes Chromium, elsewhere; `home` is the user's, where the CAs are
    that it believes; `script` is run in each page before its own.
    """
    require("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program,
            headless=True,
            args=[*FLAGS, *flags],
            env=None if home is None else {**os.environ, "HOME": str(home)},
        )
        try:
            yield Watchers(browser, script)
        finally:
            await browser.close()
