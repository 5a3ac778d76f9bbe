"""Bars: which way they hold, and what is printed."""

from __future__ import annotations

import pytest
from benchmarks.harness.load import below, p95, verdict


@pytest.mark.parametrize(("ratio", "reached", "kept"), [(1.1, True, False), (0.9, False, True)])
def test_a_bar_is_to_be_reached_or_not_to_be_passed(
    ratio: float, reached: bool, kept: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdict("speed", ratio, 1.0) is reached
    assert below("cost", ratio, 1.0) is kept
    said = {True: "holds", False: "MISSED"}
    assert capsys.readouterr().out.splitlines() == [
        f"speed: {ratio:.2f}x (bar 1.00x): {said[reached]}",
        f"cost: {ratio:.2f}x (bar 1.00x): {said[kept]}",
    ]


def test_a_bar_that_is_met_exactly_holds() -> None:
    assert verdict("speed", 1.0, 1.0)
    assert below("cost", 1.0, 1.0)


def test_one_in_twenty_is_above_the_95th_percentile() -> None:
    assert p95(range(20, 0, -1)) == 19
    assert p95(range(40)) == 37
