"""Firefox without a window, driven by WebDriver BiDi: nothing but Debian's firefox-esr is needed.

    async with firefox(folder) as tab:
        await tab.open(url)
        await tab.click("#watch")
        assert await tab.run("document.title") == "Callboard live"

Source: W3C, WebDriver BiDi. Certificates are not looked at (`acceptInsecureCerts`).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from tests.harness.capabilities import require
from tests.harness.eventually import SLOW, eventually

PROGRAM = "firefox-esr"
WITHIN_S = 60.0
"""For a start with a new profile, and for a page."""
PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "media.autoplay.default": 0,
    "media.gmp-manager.url": "",
    "media.gmp-provider.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 0,
    "toolkit.telemetry.server": "",
}
"""Nothing is fetched from anywhere, and sound needs no click."""

_LISTENS = re.compile(r"WebDriver BiDi listening on (ws://\S+)")


class Tab:
    """One page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._context = ""

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a command of the protocol. Raises AssertionError for its errors."""
        self._number += 1
        number = self._number
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            said = await self._socket.receive_json(timeout=WITHIN_S * SLOW)
            if said.get("id") == number:
                assert said["type"] == "success", said
                result: dict[str, Any] = said["result"]
                return result

    async def begin(self) -> None:
        """Begin the session; the tab is the browser's first."""
        wanted = {"alwaysMatch": {"acceptInsecureCerts": True}}
        await self.call("session.new", capabilities=wanted)
        tree = await self.call("browsingContext.getTree")
        self._context = tree["contexts"][0]["context"]

    async def open(self, url: str) -> None:
        """Load a page."""
        await self.call("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def run(self, script: str) -> Any:
        """The value of an expression (or of its promise): a string, a number, a truth or None."""
        result = await self.call(
            "script.evaluate",
            expression=script,
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
        )
        assert result["type"] == "success", result
        return result["result"].get("value")

    async def click(self, selector: str) -> None:
        """Press an element once it is there and enabled."""
        found = f"document.querySelector({json.dumps(selector)})"
        await self.holds(f"{found} !== null && !{found}.disabled")
        await self.run(f"{found}.click()")

    async def holds(self, script: str, within_s: float = WITHIN_S) -> None:
        """Wait until an expression is true."""

        async def is_true() -> bool:
            return await self.run(script) is True

        held: bool = await eventually(is_true, within_s, 0.1)
        assert held


@asynccontextmanager
async def firefox(folder: Path) -> AsyncIterator[Tab]:
    """A browser with one tab, until the block's end; its profile and log lie in `folder`."""
    require(PROGRAM)
    profile, log = folder / "profile", folder / "firefox.log"
    profile.mkdir(parents=True)
    lines = (
        f"user_pref({json.dumps(name)}, {json.dumps(value)});"
        for name, value in PREFERENCES.items()
    )
    (profile / "user.js").write_text("\n".join(lines))
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(PROGRAM, "--headless", "--no-remote", "--profile", str(profile)),
            "--remote-debugging-port=0",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"HOME": str(folder), "PATH": "/usr/bin:/bin", "MOZ_CRASHREPORTER_DISABLE": "1"},
        )
    try:
        told = await eventually(lambda: _LISTENS.search(log.read_text(errors="replace")), WITHIN_S)
        assert told is not None
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{told[1]}/session", max_msg_size=1 << 26) as socket,
        ):
            tab = Tab(socket)
            await tab.begin()
            yield tab
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 30)
