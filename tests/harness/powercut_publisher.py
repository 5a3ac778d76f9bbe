"""A hub's history under load, in a process that is to be killed: `FOLDER MODE SEED`.

It publishes from many places at once, and writes down in `hub.witness` what it was told, before
anything else comes of it: `A` what was acknowledged (offset, epoch, checksum of the data, key),
`S` what a reader saw; `a` and `s` of the topic of which only the last few are kept. It ends when it
is killed.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

from tests.harness.histories import publishing

from callboard.hub.event import Publication, Update
from callboard.hub.history import stored
from callboard.hub.history.sqlite import SqliteStore
from callboard.hub.history.store import Acknowledge, Bound, Retention
from callboard.hub.history.stored import StoredHistory
from callboard.hub.ports import HistoryBusy

PUBLISHERS = 24
SHORT = "short"
RETENTION = Retention(prefixes={SHORT: Bound(count=20)})
TRIM_EVERY_S = 0.02


def line(letter: str, update: Update, key: str = "") -> bytes:
    """One promise."""
    if update.topics[0] == SHORT:
        letter = letter.lower()
    return f"{letter} {update.offset} {update.epoch} {zlib.crc32(update.data)} {key}\n".encode()


async def taken(history: StoredHistory, publication: Publication) -> Update:
    """Publish, again and again while too many wait for the disk."""
    while True:
        try:
            return await publishing(history, publication)
        except HistoryBusy:
            await asyncio.sleep(0.01)


async def publish(history: StoredHistory, witness: int, name: str, rng: random.Random) -> None:
    """One publisher: each publication once the last one is acknowledged; some come twice."""
    number = 0
    while True:
        number += 1
        size = rng.choice((0, 10, 200, 200, 200, 900, 5_000, 30_000))
        publication = Publication(
            rng.choice(((f"topic/{rng.randint(0, 9)}",), ("topic/0", f"also/{name}"), (SHORT,))),
            f"{name} {number} ".encode() + rng.randbytes(size),
            own_id=f"own-{name}-{number}" if rng.random() < 0.3 else "",
            private=rng.random() < 0.5,
            idempotency_key=f"{name}-{number}" if rng.random() < 0.5 else "",
        )
        update = await taken(history, publication)
        os.write(witness, line("A", update, publication.idempotency_key))
        if publication.idempotency_key and rng.random() < 0.2:
            again = await taken(history, publication)
            if again.offset != update.offset:
                os.write(witness, b"TWICE " + line("A", again, publication.idempotency_key))


async def load(history: StoredHistory, place: Path, names: Sequence[str]) -> None:
    """Start the history and publish for ever, one publisher a name; the witness is at `place`."""
    witness = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def seen(updates: Sequence[Update]) -> None:
        os.write(witness, b"".join(line("S", update) for update in updates))

    history.listen(seen)
    await history.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.gather(*(publish(history, witness, name, random.Random(name)) for name in names))


async def main() -> None:
    folder, mode, seed = Path(sys.argv[1]), Acknowledge(sys.argv[2]), sys.argv[3]
    stored.TRIM_EVERY_S = TRIM_EVERY_S
    store = SqliteStore(folder, mode, RETENTION)
    history = StoredHistory(
        store,
        RETENTION,
        clock=time.time,
        fatal=sys.exit,
        behind=store if mode is Acknowledge.MEMORY else None,
    )
    await load(history, folder / "hub.witness", [f"{seed}.{n}" for n in range(PUBLISHERS)])


if __name__ == "__main__":
    asyncio.run(main())
