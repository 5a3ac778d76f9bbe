"""When results become a status."""

import pytest

from callboard.agent.checks.thresholds import Thresholds


@pytest.mark.parametrize(
    ("thresholds", "results", "statuses"),
    [
        (Thresholds(), "pcwp", ["passing", "critical", "warning", "passing"]),
        (
            Thresholds(success_before_passing=3),
            "pppcppp",
            ["critical", "critical", "passing", "critical", "critical", "critical", "passing"],
        ),
        (
            Thresholds(failures_before_critical=3),
            "pccpccc",
            ["passing", "passing", "passing", "passing", "passing", "passing", "critical"],
        ),
        (
            Thresholds(failures_before_warning=2, failures_before_critical=3),
            "pcccc",
            ["passing", "passing", "warning", "critical", "critical"],
        ),
    ],
)
def test_status_changes_once_its_threshold_is_reached(
    thresholds: Thresholds, results: str, statuses: list[str]
) -> None:
    letters = {"p": "passing", "w": "warning", "c": "critical"}
    current, seen = "critical", []
    for letter in results:
        current = thresholds.observe(letters[letter], current)
        seen.append(current)
    assert seen == statuses
