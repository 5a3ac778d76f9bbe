"""Both fan-outs by a connection that had no room: what it refused is lost, and nothing else."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.gateway.fanout.viewers import (
    OpenFanout,
    Received,
    Screen,
    Stand,
    StreamPair,
    Viewer,
    packet,
    parse,
)

from callboard.gateway.fanout.native import NativeFanout
from callboard.gateway.fanout.numbering import REMEMBERED
from callboard.gateway.fanout.plain import PlainFanout
from callboard.gateway.ports import Address, Group, Leg


@pytest.fixture
def connection() -> Iterator[StreamPair]:
    """A reliable pair."""
    pair = StreamPair()
    yield pair
    pair.close()


def _fill(group: Group, leg: Leg, begin: int = 0) -> int:
    """Send until one is refused; returns its number."""
    for n in range(begin, begin + 2000):
        group.send(packet(n, bytes(1200)))
        if leg.dropped:
            return n
    raise AssertionError("the connection has no end")


def _read(viewer: Viewer, connection: StreamPair) -> list[Received]:
    return [viewer.cipher.read(one) for one in connection.received()]


def test_refused_packet_uses_no_number(stand: Stand, connection: StreamPair) -> None:
    group = stand.fanout.group()
    leg = stand.viewer(group=group, pair=connection, sequence=7).leg
    refused = _fill(group, leg)
    assert leg.next_number == refused + 7
    assert not leg.was_sent(refused + 7)
    group.send(packet(refused + 1), packet(refused + 2))
    assert leg.next_number == refused + 7
    assert (leg.packets, leg.dropped) == (refused, 3)


def test_nothing_more_goes_by_that_connection_until_numbers_are_chosen_anew(
    stand: Stand, connection: StreamPair
) -> None:
    """Room alone does not help: what follows the lost packet needs it."""
    group = stand.fanout.group()
    viewer = stand.viewer(group=group, pair=connection)
    refused = _fill(group, viewer.leg)
    assert len(_read(viewer, connection)) == refused
    group.send(packet(refused + 1), packet(refused + 2))
    viewer.leg.send([packet(refused + 3)])
    assert _read(viewer, connection) == []
    viewer.leg.rebase(viewer.leg.next_number - (refused + 4), 0)
    group.send(packet(refused + 4), packet(refused + 5))
    assert [got.sequence for got in _read(viewer, connection)] == [refused, refused + 1]


@pytest.mark.parametrize("lost", [1, 900, 5000, 70_000])
def test_receiver_sees_no_gap_however_much_was_refused(
    stand: Stand, connection: StreamPair, lost: int
) -> None:
    """libsrtp was not told of the lost ones: it would take what follows for too old."""
    group = stand.fanout.group()
    viewer = stand.viewer(group=group, pair=connection)
    refused = _fill(group, viewer.leg)
    for n in range(refused + 1, refused + lost):
        group.send(packet(n))
    came = _read(viewer, connection)
    viewer.leg.rebase(viewer.leg.next_number - (refused + lost), 90)
    group.send(packet(refused + lost, b"keyframe", timestamp=10))
    came += _read(viewer, connection)
    assert [got.sequence for got in came] == list(range(refused + 1))
    assert (came[-1].payload, came[-1].timestamp) == (b"keyframe", 100)


def test_number_of_a_refused_packet_is_given_to_another_whole(
    stand: Stand, connection: StreamPair
) -> None:
    """With a timestamp and send time of its own."""
    group = stand.fanout.group()
    viewer = stand.viewer(group=group, pair=connection, send_time_id=3)
    refused = _fill(group, viewer.leg)
    _read(viewer, connection)
    stand.now.append(64 * 20 + 1.0)
    viewer.leg.rebase(0, 0)
    group.send(packet(refused, b"other", timestamp=77))
    (got,) = _read(viewer, connection)
    assert (got.sequence, got.timestamp, got.payload) == (refused, 77, b"other")
    assert got.extension[5:8] == bytes.fromhex("040000")


def test_what_was_sent_before_is_not_sent_again(stand: Stand, connection: StreamPair) -> None:
    """By a connection it has arrived; and the refused one has pushed out an older one's times."""
    group = stand.fanout.group()
    viewer = stand.viewer(group=group, pair=connection)
    viewer.leg.send(packet(n) for n in range(40))
    refused = _fill(group, viewer.leg, begin=40)
    _read(viewer, connection)
    assert not any(viewer.leg.was_sent(n) for n in range(refused + 1))
    viewer.leg.move(stand.pair())
    viewer.leg.send([packet(0), packet(refused - 1)])
    assert stand.screen.received() == []


