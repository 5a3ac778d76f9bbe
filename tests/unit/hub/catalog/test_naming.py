"""Names of topics, and what they are of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.hub.catalog.naming import (
    Topic,
    canonical,
    check_topic,
    node_topic,
    parse,
    service_topic,
)
from callboard.hub.matching.matchers import legacy

NAMES = st.text(min_size=1, max_size=30).filter(lambda it: it.isprintable())


def test_usual_names_stand_in_topics_as_they_are() -> None:
    assert service_topic("web") == "/catalog/services/web"
    assert node_topic("agent-1.dc1") == "/catalog/nodes/agent-1.dc1"
    assert check_topic("agent-1", "serfHealth") == "/catalog/checks/agent-1/serfHealth"


def test_a_slash_or_a_colon_in_a_check_id_is_percent_encoded() -> None:
    assert check_topic("agent-1", "service:web") == "/catalog/checks/agent-1/service%3Aweb"
    assert check_topic("agent-1", "disk/data") == "/catalog/checks/agent-1/disk%2Fdata"
    assert parse("/catalog/checks/agent-1/disk%2Fdata") == Topic("check", "agent-1", "disk/data")


@given(NAMES, NAMES)
def test_a_template_finds_every_topic_of_its_kind(name: str, id: str) -> None:
    assert legacy("/catalog/services/{name}").matches(service_topic(name))
    assert legacy("/catalog/nodes/{name}").matches(node_topic(name))
    assert legacy("/catalog/checks/{node}/{id}").matches(check_topic(name, id))


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("/catalog/checks/agent-1/service:web", "/catalog/checks/agent-1/service%3Aweb"),
        ("/catalog/checks/agent-1/disk%2fdata", "/catalog/checks/agent-1/disk%2Fdata"),
        ("/catalog/services/w%65b", "/catalog/services/web"),
        ("/catalog/keys/a:b", "/catalog/keys/a:b"),
        ("/cluster/leader", "/cluster/leader"),
    ],
)
def test_a_topic_written_in_another_way_has_one_that_it_means(text: str, topic: str) -> None:
    assert canonical(text) == topic
    assert canonical(topic) == topic


@pytest.mark.parametrize(
    ("template", "topic", "wanted"),
    [
        ("/catalog/checks/{node}/service:web", "/catalog/checks/agent-1/service%3Aweb", True),
        ("/catalog/checks/{node}/service%3aweb", "/catalog/checks/agent-1/service%3Aweb", True),
        ("/catalog/checks/{node}/service:web", "/catalog/checks/agent-1/service%3Adb", False),
        ("/catalog/checks/agent:1/{id}", "/catalog/checks/agent%3A1/serfHealth", True),
        ("/catalog/nodes/w%65b-{n}", "/catalog/nodes/web-1", True),
        ("/catalog/{kind}/a:b", "/catalog/services/a%3Ab", True),
        ("/catalog/{kind}/{a", "/catalog/services/%7Ba", False),
        ("/books/{id}/a:b", "/books/1/a%3Ab", False),
        ("/books/{id}/a:b", "/books/1/a:b", True),
    ],
)
def test_what_a_template_says_between_its_variables_may_be_written_in_another_way(
    template: str, topic: str, wanted: bool
) -> None:
    matcher = legacy(template)
    assert matcher.matches(topic) is wanted
    assert matcher.text == template, "as it was asked for"


@given(NAMES, NAMES)
def test_every_name_is_read_back_from_its_topic(name: str, id: str) -> None:
    assert parse(service_topic(name)) == Topic("service", name)
    assert parse(node_topic(name)) == Topic("node", name)
    topic = check_topic(name, id)
    assert parse(topic) == Topic("check", name, id)
    assert topic.count("/") == 4
    assert topic.isascii()
    assert topic.isprintable()


@given(st.text(max_size=40))
def test_any_text_names_something_in_one_spelling_or_nothing(text: str) -> None:
    for topic in (text, f"/catalog/services/{text}", f"/catalog/checks/{text}"):
        named = parse(topic)
        if named is not None and named.kind == "service":
            assert service_topic(named.name) == topic
        if named is not None and named.kind == "check":
            assert check_topic(named.name, named.id) == topic


@pytest.mark.parametrize(
    "text",
    [
        "/catalog/services/w%65b",
        "/catalog/services/a/b",
        "/catalog/services/%ff",
        "/catalog/checks/agent-1/disk/data",
        "/catalog/checks/agent-1",
        "/catalog/keys/a",
        "/cluster/leader",
        "catalog/services/web",
        "",
    ],
)
def test_another_text_names_nothing(text: str) -> None:
    assert parse(text) is None
