"""Parameter sets go before keyframes that come without."""

from __future__ import annotations

import pytest
from tests.unit.gateway.stream.source import Source, beginnings, numbers, payloads

from callboard.gateway.stream.formats import format_of
from callboard.gateway.stream.ingest import Ingest
from callboard.gateway.stream.keyframes import h264, h265
from callboard.gateway.stream.packet import PAYLOAD_BYTES_MAX, Packet
from callboard.gateway.stream.parametersets import SETS_MAX

SPS, PPS, IDR, SLICE, SEI = b"\x67sps", b"\x68pps", b"\x65idr", b"\x61slice", b"\x06sei"
SPS2, PPS2 = b"\x67another", b"\x68another"
VPS5, SPS5, PPS5, IDR5 = b"\x40\x01vps", b"\x42\x01sps", b"\x44\x01pps", b"\x26\x01idr"
SETS = h264.aggregate([SPS, PPS])


class Encoder:
    """A source, and the ingest stage behind it."""

    def __init__(self, codec: str = "H264", known: tuple[bytes, ...] = ()) -> None:
        self.ingest = Ingest(format_of(codec, 90_000, is_video=True), parameter_sets=known)
        self.source = Source()

    def frame(self, *units: bytes) -> list[Packet]:
        """Send a frame, one packet for each unit."""
        return [
            made for packet in self.source.frame(*units) for made in self.ingest.take(packet, 0.0)
        ]


def test_keyframe_with_its_sets_begins_with_them() -> None:
    encoder = Encoder()
    packets = encoder.frame(SPS, PPS, SEI, IDR)
    assert payloads(packets) == [SPS, PPS, SEI, IDR]
    assert beginnings(packets) == [0]
    assert encoder.ingest.counters.inserted == 0


def test_keyframe_without_sets_gets_those_that_came_before() -> None:
    encoder = Encoder()
    encoder.frame(SPS, PPS, IDR)
    encoder.frame(SLICE)
    packets = encoder.frame(IDR)
    assert payloads(packets) == [SETS, IDR]
    assert (numbers(packets), beginnings(packets)) == ([4, 5], [4])
    assert [packet.marker for packet in packets] == [False, True]
    assert len({packet.timestamp for packet in packets}) == 1
    assert (encoder.ingest.counters.inserted, encoder.ingest.counters.keyframes) == (1, 2)


def test_sets_are_taken_from_an_aggregation() -> None:
    encoder = Encoder()
    assert beginnings(encoder.frame(h264.aggregate([SPS, PPS, SEI, IDR]))) == [0]
    assert payloads(encoder.frame(IDR)) == [SETS, IDR]


def test_sets_go_before_the_first_slice_only() -> None:
    encoder = Encoder()
    encoder.frame(SPS, PPS, IDR)
    slices = (IDR, IDR + b"2", IDR + b"3")
    assert payloads(encoder.frame(*slices)) == [SETS, *slices]


def test_sets_go_before_the_first_fragment_only() -> None:
    encoder = Encoder()
    encoder.frame(SPS, PPS, IDR)
    fragments = (b"\x7c\x85aaa", b"\x7c\x05bbb", b"\x7c\x45ccc")
    assert payloads(encoder.frame(*fragments)) == [SETS, *fragments]


def test_long_slice_is_split_behind_the_sets() -> None:
    encoder = Encoder()
    encoder.frame(SPS, PPS, IDR)
    packets = encoder.frame(IDR + bytes(2 * PAYLOAD_BYTES_MAX))
    assert packets[0].payload == SETS
    assert (numbers(packets), beginnings(packets)) == ([3, 4, 5, 6], [3])


def test_half_of_the_sets_is_not_enough() -> None:
    encoder = Encoder()
    encoder.frame(SPS, PPS, IDR)
    only_pps = encoder.frame(PPS, IDR)
    assert payloads(only_pps) == [PPS, SETS, IDR]
    assert beginnings(only_pps) == [4]
    only_sps = encoder.frame(SPS, IDR)
    assert payloads(only_sps) == [SPS, SETS, IDR]
    assert beginnings(only_sps) == [6]


def test_keyframe_whose_sets_never_came_is_no_beginning() -> None:
    encoder = Encoder()
    packets = encoder.frame(IDR)
    assert payloads(packets) == [IDR]
    assert beginnings(packets) == []


def test_sets_of_the_description_are_known_from_the_start() -> None:
    encoder = Encoder(known=(SPS, PPS))
    packets = encoder.frame(IDR)
    assert payloads(packets) == [SETS, IDR]
    assert beginnings(packets) == [0]


def test_newer_sets_take_the_place_of_older_ones() -> None:
    encoder = Encoder()
    encoder.frame(SPS, PPS, IDR)
    encoder.frame(SPS2, PPS2, IDR)
    assert payloads(encoder.frame(IDR)) == [h264.aggregate([SPS2, PPS2]), IDR]


