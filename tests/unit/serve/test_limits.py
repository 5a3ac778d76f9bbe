"""What a server takes upon itself depends on what the system grants it."""

from __future__ import annotations

import pytest

from callboard.serve.limits import Limits, affordable


@pytest.mark.parametrize(
    ("wanted", "descriptors", "taken"),
    [
        (16_384, 20_000, 16_384),
        (16_384, 1_024, 768),
        (100, 1_024, 100),
        (16_384, 40, 20),
        (5, 1, 1),
        (9, -1, 9),
    ],
)
def test_connections_leave_descriptors_for_files(wanted: int, descriptors: int, taken: int) -> None:
    assert affordable(wanted, descriptors) == taken


def test_heads_are_limited_as_promised() -> None:
    limits = Limits()
    assert (limits.head_bytes_max, limits.head_timeout_s) == (32 * 1024, 10.0)
