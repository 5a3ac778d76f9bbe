"""Wait for a fact instead of sleeping: poll until it holds, or fail with the last reason."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

SLOW = float(os.environ.get("STACK_SLOW", "1"))
"""Factor on every deadline, for machines that are busy."""


async def eventually(
    fact: Callable[[], T | Awaitable[T]], timeout_s: float = 10.0, interval_s: float = 0.02
) -> T:
    """Return the first truthy result of `fact`; an exception or a falsy result means not yet.

    Raises AssertionError with the last exception or result after `timeout_s` (times STACK_SLOW).
    """
    deadline = time.monotonic() + timeout_s * SLOW
    last: object = None
    while True:
        try:
            outcome = fact()
            result = await outcome if isinstance(outcome, Awaitable) else outcome
            if result:
                return result
            last = result
        except Exception as problem:
            last = problem
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s} s; last: {last!r}")
        await asyncio.sleep(interval_s)


def eventually_sync(fact: Callable[[], T], timeout_s: float = 10.0, interval_s: float = 0.05) -> T:
    """The same for code without an event loop."""
    deadline = time.monotonic() + timeout_s * SLOW
    last: object = None
    while True:
        try:
            result = fact()
            if result:
                return result
            last = result
        except Exception as problem:
            last = problem
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s} s; last: {last!r}")
        time.sleep(interval_s)
