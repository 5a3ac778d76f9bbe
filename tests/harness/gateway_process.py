"""A gateway as a process that can be killed and started again, on ports that stay the same."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.harness.asking import http
from tests.harness.eventually import SLOW, eventually_sync
from tests.harness.sockets import free_port

WITHIN_S = 30.0

PORTS = ("port", "media-port", "janus-port", "janus-ws-port", "rtp-port", "rtp-audio-port")
"""Flags of ports that a gateway has by itself."""


class GatewayProcess:
    """`callboard gateway` at loopback; a context manager. All blocks."""

    def __init__(self, folder: Path, *flags: str, host: str = "127.0.0.1") -> None:
        """`flags` come after ours, and win."""
        self.host = host
        self.ports = {name: free_port(host) for name in (*PORTS, "health")}
        self.url = f"http://{host}:{self.ports['port']}"
        self.health_url = f"http://{host}:{self.ports['health']}"
        self.folder = folder
        self.flags = flags
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it wrote so far, of all its lives."""
        path = self.folder / "gateway.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        argv = [
            *(sys.executable, "-m", "callboard.gateway", f"-bind={self.host}", "-node=gateway-1"),
            *(f"-{flag}={self.ports[flag]}" for flag in PORTS),
            *(f"-health={self.host}:{self.ports['health']}", *self.flags),
        ]
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )

        def ready() -> bool:
            assert process.poll() is None, self.log[-2000:]
            return http("GET", f"{self.health_url}/readyz").status == 200

        eventually_sync(ready, WITHIN_S)

    def end(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal, and wait for that; its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(sign)
        return process.wait(WITHIN_S * SLOW)

    def streams(self) -> dict[str, dict[str, Any]]:
        """What GET /streams tells, by name."""
        with urllib.request.urlopen(f"{self.url}/streams", timeout=WITHIN_S) as answer:
            told = json.load(answer)
        listed = told["streams"] if isinstance(told, dict) else told
        return {stream["name"]: stream for stream in listed}

    def metric(self, line: str) -> float:
        """A value of /metrics by name and labels; 0.0 when it is not there."""
        with urllib.request.urlopen(f"{self.health_url}/metrics", timeout=WITHIN_S) as answer:
            told = answer.read().decode()
        values = [each.rpartition(" ")[2] for each in told.splitlines() if each.startswith(line)]
        return float(values[0]) if values else 0.0

    def wait_gone(self) -> float:
        """Wait until nothing answers at its port; how long that took, in seconds."""
        begun = time.monotonic()

        def gone() -> bool:
            try:
                socket.create_connection((self.host, self.ports["port"]), timeout=1).close()
            except OSError:
                return True
            return False

        eventually_sync(gone, WITHIN_S)
        return time.monotonic() - begun

    def __enter__(self) -> GatewayProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)
