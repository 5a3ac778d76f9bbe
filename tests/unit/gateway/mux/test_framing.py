"""Packets on a connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.mux.framing import FRAME_BYTES_MAX, Deframer, FrameError, framed


def taken(deframer: Deframer, data: bytes, step: int) -> list[bytes]:
    """All packets of these bytes, as they come in pieces of `step`."""
    packets = []
    while data:
        room = deframer.room()
        count = min(step, len(data), len(room))
        assert count > 0, "a deframer that was emptied has room"
        room[:count] = data[:count]
        deframer.wrote(count)
        data = data[count:]
        packets += list(deframer.packets())
    return packets


@given(
    st.lists(st.binary(max_size=64) | st.binary(min_size=2000, max_size=2048), max_size=12),
    st.integers(1, 9000),
)
def test_packets_come_whole_however_the_bytes_come(packets: list[bytes], step: int) -> None:
    data = b"".join(framed(packet) for packet in packets)
    assert taken(Deframer(), data, step) == [packet for packet in packets if packet]


def test_longest_frame_is_taken() -> None:
    packet = bytes(FRAME_BYTES_MAX)
    assert taken(Deframer(), framed(packet) * 9, 5000) == [packet] * 9


def test_longer_frame_is_an_error() -> None:
    with pytest.raises(FrameError, match="2049 bytes"):
        taken(Deframer(), framed(bytes(FRAME_BYTES_MAX + 1)), 100)


@given(st.binary(max_size=5000), st.integers(1, 5000))
def test_any_bytes_are_packets_or_an_error(data: bytes, step: int) -> None:
    deframer = Deframer()
    try:
        packets = taken(deframer, data, step)
    except FrameError:
        return
    assert sum(len(packet) + 2 for packet in packets) <= len(data)
