"""Load on a hub by sse_load.c, compiled here: subscribers, a publisher, and what they saw."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.harness.hubs import Hub

SOURCE = Path(__file__).with_name("sse_load.c")
PLACE = Path(".build/sse_load")
TIMEOUT_S = 180.0


class NotWhole(Exception):
    """Events are missing, were repeated or came in another order to one subscriber."""


@cache
def with_tls() -> bool:
    """Whether the load can speak TLS: OpenSSL's headers are here. Says so if not."""
    probe = subprocess.run(
        ["cc", "-E", "-include", "openssl/ssl.h", "-x", "c", "/dev/null"],
        capture_output=True,
        check=False,
    )
    if probe.returncode:
        print("no rows with TLS: OpenSSL's headers are not here (apt-get install libssl-dev)")
    return probe.returncode == 0


@cache
def compiled() -> str:
    """The load's program, made anew when its source has changed."""
    if shutil.which("cc") is None:
        raise FileNotFoundError("the load is written in C: apt-get install gcc libc6-dev")
    newest = max(file.stat().st_mtime for file in SOURCE.parent.glob("sse_*.[ch]"))
    if not PLACE.exists() or PLACE.stat().st_mtime < newest:
        PLACE.parent.mkdir(exist_ok=True)
        tls = ["-DWITH_TLS", "-lssl", "-lcrypto"] if with_tls() else []
        subprocess.run(
            ["cc", "-std=gnu11", "-O2", "-pthread", "-o", str(PLACE), str(SOURCE), *tls],
            check=True,
        )
    return str(PLACE)


@dataclass(frozen=True, slots=True)
class Seen:
    """What subscribers saw of one run. Milliseconds from when an event was sent, or was due."""

    delivered: int
    expected: int
    elapsed_s: float
    """From the first publication (or subscription, of a replay) to the last delivery."""
    gaps: int
    repeats: int
    strange: int
    """Events that nobody published."""
    p50_ms: float
    p99_ms: float
    """Of all deliveries."""
    last_p99_ms: float
    """To the last subscriber that got an event."""
    published: int
    publish_s: float
    publish_failures: int
    reason: str
    """Of the first failure."""
    reply_p99_ms: float
    """Of publications."""
    lost: int
    """Streams that ended."""
    refused: int
    """Attempts that led to no stream."""
    back_s: float
    """From the first lost stream until all are back; -1: not all came."""

    @property
    def whole(self) -> bool:
        """Whether every subscriber has every event, once, and all in the same order."""
        wrong = self.gaps or self.repeats or self.strange
        return self.delivered == self.expected and not wrong

    def told(self) -> str:
        """What is not as it should be."""
        return (
            f"{self.delivered} of {self.expected} deliveries, {self.gaps} gaps, {self.repeats} "
            f"repeats, {self.strange} strange, {self.lost} streams lost, {self.publish_failures} "
            f"publications failed {self.reason}"
        )


class Load:
    """The load's process; `with` starts it, and ends it with all its connections."""

    def __init__(self, hub: Hub, topic: str, *options: object) -> None:
        """`options` are sse_load.c's."""
        self._command = [
            compiled(),
            "-s",
            hub.place(hub.subscribe_path + topic),
            "-p",
            hub.place(hub.publish_path + topic),
            *(part for header in hub.publish_headers for part in ("-h", header)),
            *map(str, options),
        ]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(
            ["timeout", str(TIMEOUT_S), *self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ready_s(self) -> float:
        """Wait until all are connected; how long it took."""
        return float(self._line()["ready_s"])

    def go(self) -> None:
        """Publish."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def seen(self) -> Seen:
        """Wait until all is published and has come, or nothing comes any more."""
        return Seen(**self._line())

    def _line(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load has ended ({self._process.wait()}): {self._command}")
        figures: dict[str, Any] = json.loads(line)
        return figures


@dataclass(frozen=True, slots=True)
class Cost:
    """One run, and what it cost the hub."""

    seen: Seen
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Deliveries a second."""
        return self.seen.delivered / self.seen.elapsed_s

    @property
    def per_cpu_s(self) -> float:
        """Deliveries in a second of the hub's processor time."""
        return self.seen.delivered / max(self.cpu_s, 0.01)


def middle(costs: Sequence[Cost], figure: Callable[[Cost], float]) -> float:
    """The median of a figure."""
    return statistics.median(map(figure, costs))


def run(hub: Hub, topic: str, *options: object) -> Cost:
    """Connect, publish, read all. Raises NotWhole unless every subscriber has every event."""
    with Load(hub, topic, *options) as load:
        load.ready_s()
        before = hub.cpu_s()
        load.go()
        seen = load.seen()
        cost = Cost(seen, hub.cpu_s() - before)
    if not seen.whole or seen.publish_failures:
        raise NotWhole(f"{hub.name}: {seen.told()}")
    return cost
