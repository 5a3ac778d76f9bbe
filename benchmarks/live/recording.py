"""One stream, encoded once for a run and sent alike to each server: RTP with the times it is due.

640x360 at 25 frames a second, VP8 of 0.92 Mbit/s with a keyframe every 2 s, Opus of 32 kbit/s: the
gateway's own test pattern with noise in it, or a constant bit rate would have nothing to spend on.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from callboard.gateway.sources.encoding import AUDIO_CLOCK, VIDEO_CLOCK, OpusEncoder, Vp8Encoder
from callboard.gateway.sources.picture import HEIGHT, RATE, WIDTH, picture, sound
from callboard.gateway.sources.rtp import RtpSender, vp8_payloads

SECONDS = 20
TICKS = 2 * RATE
"""In a second: one has 20 ms of sound, each second one a picture."""
KEYFRAME_S = 2
SEED = 6
VIDEO, AUDIO = 0, 1
VIDEO_BITS_PER_SECOND, AUDIO_BITS_PER_SECOND = 920_000, 32_000
VIDEO_PAYLOAD_TYPE, AUDIO_PAYLOAD_TYPE = 96, 111
SPARSE_S = (1.0, 0.1)
"""Between packets of a track that are kept."""
_ENTRY = struct.Struct("!dBH")
_NOISY_ROWS = 120
_NOISE = bytes(96 + value // 4 for value in range(256))
"""From a random octet to a luma."""
_AUDIO_LATE_S = 0.007
"""Sound is not sent in the same instant as pictures."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One packet."""

    at_s: float
    """From the stream's begin."""
    track: int
    data: bytes


class Studio:
    """Draws and encodes; always the same."""

    def __init__(self, keyframe_s: int = KEYFRAME_S) -> None:
        """A keyframe at least each so many seconds."""
        self._rng = rng = random.Random(SEED)
        self._video = RtpSender(VIDEO_PAYLOAD_TYPE, VIDEO_CLOCK, rng)
        self._audio = RtpSender(AUDIO_PAYLOAD_TYPE, AUDIO_CLOCK, rng)
        self._pictures = Vp8Encoder(WIDTH, HEIGHT, RATE, VIDEO_BITS_PER_SECOND)
        self._pictures._codec.gop_size = keyframe_s * RATE
        self._sounds = OpusEncoder(AUDIO_BITS_PER_SECOND)

    def picture(self, number: int, *, keyframe: bool) -> list[Entry]:
        """The packets of a picture; `keyframe` asks for one."""
        planes = picture(number)
        noise = self._rng.randbytes(WIDTH * _NOISY_ROWS).translate(_NOISE)
        planes[0][: len(noise)] = noise
        frame = self._pictures.encode([bytes(plane) for plane in planes], number, keyframe=keyframe)
        stamp = number * VIDEO_CLOCK // RATE
        made = self._video.packets(vp8_payloads(frame, number), stamp, marker=True)
        return [Entry(number / RATE, VIDEO, data) for data in made]

    def sound(self, tick: int) -> list[Entry]:
        """The packets of 20 ms of sound."""
        payloads = self._sounds.encode(sound(tick), tick)
        made = self._audio.packets(payloads, tick * OpusEncoder.SAMPLES, marker=False)
        return [Entry(tick / TICKS + _AUDIO_LATE_S, AUDIO, data) for data in made]


def record(seconds: int = SECONDS) -> list[Entry]:
    """Encode so many seconds; always the same."""
    studio, entries = Studio(), list[Entry]()
    for number in range(seconds * RATE):
        entries += studio.picture(number, keyframe=number % (KEYFRAME_S * RATE) == 0)
    for tick in range(seconds * TICKS):
        entries += studio.sound(tick)
    return sorted(entries, key=lambda entry: entry.at_s)


def write(entries: Sequence[Entry], path: Path) -> None:
    """Store them."""
    with path.open("wb") as file:
        for entry in entries:
            file.write(_ENTRY.pack(entry.at_s, entry.track, len(entry.data)) + entry.data)


def read(path: Path) -> list[Entry]:
    """What `write` stored."""
    whole, at, entries = path.read_bytes(), 0, []
    while at < len(whole):
        due, track, length = _ENTRY.unpack_from(whole, at)
        at += _ENTRY.size
        entries.append(Entry(due, track, whole[at : at + length]))
        at += length
    return entries


def rate(entries: Sequence[Entry], seconds: int = SECONDS) -> tuple[float, float]:
    """Packets and bits of RTP in a second."""
    return len(entries) / seconds, sum(len(entry.data) for entry in entries) * 8 / seconds


def endless(entries: Sequence[Entry], seconds: int = SECONDS) -> Iterator[Entry]:
    """Round and round: numbers, timestamps and times go on."""
    counts = [sum(entry.track == track for entry in entries) for track in (VIDEO, AUDIO)]
    clocks = (VIDEO_CLOCK, AUDIO_CLOCK)
    turn = 0
    while True:
        for entry in entries:
            data = bytearray(entry.data)
            sequence, stamp = struct.unpack_from("!HI", data, 2)
            sequence += turn * counts[entry.track]
            stamp += turn * seconds * clocks[entry.track]
            struct.pack_into("!HI", data, 2, sequence & 0xFFFF, stamp & 0xFFFFFFFF)
            yield Entry(entry.at_s + turn * seconds, entry.track, bytes(data))
        turn += 1


def sparse(entries: Sequence[Entry]) -> list[Entry]:
    """Few packets of each track, so that a stream is there and weighs nothing (its pictures cannot
    be decoded). Numbered without a gap."""
    kept: list[Entry] = []
    due, taken = [0.0, 0.0], [0, 0]
    for entry in entries:
        if entry.at_s < due[entry.track]:
            continue
        due[entry.track] = entry.at_s + SPARSE_S[entry.track]
        data = bytearray(entry.data)
        struct.pack_into("!H", data, 2, taken[entry.track])
        taken[entry.track] += 1
        kept.append(Entry(entry.at_s, entry.track, bytes(data)))
    return kept
