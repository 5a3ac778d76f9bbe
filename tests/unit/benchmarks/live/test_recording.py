"""The recorded stream: the same for each server, and without a seam when it begins again."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import pytest
from benchmarks.live.recording import (
    AUDIO,
    VIDEO,
    Entry,
    endless,
    rate,
    read,
    record,
    sparse,
    write,
)

SECONDS = 4


@pytest.fixture(scope="module")
def recorded() -> list[Entry]:
    return record(SECONDS)


def numbers(entries: list[Entry], track: int) -> list[tuple[int, int]]:
    """Sequence numbers and timestamps."""
    return [struct.unpack_from("!HI", one.data, 2) for one in entries if one.track == track]


def test_a_recording_is_of_about_one_megabit_with_fifty_packets_of_sound(
    recorded: list[Entry],
) -> None:
    packets, bits = rate(recorded, SECONDS)
    assert 0.85e6 < bits < 1.15e6
    sound = sum(one.track == AUDIO for one in recorded)
    assert sound == 50 * SECONDS
    assert 80 < packets - 50 < 130
    assert max(len(one.data) for one in recorded) <= 1200


def test_a_recording_is_always_the_same(recorded: list[Entry]) -> None:
    assert record(SECONDS) == recorded


def test_what_is_written_is_read(recorded: list[Entry], tmp_path: Path) -> None:
    write(recorded, tmp_path / "stream")
    assert read(tmp_path / "stream") == recorded


@pytest.mark.parametrize("track", [VIDEO, AUDIO])
@pytest.mark.parametrize("thin", [False, True])
def test_numbers_and_times_go_on_when_the_recording_begins_again(
    recorded: list[Entry], track: int, thin: bool
) -> None:
    entries = sparse(recorded) if thin else recorded
    turns = list(itertools.islice(endless(entries, SECONDS), 3 * len(entries)))
    told = numbers(turns, track)
    steps = [(b - a) & 0xFFFF for (a, _), (b, _) in itertools.pairwise(told)]
    assert set(steps) == {1}
    advanced = (told[-1][1] - told[0][1]) & 0xFFFFFFFF
    last = [one.at_s for one in turns if one.track == track]
    clock = 90_000 if track == VIDEO else 48_000
    assert advanced == pytest.approx((last[-1] - last[0]) * clock, abs=2)
    assert [one.at_s for one in turns] == sorted(one.at_s for one in turns)
