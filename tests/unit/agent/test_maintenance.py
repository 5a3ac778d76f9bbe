"""Tombstones are forgotten a quarter of an hour after the deletion, by the leader alone."""

from __future__ import annotations

from tests.harness.instant_engine import InstantEngine

from callboard.agent.maintenance import TOMBSTONE_TTL_S, Maintenance
from callboard.catalog.commands import KeyValueDelete, KeyValueSet, encode_command


async def deleted_key(engine: InstantEngine) -> None:
    await engine.propose(encode_command(KeyValueSet("a", b"1")))
    await engine.propose(encode_command(KeyValueDelete("a")))


async def test_tombstone_is_reaped_once_it_is_old_enough() -> None:
    engine, times = InstantEngine(), [0.0]
    maintenance = Maintenance(engine.store, engine, lambda: times[0])
    await deleted_key(engine)
    await maintenance.turn()
    times[0] = TOMBSTONE_TTL_S - 1
    await maintenance.turn()
    assert engine.store.tombstones()[0] == 1
    times[0] = TOMBSTONE_TTL_S
    await maintenance.turn()
    assert engine.store.tombstones()[0] == 0


async def test_follower_reaps_nothing() -> None:
    engine, times = InstantEngine(), [0.0]
    maintenance = Maintenance(engine.store, engine, lambda: times[0])
    await deleted_key(engine)
    engine.leaderless = True
    for when in (0.0, TOMBSTONE_TTL_S * 2):
        times[0] = when
        await maintenance.turn()
    assert engine.store.tombstones()[0] == 1
