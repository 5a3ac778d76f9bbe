"""The catalog's tables against a naive model, and what pinned copies promise."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from callboard.catalog.changes import Change
from callboard.catalog.objects import Check, Node, ServiceInstance
from callboard.catalog.tables import CatalogTables

NODES = st.builds(
    Node,
    name=st.sampled_from(["a", "A", "b"]),
    id=st.sampled_from(["", "id-1", "ID-2"]),
    address=st.sampled_from(["10.0.0.1", "10.0.0.2"]),
)
SERVICES = st.builds(
    ServiceInstance,
    node=st.sampled_from(["a", "A", "b"]),
    id=st.sampled_from(["1", "2", "3"]),
    service=st.sampled_from(["web", "Web", "db"]),
    tags=st.lists(st.sampled_from(["x", "y"]), max_size=3).map(tuple),
    address=st.sampled_from(["", "10.0.0.1", "10.0.0.9"]),
)
CHECKS = st.builds(
    Check,
    node=st.sampled_from(["a", "A", "b"]),
    check_id=st.sampled_from(["1", "2", "3"]),
    service_id=st.sampled_from(["", "1", "2"]),
    status=st.sampled_from(["passing", "warning", "critical"]),
)
DELETES = st.tuples(
    st.sampled_from(["node", "service", "check"]),
    st.sampled_from(["a", "B"]),
    st.sampled_from(["1", "2", "3"]),
)
STEPS = st.lists(NODES | SERVICES | CHECKS | DELETES, max_size=40)
Step = Node | ServiceInstance | Check | tuple[str, str, str]


class Model:
    """Three plain dicts; every look-up is a search."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.services: dict[tuple[str, str], ServiceInstance] = {}
        self.checks: dict[tuple[str, str], Check] = {}

    def step(self, step: Step) -> None:
        if isinstance(step, Node):
            self.nodes[step.name.lower()] = step
        elif isinstance(step, ServiceInstance):
            self.services[(step.node.lower(), step.id)] = step
        elif isinstance(step, Check):
            self.checks[(step.node.lower(), step.check_id)] = step
        elif step[0] == "node":
            self.nodes.pop(step[1].lower(), None)
        elif step[0] == "service":
            self.services.pop((step[1].lower(), step[2]), None)
        else:
            self.checks.pop((step[1].lower(), step[2]), None)

    def instances(self, name: str) -> list[ServiceInstance]:
        return [
            self.services[key]
            for key in sorted(self.services)
            if self.services[key].service.lower() == name.lower()
        ]

    def names(self) -> dict[str, tuple[str, ...]]:
        names: dict[str, set[str]] = {}
        for service in self.services.values():
            names.setdefault(service.service, set()).update(service.tags)
        return {name: tuple(sorted(names[name])) for name in sorted(names)}


def step(tables: CatalogTables, action: Step) -> Change | None:
    if isinstance(action, Node):
        return tables.put_node(action)
    if isinstance(action, ServiceInstance):
        return tables.put_service(action)
    if isinstance(action, Check):
        return tables.put_check(action)
    kind, node, name = action
    if kind == "node":
        return tables.delete_node(node, 1)
    if kind == "service":
        return tables.delete_service(node, name, 1)
    return tables.delete_check(node, name, 1)


def run(steps: Iterable[Step]) -> tuple[CatalogTables, Model]:
    tables, model = CatalogTables(), Model()
    for action in steps:
        step(tables, action)
        model.step(action)
    return tables, model


@given(STEPS)
def test_every_look_up_finds_what_a_search_finds(steps: list[Step]) -> None:
    tables, model = run(steps)
    assert list(tables.nodes()) == [model.nodes[name] for name in sorted(model.nodes)]
    assert tables.service_names() == model.names()
    assert tables.counts == (len(model.nodes), len(model.services), len(model.checks))
    for name in ("web", "DB", "none"):
        assert list(tables.service_instances(name)) == model.instances(name)
        assert tables.has_service(name) == bool(model.instances(name))
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.9"):
        assert {node.name.lower() for node in tables.nodes_at(address)} == {
            name for name, node in model.nodes.items() if node.address == address
        }
        assert list(tables.services_at(address)) == [
            model.services[key]
            for key in sorted(model.services)
            if model.services[key].address == address
        ]


