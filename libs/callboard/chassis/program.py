"""The way from a command line to a running program: read, check, set logging up, start, wait.

A program's `__main__` names its flags, how settings are built of them, and how it starts; what is
slow to import it imports in there, once the settings are known to be good.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from callboard.chassis import logs
from callboard.chassis.flags import FlagError, FlagSet, HelpRequested, Parsed
from callboard.chassis.settings import SettingsError

if TYPE_CHECKING:
    from callboard.chassis.lifecycle import Lifecycle


class ProgramSettings(Protocol):
    """What every program's settings have."""

    @property
    def log_level(self) -> str:
        """A name of `logs.LEVELS`."""

    @property
    def log_json(self) -> bool:
        """JSON lines, or plain ones."""


Settings = TypeVar("Settings", bound=ProgramSettings)


def run(
    name: str,
    argv: Sequence[str],
    flags: FlagSet,
    build: Callable[[Parsed], Settings],
    start: Callable[[Settings, Lifecycle], Awaitable[None]],
) -> int:
    """Run `callboard NAME` until a signal; the exit code, 1 when it cannot start.

    `build` raises SettingsError for what cannot be used: one line, without a log's form.
    """
    try:
        settings = build(flags.parse(argv))
    except HelpRequested:
        print(flags.help())
        return 0
    except (FlagError, SettingsError) as problem:
        print(f"callboard {name}: {problem}", file=sys.stderr)
        return 1
    flush = logs.configure(settings.log_level, plain=not settings.log_json)
    from callboard.chassis import lifecycle  # noqa: PLC0415 - the settings are checked first

    try:
        return lifecycle.run(lambda life: start(settings, life))
    finally:
        flush()
