"""Who asked for a topic: the index finds what asking every selector finds, and quickly."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from callboard.hub.matching import index as index_module
from callboard.hub.matching.grants import TokenGrants
from callboard.hub.matching.index import Index
from callboard.hub.matching.matchers import Pattern, everything, exact, legacy, urlpattern
from callboard.hub.matching.selectors import selector
from callboard.hub.matching.urls import HUB_URL
from callboard.hub.ports import Matcher, Selector

MATCHERS: list[Matcher] = [
    everything(),
    exact("/a"),
    exact("/a/b"),
    exact("https://example.com/a"),
    exact("/catalog/services/web"),
    exact("/cluster/leader"),
    legacy("/a/{x}"),
    legacy("/a{/x*}"),
    legacy("{+all}"),
    legacy("https://example.com/{x}"),
    urlpattern("/a/:x"),
    urlpattern("/a/:x?"),
    urlpattern("/:x/*"),
    urlpattern("*://example.com/:x"),
    urlpattern("https://example.com/*"),
    urlpattern("http{s}?://example.com/a"),
    urlpattern("http://localhost:8800/:x/*"),
    urlpattern("urn\\:*"),
    urlpattern("/catalog/services/:name"),
    legacy("/catalog/{kind}/{name}"),
]
TOPICS = [
    "/a",
    "/a/b",
    "a",
    "/b/c",
    "https://example.com/a",
    "http://example.com/a",
    "https://example.com/a/../b",
    "http://localhost:8800/a/b",
    "urn:a",
    "http://[bad",
    "/x",
]
CATALOG_TOPICS = ["/catalog/services/web", "/catalog/nodes/n", "/cluster/leader"]

matchers = st.lists(st.sampled_from(MATCHERS), min_size=1, max_size=3)
grants = st.none() | st.lists(st.sampled_from(MATCHERS), max_size=2).map(TokenGrants)
selectors = st.builds(selector, matchers, grants)
topics = st.lists(st.sampled_from(TOPICS), min_size=1, max_size=3, unique=True).map(tuple)


class IndexAndModel(RuleBasedStateMachine):
    """Adding, removing and finding in any order, beside a list that is asked one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.index = Index()
        self.model: list[Selector] = []

    @rule(one=selectors)
    def add(self, one: Selector) -> None:
        self.index.add(one)
        self.model.append(one)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.model:
            one = data.draw(st.sampled_from(self.model))
            self.index.remove(one)
            self.model.remove(one)

    @rule(asked=topics, private=st.booleans())
    def find(self, asked: tuple[str, ...], private: bool) -> None:
        found = self.index.find(asked, private)
        assert len(found) == len(set(found))
        assert set(found) == {one for one in self.model if one.wants(asked, private)}

    @rule(topic=st.sampled_from(CATALOG_TOPICS))
    def find_catalog(self, topic: str) -> None:
        found = self.index.find_catalog(topic)
        assert len(found) == len(set(found))
        assert set(found) == {one for one in self.model if one.wants_catalog(topic)}

    @invariant()
    def counts_different_ones(self) -> None:
        assert len(self.index) == len(set(self.model))


TestIndex = IndexAndModel.TestCase


@given(st.lists(selectors, max_size=6))
def test_an_index_that_was_emptied_holds_nothing(some: list[Selector]) -> None:
    index = Index()
    for one in some:
        index.add(one)
    for one in some:
        index.remove(one)
    assert len(index) == 0
    assert not any(index.find((topic,), False) for topic in TOPICS)


def test_a_selector_that_was_never_added_cannot_be_removed() -> None:
    with pytest.raises(KeyError):
        Index().remove(selector([exact("/a")]))


def test_a_selector_stays_as_long_as_one_stream_has_it() -> None:
    index, one = Index(), selector([exact("/a")])
    index.add(one)
    index.add(selector([exact("/a")]))
    index.remove(one)
    assert list(index.find(("/a",), False)) == [one]


def test_a_topic_never_seen_costs_the_patterns_of_its_bucket_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index, asked = Index(), []
    for number in range(1000):
        index.add(selector([urlpattern(f"/group-{number}/:x"), legacy(f"/team-{number}/{{x}}")]))
    original = Pattern.matches

    def counted(self: Pattern, topic: str) -> bool:
        asked.append(self.text)
        return original(self, topic)

    monkeypatch.setattr(Pattern, "matches", counted)
    assert len(index.find(("/group-7/never-seen",), False)) == 1
    assert asked == ["/group-7/:x"]


def test_an_index_finds_by_the_url_of_its_own_hub() -> None:
    base = "https://hub.example/.well-known/mercure"
    index, relative = Index(base), selector([urlpattern("/a/:x", base)])
    absolute = selector([urlpattern("https://hub.example/a/:x", base)])
    index.add(relative)
    index.add(absolute)
    for topic in ("/a/b", "https://hub.example/a/b"):
        assert set(index.find((topic,), False)) == {relative, absolute}
    assert not index.find((f"{HUB_URL}/../../a/b",), False)


def test_what_was_found_is_kept_within_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "FOUND_MAX", 10)
    monkeypatch.setattr(index_module, "REFERENCES_MAX", 50)
    index = Index()
    for number in range(20):
        index.add(selector([everything(), exact(f"/{number}")]))
    for number in range(100):
        assert len(index.find((f"/topic/{number}",), False)) == 20
    assert sum(map(len, index._found.values())) <= 50
    assert index._references == sum(map(len, index._found.values()))


def test_ten_thousand_selectors_and_a_thousand_patterns_are_found_as_fast_as_ten() -> None:
    def seconds(selectors: int, patterns: int) -> float:
        index = Index()
        for number in range(selectors):
            index.add(selector([exact(f"/topics/{number}")]))
        for number in range(patterns):
            index.add(selector([urlpattern(f"/patterns-{number}/:x")]))
        assert len(index.find(("/topics/7",), False)) == 1
        best = float("inf")
        for _ in range(7):
            started = time.perf_counter()
            for _ in range(1000):
                index.find(("/topics/7",), False)
            best = min(best, time.perf_counter() - started)
        return best

    assert seconds(10_000, 1_000) < 5 * seconds(10, 1)
