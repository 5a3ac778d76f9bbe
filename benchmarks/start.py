"""How soon an agent answers, and three agents have a leader.

Claims: a single agent answers HTTP within 1.5 s of its start; three started at once on two cores
name a leader at status/leader within 3 s, p95 of 20 starts. Consul's times stand beside.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from benchmarks.harness.clusters import Callboard, Cluster, Consul
from benchmarks.harness.load import p95

STARTS = 20
LIMIT_S = 30.0


def first_answer_s(cluster: Cluster) -> float:
    """Seconds from the start of one server to its first HTTP answer."""
    began = time.monotonic()
    cluster.start(1)
    while time.monotonic() - began < LIMIT_S:
        try:
            with urllib.request.urlopen(f"{cluster.url(1)}/v1/status/leader", timeout=1):
                return time.monotonic() - began
        except OSError:
            time.sleep(0.01)
    raise TimeoutError(f"{cluster.name} does not answer")


def leader_named_s(cluster: Cluster) -> float:
    """Seconds from the start of three servers until one of them names a leader."""
    began = time.monotonic()
    for number in range(1, cluster.count + 1):
        cluster.start(number)
    while time.monotonic() - began < LIMIT_S:
        if cluster.leader() is not None:
            return time.monotonic() - began
        time.sleep(0.02)
    raise TimeoutError(f"{cluster.name} has no leader")


def main() -> int:
    """Run, print, answer 1 when a bar is missed."""
    subprocess.run([str(Path("make/bench-peers.sh"))], check=True)
    held = True
    for count, measure, what, bar in (
        (1, first_answer_s, "first HTTP answer of one", 1.5),
        (3, leader_named_s, "leader of three", 3.0),
    ):
        for kind in (Consul, Callboard):
            times = []
            for _ in range(STARTS):
                cluster = kind(count)
                try:
                    times.append(measure(cluster))
                finally:
                    cluster.__exit__()
            said = f"p95 {p95(times):.2f} s, worst {max(times):.2f} s of {STARTS} starts"
            if kind is Callboard:
                held &= p95(times) <= bar
                said += f" (bar {bar} s): {'holds' if p95(times) <= bar else 'MISSED'}"
            print(f"{what}: {kind.name} {said}", flush=True)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
