"""What goes to the kernel as one message."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.fanout.viewers import (
    OpenFanout,
    Screen,
    Stand,
    StreamPair,
    packet,
    parse,
    ssrc_of,
)

from callboard.gateway.fanout.runs import PACKETS_MAX, runs

UDP_GRO = 104
"""A socket option: what was handed over as one message comes as one."""
SO_NO_CHECK = 11
"""Without checksums the kernel cuts nothing."""
FRAME = [1200, 1200, 1200, 700]
HEADER_AND_TAG = 12 + 16


def sizes(of: list[int]) -> list[list[int]]:
    return [
        [len(each.payload) for each in run]
        for run in runs(packet(n, bytes(size)) for n, size in enumerate(of))
    ]


@pytest.mark.parametrize(
    ("packets", "found"),
    [
        ([], []),
        ([7], [[7]]),
        ([1200, 1200, 700], [[1200, 1200, 700]]),
        ([700, 1200, 1200], [[700], [1200, 1200]]),
        ([1200, 700, 700, 1200], [[1200, 700], [700], [1200]]),
        ([0, 0, 5], [[0, 0], [5]]),
        ([9] * (PACKETS_MAX + 1), [[9] * PACKETS_MAX, [9]]),
    ],
)
def test_a_run_is_of_one_length_but_for_the_last(
    packets: list[int], found: list[list[int]]
) -> None:
    assert sizes(packets) == found


@given(st.lists(st.integers(0, 3), max_size=60))
def test_runs_are_all_packets_in_order(lengths: list[int]) -> None:
    found = sizes(lengths)
    assert [size for run in found for size in run] == lengths
    for run in found:
        assert 0 < len(run) <= PACKETS_MAX
        assert set(run[:-1]) <= {run[0]} and run[-1] <= run[0]


def test_a_frame_goes_to_the_kernel_as_one_message(stand: Stand) -> None:
    screen = Screen(receive=1 << 16)
    screen.socket.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    group = stand.fanout.group()
    viewer = stand.viewer(pair=stand.pair(screen), group=group)
    group.send(*(packet(n, bytes(size)) for n, size in enumerate(FRAME)))
    (whole,) = screen.received()
    assert len(whole) == sum(FRAME) + len(FRAME) * HEADER_AND_TAG
    step = FRAME[0] + HEADER_AND_TAG
    cut = [whole[at : at + step] for at in range(0, len(whole), step)]
    assert [viewer.cipher.read(each).sequence for each in cut] == [0, 1, 2, 3]
    assert (viewer.leg.packets, viewer.leg.octets) == (4, sum(FRAME))
    screen.close()


def test_a_frame_comes_to_every_viewer_as_datagrams(stand: Stand) -> None:
    """Also to one by a connection, and to many more than go to the kernel at a time."""
    group, connection = stand.fanout.group(), StreamPair()
    viewers = [stand.viewer(group=group, send_time_id=n % 2) for n in range(50)]
    by_connection = stand.viewer(pair=connection, group=group)
    group.send(*(packet(n, bytes(size)) for n, size in enumerate(FRAME)))
    came = stand.screen.received()
    assert len(came) == 50 * len(FRAME)
    for viewer in viewers:
        own = [viewer.cipher.read(each) for each in came if ssrc_of(each) == viewer.ssrc]
        assert [(got.sequence, len(got.payload)) for got in own] == list(enumerate(FRAME))
        assert (viewer.leg.packets, viewer.leg.octets, viewer.leg.dropped) == (4, 3 * 1200 + 700, 0)
    assert [parse(each).sequence for each in connection.received()] == [0, 1, 2, 3]
    assert by_connection.leg.packets == 4
    connection.close()


def test_a_number_that_is_refused_leaves_the_others_of_its_run(stand: Stand) -> None:
    viewer = stand.viewer()
    viewer.leg.send([packet(1), packet(3)])
    viewer.leg.rebase(0, 0)
    viewer.leg.send([packet(n, b"other") for n in (3, 4, 5)])
    viewer.leg.send([packet(n, b"more") for n in (6, 2, 7)])
    assert [got.sequence for got in stand.read(viewer)] == [1, 3, 4, 5, 6, 7]
    assert (viewer.leg.packets, viewer.leg.dropped) == (6, 2)


def test_where_the_kernel_cannot_cut_packets_go_one_by_one(stand: Stand) -> None:
    stand.socket.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    group = stand.fanout.group()
    viewers = [stand.viewer(group=group) for _ in range(3)]
    group.send(*(packet(n, bytes(size)) for n, size in enumerate(FRAME)))
    came = stand.screen.received()
    assert len(came) == 3 * len(FRAME)
    for viewer in viewers:
        assert (viewer.leg.packets, viewer.leg.octets, viewer.leg.dropped) == (4, sum(FRAME), 0)


def test_a_closed_socket_drops_each_packet_of_a_run(open_fanout: OpenFanout) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        screen = Screen()
        stand = Stand(open_fanout(sock, lambda: 1.0), sock, screen, [1.0])
        nowhere = Screen("127.0.0.3")
        viewer = stand.viewer(pair=stand.pair(nowhere))
        sock.close()
        viewer.leg.send([packet(n, bytes(1200)) for n in range(4)])
        assert (viewer.leg.packets, viewer.leg.dropped) == (0, 4)
        nowhere.close()
        screen.close()
