"""Go durations: the texts Consul's clients send and read (`10s`, `1h2m3s`, `1m0s`).

A duration is an `int` of nanoseconds, as Go's time.Duration; `seconds()` gives a float for timers.
Source: the Go standard library's documentation of time.ParseDuration and Duration.String.
"""

from __future__ import annotations

import re

NANOSECOND = 1
MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

_MAXIMUM = (1 << 63) - 1
_UNITS = {
    "ns": NANOSECOND,
    "us": MICROSECOND,
    "µs": MICROSECOND,
    "μs": MICROSECOND,
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
_NUMBER = re.compile(r"([0-9]*)(?:\.([0-9]*))?")
_UNIT = re.compile(r"[^0-9.]+")


class DurationError(ValueError):
    """Not a Go duration; the text is Go's own (`time: invalid duration "x"`)."""


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration text: `300ms`, `-1.5h`, `2h45m`, `0`. Raises DurationError."""
    rest = text
    negative = rest.startswith("-")
    if rest[:1] in ("-", "+"):
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise DurationError(f'time: invalid duration "{text}"')
    total = 0
    while rest:
        term, rest = _term(text, rest)
        total += term
        if total > _MAXIMUM + negative:
            raise DurationError(f'time: invalid duration "{text}"')
    return -total if negative else total


def _term(text: str, rest: str) -> tuple[int, str]:
    """One number with its unit from the front of `rest`, in nanoseconds, and what follows."""
    number = _NUMBER.match(rest)
    whole, fraction = number.groups() if number else ("", None)
    if not whole and not fraction:
        raise DurationError(f'time: invalid duration "{text}"')
    rest = rest[number.end() :] if number else rest
    unit = _UNIT.match(rest)
    if unit is None:
        raise DurationError(f'time: missing unit in duration "{text}"')
    scale = _UNITS.get(unit.group())
    if scale is None:
        raise DurationError(f'time: unknown unit "{unit.group()}" in duration "{text}"')
    nanoseconds = int(whole.lstrip("0")[:40] or "0") * scale
    if fraction:
        digits = fraction[:18]
        nanoseconds += int(digits) * scale // 10 ** len(digits)
    return nanoseconds, rest[unit.end() :]


def format_duration(nanoseconds: int) -> str:
    """The text Go prints: `0s`, `1.5ms`, `10s`, `1m0s`, `1h0m0.5s`."""
    if nanoseconds == 0:
        return "0s"
    sign = "-" if nanoseconds < 0 else ""
    value = abs(nanoseconds)
    if value < MICROSECOND:
        return f"{sign}{value}ns"
    if value < MILLISECOND:
        return f"{sign}{_decimal(value, MICROSECOND)}µs"
    if value < SECOND:
        return f"{sign}{_decimal(value, MILLISECOND)}ms"
    minutes, rest = divmod(value, MINUTE)
    tail = f"{_decimal(rest, SECOND)}s"
    if minutes == 0:
        return sign + tail
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours}h{minutes}m{tail}" if hours else f"{sign}{minutes}m{tail}"


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    if fraction == 0:
        return str(whole)
    digits = str(fraction).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"


def seconds(nanoseconds: int) -> float:
    """A duration as the float of seconds that timers take."""
    return nanoseconds / SECOND
