"""Strangers do not fill our log."""

from __future__ import annotations

from callboard.agent.membership.log_limit import LogLimit


def test_lines_above_the_limit_are_held_back_and_counted() -> None:
    limit = LogLimit(lines_max=2, window_s=10.0)
    assert [limit.allow(1.0) for _ in range(5)] == [0, 0, None, None, None]
    assert limit.allow(11.5) == 3
    assert limit.allow(11.6) == 0
