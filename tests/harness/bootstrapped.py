"""One server agent that is a cluster of its own: the command line, and what tests ask it."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.harness.asking import Reply, http
from tests.harness.eventually import eventually_sync
from tests.harness.lone import Lone, running

HTTP, DNS, RPC, GOSSIP, HEALTH = 8500, 8600, 8300, 8301, 9090


@dataclass(slots=True)
class Agent:
    """A running agent and where it is."""

    lone: Lone
    place: str

    def url(self, path: str = "") -> str:
        """Return the URL of a path of its API."""
        return f"http://{self.place}:{HTTP}{path}"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Make one request."""
        return http(method, self.url(path), body, headers=headers, timeout_s=15.0)

    def puts(self, key: str = "alive", value: bytes = b"1") -> bool:
        """Write a key; say whether the write was acknowledged."""
        with suppress(OSError):
            return self.ask("PUT", f"/v1/kv/{key}", value).body.strip() == b"true"
        return False

    def metric(self, name: str) -> float:
        """Return a value of its /metrics."""
        text = http("GET", f"http://{self.place}:{HEALTH}/metrics").body.decode()
        [line] = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(line.split()[1])

    def connected(self, port: int = HTTP) -> socket.socket:
        """Open a connection to one of its ports."""
        return socket.create_connection((self.place, port), 5.0)


def command_line(place: str, data: Path, node: str = "one", *more: str) -> list[str]:
    """Return the arguments of an agent that founds a cluster of its own."""
    return [
        *("agent", "-server", "-bootstrap", "-data-dir", str(data), "-node", node),
        *("-bind", place, "-client", place, "-health", f"{place}:{HEALTH}", *more),
    ]


@contextmanager
def agent(
    place: str, directory: Path, *more: str, node: str = "one", wrap: Sequence[str] = ()
) -> Iterator[Agent]:
    """Run one until the block ends; it takes writes when the block begins."""
    argv = command_line(place, directory / "data", node, *more)
    with running(argv, directory / f"{node}.log", directory, wrap) as lone:
        one = Agent(lone, place)
        lone.wait_for(one.url("/v1/status/leader"))
        eventually_sync(one.puts)
        yield one
