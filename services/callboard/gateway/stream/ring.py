"""The last packets of a track, by number: what viewers ask for again (NACK). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from callboard.gateway.stream.packet import Packet

PACKETS_MAX = 1024
"""As many as a viewer's cipher lets be sent again."""


class Ring:
    """Keeps the newest packets; older ones fall out."""

    def __init__(self, packets_max: int = PACKETS_MAX) -> None:
        self.newest = -1
        """The highest number so far; -1: none."""
        self._packets_max = packets_max
        self._places: list[Packet | None] = [None] * packets_max

    def put(self, packet: Packet) -> None:
        """Keep a packet. One that comes late takes its place between the others, if that is not
        out of reach already."""
        number = packet.sequence
        if number > self.newest:
            self.newest = number
        elif number <= self.newest - self._packets_max:
            return
        self._places[number % self._packets_max] = packet

    def get(self, number: int) -> Packet | None:
        """The packet of that number, if it is one of the newest and has come."""
        packet = self._places[number % self._packets_max]
        if packet is None or packet.sequence != number:
            return None
        return packet if number > self.newest - self._packets_max else None

    def find(self, numbers: Iterable[int]) -> list[Packet]:
        """Those of these numbers that are here, in the order of the numbers; no more numbers are
        looked at than the ring has places."""
        wanted = islice(numbers, self._packets_max)
        return [packet for number in wanted if (packet := self.get(number)) is not None]

    def since(self, first: int) -> Iterator[Packet]:
        """The packets from that number up, as far as they are here."""
        oldest = max(first, self.newest - self._packets_max + 1, 0)
        for number in range(oldest, self.newest + 1):
            packet = self.get(number)
            if packet is not None:
                yield packet
