"""Active subscriptions as documents and events."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.hub.matching import matchers
from callboard.hub.mercure.addresses import SUBSCRIPTIONS_PATH
from callboard.hub.mercure.parameters import Generation
from callboard.hub.mercure.subscriptions import (
    Active,
    ActiveSubscriptions,
    Place,
    collection,
    place_of,
)
from callboard.hub.ports import Matcher

CURRENT, LEGACY = Generation.CURRENT, Generation.LEGACY
BOB = "urn:uuid:bb3de268-05b0-4c65-b44e-8f9acefc29d6"
EVE = "urn:uuid:1e0cba4c-4bcd-44f0-ae8a-7b76f7ef1280"


def nothing(matcher: Matcher) -> object:
    return None


def test_a_topic_holds_matcher_and_subscriber_percent_encoded_once() -> None:
    """Draft 08, Subscription Events."""
    active = Active(CURRENT, "urlpattern", "https://example.com/%41/:x", BOB)
    assert active.topic == (
        "/.well-known/mercure/subscriptions/urlpattern/https%3A%2F%2Fexample.com%2F%2541%2F%3Ax/"
        "urn%3Auuid%3Abb3de268-05b0-4c65-b44e-8f9acefc29d6"
    )
    assert Active(LEGACY, "exact", "/a", "b").topic == f"{SUBSCRIPTIONS_PATH}/%2Fa/b"


def test_an_event_of_draft_08_is_private_and_of_the_type_mercure() -> None:
    event = Active(CURRENT, "exact", "/a", BOB, {"name": "Bob"}).event(active=True)
    assert event.private
    assert event.type == "mercure"
    assert json.loads(event.data) == {
        "id": event.topics[0],
        "type": "subscription",
        "subscriber": BOB,
        "match": "/a",
        "match_type": "exact",
        "active": True,
        "payload": {"name": "Bob"},
    }


def test_an_event_of_drafts_up_to_07_is_json_ld() -> None:
    event = Active(LEGACY, "exact", "/a/{b}", BOB).event(active=False)
    assert event.private
    assert event.type == ""
    assert json.loads(event.data) == {
        "@context": "https://mercure.rocks/",
        "id": event.topics[0],
        "type": "Subscription",
        "topic": "/a/{b}",
        "subscriber": BOB,
        "active": False,
    }


def test_a_stream_has_a_subscription_a_matcher_until_it_ends() -> None:
    every = ActiveSubscriptions()
    asked = [matchers.exact("/a"), matchers.urlpattern("/b/:c")]
    opened = every.open(CURRENT, asked, BOB, lambda matcher: {"/a": 1}.get(matcher.text))
    every.open(CURRENT, asked[:1], EVE, nothing)
    assert [active.payload for active in opened] == [1, None]
    assert len(every) == 3
    assert every.find(opened[0].topic) is opened[0]
    assert every.close(BOB) == opened
    assert len(every) == 1
    assert every.find(opened[0].topic) is None
    assert every.close(BOB) == []


def test_collections_are_of_one_generation_one_type_one_matcher() -> None:
    every = ActiveSubscriptions()
    asked = [matchers.exact("/a"), matchers.exact("/b"), matchers.urlpattern("/a")]
    every.open(CURRENT, asked, BOB, nothing)
    every.open(LEGACY, [matchers.legacy("/a")], EVE, nothing)
    assert len(every.of(CURRENT)) == 3
    assert len(every.of(CURRENT, "exact")) == 2
    assert len(every.of(CURRENT, "exact", "/a")) == 1
    assert len(every.of(LEGACY)) == 1
    assert every.of(LEGACY, text="/b") == []


@pytest.mark.parametrize(
    ("rest", "place"),
    [
        (b"", Place(None)),
        (b"/", Place(None)),
        (b"/exact", Place(CURRENT, "exact")),
        (b"/urlpattern/%2Fa%2F%3Ab", Place(CURRENT, "urlpattern", "/a/:b")),
        (b"/exact/%2Fa/urn%3Auuid%3Ax", Place(CURRENT, "exact", "/a", "urn:uuid:x")),
        (b"/%2Fa", Place(LEGACY, "", "/a")),
        (b"/%2Fa/x", Place(LEGACY, "", "/a", "x")),
        (b"/a/b/c", None),
        (b"/exact/a/b/c", None),
        (b"/%ff", None),
    ],
)
def test_a_path_names_a_collection_or_one_subscription(rest: bytes, place: Place | None) -> None:
    assert place_of(rest) == place


@given(st.sampled_from(["exact", "urlpattern"]), st.text(min_size=1), st.text(min_size=1))
def test_the_path_of_a_subscription_names_it(kind: str, text: str, subscriber: str) -> None:
    for generation in Generation:
        if generation is LEGACY and text in ("exact", "urlpattern"):
            continue
        try:
            topic = Active(generation, kind, text, subscriber).topic
        except UnicodeEncodeError:
            return
        place = place_of(topic.removeprefix(SUBSCRIPTIONS_PATH).encode())
        assert place is not None
        assert (place.generation, place.text, place.subscriber) == (generation, text, subscriber)
        assert place.topic == topic


@given(st.binary(max_size=60))
def test_any_path_names_something_or_nothing(rest: bytes) -> None:
    place_of(rest)


def test_a_collection_tells_from_where_its_changes_follow() -> None:
    one = Active(LEGACY, "exact", "/a", BOB)
    document = collection(SUBSCRIPTIONS_PATH, LEGACY, [one], "#e.5")
    assert document["lastEventID"] == "#e.5"
    assert document["type"] == "Subscriptions"
    assert "@context" not in document["subscriptions"][0]  # type: ignore[index]
    document = collection(SUBSCRIPTIONS_PATH, CURRENT, [], "#e.5")
    assert document["last_event_id"] == "#e.5"
    assert document["type"] == "subscriptions"
