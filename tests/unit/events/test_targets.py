"""Names, URLs and publications as requests."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.events.targets import hub_url, posting, target, topic_name

HUB = "http://127.0.0.1:8800"


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        *[("builds", "/builds"), ("/builds", "/builds"), ("a/b c", "/a/b c"), ("*", "*")],
        *[("https://example.com/books/1", "https://example.com/books/1")],
        *[("urn:uuid:1", "urn:uuid:1"), ("{/x}", "{/x}"), ("a/b:c", "/a/b:c")],
    ],
)
def test_a_name_is_a_topic(text: str, topic: str) -> None:
    assert topic_name(text) == topic


def test_one_topic_is_read_by_its_short_path() -> None:
    assert target("builds", None).url_with(()) == f"{HUB}/t/builds"
    assert target(["/a b/ü?#%"], HUB).url_with(()) == f"{HUB}/t/a%20b/%C3%BC%3F%23%25"


def test_several_topics_go_over_one_stream() -> None:
    url = target(["a", "https://x/y?z=1"], "https://hub:1443/hub").url_with([("beat", "10")])
    assert url.startswith("https://hub:1443/hub/.well-known/mercure?")
    fields = parse_qsl(urlsplit(url).query)
    assert fields == [("topic", "/a"), ("topic", "https://x/y?z=1"), ("beat", "10")]


@pytest.mark.parametrize("topic", ["/builds/{id}", "*", "urn:a:b", "/a//b", "/a/../b", "//a", "/"])
def test_what_is_no_plain_path_is_asked_for_by_query(topic: str) -> None:
    url = target(topic, HUB).url_with(())
    assert parse_qsl(urlsplit(url).query) == [("topic", topic)]


def test_a_url_without_a_hub_is_a_streams_own() -> None:
    assert target("https://x/y?z=1#f", None).url_with([("beat", "5")]) == "https://x/y?z=1&beat=5"
    assert target("https://x/y", HUB).query == [("topic", "https://x/y")]


@pytest.mark.parametrize(
    "text", ["", "ftp://x", "http://", "http://x:y", "http://x?a", "http://[x"]
)
def test_what_is_no_hub_is_said_so(text: str) -> None:
    with pytest.raises(ValueError, match="no hub's URL"):
        hub_url(text)


def test_a_hubs_address_may_be_short() -> None:
    assert hub_url("127.0.0.1:8800") == HUB
    assert hub_url("https://x/hub/") == "https://x/hub"


def test_a_publication_is_its_data_as_it_is() -> None:
    sent = posting("builds", "a\nb", id="1", type="tick", private=True, idempotency_key="k")
    assert sent.url == f"{HUB}/t/builds?id=1&type=tick&private=on"
    assert sent.body == b"a\nb"
    assert sent.headers["Idempotency-Key"] == "k"


def test_a_publication_to_several_topics_is_a_form() -> None:
    sent = posting(["a", "urn:b"], "ü=&", retry_ms=5)
    assert sent.url == f"{HUB}/.well-known/mercure"
    fields = parse_qsl(sent.body.decode())
    assert fields == [("topic", "/a"), ("topic", "urn:b"), ("data", "ü=&"), ("retry", "5")]


def test_data_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        posting("builds", b"\xff")
    with pytest.raises(ValueError, match="UTF-8"):
        posting("builds", "\ud800")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_topic_arrives_as_it_is(text: str) -> None:
    topic = topic_name(text)
    url = target(topic, HUB).url_with(())
    assert url.isascii()
    path = urlsplit(url).path
    if path.startswith("/t/"):
        assert unquote(path.removeprefix("/t")) == topic
    else:
        assert parse_qsl(urlsplit(url).query) == [("topic", topic)]
