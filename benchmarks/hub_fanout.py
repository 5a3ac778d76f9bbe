"""One event to many subscribers: ours beside nginx with nchan, one worker, both in memory.

Claims, events of about 200 bytes. A publisher that waits for each reply: at least 0.55, 1.0 and
1.1 times nchan's deliveries per second of the hub's processor time, at 100, 1,000 and 5,000
subscribers. 16 publications in flight, 1,000 subscribers: at least 10 times. 20 events a second by
the clock, 1,000 subscribers: p99 of all deliveries at most 1.5 times nchan's. Plain, and by TLS
from the hub's own listener. Printed beside: the durable mode, how long the last subscriber waits,
and events that are sent one at a time. (A hub may reply before all subscribers have an event, and
join those that come meanwhile; where each waits for the last one's delivery, it cannot.)

Every subscriber is checked to get every event, in one order. Medians of three interleaved rounds.
The load is a process on the same machine: read ratios, not rates.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.hubs import Callboard, Hub, Nchan, peer_is_here, raise_files
from benchmarks.harness.load import below, verdict
from benchmarks.harness.servers import certify
from benchmarks.harness.stream_load import Cost, middle, run, with_tls

ROUNDS = 3
BYTES = 160
"""Of data; about 200 on the wire."""


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of work. nchan gets fewer events where it would take long."""

    name: str
    subscribers: int
    events: int
    nchan_events: int
    in_flight: int = 1
    lockstep: bool = False
    """Each event is sent when all subscribers have the one before: nothing can be joined."""
    rate: int = 0
    """Events a second; 0: as fast as replies come."""
    bar: float | None = None
    """Of deliveries per second of processor time."""
    p99_bar: float | None = None


WAITING = (
    Row("100 subscribers", 100, 2500, 2500, bar=0.55),
    Row("1,000 subscribers", 1000, 180, 180, bar=1.0),
    Row("5,000 subscribers", 5000, 36, 36, bar=1.1),
)
IN_FLIGHT = Row("1,000 subscribers, 16 in flight", 1000, 2000, 200, in_flight=16, bar=10.0)
PACED = Row("1,000 subscribers, 20 events/s", 1000, 80, 80, rate=20, p99_bar=1.5)
LOCKSTEP = Row("1,000 subscribers, one event at a time", 1000, 100, 100, lockstep=True)
PLAIN = (*WAITING, LOCKSTEP, IN_FLIGHT, PACED)
TLS = (*WAITING, IN_FLIGHT, PACED)
DURABLE = (WAITING[1], IN_FLIGHT)


def once(hub: Hub, row: Row, number: int, allowed: int) -> Cost:
    """One run of a row."""
    events = row.nchan_events if isinstance(hub, Nchan) else row.events
    options: list[object] = ["-n", min(row.subscribers, allowed), "-m", events, "-b", BYTES]
    options += ["-c", row.in_flight, "-r", row.rate, *(["-l"] if row.lockstep else [])]
    topic = f"{row.subscribers}-{row.in_flight}-{row.rate}-{row.lockstep}-{number}"
    return run(hub, f"fanout-{topic}", *options)


def told(name: str, costs: Sequence[Cost]) -> str:
    """The figures of one hub, in a line."""
    return (
        f"{name} {middle(costs, lambda c: c.per_s) / 1000:.0f}k deliveries/s, "
        f"{1e6 / middle(costs, lambda c: c.per_cpu_s):.2f} µs of processor time each, p50 "
        f"{middle(costs, lambda c: c.seen.p50_ms):.1f} ms, p99 "
        f"{middle(costs, lambda c: c.seen.p99_ms):.1f} ms, last subscriber's p99 "
        f"{middle(costs, lambda c: c.seen.last_p99_ms):.1f} ms"
    )


def compare(row: Row, kind: str, hubs: Sequence[Hub], allowed: int) -> bool:
    """Run a row's rounds and print it; whether its bar holds."""
    costs: dict[Hub, list[Cost]] = {hub: [] for hub in hubs}
    for number in range(ROUNDS):
        for hub in hubs:
            costs[hub].append(once(hub, row, number, allowed))
    what = f"{kind}, {row.name}"
    for hub in hubs:
        print(f"{what}: {told(hub.name, costs[hub])}", flush=True)
    if len(hubs) == 1:
        return True
    ours, theirs = (costs[hub] for hub in hubs)
    per_s = middle(ours, lambda c: c.per_s) / middle(theirs, lambda c: c.per_s)
    p99 = middle(ours, lambda c: c.seen.p99_ms) / middle(theirs, lambda c: c.seen.p99_ms)
    ratio = middle(ours, lambda c: c.per_cpu_s) / middle(theirs, lambda c: c.per_cpu_s)
    per_cpu = f"{what}: deliveries per second of processor time"
    print(f"{what}: {per_s:.2f}x nchan's deliveries/s, p99 {p99:.2f}x")
    if row.p99_bar is not None:
        return below(f"{what}: p99, of nchan's", p99, row.p99_bar)
    if row.bar is not None:
        return verdict(per_cpu, ratio, row.bar)
    print(f"{per_cpu}: {ratio:.2f}x", flush=True)
    return True


def compare_all(folder: Path, files: int, peer: bool) -> bool:
    """All rows, plain and by TLS; whether all bars hold."""
    held, allowed = True, files - 200
    for kind in ("plain", "TLS") if with_tls() else ("plain",):
        place = folder / kind
        place.mkdir()
        tls = certify(place) if kind == "TLS" else None
        with ExitStack() as stack:
            hubs: list[Hub] = [stack.enter_context(Callboard(place, tls))]
            if peer:
                hubs.append(stack.enter_context(Nchan(place, tls)))
            for row in PLAIN if tls is None else TLS:
                held &= compare(row, kind, hubs, allowed)
    with Callboard(folder, acknowledge="durable") as durable:
        for row in DURABLE:
            compare(row, "plain, durable", [durable], allowed)
    return held


def main() -> int:
    """Run, print, answer 1 when a bar is missed."""
    files, peer = raise_files(), peer_is_here()
    folder = Path(tempfile.mkdtemp(prefix="callboard-bench-"))
    try:
        return 0 if compare_all(folder, files, peer) else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
