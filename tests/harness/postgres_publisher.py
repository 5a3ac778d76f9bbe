"""A hub's history over PostgreSQL under load, in a process that is to be killed:
`URL WITNESS NAME`, and perhaps `careless`.

It publishes from many places at once, and writes down what it was told, as `powercut_publisher`
does. `careless` takes any server, also one that loses what it said is committed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from tests.harness.powercut_publisher import load

from callboard.hub.history.postgres import PostgresStore
from callboard.hub.history.postgres_connection import Connection
from callboard.hub.history.postgres_database import Database
from callboard.hub.history.store import Retention
from callboard.hub.history.stored import StoredHistory

PUBLISHERS = 8


async def _any_will_do(database: Database, connection: Connection) -> None:
    """In place of the question whether a server is fit."""


async def main() -> None:
    url, place, name = sys.argv[1:4]
    if sys.argv[4:] == ["careless"]:
        setattr(Database, "_see_that_it_is_fit", _any_will_do)  # noqa: B010 - a method
    retention = Retention()
    history = StoredHistory(
        PostgresStore(url, retention), retention, clock=time.time, fatal=sys.exit
    )
    await load(history, Path(place), [f"{name}.{number}" for number in range(PUBLISHERS)])


if __name__ == "__main__":
    asyncio.run(main())
