"""Offers of ours, and the answers to them: WHEP's counter-offer, Janus' watch. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from callboard.gateway.sdp.answers import (
    FEEDBACK,
    Answer,
    Negotiated,
    NoCommonCodec,
    Outgoing,
    check_transport,
)
from callboard.gateway.sdp.codecs import AUDIO, STATIC, VIDEO, matches
from callboard.gateway.sdp.offers import RTCP_FLAGS, BadDescription, Description, Section
from callboard.gateway.sdp.writing import Facts, Lines, Way, media_lines, session_lines

MIDS = {AUDIO: "a", VIDEO: "v"}
"""As Janus' streaming plugin names them."""
WAY = Way("sendonly", "actpass", "UDP/TLS/RTP/SAVPF", frozenset(RTCP_FLAGS))
SEND_TIME_ID = 2
FIRST_PAYLOAD_TYPE = 96
OPUS_PAYLOAD_TYPE = 111
"""The payload type of Opus in nearly every browser's own offers."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What was offered."""

    text: str
    media: tuple[Negotiated, ...]


def offer(tracks: Sequence[Outgoing], facts: Facts, mids: Mapping[str, str] | None = None) -> Offer:
    """Offer the tracks of a stream: the first of each kind. `mids` by kind."""
    named = MIDS if mids is None else mids
    chosen = [
        track
        for kind in (AUDIO, VIDEO)
        for track in [one for one in tracks if one.codec.kind == kind][:1]
    ]
    media = [_offered(track, named[track.codec.kind]) for track in chosen]
    lines: Lines = []
    for one in media:
        lines += media_lines(one, facts, WAY)
    session = session_lines(facts, [one.mid for one in media])
    return Offer("\r\n".join([*session, *lines]) + "\r\n", tuple(media))


def accept(offered: Offer, description: Description) -> Answer:
    """Read the answer to an offer. Raises BadDescription, NoCommonCodec where all is refused."""
    if len(description.sections) != len(offered.media):
        raise BadDescription("an answer has as many media sections as its offer")
    media = []
    for ours, theirs in zip(offered.media, description.sections, strict=True):
        if theirs.kind != ours.codec.kind or theirs.mid not in ("", ours.mid):
            raise BadDescription("the media sections of an answer are in its offer's order")
        agreed = None if theirs.rejected else _agreed(ours, theirs)
        if agreed is not None:
            check_transport(theirs)
            if theirs.setup != "active":
                raise BadDescription("a=setup must be active: we are the server of DTLS")
            media.append(agreed)
    if not media:
        raise NoCommonCodec("every media section was refused")
    if len(media) > 1 and not {one.mid for one in media} <= description.bundled:
        raise BadDescription("the media sections must be bundled (a=group:BUNDLE)")
    return Answer(offered.text, tuple(media))


def _offered(track: Outgoing, mid: str) -> Negotiated:
    video = track.codec.kind == VIDEO
    feedback = frozenset(FEEDBACK) if video else frozenset({"nack"})
    number = _payload_type(track)
    codec = track.codec
    if codec.name.lower() == "h264" and "packetization-mode" not in codec.parameters:
        codec = replace(codec, parameters={**codec.parameters, "packetization-mode": "1"})
    return Negotiated(track.id, codec, mid, number, track.ssrc, SEND_TIME_ID, feedback)


def _payload_type(track: Outgoing) -> int:
    name, rate = track.codec.name.upper(), track.codec.clock_rate
    for number, static in STATIC.items():
        if track.codec.kind == AUDIO and static == (name, rate):
            return number
    return OPUS_PAYLOAD_TYPE if track.codec.kind == AUDIO else FIRST_PAYLOAD_TYPE


def _agreed(ours: Negotiated, theirs: Section) -> Negotiated | None:
    if theirs.direction not in ("recvonly", "sendrecv"):
        return None
    for each in theirs.formats:
        if matches(ours.codec, each.codec):
            return replace(
                ours,
                payload_type=each.payload_type,
                send_time_id=theirs.send_time_id,
                feedback=frozenset(each.feedback) & ours.feedback,
            )
    return None
