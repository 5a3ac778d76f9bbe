"""What a subscriber asks for (draft 08, Subscription; drafts up to 07, topic=)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.hub.matching.queries import MATCHERS_MAX, REGEXPS_MAX, asked, matcher
from callboard.hub.matching.refusal import Refused


def _kinds(*pairs: tuple[str, str]) -> list[tuple[str, str]]:
    return [(one.kind, one.text) for one in asked(pairs).matchers]


def test_the_name_of_a_parameter_is_the_type_of_the_matcher() -> None:
    assert _kinds(("match", "/a"), ("match_exact", "/b"), ("match_urlpattern", "/c/:x")) == [
        ("exact", "/a"),
        ("exact", "/b"),
        ("urlpattern", "/c/:x"),
    ]
    assert _kinds(("topic", "/a"), ("topic", "/b/{x}")) == [("exact", "/a"), ("template", "/b/{x}")]


@pytest.mark.parametrize("name", ["match", "match_exact", "match_urlpattern", "topic"])
def test_a_star_is_everything_under_every_name(name: str) -> None:
    assert _kinds((name, "*")) == [("all", "*")]


def test_a_template_is_no_template_in_draft_08() -> None:
    assert _kinds(("match", "/b/{x}")) == [("exact", "/b/{x}")]


def test_the_generation_is_told() -> None:
    assert asked([("topic", "/a")]).draft == 7
    assert asked([("match", "/a")]).draft == 8


def test_equal_matchers_are_one() -> None:
    assert _kinds(("match", "/a"), ("match_exact", "/a")) == [("exact", "/a")]


@pytest.mark.parametrize("name", ["match", "match_exact", "topic"])
def test_a_topic_of_the_catalog_is_found_however_its_name_is_written(name: str) -> None:
    topic = "/catalog/checks/n/service%3Aweb"
    for text in ("/catalog/checks/n/service:web", "/catalog/checks/n/service%3aweb", topic):
        assert asked([(name, text)]).matchers[0].matches(topic)
    braces = asked([(name, "/catalog/services/{a b")]).matchers[0]
    assert braces.matches("/catalog/services/%7Ba%20b")
    assert not asked([(name, "/builds/service:web")]).matchers[0].matches("/builds/service%3Aweb")


def test_other_parameters_are_left_alone() -> None:
    assert _kinds(("last_event_id", "#a.1"), ("match", "/a"), ("x", "")) == [("exact", "/a")]


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("x", "/a")],
        [("match", "")],
        [("topic", "")],
        [("Match", "/a")],
        [("matchURLPattern", "/a")],
        [("match_regexp", "/a")],
        [("match_Exact", "/a")],
        [("MATCHING", "/a"), ("match", "/a")],
        [("match", "/a"), ("topic", "/a")],
        [("match", "/a\0")],
        [("match", "/a\u200b")],
        [("topic", "/a\n")],
        [("match", "/" + "a" * 1024)],
        [("match_urlpattern", "/" + "a" * 1024)],
        [("match_urlpattern", "/(")],
        [("match", f"/{n}") for n in range(MATCHERS_MAX + 1)],
        [("match_urlpattern", f"/{n}/(a)") for n in range(REGEXPS_MAX + 1)],
    ],
)
def test_a_bad_request_is_400(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(Refused) as refused:
        asked(pairs)
    assert refused.value.status == 400


def test_an_unknown_matcher_type_is_refused() -> None:
    with pytest.raises(Refused):
        matcher("regexp", "/a")


@given(st.lists(st.tuples(st.text(max_size=8) | st.just("match_urlpattern"), st.text())))
def test_no_query_breaks_it(pairs: list[tuple[str, str]]) -> None:
    try:
        assert asked(pairs).matchers
    except Refused as refused:
        assert refused.status == 400
