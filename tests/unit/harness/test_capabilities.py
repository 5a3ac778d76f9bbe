"""Which skips CI takes."""

from __future__ import annotations

import pytest
from tests.harness.capabilities import CAPABILITIES, Capability, require, skip_is_excused


@pytest.fixture(autouse=True)
def capabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three capabilities that this machine does not have."""
    for name, obtainable in (("moon", False), ("spoon", True)):
        made = Capability(name, "look up", lambda: False, lambda answer=obtainable: answer)  # type: ignore[misc]
        monkeypatch.setitem(CAPABILITIES, name, made)


def test_a_skip_for_what_nobody_can_install_is_excused() -> None:
    assert skip_is_excused("needs moon: look up")


def test_a_skip_for_what_could_be_installed_is_not_excused() -> None:
    assert not skip_is_excused("needs spoon: look up")


@pytest.mark.parametrize("reason", ["", "flaky", "needs", "needs nothing known: x", "moon"])
def test_a_skip_that_names_no_capability_is_not_excused(reason: str) -> None:
    assert not skip_is_excused(reason)


def test_require_says_what_is_missing_and_how_to_get_it() -> None:
    with pytest.raises(BaseException, match="needs moon: look up") as skipped:
        require("moon")
    assert skipped.typename == "Skipped"


def test_an_unknown_capability_is_a_mistake_in_the_test() -> None:
    with pytest.raises(KeyError):
        require("sun")
