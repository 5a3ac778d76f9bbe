"""A browser for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.harness.playing import Watchers, chromium


@pytest.fixture
async def browser() -> AsyncIterator[Watchers]:
    """Chromium, which plays without a gesture."""
    async with chromium() as made:
        yield made