def test_several_sets_of_a_kind_are_kept() -> None:
    encoder = Encoder()
    for _ in range(2):
        encoder.frame(SPS, PPS, PPS2, IDR)
    assert payloads(encoder.frame(IDR)) == [h264.aggregate([SPS, PPS, PPS2]), IDR]


def test_sets_beyond_reason_are_not_kept() -> None:
    encoder = Encoder()
    many = [PPS + bytes((number,)) for number in range(2 * SETS_MAX)]
    encoder.frame(SPS, *many, IDR)
    inserted = encoder.frame(IDR)[0].payload
    assert h264.units(inserted) == [SPS, *many[:SETS_MAX]]


def test_long_sets_are_split() -> None:
    encoder = Encoder(known=(SPS + bytes(900), PPS + bytes(900)))
    packets = encoder.frame(IDR)
    assert [len(packet.payload) for packet in packets] == [904, 904, 4]
    assert beginnings(packets) == [0]


def test_source_that_sends_sets_with_every_frame_is_seen_through() -> None:
    encoder = Encoder()
    encoder.frame(SPS, PPS, IDR)
    encoder.frame(SPS, PPS, SLICE)
    assert beginnings(encoder.frame(SPS, PPS, SLICE)) == []
    key = encoder.frame(SPS, PPS, IDR)
    assert payloads(key) == [SPS, PPS, SETS, IDR]
    assert beginnings(key) == [key[2].sequence]
    together = encoder.frame(h264.aggregate([SPS, PPS, IDR]))
    assert len(together) == 1
    assert together[0].keyframe


def test_first_sets_that_come_late_mark_the_beginning_of_their_frame() -> None:
    encoder = Encoder()
    encoder.frame(SLICE)
    sps, pps, idr = encoder.source.frame(SPS, PPS, IDR)
    packets = [made for each in (pps, idr, sps) for made in encoder.ingest.take(each, 0.0)]
    assert (numbers(packets), beginnings(packets)) == ([2, 3, 1], [1])


def test_late_slice_gets_no_sets() -> None:
    encoder = Encoder(known=(SPS, PPS))
    encoder.frame(SLICE)
    (idr,), after = encoder.source.frame(IDR), encoder.source.frame(SLICE)
    packets = [made for each in (*after, idr) for made in encoder.ingest.take(each, 0.0)]
    assert (numbers(packets), beginnings(packets)) == ([2, 1], [])


def test_late_keyframe_that_has_its_sets_with_it_is_a_beginning() -> None:
    encoder = Encoder()
    encoder.frame(SPS2, PPS2, IDR)
    whole, after = (
        encoder.source.frame(h264.aggregate([SPS, PPS, IDR])),
        encoder.source.frame(SLICE),
    )
    packets = [made for each in (*after, *whole) for made in encoder.ingest.take(each, 0.0)]
    assert (numbers(packets), beginnings(packets)) == ([4, 3], [3])
    assert payloads(encoder.frame(IDR)) == [SETS, IDR]


def test_late_packet_of_a_frame_before_does_not_disturb_the_running_one() -> None:
    encoder = Encoder(known=(SPS, PPS))
    encoder.frame(SLICE)
    (lost,), (sps, pps, idr) = encoder.source.frame(SPS2), encoder.source.frame(SPS, PPS, IDR)
    packets = [made for each in (sps, lost, pps, idr) for made in encoder.ingest.take(each, 0.0)]
    assert payloads(packets) == [SPS, SPS2, PPS, IDR]
    assert beginnings(packets) == [2]


def test_sets_of_another_source_are_forgotten() -> None:
    encoder = Encoder()
    encoder.frame(SPS, PPS, IDR)
    (idr,) = Source(ssrc=2, timestamp=7).frame(IDR)
    packets = encoder.ingest.take(idr, 5.0)
    assert payloads(packets) == [IDR]
    assert beginnings(packets) == []


def test_h265_keyframe_without_sets_gets_all_three() -> None:
    encoder = Encoder("H265")
    assert beginnings(encoder.frame(VPS5, SPS5, PPS5, IDR5)) == [0]
    packets = encoder.frame(IDR5)
    assert payloads(packets) == [h265.aggregate([VPS5, SPS5, PPS5]), IDR5]
    assert beginnings(packets) == [4]


@pytest.mark.parametrize("missing", [VPS5, SPS5, PPS5])
def test_h265_keyframe_that_lacks_one_kind_gets_all_three(missing: bytes) -> None:
    encoder = Encoder("H265", known=(VPS5, SPS5, PPS5))
    units = [unit for unit in (VPS5, SPS5, PPS5) if unit != missing]
    packets = encoder.frame(*units, IDR5)
    assert payloads(packets) == [*units, h265.aggregate([VPS5, SPS5, PPS5]), IDR5]
    assert len(beginnings(packets)) == 1
