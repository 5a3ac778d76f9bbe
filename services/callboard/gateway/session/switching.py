"""From one rendition to another, at the other's next keyframe.

The leg stays in the old group until then; from that packet on it is the new one's, with numbers
that go on from the last ones, and timestamps of the same clock. All happens between two packets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from callboard.gateway.live import LiveTrack
from callboard.gateway.ports import Leg
from callboard.gateway.session.clocks import ntp_span
from callboard.gateway.stream.packet import Packet
from callboard.gateway.stream.track import Track


class Switch:
    """Stands in the new group for a leg, until a keyframe comes."""

    def __init__(
        self,
        leg: Leg,
        old: LiveTrack,
        new: LiveTrack,
        clock: Callable[[], float],
        done: Callable[[], None],
    ) -> None:
        """Begins at once; `done` is called when the leg has moved."""
        self.new = new
        self._leg = leg
        self._old = old
        self._clock = clock
        self._done = done
        new.group.join(self)

    def send(self, packets: Iterable[Packet]) -> None:
        """See Receiver."""
        waiting = iter(packets)
        for packet in waiting:
            if packet.keyframe:
                self._move(packet)
                self._leg.send((packet, *waiting))

    def cancel(self) -> None:
        """Stay with the old rendition."""
        self.new.group.leave(self)

    def _move(self, first: Packet) -> None:
        leg, old, new = self._leg, self._old, self.new
        old.group.leave(leg)
        number = leg.next_number or old.track.newest + 1 - leg.sequence_of(0, 0)
        stamp = leg.timestamp_of(same_moment(old.track, new.track, first.timestamp, self._clock()))
        leg.rebase(number - first.sequence, stamp - first.timestamp)
        new.group.leave(self)
        new.group.join(leg)
        self._done()


def same_moment(old: Track, new: Track, timestamp: int, now: float) -> int:
    """The timestamp of `old` at the moment of a timestamp of `new`: by the sources' clock if both
    have told it, else by the time of arrival. Later than all that came of `old`."""
    one, other = old.clock(), new.clock()
    if one is not None and other is not None:
        moment = other.ntp_time + ntp_span(timestamp - other.timestamp, new.format.clock_rate)
        found = one.timestamp + (moment - one.ntp_time) * old.format.clock_rate // (1 << 32)
    else:
        seen = old.presence.last_seen
        since_s = now - seen if seen is not None else 0.0
        found = old.newest_timestamp + round(since_s * old.format.clock_rate)
    return max(found, old.newest_timestamp + old.format.clock_rate // 1000)
