"""Viewers that saw no stream are no measurement."""

from __future__ import annotations

from dataclasses import replace

import pytest
from benchmarks.live.audience import Watched

GOOD = Watched(
    seconds=10.0,
    received=[1000, 1000, 990],
    missing=[0, 0, 10],
    decrypted=60,
    undecryptable=0,
    dropped=0,
    busy=0.1,
)


def test_a_whole_stream_is_taken() -> None:
    GOOD.check(100.0)
    assert (GOOD.lost, GOOD.rate) == (10, 100.0)


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (replace(GOOD, received=[1000, 1000, 0]), "a viewer got 0 packets"),
        (replace(GOOD, undecryptable=1), "1 packets cannot be decrypted"),
        (replace(GOOD, decrypted=0), "cannot be decrypted"),
    ],
)
def test_a_viewer_without_the_stream_is_an_error(seen: Watched, why: str) -> None:
    with pytest.raises(RuntimeError, match=why):
        seen.check(100.0)
