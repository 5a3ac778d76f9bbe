"""LZW as Go's compress/lzw with least significant bit first and 8-bit literals.

Memberlist compresses bigger messages with it. Decoding has a limit, since a few bytes may
otherwise unfold into megabytes; encoding exists for peers that prefer it and for tests.
"""

from __future__ import annotations

from callboard.swim.packing import DecodeError

CLEAR = 256
END = 257
WIDTH_FIRST = 9
WIDTH_MAX = 12
CODE_MAX = (1 << WIDTH_MAX) - 1

_LITERALS = [bytes((value,)) for value in range(256)]


def decompress(data: bytes, bytes_max: int) -> bytes:
    """Unfold `data`. Raises DecodeError on a bad code, a missing end, or above `bytes_max`."""
    output = bytearray()
    table = [*_LITERALS, b"", b""]
    previous = b""
    width, held, bits = WIDTH_FIRST, 0, 0
    for byte in data:
        held |= byte << bits
        bits += 8
        if bits < width:
            continue
        code = held & ((1 << width) - 1)
        held >>= width
        bits -= width
        if code == CLEAR:
            del table[END + 1 :]
            previous, width = b"", WIDTH_FIRST
            continue
        if code == END:
            return bytes(output)
        previous = _expand(table, code, previous)
        output += previous
        if len(output) > bytes_max:
            raise DecodeError(f"compressed message unfolds above {bytes_max} bytes")
        # One code is known ahead of the table: the entry begun now is finished by the next code.
        if len(table) + 1 > (1 << width) and width < WIDTH_MAX:
            width += 1
    raise DecodeError("compressed message has no end")


def _expand(table: list[bytes], code: int, previous: bytes) -> bytes:
    """The string of `code`; extends the table by what the two codes together say."""
    if code < len(table):
        entry = table[code]
    elif code == len(table) and previous and len(table) <= CODE_MAX:
        entry = previous + previous[:1]
    else:
        raise DecodeError("compressed message has an impossible code")
    if previous and len(table) <= CODE_MAX:
        table.append(previous + entry[:1])
    return entry


def compress(data: bytes) -> bytes:
    """Fold `data` as Go's writer does: a clear code first, an end code last."""
    packed = _BitWriter()
    packed.write(CLEAR, WIDTH_FIRST)
    if not data:
        packed.write(END, WIDTH_FIRST)
        return packed.finish()
    table: dict[bytes, int] = {}
    width, highest = WIDTH_FIRST, END
    current = data[:1]
    code = current[0]
    for value in data[1:]:
        longer = current + _LITERALS[value]
        known = table.get(longer)
        if known is not None:
            current, code = longer, known
            continue
        packed.write(code, width)
        current, code = _LITERALS[value], value
        highest += 1
        if highest == 1 << width:
            width += 1
        if highest == CODE_MAX:
            packed.write(CLEAR, width if width <= WIDTH_MAX else WIDTH_MAX)
            table.clear()
            width, highest = WIDTH_FIRST, END
        else:
            table[longer] = highest
    packed.write(code, width)
    highest += 1
    if highest == 1 << width and width < WIDTH_MAX:
        width += 1
    packed.write(END, width)
    return packed.finish()


class _BitWriter:
    """Collects codes of varying width, least significant bit first."""

    def __init__(self) -> None:
        self._output = bytearray()
        self._held = 0
        self._bits = 0

    def write(self, code: int, width: int) -> None:
        self._held |= code << self._bits
        self._bits += width
        while self._bits >= 8:
            self._output.append(self._held & 0xFF)
            self._held >>= 8
            self._bits -= 8

    def finish(self) -> bytes:
        if self._bits:
            self._output.append(self._held & 0xFF)
        return bytes(self._output)
