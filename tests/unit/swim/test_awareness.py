"""Lifeguard's local health (memberlist, awareness_test.go)."""

from __future__ import annotations

from callboard.swim.awareness import Awareness


def test_score_starts_healthy_and_scales_nothing() -> None:
    assert Awareness(8).scale(1.0) == 1.0


def test_score_stays_within_its_bounds() -> None:
    awareness = Awareness(8)
    scores = []
    for delta in (0, -1, -10, 1, 10, -1, -1):
        awareness.apply(delta)
        scores.append(awareness.score)
    assert scores == [0, 0, 0, 1, 7, 6, 5]


def test_timeout_is_multiplied_by_score_plus_one() -> None:
    awareness = Awareness(8)
    awareness.apply(3)
    assert awareness.scale(0.5) == 2.0