@given(STEPS)
def test_every_check_is_found_by_node_instance_and_status(steps: list[Step]) -> None:
    tables, model = run(steps)
    ordered = [model.checks[key] for key in sorted(model.checks)]
    assert list(tables.checks()) == ordered
    for status in ("passing", "warning", "critical"):
        assert list(tables.checks(status)) == [each for each in ordered if each.status == status]
    for node in ("a", "B"):
        on_node = [each for each in ordered if each.node.lower() == node.lower()]
        assert list(tables.node_checks(node)) == on_node
        for service_id in ("", "1", "2"):
            assert list(tables.instance_checks(node, service_id)) == [
                each for each in on_node if each.service_id == service_id
            ]
        assert list(tables.node_services(node)) == [
            model.services[key] for key in sorted(model.services) if key[0] == node.lower()
        ]


@given(STEPS)
def test_health_joins_node_service_and_checks(steps: list[Step]) -> None:
    tables, model = run(steps)
    for entry in tables.health("web"):
        node = entry.service.node.lower()
        assert entry.node == model.nodes[node]
        mine = [each for key, each in sorted(model.checks.items()) if key[0] == node]
        assert list(entry.checks) == [each for each in mine if not each.service_id] + [
            each for each in mine if each.service_id == entry.service.id
        ]
    assert len(tables.health("web")) == sum(
        each.node.lower() in model.nodes for each in model.instances("web")
    )


@given(STEPS)
def test_the_names_version_moves_exactly_with_the_names(steps: list[Step]) -> None:
    tables = CatalogTables()
    for action in steps:
        before, version = dict(tables.service_names()), tables.names_version
        step(tables, action)
        assert (tables.names_version != version) == (dict(tables.service_names()) != before)


@given(STEPS, STEPS)
def test_a_pinned_version_does_not_see_later_writes(first: list[Step], later: list[Step]) -> None:
    tables, model = run(first)
    pinned = tables.pin()
    for action in later:
        step(tables, action)
    assert {node.name.lower(): node for node in pinned.nodes()} == model.nodes
    assert {(each.node.lower(), each.id): each for each in pinned.services()} == model.services
    assert {(each.node.lower(), each.check_id): each for each in pinned.checks()} == model.checks


@given(STEPS, STEPS)
def test_the_difference_turns_one_catalog_into_another(
    first: list[Step], other: list[Step]
) -> None:
    old, _ = run(first)
    new, model = run(other)
    for change in old.difference(new, 9):
        old.apply(change)
    assert old.difference(new, 9) == []
    assert list(old.nodes()) == list(new.nodes())
    assert old.service_names() == model.names()
    assert list(old.checks()) == list(new.checks())


@given(STEPS)
def test_changes_replayed_elsewhere_build_the_same_catalog(steps: list[Step]) -> None:
    tables, copy = CatalogTables(), CatalogTables()
    for action in steps:
        change = step(tables, action)
        if change is not None:
            copy.apply(change)
    assert tables.difference(copy, 1) == []


def test_a_copy_is_independent() -> None:
    tables = CatalogTables()
    tables.put_node(Node(name="a"))
    copy = tables.copy()
    tables.delete_node("a", 2)
    assert copy.node("A") == Node(name="a")
    assert tables.node("a") is None


def test_a_change_tells_what_was_there_before() -> None:
    tables = CatalogTables()
    first, second = Node(name="a", modify_index=1), Node(name="a", address="x", modify_index=2)
    assert tables.put_node(first) == Change(1, "put", "node", "a", "", first)
    assert tables.put_node(second) == Change(2, "put", "node", "a", "", second, first)
    assert tables.delete_node("A", 3) == Change(3, "delete", "node", "a", "", second)
    assert tables.delete_node("a", 4) is None


def test_a_node_is_found_by_its_id_in_any_case() -> None:
    tables = CatalogTables()
    tables.put_node(Node(name="a", id="ABC"))
    assert tables.node_by_id("abc") == Node(name="a", id="ABC")
    tables.put_node(Node(name="a", id="def"))
    assert tables.node_by_id("abc") is None
