"""A clock that a test picture carries, for machines to read. Pure.

The top 16 rows of a picture of 640 pixels are one row of 40 blocks, each 16 by 16 pixels, white for
1 and black for 0, the most significant bit first, from the left:

    | 32 bits                                       | 8 bits                              |
    | milliseconds since 1970 (UTC), modulo 2 ** 32 | CRC-8 of the four octets before it  |

CRC-8: polynomial x⁸+x²+x+1, begins with 0xFF, so that a black row is no clock. A block is as large
as a macroblock of VP8, so encoders keep it sharp. A picture that was scaled is read by its width:
blocks are a fortieth of it.
"""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = 40
BLOCK_PIXELS = 16
WIDTH = BLOCKS * BLOCK_PIXELS
MODULUS = 1 << 32
"""Of the milliseconds: 49.7 days."""

BLACK, WHITE = 16, 235
"""Of luma (ITU-R BT.601)."""
_THRESHOLD = 128
_POLYNOMIAL = 0x07
_CELLS = (bytes([BLACK]) * BLOCK_PIXELS, bytes([WHITE]) * BLOCK_PIXELS)


def encode(milliseconds: int) -> str:
    """The 40 bits of a time, each "0" or "1"."""
    value = (milliseconds % MODULUS).to_bytes(4, "big")
    return f"{int.from_bytes(value, 'big'):032b}{_crc8(value):08b}"


def decode(bits: str) -> int | None:
    """The milliseconds, modulo MODULUS; None for bits that are no clock."""
    if len(bits) != BLOCKS or set(bits) - {"0", "1"}:
        return None
    value = int(bits[:32], 2)
    return value if _crc8(value.to_bytes(4, "big")) == int(bits[32:], 2) else None


def paint(luma: bytearray, milliseconds: int, row_bytes: int = WIDTH) -> None:
    """Write a time into the top rows of a plane of luma that is WIDTH wide or wider."""
    row = b"".join(_CELLS[bit == "1"] for bit in encode(milliseconds))
    for at in range(0, BLOCK_PIXELS * row_bytes, row_bytes):
        luma[at : at + WIDTH] = row


def read(luma: Sequence[int], width: int, row_bytes: int | None = None) -> int | None:
    """The time in a plane of luma (`bytes`, or anything alike), `width` pixels wide, of any scale
    down to 4 pixels a block; None where there is none. Raises ValueError for a plane too small."""
    stride = width if row_bytes is None else row_bytes
    block = width / BLOCKS
    if block < 4 or len(luma) < int(block) * stride:
        raise ValueError(f"a plane of {len(luma)} pixels, {width} wide, holds no clock")
    half = int(block) // 2
    quarter = max(1, half // 2)
    rows = range((half - quarter) * stride, (half + quarter) * stride, stride)
    bits = []
    for number in range(BLOCKS):
        middle = int((number + 0.5) * block)
        cells = range(middle - quarter, middle + quarter)
        total = sum(luma[row + column] for row in rows for column in cells)
        bits.append("1" if total >= _THRESHOLD * len(rows) * len(cells) else "0")
    return decode("".join(bits))


def age_ms(value: int, now_ms: int) -> int:
    """How long ago a clock was written, in milliseconds; negative for one of the future. The two
    may be up to 24 days apart."""
    apart = (now_ms - value) % MODULUS
    return apart if apart < MODULUS // 2 else apart - MODULUS


def _crc8(data: bytes) -> int:
    crc = 0xFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = (crc << 1 ^ _POLYNOMIAL) & 0xFF if crc & 0x80 else crc << 1
    return crc
