"""Checks configuration files without starting an agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from callboard.agent.commands.api import Failed, UsageError, call
from callboard.agent.configuration.build import check_files
from callboard.agent.configuration.files import ConfigurationError
from callboard.chassis import flags
from callboard.chassis.flags import FlagSet, Parsed

FLAGS = FlagSet(
    "Usage: callboard validate [options] FILE_OR_DIRECTORY...\n\n"
    "  Checks that an agent could start with these configuration files.",
    [flags.switch("quiet", "print nothing"), flags.text("config-format", "json", "json")],
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard validate`."""
    return call(FLAGS, argv, _validate)


def _validate(parsed: Parsed) -> int:
    if not parsed.args:
        raise UsageError("Must specify at least one config file or directory")
    try:
        check_files([Path(word) for word in parsed.args])
    except ConfigurationError as problem:
        raise Failed(f"Config validation failed: {problem}") from problem
    if not parsed.switch("quiet"):
        print("Configuration is valid!")
    return 0
