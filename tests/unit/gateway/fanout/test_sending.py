"""Both fan-outs: what viewers get."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Iterator
from functools import partial

import pylibsrtp
import pytest
from tests.unit.gateway.fanout.viewers import (
    PROFILES,
    BreakingPair,
    Cipher,
    OpenFanout,
    Screen,
    Stand,
    StreamPair,
    UdpPair,
    packet,
    parse,
    ssrc_of,
)

from callboard.gateway.fanout.header import PAYLOAD_BYTES_MAX
from callboard.gateway.ports import Address


@pytest.fixture
def connection() -> Iterator[StreamPair]:
    """A reliable pair."""
    pair = StreamPair()
    yield pair
    pair.close()


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES.keys())
def test_each_leg_gets_the_payload_under_a_header_of_its_own(stand: Stand, profile: int) -> None:
    group = stand.fanout.group()
    viewers = [
        stand.viewer(
            sequence=n * 1000, timestamp=n * 90_000, payload_type=96 + n, group=group,
            profile=profile,
        )
        for n in range(5)
    ]  # fmt: skip
    group.send(packet(17, b"picture" * 100, timestamp=3000, marker=True))
    came = {ssrc_of(datagram): datagram for datagram in stand.screen.received()}
    assert came.keys() == {viewer.ssrc for viewer in viewers}
    for n, viewer in enumerate(viewers):
        assert b"picture" not in came[viewer.ssrc]
        got = viewer.cipher.read(came[viewer.ssrc])
        assert (got.sequence, got.timestamp) == (17 + n * 1000, 3000 + n * 90_000)
        assert (got.ssrc, got.payload_type, got.marker) == (viewer.ssrc, 96 + n, True)
        assert (got.extension, got.payload) == (b"", b"picture" * 100)


def test_marker_is_set_only_where_the_track_sets_it(stand: Stand) -> None:
    viewer = stand.viewer()
    viewer.leg.send([packet(1, marker=True), packet(2), packet(3, marker=True)])
    assert [got.marker for got in stand.read(viewer)] == [True, False, True]


@pytest.mark.parametrize("size", [0, 1, 1200, PAYLOAD_BYTES_MAX])
def test_payloads_of_every_length_arrive_whole(stand: Stand, size: int) -> None:
    group = stand.fanout.group()
    viewer = stand.viewer(group=group, send_time_id=3)
    payload = stand.rng.randbytes(size)
    group.send(packet(1, payload))
    assert [got.payload for got in stand.read(viewer)] == [payload]
    assert (viewer.leg.packets, viewer.leg.octets, viewer.leg.dropped) == (1, size, 0)


def test_overlong_payload_is_refused_before_anything_is_sent(
    stand: Stand, connection: StreamPair
) -> None:
    group = stand.fanout.group()
    viewer = stand.viewer(group=group)
    stand.viewer(group=group, pair=connection)
    long = packet(1, bytes(PAYLOAD_BYTES_MAX + 1))
    with pytest.raises(ValueError, match="1461 bytes: at most 1460"):
        group.send(long)
    with pytest.raises(ValueError, match="1461 bytes"):
        viewer.leg.send([long])
    assert stand.screen.received() == connection.received() == []
    group.send(packet(1, b"short"))
    assert [got.payload for got in stand.read(viewer)] == [b"short"]


def test_sequence_numbers_wrap_and_the_rollover_counter_goes_on(stand: Stand) -> None:
    group = stand.fanout.group()
    viewer = stand.viewer(group=group, sequence=100)
    for sequence in range(0, 200_000, 100):
        group.send(packet(sequence))
        (got,) = stand.read(viewer)
        assert got.sequence == (sequence + 100) % 65536
    assert viewer.leg.packets == 2000


def test_every_number_round_the_wrap_is_decrypted(stand: Stand) -> None:
    viewer = stand.viewer(sequence=30_000)
    viewer.leg.send([packet(0), packet(30_000)])
    viewer.leg.send(packet(sequence) for sequence in range(35_000, 36_100))
    numbers = [got.sequence for got in stand.read(viewer)]
    assert numbers[2:] == [n % 65536 for n in range(65_000, 66_100)]


def test_timestamps_wrap_at_32_bits(stand: Stand) -> None:
    viewer = stand.viewer(timestamp=(1 << 32) - 3000)
    viewer.leg.send([packet(1, timestamp=0), packet(2, timestamp=3000)])
    viewer.leg.send([packet(3, timestamp=(5 << 32) + 6000)])
    assert [got.timestamp for got in stand.read(viewer)] == [(1 << 32) - 3000, 0, 3000]
    assert viewer.leg.timestamp_of(3001) == 1


def test_offsets_are_any_integers(stand: Stand) -> None:
    viewer = stand.viewer(sequence=-10, timestamp=-90_000)
    viewer.leg.send([packet(20, timestamp=90_001)])
    (got,) = stand.read(viewer)
    assert (got.sequence, got.timestamp) == (10, 1)
    viewer.leg.rebase((1 << 40) + 5, (1 << 50) + 7)
    viewer.leg.send([packet(20, timestamp=1)])
    (got,) = stand.read(viewer)
    assert (got.sequence, got.timestamp) == (25, 8)


def test_send_time_is_in_seconds_of_6_18_fixed_point(stand: Stand) -> None:
    viewer = stand.viewer(send_time_id=5)
    stand.now.append(64 * 12 + 1.5)
    viewer.leg.send([packet(1, b"abc")])
    (got,) = stand.read(viewer)
    assert got.extension == bytes.fromhex("bede 0001 52 060000")
    assert got.payload == b"abc"


def test_legs_with_and_without_send_time_share_a_group(stand: Stand) -> None:
    group = stand.fanout.group()
    viewers = [stand.viewer(group=group, send_time_id=n) for n in (0, 3, 14)]
    group.send(packet(1))
    came = {ssrc_of(datagram): datagram for datagram in stand.screen.received()}
    lengths = [len(viewer.cipher.read(came[viewer.ssrc]).extension) for viewer in viewers]
    assert lengths == [0, 8, 8]


def test_rebase_goes_on_with_other_offsets(stand: Stand) -> None:
    group = stand.fanout.group()
    viewer = stand.viewer(group=group, sequence=0, timestamp=0)
    group.send(packet(500, timestamp=1000))
    viewer.leg.rebase(501 - 9000, 5000 - 70)
    group.send(packet(9000, timestamp=70))
    got = stand.read(viewer)
    assert [(one.sequence, one.timestamp) for one in got] == [(500, 1000), (501, 5000)]


def test_viewers_numbers_are_told_back_as_the_tracks(stand: Stand) -> None:
    leg = stand.viewer(sequence=60_000).leg
    newest = 200_000
    for sequence in (newest, newest - 1, newest - 1000, newest + 3):
        assert leg.sequence_of((sequence + 60_000) % 65536, newest) == sequence


def test_packet_sent_again_is_the_same_to_the_last_byte(stand: Stand) -> None:
    """The ring knows neither the burst's timestamps nor when a packet went."""
    viewer = stand.viewer(send_time_id=3, timestamp=77)
    viewer.leg.send([packet(1, timestamp=2990), packet(2, timestamp=3000)])
    stand.now.append(1000.5)
    viewer.leg.send([packet(1, timestamp=1)])
    first, _, again = stand.screen.received()
    assert again == first
    assert viewer.leg.packets == 3


