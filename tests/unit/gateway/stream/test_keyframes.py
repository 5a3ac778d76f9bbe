"""Where keyframes begin, codec by codec."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.stream import encoded
from tests.unit.gateway.stream.depacketizing import annex_b_units

from callboard.gateway.stream.formats import format_of
from callboard.gateway.stream.keyframes import av1, h264, h265, opaque, vp8, vp9
from callboard.media.rtp import parse

BEGINS: dict[str, Callable[[bytes], bool]] = {
    "VP8": vp8.begins_keyframe,
    "VP9": vp9.begins_keyframe,
    "H264": h264.begins_keyframe,
    "H265": h265.begins_keyframe,
    "AV1": av1.begins_keyframe,
}


def _payloads(frame: encoded.Frame) -> list[bytes]:
    return [parse(packet).payload for packet in frame.packets]


@pytest.mark.parametrize("codec", BEGINS)
def test_real_keyframes_begin_with_their_first_packet(codec: str) -> None:
    begins = BEGINS[codec]
    frames = encoded.video(codec).frames
    assert 1 < sum(frame.is_keyframe for frame in frames) < len(frames)
    for frame in frames:
        found = [begins(payload) for payload in _payloads(frame)]
        assert found[0] is frame.is_keyframe
        if not frame.is_keyframe:
            assert not any(found)


@pytest.mark.parametrize("codec", ["VP8", "VP9", "AV1"])
def test_real_keyframes_begin_once(codec: str) -> None:
    for frame in encoded.video(codec).frames:
        assert sum(map(BEGINS[codec], _payloads(frame))) == frame.is_keyframe


def test_peers_vp8_packets_begin_a_keyframe_where_it_begins() -> None:
    for number, frame in enumerate(encoded.video("VP8").frames):
        packets = Vp8Encoder._packetize(frame.encoded, picture_id=number + 120)
        found = [vp8.begins_keyframe(payload) for payload in packets]
        assert found == [frame.is_keyframe, *[False] * (len(packets) - 1)]


def test_peers_h264_packets_begin_a_keyframe_where_it_begins() -> None:
    for frame in encoded.video("H264").frames:
        packets = H264Encoder._packetize(iter(annex_b_units(frame.encoded)))
        assert h264.begins_keyframe(packets[0]) is frame.is_keyframe
        assert any(begins for begins, _ in map(h264.inspect, packets)) is frame.is_keyframe


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\x10\x00", True),
        (b"\x10\x01", False),  # an inter frame
        (b"\x00\x00", False),  # not the partition's first packet
        (b"\x11\x00", False),  # the second partition
        (b"\x10", False),  # nothing behind the descriptor
        (b"\x90\x80\x7f\x00", True),  # a picture id of 7 bits
        (b"\x90\x80\xff\xff\x00", True),  # and of 15
        (b"\x90\x80\xff\xff\x01", False),
        (b"\x90\xe0\xff\xff\x01\x20\x00", True),  # TL0PICIDX, TID
        (b"\x90\xe0\xff\xff\x01\x20", False),
        (b"\x90\x10\x01\x00", True),  # KEYIDX alone has its byte, too
        (b"\x90", False),
        (b"\x90\x80", False),
        (b"", False),
    ],
)
def test_vp8_keyframe_is_told_by_descriptor_and_frame_tag(payload: bytes, expected: bool) -> None:
    assert vp8.begins_keyframe(payload) is expected


KEY_HEADER = b"\x82\x49\x83\x42"
"""Frame marker 2, profile 0, a frame that is shown and is a keyframe, then the sync code."""


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\x08" + KEY_HEADER, True),
        (b"\x0c" + KEY_HEADER, True),
        (b"\x48" + KEY_HEADER, False),  # predicted from another picture
        (b"\x04" + KEY_HEADER, False),  # not the frame's first packet
        (b"\x08\x86", False),  # an intra-only frame
        (b"\x08\x8a", False),  # one that is shown again
        (b"\x08\x42", False),  # no frame marker
        (b"\x08\xb0", True),  # profile 3 has one more bit
        (b"\x08\xb2", False),
        (b"\x08", False),
        (b"\x88\x7f" + KEY_HEADER, True),
        (b"\x88\xff\xff" + KEY_HEADER, True),
        (b"\x88\xff", False),
        (b"\xa8\x01\x00\x05" + KEY_HEADER, True),  # layers: the lowest one, with TL0PICIDX
        (b"\xa8\x01\x02\x05" + KEY_HEADER, False),  # a higher layer
        (b"\xb8\x01\x00" + KEY_HEADER, True),  # flexible mode has no TL0PICIDX
        (b"\x0a\x18\x02\x80\x01\x68\x02\x00\x14\x01" + KEY_HEADER, True),  # a structure
        (b"\x0a\x18\x02\x80\x01\x68\x02\x00\x14", False),
        (b"\x0a", False),
        (b"", False),
    ],
)
def test_vp9_keyframe_is_told_by_descriptor_and_frame_header(
    payload: bytes, expected: bool
) -> None:
    assert vp9.begins_keyframe(payload) is expected


SPS, PPS, IDR, SLICE, SEI = b"\x67sps", b"\x68pps", b"\x65idr", b"\x61slice", b"\x06sei"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (IDR, True),
        (SPS, True),
        (PPS, False),
        (SLICE, False),
        (SEI, False),
        (b"\x65", False),
        (b"\x7c\x85x", True),  # FU-A: the first fragment of an IDR slice
        (b"\x7c\x05x", False),  # a later one
        (b"\x7c\x81x", False),  # of another slice
        (b"\x7c\x85", False),
        (b"\x7c", False),
        (h264.aggregate([SPS, PPS]), True),
        (h264.aggregate([SEI, IDR]), True),
        (h264.aggregate([SEI, PPS, SLICE]), False),
        (h264.aggregate([SPS, PPS, IDR])[:-1], False),
        (b"\x78", False),
        (b"\x78\x00", False),
        (b"\x78\x00\x00", False),
        (b"", False),
    ],
)
def test_h264_keyframe_is_told_by_unit_type(payload: bytes, expected: bool) -> None:
    assert h264.begins_keyframe(payload) is expected


def test_h264_parameter_sets_are_found_alone_and_aggregated() -> None:
    assert list(h264.inspect(SPS)[1]) == [(7, SPS)]
    assert list(h264.inspect(h264.aggregate([SEI, SPS, PPS, IDR]))[1]) == [(7, SPS), (8, PPS)]
    assert not h264.inspect(IDR)[1]


VPS5, SPS5, PPS5 = b"\x40\x01vps", b"\x42\x01sps", b"\x44\x01pps"
IDR5, CRA5, SLICE5, SEI5 = b"\x26\x01idr", b"\x2a\x01cra", b"\x02\x01slice", b"\x4e\x01sei"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (IDR5, True),
        (CRA5, True),
        (VPS5, True),
        (SPS5, False),
        (SLICE5, False),
        (SEI5, False),
        (IDR5[:2], False),
        (b"\x62\x01\x93x", True),  # FU: the first fragment of an IDR slice (type 19)
        (b"\x62\x01\x13x", False),
        (b"\x62\x01\x81x", False),
        (b"\x62\x01\x93", False),
        (b"\x62\x01", False),
        (h265.aggregate([VPS5, SPS5, PPS5]), True),
        (h265.aggregate([SEI5, IDR5]), True),
        (h265.aggregate([SEI5, SLICE5]), False),
        (h265.aggregate([VPS5, IDR5])[:-1], False),
        (b"\x60\x01\x00", False),
        (b"", False),
    ],
)
def test_h265_keyframe_is_told_by_unit_type(payload: bytes, expected: bool) -> None:
    assert h265.begins_keyframe(payload) is expected


def test_h265_parameter_sets_are_found_alone_and_aggregated() -> None:
    assert list(h265.inspect(PPS5)[1]) == [(34, PPS5)]
    every = h265.inspect(h265.aggregate([VPS5, SPS5, PPS5, IDR5]))[1]
    assert list(every) == [(32, VPS5), (33, SPS5), (34, PPS5)]


def test_h265_aggregation_has_the_lowest_layer_and_temporal_id() -> None:
    high, low = b"\x03\x0bhigh", b"\x02\x12low"  # layers 33 and 2, temporal ids 3 and 2
    assert h265.aggregate([high, low])[:2] == bytes((48 << 1, 2 << 3 | 2))


HEADER_OBU, KEY_OBU, DELTA_OBU = b"\x08seq", b"\x30\x10key", b"\x30\x30delta"


def _obus(*obus: bytes, flags: int = 0) -> bytes:
    return bytes((flags,)) + b"".join(bytes((len(obu),)) + obu for obu in obus)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (_obus(HEADER_OBU, KEY_OBU, flags=0x08), True),  # N
        (_obus(HEADER_OBU, KEY_OBU), True),  # a sender that forgets N
        (_obus(HEADER_OBU), True),
        (_obus(HEADER_OBU, DELTA_OBU), False),  # a header that is repeated
        (_obus(KEY_OBU), False),  # no sequence header
        (_obus(DELTA_OBU), False),
        (_obus(HEADER_OBU, b"\x36\x08\x02\x10k"), True),  # with extension and size
        (_obus(HEADER_OBU, b"\x36\x08\x80"), False),
        (_obus(HEADER_OBU, b"\x30"), False),
        (_obus(HEADER_OBU, KEY_OBU, flags=0x80), False),  # goes on from before
        (b"\x10" + HEADER_OBU, True),  # W = 1: no length
        (b"\x20\x04" + HEADER_OBU + KEY_OBU, True),  # W = 2: only the first one has a length
        (b"\x30\x04" + HEADER_OBU + KEY_OBU, False),  # W = 3, and one is missing
        (b"\x00\xff", False),
        (b"\x00\x05abc", False),
        (b"\x08", False),
        (b"", False),
    ],
)
def test_av1_keyframe_is_told_by_aggregation_header_and_obus(
    payload: bytes, expected: bool
) -> None:
    assert av1.begins_keyframe(payload) is expected


def test_audio_begins_with_each_packet() -> None:
    assert opaque.begins_keyframe(b"\x00")
    assert not opaque.begins_keyframe(b"")
    for name in ("opus", "PCMU", "PCMA", "G722", "something"):
        assert format_of(name, 8000, is_video=False).begins_keyframe(b"sound")


@pytest.mark.parametrize("codec", BEGINS)
@given(payload=st.binary(max_size=40))
def test_any_bytes_are_judged_without_an_error(codec: str, payload: bytes) -> None:
    assert BEGINS[codec](payload) in (True, False)


@pytest.mark.parametrize("codec", BEGINS)
@given(data=st.data())
def test_what_is_cut_or_changed_of_real_payloads_is_judged_without_an_error(
    codec: str, data: st.DataObject
) -> None:
    payload = bytearray(_payloads(encoded.video(codec).frames[0])[0][:80])
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    assert BEGINS[codec](bytes(payload[:cut])) in (True, False)


def test_video_whose_keyframes_are_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="THEORA"):
        format_of("theora", 90_000, is_video=True)
    with pytest.raises(ValueError, match="clock rate"):
        format_of("VP8", 0, is_video=True)
