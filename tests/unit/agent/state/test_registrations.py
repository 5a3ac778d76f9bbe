"""Register and Deregister: what they do, what they refuse, and that they do it whole."""

from __future__ import annotations

import pytest
from tests.harness.state import DrivenStore

from callboard.catalog.commands import Deregister, Register
from callboard.catalog.objects import Check, Node, ServiceAddress, ServiceInstance, Weights

ID1 = "11111111-0000-0000-0000-000000000000"
ID2 = "22222222-0000-0000-0000-000000000000"


@pytest.fixture
def driven() -> DrivenStore:
    return DrivenStore()


def register(
    driven: DrivenStore,
    name: str = "n1",
    node_id: str = "",
    address: str = "10.0.0.1",
    *,
    service: ServiceInstance | None = None,
    checks: tuple[Check, ...] = (),
    skip: bool = False,
) -> object:
    node = Node(name=name, id=node_id, address=address)
    return driven.apply(Register(node, service, checks, skip))


def test_a_node_service_and_check_are_put_at_one_index(driven: DrivenStore) -> None:
    assert (
        register(
            driven,
            service=ServiceInstance(id="w1", service="web", tags=("a",), weights=Weights(5, 2)),
            checks=(Check(check_id="c", service_id="w1", status="passing"),),
        )
        is True
    )
    node, service = driven.store.node("n1"), driven.store.service("n1", "w1")
    check = driven.store.check("n1", "c")
    assert node is not None and service is not None and check is not None
    assert {each.modify_index for each in (node, service, check)} == {1}
    assert service.weights == Weights(5, 2)
    assert (check.service_name, check.service_tags) == ("web", ("a",))


def test_the_same_registration_again_changes_nothing(driven: DrivenStore) -> None:
    def again() -> object:
        return register(
            driven,
            node_id=ID1,
            service=ServiceInstance(
                id="w1",
                service="web",
                meta={"b": "1", "a": "2"},
                tagged_addresses={"lan": ServiceAddress("x", 1)},
            ),
            checks=(Check(check_id="c", service_id="w1", definition={"TCP": "a:1"}),),
        )

    again()
    state_hash = driven.store.state_hash()
    assert again() is True
    assert driven.index("nodes") == driven.index("service", "web") == driven.index("checks") == 1
    assert driven.store.state_hash() == state_hash + 1, "only the applied index moved"


def test_a_changed_object_keeps_its_create_index(driven: DrivenStore) -> None:
    driven.service("web", port=1)
    driven.service("web", port=2)
    service = driven.store.service("n1", "web")
    assert service is not None
    assert (service.create_index, service.modify_index) == (1, 2)


def test_the_clients_own_indexes_are_ignored(driven: DrivenStore) -> None:
    driven.apply(Register(Node(name="n1", create_index=99, modify_index=99)))
    assert driven.store.nodes()[0].create_index == 1


def test_ids_default_to_names(driven: DrivenStore) -> None:
    register(driven, service=ServiceInstance(id="", service="web"), checks=(
        Check(check_id="", name="alive"),
    ))  # fmt: skip
    assert driven.store.service("n1", "web") is not None
    assert driven.store.check("n1", "alive") is not None


def test_names_are_found_in_any_case_and_keep_their_first_spelling(driven: DrivenStore) -> None:
    driven.node("Agent-1")
    driven.service("Web", node="AGENT-1")
    assert [node.name for node in driven.store.nodes()] == ["Agent-1"]
    assert [each.node for each in driven.store.service_instances("wEB")] == ["Agent-1"]
    assert list(driven.store.service_names()) == ["Web"]


def test_skip_node_update_leaves_the_node_alone(driven: DrivenStore) -> None:
    register(driven, node_id=ID1, address="10.0.0.1")
    register(driven, address="", skip=True, service=ServiceInstance(id="s", service="s"))
    node = driven.store.node("n1")
    assert node is not None
    assert (node.id, node.address, node.modify_index) == (ID1, "10.0.0.1", 1)


def test_a_registration_without_an_id_keeps_the_nodes_id(driven: DrivenStore) -> None:
    register(driven, node_id=ID1)
    register(driven, address="10.0.0.2")
    node = driven.store.node("n1")
    assert node is not None
    assert (node.id, node.address) == (ID1, "10.0.0.2")


def test_a_node_without_an_id_takes_one(driven: DrivenStore) -> None:
    register(driven)
    assert register(driven, node_id=ID1) is True
    assert driven.store.node_by_id(ID1) is not None


def test_the_name_of_a_live_node_is_reserved(driven: DrivenStore) -> None:
    register(driven, "N1", ID1)
    driven.check("serfHealth", node="n1")
    before = driven.store.state_hash()
    error = register(driven, "n1", ID2, "10.0.0.2")
    assert error == (
        f'failed inserting node: Error while renaming Node ID: "{ID2}" (10.0.0.2): '
        f"Node name n1 is reserved by node {ID1} with name N1 (10.0.0.1)"
    )
    assert driven.store.state_hash() == before + 1


