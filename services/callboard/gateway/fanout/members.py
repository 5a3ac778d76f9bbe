"""Who is in a group, and in which groups a leg is: the same for both ways of sending."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from callboard.gateway.ports import Receiver
from callboard.gateway.stream.packet import Packet


class Members:
    """The receivers of a group, each once, in the order in which they came."""

    def __init__(self) -> None:
        self._members: dict[Receiver, None] = {}

    def join(self, leg: Receiver) -> None:
        """Send to it, too, from the next packet on; nothing is done if it was closed."""
        if isinstance(leg, Member):
            if leg.closed:
                return
            leg.groups.add(self)
        self._members[leg] = None
        self.changed()

    def leave(self, leg: Receiver) -> None:
        """Send to it no more. It need not have been there."""
        self._members.pop(leg, None)
        if isinstance(leg, Member):
            leg.groups.discard(self)
        self.changed()

    def changed(self) -> None:
        """Called when somebody came, went, or goes by another way."""

    def __len__(self) -> int:
        return len(self._members)


class Member(ABC):
    """What a leg knows of the groups it is in."""

    def __init__(self) -> None:
        self.groups: set[Members] = set()
        self.closed = False
        self.refused = False
        """Its connection had no room for a packet. What follows needs that one: until the numbers
        are chosen anew, or there is another way, no more is sent, and no number used. (The receiver
        would ask for what is missing, and libsrtp take the next one for too old.)"""

    @abstractmethod
    def send(self, packets: Iterable[Packet]) -> None:
        """Send packets to this viewer alone."""

    def close(self) -> None:
        """Leave all groups, for good: its cipher may be gone."""
        self.closed = True
        for group in tuple(self.groups):
            group.leave(self)
