"""What the command lines of programs have in common: flags, and how their values are read.

A value is the flag's, else the variable's, else the default's. What cannot be used is refused in
one line that names the flag. Nothing is loaded here that a wrong command line does not need.
"""

from __future__ import annotations

from collections.abc import Mapping

from callboard.catalog.durations import DurationError, parse_duration
from callboard.chassis.flags import Flag, Parsed, switch, text
from callboard.chassis.logs import level_of


class SettingsError(ValueError):
    """A setting is not usable; the text says which and why."""


def program_flags(pages: str = "/livez, /readyz and /metrics") -> list[Flag]:
    """The flags of every program that runs on; `pages` are what its health listener has."""
    return [
        text("health", f"IP:PORT for {pages}."),
        text("log-level", "trace, debug, info, warn or err.", "info"),
        switch("log-json", "Log JSON lines.", True),
    ]


def refuse_arguments(parsed: Parsed) -> None:
    """Programs take flags only. Raises SettingsError."""
    if parsed.args:
        raise SettingsError(f"unexpected argument {parsed.args[0]!r}")


def said(parsed: Parsed, environ: Mapping[str, str], flag: str, variable: str) -> str:
    """A flag's value; where it is not given the variable's, and without that its default."""
    return parsed.text(flag) if parsed.given(flag) else environ.get(variable, parsed.text(flag))


def allow_plain_of(parsed: Parsed, environ: Mapping[str, str]) -> bool:
    """-allow-plain or ALLOW_PLAIN."""
    if parsed.given("allow-plain"):
        return parsed.switch("allow-plain")
    return environ.get("ALLOW_PLAIN", "").lower() in ("1", "true")


def log_level_of(parsed: Parsed, environ: Mapping[str, str]) -> str:
    """-log-level or LOG_LEVEL. Raises SettingsError for a level there is not."""
    level = said(parsed, environ, "log-level", "LOG_LEVEL")
    try:
        level_of(level)
    except ValueError as problem:
        raise SettingsError(str(problem)) from None
    return level


def health_of(parsed: Parsed) -> tuple[str, int] | None:
    """-health as (address, port); None where it is not given. Raises SettingsError."""
    value = parsed.text("health")
    if not value:
        return None
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise SettingsError(f"-health is IP:PORT, not {value!r}")
    return host.strip("[]"), port_of(int(port))


def port_of(value: int) -> int:
    """A port number, 0 included. Raises SettingsError."""
    if not 0 <= value < 65536:
        raise SettingsError(f"{value} is no port")
    return value


def duration_s(value: str, flag: str, *, positive: bool = False) -> float:
    """Seconds of a Go duration, not negative (`positive`: nor 0). Raises SettingsError."""
    try:
        seconds = parse_duration(value) / 1e9
    except DurationError as problem:
        raise SettingsError(f"-{flag}: {problem}") from None
    if positive and seconds <= 0:
        raise SettingsError(f"-{flag} is not positive")
    if seconds < 0:
        raise SettingsError(f"-{flag} is negative")
    return seconds


def count_of(parsed: Parsed, flag: str, *, at_least: int) -> int:
    """A number flag that has a least value. Raises SettingsError."""
    value = parsed.number(flag)
    if value < at_least:
        raise SettingsError(f"-{flag} is less than {at_least}")
    return value


def token_of(environ: Mapping[str, str]) -> str:
    """The token for the catalog: CALLBOARD_HTTP_TOKEN or CONSUL_HTTP_TOKEN."""
    return environ.get("CALLBOARD_HTTP_TOKEN", environ.get("CONSUL_HTTP_TOKEN", ""))