@pytest.mark.parametrize("status", ["critical", None])
def test_the_name_of_a_failed_or_left_node_may_be_taken(
    driven: DrivenStore, status: str | None
) -> None:
    register(driven, "n1", ID1)
    if status is not None:
        driven.check("serfHealth", status)
    assert register(driven, "n1", ID2, "10.0.0.2") is True
    node = driven.store.node("n1")
    assert node is not None
    assert (node.id, node.address) == (ID2, "10.0.0.2")
    assert driven.store.node_by_id(ID1) is None


def test_a_known_id_under_a_new_name_renames_the_node(driven: DrivenStore) -> None:
    register(driven, "old", ID1, service=ServiceInstance(id="s", service="s"))
    assert register(driven, "new", ID1) is True
    assert driven.store.node("old") is None
    node = driven.store.node("new")
    assert node is not None
    assert node.create_index == 1
    assert driven.store.service_instances("s") == ()


def test_a_rename_onto_a_live_node_is_refused(driven: DrivenStore) -> None:
    register(driven, "old", ID1)
    register(driven, "taken", ID2)
    driven.check("serfHealth", node="taken")
    assert "Node name taken is reserved by node" in str(register(driven, "taken", ID1))
    assert driven.store.node("old") is not None


def test_a_rename_onto_a_failed_node_takes_its_name(driven: DrivenStore) -> None:
    register(driven, "old", ID1)
    register(driven, "gone", ID2)
    driven.check("serfHealth", "critical", node="gone")
    assert register(driven, "gone", ID1) is True
    assert [(node.name, node.id) for node in driven.store.nodes()] == [("gone", ID1)]


@pytest.mark.parametrize(
    ("check", "error"),
    [
        (
            Check(check_id="c", service_id="nope"),
            'failed inserting check: Missing service registration on node "n1"',
        ),
        (Check(check_id="c", status="good"), 'Invalid check status: "good"'),
        (Check(check_id="c", node="n2"), 'check node "n2" does not match node "n1"'),
        (Check(check_id=""), "Must provide check ID or name"),
    ],
)
def test_a_bad_check_refuses_the_whole_registration(
    driven: DrivenStore, check: Check, error: str
) -> None:
    service = ServiceInstance(id="s", service="s")
    assert register(driven, service=service, checks=(check,)) == error
    assert driven.store.nodes() == []
    assert driven.store.service_names() == {}
    assert driven.index("nodes") == 0


def test_a_service_needs_a_name(driven: DrivenStore) -> None:
    answer = register(driven, service=ServiceInstance(id="s", service=""))
    assert answer == "Must provide service name with ID"


def test_a_check_may_name_its_node_in_any_case(driven: DrivenStore) -> None:
    assert register(driven, checks=(Check(check_id="c", node="N1"),)) is True


def test_an_instance_that_changes_its_name_takes_its_checks_along(driven: DrivenStore) -> None:
    driven.service("old", service_id="s")
    driven.check("c", service_id="s")
    driven.service("new", service_id="s", tags=("t",))
    check = driven.store.check("n1", "c")
    assert check is not None
    assert (check.service_name, check.service_tags, check.modify_index) == ("new", ("t",), 3)
    assert driven.store.service_instances("old") == ()
    assert list(driven.store.service_names()) == ["new"]


def test_deregistering_a_service_removes_its_checks(driven: DrivenStore) -> None:
    driven.service("web")
    driven.check("service:web", service_id="web")
    driven.check("serfHealth")
    assert driven.remove(service_id="web") is True
    assert [check.check_id for check in driven.store.checks()] == ["serfHealth"]


def test_deregistering_a_node_removes_everything_on_it(driven: DrivenStore) -> None:
    driven.service("web")
    driven.service("web", node="n2")
    driven.check("service:web", service_id="web")
    assert driven.remove("N1") is True
    assert driven.store.counts() == (1, 1, 0, 0)
    assert [each.node for each in driven.store.service_instances("web")] == ["n2"]


@pytest.mark.parametrize(
    "command",
    [
        Deregister("nope"),
        Deregister("nope", service_id="x"),
        Deregister("n1", service_id="x"),
        Deregister("n1", check_id="x"),
    ],
)
def test_deregistering_what_is_not_there_is_no_failure(
    driven: DrivenStore, command: Deregister
) -> None:
    driven.node()
    assert driven.apply(command) is True
    assert driven.store.counts() == (1, 0, 0, 0)


def test_health_shows_the_nodes_checks_and_the_instances_own(driven: DrivenStore) -> None:
    driven.service("web")
    driven.service("db")
    driven.check("serfHealth")
    driven.check("service:db", service_id="db")
    driven.check("service:web", "warning", service_id="web")
    (entry,) = driven.store.health("web")
    assert [check.check_id for check in entry.checks] == ["serfHealth", "service:web"]
    assert entry.status == "warning"
    assert driven.store.service_checks("web") == [driven.store.check("n1", "service:web")]


def test_equal_parts_are_one_object(driven: DrivenStore) -> None:
    for name in ("a", "b"):
        driven.service(name, tags=("x", "y"), meta={"k": "v"})
    a, b = (driven.store.service("n1", name) for name in ("a", "b"))
    assert a is not None and b is not None
    assert a.tags is b.tags
    assert a.meta is b.meta
    assert a.node is b.node
