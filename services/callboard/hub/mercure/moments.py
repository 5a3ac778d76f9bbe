"""`since=`: how far back a stream begins, as people write it. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from callboard.catalog.durations import MILLISECOND, DurationError, parse_duration

_MILLISECONDS = re.compile(r"[0-9]{1,15}")
_DAYS = re.compile(r"([0-9]{1,6})d(.*)", re.DOTALL)
_DAY_MS = 24 * 3600 * 1000
_YEAR_MAX_MS = 253_402_300_800_000
"""The year 10000."""


class BadMoment(ValueError):
    """Not a moment; the text says what would be one."""


def parse_since(text: str, now_ms: int) -> int:
    """Wall time in milliseconds since 1970 of `10m` or `1d12h` (ago), of RFC 3339 (without a zone:
    UTC), or of milliseconds since 1970. Raises BadMoment."""
    if _MILLISECONDS.fullmatch(text):
        return min(int(text), _YEAR_MAX_MS)
    ago_ms = _ago_ms(text)
    if ago_ms is not None:
        return max(0, now_ms - ago_ms)
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))  # (a form's `+` is a space)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0, int(moment.timestamp() * 1000))
    except (ValueError, OverflowError):
        raise BadMoment(
            "since is a duration (10m, 1h30m, 2d), a date and time of RFC 3339, "
            "or milliseconds since 1970"
        ) from None


def _ago_ms(text: str) -> int | None:
    days = _DAYS.fullmatch(text)
    total_ms = int(days[1]) * _DAY_MS if days else 0
    rest = days[2] if days else text
    if days and not rest:
        return total_ms
    try:
        ago_ms = parse_duration(rest) // MILLISECOND
    except DurationError:
        return None
    return total_ms + ago_ms if ago_ms >= 0 and not rest.startswith(("-", "+")) else None
