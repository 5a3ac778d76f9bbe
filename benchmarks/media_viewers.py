"""Live video to 50 and 120 viewers: the gateway beside Janus of Debian, processor time and loss.

The same recorded RTP (0.92 Mbit/s of VP8, Opus) to each; viewers are a process in a network
namespace of their own. Claims. At 50 viewers the server's processor time per viewer is, with the C
helper, at most 0.4 times Janus' with its defaults and 0.7 times Janus' with one event loop; in
Python 0.6 and 1.1 times. 120 viewers with equal buffers miss no packet in 60 s, before any is asked
for again.

Medians of three interleaved rounds. Viewers and sender run on the same machine: read ratios.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.load import below
from benchmarks.live import recording
from benchmarks.live.audience import Audience, Watched
from benchmarks.live.servers import DEFAULT, NATIVE, PLAIN, TUNED, LiveServer
from benchmarks.live.stage import medians, run, servers, stored

VIEWERS, MEASURED_S = 50, 15.0
MANY, MANY_S = 120, 60.0
SETTLE_S = 4.0
BARS = {NATIVE: {DEFAULT: 0.4, TUNED: 0.7}, PLAIN: {DEFAULT: 0.6, TUNED: 1.1}}


def watch(
    server: LiveServer, audience: Audience, viewers: int, seconds: float
) -> tuple[float, Watched, list[str]]:
    """Processor time of the server with so many viewers, in cores; what they saw; ciphers."""
    with server:
        profiles = audience.join(server.place, viewers)
        time.sleep(SETTLE_S)
        before = server.cpu_s()
        watched = audience.count(seconds)
        used = server.cpu_s() - before
        audience.leave()
    return used / watched.seconds, watched, profiles


def compare(all_: Sequence[LiveServer], audience: Audience, wanted: float) -> bool:
    """Processor time at 50 viewers; whether the bars hold."""

    def percent(server: LiveServer) -> float:
        cores, watched, profiles = watch(server, audience, VIEWERS, MEASURED_S)
        watched.check(wanted)
        print(
            f"  {server.name}: {100 * cores:.1f} % of a core, {', '.join(profiles)}, "
            f"{watched.rate:.0f} packets/s each, {watched.lost} missing, viewers "
            f"{100 * watched.busy:.0f} % of a core",
            flush=True,
        )
        return 100 * cores / VIEWERS

    middle = medians(f"{VIEWERS} viewers", "% of a core each", all_, percent)
    held = True
    for ours, bars in BARS.items():
        for theirs, bar in bars.items():
            what = f"{VIEWERS} viewers, {ours}: processor time, of {theirs}"
            held &= below(what, middle[ours] / middle[theirs], bar)
    return held


def lose(all_: Sequence[LiveServer], audience: Audience, wanted: float) -> bool:
    """What 120 viewers miss in a minute; whether ours miss nothing."""
    held = True
    for server in all_:
        cores, watched, _ = watch(server, audience, MANY, MANY_S)
        what = f"{MANY} viewers, {MANY_S:.0f} s, {server.name}"
        print(
            f"{what}: {watched.lost} of {sum(watched.received) + watched.lost} packets missing, "
            f"at {sum(map(bool, watched.missing))} viewers ({watched.dropped} dropped between the "
            f"two or by the viewers' sockets), {100 * cores / MANY:.3f} % of a core each"
        )
        if server.name in BARS:
            watched.check(wanted)
            said = "holds" if watched.lost == 0 else "MISSED"
            print(f"{what}: {watched.lost} missing (bar 0): {said}", flush=True)
            held &= watched.lost == 0
    return held


def measure(folder: Path) -> bool:
    """All of it; whether all bars hold."""
    entries = recording.record()
    stream, wanted = stored(folder, "full", entries), recording.rate(entries)[0]
    all_ = servers(folder)
    for server in all_:
        server.stream = stream
    with Audience(folder / "viewers.log") as audience:
        held = compare(all_, audience, wanted)
        return lose(all_, audience, wanted) and held


if __name__ == "__main__":
    sys.exit(run(measure))
