"""HTTP reads: ours beside real Consul, one server of each, ten instances of a service.

Claim: catalog and health reads at 32 clients come at no less than Consul's rate, although ours are
linearizable where Consul's default trusts a lease. Three interleaved rounds, medians.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from benchmarks.harness.clusters import Callboard, Cluster, Consul
from benchmarks.harness.load import Load, hey, median, verdict

ROUNDS = 3
PATHS = {
    "catalog/service": "/v1/catalog/service/web",
    "health/service": "/v1/health/service/web?passing",
    "kv": "/v1/kv/bench/ready",
    "kv stale": "/v1/kv/bench/ready?stale",
}


def fill(cluster: Cluster) -> None:
    """Ten nodes, each with an instance of `web` and a check."""
    for number in range(10):
        body = {
            "Node": f"node-{number}",
            "Address": f"10.0.0.{number + 1}",
            "Service": {"Service": "web", "Tags": ["rails"], "Port": 80},
            "Check": {"Name": "up", "Status": "passing", "ServiceID": "web"},
        }
        request = urllib.request.Request(
            f"{cluster.url(1)}/v1/catalog/register", data=json.dumps(body).encode(), method="PUT"
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.read().strip() == b"true"


def main() -> int:
    """Run, print, answer 1 when a bar is missed."""
    subprocess.run([str(Path("make/bench-peers.sh"))], check=True)
    figures: dict[tuple[str, str], list[Load]] = {}
    with Consul(1) as theirs, Callboard(1) as ours:
        for cluster in (theirs, ours):
            fill(cluster)
        for _ in range(ROUNDS):
            for name, path in PATHS.items():
                for cluster in (theirs, ours):
                    load = hey(cluster.url(1) + path, method="GET", body="")
                    figures.setdefault((name, cluster.name), []).append(load)
    held = True
    for name in PATHS:
        us, them = (median(figures[name, kind.name]) for kind in (Callboard, Consul))
        print(f"{name}: ours {us}; Consul {them}")
        held &= verdict(f"{name} rate", us.rate / them.rate, 1.0)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
