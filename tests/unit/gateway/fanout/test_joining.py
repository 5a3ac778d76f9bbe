"""Joining a stream that runs: burst, then live, with every packet once and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from tests.harness.eventually import eventually
from tests.unit.gateway.fanout.viewers import (
    BreakingPair,
    Received,
    Stand,
    Viewer,
    packet,
    ssrc_of,
)

from callboard.gateway.fanout.joining import Audio, Joining, join
from callboard.gateway.fanout.pacing import Bounds
from callboard.gateway.ports import Group, Leg
from callboard.gateway.stream.packet import Packet

RATE = 4_000_000.0
"""At 2.5 times: 1,212 bytes each 0.97 ms."""


class Room:
    """A group, and one viewer who joins it."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.group: Group = stand.fanout.group()
        self.viewer: Viewer = stand.viewer(timestamp=9)
        self.wanted = 0
        self.next = 0

    def packets(self, count: int, size: int = 1200) -> list[int]:
        """Send the group live packets; return their numbers."""
        numbers = list(range(self.next, self.next + count))
        self.next += count
        for n in numbers:
            self.group.send(packet(n, bytes(size)))
        return numbers

    def join(
        self,
        burst: int,
        bounds: Bounds | None = None,
        audio: Audio | None = None,
        after: int | None = None,
    ) -> Joining:
        """Join with a burst of so many packets."""
        first = [packet(n, bytes(1200), keyframe=n == self.next) for n in self.numbers(burst)]
        self.next += burst
        return join(
            self.viewer.leg,
            self.group,
            first,
            RATE,
            self._want,
            audio=audio,
            bounds=bounds,
            after=after,
        )

    def numbers(self, count: int) -> range:
        """The next ones."""
        return range(self.next, self.next + count)

    def _want(self) -> None:
        self.wanted += 1

    def read(self) -> list[Received]:
        """What the viewer got since."""
        return self.stand.read(self.viewer)


@pytest.fixture
def room(stand: Stand) -> Room:
    """A group and a viewer, by either fan-out."""
    return Room(stand)


async def _is_live(joining: Joining) -> None:
    live: bool = await eventually(lambda: joining.live)
    assert live


async def test_burst_and_live_packets_arrive_once_and_in_order(room: Room) -> None:
    joining = room.join(60)
    got: list[int] = []
    while not joining.live:
        room.packets(1)
        await asyncio.sleep(0.002)
        got += [one.sequence for one in room.read()]
    room.packets(5)
    got += [one.sequence for one in room.read()]
    assert got == list(range(room.next))
    assert room.next > 60 + 5, "packets came live while it drained"
    assert len(room.group) == 1
    assert (joining.dropped, room.wanted) == (0, 0)


async def test_burst_takes_its_time(room: Room) -> None:
    begun = asyncio.get_running_loop().time()
    joining = room.join(100)
    assert joining.queued > 80, "most of it waits"
    await _is_live(joining)
    took = asyncio.get_running_loop().time() - begun
    assert took >= (99 * 1212 * 8 / (2.5 * RATE)) - 0.006


async def test_empty_burst_is_live_at_once(room: Room) -> None:
    joining = room.join(0)
    assert joining.live
    room.packets(1)
    assert [one.sequence for one in room.read()] == [0]


async def test_who_has_seen_pictures_gets_none_before_a_keyframe(room: Room) -> None:
    group = room.stand.fanout.group()
    listener = room.stand.viewer()
    room.next = 100
    joining = room.join(0, audio=Audio(listener.leg, group), after=99)
    assert joining.waits
    room.packets(30)
    group.send(packet(0, b"sound"))
    heard: bool = await eventually(lambda: listener.leg.packets == 1)
    assert heard
    assert (room.viewer.leg.packets, joining.dropped, joining.live) == (0, 30, False)
    room.group.send(packet(130, b"keyframe", keyframe=True))
    await _is_live(joining)
    assert not joining.waits
    room.group.send(packet(131, b"delta"))
    video = [one for one in room.stand.screen.received() if ssrc_of(one) == room.viewer.ssrc]
    got = [room.viewer.cipher.read(one) for one in video]
    assert [(one.sequence, one.payload) for one in got] == [(100, b"keyframe"), (101, b"delta")]


