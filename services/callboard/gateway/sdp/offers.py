"""Descriptions from outside, as far as anything here needs them. Pure.

aiortc's parser reads them; it was made for descriptions that are right, and raises whatever comes
of the others. Here there is one error, and bounds on what the parser may be made to do: some lines
of a description are compared with all of some others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.sdp import MediaDescription, SessionDescription

from callboard.gateway.sdp.codecs import AUDIO, STATIC, VIDEO, Codec

BYTES_MAX = 64 * 1024
"""Of a description; Chromium's offer of ten transceivers has 60,000."""
SECTIONS_MAX = 64
COMPARISONS_MAX = 65_536
"""Of a=rtpmap lines with a=rtcp-fb and a=fmtp lines, and of a=ssrc lines with each other."""
FINGERPRINTS_MAX = 8

ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
ONE_BYTE_IDS = range(1, 15)
"""Identifiers of header extensions in the one-byte form (RFC 8285, 4.2)."""

RTCP_FLAGS = ("rtcp-mux", "rtcp-mux-only", "rtcp-rsize")

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,64}")
"""RFC 8866, 9: token."""
_PARAMETER = re.compile(r"[\x21-\x7e]{0,512}")
_ICE = re.compile(r"[A-Za-z0-9+/=_-]{4,256}")
"""RFC 8839, 5.4: ice-char, and what some clients add to them."""
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){15,63}")
_HASHES = frozenset({"sha-256", "sha-384", "sha-512"})
_LINE = re.compile(r"\r?\n")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029]")
"""Besides controls, what str.splitlines takes for the end of a line."""


