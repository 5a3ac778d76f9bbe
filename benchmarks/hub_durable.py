"""The durable mode over HTTP, replay, and 5,000 subscribers by TLS whose hub is killed.

Claims: 64 publications in flight, each on the disk before its reply, at least 3,000 a second; a
reader that resumes 100,000 events back gets at least 100,000 a second; after the hub of 5,000
subscribers by TLS is killed (SIGKILL) and started again, all are back within 20 s, no event is
missing or repeated, and /readyz answers all the while. nchan keeps nothing on a disk: no peer.
"""

from __future__ import annotations

import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from benchmarks.harness.hubs import Callboard, raise_files
from benchmarks.harness.servers import certify, free_ports
from benchmarks.harness.stream_load import Load, NotWhole, run, with_tls

ROUNDS = 3
BYTES = 160
PUBLISHED, IN_FLIGHT, PUBLISH_BAR = 10_000, 64, 3000.0
REPLAYED, REPLAY_BAR = 100_000, 100_000.0

SUBSCRIBERS, BACK_BAR_S = 5000, 20.0
EVENTS, EVENTS_PER_S = 160, 4
"""Forty seconds of publishing; the hub dies in the third."""
DIES_AFTER_S = 3.0
READYZ_BAR_S = 1.0
"""No answer of /readyz takes longer: an orchestrator's probe gives up by default."""


def publish(hub: Callboard) -> bool:
    """Print how many publications a second are made durable; whether the bar holds."""
    rates, reply = [], []
    for number in range(ROUNDS):
        options = ["-n", 0, "-m", PUBLISHED, "-b", BYTES, "-c", IN_FLIGHT]
        seen = run(hub, f"durable-{number}", *options).seen
        rates.append(seen.published / seen.publish_s)
        reply.append(seen.reply_p99_ms)
    rate = statistics.median(rates)
    holds = rate >= PUBLISH_BAR
    print(
        f"durable publications, {IN_FLIGHT} in flight: {rate:,.0f}/s, p99 of a reply "
        f"{statistics.median(reply):.1f} ms (bar {PUBLISH_BAR:,.0f}/s): "
        f"{'holds' if holds else 'MISSED'}",
        flush=True,
    )
    return holds


def replay(hub: Callboard) -> bool:
    """Print how many events a second a reader gets that resumes; whether the bar holds.

    Twice: from the process that took them, and from one that has only its disk.
    """
    options: list[object] = ["-m", REPLAYED, "-b", BYTES]
    run(hub, "replay", "-n", 0, *options, "-c", IN_FLIGHT)
    held = True
    for where in ("as published", "from a hub started anew"):
        rates = []
        for _ in range(ROUNDS):
            cost = run(hub, "replay", "-g", "-n", 1, *options, "-H", "Last-Event-ID: earliest")
            rates.append(cost.per_s)
        rate = statistics.median(rates)
        holds = rate >= REPLAY_BAR
        held &= holds
        print(
            f"resume of {REPLAYED:,} events, {where}: {rate:,.0f}/s (bar {REPLAY_BAR:,.0f}/s): "
            f"{'holds' if holds else 'MISSED'}",
            flush=True,
        )
        hub.kill(signal.SIGKILL)
        hub.start()
    return held


class Readyz:
    """Asks /readyz again and again; `with` starts and ends it."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/readyz"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.slowest_s = 0.0
        self.failures_s: list[float] = []
        """When it did not answer (monotonic clock)."""
        self.answers = 0

    def __enter__(self) -> Readyz:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stopped.wait(0.05):
            began = time.monotonic()
            try:
                with urllib.request.urlopen(self._url, timeout=5) as answer:
                    answer.read()
                self.answers += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            except OSError:
                self.failures_s.append(began)


def storm(folder: Path, subscribers: int) -> bool:
    """Kill the hub of so many subscribers, start it again, print; whether all bars hold."""
    (health,) = free_ports(1)
    options = (f"-health=127.0.0.1:{health}",)
    with Callboard(folder, certify(folder), "durable", options) as hub:
        wanted = ["-n", subscribers, "-m", EVENTS, "-b", BYTES, "-r", EVENTS_PER_S, "-k", "-w", 30]
        with Load(hub, "storm", *wanted) as load:
            connected_s = load.ready_s()
            load.go()
            time.sleep(DIES_AFTER_S)
            hub.kill(signal.SIGKILL)
            hub.start()
            up = time.monotonic()
            with Readyz(health) as readyz:
                seen = load.seen()
            cpu_s = hub.cpu_s()
    print(
        f"{subscribers:,} subscribers by TLS were connected in {connected_s:.1f} s; after the kill "
        f"{seen.lost:,} streams ended, {seen.refused:,} attempts failed; {cpu_s:.1f} s of "
        "processor time since"
    )
    back = 0 <= seen.back_s <= BACK_BAR_S
    took = f"{seen.back_s:.1f} s" if seen.back_s >= 0 else "not all came"
    print(f"all are back: {took} (bar {BACK_BAR_S:.0f} s): {'holds' if back else 'MISSED'}")
    whole = seen.whole
    print(f"no event missing or repeated: {'holds' if whole else f'MISSED ({seen.told()})'}")
    late = [moment - up for moment in readyz.failures_s if moment > up + 1]
    answered = not late and readyz.slowest_s <= READYZ_BAR_S
    print(
        f"/readyz: {readyz.answers} answers, the slowest in {readyz.slowest_s * 1000:.0f} ms, "
        f"{len(readyz.failures_s)} failures: {'holds' if answered else 'MISSED'}",
        flush=True,
    )
    return back and whole and answered


def main() -> int:
    """Run, print, answer 1 when a bar is missed."""
    files = raise_files()
    folder = Path(tempfile.mkdtemp(prefix="callboard-bench-"))
    try:
        with Callboard(folder, acknowledge="durable") as hub:
            held = publish(hub) & replay(hub)
        if with_tls():
            place = folder / "storm"
            place.mkdir()
            held &= storm(place, min(SUBSCRIBERS, files - 200))
    except NotWhole as problem:
        print(f"MISSED: {problem}")
        held = False
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
