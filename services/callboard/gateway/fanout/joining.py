"""How a viewer joins a running stream: a burst of what it needs to begin, paced, then live.

    group ─ live packets ─► lane ─► Pacing ─ timer ─► leg       while the burst drains
    group ─ live packets ──────────────────────────► leg        from then on

The lane stands in the group for its leg; they change places in one step of the loop, between two
packets, so that none is lost, repeated or out of order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from callboard.gateway.fanout.header import check_payload
from callboard.gateway.fanout.pacing import Bounds, Kind, Pacing
from callboard.gateway.ports import Group, Leg
from callboard.gateway.stream.packet import Packet

GRAIN_S = 0.008
"""After a packet is due, before it and what is due by then go out: together, they cost less. Less
than the slack of Pacing, so that no time is lost."""


@dataclass(frozen=True, slots=True)
class Audio:
    """The audio that goes with a video leg."""

    leg: Leg
    group: Group
    burst: Sequence[Packet] = ()


def join(
    leg: Leg,
    group: Group,
    burst: Sequence[Packet],
    rate_bit_s: float,
    on_keyframe_wanted: Callable[[], None],
    *,
    audio: Audio | None = None,
    bounds: Bounds | None = None,
    after: int | None = None,
) -> Joining:
    """Send `burst` to a leg at 2.5 times the stream's `rate_bit_s`, then have it join `group`.

    `burst` ends with the group's last packet: it is taken in the same step of the loop. With
    `audio`, its packets go before those of video; without, that leg joins its group by itself.
    `on_keyframe_wanted` is called when video had to be dropped. With `after`, video begins with the
    next keyframe, numbered as the packet behind the track's `after`: the viewer has seen pictures,
    and would decode what follows others. Raises ValueError for a payload that cannot be sent.
    """
    joining = Joining(rate_bit_s, on_keyframe_wanted, bounds)
    lanes = [(Kind.VIDEO, leg, group, burst)]
    if audio is not None:
        lanes.insert(0, (Kind.AUDIO, audio.leg, audio.group, audio.burst))
    for packet in (packet for lane in lanes for packet in lane[3]):
        check_payload(packet)
    for kind, to, through, first in lanes:
        joining.add(kind, to, through, first)
    if after is not None:
        joining.wait(after)
    joining.drain()
    return joining


class Joining:
    """A viewer on its way in. Made by `join`."""

    def __init__(
        self,
        rate_bit_s: float,
        on_keyframe_wanted: Callable[[], None],
        bounds: Bounds | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._pacing = Pacing(rate_bit_s, self._loop.time(), bounds=bounds)
        self._on_keyframe_wanted = on_keyframe_wanted
        self._lanes: dict[Kind, _Lane] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.live = False
        """Whether it is through: the legs are in their groups."""

    @property
    def queued(self) -> int:
        """Packets that wait."""
        return len(self._pacing)

    @property
    def dropped(self) -> int:
        """Packets that will not be sent."""
        return self._pacing.dropped

    def add(self, kind: Kind, leg: Leg, group: Group, burst: Sequence[Packet]) -> None:
        """Queue a burst, and what comes for that leg."""
        lane = _Lane(self, kind, leg, group)
        self._lanes[kind] = lane
        lane.send(burst)
        group.join(lane)

    @property
    def waits(self) -> bool:
        """Whether no video goes before a keyframe comes."""
        return self._pacing.needs_keyframe

    def wait(self, after: int) -> None:
        """Drop video until a keyframe comes, as if what is behind `after` had been too much."""
        self._pacing.needs_keyframe = True
        self._lanes[Kind.VIDEO].missed(after)

    def put(self, kind: Kind, packet: Packet) -> None:
        """Queue a packet."""
        if not self._pacing.put(kind, packet):
            self._lanes[Kind.VIDEO].skips = True
            self._on_keyframe_wanted()
        self._arm()

    def drain(self) -> None:
        """Send what is due. When nothing is left, the legs take their places."""
        self._disarm()
        for kind, taken in groupby(self._pacing.take(self._loop.time()), itemgetter(0)):
            if kind not in self._lanes:
                return  # closed meanwhile: its connection broke
            self._lanes[kind].pass_on([packet for _, packet in taken])
        if self._pacing.done and self._lanes:
            self._go_live()
        else:
            self._arm()

    def _arm(self) -> None:
        due_at = self._pacing.due_at()
        if self._timer is None and due_at is not None and self._lanes:
            self._timer = self._loop.call_at(due_at + GRAIN_S, self.drain)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_live(self) -> None:
        self.live = True
        lanes = tuple(self._lanes.values())
        self.close()
        for lane in lanes:
            lane.group.join(lane.leg)

    def close(self) -> None:
        """Give up what is still queued: the viewer has gone. Its legs are closed by who made them.
        Nothing is done once it is live."""
        self._disarm()
        for lane in self._lanes.values():
            lane.group.leave(lane)
        self._lanes.clear()


class _Lane:
    """Stands in a group for a leg."""

    def __init__(self, joining: Joining, kind: Kind, leg: Leg, group: Group) -> None:
        self.leg = leg
        self.group = group
        self.skips = False
        """Whether packets before the next one were dropped."""
        self._joining = joining
        self._kind = kind
        self._last: int | None = None

    def send(self, packets: Iterable[Packet]) -> None:
        """Take packets for later."""
        for packet in packets:
            self._joining.put(self._kind, packet)

    def missed(self, after: int) -> None:
        """Nothing behind that packet was sent."""
        self.skips, self._last = True, after

    def pass_on(self, packets: Sequence[Packet]) -> None:
        """Send packets whose turn it is."""
        if self.skips and self._last is not None:
            self._close_gap(self._last, packets[0])
        self.skips = False
        self._last = packets[-1].sequence
        self.leg.send(packets)

    def _close_gap(self, last: int, packet: Packet) -> None:
        """Number `packet` as the one behind `last`: a gap would be asked for again (NACK), and
        that is just what was too much."""
        offset = -self.leg.sequence_of(0, 0)
        self.leg.rebase(offset + last + 1 - packet.sequence, self.leg.timestamp_of(0))
