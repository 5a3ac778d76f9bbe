"""What a stream asks for and may see."""

from __future__ import annotations

import pytest

from callboard.hub.matching.grants import TokenGrants
from callboard.hub.matching.matchers import everything, exact, legacy, urlpattern
from callboard.hub.matching.refusal import Refused
from callboard.hub.matching.selectors import selector

BOOK = "https://example.com/books/1"
OWNER = "https://example.com/users/42/books/1"


def test_equal_requests_have_equal_selectors_in_any_order() -> None:
    one = selector([exact("/a"), urlpattern("/b/:x")], TokenGrants([exact("/c"), exact("/d")]))
    two = selector([urlpattern("/b/:x"), exact("/a")], TokenGrants([exact("/d"), exact("/c")]))
    assert one == two
    assert hash(one) == hash(two)


@pytest.mark.parametrize(
    "other",
    [
        selector([exact("/b")]),
        selector([exact("/a"), exact("/b")]),
        selector([urlpattern("/a")]),
        selector([exact("/a")], TokenGrants([])),
        selector([exact("/a")], TokenGrants([exact("/a")])),
    ],
)
def test_other_requests_have_other_selectors(other: object) -> None:
    assert selector([exact("/a")]) != other


def test_a_public_update_goes_to_who_asks_for_one_of_its_topics() -> None:
    asks = selector([exact(OWNER)])
    assert asks.wants((BOOK, OWNER), False)
    assert not asks.wants((BOOK,), False)


def test_a_private_update_needs_a_grant_for_one_of_its_topics() -> None:
    """Both drafts: the topic that is granted may be another than the one that was asked for."""
    asked = [urlpattern("https://example.com/books/:id")]
    mine = selector(asked, TokenGrants([urlpattern("https://example.com/users/42/*")]))
    theirs = selector(asked, TokenGrants([urlpattern("https://example.com/users/43/*")]))
    assert mine.wants((BOOK, OWNER), True)
    assert not mine.wants((BOOK,), True)
    assert not theirs.wants((BOOK, OWNER), True)
    assert theirs.wants((BOOK, OWNER), False)


def test_a_grant_alone_subscribes_to_nothing() -> None:
    assert not selector([exact("/a")], TokenGrants([everything()])).wants(("/b",), True)


def test_without_a_token_no_private_update_is_seen() -> None:
    assert not selector([everything()]).wants(("/a",), True)


def test_everything_is_everything_of_the_hub_and_nothing_of_the_catalog() -> None:
    asks = selector([everything()])
    assert asks.wants(("/a",), False)
    assert asks.hub
    assert not asks.catalog
    assert not asks.wants_catalog("/catalog/services/web")


@pytest.mark.parametrize(
    "matcher",
    [
        exact("/catalog/services/web"),
        urlpattern("/catalog/services/:name"),
        legacy("/catalog/services/{name}"),
    ],
)
def test_the_catalogs_topics_are_asked_for_by_how_they_begin(matcher: object) -> None:
    asks = selector([matcher])  # type: ignore[list-item]
    assert asks.catalog
    assert not asks.hub
    assert asks.wants_catalog("/catalog/services/web")
    assert not asks.wants_catalog("/catalog/nodes/web")
    assert not asks.wants(("/catalog/services/web",), False)


def test_a_stream_may_have_both_histories() -> None:
    asks = selector([exact("/builds"), exact("/cluster/leader")])
    assert asks.hub
    assert asks.catalog
    assert asks.wants_catalog("/cluster/leader")
    assert not asks.wants_catalog("/builds")


def test_every_topic_of_a_publication_must_be_granted() -> None:
    grants = TokenGrants([exact("/a"), legacy("/b/{x}")])
    assert grants.covers(("/a", "/b/1"), True)
    assert grants.covers(("/a",), False)
    assert not grants.covers(("/a", "/c"), False)


def test_an_empty_list_of_draft_07_publishes_public_updates_only() -> None:
    grants = TokenGrants([], public=True)
    assert grants.covers(("/a",), False)
    assert not grants.covers(("/a",), True)
    assert not grants.allow("/a")
    assert not TokenGrants([]).covers(("/a",), False)


def test_an_empty_text_names_nothing_and_is_refused() -> None:
    for make in (exact, legacy):
        with pytest.raises(Refused):
            make("")