def test_packets_are_sent_again_across_the_wrap(stand: Stand) -> None:
    viewer = stand.viewer(sequence=30_000)
    viewer.leg.send([packet(0), packet(30_000)])
    viewer.leg.send(packet(n) for n in range(35_000, 36_000))
    came = stand.screen.received()
    assert parse(came[-1]).sequence < 1000
    viewer.leg.send([packet(35_100)])
    assert stand.screen.received() == [came[2 + 100]]


def test_number_that_is_no_longer_remembered_is_refused(stand: Stand) -> None:
    viewer = stand.viewer()
    viewer.leg.send(packet(n) for n in range(2000))
    stand.screen.received()
    viewer.leg.send([packet(975), packet(976)])
    assert [parse(one).sequence for one in stand.screen.received()] == [976]
    assert viewer.leg.dropped == 1


def test_number_from_before_a_rebase_is_refused(stand: Stand) -> None:
    """It would encrypt another packet under the same number."""
    viewer = stand.viewer()
    viewer.leg.send([packet(10), packet(11)])
    viewer.leg.rebase(-100, 0)
    viewer.leg.send([packet(110, b"other"), packet(111, b"other"), packet(112, b"other")])
    assert [got.sequence for got in stand.read(viewer)] == [10, 11, 12]
    assert (viewer.leg.packets, viewer.leg.dropped) == (3, 2)


