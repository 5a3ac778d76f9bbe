"""What every test run has: options, the order of the suites, and what a skip may be."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.harness.capabilities import skip_is_excused

SUITES = ("tidy", "unit", "conformance", "simulation", "integration", "chaos", "browser")
"""Cheap and telling first; the stack comes up once all that needs none has passed."""

# how long an example takes says how busy the machine is; each test has its own time limit
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

CI = os.environ.get("BUDGET") == "ci"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --stack."""
    parser.addoption(
        "--stack",
        choices=["auto", "containers", "processes", "both"],
        default="both" if CI else "auto",
        help="what the integration suite runs on; auto: containers where an engine answers",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the suites; inside one, the order stays."""
    tests = config.rootpath / "tests"
    rank = {name: number for number, name in enumerate(SUITES)}

    def suite(item: pytest.Item) -> int:
        path = Path(item.path)
        first = path.relative_to(tests).parts[0] if path.is_relative_to(tests) else ""
        return rank.get(first, len(SUITES))

    items.sort(key=suite)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure: always if it names nothing, in CI if the machine could run it."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not reason.startswith("needs "):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: a skip names what is missing, not {reason!r}"
        elif CI and not skip_is_excused(reason):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: skipped, though this machine could run it: {reason}"
    return report