class BadDescription(ValueError):
    """A description that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Format:
    """One payload type of a media section."""

    payload_type: int
    codec: Codec
    feedback: tuple[str, ...]
    """Of a=rtcp-fb: `nack`, `nack pli`, …"""


@dataclass(frozen=True, slots=True)
class Section:
    """One media section (m=)."""

    kind: str
    protocol: str
    """UDP/TLS/RTP/SAVPF, …"""
    first_format: str
    mid: str
    """"" if it has none."""
    direction: str
    """sendrecv, sendonly, recvonly, inactive."""
    rejected: bool
    """Its port is 0, and it is not bundle-only."""
    formats: tuple[Format, ...]
    """In the order of preference, those with a known payload type alone; none but of audio and
    video."""
    send_time_id: int
    """Of the header extension abs-send-time; 0: not offered."""
    ssrcs: tuple[int, ...]
    rtcp: frozenset[str]
    """Of RTCP_FLAGS."""
    setup: str
    """active, passive, actpass; "" if it is not said."""
    ufrag: str
    password: str
    fingerprints: tuple[str, ...]
    """`sha-256 AA:BB:…`, those of hashes that are good enough."""


@dataclass(frozen=True, slots=True)
class Description:
    """An offer or an answer."""

    sections: tuple[Section, ...]
    bundled: frozenset[str]
    """Mids of the (first) BUNDLE group."""

    @property
    def ufrag(self) -> str:
        """Of the first section that has one."""
        return next((section.ufrag for section in self.sections if section.ufrag), "")

    @property
    def password(self) -> str:
        """Of the same section."""
        return next((section.password for section in self.sections if section.ufrag), "")


def parse(body: bytes) -> Description:
    """Read a description. Raises BadDescription, and nothing else, whatever the bytes are."""
    text = _text(body)
    try:
        session = SessionDescription.parse(text)
        sections = tuple(_sections(session, text))
    except BadDescription:
        raise
    except Exception as problem:  # an assertion, StopIteration, KeyError, TypeError, …
        raise BadDescription(f"not a session description: {problem or type(problem)}") from None
    if not sections:
        raise BadDescription("it has no media section (m=)")
    mids = [section.mid for section in sections if section.mid]
    if len(set(mids)) != len(mids):
        raise BadDescription("two media sections have the same mid")
    bundles = (group for group in session.group if group.semantic == "BUNDLE")
    bundle = next((frozenset(map(str, group.items)) for group in bundles), frozenset[str]())
    return Description(sections, bundle)


def _text(body: bytes) -> str:
    """The text of a description that the parser may be given."""
    if len(body) > BYTES_MAX:
        raise BadDescription(f"it has more than {BYTES_MAX} bytes")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise BadDescription("it is not UTF-8") from None
    if _FORBIDDEN.search(text):
        raise BadDescription("it has control characters")
    if not text.startswith("v=0"):
        raise BadDescription("it does not begin with v=0")
    sections = re.split(r"^m=", text, flags=re.MULTILINE)
    if len(sections) > SECTIONS_MAX + 1:
        raise BadDescription(f"it has more than {SECTIONS_MAX} media sections")
    if sum(map(_comparisons, sections)) > COMPARISONS_MAX:
        raise BadDescription("it has too many payload types or sources")
    return text


def _comparisons(section: str) -> int:
    maps, sources = section.count("a=rtpmap:"), section.count("a=ssrc:")
    others = section.count("a=rtcp-fb:") + section.count("a=fmtp:")
    return maps * others + sources * sources // 2


def _sections(session: SessionDescription, text: str) -> Iterator[Section]:
    raw = [_LINE.split(part) for part in re.split(r"^m=", text, flags=re.MULTILINE)]
    for media, lines in zip(session.media, raw[1:], strict=True):
        yield _section(media, frozenset(lines), _setup(lines) or _setup(raw[0]))


def _section(media: MediaDescription, lines: frozenset[str], setup: str) -> Section:
    kind = _token(media.kind, "media")
    formats = tuple(_formats(media)) if kind in (AUDIO, VIDEO) else ()
    dtls = media.dtls.fingerprints if media.dtls is not None else []
    fingerprints = tuple(
        f"{one.algorithm.lower()} {one.value.upper()}"
        for one in dtls[:FINGERPRINTS_MAX]
        if one.algorithm.lower() in _HASHES and _FINGERPRINT.fullmatch(one.value)
    )
    assert media.ice is not None, "the parser makes one of each section"
    ufrag, password = media.ice.usernameFragment, media.ice.password
    if (ufrag and not _ICE.fullmatch(ufrag)) or (password and not _ICE.fullmatch(password)):
        raise BadDescription("malformed a=ice-ufrag or a=ice-pwd")
    return Section(
        kind,
        media.profile,
        _token(str(media.fmt[0]), "format"),
        _token(media.rtp.muxId, "mid") if media.rtp.muxId else "",
        media.direction or "sendrecv",
        media.port == 0 and "a=bundle-only" not in lines,
        formats,
        _send_time_id(media),
        tuple(one.ssrc for one in media.ssrc if 0 < one.ssrc < 1 << 32),
        frozenset(flag for flag in RTCP_FLAGS if f"a={flag}" in lines),
        setup,
        ufrag or "",
        password or "",
        fingerprints,
    )


def _formats(media: MediaDescription) -> Iterator[Format]:
    """In the order of the m= line, which is that of preference (RFC 3264, 5.1)."""
    known: dict[int, RTCRtpCodecParameters] = {}
    for codec in media.rtp.codecs:
        known.setdefault(int(codec.payloadType or 0), codec)
    for number in dict.fromkeys(media.fmt):
        if not isinstance(number, int) or not 0 <= number < 128:
            continue
        parameters = known.get(number)
        if parameters is not None:
            yield Format(number, _codec(media.kind, parameters), _feedback(parameters))
        elif media.kind == AUDIO and number in STATIC:
            name, rate = STATIC[number]
            yield Format(number, Codec(AUDIO, name, rate), ())


def _codec(kind: str, codec: RTCRtpCodecParameters) -> Codec:
    told = ((key.strip().lower(), value) for key, value in codec.parameters.items())
    texts = {key: "" if value is None else str(value).strip() for key, value in told}
    # what cannot be repeated in an answer is left out
    parameters = {
        key: text
        for key, text in texts.items()
        if _TOKEN.fullmatch(key) and _PARAMETER.fullmatch(text)
    }
    name = _token(codec.name, "codec")
    return Codec(kind, name, codec.clockRate, codec.channels or 1, parameters)


def _feedback(codec: RTCRtpCodecParameters) -> tuple[str, ...]:
    found = (f"{one.type} {one.parameter or ''}".strip() for one in codec.rtcpFeedback)
    return tuple(dict.fromkeys(found))


def _send_time_id(media: MediaDescription) -> int:
    for extension in media.rtp.headerExtensions:
        if extension.uri == ABS_SEND_TIME and extension.id in ONE_BYTE_IDS:
            return int(extension.id)
    return 0


def _setup(lines: list[str]) -> str:
    return next((line[8:].strip() for line in lines if line.startswith("a=setup:")), "")


def _token(text: str, what: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise BadDescription(f"malformed {what}")
    return text