def test_another_way_is_gone_by_at_once(stand: Stand, connection: StreamPair) -> None:
    group = stand.fanout.group()
    viewer = stand.viewer(group=group, pair=connection)
    refused = _fill(group, viewer.leg)
    _read(viewer, connection)
    other = StreamPair()
    for pair in (stand.pair(), other):
        viewer.leg.move(pair)
        group.send(packet(refused + 1 + (pair is other)))
    assert [got.sequence for got in stand.read(viewer)] == [refused + 1]
    assert [got.sequence for got in _read(viewer, other)] == [refused + 2]
    other.close()


def test_full_connection_takes_nothing_from_the_others(
    stand: Stand, connection: StreamPair
) -> None:
    group = stand.fanout.group()
    slow = stand.viewer(group=group, pair=connection)
    other = StreamPair()
    quick = stand.viewer(group=group, pair=other)
    got = []
    for n in range(2000):
        group.send(packet(n, bytes(1200)))
        got += [one.sequence for one in _read(quick, other)]
    assert got == list(range(2000))
    assert slow.leg.dropped > 0 and quick.leg.dropped == 0
    other.close()


class Narrow:
    """A connection that has room when it is said to; keeps what goes by it."""

    reliable = True
    address = Address("127.0.0.1", 9)

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.room = 0

    def send(self, data: bytes) -> bool:
        """Take one packet, if there is room."""
        if not self.room:
            return False
        self.room -= 1
        self.sent.append(data)
        return True


Act = tuple[str, int]
acts: st.SearchStrategy[Act] = st.one_of(
    st.tuples(st.just("send"), st.integers(-1100, 1100) | st.integers(-3, 3)),
    st.tuples(st.just("send"), st.just(1)),
    st.tuples(st.just("room"), st.integers(0, 1200)),
    st.tuples(st.just("many"), st.integers(1, 1200)),
    st.tuples(st.just("anew"), st.integers(1, 9)),
    st.tuples(st.just("move"), st.just(0)),
)


def _run(open_fanout: OpenFanout, acts: list[Act]) -> tuple[list[bytes], tuple[int, ...]]:
    """What came, and what the leg tells. The track has one packet of each number, until the numbers
    are chosen anew: its timestamps may differ."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        screen, pair = Screen(), Narrow()
        stand = Stand(open_fanout(sock, lambda: 0.0), sock, screen, [0.0], random.Random(1))
        leg = stand.viewer(pair=pair, sequence=3, timestamp=5).leg
        newest, epoch = 0, 0
        for place, (act, number) in enumerate(acts):
            if act == "room":
                pair.room = number
            elif act == "anew":
                epoch, newest = place, newest + number
                leg.rebase(leg.next_number - newest, place)
            elif act == "move":
                leg.move(pair)
            else:
                first = max(0, newest + number) if act == "send" else newest + 1
                count = number if act == "many" else 1
                newest = max(newest, first + count - 1)
                payload = epoch.to_bytes(2, "big")
                leg.send(packet(n, payload, timestamp=place) for n in range(first, first + count))
        screen.close()
        end = leg.next_number
        known = sum(leg.was_sent(n % (1 << 16)) for n in range(end - REMEMBERED - 2, end + 3))
        return pair.sent, (leg.packets, leg.dropped, leg.next_number, known)


@settings(max_examples=150, deadline=None)
@given(acts=st.lists(acts, max_size=25))
@example(acts=[("room", 3), ("send", 0), ("anew", 5), ("send", -5), ("send", -1)])
def test_both_do_the_same_and_use_no_number_for_two_packets(library: Path, acts: list[Act]) -> None:
    def native(sock: socket.socket, clock: Callable[[], float]) -> NativeFanout:
        return NativeFanout(sock, library, clock=clock)

    def plain(sock: socket.socket, clock: Callable[[], float]) -> PlainFanout:
        return PlainFanout(sock, clock=clock)

    came = _run(native, acts)
    assert came == _run(plain, acts)
    seen: dict[int, bytes] = {}
    for one in came[0]:
        assert seen.setdefault(parse(one).sequence, one) == one
