"""A hub as a process that can be killed and started again, and nginx in front of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.harness import front_nginx
from tests.harness.eventually import eventually_sync
from tests.harness.sockets import free_port

from callboard.hub.auth import keys, tokens

WITHIN_S = 30.0


class HubProcess:
    """`callboard hub` on a port and a folder that stay the same; a context manager. All blocks."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._folder.mkdir(parents=True, exist_ok=True)
        argv = [
            *(sys.executable, "-m", "callboard.hub", f"-port={self.port}"),
            *(f"-data-dir={self._folder / 'data'}", "-node=hub-1", *self._flags),
        ]
        with (self._folder / "hub.log").open("ab") as log:
            self._process = process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
            )  # fmt: skip

        def listens() -> bool:
            assert process.poll() is None, (self._folder / "hub.log").read_text()[-800:]
            return _listens(self.port)

        eventually_sync(listens, WITHIN_S)

    def end(self, sign: signal.Signals) -> None:
        """End it by a signal, and wait for that."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(sign)
            process.wait(WITHIN_S)

    def token(self, action: str, *topics: str, lasts_s: float = 600.0) -> str:
        """A token that the hub takes; `action` is publish or subscribe."""
        pair = keys.load(self._folder / "data")
        key = pair.publisher if action == "publish" else pair.subscriber
        claims = {"mercure": {action: list(topics)}, "exp": int(time.time() + lasts_s)}
        return tokens.sign(key, claims, access_token=False)

    def figures(self) -> dict[str, Any]:
        """What GET /stats tells."""
        with urllib.request.urlopen(f"{self.url}/stats", timeout=WITHIN_S) as answer:
            return dict(json.load(answer))

    def __enter__(self) -> HubProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)


@asynccontextmanager
async def nginx(folder: Path, port: int, directives: Sequence[str] = ()) -> AsyncIterator[str]:
    """nginx in front of a hub, with `proxy_pass`, these directives, and its defaults; its URL."""
    own = free_port()
    proxied = "; ".join([f"proxy_pass http://127.0.0.1:{port}", *directives])
    inside = f"  server {{ listen 127.0.0.1:{own}; location / {{ {proxied}; }} }}"
    async with front_nginx.running(folder, inside, own):
        yield f"http://127.0.0.1:{own}"


def _listens(port: int) -> bool:
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    return True