async def test_audio_is_not_kept_waiting_by_video(room: Room) -> None:
    group = room.stand.fanout.group()
    listener = room.stand.viewer()
    audio = Audio(listener.leg, group, [packet(0, b"a"), packet(1, b"b")])
    joining = room.join(100, audio=audio)
    assert listener.leg.packets == 2
    sent_first = len(room.stand.screen.received())
    group.send(packet(2, b"c"))
    await _is_live(joining)
    order = [ssrc_of(one) for one in room.stand.screen.received()]
    assert order == [listener.ssrc] + [room.viewer.ssrc] * (102 - sent_first)
    assert (len(group), len(room.group)) == (1, 1)
    group.send(packet(3, b"d"))
    assert listener.leg.packets == 4


async def test_viewer_that_cannot_follow_gets_a_keyframe_and_no_gap_in_its_numbers(
    room: Room,
) -> None:
    joining = room.join(30, Bounds(packets=40))
    sent = len(room.read())
    assert 0 < sent < 30
    room.packets(40)
    assert room.wanted == 1
    assert joining.queued == 0
    assert not joining.live, "what follows cannot be decoded"
    room.packets(10)
    assert room.wanted == 1
    room.next += 1
    room.group.send(packet(room.next, b"keyframe", timestamp=500, keyframe=True))
    await _is_live(joining)
    room.next += 1
    room.group.send(packet(room.next, b"delta", timestamp=600))
    got = room.read()
    assert [one.payload for one in got] == [b"keyframe", b"delta"]
    assert [one.sequence for one in got] == [sent, sent + 1]
    assert [one.timestamp for one in got] == [509, 609]
    assert joining.dropped == 30 - sent + 50


async def test_viewer_that_leaves_while_it_joins_gets_no_more(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    joining = room.join(100)
    joining.close()
    joining.close()
    room.read()
    room.packets(3)
    later = asyncio.get_running_loop().time() + 0.02
    passed: bool = await eventually(lambda: asyncio.get_running_loop().time() > later)
    assert passed
    assert room.read() == []
    assert len(room.group) == 0
    assert not joining.live
    assert caplog.messages == [], "no timer is left"


async def test_viewer_whose_connection_breaks_while_it_joins_is_forgotten(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    pair = BreakingPair()
    joining = room.join(50)
    room.viewer.leg.move(pair)
    pair.broken += [joining.close, room.viewer.leg.close]  # as its session does
    broke: bool = await eventually(lambda: pair.tried > 0, interval_s=0.001)
    assert broke
    later = asyncio.get_running_loop().time() + 0.02
    passed: bool = await eventually(lambda: asyncio.get_running_loop().time() > later)
    assert passed
    assert (pair.tried, len(room.group), joining.live) == (1, 0, False)
    assert caplog.messages == []
    pair.close()


async def test_leg_that_closes_while_it_joins_is_not_in_the_group_afterwards(room: Room) -> None:
    joining = room.join(20)
    room.viewer.leg.close()
    await _is_live(joining)
    room.packets(1)
    assert len(room.group) == 0


async def test_closing_one_that_is_live_changes_nothing(room: Room) -> None:
    joining = room.join(1)
    await _is_live(joining)
    joining.close()
    room.packets(1)
    assert [one.sequence for one in room.read()] == [0, 1]


async def test_burst_that_cannot_be_sent_is_refused_whole(room: Room) -> None:
    burst = [packet(0), packet(1, bytes(1461))]
    with pytest.raises(ValueError, match="1461 bytes"):
        join(room.viewer.leg, room.group, burst, RATE, lambda: None)
    assert len(room.group) == 0
    assert room.read() == []


async def test_lost_packets_are_sent_again_while_the_burst_drains(room: Room) -> None:
    joining = room.join(100)
    first = room.stand.screen.received()
    room.viewer.leg.send([packet(0, bytes(1200), keyframe=True)])
    assert room.stand.screen.received() == first[:1]
    await _is_live(joining)


async def test_what_is_due_at_one_time_goes_to_the_leg_together(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message for each packet, and a timer for each, would cost more."""
    sent: list[int] = []
    send = type(room.viewer.leg).send

    def counted(leg: Leg, packets: Iterable[Packet]) -> None:
        several = list(packets)
        sent.append(len(several))
        send(leg, several)

    monkeypatch.setattr(type(room.viewer.leg), "send", counted)
    await _is_live(room.join(100))
    assert sum(sent) == 100 and len(sent) < 50
    assert [got.sequence for got in room.read()] == list(range(100))
