"""What a publisher may write (draft 08, Terminology and Publication)."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.events.encoder import block
from callboard.hub.matching import naming
from callboard.hub.matching.naming import publication
from callboard.hub.matching.refusal import Refused


def _refusal(topics: list[str] | str = "/a", data: bytes = b"", **fields: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        publication([topics] if isinstance(topics, str) else topics, data, **fields)
    return refused.value


def test_a_publication_keeps_what_was_said() -> None:
    made = publication(
        ["/a", "/b", "/a"],
        b"hello\nworld",
        type="status",
        id="urn:uuid:1",
        retry="500",
        private=True,
        idempotency_key="k",
    )
    assert made.topics == ("/a", "/b")
    assert (made.type, made.own_id, made.retry_ms) == ("status", "urn:uuid:1", 500)
    assert made.private
    assert made.idempotency_key == "k"


BAD = ["\r", "\n", "\0", "\x1f", "\x7f", "\x80", "\x85", "\x9f", "\u200b", "\u202e", "\ufeff"]


@pytest.mark.parametrize("character", [*BAD, "\ud800"])
@pytest.mark.parametrize("field", ["topic", "id", "type", "idempotency_key"])
def test_control_and_format_characters_are_refused(field: str, character: str) -> None:
    text = f"a{character}b"
    refused = _refusal(f"/{text}") if field == "topic" else _refusal("/a", b"", **{field: text})
    assert refused.status == 400


@pytest.mark.parametrize("text", ["é", "日本", "a b", "\u2028"])
def test_other_text_is_taken(text: str) -> None:
    made = publication([f"/{text}"], b"", type=text, id=text)
    assert made.topics == (f"/{text}",)


@pytest.mark.parametrize(("field", "size"), [("id", 128), ("type", 128), ("idempotency_key", 128)])
def test_too_long_a_field_is_413(field: str, size: int) -> None:
    publication(["/a"], b"", **{field: "é" * (size // 2)})  # type: ignore[arg-type]
    assert _refusal("/a", b"", **{field: "é" * (size // 2) + "a"}).status == 413


def test_limits_of_topics_and_data() -> None:
    publication(["/" + "a" * 1023], b"a" * naming.DATA_BYTES_MAX)
    assert _refusal("/" + "a" * 1024).status == 413
    assert _refusal(data=b"a" * (naming.DATA_BYTES_MAX + 1)).status == 413
    publication([f"/{number}" for number in range(100)], b"")
    assert _refusal([f"/{number}" for number in range(101)]).status == 413


@pytest.mark.parametrize("topics", [[], [""], ["/a", ""], ["*"]])
def test_topics_that_are_none_are_refused(topics: list[str]) -> None:
    assert _refusal(topics).status == 400


@pytest.mark.parametrize("retry", ["-1", "1.5", "1e3", " 1", "a", "٣", "9" * 30, "86400001"])
def test_retry_is_a_number_in_ascii_digits(retry: str) -> None:
    assert _refusal(retry=retry).status == 400


@pytest.mark.parametrize("id", ["#", "#a.1", "earliest"])
def test_ids_that_are_the_hubs_are_refused(id: str) -> None:
    assert _refusal(id=id).status == 400


@pytest.mark.parametrize("type", ["mercure", "hub.gap", "hub."])
def test_types_that_are_the_hubs_are_refused(type: str) -> None:
    assert _refusal(type=type).status == 400


def test_data_is_utf_8() -> None:
    assert _refusal(data=b"\xff").status == 400


@pytest.mark.parametrize(
    "topic",
    [
        "/.well-known/mercure",
        "/.well-known/mercure/subscriptions/exact/a/b",
        "/.well-known/%6Dercure/x",
        "/.well-known/%6dercure",
        "/.well-known/x/../mercure/y",
        "/.well-known/x/%2e%2e/mercure/y",
        "https://elsewhere.example.com/.well-known/mercure/x",
        "mercure",
        "mercure/subscriptions",
        "\\.well-known\\mercure\\x",
        "/catalog/services/web",
        "/catalog",
        "/cluster/leader",
        "/x/../catalog/services/web",
        "/%63atalog/services/web",
        "../../catalog/x",
    ],
)
def test_topics_that_are_the_hubs_are_refused(topic: str) -> None:
    assert _refusal(topic).status == 403


@pytest.mark.parametrize(
    "topic",
    [
        "mercure/subscriptions/exact/a/b",
        "/farm/.well-known/mercure/x",
        "https://elsewhere.example.com/farm/.well-known/mercure",
        "/.well-known/mercure/subscriptions",
        "/catalog/services/web",
        "../../catalog/x",
    ],
)
def test_topics_of_a_hub_behind_a_prefix_are_its_own_with_and_without_it(topic: str) -> None:
    with pytest.raises(Refused) as refused:
        publication([topic], b"", base="https://hub.example/farm/.well-known/mercure")
    assert refused.value.status == 403


@pytest.mark.parametrize("base", ["https://hub.example", "https://hub.example/farm"])
def test_a_hub_that_is_known_by_another_path_has_its_usual_one_to_itself(base: str) -> None:
    for topic in ("/a", "/farm/a", "a"):
        assert publication([topic], b"", base=base).topics == (topic,)
    with pytest.raises(Refused):
        publication(["/.well-known/mercure/x"], b"", base=base)


@pytest.mark.parametrize(
    "topic",
    [
        "/.well-known/mercurey",
        "/.well-known",
        "https://shop.example.com/catalog/shoes",
        "https://hub.example.com/catalog/shoes",
        "/catalogue/x",
        "http://[bad/.well-known/mercure",
        "urn:uuid:e1ee88e2-532a-4d6f-ba70-f0f8bd584022",
        "chat room 7",
        "/a*",
    ],
)
def test_topics_like_them_are_not(topic: str) -> None:
    assert publication([topic], b"").topics == (topic,)


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_what_is_taken_never_breaks_a_line_of_the_stream(topic: str, id: str, type: str) -> None:
    try:
        made = publication([topic], b"x", id=id, type=type)
    except Refused as refused:
        assert refused.status in (400, 403, 413)
        return
    for text in (*made.topics, made.own_id, made.type):
        assert not any(unicodedata.category(one) in ("Cc", "Cf", "Cs") for one in text)
    assert block(made.data, id=made.own_id, type=made.type).count(b"\n") == 3 + bool(made.type)
