"""`callboard issuer rotate`: makes the next CA beside the one in use; the running issuer does the
rest (see `generations`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from callboard.chassis import verbs
from callboard.chassis.flags import FlagSet, Parsed, text
from callboard.chassis.verbs import Failed, UsageError
from callboard.issuer import generations
from callboard.issuer.constraints import read_wanted

FLAGS = FlagSet(
    """Usage: callboard issuer rotate -data-dir=DIR

  Makes the next CA. The running issuer then has every program trust both, signs every certificate
  anew, and removes the old CA when nobody needs it.""",
    [text("data-dir", "Directory of the CA and its key.")],
)


def rotate(argv: Sequence[str]) -> int:
    """Make the next generation; 1 when that cannot be."""
    return verbs.call(FLAGS, argv, _rotate)


def _rotate(parsed: Parsed) -> int:
    if not parsed.text("data-dir"):
        raise UsageError("-data-dir is missing")
    directory = Path(parsed.text("data-dir"))
    try:
        present = generations.numbers(directory)
        if len(present) != 1:
            state = "a change is under way" if present else "there is no CA"
            raise Failed(f"{directory}: {state}")
        made = generations.make_next(
            directory, read_wanted(directory), datetime.now(UTC), after=present[0]
        )
    except (OSError, ValueError) as problem:
        raise Failed(str(problem)) from problem
    print(f"CA {made.number} is made; the running issuer takes it into use")
    return 0
