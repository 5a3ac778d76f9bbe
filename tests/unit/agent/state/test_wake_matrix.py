"""Who wakes for what: Consul's measured matrix (consul.md §2.3), its two spurious rows removed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.harness.state import DrivenStore

WOKE, SLEPT = True, False


def world() -> DrivenStore:
    """Two nodes, two services, a few keys."""
    driven = DrivenStore()
    driven.node("n1")
    driven.node("n2", "10.0.0.2")
    driven.service("a", port=80, tags=("x",))
    driven.service("b", port=81)
    driven.check("serfHealth")
    driven.check("service:a", service_id="a")
    driven.put("key", b"1")
    driven.put("dir/child", b"1")
    return driven


EVENTS: dict[str, Callable[[DrivenStore], object]] = {
    "key written": lambda it: it.put("key", b"2"),
    "same value rewritten": lambda it: it.put("key", b"1"),
    "flags changed": lambda it: it.put("key", b"1", flags=3),
    "failed check-and-set": lambda it: it.put("key", b"2", cas=1),
    "key deleted": lambda it: it.delete("key"),
    "sibling written": lambda it: it.put("key2"),
    "missing key created": lambda it: it.put("missing"),
    "child written": lambda it: it.put("dir/child", b"2"),
    "child created": lambda it: it.put("dir/child2"),
    "child deleted": lambda it: it.delete("dir/child"),
    "dir/ deleted": lambda it: it.delete_below("dir/"),
    "k deleted": lambda it: it.delete_below("k"),
    "dirt written": lambda it: it.put("dirt"),
    "a registered again": lambda it: it.service("a", port=80, tags=("x",)),
    "a's port changed": lambda it: it.service("a", port=8080, tags=("x",)),
    "a's tags changed": lambda it: it.service("a", port=80, tags=("y",)),
    "a on a new node": lambda it: it.service("a", node="n3", tags=("x",)),
    "a again, same tags": lambda it: it.service("a", service_id="a2", tags=("x",)),
    "a's check critical": lambda it: it.check("service:a", "critical", service_id="a"),
    "a's check unchanged": lambda it: it.check("service:a", service_id="a"),
    "a takes the name c": lambda it: it.service("c", service_id="a", port=80, tags=("x",)),
    "b's port changed": lambda it: it.service("b", port=8181),
    "b gets a tag": lambda it: it.service("b", port=81, tags=("new",)),
    "b on n2": lambda it: it.service("b", node="n2"),
    "b removed": lambda it: it.remove(service_id="b"),
    "c added": lambda it: it.service("c"),
    "missing service added": lambda it: it.service("missing"),
    "serfHealth critical": lambda it: it.check("serfHealth", "critical"),
    "serfHealth unchanged": lambda it: it.check("serfHealth"),
    "serfHealth removed": lambda it: it.remove(check_id="serfHealth"),
    "passing check added": lambda it: it.check("new"),
    "n1 moved": lambda it: it.node("n1", "10.0.0.7"),
    "n1 removed": lambda it: it.remove(),
    "n2 moved": lambda it: it.node("n2", "10.0.0.7"),
    "n2 registered again": lambda it: it.node("n2", "10.0.0.2"),
    "n2 removed": lambda it: it.remove("n2"),
    "n3 added": lambda it: it.node("n3"),
    "missing node added": lambda it: it.node("missing"),
}

MATRIX: dict[tuple[str, str], tuple[set[str], set[str]]] = {
    # watch: (events that wake it, events that must not)
    ("kv", "key"): (
        {"key written", "flags changed", "key deleted", "k deleted"},
        {"same value rewritten", "sibling written", "failed check-and-set", "dir/ deleted"},
    ),
    ("kv", "missing"): (
        {"missing key created"},
        {"key written", "key deleted", "dir/ deleted", "sibling written"},
    ),
    ("kv", "dir/child"): ({"child written", "dir/ deleted"}, {"child created", "dirt written"}),
    ("kv-prefix", "dir/"): (
        {"child written", "child created", "child deleted", "dir/ deleted"},
        {"dirt written", "key written", "k deleted"},
    ),
    ("kv-prefix", ""): ({"key written", "dirt written", "child deleted"}, {"c added"}),
    ("service", "a"): (
        {
            "a's port changed",
            "a's tags changed",
            "a's check critical",
            "a on a new node",
            "a again, same tags",
            "a takes the name c",
            "serfHealth critical",
            "serfHealth removed",
            "n1 moved",
            "n1 removed",
        },
        {
            "a registered again",
            "a's check unchanged",
            "b's port changed",
            "b removed",
            "serfHealth unchanged",
            "n2 moved",
            "key written",
        },
    ),
    ("service", "A"): ({"a's port changed"}, {"b's port changed"}),
    ("service", "missing"): (
        {"missing service added"},
        {"b's port changed", "b removed", "n1 removed", "c added", "serfHealth critical"},
    ),
    ("service", "c"): ({"a takes the name c", "c added"}, {"a's port changed"}),
    ("service", "b"): ({"b removed", "n1 removed"}, {"a's port changed", "a's check critical"}),
    ("service-instances", "a"): (
        {"a's port changed", "a on a new node", "n1 moved", "n1 removed"},
        {"a's check critical", "serfHealth critical", "b's port changed"},
    ),
    ("service-checks", "a"): (
        {"a's check critical", "a's tags changed", "n1 removed"},
        {"a's port changed", "serfHealth critical", "n1 moved"},
    ),
    ("services", ""): (
        {"b gets a tag", "c added", "b removed", "a's tags changed", "a takes the name c"},
        {
            "key written",
            "b's port changed",
            "a's check critical",
            "a again, same tags",
            "n2 moved",
            "a on a new node",
        },
    ),
    ("nodes", ""): (
        {"n3 added", "n2 removed", "n2 moved", "a on a new node"},
        {"n2 registered again", "b's port changed", "serfHealth critical", "key written"},
    ),
    ("node-services", "n1"): (
        {"b's port changed", "b removed", "n1 moved", "n1 removed"},
        {"b on n2", "serfHealth critical", "n2 moved"},
    ),
    ("node-checks", "n1"): (
        {"serfHealth critical", "serfHealth removed", "a's check critical", "n1 removed"},
        {"b's port changed", "n2 moved", "b on n2"},
    ),
    ("node", "N1"): (
        {"serfHealth critical", "b's port changed", "n1 moved", "n1 removed"},
        {"n2 moved", "b on n2", "key written"},
    ),
    ("node", "missing"): ({"missing node added"}, {"n3 added", "n1 removed"}),
    ("checks", ""): (
        {"passing check added", "serfHealth critical", "serfHealth removed", "n1 removed"},
        {"serfHealth unchanged", "b's port changed", "n2 removed"},
    ),
    ("checks", "critical"): (
        {"serfHealth critical", "a's check critical"},
        {"passing check added", "serfHealth removed"},
    ),
    ("checks", "passing"): (
        {"passing check added", "serfHealth critical", "serfHealth removed"},
        {"serfHealth unchanged", "b's port changed"},
    ),
}

ROWS = [
    (kind, name, event, event in waking)
    for (kind, name), (waking, other) in MATRIX.items()
    for event in sorted(waking | other)
]


@pytest.mark.parametrize(("kind", "name", "event", "wakes"), ROWS)
def test_a_watch_wakes_exactly_for_its_own_changes(
    kind: str, name: str, event: str, wakes: bool
) -> None:
    driven = world()
    before = driven.index(kind, name)
    watcher = driven.watch(kind, name)
    EVENTS[event](driven)
    assert watcher.wakes == int(wakes)
    assert (driven.index(kind, name) > before) is wakes


def test_every_event_is_in_the_matrix() -> None:
    assert {event for waking, other in MATRIX.values() for event in waking | other} == set(EVENTS)
