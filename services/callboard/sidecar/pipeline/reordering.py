"""Whether pictures of H.264 are sent in another order than they are shown (B-frames): WebRTC shows
them as they come. Pure. Source: ITU-T H.264 (08/2021), 7.3.2.1.1, 7.3.3 and E.1.1; ISO/IEC
14496-15, 5.3.3.1.
"""

from __future__ import annotations

BASELINE = 66
HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
"""Those whose parameter sets say more of colours."""
EXTENDED_SAR = 255
SLICE = 1
"""A nal_unit_type: of a picture that is none of a keyframe's (table 7-1)."""
SLICE_TYPES, B = 5, 1
"""A slice_type, modulo the first (table 7-6)."""
AS_SHOWN = 2
"""A pic_order_cnt_type: the order is that of decoding."""


class _Bits:
    """Reads a sequence parameter set. Raises IndexError at its end."""

    def __init__(self, unit: bytes) -> None:
        data = unit.replace(b"\0\0\3", b"\0\0")  # emulation prevention (7.4.1)
        self._bits = "".join(f"{octet:08b}" for octet in data)
        self._at = 0

    def read(self, count: int) -> int:
        taken = self._bits[self._at : self._at + count]
        if len(taken) < count:
            raise IndexError("the parameter set is cut off")
        self._at += count
        return int(taken, 2) if count else 0

    def flag(self) -> bool:
        return self.read(1) == 1

    def unsigned(self) -> int:
        """ue(v) (9.1)."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > 32:
                raise IndexError("no number")
        return (1 << zeros) - 1 + self.read(zeros)

    def signed(self) -> int:
        """se(v) (9.1.1)."""
        value = self.unsigned()
        return (value + 1) // 2 if value % 2 else -(value // 2)


def may_reorder(codec_data: bytes) -> bool:
    """Of an AVCDecoderConfigurationRecord, as MP4 and Matroska have it. What cannot be read, or
    does not say, may."""
    try:
        count = codec_data[5] & 0x1F
        length = int.from_bytes(codec_data[6:8], "big")
        unit = codec_data[8 : 8 + length]
        return count == 0 or len(unit) < length or _may_reorder(unit)
    except IndexError:
        return True


def is_bidirectional(access_unit: bytes, length_bytes: int) -> bool:
    """Whether the first slice of a picture is of type B. Each NAL unit follows its length, of so
    many octets; the end may be cut off. Of what cannot be read: False."""
    at = 0
    while at + length_bytes < len(access_unit):
        size = int.from_bytes(access_unit[at : at + length_bytes], "big")
        at += length_bytes
        if access_unit[at] & 0x1F == SLICE:
            bits = _Bits(access_unit[at + 1 : at + min(size, 16)])
            try:
                bits.unsigned()
                return bits.unsigned() % SLICE_TYPES == B
            except IndexError:
                return False
        at += size
    return False


def _may_reorder(unit: bytes) -> bool:
    profile = unit[1]
    if profile == BASELINE:
        return False
    bits = _Bits(unit[4:])
    bits.unsigned()
    if profile in HIGH_PROFILES:
        _skip_colours(bits)
    bits.unsigned()
    order = bits.unsigned()
    if order == AS_SHOWN:
        return False
    if order == 0:
        bits.unsigned()
    else:
        bits.flag()
        bits.signed()
        bits.signed()
        for _ in range(min(bits.unsigned(), 255)):
            bits.signed()
    bits.unsigned()
    bits.flag()
    bits.unsigned()
    bits.unsigned()
    if not bits.flag():
        bits.flag()
    bits.flag()
    if bits.flag():
        for _ in range(4):
            bits.unsigned()
    return not bits.flag() or _usability_may_reorder(bits)


def _skip_colours(bits: _Bits) -> None:
    if bits.unsigned() == 3:
        bits.flag()
    bits.unsigned()
    bits.unsigned()
    bits.flag()
    if bits.flag():
        raise IndexError("scaling lists are not read")


def _usability_may_reorder(bits: _Bits) -> bool:
    """The video usability information (E.1.1)."""
    if bits.flag() and bits.read(8) == EXTENDED_SAR:
        bits.read(32)
    if bits.flag():
        bits.flag()
    if bits.flag():
        bits.read(4)
        if bits.flag():
            bits.read(24)
    if bits.flag():
        bits.unsigned()
        bits.unsigned()
    if bits.flag():
        bits.read(65)
    referenced = [_skip_reference_decoder(bits) for _ in range(2)]
    if any(referenced):
        bits.flag()
    bits.flag()
    if not bits.flag():
        return True
    bits.flag()
    for _ in range(4):
        bits.unsigned()
    return bits.unsigned() > 0


def _skip_reference_decoder(bits: _Bits) -> bool:
    if not bits.flag():
        return False
    count = bits.unsigned() + 1
    bits.read(8)
    for _ in range(min(count, 32)):
        bits.unsigned()
        bits.unsigned()
        bits.flag()
    bits.read(20)
    return True
