"""Elections that nobody forced, in ten minutes of full load; and commits while the loop is busy.

Claim: none. 32 clients write as fast as they can for ten minutes (SECONDS_OF_LOAD changes that);
the term must not move. Then p99 of single writes is printed while 32 clients keep the leader's
event loop busy with reads (no bar).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request

from benchmarks.harness.clusters import Callboard, Cluster
from benchmarks.harness.load import hey

SECONDS = int(os.environ.get("SECONDS_OF_LOAD", "600"))


def term(cluster: Cluster, number: int) -> int:
    """The Raft term as a server's agent/self tells it."""
    with urllib.request.urlopen(f"{cluster.url(number)}/v1/agent/self", timeout=5) as answer:
        return int(json.load(answer)["Stats"]["raft"]["term"])


def full_load(url: str) -> str:
    """Write for the whole time; hey's line of requests per second."""
    command = ["hey", "-z", f"{SECONDS}s", "-c", "32", "-m", "PUT", "-d", "v" * 200, url]
    printed = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=SECONDS + 60
    ).stdout
    found = re.search(r"Requests/sec:\s+[\d.]+", printed)
    return found.group(0) if found else "no figure"


def busy_commits(cluster: Cluster, leader: int) -> None:
    """p50 and p99 of one writer while readers keep the loop busy."""
    readers = subprocess.Popen(
        ["hey", "-z", "20s", "-c", "32", f"{cluster.url(leader)}/v1/catalog/nodes"],
        stdout=subprocess.DEVNULL,
    )
    try:
        url = f"{cluster.url(leader)}/v1/kv/bench/busy"
        load = hey(url, method="PUT", body="v" * 200, requests=1000, clients=1)
    finally:
        readers.terminate()
        readers.wait()
    print(f"commit with the loop busy: p50 {load.p50_ms:.1f} ms, p99 {load.p99_ms:.1f} ms")


def main() -> int:
    """Run, print, answer 1 when there was an election."""
    with Callboard() as cluster:
        leader = cluster.wait_leader()
        before = term(cluster, leader)
        said = full_load(f"{cluster.url(leader)}/v1/kv/bench/steady")
        after = term(cluster, leader)
        busy_commits(cluster, cluster.wait_leader())
    held = before == after
    print(f"{SECONDS} s of full load, {said}: {after - before} elections (bar 0): ", end="")
    print("holds" if held else "MISSED")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
