"""What membership raises.

MembershipError
├── JoinError      no peer could be contacted
├── StreamError    one exchange over TCP failed
└── UnknownMember  nobody goes by that name
"""

from __future__ import annotations


class MembershipError(Exception):
    """Membership could not do what was asked."""


class JoinError(MembershipError):
    """No peer could be contacted; the text has a reason for each address."""


class StreamError(MembershipError):
    """One exchange over TCP failed."""


class UnknownMember(MembershipError):
    """Nobody goes by that name."""
