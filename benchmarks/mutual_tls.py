"""KV PUT on three nodes of ours: mutual TLS between them beside the clear, interleaved.

Claim: TLS costs a write to the leader at most a quarter of its rate and of its p99, one by way of
a follower (three connections between agents) at most a third, and never an election. Clients speak
plain HTTP in both. Three rounds, medians; then processor time of idle servers (heartbeats).
"""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness.clusters import Callboard, Cluster
from benchmarks.harness.load import Load, hey, median, verdict

from callboard.pki import certificates
from callboard.pki.roles import names_for

ROUNDS = 3
VALUE = "v" * 200
IDLE_S = 20.0
BARS = {"leader": (0.75, 0.75), "follower": (0.67, 0.67)}
"""By where the write comes in: of the rate, and of the p99 (inverse)."""
IDLE_BAR = 1.5
"""Of an idle server's processor time: heartbeats are ten a second and follower."""


class Secured(Callboard):
    """Ours, each server with a certificate of one CA."""

    name = "mutual TLS"
    network = "127.23.0"

    def __init__(self) -> None:
        super().__init__()
        self._key = certificates.new_key()
        self._authority = certificates.authority(self._key, "benchmark", datetime.now(UTC))

    def command(self, number: int) -> list[str]:
        place = self.folder / f"identity-{number}"
        if not place.exists():
            self._identify(place, f"b{number}")
        return [*super().command(number), f"-identity={place}"]

    def _identify(self, place: Path, node: str) -> None:
        now, key = datetime.now(UTC), certificates.new_key()
        leaf = certificates.leaf(
            key.public_key(),
            names_for("server", node),
            self._authority,
            self._key,
            now,
            common_name=node,
        )
        listed = certificates.revocation_list(self._authority, self._key, [], now, number=1)
        place.mkdir(mode=0o700)
        (place / "key.pem").touch(0o600)
        for name, body in (
            ("key.pem", certificates.key_pem(key)),
            ("certificate.pem", certificates.pem(leaf)),
            ("ca.pem", certificates.pem(self._authority)),
            ("crl.pem", certificates.pem(listed)),
        ):
            (place / name).write_bytes(body)


def put(cluster: Cluster, where: str) -> Load:
    """10,000 writes of one key, at the leader or at a follower."""
    leader = cluster.wait_leader()
    number = leader if where == "leader" else next(n for n in cluster.processes if n != leader)
    return hey(f"{cluster.url(number)}/v1/kv/bench/x", method="PUT", body=VALUE)


def processor_s(cluster: Cluster) -> float:
    """Seconds of processor time that all servers have taken so far."""
    total = 0.0
    for process in cluster.processes.values():
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / 100
    return total


def idle(cluster: Cluster) -> float:
    """Percent of a core that one idle server takes."""
    cluster.wait_leader()
    before = processor_s(cluster)
    time.sleep(IDLE_S)
    return (processor_s(cluster) - before) / IDLE_S / len(cluster.processes) * 100


def main() -> int:
    """Run, print, answer 1 when a bar is missed."""
    subprocess.run([str(Path("make/bench-peers.sh"))], check=True)
    figures: dict[tuple[str, str], list[Load]] = {}
    with Callboard() as clear, Secured() as secured:
        clusters: tuple[Cluster, Cluster] = (clear, secured)
        leaders = [cluster.wait_leader() for cluster in clusters]
        for round_number in range(1, ROUNDS + 1):
            for where in BARS:
                for cluster in clusters:
                    load = put(cluster, where)
                    figures.setdefault((where, cluster.name), []).append(load)
                    print(f"round {round_number} {where:8} {cluster.name:10} {load}", flush=True)
        same = [cluster.wait_leader() for cluster in clusters] == leaders
        shares = [idle(cluster) for cluster in clusters]
    held = same
    print(f"elections under load: {'none' if same else 'some: MISSED'}")
    for where, (rate_bar, p99_bar) in BARS.items():
        plain, tls = (median(figures[where, name]) for name in (Callboard.name, Secured.name))
        print(f"{where}: clear {plain}; mutual TLS {tls}")
        held &= verdict(f"{where} rate, TLS to clear", tls.rate / plain.rate, rate_bar)
        held &= verdict(f"{where} p99 (inverse)", plain.p99_ms / tls.p99_ms, p99_bar)
    print(f"idle server: clear {shares[0]:.2f} % of a core, mutual TLS {shares[1]:.2f} %")
    held &= verdict("idle (inverse)", shares[0] / shares[1], 1 / IDLE_BAR)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
