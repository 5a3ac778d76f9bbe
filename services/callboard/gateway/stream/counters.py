"""What happened to a track's packets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Since the track began. Each packet of the source is counted in `packets` or in one of those
    that say why it was not taken."""

    packets: int = 0
    """Taken and passed on."""
    octets: int = 0
    """Of payload, of those."""
    frames: int = 0
    """Of video: timestamps; of audio: packets."""
    keyframes: int = 0
    """Of video; for audio each packet."""
    garbage: int = 0
    """No RTP."""
    payload_type: int = 0
    """RTP of another payload type."""
    foreign: int = 0
    """Of a second SSRC while the first one is live."""
    padding: int = 0
    """Without payload: probes and keep-alives."""
    duplicate: int = 0
    late: int = 0
    """Too late for their number: too old, or of those that must be split."""
    wild: int = 0
    """A number far away, and no second packet that goes on from there."""
    oversize: int = 0
    """Too long, and not to be split."""
    withheld: int = 0
    """Of video, after the source began anew and before its keyframe."""
    missing: int = 0
    """Numbers of the source that were passed over when a later one came."""
    reordered: int = 0
    """Of `missing`: those that came after all, and were passed on."""
    split: int = 0
    """Of `packets`: those that went on as several."""
    inserted: int = 0
    """Packets of parameter sets that the source had not sent."""
    restarts: int = 0
    """The source began anew: another SSRC, or numbers from elsewhere."""
    jumps: int = 0
    """Timestamps went on from elsewhere."""
