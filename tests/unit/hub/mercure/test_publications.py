"""What a publisher sends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.hub.event import Publication
from callboard.hub.matching.refusal import Refused
from callboard.hub.mercure import publications
from callboard.hub.mercure.forms import Fields
from callboard.hub.mercure.webhooks import Delivery, Hook
from callboard.hub.ports import Rights

NOBODY = Rights()


def of_form(fields: Fields, publisher: Rights = NOBODY, **headers: str) -> Publication:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return publications.of_form(fields, named, publisher)


def test_a_form_is_a_publication() -> None:
    fields = {"topic": ["/a", "/b"], "data": ["x\ny"], "id": ["i"], "type": ["t"], "retry": ["9"]}
    assert of_form(fields) == Publication(("/a", "/b"), b"x\ny", "t", "i", retry_ms=9)


@pytest.mark.parametrize("value", ["on", "", "false", "0"])
def test_private_makes_an_update_private_by_being_there(value: str) -> None:
    assert of_form({"topic": ["/a"], "private": [value]}).private
    assert not of_form({"topic": ["/a"]}).private


def test_fields_that_nobody_knows_are_ignored() -> None:
    assert of_form({"topic": ["/a"], "target": ["x"]}) == Publication(("/a",), b"")


@pytest.mark.parametrize("name", ["data", "id", "type", "retry"])
def test_a_field_that_is_given_twice_is_refused(name: str) -> None:
    with pytest.raises(Refused, match=name):
        of_form({"topic": ["/a"], name: ["1", "1"]})


def test_a_publication_has_a_topic() -> None:
    with pytest.raises(Refused, match="topic"):
        of_form({"data": ["x"]})


def test_a_body_is_the_data_as_it_is() -> None:
    made = publications.of_body("/builds", {"id": ["i"], "private": [""]}, {}, b"a=1&b=2", NOBODY)
    assert made == Publication(("/builds",), b"a=1&b=2", own_id="i", private=True)


def test_the_same_key_means_the_same_publication_of_the_same_topic_only() -> None:
    first = of_form({"topic": ["/a"]}, idempotency_key="k")
    assert first.idempotency_key
    assert of_form({"topic": ["/a"]}, idempotency_key="k") == first
    other = of_form({"topic": ["/b"]}, idempotency_key="k")
    assert other.idempotency_key != first.idempotency_key
    assert of_form({"topic": ["/a"]}).idempotency_key == ""


def test_the_same_key_of_another_publisher_is_another_publication() -> None:
    publishers = [
        NOBODY,
        Rights(token_hash=b"1"),
        Rights(token_hash=b"2"),
        Rights(subject="a", token_hash=b"1"),
        Rights(subject="b", token_hash=b"1"),
        Rights(subject="31", token_hash=b"3"),
        Rights(subject='a", "k', token_hash=b"1"),
    ]
    made = [of_form({"topic": ["/a"]}, one, idempotency_key="k") for one in publishers]
    assert len({one.idempotency_key for one in made}) == len(publishers)


def test_a_publisher_with_a_new_token_is_the_same_publisher() -> None:
    old, new = (Rights(subject="ci", token_hash=hash) for hash in (b"1", b"2"))
    first = of_form({"topic": ["/a"]}, old, idempotency_key="k")
    assert of_form({"topic": ["/a"]}, new, idempotency_key="k") == first


def test_no_publisher_makes_the_key_of_a_webhooks_delivery() -> None:
    hook = Hook("ci", "github", b"s" * 16, "/ci/{event}")
    delivered = publications.of_hook(hook, Delivery("push", "d1"), b"{}")
    assert delivered.idempotency_key
    assert publications.of_hook(hook, Delivery("push", "d1"), b"{}") == delivered
    forged = of_form({"topic": ["d1"]}, idempotency_key="ci")
    assert forged.idempotency_key != delivered.idempotency_key


def test_a_key_that_is_too_long_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        of_form({"topic": ["/a"]}, idempotency_key="k" * 200)
    assert caught.value.status == 400


def test_a_webhook_fills_its_templates() -> None:
    hook = Hook("ci", "github", b"s" * 16, "/{name}/{event}", "{event}", private=True)
    made = publications.of_hook(hook, Delivery("push", ""), b"{}")
    assert made == Publication(("/ci/push",), b"{}", "push", private=True)


FIELDS = st.dictionaries(
    st.sampled_from(["topic", "data", "private", "id", "type", "retry"]),
    st.lists(st.text(max_size=20), min_size=1, max_size=2),
)


@given(FIELDS)
def test_any_form_is_a_publication_or_is_refused_clearly(fields: Fields) -> None:
    try:
        made = of_form(fields)
    except Refused as problem:
        assert problem.status in (400, 403, 413)
        assert "\n" not in problem.text
    else:
        assert made.topics
