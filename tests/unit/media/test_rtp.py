"""RTP's header, and counters that wrap around."""

from __future__ import annotations

import pytest
from aiortc.rtp import RtpPacket as PeerPacket
from hypothesis import given
from hypothesis import strategies as st

from callboard.media.rtp import (
    BadPacket,
    Extension,
    RtpPacket,
    Unwrapper,
    build,
    distance,
    is_rtcp,
    near,
    parse,
)

PACKETS = st.builds(
    RtpPacket,
    payload_type=st.integers(0, 127),
    marker=st.booleans(),
    sequence=st.integers(0, 0xFFFF),
    timestamp=st.integers(0, 0xFFFFFFFF),
    ssrc=st.integers(0, 0xFFFFFFFF),
    payload=st.binary(max_size=64),
    csrcs=st.lists(st.integers(0, 0xFFFFFFFF), max_size=15).map(tuple),
    extension=st.none()
    | st.builds(
        Extension,
        st.integers(0, 0xFFFF),
        st.integers(0, 4).flatmap(lambda words: st.binary(min_size=4 * words, max_size=4 * words)),
    ),
)
PLAIN = bytes.fromhex("80e00001000000020000000368656c6c6f")
"""Payload type 96 with the marker, number 1, timestamp 2, SSRC 3, and "hello"."""


def test_header_is_read_as_rfc_3550_draws_it() -> None:
    assert parse(PLAIN) == RtpPacket(96, True, 1, 2, 3, b"hello")


@given(packet=PACKETS, padding=st.integers(0, 255))
def test_packet_that_was_built_is_read_back_without_its_padding(
    packet: RtpPacket, padding: int
) -> None:
    assert parse(build(packet, padding=padding)) == packet


@given(packet=PACKETS.filter(lambda packet: packet.extension is None))
def test_peer_reads_the_same_in_a_packet(packet: RtpPacket) -> None:
    peer = PeerPacket.parse(build(packet))
    assert (peer.payload_type, bool(peer.marker), peer.sequence_number) == packet[:3]
    assert (peer.timestamp, peer.ssrc, tuple(peer.csrc)) == (*packet[3:5], packet.csrcs)
    assert peer.payload == packet.payload


@given(data=st.binary(max_size=80), header=st.integers(0, 255))
def test_any_bytes_are_a_packet_or_bad(data: bytes, header: int) -> None:
    for each in (data, bytes((header,)) + data, bytes((0x80 | header & 0x3F,)) + data):
        try:
            packet = parse(each)
        except BadPacket as problem:
            assert str(problem)
        else:
            assert each[0] >> 6 == 2
            assert packet.payload in each


@given(packet=PACKETS, padding=st.integers(1, 255), data=st.data())
def test_packet_that_is_cut_within_its_header_is_bad(
    packet: RtpPacket, padding: int, data: st.DataObject
) -> None:
    whole = build(packet, padding=padding)
    header = len(whole) - len(packet.payload) - padding
    cut = data.draw(st.integers(0, header - 1))
    with pytest.raises(BadPacket):
        parse(whole[:cut])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "0 bytes"),
        (PLAIN[:11], "11 bytes"),
        (b"\x40" + PLAIN[1:], "version 1"),
        (b"\xc0" + PLAIN[1:], "version 3"),
        (b"\x82" + PLAIN[1:], "2 CSRCs"),
        (b"\x90" + PLAIN[1:12] + b"\xbe\xde\x00", "extension's length"),
        (b"\x90" + PLAIN[1:12] + b"\xbe\xde\x00\x02" + bytes(7), "2 words"),
        (b"\xa0" + PLAIN[1:12] + b"\x00", "0 bytes of padding"),
        (b"\xa0" + PLAIN[1:12] + b"ab\x04", "4 bytes of padding"),
        (b"\xa0" + PLAIN[1:12], "3 bytes of padding"),
    ],
)
def test_what_is_no_packet_is_told_why(data: bytes, why: str) -> None:
    with pytest.raises(BadPacket, match=why):
        parse(data)


def test_padding_only_packet_has_an_empty_payload() -> None:
    assert parse(b"\xa0" + PLAIN[1:12] + b"\x00\x00\x03").payload == b""


@pytest.mark.parametrize(
    "packet",
    [
        RtpPacket(128, False, 0, 0, 0, b""),
        RtpPacket(-1, False, 0, 0, 0, b""),
        RtpPacket(0, False, 1 << 16, 0, 0, b""),
        RtpPacket(0, False, 0, 1 << 32, 0, b""),
        RtpPacket(0, False, 0, 0, -1, b""),
        RtpPacket(0, False, 0, 0, 0, b"", csrcs=(0,) * 16),
        RtpPacket(0, False, 0, 0, 0, b"", csrcs=(1 << 32,)),
        RtpPacket(0, False, 0, 0, 0, b"", extension=Extension(0, b"abc")),
        RtpPacket(0, False, 0, 0, 0, b"", extension=Extension(1 << 16, b"")),
        RtpPacket(0, False, 0, 0, 0, b"", extension=Extension(0, bytes(4 << 16))),
    ],
)
def test_what_no_header_can_say_is_refused(packet: RtpPacket) -> None:
    with pytest.raises(ValueError, match=r"."):
        build(packet)


@pytest.mark.parametrize("padding", [-1, 256])
def test_padding_fits_in_a_byte(padding: int) -> None:
    with pytest.raises(ValueError, match="padding"):
        build(RtpPacket(0, False, 0, 0, 0, b""), padding=padding)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x80\xc8", True),  # a sender report
        (b"\x81\xce", True),  # a request for a keyframe
        (b"\x80\xbf", False),
        (b"\x80\xe0", False),  # payload type 96 with the marker
        (b"\x80\x60", False),
        (b"\x00\xc8", False),
        (b"\x80", False),
        (b"", False),
    ],
)
def test_rtcp_is_told_by_its_type(data: bytes, expected: bool) -> None:
    assert is_rtcp(data) is expected


@pytest.mark.parametrize("bits", [16, 32])
def test_distance_is_the_shorter_way_round(bits: int) -> None:
    top = (1 << bits) - 1
    assert distance(0, top, bits) == 1
    assert distance(top, 0, bits) == -1
    assert distance(5, 5, bits) == 0
    assert distance(1 << bits - 1, 0, bits) == -(1 << bits - 1)
    assert distance((1 << bits - 1) - 1, 0, bits) == (1 << bits - 1) - 1


@given(value=st.integers(0, 0xFFFF), expected=st.integers(-(1 << 40), 1 << 40))
def test_nearest_value_wraps_to_what_was_given(value: int, expected: int) -> None:
    found = near(value, expected, 16)
    assert found % (1 << 16) == value
    assert abs(found - expected) <= 1 << 15


@given(
    bits=st.sampled_from([16, 32]),
    start=st.integers(0, (1 << 32) - 1),
    steps=st.lists(st.integers(-30_000, 30_000), max_size=50),
)
def test_unwrapper_follows_a_counter_round_and_back(
    bits: int, start: int, steps: list[int]
) -> None:
    unwrapper, true = Unwrapper(bits), start % (1 << bits)
    assert unwrapper.unwrap(true) == true
    for step in steps:
        true += step
        assert unwrapper.unwrap(true % (1 << bits)) == true
        assert unwrapper.last == true


def test_unwrapper_counts_the_rounds() -> None:
    unwrapper = Unwrapper(16)
    values = [number & 0xFFFF for number in range(0, 1_000_000, 9_000)]
    assert [unwrapper.unwrap(value) for value in values] == list(range(0, 1_000_000, 9_000))
