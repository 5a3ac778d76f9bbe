"""DNS: the name server and an agent beside real Consul, by dnsperf; processor time per query.

Claim: an address or SRV query of a service with ten instances costs at most a fifth of Consul's
processor time, a node's at most a third, a missing name no more. Rates are printed too, but dnsperf
shares the machine and limits them.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness.clusters import Callboard, Cluster, Consul
from benchmarks.harness.load import verdict
from benchmarks.idle import cpu_s
from benchmarks.reads import fill

ROUNDS = 3
LOAD = ("-e", "-c", "8", "-q", "200", "-l", "3")
"""EDNS, 8 clients, 200 outstanding, 3 seconds."""
QUESTIONS = {
    "A": ("web.service.consul A", 5.0),
    "SRV": ("web.service.consul SRV", 5.0),
    "node": ("node-1.node.consul A", 3.0),
    "missing": ("nothing.service.consul A", 1.0),
}
"""The question, and the least ratio of Consul's processor time to ours."""


def dnsperf(cluster: Cluster, question: str) -> tuple[float, float]:
    """Microseconds of processor time per query, and queries per second."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(question + "\n")
        file.flush()
        process = cluster.processes[1]
        before = cpu_s(process.pid)
        printed = subprocess.run(
            ["dnsperf", *LOAD, "-s", cluster.address(1), "-p", "8600", "-d", file.name],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        used = cpu_s(process.pid) - before
    completed = _figure(r"Queries completed:\s+(\d+)", printed)
    return used / completed * 1e6, _figure(r"Queries per second:\s+([\d.]+)", printed)


def _figure(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"dnsperf did not print {pattern}:\n{text}")
    return float(found.group(1))


def main() -> int:
    """Run, print, answer 1 when a bar is missed."""
    subprocess.run([str(Path("make/bench-peers.sh"))], check=True)
    costs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with Consul(1) as theirs, Callboard(1) as ours:
        for cluster in (theirs, ours):
            fill(cluster)
        for _ in range(ROUNDS):
            for name, (question, _) in QUESTIONS.items():
                for cluster in (theirs, ours):
                    costs.setdefault((name, cluster.name), []).append(dnsperf(cluster, question))
    held = True
    for name, (_, bar) in QUESTIONS.items():
        us, them = (
            tuple(statistics.median(column) for column in zip(*costs[name, kind.name], strict=True))
            for kind in (Callboard, Consul)
        )
        print(f"{name}: ours {us[0]:.1f} us {us[1]:.0f}/s; Consul {them[0]:.1f} us {them[1]:.0f}/s")
        held &= verdict(f"{name}, Consul's processor time over ours", them[0] / us[0], bar)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
