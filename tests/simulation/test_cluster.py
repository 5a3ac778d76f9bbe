"""The production code of consensus and state, in virtual time, under everything that can go wrong.

Driver, log, snapshots, formation, rpc and store are the real ones (tests/harness/simulation/
production says what is not). `SIM_SECONDS` (default 4; 60 with BUDGET=ci) is the real time of the
search; `SIM_SEED` starts elsewhere, and with `SIM_SECONDS=0` plays just that one run again.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.harness.simulation.production.cluster import Cluster, run
from tests.harness.simulation.production.mutants import MUTANTS, Mutant

DEFAULT_S = "60" if os.environ.get("BUDGET") == "ci" else "4"
BUDGET_S = float(os.environ.get("SIM_SECONDS", DEFAULT_S))
FIRST = int(os.environ.get("SIM_SEED", "1"))
CAUGHT_WITHIN_S = 90.0

REGRESSIONS = {
    34: "a link to a peer that moved took everything for ten seconds",
    69: "the same, the other way",
    83: "a server told to stop on a disk that hung was asked for writes",
}
"""Runs that once found a fault, and which."""


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Servers in torment say a lot."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def play(seed: int) -> Cluster:
    """One run; a failure tells how to see it again. Every third cluster has five servers."""
    try:
        return run(seed, 3 if seed % 3 else 5)
    except Exception as problem:
        problem.add_note(
            f"again: SIM_SEED={seed} SIM_SECONDS=0 pytest {__file__} -k no_law_is_broken"
        )
        raise


@pytest.mark.slow
def test_no_law_is_broken_by_the_production_code_and_it_recovers() -> None:
    until = time.monotonic() + BUDGET_S
    seed = FIRST
    while True:
        play(seed)
        seed += 1
        if time.monotonic() >= until:
            return


@pytest.mark.slow
@pytest.mark.parametrize("seed", REGRESSIONS, ids=str)
def test_what_was_found_once_is_not_found_again(seed: int) -> None:
    play(seed)


def test_the_same_run_is_played_twice() -> None:
    first, second = play(5), play(5)

    assert first.loop.turns == second.loop.turns
    assert first.laws.hashes == second.laws.hashes


@pytest.mark.slow
def test_the_torment_of_the_production_code_is_real() -> None:
    """Guards the simulator: faults happen, work gets done, everything is exercised."""
    runs = [play(seed) for seed in range(1, 13)]
    faults = sum((each.faults for each in runs), Counter[str]())
    history = [operation for each in runs for operation in each.clients.history]

    assert min(faults.values()) >= 5
    assert sum(operation.answered_at is not None for operation in history) > 1_000
    assert sum(operation.answered_at is None for operation in history) > 20
    assert sum(len(each.laws.leaders) for each in runs) > 24
    assert sum(each.laws.installed for each in runs) >= 1
    assert sum(server.lives for each in runs for server in each.servers) > 100


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_broken_production_code_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the simulation would notice."""
    mutant(monkeypatch)
    until = time.monotonic() + CAUGHT_WITHIN_S
    seed = 1
    while time.monotonic() < until:
        try:
            play(seed)
        except Exception:
            return
        seed += 1
    pytest.fail(f"{mutant.__name__} was not caught in {seed} runs")
