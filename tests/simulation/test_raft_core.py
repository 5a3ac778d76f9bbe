"""The Raft core under a simulated cluster: thousands of virtual minutes of what can go wrong.

`SIM_SECONDS` (default 4) is the real time each search gets; `SIM_SEED` starts elsewhere, and with
`SIM_SECONDS=0` plays just that one run again. A failure names its run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest
from tests.harness.simulation.cluster import Cluster
from tests.harness.simulation.mutants import FOUND_BY_WALK, Mutant
from tests.harness.simulation.walk import Walk

BUDGET_S = float(os.environ.get("SIM_SECONDS", "4"))
FIRST = int(os.environ.get("SIM_SEED", "0"))
STEPS = 1500


def size_of(seed: int) -> int:
    """Every third cluster has five members."""
    return 3 if seed % 3 else 5


def torment(seed: int) -> Cluster:
    """One timed run."""
    cluster = Cluster(seed, size_of(seed))
    cluster.torment(15.0)
    cluster.heal_and_check()
    return cluster


def walk(seed: int) -> Walk:
    """One run of the adversary."""
    run = Walk(seed, size_of(seed))
    run.run(STEPS)
    run.laws.check()
    return run


def search(play: Callable[[int], object], budget_s: float) -> Iterator[int]:
    """Play runs until the time is over; at least one. A failure tells how to see it again."""
    until = time.monotonic() + budget_s
    seed = FIRST
    while True:
        try:
            play(seed)
        except Exception as problem:
            problem.add_note(f"run {seed} of {play.__name__}: SIM_SEED={seed} SIM_SECONDS=0")
            raise
        yield seed
        seed += 1
        if time.monotonic() >= until:
            return


@pytest.mark.slow
def test_no_law_is_broken_in_a_tormented_cluster_and_it_recovers() -> None:
    assert list(search(torment, BUDGET_S))


@pytest.mark.slow
def test_no_law_is_broken_by_an_adversary_without_a_clock() -> None:
    assert list(search(walk, BUDGET_S))


def test_the_same_run_is_played_twice() -> None:
    first, second = torment(7), torment(7)

    assert first.laws.committed == second.laws.committed
    assert first.schedule.events == second.schedule.events


def test_the_torment_is_real() -> None:
    """Guards the simulator: faults happen, work gets done, snapshots are installed."""
    runs = [torment(seed) for seed in range(1, 9)]

    assert sum(run.faults["crash"] for run in runs) > 50
    assert sum(len(run.laws.leaders) for run in runs) > 20
    assert sum(len(run.laws.history.completed("write")) for run in runs) > 100
    assert sum(len(run.laws.history.completed("read")) for run in runs) > 50
    assert sum(each.snapshots_installed for run in runs for each in run.members.values()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("mutant", FOUND_BY_WALK, ids=lambda mutant: mutant.__name__)
def test_a_broken_core_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the simulator would notice."""
    mutant(monkeypatch)
    until = time.monotonic() + 60.0
    seed = 0
    while time.monotonic() < until:
        try:
            walk(seed)
        except Exception:
            return
        seed += 1
    pytest.fail(f"{mutant.__name__} was not caught in {seed} runs")
