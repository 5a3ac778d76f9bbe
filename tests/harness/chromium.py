"""Chromium without a window: pages by its DevTools protocol, or loaded once and shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import aiohttp
from tests.harness.capabilities import require
from tests.harness.eventually import eventually
from tests.harness.tls_peers import run

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--no-proxy-server",
)
WITHIN_S = 30.0
"""For what takes a browser, its timers and a reconnection."""

T = TypeVar("T")


def load(url: str, home: Path, *more: str) -> str:
    """Load a page as a user whose home is `home`; what the browser shows, and its messages."""
    home.mkdir(exist_ok=True)
    flags = (*FLAGS, "--dump-dom", *more, f"--user-data-dir={home / 'profile'}")
    with _temporary() as tmpdir:
        return run("chromium", *flags, url, directory=home, home=home, tmpdir=tmpdir).stdout


def _temporary() -> TemporaryDirectory[str]:
    """For what Chromium leaves behind; its path is short, since sockets' must be."""
    return TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)


async def until(fact: Callable[[], Awaitable[T]]) -> T:
    """The first truthy result of an asynchronous fact."""
    return await eventually(fact, WITHIN_S)


class Tab:
    """One page of Chromium, by its DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self._number = 0

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of the protocol."""
        self._number += 1
        await self.socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            said = await self.socket.receive_json(timeout=WITHIN_S)
            if said.get("id") == self._number:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result

    async def run(self, script: str) -> Any:
        """The value of an expression; of a promise, what it is kept with."""
        result = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def open(self, url: str) -> None:
        """Load a page."""
        await self.call("Page.navigate", url=url)
        await eventually(lambda: self.run("document.readyState === 'complete'"), WITHIN_S)

    async def fill(self, form: str, **fields: str) -> None:
        """Write into a form's fields, and submit it."""
        for name, value in fields.items():
            field = f"document.getElementById({form!r}).elements[{name!r}]"
            await self.run(f"{field}.value = {json.dumps(value)}")
        await self.run(f"document.getElementById({form!r}).requestSubmit()")

    async def text(self, id: str) -> str:
        """What an element shows."""
        return str(await self.run(f"document.getElementById({id!r}).textContent"))


@asynccontextmanager
async def chromium(profile: Path) -> AsyncIterator[Tab]:
    """A browser with one tab."""
    require("chromium")
    tmpdir = _temporary()
    process = await asyncio.create_subprocess_exec(
        "chromium",
        *FLAGS,
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={"HOME": str(profile), "PATH": "/usr/bin:/bin", "TMPDIR": tmpdir.name},
    )
    place = profile / "DevToolsActivePort"
    try:
        await eventually(lambda: place.exists() and "\n" in place.read_text(), WITHIN_S)
        port = place.read_text().split("\n")[0]
        async with aiohttp.ClientSession() as session:

            async def page() -> str:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    pages = [each for each in await answer.json() if each["type"] == "page"]
                return str(pages[0]["webSocketDebuggerUrl"]) if pages else ""

            address = await until(page)
            async with session.ws_connect(address, max_msg_size=1 << 26) as socket:
                yield Tab(socket)
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)
        tmpdir.cleanup()
