"""Codecs of streams, and which of a description's payload types are the same. Pure.

A stream is never transcoded for a viewer, so what is offered must be what the stream is: name,
clock rate, channels, and those parameters that say what a decoder must be able to do.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

AUDIO, VIDEO = "audio", "video"

STATIC = {0: ("PCMU", 8000), 8: ("PCMA", 8000), 9: ("G722", 8000)}
"""Payload types of audio that need no a=rtpmap (RFC 3551, table 4)."""

_MUST_BE_EQUAL: Mapping[str, Mapping[str, str]] = {
    "h264": {"packetization-mode": "1"},  # (fragments need it; RFC 6184, 8.1)
    "vp9": {"profile-id": "0"},  # (RFC 9628, 6)
    "av1": {"profile": "0"},
    "h265": {"profile-id": "1"},  # (RFC 7798, 7.1)
}
"""By name: parameters that must be the same on both sides, and what their absence means. Streams
of H264 say no packetization-mode: it is then 1, which is what the gateway sends."""

_ABSENT_IN_OFFER = {"packetization-mode": "0"}
"""Where an offer's absence means something else than a stream's (RFC 6184, 8.1)."""


@dataclass(frozen=True, slots=True)
class Codec:
    """What a track is encoded with, as a=rtpmap and a=fmtp say it."""

    kind: str
    """AUDIO or VIDEO."""
    name: str
    """VP8, VP9, H264, H265, AV1, opus, PCMU, PCMA; in any case."""
    clock_rate: int
    channels: int = 1
    """Of audio."""
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def rtpmap(self) -> str:
        """As a=rtpmap has it, behind the payload type."""
        channels = f"/{self.channels}" if self.kind == AUDIO and self.channels > 1 else ""
        return f"{self.name}/{self.clock_rate}{channels}"

    @property
    def fmtp(self) -> str:
        """As a=fmtp has it, behind the payload type; "" without parameters."""
        return ";".join(
            f"{key}={value}" if value else key for key, value in self.parameters.items()
        )


def matches(stream: Codec, offered: Codec) -> bool:
    """Whether who offers a codec can take a stream of `stream`."""
    if (stream.kind, stream.name.lower(), stream.clock_rate) != (
        offered.kind,
        offered.name.lower(),
        offered.clock_rate,
    ):
        return False
    if stream.kind == AUDIO and stream.channels != offered.channels:
        return False
    for key, absent in _MUST_BE_EQUAL.get(stream.name.lower(), {}).items():
        theirs = offered.parameters.get(key, _ABSENT_IN_OFFER.get(key, absent))
        if stream.parameters.get(key, absent) != theirs:
            return False
    return True


def likeness(stream: Codec, offered: Codec) -> int:
    """How alike two codecs are that match: the best of several is the most alike. An H264 decoder
    of another profile than the stream's may still decode it, but one of the same surely does."""
    if stream.name.lower() != "h264":
        return 0
    ours, theirs = (
        each.parameters.get("profile-level-id", "").lower() for each in (stream, offered)
    )
    return sum(ours[:length] == theirs[:length] for length in (2, 4, 6)) if ours else 0


def parameter_sets(codec: Codec) -> list[bytes]:
    """The NAL units that a description gives with a codec (RFC 6184, 8.1; RFC 7798, 7.1); what is
    malformed is left out."""
    names = ("sprop-vps", "sprop-sps", "sprop-pps", "sprop-parameter-sets")
    texts = [each for name in names for each in codec.parameters.get(name, "").split(",")]
    sets = []
    for text in texts:
        with contextlib.suppress(binascii.Error, ValueError):
            sets.append(base64.b64decode(text, validate=True))
    return [each for each in sets if each]
