"""How descriptions of ours are written, line by line. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from callboard.gateway.sdp.codecs import Codec
from callboard.gateway.sdp.offers import ABS_SEND_TIME, RTCP_FLAGS, Section

Lines = list[str]
ORDER_OF_FEEDBACK = ("goog-remb", "ccm fir", "nack", "nack pli")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a description says of the transport, and of who sends."""

    ufrag: str
    password: str
    fingerprint: str
    """`sha-256 AA:BB:…`."""
    candidates: tuple[str, ...]
    """`candidate:…`, without `a=`; the first is the default one."""
    session_id: int
    """Of o=, less than 2⁶³."""
    stream: str = "live"
    """Of a=msid: one, so that the browser plays the tracks in step."""
    cname: str = "callboard"


@dataclass(frozen=True, slots=True)
class Way:
    """How a media section is carried."""

    direction: str
    setup: str
    protocol: str
    rtcp: frozenset[str]
    """Of RTCP_FLAGS."""


class Media(Protocol):
    """What is written of a media section."""

    @property
    def codec(self) -> Codec: ...
    @property
    def mid(self) -> str: ...
    @property
    def payload_type(self) -> int: ...
    @property
    def ssrc(self) -> int: ...
    @property
    def send_time_id(self) -> int: ...
    @property
    def feedback(self) -> frozenset[str]: ...


def session_lines(facts: Facts, bundled: list[str]) -> Lines:
    """The lines before the first media section."""
    lines = [
        "v=0",
        f"o=- {facts.session_id} 1 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=ice-lite",
        "a=msid-semantic:WMS *",
    ]
    if bundled:
        lines.insert(4, f"a=group:BUNDLE {' '.join(bundled)}")
    return lines


def media_lines(media: Media, facts: Facts, way: Way) -> Lines:
    """A media section. What we send has its SSRC and msid."""
    number, codec = media.payload_type, media.codec
    kind = codec.kind
    host, port = default_address(facts.candidates)
    lines = [
        f"m={kind} {port} {way.protocol} {number}",
        f"c=IN {'IP6' if ':' in host else 'IP4'} {host}",
    ]
    if media.mid:
        lines.append(f"a=mid:{media.mid}")
    lines.append(f"a={way.direction}")
    lines += [f"a={flag}" for flag in RTCP_FLAGS if flag in way.rtcp]
    lines += ice_lines(facts)
    lines += [f"a=fingerprint:{facts.fingerprint}", f"a=setup:{way.setup}"]
    if media.send_time_id:
        lines.append(f"a=extmap:{media.send_time_id} {ABS_SEND_TIME}")
    lines.append(f"a=rtpmap:{number} {codec.rtpmap}")
    lines += [f"a=rtcp-fb:{number} {each}" for each in ORDER_OF_FEEDBACK if each in media.feedback]
    if codec.fmtp:
        lines.append(f"a=fmtp:{number} {codec.fmtp}")
    if way.direction == "sendonly":
        msid = f"{facts.stream} {kind}"
        lines += [f"a=msid:{msid}", f"a=ssrc:{media.ssrc} cname:{facts.cname}"]
        lines.append(f"a=ssrc:{media.ssrc} msid:{msid}")
    lines += [f"a={candidate}" for candidate in facts.candidates]
    lines.append("a=end-of-candidates")
    return lines


def ice_lines(facts: Facts) -> Lines:
    """The credentials."""
    return [f"a=ice-ufrag:{facts.ufrag}", f"a=ice-pwd:{facts.password}"]


def rejected_lines(section: Section) -> Lines:
    """A section that is not wanted: port 0 (RFC 3264, 6)."""
    lines = [f"m={section.kind} 0 {section.protocol} {section.first_format}", "c=IN IP4 0.0.0.0"]
    if section.mid:
        lines.append(f"a=mid:{section.mid}")
    return [*lines, "a=inactive"]


def default_address(candidates: tuple[str, ...]) -> tuple[str, int]:
    """Where media would go without ICE (RFC 8839, 4.2.1): the first candidate's address."""
    for candidate in candidates:
        fields = candidate.split()
        if len(fields) > 5 and fields[5].isdecimal():
            return fields[4], int(fields[5])
    return "0.0.0.0", 9
