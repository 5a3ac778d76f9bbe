"""Load by hey, and what it printed."""

from __future__ import annotations

import re
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """One run: requests per second, and milliseconds."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int


def hey(url: str, *, method: str, body: str, requests: int = 10_000, clients: int = 32) -> Load:
    """Run hey once against a URL."""
    printed = subprocess.run(
        ["hey", "-c", str(clients), "-n", str(requests), "-m", method, "-d", body, url],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout
    codes = {int(c): int(n) for c, n in re.findall(r"\[(\d{3})\]\s+(\d+) responses", printed)}
    return Load(
        rate=_figure(r"Requests/sec:\s+([\d.]+)", printed),
        p50_ms=_figure(r"50%+ in ([\d.]+) secs", printed) * 1000,
        p99_ms=_figure(r"99%+ in ([\d.]+) secs", printed) * 1000,
        failed=requests // clients * clients - codes.get(200, 0),
    )


def _figure(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"hey did not print {pattern}:\n{text}")
    return float(found.group(1))


def median(loads: Sequence[Load]) -> Load:
    """The median of each figure."""
    return Load(
        rate=statistics.median(load.rate for load in loads),
        p50_ms=statistics.median(load.p50_ms for load in loads),
        p99_ms=statistics.median(load.p99_ms for load in loads),
        failed=max(load.failed for load in loads),
    )


def p95(values: Sequence[float]) -> float:
    """The 95th percentile (of 20: the second largest)."""
    return sorted(values)[int(len(values) * 0.95) - 1]


def verdict(name: str, ratio: float, bar: float) -> bool:
    """Print a ratio with the bar that it must reach; whether it holds."""
    return _told(name, ratio, bar, ratio >= bar)


def below(name: str, ratio: float, bar: float) -> bool:
    """Print a ratio with the bar that it must not pass; whether it holds."""
    return _told(name, ratio, bar, ratio <= bar)


def _told(name: str, ratio: float, bar: float, holds: bool) -> bool:
    print(f"{name}: {ratio:.2f}x (bar {bar:.2f}x): {'holds' if holds else 'MISSED'}", flush=True)
    return holds