def test_numbers_above_one_that_came_late_are_used_up_too(stand: Stand) -> None:
    viewer = stand.viewer()
    viewer.leg.send([packet(1), packet(4), packet(2)])
    viewer.leg.rebase(-100, 0)
    viewer.leg.send([packet(103, b"other"), packet(104, b"other"), packet(105, b"other")])
    assert [got.sequence for got in stand.read(viewer)] == [1, 4, 2, 5]


def test_session_that_refuses_a_number_counts_as_a_drop(stand: Stand) -> None:
    """libsrtp's window is then shorter than the leg's memory."""
    cipher = Cipher(bytes(46), window=64)
    leg = stand.fanout.leg(cipher, stand.pair(), ssrc=1, payload_type=96, sequence=0, timestamp=0)
    leg.send(packet(n) for n in range(200))
    leg.send([packet(100), packet(190)])
    assert (leg.packets, leg.dropped) == (201, 1)


def test_gap_that_was_never_sent_is_filled_later(stand: Stand) -> None:
    viewer = stand.viewer()
    viewer.leg.send([packet(1), packet(3), packet(2)])
    assert [got.sequence for got in stand.read(viewer)] == [1, 3, 2]


def test_leg_tells_which_numbers_it_has_used(stand: Stand) -> None:
    viewer = stand.viewer(sequence=30_000)
    leg = viewer.leg
    assert leg.next_number == 0 and not leg.was_sent(30_000)
    leg.send([packet(1), packet(3)])
    assert leg.next_number == 30_004
    used = [number for number in range(29_990, 30_010) if leg.was_sent(number)]
    assert used == [30_001, 30_003]
    leg.rebase(30_001, 0)
    assert leg.next_number == 30_004 and not leg.was_sent(30_003)
    leg.send(packet(n) for n in range(3, 40_000))
    assert leg.next_number == 70_001
    assert [leg.was_sent(n % (1 << 16)) for n in (68_976, 68_977, 70_000, 70_001)] == [
        False, True, True, False,
    ]  # fmt: skip


def test_number_that_was_used_and_dropped_is_used(stand: Stand) -> None:
    leg = stand.viewer(pair=UdpPair(stand.socket, Address("255.255.255.255", 9))).leg
    leg.send([packet(4)])
    assert (leg.packets, leg.dropped, leg.next_number) == (0, 1, 5)


def test_leg_moves_to_another_address(stand: Stand) -> None:
    group = stand.fanout.group()
    viewer = stand.viewer(group=group)
    elsewhere = Screen("127.0.0.2")
    group.send(packet(1))
    viewer.leg.move(stand.pair(elsewhere))
    group.send(packet(2))
    assert [got.sequence for got in stand.read(viewer)] == [1]
    assert [viewer.cipher.read(one).sequence for one in elsewhere.received()] == [2]
    elsewhere.close()


def test_leg_moves_between_udp_and_tcp(stand: Stand, connection: StreamPair) -> None:
    group = stand.fanout.group()
    viewer = stand.viewer(group=group, send_time_id=3)
    group.send(packet(1))
    viewer.leg.move(connection)
    group.send(packet(2, b"by a connection"))
    viewer.leg.send([packet(1)])
    viewer.leg.move(stand.pair())
    group.send(packet(3))
    by_udp = stand.screen.received()
    by_tcp = connection.received()
    assert [parse(one).sequence for one in by_udp] == [1, 3]
    assert by_tcp[1] == by_udp[0]
    got = viewer.cipher.read(by_tcp[0])
    assert (got.sequence, got.payload) == (2, b"by a connection")
    assert (viewer.leg.packets, viewer.leg.octets) == (4, 7 + 15 + 7 + 7)


