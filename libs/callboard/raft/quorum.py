"""Majorities: pure arithmetic on what each voter said. No state of a member lives here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import TypeVar

Level = TypeVar("Level", int, float)


class Tally(IntEnum):
    """How an election stands."""

    PENDING = 0
    WON = 1
    LOST = 2


def majority(voters: int) -> int:
    """How many of `voters` are a majority: any two majorities share a member."""
    return voters // 2 + 1


def reached(levels: Sequence[Level]) -> Level:
    """The highest level that a majority has reached; one level a voter, in any order.

    For match indexes that is what may be committed; for times, when a majority had been heard.
    """
    return sorted(levels, reverse=True)[len(levels) // 2]


def tally(votes: Mapping[str, bool], voters: Iterable[str]) -> Tally:
    """How `votes` (voter -> granted) stand among `voters`; others' votes are not counted."""
    granted = rejected = total = 0
    for voter in voters:
        total += 1
        vote = votes.get(voter)
        granted += vote is True
        rejected += vote is False
    needed = majority(total)
    if granted >= needed:
        return Tally.WON
    if total - rejected < needed:
        return Tally.LOST
    return Tally.PENDING
