"""KV PUT and catalog register on three nodes: ours beside real Consul, interleaved.

Claim: KV PUT at 32 clients, 200 bytes, to the leader is at least 1.3 times Consul's rate with a p99
no worse; catalog register at least its rate. Three rounds, medians, log level info.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.harness.clusters import Callboard, Cluster, Consul
from benchmarks.harness.load import Load, hey, median, verdict

ROUNDS = 3
VALUE = "v" * 200
REGISTER = json.dumps(
    {
        "Node": "bench",
        "Address": "10.0.0.9",
        "Service": {"Service": "web", "Tags": ["rails"], "Port": 80},
    }
)


def kv_put(cluster: Cluster) -> Load:
    """10,000 writes of one key to the leader."""
    return hey(f"{cluster.url(cluster.wait_leader())}/v1/kv/bench/x", method="PUT", body=VALUE)


def register(cluster: Cluster) -> Load:
    """10,000 registrations at the leader."""
    url = f"{cluster.url(cluster.wait_leader())}/v1/catalog/register"
    return hey(url, method="PUT", body=REGISTER)


def main() -> int:
    """Run, print, answer 1 when a bar is missed."""
    subprocess.run([str(Path("make/bench-peers.sh"))], check=True)
    figures: dict[tuple[str, str], list[Load]] = {}
    with Consul() as theirs, Callboard() as ours:
        for round_number in range(1, ROUNDS + 1):
            for job, work in (("kv put", kv_put), ("register", register)):
                for cluster in (theirs, ours):
                    load = work(cluster)
                    figures.setdefault((job, cluster.name), []).append(load)
                    print(f"round {round_number} {job:9} {cluster.name:10} {load}", flush=True)
    held = True
    for job, bar in (("kv put", 1.3), ("register", 1.0)):
        ours_median, theirs_median = (
            median(figures[job, name]) for name in (Callboard.name, Consul.name)
        )
        print(f"{job}: ours {ours_median}; Consul {theirs_median}")
        held &= verdict(f"{job} rate", ours_median.rate / theirs_median.rate, bar)
        held &= verdict(f"{job} p99 (inverse)", theirs_median.p99_ms / ours_median.p99_ms, 1.0)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
