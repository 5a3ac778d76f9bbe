"""The CA over the years: one directory a generation, and what to do while there are two.

    DATA/1/    a `callboard.pki.authority.Authority`
    DATA/2/    the next one, made by `callboard issuer rotate`

A change takes three steps, so that whoever looks late still trusts whom it meets: both CAs are
published, the old one signs on; after the overlap the new one signs, every leaf anew; once every
program known has such a leaf, and another overlap has passed, the old CA and its key are removed.
`phase` decides and touches nothing.

A generation is there once its certificate is, which is made last and removed first: what a crash
leaves of one is finished by the next `make_next`, or by `sweep`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path

from callboard.pki.authority import NAME, Authority
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

    def in_date(self, now: datetime) -> bool:
        """Whether it may sign, and others would believe it."""
        found = self.authority.certificate
        return found.not_valid_before_utc <= now <= found.not_valid_after_utc


def numbers(directory: Path) -> list[int]:
    """Which generations lie in a directory, ascending."""
    return [number for number in _folders(directory) if _certificate(directory, number).exists()]


def load(directory: Path) -> list[Generation]:
    """All generations, ascending. Raises what Authority.load raises, in words."""
    return [Generation(n, Authority.load(directory / str(n))) for n in numbers(directory)]


def make_next(
    directory: Path, constraints: Constraints, now: datetime, *, after: int | None = None
) -> Generation:
    """The generation that follows the last one, or `after`. Raises FileExistsError when it is
    there already: another made it meanwhile."""
    number = (max(numbers(directory), default=0) if after is None else after) + 1
    authority = Authority.create(
        directory / str(number),
        common_name=f"{COMMON_NAME} {number}",
        constraints=constraints,
        now=now,
        life=CA_LIFE,
    )
    return Generation(number, authority)


def phase(
    generations: Sequence[Generation],
    issued: Iterable[datetime | None],
    now: datetime,
    overlap: timedelta,
) -> Phase:
    """Where the change stands.

    `issued`: for each program known, when the newest CA signed its leaf; None while it has not.
    A CA that is out of date needs no overlap: nobody believes it any more.
    """
    if len(generations) < 2:
        return Phase.SINGLE
    if now < generations[-1].made + overlap and generations[-2].in_date(now):
        return Phase.ANNOUNCED
    times = list(issued)
    if any(time is None or now < time + overlap for time in times):
        return Phase.SIGNING
    return Phase.DONE


def remove(directory: Path, generation: Generation) -> None:
    """Remove a CA and its key. Raises OSError; what is left then, `sweep` removes."""
    _certificate(directory, generation.number).unlink()
    shutil.rmtree(directory / str(generation.number))


def sweep(directory: Path) -> list[int]:
    """Remove what a crash left of CAs that were being removed; which they were. Raises OSError."""
    present = numbers(directory)
    gone = [n for n in _folders(directory) if present and n < present[-1] and n not in present]
    for number in gone:
        shutil.rmtree(directory / str(number))
    return gone


def _folders(directory: Path) -> list[int]:
    if not directory.is_dir():
        return []
    return sorted(int(each.name) for each in directory.iterdir() if each.name.isdecimal())


def _certificate(directory: Path, number: int) -> Path:
    return directory / str(number) / f"{NAME}.pem"
