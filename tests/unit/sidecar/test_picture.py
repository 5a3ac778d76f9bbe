"""What the test pattern shows."""

from __future__ import annotations

from callboard.media import clock
from callboard.sidecar.pipeline import picture


def _luma(frame: bytes, area: picture.Area) -> set[int]:
    left, top, width, height = area
    rows = (frame[y * picture.WIDTH + left :][:width] for y in range(top, top + height))
    return {value for row in rows for value in row}


def test_a_frame_is_whole() -> None:
    assert len(picture.frame(0, 0)) == picture.FRAME_BYTES


def test_each_frame_carries_its_time() -> None:
    for number, milliseconds in ((0, 1_700_000_000_123), (7, 1_700_000_000_403)):
        made = picture.frame(number, milliseconds)
        assert clock.read(made, picture.WIDTH) == milliseconds % clock.MODULUS


def test_the_patch_flashes_at_the_begin_of_each_second() -> None:
    white = [n for n in range(50) if _luma(picture.frame(n, 0), picture.PATCH) == {clock.WHITE}]
    black = [n for n in range(50) if _luma(picture.frame(n, 0), picture.PATCH) == {clock.BLACK}]
    assert white == [0, 1, 2, 25, 26, 27]
    assert len(black) == 44


def test_something_moves_in_each_frame() -> None:
    frames = {picture.frame(number, 0) for number in range(25)}
    assert len(frames) == 25
