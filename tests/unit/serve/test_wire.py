"""Heads, targets and queries as bytes; the route table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.serve import Answer, Route, RouteTable
from callboard.serve.wire import (
    BadTarget,
    DateLine,
    canonical,
    chunk,
    decode_path,
    decode_query,
    head,
    header_values,
    split_target,
    tokens,
)


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("x-consul-index", "X-Consul-Index"),
        ("X-CONSUL-KNOWNLEADER", "X-Consul-Knownleader"),
        ("etag", "Etag"),
        ("content-type", "Content-Type"),
    ],
)
def test_header_names_are_canonical_as_in_go(given_name: str, expected: str) -> None:
    assert canonical(given_name) == expected


def test_date_is_made_once_a_second() -> None:
    date = DateLine()
    first = date.at(1_600_000_000.1)
    assert first == "Date: Sun, 13 Sep 2020 12:26:40 GMT\r\n"
    assert date.at(1_600_000_000.9) is first
    assert date.at(1_600_000_001.0) != first


@given(st.text(), st.text())
def test_header_value_never_makes_a_second_header(value: str, other: str) -> None:
    made = head(200, None, [("A", value), ("B", other)], "Content-Length: 0\r\n")
    lines = made.split(b"\r\n")
    assert len(lines) == 6 and made.count(b"\n") == 5 and made.count(b"\r") == 5
    assert lines[1].startswith(b"A: ") and lines[2].startswith(b"B: ")


@given(st.binary(max_size=40))
def test_any_target_is_split_or_refused(target: bytes) -> None:
    try:
        path, query, _ = split_target(target)
        decode_path(path)
    except BadTarget:
        return
    assert path == b"*" or path.startswith(b"/")
    assert isinstance(decode_query(query), dict)


@given(st.binary(max_size=60))
def test_any_query_is_decoded(raw: bytes) -> None:
    query = decode_query(raw)
    assert all(values for values in query.values())


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", {}),
        (b"stale", {"stale": [""]}),
        (b"stale=&index=5", {"stale": [""], "index": ["5"]}),
        (b"tag=a&tag=b", {"tag": ["a", "b"]}),
        (b"node-meta=k%3Av+w", {"node-meta": ["k:v w"]}),
        (b"a=%zz&b=1", {"b": ["1"]}),
        (b"a=1;b=2&c", {"c": [""]}),
        (b"a==b", {"a": ["=b"]}),
    ],
)
def test_query_is_decoded_as_go_does(raw: bytes, expected: dict[str, list[str]]) -> None:
    assert decode_query(raw) == expected


@pytest.mark.parametrize("raw", [b"/%", b"/%1", b"/%g0", b"/%+1", b"/%_1", b"/%ff"])
def test_bad_escapes_of_a_path_are_refused(raw: bytes) -> None:
    with pytest.raises(BadTarget):
        decode_path(raw)


def test_path_is_decoded_once() -> None:
    assert decode_path(b"/v1/kv/a%2Fb%2525%C3%A9") == "/v1/kv/a/b%25é"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/a?b?c", (b"/a", b"b?c", None)),
        (b"http://h:1/a?b", (b"/a", b"b", "h:1")),
        (b"HTTP://user@h", (b"/", b"", "h")),
        (b"http://h?b", (b"/", b"b", "h")),
        (b"*", (b"*", b"", None)),
    ],
)
def test_target_forms(target: bytes, expected: tuple[bytes, bytes, str | None]) -> None:
    assert split_target(target) == expected


def test_empty_data_is_no_chunk() -> None:
    assert chunk(b"") == b"" and chunk(b"x" * 17) == b"11\r\n" + b"x" * 17 + b"\r\n"


def test_repeated_headers_are_joined() -> None:
    assert header_values([(b"A", b"1"), (b"a", b" 2 ")]) == {"a": "1, 2"}
    assert tokens("Upgrade,  HTTP2-Settings,") == ["upgrade", "http2-settings"]


def route(pattern: str) -> Route:
    """A route known by its pattern."""
    return Route(lambda request: Answer(200), pattern=pattern)


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/v1/kv/", "/v1/kv/"),
        ("/v1/kv/a/b/c/d", "/v1/kv/"),
        ("/v1/agent/service/x", "/v1/agent/service/"),
        ("/v1/agent/service/register", "/v1/agent/service/register"),
        ("/v1/agent/service/deregister/a/b", "/v1/agent/service/deregister/"),
        ("/v1/kv", None),
        ("/", None),
        ("", None),
        ("/v1/agent/service/register/", "/v1/agent/service/"),
    ],
)
def test_longest_pattern_wins(path: str, pattern: str | None) -> None:
    table = RouteTable()
    for known in (
        "/v1/kv/",
        "/v1/agent/service/",
        "/v1/agent/service/register",
        "/v1/agent/service/deregister/",
    ):
        table.add(route(known))
    found = table.find("GET", path)
    assert (found.pattern if found else None) == pattern


def test_fallback_takes_what_no_pattern_matches() -> None:
    fallback = route("")
    assert RouteTable(fallback).find("GET", "/nowhere") is fallback
