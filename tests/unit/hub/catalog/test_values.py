"""Values: what is remembered of them is what would be made anew."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.harness.told_catalog import Log, random_command

from callboard.catalog.changes import Change
from callboard.catalog.commands import Register
from callboard.catalog.objects import Check, Node, ServiceInstance
from callboard.catalog.render import catalog_node_json, check_json, health_entry_json
from callboard.hub.catalog import values as values_module
from callboard.hub.catalog.naming import check_topic, node_topic, service_topic
from callboard.hub.catalog.touched import touched
from callboard.hub.catalog.values import Values, event_data


def topics(log: Log) -> list[str]:
    """All topics there are."""
    store = log.store
    return [
        *(check_topic(check.node, check.check_id) for check in store.checks()),
        *(node_topic(node.name) for node in store.nodes()),
        *map(service_topic, store.service_names()),
    ]


def changed(values: Values, log: Log, changes: list[Change]) -> None:
    """Bring the values up to date with the changes of one index."""
    for topic, places in touched(changes, log.store.tables).items():
        values.value(topic, log.store.tables, places)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 20_000))
def test_a_value_that_was_brought_up_to_date_is_one_made_anew(seed: int, bytes_max: int) -> None:
    rng = random.Random(seed)
    log, values = Log(), Values(bytes_max)
    before = values_module.CHANGED_PARTS_MIN, values_module.READ_PARTS_MIN
    values_module.CHANGED_PARTS_MIN = values_module.READ_PARTS_MIN = rng.randint(0, 2)
    try:
        for _ in range(60):
            index = log.commit(random_command(rng, log))
            changed(values, log, log.between(index - 1, index))
            for topic in rng.sample(topics(log), rng.randint(0, len(topics(log)))):
                tables = log.store.tables
                assert values.value(topic, tables) == Values().value(topic, tables)
            assert 0 <= values.remembered_bytes <= bytes_max
    finally:
        values_module.CHANGED_PARTS_MIN, values_module.READ_PARTS_MIN = before


def test_values_are_what_the_http_api_answers() -> None:
    log = Log()
    node = Node(name="n1", address="10.0.0.1", meta={"a&b": "<1>"})
    check = Check(check_id="serfHealth", status="passing", output="a, b\nc")
    for id in ("b", "a", 'quoted"'):
        log.commit(Register(node, ServiceInstance(id=id, service="web", port=80), (check,)))
    store, values = log.store, Values()

    def data(topic: str) -> bytes:
        return event_data(topic, 7, values.value(topic, store.tables))

    entries = b",".join(map(health_entry_json, store.health("web")))
    assert data("/catalog/services/web") == (
        b'{"Topic":"/catalog/services/web","Index":7,"Value":[%b]}' % entries
    )
    found = store.node("n1")
    assert found is not None
    assert data("/catalog/nodes/n1") == (
        b'{"Topic":"/catalog/nodes/n1","Index":7,"Value":%b}'
        % catalog_node_json(found, store.node_services("n1"))
    )
    (kept,) = store.node_checks("n1")
    assert data("/catalog/checks/n1/serfHealth") == (
        b'{"Topic":"/catalog/checks/n1/serfHealth","Index":7,"Value":%b}' % check_json(kept)
    )
    assert data("/catalog/nodes/n2") == b'{"Topic":"/catalog/nodes/n2","Index":7,"Value":null}'


def test_a_node_without_services_has_an_empty_object() -> None:
    log = Log()
    log.commit(Register(Node(name="n1", address="10.0.0.1")))
    pieces = Values().value("/catalog/nodes/n1", log.store.tables)
    assert event_data("t", 1, pieces).endswith(b'"Services":{}}}')


def test_a_change_of_one_in_a_thousand_renders_one() -> None:
    log, values = Log(), Values()
    nodes = [Node(name=f"n{number}", address="10.0.0.1") for number in range(1000)]
    for node in nodes:
        check = Check(check_id="web", status="passing", service_id="web")
        log.commit(Register(node, ServiceInstance(id="web", service="web"), (check,)))
    before = values.value("/catalog/services/web", log.store.tables, ())
    index = log.commit(Register(nodes[500], None, (Check(check_id="web", service_id="web"),)))
    (places,) = [
        places
        for topic, places in touched(log.between(index - 1, index), log.store.tables).items()
        if topic == "/catalog/services/web"
    ]
    after = values.value("/catalog/services/web", log.store.tables, places)
    assert before is not None
    assert after is not None
    made = [new for old, new in zip(before[1:-1], after[1:-1], strict=True) if new is not old]
    assert len(made) == 1
    assert b"critical" in made[0]
