"""Snapshots: whole or refused, equal after a round trip, in slices, pinned."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.state import DrivenStore

from callboard.agent.state import snapshot
from callboard.agent.state.snapshot import FORMAT, Header, RecordKind, SnapshotError
from callboard.agent.state.store import StateStore
from callboard.catalog.commands import Register, TombstoneReap
from callboard.catalog.objects import Check, Node, ServiceAddress, ServiceInstance
from callboard.raft.messages import SnapshotMetadata


def full() -> DrivenStore:
    """A store with something of everything."""
    driven = DrivenStore()
    driven.apply(
        Register(
            node=Node(name="N1", id="id", address="10.0.0.1", meta={"b": "1", "a": "2"}),
            service=ServiceInstance(
                id="w1",
                service="web",
                tags=("b", "a"),
                tagged_addresses={"wan": ServiceAddress("x", 1), "lan": ServiceAddress("y", 2)},
            ),
            checks=(Check(check_id="c", service_id="w1", definition={"TCP": "a", "Args": ["b"]}),),
            request_id=b"r1",
        )
    )
    driven.service("gone", node="n2")
    driven.remove("n2")
    for key in ("a", "a/b", "dead", "deader", "ключ"):
        driven.put(key, b"\x00\xff", flags=7)
    driven.delete("deader")
    driven.apply(TombstoneReap(9))
    driven.delete("dead")
    driven.apply(Register(node=Node(name="n1", id="other"), request_id=b"r2"))
    return driven


def test_a_restored_store_answers_as_the_first() -> None:
    driven = full()
    restored = driven.restored()
    assert restored.store.applied_index == driven.store.applied_index
    assert restored.store.state_hash() == driven.store.state_hash()
    assert restored.store.nodes() == driven.store.nodes()
    assert restored.store.health("web") == driven.store.health("web")
    assert restored.store.keys_below("") == driven.store.keys_below("")
    assert restored.store.tombstones() == driven.store.tombstones()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("nodes", ""),
        ("node", "n1"),
        ("node", "n2"),
        ("services", ""),
        ("service", "web"),
        ("service", "gone"),
        ("service", "never"),
        ("checks", ""),
        ("checks", "critical"),
        ("kv", "a"),
        ("kv", "dead"),
        ("kv", "deader"),
        ("kv-prefix", ""),
        ("kv-prefix", "a/"),
    ],
)
def test_a_restored_store_has_the_same_indexes(kind: str, name: str) -> None:
    driven = full()
    assert driven.restored().index(kind, name) == driven.index(kind, name)


def test_a_restored_store_goes_on_as_the_first() -> None:
    driven = full()
    restored = driven.restored()
    for each in (driven, restored):
        each.put("more")
        each.service("gone", node="n3")
        each.delete("a")
        each.remove("n1")
    assert restored.store.state_hash() == driven.store.state_hash()


def test_a_snapshot_of_an_empty_store_restores() -> None:
    assert DrivenStore().restored().store.counts() == (0, 0, 0, 0)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_chunks_may_be_cut_anywhere(sizes: list[int]) -> None:
    driven = full()
    whole, cut = b"".join(driven.store.snapshot()), []
    while whole:
        for size in sizes:
            cut.append(whole[:size])
            whole = whole[size:]
    other = StateStore()
    other.restore(SnapshotMetadata(driven.store.applied_index, 1), iter(cut))
    assert other.state_hash() == driven.store.state_hash()


def test_a_snapshot_is_pinned_when_it_is_asked_for() -> None:
    driven = full()
    index, state_hash = driven.store.applied_index, driven.store.state_hash()
    chunks = driven.store.snapshot()
    seen = []
    for number in range(50):
        driven.put(f"later/{number}")
        driven.service("later", service_id=str(number))
        driven.check("c", "passing")
        seen += [chunk for chunk in [next(chunks, None)] if chunk is not None]
    driven.remove("n1")
    seen += chunks
    other = StateStore()
    other.restore(SnapshotMetadata(index, 1), iter(seen))
    assert other.state_hash() == state_hash


def test_many_objects_come_in_many_slices() -> None:
    driven = DrivenStore()
    for number in range(snapshot.SLICE_OBJECTS + 1):
        driven.put(f"k/{number}")
    kinds = [kind for kind, _ in snapshot.records(driven.store.snapshot())]
    assert kinds.count(RecordKind.KEYS) == 2
    assert (kinds[0], kinds[-1]) == (RecordKind.HEADER, RecordKind.END)


def test_large_values_come_in_slices_by_size() -> None:
    driven = DrivenStore()
    for number in range(4):
        driven.put(f"k/{number}", b"x" * (snapshot.SLICE_BYTES - 100))
    assert max(map(len, driven.store.snapshot())) < 3 * snapshot.SLICE_BYTES


def records(driven: DrivenStore) -> list[tuple[int, bytes]]:
    return list(snapshot.records(driven.store.snapshot()))


def chunks_of(parts: list[tuple[int, bytes]]) -> Iterator[bytes]:
    for kind, payload in parts:
        yield (len(payload) + 1).to_bytes(4, "big") + bytes((kind,)) + payload


def refused(driven: DrivenStore, chunks: Iterator[bytes], index: int | None = None) -> str:
    """The error of restoring these chunks into a store, which stays as it was."""
    store = DrivenStore()
    store.put("mine")
    before = store.store.state_hash()
    at = driven.store.applied_index if index is None else index
    with pytest.raises(SnapshotError) as caught:
        store.store.restore(SnapshotMetadata(at, 1), chunks)
    assert store.store.state_hash() == before
    assert store.store.drain_woken() == []
    return str(caught.value)


def test_a_snapshot_that_lacks_a_record_is_refused_whichever_it_is() -> None:
    driven = full()
    parts = records(driven)
    for missing in range(len(parts)):
        assert refused(driven, chunks_of(parts[:missing] + parts[missing + 1 :]))


def test_a_snapshot_cut_short_is_refused_wherever_it_is_cut() -> None:
    driven = full()
    whole = b"".join(driven.store.snapshot())
    for size in range(0, len(whole), 23):
        assert refused(driven, iter([whole[:size]]))


def test_a_snapshot_with_a_changed_byte_is_refused() -> None:
    driven = full()
    whole = bytearray(b"".join(driven.store.snapshot()))
    place = whole.index(b"web")
    whole[place] = ord("W")
    assert "but holds" in refused(driven, iter([bytes(whole)]))


def test_a_snapshot_of_another_index_is_refused() -> None:
    driven = full()
    assert "is not of index 3" in refused(driven, driven.store.snapshot(), index=3)


def test_a_snapshot_of_an_unknown_format_is_refused() -> None:
    driven = full()
    header = msgspec.msgpack.encode(Header(FORMAT + 1, driven.store.applied_index, "dc1", 0))
    parts = [(int(RecordKind.HEADER), header), *records(driven)[1:]]
    assert f"snapshot format {FORMAT + 1}" in refused(driven, chunks_of(parts))


def test_a_record_of_unknown_kind_is_refused() -> None:
    driven = full()
    parts = records(driven)
    assert "unknown kind 99" in refused(driven, chunks_of([parts[0], (99, b"\x90"), *parts[1:]]))


def test_nothing_may_follow_the_end() -> None:
    driven = full()
    parts = records(driven)
    assert "after its end" in refused(driven, chunks_of([*parts, parts[1]]))


@given(st.binary(max_size=100))
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(SnapshotError):
        StateStore().restore(SnapshotMetadata(1, 1), iter([garbage]))


def test_large_objects_stand_in_records_of_bounded_size() -> None:
    driven = DrivenStore()
    for number in range(40):
        check = Check(check_id=f"c{number}", output="o" * 100_000)
        driven.apply(Register(node=Node(name="n1", address="10.0.0.1"), checks=(check,)))
    assert max(map(len, driven.store.snapshot())) < 2 * snapshot.SLICE_BYTES
    assert driven.restored().store.node_checks("n1") == driven.store.node_checks("n1")


def test_long_names_do_not_swell_the_index_records() -> None:
    driven = DrivenStore()
    for number in range(40):
        driven.service("s" * 100_000 + str(number), node="n1")
    assert max(map(len, driven.store.snapshot())) < 2 * snapshot.SLICE_BYTES
