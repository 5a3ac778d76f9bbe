"""What encoders make goes through a track and comes out as what they made."""

from __future__ import annotations

import os

import pytest
from tests.unit.gateway.stream import encoded
from tests.unit.gateway.stream.depacketizing import DEPACKETIZERS, annex_b_units, stream_obus
from tests.unit.gateway.stream.source import beginnings, check_fit_for_viewers, payloads

from callboard.gateway.stream.formats import format_of
from callboard.gateway.stream.packet import PAYLOAD_BYTES_MAX, Packet
from callboard.gateway.stream.track import Track
from callboard.media.rtp import parse

FRAME_S = 1 / encoded.RATE
START_CODE = b"\0\0\0\1"


def _units(codec: str, frame: bytes) -> list[bytes]:
    """What a frame is made of, as RTP has it."""
    if codec in ("H264", "H265"):
        return annex_b_units(frame)
    return stream_obus(frame) if codec == "AV1" else [frame]


def _frame(codec: str, packets: list[Packet]) -> bytes:
    """A frame as a decoder takes it."""
    units = DEPACKETIZERS[codec](payloads(packets))
    if codec in ("H264", "H265"):
        return b"".join(START_CODE + unit for unit in units)
    if codec != "AV1":
        (frame,) = units
        return frame
    return b"\x12\x00" + b"".join(_sized(unit) for unit in units)


def _sized(obu: bytes) -> bytes:
    header = 2 if obu[0] & 4 else 1
    rest, size = len(obu) - header, bytearray()
    while rest > 0x7F:
        size.append(rest & 0x7F | 0x80)
        rest >>= 7
    size.append(rest)
    return bytes((obu[0] | 2,)) + obu[1:header] + bytes(size) + obu[header:]


def _by_frame(packets: list[Packet]) -> list[list[Packet]]:
    """In the order of their coming; there are no B-frames."""
    stamps = sorted({packet.timestamp for packet in packets})
    return [[packet for packet in packets if packet.timestamp == stamp] for stamp in stamps]


@pytest.mark.parametrize("codec", DEPACKETIZERS)
def test_frames_come_out_as_they_were_encoded(codec: str) -> None:
    recording = encoded.video(codec)
    track = Track(format_of(codec, 90_000, is_video=True))
    longest, made = 0, list[Packet]()
    for number, frame in enumerate(recording.frames):
        packets = [each for data in frame.packets for each in track.take(data, number * FRAME_S)]
        longest = max([longest, *(len(parse(data).payload) for data in frame.packets)])
        assert DEPACKETIZERS[codec](payloads(packets)) == _units(codec, frame.encoded)
        assert [packet.marker for packet in packets] == [False] * (len(packets) - 1) + [True]
        assert beginnings(packets) == ([packets[0].sequence] if frame.is_keyframe else [])
        made += packets
    check_fit_for_viewers(made)
    assert longest > PAYLOAD_BYTES_MAX
    assert track.counters.split > 0
    assert track.counters.frames == len(recording.frames)
    assert track.counters.keyframes == sum(frame.is_keyframe for frame in recording.frames)
    assert (track.counters.inserted, track.counters.oversize) == (0, 0)


@pytest.mark.parametrize("codec", DEPACKETIZERS)
def test_decoder_shows_every_frame_of_a_burst_and_of_what_follows(codec: str) -> None:
    recording = encoded.video(codec)
    track = Track(format_of(codec, 90_000, is_video=True))
    joined_at = encoded.KEYFRAME_EVERY + 4
    seen: list[Packet] = []
    for number, frame in enumerate(recording.frames):
        live = [each for data in frame.packets for each in track.take(data, number * FRAME_S)]
        if number == joined_at:
            seen = track.burst(number * FRAME_S)
        elif number > joined_at:
            seen += live
    check_fit_for_viewers(seen)
    frames = [_frame(codec, packets) for packets in _by_frame(seen)]
    begins = max(
        number
        for number, frame in enumerate(recording.frames[: joined_at + 1])
        if frame.is_keyframe
    )
    assert len(frames) == len(recording.frames) - begins
    assert encoded.decoded(codec, frames) == len(frames)


@pytest.mark.parametrize("codec", ["H264", "H265"])
def test_decoder_begins_with_a_keyframe_whose_sets_were_sent_once(codec: str) -> None:
    """As if the encoder sent them at its start only: later packets of them are taken out."""
    recording = encoded.video(codec)
    rules = format_of(codec, 90_000, is_video=True).parameter_sets
    assert rules is not None
    track = Track(format_of(codec, 90_000, is_video=True))
    without = 0
    numbers = iter(range(1 << 16))
    for number, frame in enumerate(recording.frames):
        for data in frame.packets:
            begins, sets = rules.inspect(parse(data).payload)
            if sets and number > 0:
                assert not begins
                without += 1
                continue
            sequence = next(numbers).to_bytes(2, "big")
            track.take(data[:2] + sequence + data[4:], number * FRAME_S)
    assert without > 0
    assert track.counters.inserted > 0
    burst = track.burst(len(recording.frames) * FRAME_S)
    check_fit_for_viewers(burst)
    frames = [_frame(codec, packets) for packets in _by_frame(burst)]
    assert encoded.decoded(codec, frames) == len(frames) > 1


def test_opus_goes_through_as_it_is() -> None:
    recording = encoded.opus()
    track = Track(format_of("opus", 48_000, is_video=False))
    made = [
        each
        for number, frame in enumerate(recording.frames)
        for data in frame.packets
        for each in track.take(data, number * 0.02)
    ]
    assert payloads(made) == [frame.encoded for frame in recording.frames]
    assert all(packet.keyframe for packet in made)
    assert [packet.timestamp for packet in made] == [960 * number for number in range(len(made))]


def test_an_encoder_leaves_the_scheduling_of_this_process_alone() -> None:
    """What is real-time starves the rest of the machine, and its children are real-time too."""
    for codec in encoded.ENCODERS:
        encoded.video(codec)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
