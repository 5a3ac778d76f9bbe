"""The keyframe that a burst begins with, put together as decoders take it. Pure.

    packets of one timestamp ─► payloads without RTP's own parts ─► frames (VP8, VP9),
    Annex B (H264, H265), a temporal unit of OBUs with sizes (AV1)

Sources: RFC 7741 (VP8), RFC 9628 (VP9), RFC 6184, 5 (H264), RFC 7798, 4.4 (H265), RTP Payload
Format For AV1 (AOM), 4.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, takewhile

from callboard.gateway.stream.keyframes import av1, h264, h265, vp8, vp9
from callboard.gateway.stream.packet import Packet

_START_CODE = b"\0\0\0\1"
_AV1_TEMPORAL_DELIMITER, _AV1_TILE_LIST = 2, 8
_AV1_EXTENDED, _AV1_HAS_SIZE = 0x04, 0x02


def keyframe_of(packets: Sequence[Packet]) -> list[Packet] | None:
    """The packets of the frame that a burst begins with; None while one of them is missing, or
    may be."""
    if not packets or not packets[0].keyframe:
        return None
    at = packets[0].timestamp
    frame = list(takewhile(lambda packet: packet.timestamp == at, packets))
    if len(frame) == len(packets) and not frame[-1].marker:
        return None
    if any(after.sequence != before.sequence + 1 for before, after in pairwise(frame)):
        return None
    if len(frame) < len(packets) and packets[len(frame)].sequence != frame[-1].sequence + 1:
        return None
    return frame


def assembled(codec: str, payloads: Sequence[bytes]) -> list[bytes]:
    """What a decoder of `codec` is given, part by part, for the payloads of one frame. Raises
    ValueError for payloads that are none of it, and for a codec that is not known."""
    assemble = _ASSEMBLE.get(codec.upper())
    if assemble is None:
        raise ValueError(f"{codec} is not decoded: {', '.join(_ASSEMBLE)} are")
    parts = [part for part in assemble(payloads) if part]
    if not parts:
        raise ValueError("the frame is empty")
    return parts


def _vp8(payloads: Sequence[bytes]) -> list[bytes]:
    return [b"".join(_behind(payload, vp8.descriptor_bytes(payload)) for payload in payloads)]


def _vp9(payloads: Sequence[bytes]) -> list[bytes]:
    """One part for each spatial layer: they are frames of their own."""
    frames: list[bytearray] = []
    for payload in payloads:
        found = vp9.descriptor(payload)
        data = _behind(payload, found.end if found is not None else 0)
        if payload[0] & vp9.START or not frames:
            frames.append(bytearray())
        frames[-1] += data
    return [bytes(frame) for frame in frames]


def _behind(payload: bytes, end: int) -> bytes:
    if not end:
        raise ValueError("a payload descriptor that is not whole")
    return payload[end:]


def _h264(payloads: Sequence[bytes]) -> list[bytes]:
    units: list[bytes] = []
    fragments = bytearray()
    for payload in payloads:
        kind = payload[0] & 0x1F if payload else -1
        if kind == h264.STAP_A:
            units += _whole(h264.units(payload))
        elif kind == h264.FU_A and len(payload) > 2:
            if payload[1] & h264.FU_START:
                fragments = bytearray((payload[0] & 0xE0 | payload[1] & 0x1F,))
            units += _go_on(fragments, payload[2:], ends=bool(payload[1] & h264.FU_END))
        elif 0 < kind < h264.STAP_A:
            units.append(payload)
        else:
            raise ValueError(f"H264: a packet of type {kind}")
    return [_annex_b(units)]


def _h265(payloads: Sequence[bytes]) -> list[bytes]:
    units: list[bytes] = []
    fragments = bytearray()
    for payload in payloads:
        if len(payload) <= h265.HEADER_BYTES:
            raise ValueError("H265: a packet that is too short")
        kind = h265.unit_type(payload)
        if kind == h265.AP:
            units += _whole(h265.units(payload))
        elif kind == h265.FU:
            if payload[2] & h265.FU_START:
                original = (payload[2] & h265.FU_TYPE) << 1
                fragments = bytearray((payload[0] & 0x81 | original, payload[1]))
            units += _go_on(fragments, payload[3:], ends=bool(payload[2] & h265.FU_END))
        elif kind < h265.AP:
            units.append(payload)
        else:
            raise ValueError(f"H265: a packet of type {kind}")
    return [_annex_b(units)]


def _whole(units: list[bytes] | None) -> list[bytes]:
    if units is None:
        raise ValueError("an aggregation of NAL units that is malformed")
    return units


def _go_on(fragments: bytearray, more: bytes, *, ends: bool) -> list[bytes]:
    """Add to a unit that began; return it at its end."""
    if not fragments:
        raise ValueError("a fragment without a beginning")
    fragments += more
    if not ends:
        return []
    unit = bytes(fragments)
    fragments.clear()
    return [unit]


def _annex_b(units: Sequence[bytes]) -> bytes:
    return b"".join(_START_CODE + unit for unit in units)


def _av1(payloads: Sequence[bytes]) -> list[bytes]:
    obus: list[bytearray] = []
    goes_on = False
    for payload in payloads:
        parts = av1.aggregation(payload)
        if parts is None or bool(parts.header & av1.CONTINUES) != goes_on:
            raise ValueError("AV1: a packet that does not go on from the one before")
        for index, element in enumerate(parts.elements):
            if index == 0 and goes_on:
                obus[-1] += element
            else:
                obus.append(bytearray(element))
        goes_on = bool(parts.header & av1.CONTINUED)
    if goes_on:
        raise ValueError("AV1: the last OBU does not end")
    return [b"".join(_with_size(bytes(obu)) for obu in obus)]


def _with_size(obu: bytes) -> bytes:
    """An OBU as files have it; b"" for those that are of no use outside of RTP (4.4)."""
    if not obu or obu[0] >> 3 & 0x0F in (_AV1_TEMPORAL_DELIMITER, _AV1_TILE_LIST):
        return b""
    if obu[0] & _AV1_HAS_SIZE:
        return obu
    end = 2 if obu[0] & _AV1_EXTENDED else 1
    head, rest = bytes((obu[0] | _AV1_HAS_SIZE,)) + obu[1:end], obu[end:]
    return head + _leb128(len(rest)) + rest


def _leb128(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*parts, value))


_ASSEMBLE: dict[str, Callable[[Sequence[bytes]], list[bytes]]] = {
    "VP8": _vp8, "VP9": _vp9, "H264": _h264, "H265": _h265, "AV1": _av1,
}  # fmt: skip
