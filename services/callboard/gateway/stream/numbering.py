"""A track's numbers: the source's go on as ours, without a jump. Pure. Source: RFC 3550, A.1.

A packet of the source may become none or several of ours, so the difference between its numbers and
ours changes as packets come. For numbers of the source that are passed over, one of ours each is
kept free: a packet that comes late has its place.
"""

from __future__ import annotations

from callboard.media.rtp import distance

DROPOUT_MAX = 3000
"""A number ahead by this much or more is no loss, but another beginning (MAX_DROPOUT)."""
WINDOW = 512
"""Of the source's numbers: how late a packet may come."""

_BITS = 16


class Numbering:
    """Which number a packet of the source gets."""

    def __init__(self) -> None:
        self.next = 0
        """Ours, of the next packet."""
        self.expected = 0
        """The source's, of the next packet in order; never wrapped."""
        self._kept: dict[int, int] = {}
        """Ours, by the source's: numbers that were passed over, in order."""

    def begin(self, sequence: int) -> None:
        """The source begins, anew perhaps, with this number; ours go on."""
        self.expected = sequence
        self._kept.clear()

    def ahead(self, sequence: int) -> int:
        """How far a packet is ahead of the one that is expected; negative: behind."""
        return distance(sequence, self.expected, _BITS)

    def pass_over(self, count: int) -> None:
        """The next `count` numbers have not come (yet)."""
        newest = self.expected + count
        for index in range(max(0, count - WINDOW), count):
            self._kept[self.expected + index] = self.next + index
        for old in [number for number in self._kept if number < newest - WINDOW]:
            del self._kept[old]
        self.expected = newest
        self.next += count

    def advance(self, numbers: int) -> None:
        """The expected packet has come, and takes so many of ours."""
        self.expected += 1
        self.next += numbers

    def fill(self, ahead: int) -> int | None:
        """The number that was kept for a packet that is behind; None if there is none: it has come
        already. It is kept no more."""
        return self._kept.pop(self.expected + ahead, None)

    def missing(self) -> list[int]:
        """The source's numbers that may still come, the oldest first, 16 bits."""
        oldest = self.expected - WINDOW
        return [number & 0xFFFF for number in self._kept if number >= oldest]
