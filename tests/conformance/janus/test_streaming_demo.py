"""Janus' own streaming demo and its janus.js, as Debian has them and unmodified, against a gateway.

The pages come from /usr/share/janus/demos by a server of files; what they ask goes to the
gateway's own ports, from a page of another port, as in a usual installation. settings.js, which is
there to be edited, has two lines more: Debian's lacks variables that the demo reads, and does not
start with any server; and by WebSocket it names that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.async_api import Page
from tests.harness.capabilities import JANUS_DEMOS, require
from tests.harness.eventually import SLOW, eventually
from tests.harness.gateway_process import GatewayProcess
from tests.harness.playing import WITHIN_S, Watchers, Watching, chromium
from tests.harness.process_driver import own_network

JANUS_PORT, WEBSOCKET_PORT = 8088, 8188
"""What settings.js, and the example in it, have."""
STREAM = "test-pattern"
BY_LONG_POLLS = "var token, apisecret;"
BY_WEBSOCKET = f"{BY_LONG_POLLS} server = 'ws://' + location.hostname + ':{WEBSOCKET_PORT}';"
ENDED = "() => window.connections.every((one) => one.connectionState === 'closed')"

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway with its built-in pattern, at an address of its own, so that Janus' ports are
    free there."""
    require("linux", "janus-demos")
    ports = (f"-janus-port={JANUS_PORT}", f"-janus-ws-port={WEBSOCKET_PORT}")
    host = f"{own_network()}.8"
    with GatewayProcess(tmp_path / "gateway", "-pattern", *ports, host=host) as gateway:
        yield gateway


@pytest.fixture
async def browser() -> AsyncIterator[Watchers]:
    async with chromium("--autoplay-policy=no-user-gesture-required") as made:
        yield made


class DemoFiles(SimpleHTTPRequestHandler):
    """The installed pages (their scripts are links to Debian's libjs-*)."""

    settings = ""
    """What settings.js says besides."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given, directory=str(JANUS_DEMOS))

    def do_GET(self) -> None:
        if self.path != "/settings.js":
            super().do_GET()
            return
        script = f"{(JANUS_DEMOS / 'settings.js').read_text()}\n{self.settings}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript")
        self.send_header("Content-Length", str(len(script)))
        self.end_headers()
        self.wfile.write(script)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@contextmanager
def pages(host: str, settings: str) -> Iterator[str]:
    """The demo's URL, while it is served."""
    handler = type("Files", (DemoFiles,), {"settings": settings})
    with ThreadingHTTPServer((host, 0), handler) as server:
        serving = Thread(target=server.serve_forever, name="demo pages")
        serving.start()
        try:
            yield f"http://{host}:{server.server_port}/streamingtest.html"
        finally:
            server.shutdown()
            serving.join()


async def choose(page: Page) -> None:
    """Press what a person presses."""
    await page.click("#start")
    await page.click("#streamset")
    await page.click("#streamslist a:has-text('Opus/VP8 live stream')")
    await page.click("#watch")


def viewers(gateway: GatewayProcess) -> int:
    return int(gateway.streams()[STREAM]["viewers"])


@pytest.mark.parametrize("settings", [BY_LONG_POLLS, BY_WEBSOCKET], ids=["long polls", "websocket"])
async def test_streaming_demo_plays_and_stops_and_plays_again(
    browser: Watchers, gateway: GatewayProcess, settings: str
) -> None:
    with pages(gateway.host, settings) as url:
        watching = await browser.open(url)
        await play_stop_and_play_again(watching, gateway)
        assert not watching.complaints


async def play_stop_and_play_again(watching: Watching, gateway: GatewayProcess) -> None:
    page = watching.page
    await choose(page)
    for last in (False, True):
        await page.wait_for_selector("#remotevideov:visible")
        await page.wait_for_function(
            "document.querySelector('#remotevideov').currentTime > 1",
            timeout=WITHIN_S * 1000 * SLOW,
        )
        figures = await watching.figures()
        assert figures["video"]["framesDecoded"] > 0
        assert figures["audio"]["totalSamplesReceived"] > 0
        await watching.shows("curresv", "x")
        await watching.shows("curbitratev", "kbits/sec")
        assert viewers(gateway) == 1
        await page.click("#watch:has-text('Stop')")
        await page.wait_for_function(ENDED, timeout=WITHIN_S * 1000 * SLOW)
        await eventually(lambda: viewers(gateway) == 0, WITHIN_S)
        if not last:
            await page.click("#watch:has-text('Watch or Listen')")
    assert not await page.locator(".bootbox").count()


@pytest.mark.parametrize("settings", [BY_LONG_POLLS, BY_WEBSOCKET], ids=["long polls", "websocket"])
async def test_demo_that_is_closed_leaves_no_viewer(
    browser: Watchers, gateway: GatewayProcess, settings: str
) -> None:
    """janus.js destroys its session when the page goes."""
    with pages(gateway.host, settings) as url:
        watching = await browser.open(url)
        await choose(watching.page)
        await eventually(lambda: viewers(gateway) == 1, WITHIN_S)
        await watching.page.goto("about:blank")
    await eventually(lambda: viewers(gateway) == 0, WITHIN_S)
