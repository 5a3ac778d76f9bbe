"""draft-dunglas-mercure-08, Matcher Types: exact matching and URL patterns."""

from __future__ import annotations

import time

import pytest
from tests.harness.mercure_hub import MercureHub


async def selects(hub: MercureHub, matcher: tuple[str, str], topic: str) -> bool:
    """Whether a stream with this matcher gets what is published to a topic."""
    async with hub.stream(matcher, ("match", "/the-end")) as stream:
        assert stream.status == 200, await stream.rest()
        assert (await hub.publish(("topic", topic), ("data", "it"))).status == 200
        await hub.publish(("topic", "/the-end"), ("data", "end"))
        return (await stream.message()).data == "it"


@pytest.mark.parametrize("name", ["match", "match_exact"])
@pytest.mark.parametrize(
    ("text", "topic", "same"),
    [
        ("/a", "/a", True),
        ("/a", "/A", False),
        ("/a", "/a/", False),
        ("/a", "http://hub.example/a", False),
        ("/a", "https://hub.example/a", False),
        ("https://hub.example/a", "/a", False),
        ("https://example.com/%41", "https://example.com/A", False),
        ("https://EXAMPLE.com/", "https://example.com/", False),
        ("/caf\u00e9", "/cafe\u0301", False),
        ("/books/:id", "/books/1", False),
        ("/books/{id}", "/books/1", False),
        ("/books/{id}", "/books/{id}", True),
        ("any text", "any text", True),
    ],
)
async def test_exact_matching_compares_bytes(
    hub: MercureHub, name: str, text: str, topic: str, same: bool
) -> None:
    """Exact Matching: byte for byte; MUST NOT resolve relative values, MUST NOT normalise."""
    assert await selects(hub, (name, text), topic) is same


@pytest.mark.parametrize("name", ["match", "match_exact", "match_urlpattern"])
@pytest.mark.parametrize("topic", ["/a", "urn:x:y", "any text", "https://example.com/?q#f"])
async def test_a_star_matches_every_topic(hub: MercureHub, name: str, topic: str) -> None:
    """Matcher Types: `*` is a wildcard whatever the matcher type."""
    assert await selects(hub, (name, "*"), topic)


@pytest.mark.parametrize(
    ("text", "topic", "matches"),
    [
        ("https://example.com/books/:id", "https://example.com/books/1", True),
        ("https://example.com/books/:id", "https://example.com/books/1/pages", False),
        ("https://example.com/books/*", "https://example.com/books/1/pages", True),
        ("https://example.com/books/:id(\\d+)", "https://example.com/books/x", False),
        ("https://EXAMPLE.com/a", "https://example.com/a", True),
        ("https://example.com/A", "https://example.com/a", False),
        ("/books/:id", "/books/1", True),
        ("/books/:id", "https://elsewhere.example/books/1", False),
        ("https://*.example.com/a", "https://b.example.com/a", True),
    ],
)
async def test_url_patterns_are_those_of_the_living_standard(
    hub: MercureHub, text: str, topic: str, matches: bool
) -> None:
    """URL Pattern: MUST be supported; relative ones have the hub's URL as base; MUST NOT ignore
    case."""
    assert await selects(hub, ("match_urlpattern", text), topic) is matches


@pytest.mark.parametrize(
    ("text", "topic", "matches"),
    [
        ("/books/:id", "https://hub.example/books/1", True),
        ("/books/:id", "https://hub.example:443/books/1", True),
        ("/books/:id", "http://hub.example/books/1", False),
        ("/books/:id", "https://hub.example:8443/books/1", False),
        ("/books/:id", "//hub.example/books/1", True),
        ("/books/:id", "//elsewhere.example/books/1", False),
        ("books/:id", "https://hub.example/.well-known/books/1", True),
        ("https://hub.example/books/:id", "/books/1", True),
        ("https://hub.example/.well-known/books/:id", "books/1", True),
        ("https://elsewhere.example/books/:id", "/books/1", False),
        ("https://*.example/books/:id", "/books/1", True),
    ],
)
async def test_the_hubs_url_is_the_base_of_relative_patterns_and_topics(
    hub: MercureHub, text: str, topic: str, matches: bool
) -> None:
    """URL Pattern: relative patterns and relative topics MUST take the hub's URL as their base."""
    assert hub.resource == "https://hub.example/.well-known/mercure"
    assert await selects(hub, ("match_urlpattern", text), topic) is matches


@pytest.mark.parametrize("topic", ["https://[", "http://a b/", "https://exa%mple.com:999999/"])
async def test_a_topic_that_is_no_url_matches_no_url_pattern(hub: MercureHub, topic: str) -> None:
    """URL Pattern: its evaluation MUST be treated as not matching."""
    assert not await selects(hub, ("match_urlpattern", "/books/:id"), topic)


async def test_a_hostile_pattern_costs_bounded_time(hub: MercureHub) -> None:
    """URL Pattern: a linear-time engine, or a limit upon which the pattern does not match."""
    began = time.perf_counter()
    await hub.publish(("topic", "/" + "a" * 900), ("data", "x"))
    plain_s = time.perf_counter() - began
    answer = await hub.ask("GET", query=[("match_urlpattern", "/(?=a)")])
    assert answer.status == 400, "lookahead is no part of a linear engine"
    async with hub.stream(("match_urlpattern", "/((?:a+)+b)"), ("match", "/x")) as stream:
        assert stream.status == 200
        began = time.perf_counter()
        await hub.publish(("topic", "/" + "a" * 901), ("data", "x"))
        assert time.perf_counter() - began < max(100 * plain_s, 2.0)
