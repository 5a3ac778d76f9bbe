"""Three servers of one kind as local processes: real Consul, and ours, on loopback addresses.

Both listen on their usual ports, each server on an address of its own (127.x.y.z, Linux).
Everything started here is ended here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

READY_TIMEOUT_S = 30.0


class Cluster:
    """`count` servers; `with` starts and ends them. Subclasses say how one is started."""

    name = ""
    network = ""

    def __init__(self, count: int = 3, multiplier: int = 1) -> None:
        self.count = count
        self.multiplier = multiplier
        self.folder = Path(tempfile.mkdtemp(prefix="callboard-bench-"))
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cluster:
        for number in range(1, self.count + 1):
            self.start(number)
        self.wait_leader()
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self.processes):
            self.kill(number, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def address(self, number: int) -> str:
        """The server's own loopback address."""
        return f"{self.network}.{number}"

    def url(self, number: int) -> str:
        """The server's HTTP API."""
        return f"http://{self.address(number)}:8500"

    def command(self, number: int) -> list[str]:
        """How one server is started."""
        raise NotImplementedError

    def start(self, number: int) -> None:
        """Start one server (again, with its data directory)."""
        log = (self.folder / f"log-{number}").open("ab")
        environment = {**os.environ, "ALLOW_PLAIN": "1"}
        # What is installed has its bytecode: no start compiles it.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.processes[number] = subprocess.Popen(
            self.command(number), stdout=log, stderr=log, env=environment
        )
        log.close()

    def kill(self, number: int, how: signal.Signals = signal.SIGKILL) -> None:
        """End one server and wait for it."""
        process = self.processes.pop(number)
        process.send_signal(how)
        process.wait()

    def leader(self) -> int | None:
        """The number of the server that its peers call leader; None while there is none."""
        for number in self.processes:
            try:
                with urllib.request.urlopen(f"{self.url(number)}/v1/status/leader", timeout=1) as r:
                    said = json.load(r)
            except (OSError, ValueError):
                continue
            for candidate in self.processes:
                if said == f"{self.address(candidate)}:8300":
                    return candidate
        return None

    def wait_leader(self) -> int:
        """Wait until there is a leader and it takes writes; its number."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            number = self.leader()
            if number is not None and self.put(number, "bench/ready", b"1"):
                return number
            time.sleep(0.05)
        raise TimeoutError(f"{self.name}: no leader; logs in {self.folder}")

    def put(self, number: int, key: str, value: bytes, timeout_s: float = 1.0) -> bool:
        """Write a key by one server; False if it was not acknowledged."""
        request = urllib.request.Request(
            f"{self.url(number)}/v1/kv/{key}", data=value, method="PUT"
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return bool(answer.status == 200 and answer.read().strip() == b"true")
        except OSError:
            return False

    def joins(self) -> list[str]:
        """The flags that name all servers."""
        return [f"-retry-join={self.address(n)}" for n in range(1, self.count + 1)]


class Consul(Cluster):
    """The consul of Debian 11."""

    name = "consul"
    network = "127.21.0"

    def command(self, number: int) -> list[str]:
        config = self.folder / f"config-{number}.json"
        config.write_text(json.dumps({"performance": {"raft_multiplier": self.multiplier}}))
        return [
            "consul",
            "agent",
            "-server",
            f"-bootstrap-expect={self.count}",
            f"-node=c{number}",
            f"-bind={self.address(number)}",
            f"-client={self.address(number)}",
            f"-data-dir={self.folder / f'data-{number}'}",
            f"-config-file={config}",
            "-retry-interval=1s",
            "-log-level=info",
            *self.joins(),
        ]


class Callboard(Cluster):
    """Ours."""

    name = "callboard"
    network = "127.22.0"

    def command(self, number: int) -> list[str]:
        return [
            str(Path(sys.executable).with_name("callboard")),
            "agent",
            "-server",
            f"-bootstrap-expect={self.count}",
            f"-node=b{number}",
            f"-bind={self.address(number)}",
            f"-client={self.address(number)}",
            f"-source={self.address(number)}",
            f"-data-dir={self.folder / f'data-{number}'}",
            "-log-level=info",
            *self.joins(),
        ]
