"""pytest plugin: the fixture `catalog`, an agent for one test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from callboard.testing.inprocess import Catalog


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    """A whole agent in this process, empty, gone after the test."""
    from callboard.testing.inprocess import Catalog  # noqa: PLC0415 - every pytest run loads this

    with Catalog() as running:
        yield running