def test_full_connection_counts_what_it_dropped(stand: Stand, connection: StreamPair) -> None:
    group = stand.fanout.group()
    viewer = stand.viewer(group=group, pair=connection)
    for n in range(2000):
        group.send(packet(n, bytes(1200)))
    came = connection.received()
    assert 0 < len(came) < 2000
    assert (viewer.leg.packets, viewer.leg.dropped) == (len(came), 2000 - len(came))


def test_full_socket_drops_and_never_blocks(open_fanout: OpenFanout) -> None:
    """A connection stands for the socket: UDP on loopback is never full. It blocks, if asked to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = socket.create_connection(server.getsockname())
        reader, _ = server.accept()
    with sock, reader:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        screen = Screen()
        stand = Stand(open_fanout(sock, lambda: 0.0), sock, screen, [0.0])
        group = stand.fanout.group()
        viewers = [stand.viewer(group=group) for _ in range(70)]
        sent = 0
        while not all(viewer.leg.dropped for viewer in viewers):
            group.send(packet(sent, bytes(1200)))
            sent += 1
        for viewer in viewers:
            leg = viewer.leg
            assert leg.packets + leg.dropped == sent
            assert leg.octets == 1200 * leg.packets
        screen.close()


def test_unreachable_address_takes_nothing_from_the_others(stand: Stand) -> None:
    """The kernel refuses to broadcast: an error in the middle of a batch."""
    group = stand.fanout.group()
    nowhere = UdpPair(stand.socket, Address("255.255.255.255", 9))
    pairs = [nowhere if n in (0, 5, 6, 63, 64, 99) else stand.pair() for n in range(100)]
    viewers = [stand.viewer(group=group, pair=pair) for pair in pairs]
    group.send(packet(1))
    assert len(stand.screen.received()) == 94
    for viewer, pair in zip(viewers, pairs, strict=True):
        lost = pair is nowhere
        assert (viewer.leg.packets, viewer.leg.dropped) == (0 if lost else 1, 1 if lost else 0)


def test_closed_socket_drops(stand: Stand) -> None:
    group = stand.fanout.group()
    viewer = stand.viewer(group=group)
    stand.socket.close()
    group.send(packet(1))
    assert (viewer.leg.packets, viewer.leg.dropped) == (0, 1)


def test_three_hundred_legs_get_every_packet_once(stand: Stand) -> None:
    group = stand.fanout.group()
    viewers = {(viewer := stand.viewer(group=group)).ssrc: viewer for _ in range(300)}
    assert len(group) == 300
    for n in range(3):
        group.send(packet(n, bytes([n]) * 100))
        came = stand.screen.received()
        assert {ssrc_of(one) for one in came} == viewers.keys()
        assert len(came) == 300
        for one in came:
            assert viewers[ssrc_of(one)].cipher.read(one).payload == bytes([n]) * 100


def test_joining_twice_sends_once(stand: Stand) -> None:
    group = stand.fanout.group()
    viewer = stand.viewer(group=group)
    group.join(viewer.leg)
    group.send(packet(1))
    assert (len(group), len(stand.read(viewer))) == (1, 1)


def test_leg_that_left_gets_no_more(stand: Stand) -> None:
    group = stand.fanout.group()
    viewer = stand.viewer(group=group)
    group.send(packet(1))
    group.leave(viewer.leg)
    group.leave(viewer.leg)
    group.send(packet(2))
    assert (len(group), len(stand.read(viewer))) == (0, 1)


def test_leg_is_in_two_groups_and_leaves_one(stand: Stand) -> None:
    small, large = stand.fanout.group(), stand.fanout.group()
    viewer = stand.viewer(group=small)
    large.join(viewer.leg)
    small.send(packet(1))
    small.leave(viewer.leg)
    small.send(packet(2))
    large.send(packet(3))
    assert [got.sequence for got in stand.read(viewer)] == [1, 3]


@pytest.mark.parametrize("how", ["closed", "left"])
def test_legs_that_go_while_the_group_sends_get_no_more(stand: Stand, how: str) -> None:
    group = stand.fanout.group()
    pair = BreakingPair()
    viewers = [stand.viewer(group=group, pair=pair) for _ in range(3)]
    stays = stand.viewer(group=group)
    for viewer in viewers:
        leave = partial(group.leave, viewer.leg)
        pair.broken.append(viewer.leg.close if how == "closed" else leave)
    group.send(packet(1))
    group.send(packet(2))
    assert len(group) == 1
    assert [viewer.leg.dropped for viewer in viewers] == [1, 0, 0]
    assert [got.sequence for got in stand.read(stays)] == [1, 2]
    pair.close()


def test_closed_leg_joins_no_group(stand: Stand) -> None:
    group = stand.fanout.group()
    viewer = stand.viewer()
    viewer.leg.close()
    group.join(viewer.leg)
    group.send(packet(1))
    assert len(group) == 0
    assert stand.screen.received() == []


def test_closed_leg_sends_nothing(stand: Stand) -> None:
    group = stand.fanout.group()
    viewer = stand.viewer(group=group)
    viewer.leg.send([packet(1)])
    viewer.leg.close()
    viewer.leg.close()
    viewer.leg.send([packet(2)])
    group.send(packet(3))
    assert len(group) == 0
    assert len(stand.screen.received()) == viewer.leg.packets == 1


def test_closed_leg_is_freed_with_its_cipher(stand: Stand) -> None:
    group = stand.fanout.group()
    stays = stand.viewer(group=group)
    goes = stand.viewer(group=group)
    group.send(packet(1))
    goes.leg.close()
    traces: list[weakref.ref[object]] = [weakref.ref(goes.leg), weakref.ref(goes.cipher)]
    del goes
    gc.collect()
    assert [trace() for trace in traces] == [None, None]
    group.send(packet(2))
    assert stays.leg.packets == 2


def test_group_that_a_leg_left_is_freed(stand: Stand) -> None:
    group = stand.fanout.group()
    viewer = stand.viewer(group=group)
    group.leave(viewer.leg)
    trace: weakref.ref[object] = weakref.ref(group)
    del group
    gc.collect()
    assert trace() is None
    assert viewer.leg.packets == 0


def test_leg_keeps_its_cipher_alive(stand: Stand) -> None:
    group = stand.fanout.group()
    viewer = stand.viewer(group=group)
    trace = weakref.ref(viewer.cipher)
    del viewer
    gc.collect()
    assert trace() is not None
    group.send(packet(1))
    assert len(stand.screen.received()) == 1


def test_tampered_header_is_not_accepted(stand: Stand) -> None:
    """The header is authenticated: what the tests above read is what was protected."""
    viewer = stand.viewer()
    viewer.leg.send([packet(1)])
    (datagram,) = stand.screen.received()
    with pytest.raises(pylibsrtp.Error):
        viewer.cipher.read(datagram[:1] + bytes([datagram[1] ^ 0x80]) + datagram[2:])


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"ssrc": 1 << 32}, "SSRC"),
        ({"payload_type": 128}, "payload type 128"),
        ({"send_time_id": 15}, "extension id 15"),
    ],
)
def test_numbers_that_fit_no_header_are_refused(
    stand: Stand, wrong: dict[str, int], why: str
) -> None:
    numbers = {"ssrc": 1, "payload_type": 96, "send_time_id": 0, **wrong}
    cipher = stand.viewer().cipher
    with pytest.raises(ValueError, match=why):
        stand.fanout.leg(cipher, stand.pair(), sequence=0, timestamp=0, **numbers)


def test_ipv6_address_is_refused_by_an_ipv4_socket(stand: Stand) -> None:
    viewer = stand.viewer()
    with pytest.raises(ValueError, match="cannot be reached by an IPv4 socket"):
        viewer.leg.move(UdpPair(stand.socket, Address("::1", 9)))
    viewer.leg.send([packet(1)])
    assert len(stand.read(viewer)) == 1


def test_ipv6_socket_reaches_both_families(open_fanout: OpenFanout) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
        screens = [Screen("127.0.0.1"), Screen("::1")]
        stand = Stand(open_fanout(sock, lambda: 0.0), sock, screens[0], [0.0])
        group = stand.fanout.group()
        viewers = [stand.viewer(group=group, pair=stand.pair(screen)) for screen in screens]
        group.send(packet(1))
        for viewer, screen in zip(viewers, screens, strict=True):
            assert [viewer.cipher.read(one).sequence for one in screen.received()] == [1]
            screen.close()
