"""A contested name is given up only when the contest lasts."""

from __future__ import annotations

import pytest

from callboard.agent.cluster import Contest


@pytest.mark.parametrize(
    ("heard_at_s", "given_up"),
    [
        ([0.0], False),
        ([0.0, 2.0, 4.0, 6.0], False),
        ([float(t) for t in range(0, 21, 2)], True),
        ([0.0, 2.0, 30.0, 32.0], False),
    ],
)
def test_name_is_given_up_when_the_contest_lasts(heard_at_s: list[float], given_up: bool) -> None:
    contest = Contest()
    assert [contest.lasts_too_long(now) for now in heard_at_s][-1] is given_up
