"""What verbs of `callboard` share: how a command line fails, and verbs of a verb (`kv get`).

A verb is run by `call`, which turns a bad command line, and a `Failed` with its text, into Consul's
texts and exit codes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from callboard.chassis.flags import FlagError, FlagSet, HelpRequested, Parsed


class UsageError(Exception):
    """The command line makes no sense to the verb; printed, exit code 1."""


class Failed(Exception):
    """The verb did not do what was asked; the text is printed, the code is the exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


def call(flag_set: FlagSet, argv: Sequence[str], verb: Callable[[Parsed], int]) -> int:
    """Parse the command line and run `verb`; texts go to stderr, the exit code is answered."""
    try:
        return verb(flag_set.parse(argv))
    except HelpRequested:
        print(flag_set.help())
        return 0
    except FlagError as problem:
        print(problem, flag_set.help(), sep="\n", file=sys.stderr)
        return 1
    except UsageError as problem:
        print(problem, "", flag_set.help(), sep="\n", file=sys.stderr)
        return 1
    except Failed as problem:
        print(problem, file=sys.stderr)
        return problem.code


def read_text(path: Path, what: str) -> str:
    """What a file says, without blanks around it. Raises Failed, which begins with `what`."""
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise Failed(f"{what}: {problem}") from problem


def dispatch(
    usage: str,
    verbs: Mapping[str, Callable[[Sequence[str], Mapping[str, str]], int]],
    argv: Sequence[str],
    environ: Mapping[str, str],
) -> int:
    """Run a verb's own verb (`kv get`); without one, or with an unknown one, the help and 1."""
    name = argv[0] if argv else ""
    if name in verbs:
        return verbs[name](argv[1:], environ)
    wanted = name in ("-h", "-help", "--help", "--h")
    print(usage.strip(), file=sys.stdout if wanted else sys.stderr)
    return 0 if wanted else 1
