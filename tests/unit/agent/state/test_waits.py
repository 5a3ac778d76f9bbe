"""The wake sets themselves."""

from __future__ import annotations

from tests.harness.state import DrivenStore, Watcher

from callboard.agent.state.waits import WaitSets
from callboard.catalog.changes import WatchKey
from callboard.raft.messages import SnapshotMetadata

KEY = WatchKey("kv", "k")


def test_a_wait_fires_once() -> None:
    waits, watcher = WaitSets(), Watcher()
    waits.wait(KEY, watcher, 0)
    waits.moved("kv", "k", 1)
    assert waits.drain() == [watcher]
    waits.moved("kv", "k", 2)
    assert waits.drain() == []


def test_a_wait_fires_only_above_its_index() -> None:
    waits, watcher, other = WaitSets(), Watcher(), Watcher()
    waits.wait(KEY, watcher, 5)
    waits.wait(KEY, other, 0)
    waits.moved("kv", "k", 5)
    assert waits.drain() == [other]
    waits.moved("kv", "k", 6)
    assert waits.drain() == [watcher]


def test_a_waiter_woken_twice_in_a_batch_is_called_once() -> None:
    waits, watcher = WaitSets(), Watcher()
    waits.wait(KEY, watcher, 0)
    waits.wait(WatchKey("nodes"), watcher, 0)
    waits.moved("kv", "k", 1)
    waits.moved("nodes", "", 2)
    assert waits.drain() == [watcher]


def test_an_unwaited_waiter_sleeps_on_and_leaves_nothing_behind() -> None:
    waits, watcher = WaitSets(), Watcher()
    for key in (KEY, WatchKey("kv-prefix", "k")):
        waits.wait(key, watcher, 0)
        waits.unwait(key, watcher)
        waits.unwait(key, watcher)
    waits.keys_moved(["k"], 1)
    assert waits.drain() == []
    assert len(waits) == 0


def test_every_prefix_of_a_key_wakes_and_no_other() -> None:
    waits = WaitSets()
    watchers = {prefix: Watcher() for prefix in ("", "a", "a/", "a/b", "a/bc", "b", "a/b/c")}
    for prefix, watcher in watchers.items():
        waits.wait(WatchKey("kv-prefix", prefix), watcher, 0)
    waits.keys_moved(["a/b"], 1)
    assert set(waits.drain()) == {watchers[prefix] for prefix in ("", "a", "a/", "a/b")}
    assert len(waits) == 3


def test_prefix_waits_are_counted_by_length() -> None:
    waits, one, two = WaitSets(), Watcher(), Watcher()
    waits.wait(WatchKey("kv-prefix", "ab"), one, 0)
    waits.wait(WatchKey("kv-prefix", "cd"), two, 0)
    waits.unwait(WatchKey("kv-prefix", "ab"), one)
    waits.keys_moved(["cde"], 1)
    assert waits.drain() == [two]


def test_a_restore_wakes_everybody() -> None:
    driven = DrivenStore()
    driven.put("k")
    watchers = [driven.watch("kv", "k"), driven.watch("kv-prefix", "x"), driven.watch("nodes")]
    other = DrivenStore()
    other.put("other")
    driven.store.restore(SnapshotMetadata(1, 1), other.store.snapshot())
    assert set(driven.store.drain_woken()) == set(watchers)
    assert driven.store.waiting() == 0
