"""Certificates as `callboard tls` makes them, for judges that are not ours."""

from __future__ import annotations

import pytest
from tests.harness.handmade import Made, make


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The certificates that are judged."""
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Others like them, whose CA nobody trusts: what a judge must refuse."""
    return make(tmp_path_factory.mktemp("foreign"))
