"""What it costs to come and go: the gateway beside Janus of Debian; and whether anything stays.

A join is all of it: HTTP, ICE, DTLS, until the first packet of media, and the leave. Claims: it
takes at most as much of the gateway's processor time as of Janus'; 10,000 joins and leaves, of a
stream in full, leave the gateway's memory as it was after 2,000.

The stream is a sparse one (some packets a second), so that media weigh nothing; printed beside: the
stream in full, with which the gateway also sends all since the last keyframe, and Janus waits for
the next. Medians of three interleaved rounds.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.harness.load import below
from benchmarks.live import recording
from benchmarks.live.audience import Audience
from benchmarks.live.servers import DEFAULT, NATIVE, TUNED, LiveServer
from benchmarks.live.stage import medians, run, servers, stored

WARM, JOINS = 20, 200
BAR = 1.0
SAMPLES, EACH = 10, 1000
SETTLED = 2
"""Samples until memory has its size."""
GROWTH_BAR_MB = 2.0
"""Over 8,000 joins: what 250 octets of each would be."""


def join_ms(server: LiveServer, audience: Audience) -> float:
    """Milliseconds of the server's processor time for one."""
    with server:
        audience.churn(server.place, WARM)
        before = server.cpu_s()
        audience.churn(server.place, JOINS)
        return (server.cpu_s() - before) / JOINS * 1000


def flat(server: LiveServer, audience: Audience) -> bool:
    """Whether memory stays as it is with joins and leaves."""
    resident: list[float] = []
    with server:
        for number in range(1, SAMPLES + 1):
            took = audience.churn(server.place, EACH)
            resident.append(server.resident_bytes() / 1e6)
            print(
                f"  {server.name}, {number * EACH} joins and leaves: {resident[-1]:.1f} MB, "
                f"{server.sockets()} sockets ({EACH / took:.0f} joins/s)",
                flush=True,
            )
    growth = resident[-1] - resident[SETTLED - 1]
    holds = growth <= GROWTH_BAR_MB
    print(
        f"{server.name}: {growth:+.1f} MB from {SETTLED * EACH} to {SAMPLES * EACH} joins and "
        f"leaves (bar {GROWTH_BAR_MB} MB): {'holds' if holds else 'MISSED'}",
        flush=True,
    )
    return holds


def measure(folder: Path) -> bool:
    """All of it; whether the bars hold."""
    entries = recording.record()
    full = stored(folder, "full", entries)
    sparse = stored(folder, "sparse", recording.sparse(entries))
    all_ = servers(folder)
    held = True
    with Audience(folder / "viewers.log") as audience:
        for name, stream in (("sparse stream", sparse), ("full stream", full)):
            for server in all_:
                server.stream = stream
            cost = medians(name, "ms a join", all_, lambda server: join_ms(server, audience))
            for peer in (DEFAULT, TUNED):
                what, ratio = f"{name}: a join, of {peer}", cost[NATIVE] / cost[peer]
                if name == "sparse stream":
                    held &= below(what, ratio, BAR)
                else:
                    print(f"{what}: {ratio:.2f}x", flush=True)
        return flat(all_[0], audience) and held


if __name__ == "__main__":
    sys.exit(run(measure))
