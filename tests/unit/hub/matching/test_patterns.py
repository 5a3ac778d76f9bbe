"""URL patterns over topics (WHATWG URL Pattern, draft 08 "URL Pattern")."""

from __future__ import annotations

import time
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.hub.matching import patterns
from callboard.hub.matching.matchers import urlpattern
from callboard.hub.matching.refusal import Refused
from callboard.hub.matching.urls import HUB_PATH, HUB_URL, locate

CASES = [
    ("https://example.com/books/:id", "https://example.com/books/1", True),
    ("https://example.com/books/:id", "https://EXAMPLE.com/books/1", True),
    ("https://example.com/books/:id", "https://example.com/BOOKS/1", False),
    ("https://example.com/books/:id", "https://example.com/books/1/2", False),
    ("https://example.com/feed/:type(news|alerts)", "https://example.com/feed/news", True),
    ("https://example.com/feed/:type(news|alerts)", "https://example.com/feed/old", False),
    ("/builds", "/builds", True),
    ("/builds", "/builds/1", False),
    ("/builds/:id", "/builds/1", True),
    ("/builds/:id?", "/builds", True),
    ("/builds/*", "/builds/a/b", True),
    ("/a/:x(\\d+)/b", "/a/12/b", True),
    ("/a/:x(\\d+)/b", "/a/x/b", False),
    ("builds/:id", "builds/1", True),
    ("/.well-known/builds/:id", "builds/1", True),
    ("https://example.com/*", "/builds", False),
    ("urn\\:uuid\\::id", "urn:uuid:abc", True),
    ("{urn}:*", "urn:uuid:abc", True),
    ("*://example.com/x", "https://example.com/x", True),
    ("http{s}?://example.com/:x", "http://example.com/1", True),
    ("/:x", "http://[bad", False),
    ("*", "anything at all", True),
    (
        "/x/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})",
        "/x/e1ee88e2-532a-4d6f-ba70-f0f8bd584022",
        True,
    ),
]


@pytest.mark.parametrize(("pattern", "topic", "wanted"), CASES)
def test_a_pattern_matches_topics_as_urls(pattern: str, topic: str, wanted: bool) -> None:
    assert urlpattern(pattern).matches(topic) is wanted


def test_relative_patterns_and_topics_have_the_hubs_url_as_their_base() -> None:
    host = urlsplit(HUB_URL).netloc
    for pattern in ("/builds/:id", "../builds/:id", f"http://{host}/builds/:id"):
        for topic in ("/builds/1", "../builds/1", f"http://{host}/builds/1"):
            assert urlpattern(pattern).matches(topic)
        assert not urlpattern(pattern).matches("https://other.example.com/builds/1")
    assert urlpattern("mercure/subscriptions/*").matches(f"{HUB_PATH}/subscriptions/x")


@pytest.mark.parametrize(
    "base",
    [
        "https://hub.example/.well-known/mercure",
        "http://[::1]:8800/.well-known/mercure",
        "https://hub.example/a(b)*:c/.well-known/mercure?d=1",
    ],
)
def test_each_hub_has_its_own_base(base: str) -> None:
    absolute = urljoin(base, "/books/1")
    assert urlpattern("/books/:id", base).matches(absolute)
    assert urlpattern("/books/:id", base).matches("/books/1")
    assert urlpattern("books/:id", base).matches(urljoin(base, "books/1"))
    assert not urlpattern("/books/:id", "https://other.example").matches(absolute)
    assert urlpattern("/books/:id", base) != urlpattern("/books/:id", "https://other.example")


def test_a_topic_that_is_no_text_matches_nothing() -> None:
    assert not urlpattern("/:x").matches("/\ud800")


@pytest.mark.parametrize(
    "pattern",
    [
        "/(?=a)b",
        "/(?!a)b",
        "/(?<=a)b",
        "/(?i:a)",
        "/((a))",
        "/(a",
        "/([a[b]])",
        "/((?:a){1000})",
        "/(\\w{1000})",
        "/(" + "\\w" * 7 + ")",
        "/(a{99999999999999999999})",
        "/" + "*a" * 17,
        "/" + "/".join(f":a{n}" for n in range(17)),
        "/(" + "a" * 257 + ")",
        "/x}y",
        "/:a/:a",
        "(",
    ],
)
def test_a_pattern_that_is_malformed_or_dear_is_refused(pattern: str) -> None:
    with pytest.raises(Refused) as refused:
        urlpattern(pattern)
    assert refused.value.status == 400


def _seconds(pattern: str, topic: str) -> float:
    engine = patterns.compile(pattern).pattern
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        engine.test(topic, HUB_URL)
        best = min(best, time.perf_counter() - started)
    return best


@pytest.mark.parametrize(
    "pattern", ["/(a+)+b", "/" + "(a*)" * 16 + "b", "/" + "(\\w*a)" * 5, "/" + "*a" * 16]
)
def test_the_time_of_a_hostile_pattern_grows_with_the_topic_and_no_faster(pattern: str) -> None:
    short, long = _seconds(pattern, "/" + "a" * 100), _seconds(pattern, "/" + "a" * 1000)
    # 10 times as long; the engine changes its method on the way, which costs a factor once.
    # Backtracking over (a+)+ would take 2 ** 900 times as long.
    assert long < 500 * short


def _seconds_to_compile(pattern: str) -> float:
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        patterns.compile(pattern)
        best = min(best, time.perf_counter() - started)
    return best


@pytest.mark.parametrize(
    "regexp",
    ["\\w" * 6, "\\p{L}" * 6, "\\d{60}", ".{256}", "[\\w\\d\\s]{6}", "(?:a|" * 40 + ")" * 40],
)
def test_the_dearest_patterns_that_are_taken_compile_in_bounded_time(regexp: str) -> None:
    # a thousand \w would take two thousand times as long as a plain pattern
    assert _seconds_to_compile(f"/({regexp})") < 200 * _seconds_to_compile("/a/:id")


PIECES = st.lists(
    st.sampled_from(
        ["a", "b", "/", "/:x", "/:y?", "*", "{/c}?", "(\\d+)", "://", "http", "%41", "..", "é", ":"]
    ),
    max_size=8,
)
TOPICS = st.lists(
    st.sampled_from(["a", "b", "/", "1", "://", "http", "%41", "..", "é", ":", "?", "#"]),
    max_size=8,
)


@given(PIECES, TOPICS)
def test_what_a_pattern_matches_begins_with_its_literal_start(
    pieces: list[str], parts: list[str]
) -> None:
    pattern, topic = "".join(pieces), "".join(parts)
    try:
        compiled = patterns.compile(pattern)
    except Refused:
        return
    if not compiled.pattern.test(topic, HUB_URL):
        return
    place = locate(topic)
    assert place is not None
    text = place.path if compiled.space == "path" else place.origin + place.path
    assert text.startswith(compiled.prefix)


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_text_breaks_a_pattern(pattern: str, topic: str) -> None:
    try:
        matcher = urlpattern(pattern)
    except Refused as refused:
        assert refused.status == 400
    else:
        assert matcher.matches(topic) in (True, False)
