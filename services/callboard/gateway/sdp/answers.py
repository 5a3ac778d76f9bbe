"""The answer to a viewer's offer, and to a publisher's. Pure.

One transport carries everything (BUNDLE, rtcp-mux): we are ICE-lite, and DTLS' server. What the
gateway does not have is rejected section by section (RFC 3264, 6; RFC 9429, 5.3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from callboard.gateway.sdp.codecs import AUDIO, VIDEO, Codec, likeness, matches
from callboard.gateway.sdp.offers import BadDescription, Description, Format, Section
from callboard.gateway.sdp.writing import (
    Facts,
    Lines,
    Way,
    media_lines,
    rejected_lines,
    session_lines,
)

FEEDBACK = ("nack", "nack pli", "ccm fir", "goog-remb")
"""What is understood of RTCP feedback, RFC 4585 and 5104 and draft-alvestrand-rmcat-remb."""
PROTOCOLS = ("UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF")


class NoCommonCodec(BadDescription):
    """Nothing that is offered can be used: 406, and an offer of what there is."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A track that viewers may have."""

    id: str
    codec: Codec
    ssrc: int
    """For this viewer."""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """A media section that was agreed on."""

    track: str
    """The track's id; of a publisher's: audio or video."""
    codec: Codec
    mid: str
    payload_type: int
    ssrc: int
    """Of a viewer's: ours. Of a publisher's: what the offer says, 0 if nothing."""
    send_time_id: int
    """Of the header extension abs-send-time; 0: none."""
    feedback: frozenset[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was agreed on."""

    text: str
    media: tuple[Negotiated, ...]


def answer(offer: Description, tracks: Sequence[Outgoing], facts: Facts) -> Answer:
    """Answer a viewer's offer with the tracks of a stream. Raises BadDescription, NoCommonCodec.

    Video that is asked for and cannot be had is no success, even if there is sound.
    """
    left = {track.id: track for track in tracks}
    codecs = ", ".join(track.codec.rtpmap for track in tracks)

    def choose(section: Section) -> Negotiated | None:
        if section.direction not in ("recvonly", "sendrecv"):
            return None
        for track in [one for one in left.values() if one.codec.kind == section.kind]:
            chosen = _best(track.codec, section.formats)
            if chosen is not None:
                del left[track.id]
                agreed = replace(chosen.codec, parameters=_sent_parameters(track.codec, chosen))
                return _negotiated(section, chosen, track.id, agreed, track.ssrc)
            if section.kind == VIDEO:
                raise NoCommonCodec(f"this stream is {codecs}, which is not offered")
        return None

    return _answer(offer, choose, facts, "sendonly", f"this stream is {codecs}")


def receive(offer: Description, accepted: Iterable[str], facts: Facts) -> Answer:
    """Answer a publisher's offer: of each kind the first section, its first codec of those that
    are `accepted` (names in lower case). Raises BadDescription, NoCommonCodec.

    Simulcast (a=simulcast, a=rid) is not answered, so that one encoding is sent (RFC 8853, 5.3.2).
    """
    names = list(accepted)
    seen: set[str] = set()

    def choose(section: Section) -> Negotiated | None:
        if section.direction not in ("sendonly", "sendrecv") or section.kind in seen:
            return None
        chosen = next((each for each in section.formats if _publishable(each, names)), None)
        if chosen is None:
            return None
        seen.add(section.kind)
        ssrc = section.ssrcs[0] if section.ssrcs else 0
        return _negotiated(section, chosen, section.kind, chosen.codec, ssrc)

    return _answer(offer, choose, facts, "recvonly", f"accepted are {', '.join(names)}")


def check_transport(section: Section) -> None:
    """Whether a section can be carried. Raises BadDescription."""
    if "rtcp-mux" not in section.rtcp:
        raise BadDescription("RTCP must be multiplexed (a=rtcp-mux)")
    if not section.ufrag or not section.password:
        raise BadDescription("it has no a=ice-ufrag and a=ice-pwd")
    if not section.fingerprints:
        raise BadDescription("it has no a=fingerprint of SHA-256 or better, or no a=setup")
    if section.setup not in ("actpass", "active"):
        raise BadDescription("a=setup must be actpass or active: we are the server of DTLS")


def _answer(
    offer: Description,
    choose: Callable[[Section], Negotiated | None],
    facts: Facts,
    direction: str,
    wanted: str,
) -> Answer:
    media: list[Negotiated] = []
    lines: Lines = []
    for section in offer.sections:
        agreed = None
        if _usable(section) and _fits_bundle(offer, media, section):
            agreed = choose(section)
        if agreed is None:
            lines += rejected_lines(section)
            continue
        check_transport(section)
        media.append(agreed)
        way = Way(direction, "passive", section.protocol, section.rtcp)
        lines += media_lines(agreed, facts, way)
    if not media:
        raise NoCommonCodec(f"nothing that is offered can be used: {wanted}")
    if len({one.payload_type for one in media}) < len(media):
        raise BadDescription("two bundled media sections have the same payload type")
    mids = [one.mid for one in media if one.mid in offer.bundled]
    return Answer("\r\n".join([*session_lines(facts, mids), *lines]) + "\r\n", tuple(media))


def _usable(section: Section) -> bool:
    return section.kind in (AUDIO, VIDEO) and section.protocol in PROTOCOLS and not section.rejected


def _fits_bundle(offer: Description, media: Sequence[Negotiated], section: Section) -> bool:
    """There is one transport: further sections must be bundled with the first."""
    return not media or (bool(section.mid) and {media[0].mid, section.mid} <= offer.bundled)


def _best(stream: Codec, formats: Sequence[Format]) -> Format | None:
    """The offered format that is most like the stream; of equals the first."""
    fitting = [each for each in formats if matches(stream, each.codec)]
    return max(fitting, key=lambda each: likeness(stream, each.codec), default=None)


def _sent_parameters(stream: Codec, chosen: Format) -> dict[str, str]:
    """a=fmtp of the answer: what was offered, and that stereo comes (RFC 7587, 6.1)."""
    parameters = dict(chosen.codec.parameters)
    if stream.name.lower() == "opus":
        stereo = stream.parameters.get("sprop-stereo", stream.parameters.get("stereo", "0"))
        if stereo == "1":
            parameters |= {"stereo": "1", "sprop-stereo": "1"}
    return parameters


CLOCKS = {VIDEO: (90_000, 1), AUDIO: (48_000, 2)}
"""Clock rate and channels of what is published (RFC 6184, 5.1; RFC 7587, 7): no other is one."""


def _publishable(offered: Format, names: Sequence[str]) -> bool:
    codec = offered.codec
    if codec.name.lower() not in names:
        return False
    if (codec.clock_rate, codec.channels) != CLOCKS[codec.kind]:
        return False
    # what a viewer is told of the stream must be what comes: no single-NAL-unit H264
    return matches(replace(codec, parameters=_published(codec)), codec)


def _published(codec: Codec) -> dict[str, str]:
    parameters = dict(codec.parameters)
    if codec.name.lower() == "h264":
        parameters["packetization-mode"] = "1"
    return parameters


def _negotiated(
    section: Section, chosen: Format, track: str, codec: Codec, ssrc: int
) -> Negotiated:
    feedback = frozenset(chosen.feedback) & frozenset(FEEDBACK)
    return Negotiated(
        track, codec, section.mid, chosen.payload_type, ssrc, section.send_time_id, feedback
    )
