"""What the built-in pattern shows and sounds like. Pure.

Colour bars, a white bar that moves, a clock in the top rows, which machines read
(callboard.media.clock), and a patch that is white for the first tenth of each second, while a beep
sounds: eye and ear tell whether picture and sound belong together.
"""

from __future__ import annotations

import math
import struct
from functools import cache

from callboard.media import clock
from callboard.media.clock import BLACK, WHITE

WIDTH, HEIGHT, RATE = clock.WIDTH, 360, 25
FLASH_FRAMES = RATE // 10
"""At the begin of each second."""
SAMPLE_RATE, SAMPLES = 48_000, 960
"""Per second, and in 20 ms, of each channel."""

BARS = ((180, 128, 128), (168, 44, 136), (145, 147, 44), (133, 63, 52),
        (63, 193, 204), (51, 109, 212), (28, 212, 120))  # fmt: skip
"""White, yellow, cyan, green, magenta, red, blue at 75 %, as Y, U and V (ITU-R BT.601)."""
GREY = 128
"""Of U and V: no colour."""

Area = tuple[int, int, int, int]
"""Left, top, width and height."""
STRIP_TOP, STRIP_ROWS = 300, 40
MOVING_WIDTH = 32
CLOCK: Area = (0, 0, WIDTH, 2 * clock.BLOCK_PIXELS)
"""Its row, and a black one below that keeps it apart."""
STRIP: Area = (0, STRIP_TOP, WIDTH, STRIP_ROWS)
PATCH: Area = (288, 120, 64, 64)

BEEP_HZ, TONE_HZ = 1000, 250
"""Both have a whole number of periods in 20 ms."""
BEEP_LEVEL, TONE_LEVEL = 0.4, 0.03


def picture(number: int, milliseconds: int | None = None) -> list[bytearray]:
    """The planes of a frame; the first one of each second flashes. `milliseconds` since 1970 is
    what its clock shows; without it, the time from the first frame to this one."""
    planes = [bytearray(plane) for plane in _background()]
    luma = planes[0]
    left = (number * 4) % (WIDTH - MOVING_WIDTH)
    fill(luma, (left, STRIP_TOP, MOVING_WIDTH, STRIP_ROWS), WHITE)
    if number % RATE < FLASH_FRAMES:
        fill(luma, PATCH, WHITE)
    clock.paint(luma, number * 1000 // RATE if milliseconds is None else milliseconds)
    return planes


def sound(number: int) -> bytes:
    """The samples of 20 ms, 16 bits, left and right by turns; two belong to one frame."""
    flashes = number // 2 % RATE < FLASH_FRAMES
    return _wave(BEEP_HZ, BEEP_LEVEL) if flashes else _wave(TONE_HZ, TONE_LEVEL)


def fill(plane: bytearray, area: Area, value: int, row_bytes: int = WIDTH) -> None:
    """One value in a rectangle of a plane."""
    left, top, width, height = area
    row = bytes([value]) * width
    for at in range(top * row_bytes + left, (top + height) * row_bytes + left, row_bytes):
        plane[at : at + width] = row


@cache
def _background() -> tuple[bytes, bytes, bytes]:
    luma = bytearray(_bars(0, WIDTH) * HEIGHT)
    chroma = [bytearray(_bars(plane, WIDTH // 2) * (HEIGHT // 2)) for plane in (1, 2)]
    for area in (CLOCK, STRIP, PATCH):
        fill(luma, area, BLACK)
        for plane in chroma:
            left, top, width, height = (value // 2 for value in area)
            fill(plane, (left, top, width, height), GREY, WIDTH // 2)
    return bytes(luma), bytes(chroma[0]), bytes(chroma[1])


def _bars(plane: int, width: int) -> bytes:
    """One row of the colour bars."""
    return bytes(BARS[x * len(BARS) // width][plane] for x in range(width))


@cache
def _wave(frequency_hz: int, level: float) -> bytes:
    turn = 2 * math.pi * frequency_hz / SAMPLE_RATE
    values = [round(32767 * level * math.sin(turn * at)) for at in range(SAMPLES)]
    return struct.pack(f"<{2 * SAMPLES}h", *(value for value in values for _ in range(2)))
