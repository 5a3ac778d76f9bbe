"""Members as serf and Consul know them: with tags, and failed or left ones kept for days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from callboard.swim.messages import Address, Versions


class MemberStatus(StrEnum):
    """What the catalog and the command line show of a member."""

    ALIVE = "alive"
    LEAVING = "leaving"
    LEFT = "left"
    FAILED = "failed"
    REAP = "reap"


@dataclass(frozen=True, slots=True)
class SerfMember:
    """One member, as of now."""

    name: str
    address: str
    port: int
    tags: Mapping[str, str]
    status: MemberStatus
    versions: Versions = field(default_factory=Versions)

    @property
    def endpoint(self) -> Address:
        """Where its gossip listens."""
        return (self.address, self.port)


class MemberEventKind(StrEnum):
    """What happened to a member."""

    JOIN = "join"
    LEAVE = "leave"
    FAILED = "failed"
    UPDATE = "update"
    REAP = "reap"


@dataclass(frozen=True, slots=True)
class MemberEvent:
    """Something happened to a member; `member` is as it is after that."""

    kind: MemberEventKind
    member: SerfMember


@dataclass(slots=True)
class MemberRecord:
    """What the serf layer keeps of a member."""

    member: SerfMember
    status_time: int
    """The Lamport time of the last intent that counted."""
    gone_at: float = 0.0
    """When it failed or left (monotonic seconds)."""
