"""What subscribers cost a hub in memory, idle and stalled; nginx with nchan beside it.

Claims: an idle subscriber costs at most 5 kB plain and 35 kB by TLS (growth of the hub's resident
memory, without the kernel's buffers). With 50 readers that have stalled, 20 MB published cost at
most 20 MB more, in a hub whose memory of the newest events is full; all that stalled are cut, 30 s
later, and no reader that makes progress is: there are ten slow ones, and ten that read all at once.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.harness.hubs import Callboard, Hub, Nchan, peer_is_here, raise_files
from benchmarks.harness.servers import certify
from benchmarks.harness.stream_load import Load, run, with_tls

IDLE = {"plain": (4000, 5.0), "TLS": (2000, 35.0)}
"""Subscribers, and kB that one may cost."""
SETTLE_S = 1.0

STALLED = 50
SLOW, SLOW_BYTES_PER_S = 10, 512 * 1024
QUICK = 10
EVENTS, EVENT_BYTES = 20_000, 1000
FILLING = 60_000
"""Events before those, with one reader: the hub keeps the newest in memory, and as they were sent,
up to a bound, however many read."""
IN_FLIGHT = 16
STALLED_BAR_MB = 20.0
CUT_WITHIN_S = 60.0
"""30 s without progress, from when the kernel's buffers are full, and some patience."""


def idle_kb(hub: Hub, subscribers: int, topic: str) -> float:
    """What one of so many idle subscribers costs, in kB."""
    with Load(hub, topic, "-n", subscribers) as first:
        first.ready_s()
        time.sleep(SETTLE_S)
        before = hub.resident_bytes()
        with Load(hub, topic, "-n", subscribers) as further:
            further.ready_s()
            time.sleep(SETTLE_S)
            return (hub.resident_bytes() - before) / subscribers / 1000


def idle(folder: Path, peer: bool, files: int) -> bool:
    """Print what idle subscribers cost; whether the bars hold.

    The cost is the growth from N to 2 N: what the first ones make a process load or set aside once
    is no cost of a subscriber.
    """
    held = True
    for kind, (wanted, bar) in IDLE.items():
        if kind == "TLS" and not with_tls():
            continue
        subscribers = min(wanted, (files - 200) // 2)
        place = folder / kind
        place.mkdir()
        tls = certify(place) if kind == "TLS" else None
        with ExitStack() as stack:
            cost = idle_kb(stack.enter_context(Callboard(place, tls)), subscribers, "idle")
            holds = cost <= bar
            held &= holds
            print(
                f"{kind}: an idle subscriber costs {cost:.1f} kB, {subscribers} more of them (bar "
                f"{bar:.0f} kB): {'holds' if holds else 'MISSED'}",
                flush=True,
            )
            if peer:
                cost = idle_kb(stack.enter_context(Nchan(place, tls)), subscribers, "idle")
                print(f"{kind}: one of nchan's costs {cost:.1f} kB", flush=True)
    return held


def stalled(folder: Path) -> bool:
    """Print what stalled readers cost, and what becomes of them; whether the bars hold."""
    options = ["-n", QUICK, "-x", STALLED, "-y", SLOW, "-z", SLOW_BYTES_PER_S, "-w", 30]
    options += ["-m", EVENTS, "-b", EVENT_BYTES, "-c", IN_FLIGHT]
    filling = ["-n", 1, "-m", FILLING, "-b", EVENT_BYTES, "-c", IN_FLIGHT]
    with Callboard(folder, acknowledge="durable") as hub, Load(hub, "stalled", *options) as load:
        run(hub, "filling", *filling)
        load.ready_s()
        time.sleep(SETTLE_S)
        before, most = hub.resident_bytes(), 0
        connected = hub.sockets()
        load.go()
        began = time.monotonic()
        cut_s = None
        while time.monotonic() - began < CUT_WITHIN_S and cut_s is None:
            most = max(most, hub.resident_bytes())
            if hub.sockets() <= connected - STALLED:
                cut_s = time.monotonic() - began
            time.sleep(0.2)
        seen = load.seen()
        left = hub.sockets() - (connected - STALLED)
    grown = (most - before) / 1e6
    within = grown <= STALLED_BAR_MB
    whole = seen.whole and not seen.lost
    verdict = "holds" if within else "MISSED"
    print(
        f"{STALLED} stalled readers, {EVENTS * EVENT_BYTES / 1e6:.0f} MB published: {grown:.1f} MB "
        f"more than {before / 1e6:.0f} (bar {STALLED_BAR_MB:.0f} MB): {verdict}"
    )
    when = f"the last after {cut_s:.0f} s" if cut_s is not None else f"{left} were not"
    print(f"all stalled readers are cut: {when}: {'holds' if cut_s is not None else 'MISSED'}")
    print(
        f"{QUICK} quick readers and {SLOW} of {SLOW_BYTES_PER_S // 1024} kB/s have all, uncut: "
        f"{'holds' if whole else f'MISSED ({seen.told()})'}",
        flush=True,
    )
    return within and cut_s is not None and whole


def main() -> int:
    """Run, print, answer 1 when a bar is missed."""
    files, peer = raise_files(), peer_is_here()
    folder = Path(tempfile.mkdtemp(prefix="callboard-bench-"))
    try:
        held = idle(folder, peer, files)
        return 0 if stalled(folder) and held else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
