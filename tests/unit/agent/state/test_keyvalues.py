"""The key/value store: check-and-set, tombstones, indexes that never fall; against a model."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.state import DrivenStore

from callboard.catalog.commands import (
    Command,
    KeyValueDelete,
    KeyValueDeleteTree,
    KeyValueSet,
    TombstoneReap,
)
from callboard.catalog.objects import KeyValue


@pytest.fixture
def driven() -> DrivenStore:
    return DrivenStore()


def test_a_key_is_what_was_put(driven: DrivenStore) -> None:
    assert driven.put("k", b"v", flags=42) is True
    assert driven.store.key("k") == KeyValue(
        key="k", value=b"v", flags=42, create_index=1, modify_index=1
    )


def test_an_overwritten_key_keeps_its_create_index(driven: DrivenStore) -> None:
    driven.put("k", b"1")
    driven.put("k", b"2")
    entry = driven.store.key("k")
    assert entry is not None
    assert (entry.create_index, entry.modify_index) == (1, 2)


@pytest.mark.parametrize(
    ("exists", "cas", "done"),
    [(False, 0, True), (False, 1, False), (True, 0, False), (True, 1, True), (True, 2, False)],
)
def test_check_and_set_compares_the_modify_index(
    driven: DrivenStore, exists: bool, cas: int, done: bool
) -> None:
    if exists:
        driven.put("k", b"1")
    assert driven.put("k", b"2", cas=cas) is done
    entry = driven.store.key("k")
    assert (entry is not None and entry.value == b"2") is done


@pytest.mark.parametrize(
    ("exists", "cas", "answer"),
    [(True, 0, False), (True, 1, True), (True, 2, False), (False, 0, True), (False, 5, True)],
)
def test_check_and_delete_compares_the_modify_index(
    driven: DrivenStore, exists: bool, cas: int, answer: bool
) -> None:
    if exists:
        driven.put("k")
    assert driven.delete("k", cas=cas) is answer
    assert (driven.store.key("k") is None) is (answer or not exists)


def test_deleting_a_missing_key_moves_nothing(driven: DrivenStore) -> None:
    driven.put("k")
    assert driven.delete("other") is True
    assert driven.index("kv-prefix", "") == 1


def test_keys_below_are_in_byte_order(driven: DrivenStore) -> None:
    for key in ("a/c", "a/b/x", "a", "b", "a/b"):
        driven.put(key)
    assert [entry.key for entry in driven.store.keys_below("a/")] == ["a/b", "a/b/x", "a/c"]


def test_a_deleted_child_moves_the_index_of_its_prefix(driven: DrivenStore) -> None:
    driven.put("a/1")
    driven.put("a/2")
    driven.delete("a/1")
    assert driven.index("kv-prefix", "a/") == 3
    assert driven.index("kv", "a/1") == 3
    assert driven.index("kv", "a/2") == 2


def test_a_deleted_tree_moves_each_of_its_keys(driven: DrivenStore) -> None:
    for key in ("a/1", "a/2", "b"):
        driven.put(key)
    assert driven.delete_below("a/") is True
    assert [driven.index("kv", key) for key in ("a/1", "a/2", "b")] == [4, 4, 3]
    assert [entry.key for entry in driven.store.keys_below("")] == ["b"]
    assert driven.store.tombstones() == (2, 4)


def test_a_second_deleted_tree_leaves_older_tombstones_alone(driven: DrivenStore) -> None:
    driven.put("a/1")
    driven.put("a/2")
    driven.delete("a/1")
    driven.delete_below("a/")
    assert driven.index("kv", "a/1") == 3
    assert driven.index("kv-prefix", "a/1") == 3


def test_reaping_forgets_tombstones_and_no_index_falls(driven: DrivenStore) -> None:
    for key in ("a", "b", "c"):
        driven.put(key)
    driven.delete("a")
    driven.delete("b")
    before = {key: driven.index("kv", key) for key in "abc"}
    assert driven.apply(TombstoneReap(4)) == 1
    assert driven.store.tombstones() == (1, 5)
    assert all(driven.index("kv", key) >= before[key] for key in "abc")
    assert driven.apply(TombstoneReap(4)) == 0


def test_a_key_created_again_is_new(driven: DrivenStore) -> None:
    driven.put("k")
    driven.delete("k")
    driven.put("k")
    entry = driven.store.key("k")
    assert entry is not None
    assert entry.create_index == 3
    assert driven.store.tombstones() == (0, 0)


KEYS = st.sampled_from(["", "a", "a/", "a/b", "a/b/c", "a/c", "b"])
COMMANDS = st.one_of(
    st.builds(
        KeyValueSet,
        KEYS,
        st.sampled_from([b"", b"1", b"2"]),
        st.integers(0, 1),
        st.integers(-1, 6),
    ),
    st.builds(KeyValueDelete, KEYS, st.integers(-1, 6)),
    st.builds(KeyValueDeleteTree, KEYS),
    st.builds(TombstoneReap, st.integers(0, 12)),
)


@dataclass
class Model:
    """A dict of keys and the index of each key's last change; a floor raised by reaps."""

    keys: dict[str, tuple[bytes, int, int, int]] = field(default_factory=dict)
    """key → value, flags, create index, modify index"""
    ends: dict[str, int] = field(default_factory=dict)
    floor: int = 0

    def apply(self, index: int, command: Command) -> None:
        if isinstance(command, KeyValueSet):
            self.set(index, command)
        elif isinstance(command, KeyValueDelete):
            old = self.keys.get(command.key)
            if old and command.check_and_set in (-1, old[3]):
                self.end(index, command.key)
        elif isinstance(command, KeyValueDeleteTree):
            for key in [key for key in self.keys if key.startswith(command.prefix)]:
                self.end(index, key)
        elif isinstance(command, TombstoneReap):
            old_ends = [each for each in self.ends.values() if each <= command.index]
            self.floor = max([self.floor, *old_ends])
            self.ends = {key: each for key, each in self.ends.items() if each > command.index}

    def set(self, index: int, command: KeyValueSet) -> None:
        value, flags, created, modified = self.keys.get(command.key, (None, None, index, 0))
        if command.check_and_set not in (-1, modified):
            return
        if (value, flags) != (command.value, command.flags):
            self.keys[command.key] = (command.value, command.flags, created, index)
            self.ends.pop(command.key, None)

    def end(self, index: int, key: str) -> None:
        del self.keys[key]
        self.ends[key] = index

    def index(self, key: str) -> int:
        return self.keys[key][3] if key in self.keys else self.ends.get(key, self.floor)

    def prefix_index(self, prefix: str) -> int:
        alive = [each[3] for key, each in self.keys.items() if key.startswith(prefix)]
        dead = [index for key, index in self.ends.items() if key.startswith(prefix)]
        return max([self.floor, *alive, *dead])


@given(st.lists(COMMANDS, max_size=30))
def test_the_store_answers_as_a_naive_model_does(commands: list[Command]) -> None:
    driven, model = DrivenStore(), Model()
    names = ["", "a", "a/", "a/b", "a/b/c", "a/c", "b"]
    for command in commands:
        before = {key: (model.index(key), model.prefix_index(key)) for key in names}
        floor = model.floor
        watchers = {
            (kind, key): driven.watch(kind, key) for kind in ("kv", "kv-prefix") for key in names
        }
        driven.apply(command)
        model.apply(driven.store.applied_index, command)
        for key in names:
            assert driven.index("kv", key) == model.index(key) >= before[key][0]
            assert driven.index("kv-prefix", key) == model.prefix_index(key) >= before[key][1]
            if model.floor == floor:  # a reap moves indexes and wakes nobody
                assert watchers["kv", key].wakes == (model.index(key) > before[key][0])
                assert watchers["kv-prefix", key].wakes == (
                    model.prefix_index(key) > before[key][1]
                )
            found = [
                (entry.key, (entry.value, entry.flags, entry.create_index, entry.modify_index))
                for entry in driven.store.keys_below(key)
            ]
            assert found == sorted(each for each in model.keys.items() if each[0].startswith(key))
