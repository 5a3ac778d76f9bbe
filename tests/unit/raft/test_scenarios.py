"""Each message flow as a text: commands and what the members did. See harness/raft_script.py.

If one of these fails, run with REWRITE=1 and read the difference. Commit it only if you understand
what caused it and if it is desired.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.harness.raft_script import play
from tests.harness.simulation.mutants import FOUND_BY_SCENARIO, Mutant

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))
REWRITE = bool(os.environ.get("REWRITE"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario_goes_as_told(path: Path) -> None:
    story = play(path)
    if REWRITE:
        path.write_text(story)

    assert story == path.read_text()


@pytest.mark.parametrize(
    ("mutant", "scenario"),
    FOUND_BY_SCENARIO.items(),
    ids=[mutant.__name__ for mutant in FOUND_BY_SCENARIO],
)
def test_scenario_catches_a_broken_core(
    mutant: Mutant, scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: the scenario has teeth."""
    path = Path(__file__).parent / "scenarios" / f"{scenario}.txt"
    mutant(monkeypatch)
    try:
        story = play(path)
    except AssertionError:  # it never came to an end
        return

    assert story != path.read_text()
