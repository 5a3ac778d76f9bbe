"""A viewer's numbers: offsets, and what was sent under each number.

Why is that remembered? With AES-GCM (RFC 7714) a number used twice for two different packets, be
it a timestamp or a send time that differs, gives the authentication key away (NIST SP 800-38D,
appendix A); and a browser puts packets of one timestamp together. So a packet that is sent again is
the same to the last byte: with the timestamp and send time it had the first time, though the ring
it comes from does not know that it was part of a burst. A number whose past is unknown is refused.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple

from callboard.media.rtp import near

REMEMBERED = 1024
"""Numbers back to which a packet can be sent again; SRTP sessions want a window as long."""
UNAMBIGUOUS = 1 << 15
"""libsrtp takes numbers as they are until the first beyond it, then as near the highest one."""


class Numbers(NamedTuple):
    """What a header gets."""

    number: int
    """16 bits."""
    timestamp: int
    """32 bits."""
    send_time: int
    """24 bits; the first time's, for a packet sent again."""


def index_of(number: int, following: int) -> int:
    """A 16-bit number with its rollover counter, as libsrtp tells it; `following` is the highest
    index used so far, and 1."""
    if following <= UNAMBIGUOUS + 1:
        return number
    return near(number, following - 1, 16)


class Offsets:
    """What a viewer's numbers differ by from the track's."""

    def __init__(self, sequence: int, timestamp: int) -> None:
        self.sequence = sequence % (1 << 16)
        self.timestamp = timestamp % (1 << 32)

    def sequence_of(self, number: int, newest: int) -> int:
        """The track's number of a viewer's `number`, near the track's `newest` one."""
        return near(number - self.sequence, newest, 16)

    def timestamp_of(self, timestamp: int) -> int:
        """A viewer's timestamp."""
        return (timestamp + self.timestamp) % (1 << 32)


class Memory:
    """Which numbers were used for what. Indices are numbers with the rollover counter before them
    (RFC 3711, 3.3.1), told as libsrtp tells them."""

    def __init__(self) -> None:
        self.next = 0
        """The highest index used, and 1."""
        # by index modulo REMEMBERED: index + 1, and timestamp before send time
        self._used = array("Q", bytes(8 * REMEMBERED))
        self._sent = array("Q", bytes(8 * REMEMBERED))
        self._floor = 0

    def forbid_what_was_used(self) -> None:
        """From now on numbers stand for other packets: those used so far are not sent again."""
        self._floor = self.next

    def use(self, number: int, timestamp: int, send_time: int) -> Numbers | None:
        """Return what to send a packet with; None if its number may have been another packet's."""
        sent = timestamp << 24 | send_time
        index = self.next
        if number != index & 0xFFFF:  # (nearly always it is the next one)
            index = index_of(number, index)
            if not self._is_within(index):
                return None
            if self._used[index % REMEMBERED] == index + 1:
                sent = self._sent[index % REMEMBERED]
                return Numbers(number, sent >> 24, sent & 0xFFFFFF)
        place = index % REMEMBERED
        self._used[place] = index + 1
        self._sent[place] = sent
        if index >= self.next:
            self.next = index + 1
        return Numbers(number, timestamp, send_time)

    def take_back(self, following: int) -> None:
        """The packet that was numbered last has not left; `following` is what `next` was before.
        Its number is free again. It has pushed out what an older one was sent with: those are not
        sent again."""
        if self.next == following + 1:
            self._used[following % REMEMBERED] = 0
            self.next = following
        self._floor = self.next

    def knows(self, number: int) -> bool:
        """Whether it was used, and can be again for the same packet."""
        index = index_of(number, self.next)
        return self._is_within(index) and self._used[index % REMEMBERED] == index + 1

    def _is_within(self, index: int) -> bool:
        if index >= self.next > 0:
            # as RFC 3711 tells numbers (3.3.1) one further ahead is of before the first one, and a
            # viewer that heard of it would have another rollover counter ever after
            return index - self.next + 1 < UNAMBIGUOUS
        return index >= self._floor and index + REMEMBERED >= self.next
