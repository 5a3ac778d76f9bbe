"""How a source comes in, packet by packet: reports, and what to ask for again. Pure.

Source: RFC 3550, 6.4.1 and appendices A.3 and A.8; RFC 4585, 6.2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

JUMP_MAX = 3000
"""A greater gap is no loss: the source has begun anew (RFC 3550, A.1: MAX_DROPOUT)."""
MISSING_MAX = 256
"""Numbers that are asked for at the same time; more is a break of the way, not some losses."""
ASKED_MAX = 4
"""Times that a packet is asked for."""
ASK_AGAIN_S = 0.08
"""Somewhat more than most round trips."""
GIVE_UP_S = 0.6
"""A packet that is so late is of no use to viewers."""


@dataclass(frozen=True, slots=True)
class Block:
    """A report block, as the packet has it."""

    ssrc: int
    fraction_lost: int
    """Of 256."""
    lost: int
    highest_number: int
    jitter: int
    last_report: int
    delay: int


class Reception:
    """One source (SSRC)."""

    def __init__(self, ssrc: int, clock_rate: int) -> None:
        self.ssrc = ssrc
        self.received = 0
        self._clock_rate = clock_rate
        self._first: int | None = None
        self._highest = 0
        self._jitter = 0.0
        self._transit: float | None = None
        self._expected_then = self._received_then = 0
        self._report: tuple[int, float] | None = None

    @property
    def lost(self) -> int:
        """Packets that did not come, in all."""
        return self._expected() - self.received

    @property
    def jitter_s(self) -> float:
        """Interarrival jitter."""
        return self._jitter / self._clock_rate

    def take(self, number: int, timestamp: int, now: float) -> None:
        """A packet came: its 16-bit number, its 32-bit timestamp."""
        if self._first is None:
            self._first = self._highest = number
        ahead = (number - self._highest) % (1 << 16)
        if ahead < JUMP_MAX:
            self._highest += ahead
        elif (1 << 16) - ahead > JUMP_MAX:
            self._begin_anew(number)
        self.received += 1
        self._measure(timestamp, now)

    def take_report(self, ntp: int, now: float) -> None:
        """A sender report came."""
        self._report = (ntp >> 16 & 0xFFFFFFFF, now)

    def block(self, now: float) -> Block:
        """The report since the last call."""
        expected = self._expected()
        span, got = expected - self._expected_then, self.received - self._received_then
        self._expected_then, self._received_then = expected, self.received
        fraction = min(255, max(0, (span - got) * 256 // span)) if span > 0 else 0
        last, delay = 0, 0
        if self._report is not None:
            last, delay = self._report[0], round((now - self._report[1]) * 65_536)
        return Block(
            self.ssrc,
            fraction,
            max(-(1 << 23), min(self.lost, (1 << 23) - 1)),
            self._highest % (1 << 32),
            round(self._jitter) % (1 << 32),
            last,
            min(delay, (1 << 32) - 1),
        )

    def _expected(self) -> int:
        return 0 if self._first is None else self._highest - self._first + 1

    def _begin_anew(self, number: int) -> None:
        """Count on from here as if nothing were lost between."""
        cycles = (self._highest // (1 << 16) + 1) * (1 << 16)
        gone = self._expected()
        self._highest = cycles + number
        self._first = self._highest - gone
        self._transit = None

    def _measure(self, timestamp: int, now: float) -> None:
        arrival = now * self._clock_rate
        transit = arrival - timestamp
        if self._transit is not None:
            difference = (transit - self._transit + (1 << 31)) % (1 << 32) - (1 << 31)
            self._jitter += (abs(difference) - self._jitter) / 16
        self._transit = transit


class Asking:
    """Which of the packets that are missing to ask for now (NACK)."""

    def __init__(self) -> None:
        self.asked = 0
        """In all."""
        self._asked: dict[int, _Asked] = {}

    def due(self, missing: Sequence[int], now: float) -> list[int]:
        """Those of the `missing` 16-bit numbers to ask for, in their order."""
        self._asked = {
            number: self._asked.get(number) or _Asked(now) for number in missing[-MISSING_MAX:]
        }
        wanted = []
        for number, each in self._asked.items():
            late = now - each.since > GIVE_UP_S or each.times >= ASKED_MAX
            if not late and now - each.last >= ASK_AGAIN_S:
                each.last = now
                each.times += 1
                wanted.append(number)
        self.asked += len(wanted)
        return wanted


@dataclass(slots=True)
class _Asked:
    since: float
    last: float = float("-inf")
    times: int = 0
