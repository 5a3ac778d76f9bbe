"""The store as its driver and its listeners see it, and replicas that must agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.harness.state import DrivenStore

from callboard.agent.ports import StateMachine
from callboard.agent.state.store import StateStore
from callboard.catalog.changes import Change
from callboard.catalog.commands import (
    Command,
    Deregister,
    KeyValueDelete,
    KeyValueSet,
    Register,
    UnknownCommand,
)
from callboard.catalog.discovery import DiscoveryView
from callboard.catalog.objects import Check, Node, ServiceInstance
from callboard.catalog.tables import CatalogTables
from callboard.raft.messages import SnapshotMetadata


def test_the_store_is_a_state_machine_and_a_view() -> None:
    store = StateStore("dc1", epoch="cluster")
    machine: StateMachine = store
    view: DiscoveryView = store
    assert machine.applied_index == view.applied_index == 0
    assert view.datacenter == "dc1"
    assert not view.ready


def test_an_unknown_command_stops_with_index_and_number() -> None:
    store = StateStore()
    store.advance(1)
    with pytest.raises(UnknownCommand) as caught:
        store.apply(2, b"\xc8\x90")
    assert (caught.value.index, caught.value.number) == (2, 200)
    assert store.applied_index == 1


def test_advancing_moves_the_applied_index_only() -> None:
    driven = DrivenStore()
    driven.put("k")
    watcher = driven.watch("kv", "k")
    driven.store.advance(2)
    assert driven.store.applied_index == 2
    assert driven.index("kv", "k") == 1
    assert driven.store.drain_woken() == []
    assert watcher.wakes == 0


@pytest.mark.parametrize("index", [0, 1])
def test_entries_are_applied_in_order_only(index: int) -> None:
    store = StateStore()
    store.advance(1)
    with pytest.raises(AssertionError):
        store.advance(index)


def test_listeners_get_one_batch_at_its_end() -> None:
    driven, batches = DrivenStore(), list[Sequence[Change]]()
    driven.store.listen(batches.append)
    log = DrivenStore()
    log.service("a")
    log.put("k")
    log.check("c")
    for index, data in log.log:
        driven.store.apply(index, data)
    assert batches == []
    driven.store.drain_woken()
    driven.store.drain_woken()
    assert [[(each.kind, each.id, each.index) for each in batch] for batch in batches] == [
        [("node", "", 1), ("service", "a", 1), ("check", "c", 3)]
    ]


def test_an_unlistened_listener_hears_no_more() -> None:
    driven, batches = DrivenStore(), list[Sequence[Change]]()
    driven.store.listen(batches.append)
    driven.store.unlisten(batches.append)
    driven.node()
    assert batches == []


def test_a_restore_resets_listeners_or_tells_them_the_difference() -> None:
    driven, other = DrivenStore(), DrivenStore()
    resets, batches = list[int](), list[Sequence[Change]]()
    driven.store.listen(lambda _: None, reset=lambda: resets.append(1))
    driven.store.listen(batches.append)
    driven.service("old")
    other.service("new", node="n1")
    batches.clear()
    metadata = SnapshotMetadata(other.store.applied_index, 1)
    driven.store.restore(metadata, other.store.snapshot())
    assert resets == [1]
    assert [(each.operation, each.kind, each.id) for each in batches[0]] == [
        ("delete", "service", "old"),
        ("put", "service", "new"),
    ]


NAMES = st.sampled_from(["n1", "N1", "n2"])
IDS = st.sampled_from(["", "id-1", "id-2"])
SERVICES = st.builds(
    ServiceInstance,
    id=st.sampled_from(["1", "2"]),
    service=st.sampled_from(["web", "db"]),
    tags=st.sampled_from([(), ("x",), ("x", "y"), ("y", "x")]),
    port=st.integers(0, 1),
    meta=st.sampled_from([{}, {"a": "1", "b": "2"}, {"b": "2", "a": "1"}]),
)
CHECKS = st.builds(
    Check,
    check_id=st.sampled_from(["serfHealth", "c"]),
    status=st.sampled_from(["passing", "critical", "warning"]),
    service_id=st.sampled_from(["", "1", "2"]),
)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        Register,
        st.builds(Node, name=NAMES, id=IDS, address=st.sampled_from(["x", "y"])),
        st.none() | SERVICES,
        st.lists(CHECKS, max_size=2, unique_by=lambda check: check.check_id).map(tuple),
        st.booleans(),
        st.sampled_from([b"", b"", b"r1", b"r2"]),
    ),
    st.builds(Deregister, NAMES, st.sampled_from(["", "1"]), st.sampled_from(["", "c"])),
    st.builds(KeyValueSet, st.sampled_from(["a", "a/b"]), st.sampled_from([b"1", b"2"])),
    st.builds(KeyValueDelete, st.sampled_from(["a", "a/b"])),
)
LOGS = st.lists(COMMANDS, max_size=25)


def views(store: StateStore) -> dict[tuple[str, str], Any]:
    """What a reader of each resource sees."""
    seen: dict[tuple[str, str], Any] = {
        ("nodes", ""): list(store.nodes()),
        ("services", ""): dict(store.service_names()),
        ("checks", ""): list(store.checks()),
    }
    for status in ("passing", "warning", "critical"):
        seen[("checks", status)] = list(store.checks(status))
    for node in ("n1", "n2"):
        services, checks = list(store.node_services(node)), list(store.node_checks(node))
        seen[("node", node)] = (store.node(node), services, checks)
        seen[("node-services", node)] = (store.node(node), services)
        seen[("node-checks", node)] = (store.node(node) is None, checks)
    for name in ("web", "db"):
        instances = list(store.service_instances(name))
        nodes = [store.node(each.node) for each in instances]
        seen[("service", name)] = list(store.health(name))
        seen[("service-instances", name)] = (instances, nodes)
        seen[("service-checks", name)] = list(store.service_checks(name))
    return seen


@settings(max_examples=200)
@given(LOGS)
def test_an_index_moves_exactly_when_its_readers_see_a_change(log: list[Command]) -> None:
    driven = DrivenStore()
    before = views(driven.store)
    for command in log:
        indexes = {key: driven.index(*key) for key in before}
        driven.apply(command)
        after = views(driven.store)
        # A rename, or a service and its checks together, may change a thing and change it back.
        single = not isinstance(command, Register) or not (command.service and command.checks)
        single &= all(
            after["node", name][0] or not before["node", name][0] for name in ("n1", "n2")
        )
        for key, seen in after.items():
            moved = driven.index(*key) > indexes[key]
            assert driven.index(*key) >= indexes[key]
            assert moved or seen == before[key], f"{key} changed unseen by {command}"
            if single or isinstance(command, Deregister):
                assert not moved or seen != before[key], f"{key} moved in vain by {command}"
        before = after


@given(LOGS)
def test_replicas_that_apply_one_log_agree(log: list[Command]) -> None:
    first, second = DrivenStore(), DrivenStore()
    for command in log:
        first.apply(command)
    for index, data in first.log:
        second.store.apply(index, data)
    assert first.store.state_hash() == second.store.state_hash()
    assert views(first.store) == views(second.store)


@given(LOGS, LOGS)
def test_a_replica_restored_on_the_way_agrees(log: list[Command], more: list[Command]) -> None:
    first = DrivenStore()
    for command in log:
        first.apply(command)
    second = first.restored()
    for command in more:
        assert first.apply(command) == second.apply(command)
    assert first.store.state_hash() == second.store.state_hash()
    assert views(first.store) == views(second.store)
    keys = views(first.store)
    assert [first.index(*key) for key in keys] == [second.index(*key) for key in keys]


@given(LOGS)
def test_the_hash_is_that_of_the_state_alone(log: list[Command]) -> None:
    """The sum kept object by object is the sum of the objects that are there."""
    driven = DrivenStore()
    for command in log:
        driven.apply(command)
    driven.restored()  # compares the hash of what it loaded with the one kept


@given(LOGS)
def test_changes_told_to_a_listener_rebuild_the_catalog(log: list[Command]) -> None:
    driven = DrivenStore()
    copy = CatalogTables()

    def follow(changes: Sequence[Change]) -> None:
        for change in changes:
            copy.apply(change)

    driven.store.listen(follow)
    for command in log:
        driven.apply(command)
    assert list(copy.nodes()) == list(driven.store.nodes())
    assert list(copy.checks()) == list(driven.store.checks())
    assert copy.service_names() == driven.store.service_names()
    assert copy.health("web") == driven.store.health("web")
