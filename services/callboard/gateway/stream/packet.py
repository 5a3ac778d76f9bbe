"""One packet of a track, as the stream numbers it."""

from __future__ import annotations

from dataclasses import dataclass

PAYLOAD_BYTES_MAX = 1200
"""Of what viewers get; longer ones are split where the codec lets it (`ingest`)."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One RTP packet of a track, in the track's own numbering, which goes on without a jump when
    the source restarts. All viewers get the same payload; header, SSRC and cipher are each one's.
    """

    sequence: int
    """From 0 up, never wrapped: a viewer's number is this plus its offset, modulo 2¹⁶."""
    timestamp: int
    """In units of the clock rate, never wrapped: plus an offset modulo 2³² for a viewer."""
    marker: bool
    payload: bytes
    keyframe: bool = False
    """A decoder can begin with this packet (the first one of a keyframe, its parameter sets
    included; each packet of audio)."""
