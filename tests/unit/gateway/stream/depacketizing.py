"""Depacketizers, written from the payload formats' texts apart from the code that they test.

Each takes the payloads of one frame (or of some) and gives back what was packetized. AssertionError
for what is malformed or incomplete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Units = list[bytes]


def vp8(payloads: Sequence[bytes]) -> Units:
    """Partitions: RFC 7741, 4.2."""
    partitions: Units = []
    for payload in payloads:
        flags, at = payload[0], 1
        if flags & 0x80:
            more, at = payload[1], 2
            if more & 0x80:
                at += 2 if payload[at] & 0x80 else 1
            at += 1 if more & 0x40 else 0
            at += 1 if more & 0x30 else 0
        assert at < len(payload)
        if flags & 0x10:
            partitions.append(b"")
        partitions[-1] += payload[at:]
    return partitions


def vp9(payloads: Sequence[bytes]) -> Units:
    """Frames, one for each spatial layer: RFC 9628, 4.2."""
    frames: Units = []
    is_open = False
    for payload in payloads:
        flags, at = payload[0], 1
        if flags & 0x80:
            at += 2 if payload[at] & 0x80 else 1
        if flags & 0x20:
            at += 1 if flags & 0x10 else 2
        if flags & 0x10 and flags & 0x40:
            while payload[at] & 1:
                at += 1
            at += 1
        if flags & 0x02:
            layers = (payload[at] >> 5) + 1
            has_sizes, has_group = payload[at] & 0x10, payload[at] & 0x08
            at += 1 + (4 * layers if has_sizes else 0)
            if has_group:
                pictures, at = payload[at], at + 1
                for _ in range(pictures):
                    at += 1 + (payload[at] >> 2 & 3)
        assert at < len(payload)
        assert bool(flags & 0x08) != is_open
        if flags & 0x08:
            frames.append(b"")
        frames[-1] += payload[at:]
        is_open = not flags & 0x04
    assert not is_open
    return frames


def h264(payloads: Sequence[bytes]) -> Units:
    """NAL units: RFC 6184, 5.6 to 5.8."""
    units: Units = []
    is_open = False
    for payload in payloads:
        kind = payload[0] & 0x1F
        if kind == 28:
            start, end = payload[1] & 0x80, payload[1] & 0x40
            assert bool(start) != is_open
            assert not (start and end)
            if start:
                units.append(bytes((payload[0] & 0xE0 | payload[1] & 0x1F,)))
            units[-1] += payload[2:]
            is_open = not end
            continue
        assert not is_open
        if kind == 24:
            at = 1
            while at < len(payload):
                size = payload[at] << 8 | payload[at + 1]
                units.append(payload[at + 2 : at + 2 + size])
                at += 2 + size
            assert at == len(payload)
        else:
            assert 1 <= kind <= 23
            units.append(payload)
    assert not is_open
    return units


def h265(payloads: Sequence[bytes]) -> Units:
    """NAL units: RFC 7798, 4.4."""
    units: Units = []
    is_open = False
    for payload in payloads:
        kind = payload[0] >> 1 & 0x3F
        if kind == 49:
            start, end, inner = payload[2] & 0x80, payload[2] & 0x40, payload[2] & 0x3F
            assert bool(start) != is_open
            assert not (start and end)
            if start:
                units.append(bytes((payload[0] & 0x81 | inner << 1, payload[1])))
            units[-1] += payload[3:]
            is_open = not end
            continue
        assert not is_open
        if kind == 48:
            at = 2
            while at < len(payload):
                size = payload[at] << 8 | payload[at + 1]
                units.append(payload[at + 2 : at + 2 + size])
                at += 2 + size
            assert at == len(payload)
        else:
            assert kind < 48
            units.append(payload)
    assert not is_open
    return units


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def av1(payloads: Sequence[bytes]) -> Units:
    """OBU elements: AV1's RTP payload format, 4.4."""
    obus: Units = []
    is_open = False
    for payload in payloads:
        header, at, inside = payload[0], 1, 0
        count = header >> 4 & 3
        assert bool(header & 0x80) == is_open
        while at < len(payload):
            inside += 1
            size = len(payload) - at
            if inside != count:
                size, at = _leb128(payload, at)
            element = payload[at : at + size]
            assert len(element) == size
            at += size
            if inside == 1 and is_open:
                obus[-1] += element
            else:
                obus.append(element)
        assert inside and (not count or inside == count)
        is_open = bool(header & 0x40)
    assert not is_open
    return obus


DEPACKETIZERS: dict[str, Callable[[Sequence[bytes]], Units]] = {
    "VP8": vp8,
    "VP9": vp9,
    "H264": h264,
    "H265": h265,
    "AV1": av1,
}


def annex_b_units(data: bytes) -> Units:
    """The NAL units of a byte stream (H.264 and H.265, annex B)."""
    units, at = [], data.find(b"\0\0\1")
    while at >= 0:
        following = data.find(b"\0\0\1", at + 3)
        unit = data[at + 3 : following if following >= 0 else len(data)]
        # the zero before a start code of four bytes is not the unit's: a unit never ends with one
        units.append(unit.rstrip(b"\0"))
        at = following
    return units


def stream_obus(data: bytes) -> Units:
    """The OBUs of a temporal unit as RTP has them: without sizes and delimiters."""
    obus: Units = []
    at = 0
    while at < len(data):
        header, begin = data[at], at + (2 if data[at] & 4 else 1)
        assert header & 2
        size, begin = _leb128(data, begin)
        if header >> 3 & 0x0F != 2:
            extension = data[at + 1 : at + 2] if header & 4 else b""
            obus.append(bytes((header & ~2,)) + extension + data[begin : begin + size])
        at = begin + size
    return obus
