"""What the test pattern shows. Pure.

Colour bars, a white block that moves, the clock of `callboard.media.clock` in the top rows, and a
patch that is white for the first tenth of each second, while the sound beeps.
"""

from __future__ import annotations

from functools import cache

from callboard.media import clock
from callboard.media.clock import BLACK, WHITE

WIDTH, HEIGHT, RATE = clock.WIDTH, 360, 25
FLASH_FRAMES = 3
"""At the begin of each second: 120 ms, the beep has 100."""
FRAME_BYTES = WIDTH * HEIGHT * 3 // 2

BARS = ((180, 128, 128), (168, 44, 136), (145, 147, 44), (133, 63, 52),
        (63, 193, 204), (51, 109, 212), (28, 212, 120))  # fmt: skip
"""White, yellow, cyan, green, magenta, red, blue at 75 %, as Y, U and V (ITU-R BT.601)."""
GREY = 128
"""Of U and V: no colour."""

Area = tuple[int, int, int, int]
"""Left, top, width and height."""
CLOCK: Area = (0, 0, WIDTH, 32)
"""The clock's row and a black one below, that keeps it apart."""
PATCH: Area = (256, 128, 128, 96)
TRACK: Area = (0, 288, WIDTH, 48)
BLOCK_WIDTH = 32


def frame(number: int, milliseconds: int) -> bytes:
    """A frame in I420: planes Y, U and V. `number` counts from 0, RATE a second."""
    made = bytearray(_background())
    left = number * 4 % (WIDTH - BLOCK_WIDTH)
    _fill(made, (left, TRACK[1], BLOCK_WIDTH, TRACK[3]), WHITE)
    if flashes(number):
        _fill(made, PATCH, WHITE)
    clock.paint(made, milliseconds)
    return bytes(made)


def flashes(number: int) -> bool:
    """Whether the patch of a frame is white."""
    return number % RATE < FLASH_FRAMES


@cache
def _background() -> bytes:
    luma = bytearray(_bars(0, WIDTH) * HEIGHT)
    chroma = [bytearray(_bars(plane, WIDTH // 2) * (HEIGHT // 2)) for plane in (1, 2)]
    for area in (CLOCK, PATCH, TRACK):
        _fill(luma, area, BLACK)
        for plane in chroma:
            left, top, width, height = area
            half = (left // 2, top // 2, width // 2, height // 2)
            _fill(plane, half, GREY, WIDTH // 2)
    return bytes(luma + chroma[0] + chroma[1])


def _fill(plane: bytearray, area: Area, value: int, row_bytes: int = WIDTH) -> None:
    left, top, width, height = area
    row = bytes([value]) * width
    for at in range(top * row_bytes + left, (top + height) * row_bytes + left, row_bytes):
        plane[at : at + width] = row


def _bars(plane: int, width: int) -> bytes:
    """One row of the colour bars."""
    return bytes(BARS[x * len(BARS) // width][plane] for x in range(width))
