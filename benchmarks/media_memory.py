"""What a viewer of live video costs in resident memory: the gateway beside Janus of Debian.

Claim: at most 0.3 MB, without the kernel's buffers. The cost is the growth from 50 viewers to 150:
what the first ones make a process load or set aside once is no cost of a viewer.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.live import recording
from benchmarks.live.audience import Audience
from benchmarks.live.servers import NATIVE, PLAIN, LiveServer
from benchmarks.live.stage import run, servers, stored

FIRST, MORE = 50, 100
SETTLE_S = 10.0
BAR_MB = 0.3


def viewer_mb(server: LiveServer, audience: Audience) -> tuple[float, float]:
    """What one costs, and what there is without any, in MB."""
    with server:
        audience.churn(server.place, 1)
        alone = server.resident_bytes()
        audience.join(server.place, FIRST)
        time.sleep(SETTLE_S)
        before = server.resident_bytes()
        audience.join(server.place, MORE)
        time.sleep(SETTLE_S)
        after = server.resident_bytes()
        audience.leave()
    return (after - before) / MORE / 1e6, alone / 1e6


def measure(folder: Path) -> bool:
    """All of it; whether the bar holds."""
    stream = stored(folder, "full", recording.record())
    held = True
    with Audience(folder / "viewers.log") as audience:
        for server in servers(folder):
            server.stream = stream
            cost, alone = viewer_mb(server, audience)
            said = ""
            if server.name in (NATIVE, PLAIN):
                held &= cost <= BAR_MB
                said = f" (bar {BAR_MB} MB): {'holds' if cost <= BAR_MB else 'MISSED'}"
            what = f"a viewer costs {cost:.3f} MB, the process without any has {alone:.0f} MB"
            print(f"{server.name}: {what}{said}", flush=True)
    return held


if __name__ == "__main__":
    sys.exit(run(measure))
