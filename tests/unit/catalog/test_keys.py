"""What may be a key (consul.md §2.9)."""

from __future__ import annotations

import pytest

from callboard.catalog.keys import key_error


@pytest.mark.parametrize(
    "key", ["a", "a/b/", "a b", "ключ", "a..b", "...", "a//b", "%2F", "x/.hidden", "a+b@c:d{e}"]
)
def test_ordinary_keys_are_allowed(key: str) -> None:
    assert key_error(key) is None


@pytest.mark.parametrize(
    "key", ["../a", "a/../b", "a/..", "./a", "a/%2e%2e/b", "%2E%2E", r"a\..\b"]
)
def test_path_traversal_is_refused(key: str) -> None:
    assert key_error(key) == "Invalid key name: path traversal sequences are not allowed"


@pytest.mark.parametrize("key", [" a", "a ", "a\n", "\ta"])
def test_white_space_at_the_ends_is_refused(key: str) -> None:
    assert key_error(key) is not None


def test_the_empty_key_is_missing() -> None:
    assert key_error("") == "Missing key name"
