"""The agent's membership: who is in the cluster, and who is thought to be alive.

The driver round `callboard.swim`: UDP and TCP sockets, one timer, names looked up, peers
remembered over a restart. What members mean for the catalog is not decided here.
"""

from callboard.agent.membership.errors import JoinError, MembershipError, UnknownMember
from callboard.agent.membership.membership import Membership
from callboard.agent.membership.settings import Settings, decode_key
from callboard.swim.events import NameConflict
from callboard.swim.serf_members import (
    MemberEvent,
    MemberEventKind,
    MemberStatus,
)
from callboard.swim.serf_members import SerfMember as Member

__all__ = [
    "JoinError",
    "Member",
    "MemberEvent",
    "MemberEventKind",
    "MemberStatus",
    "Membership",
    "MembershipError",
    "NameConflict",
    "Settings",
    "UnknownMember",
    "decode_key",
]
