"""What several hubs on one PostgreSQL cost, beside one hub with SQLite. Figures, no bar.

Durable publications through one hub and through two at once, how long an event takes from a
publication at one hub to a subscriber of the other, and a resume that the store alone can serve.
Server, hubs and load share one machine and its disk. nchan shares no history: no peer.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.harness.hubs import Callboard, raise_files
from benchmarks.harness.stream_load import Load, NotWhole, Seen, middle, run
from tests.harness.postgres import PostgresServer, programs

ROUNDS, BYTES = 3, 160
PUBLISHED, IN_FLIGHT = 10_000, 64
PUBLISHING = ("-n", 0, "-b", BYTES, "-c", IN_FLIGHT)
PACED, PER_S = 1000, 200
"""What latency is measured with: far from what a hub can take."""
REPLAYED = 20_000
"""Published first: a hub started after all the rest has none of it in memory."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A server whose data is on the disk, as it is by default; the address of a database."""
    folder.chmod(0o755)  # root's server is another user
    server = PostgresServer(folder / "postgres")
    server.start()
    try:
        server.wait_ready()
        yield server.database()
    finally:
        server.stop()


def hub(folder: Path, name: str, store: str = "") -> Callboard:
    """A hub with a folder of its own; `store` is PostgreSQL's address."""
    place = folder / name
    place.mkdir()
    options = (f"-store={store}",) if store else ()
    return Callboard(place, acknowledge="durable", options=options)


def published(name: str, hubs: Sequence[Callboard]) -> None:
    """Print how many publications a second are durable through all hubs at once."""
    rates, replies = [], []
    for number in range(ROUNDS):
        seen = at_once(hubs, f"durable-{len(hubs)}-{number}")
        rates.append(sum(one.published for one in seen) / max(one.publish_s for one in seen))
        replies.append(max(one.reply_p99_ms for one in seen))
    print(
        f"durable publications, {IN_FLIGHT} in flight at each hub, {name}: "
        f"{statistics.median(rates):,.0f}/s, p99 of a reply {statistics.median(replies):.1f} ms",
        flush=True,
    )


def at_once(hubs: Sequence[Callboard], topic: str) -> list[Seen]:
    """Publish to all hubs at the same time. Raises NotWhole where one refuses any."""
    with ExitStack() as stack:
        loads = [
            stack.enter_context(Load(one, f"{topic}-{at}", *PUBLISHING, "-m", PUBLISHED))
            for at, one in enumerate(hubs)
        ]
        for load in loads:
            load.ready_s()
        for load in loads:
            load.go()
        found = [load.seen() for load in loads]
    for seen in found:
        if seen.publish_failures:
            raise NotWhole(seen.told())
    return found


def delivered(name: str, publisher: Callboard, subscriber: Callboard) -> None:
    """Print how long events take from a publication at one hub to a subscriber of another."""
    costs = []
    for number in range(ROUNDS):
        topic = f"latency-{publisher.port}-{number}"
        options: list[object] = ["-n", 1, "-m", PACED, "-b", BYTES, "-c", 4, "-r", PER_S]
        to = publisher.place(publisher.publish_path + topic)
        costs.append(run(subscriber, topic, *options, "-p", to))
    p50, p99 = middle(costs, lambda c: c.seen.p50_ms), middle(costs, lambda c: c.seen.p99_ms)
    print(f"delivery, {PER_S} events/s, {name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms", flush=True)


def resumed(name: str, one: Callboard) -> None:
    """Print how many events a second a reader gets that the store alone has."""
    options: list[object] = ["-g", "-n", 1, "-m", REPLAYED, "-b", BYTES]
    costs = [run(one, "resume", *options, "-H", "Last-Event-ID: earliest") for _ in range(ROUNDS)]
    print(f"resume of {REPLAYED:,} events, {name}: {middle(costs, lambda c: c.per_s):,.0f}/s")


def shared(folder: Path) -> None:
    """Print the figures of hubs on PostgreSQL."""
    with serving(folder) as store, hub(folder, "a", store) as a:
        run(a, "resume", *PUBLISHING, "-m", REPLAYED)
        published("PostgreSQL, one hub", [a])
        with hub(folder, "b", store) as b:
            published("PostgreSQL, two hubs", [a, b])
            delivered("PostgreSQL, at one hub", a, a)
            delivered("PostgreSQL, from one hub to another", a, b)
            resumed("PostgreSQL", b)


def alone(folder: Path) -> None:
    """Print the same of one hub with SQLite."""
    one = hub(folder, "sqlite")
    with one:
        run(one, "resume", *PUBLISHING, "-m", REPLAYED)
        published("SQLite, one hub", [one])
        delivered("SQLite, at one hub", one, one)
    with one:
        resumed("SQLite", one)


def main() -> int:
    """Run and print; 1 when an event is missing."""
    raise_files()
    folder = Path(tempfile.mkdtemp(prefix="callboard-bench-"))
    try:
        if programs() is None:
            print("no rows with PostgreSQL: it is not here (apt-get install postgresql)")
        else:
            shared(folder)
        alone(folder)
    except NotWhole as problem:
        print(f"MISSED: {problem}")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
