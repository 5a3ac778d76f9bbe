"""Keys as people give them."""

from __future__ import annotations

import base64

import pytest

from callboard.agent.membership import Settings, decode_key


@pytest.mark.parametrize("size", [16, 24, 32])
def test_key_of_a_good_size_is_taken(size: int) -> None:
    assert decode_key(base64.b64encode(bytes(size)).decode()) == bytes(size)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("????", "not base64"), ("abc", "not base64"), ("", "0 bytes"), ("YWJj", "3 bytes")],
)
def test_impossible_key_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"invalid encryption key: .*{reason}"):
        decode_key(text)


def test_port_is_consuls() -> None:
    assert Settings(name="a").port == 8301
