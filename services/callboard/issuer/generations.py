"""The CA over the years: one directory a generation, and what to do while there are two.

    DATA/1/    a `callboard.pki.authority.Authority`
    DATA/2/    the next one, made by `callboard issuer rotate`

A change takes three steps, so that whoever looks late still trusts whom it meets: both CAs are
published, the old one signs on; after the overlap the new one signs, every leaf anew; once every
program known has such a leaf, and another overlap has passed, the old CA and its key are removed.
`phase` decides and touches nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path

from callboard.pki.authority import Authority
from callboard.pki.certificates import CA_LIFE, SKEW, Constraints

COMMON_NAME = "Callboard CA"


class Phase(Enum):
    """Where a change of CA stands."""

    SINGLE = "one CA"
    ANNOUNCED = "both are trusted, the old one signs"
    SIGNING = "both are trusted, the new one signs"
    DONE = "nobody needs the old one any more"


@dataclass(frozen=True, slots=True)
class Generation:
    """One CA and its number."""

    number: int
    authority: Authority

    @property
    def made(self) -> datetime:
        """When it was made."""
        return self.authority.certificate.not_valid_before_utc + SKEW


def numbers(directory: Path) -> list[int]:
    """Which generations lie in a directory, ascending."""
    if not directory.is_dir():
        return []
    return sorted(int(each.name) for each in directory.iterdir() if each.name.isdecimal())


def load(directory: Path) -> list[Generation]:
    """All generations, ascending. Raises what Authority.load raises, in words."""
    return [Generation(n, Authority.load(directory / str(n))) for n in numbers(directory)]


def make_next(directory: Path, constraints: Constraints, now: datetime) -> Generation:
    """The next generation, one more than the last; FileExistsError when another made it too."""
    number = max(numbers(directory), default=0) + 1
    authority = Authority.create(
        directory / str(number),
        common_name=f"{COMMON_NAME} {number}",
        constraints=constraints,
        now=now,
        life=CA_LIFE,
    )
    return Generation(number, authority)


def phase(
    generations: list[Generation],
    issued: Iterable[datetime | None],
    now: datetime,
    overlap: timedelta,
) -> Phase:
    """Where the change stands.

    `issued`: for each program known, when the newest CA signed its leaf; None while it has not.
    """
    if len(generations) < 2:
        return Phase.SINGLE
    if now < generations[-1].made + overlap:
        return Phase.ANNOUNCED
    times = list(issued)
    if any(time is None or now < time + overlap for time in times):
        return Phase.SIGNING
    return Phase.DONE


def remove(directory: Path, generation: Generation) -> None:
    """Remove a CA and its key."""
    shutil.rmtree(directory / str(generation.number))
