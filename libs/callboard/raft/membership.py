"""Who takes part in the group: voters, learners, and what a majority of the voters has reached.

The voters are static: they come from bootstrap and travel in snapshots. Membership change is not
here, nor half of it: an entry of kind CONFIGURATION stops the node (log.py). Its seam is this
class: everything else asks it and keeps no list of its own, so that a joint configuration can
answer in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from callboard.raft import quorum
from callboard.raft.messages import Configuration
from callboard.raft.quorum import Level, Tally


class Membership:
    """A configuration as one member sees it. Raises ValueError for a contradictory one."""

    __slots__ = ("configuration", "is_voter", "node_id", "others", "voters")

    def __init__(self, node_id: str, configuration: Configuration) -> None:
        members = (*configuration.voters, *configuration.learners)
        if len(set(members)) != len(members):
            raise ValueError(f"a member is listed twice in {configuration}")
        self.node_id = node_id
        self.configuration = configuration
        self.voters = configuration.voters
        self.is_voter = node_id in configuration.voters
        self.others = tuple(member for member in members if member != node_id)
        """Everyone but this member: whom a leader feeds."""

    def reached(self, level: Callable[[str], Level]) -> Level:
        """The highest level that a majority of the voters has reached."""
        return quorum.reached([level(voter) for voter in self.voters])

    def tally(self, votes: Mapping[str, bool]) -> Tally:
        """How an election stands."""
        return quorum.tally(votes, self.voters)

    def other_voters(self) -> tuple[str, ...]:
        """The voters but this member."""
        return tuple(voter for voter in self.voters if voter != self.node_id)
