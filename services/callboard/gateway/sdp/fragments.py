"""Fragments of descriptions that carry ICE alone: application/trickle-ice-sdpfrag. Pure.

Source: RFC 8840, section 9; RFC 9725, 4.3.2 and 4.3.3. We are ICE-lite and learn a peer's addresses
from its checks: candidates are counted, and otherwise ignored (as a candidate must be that is not
supported).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from callboard.gateway.sdp.writing import Facts, ice_lines

BYTES_MAX = 64 * 1024
LINES_MAX = 2048

_UFRAG = re.compile(r"[A-Za-z0-9+/=_-]{4,256}")
_PASSWORD = re.compile(r"[A-Za-z0-9+/=_-]{22,256}")
_LINE = re.compile(r"[a-z]=[^\x00-\x08\x0b-\x1f\x7f]*")


class BadFragment(ValueError):
    """What is no fragment; the text says why."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a fragment says."""

    ufrag: str
    """"" if it has none; so is the password then."""
    password: str
    candidates: int
    ended: bool
    """There will be no more candidates."""
    mids: tuple[str, ...]


def parse(body: bytes) -> Fragment:
    """Read a fragment. Raises BadFragment, and nothing else, whatever the bytes are."""
    if len(body) > BYTES_MAX:
        raise BadFragment(f"it has more than {BYTES_MAX} bytes")
    try:
        lines = body.decode().replace("\r\n", "\n").rstrip("\n").split("\n")
    except UnicodeDecodeError:
        raise BadFragment("it is not UTF-8") from None
    if len(lines) > LINES_MAX:
        raise BadFragment(f"it has more than {LINES_MAX} lines")
    credentials: set[str] = set()
    passwords: set[str] = set()
    mids: list[str] = []
    candidates, ended, media = 0, False, False
    for line in lines:
        if not _LINE.fullmatch(line):
            raise BadFragment("a line is not of the form x=…")
        key, _, value = line.partition(":")
        media |= line.startswith("m=")
        if key == "a=ice-ufrag":
            credentials.add(value)
        elif key == "a=ice-pwd":
            passwords.add(value)
        elif key == "a=mid":
            mids.append(value)
        elif key == "a=candidate":
            candidates += 1
        elif line == "a=end-of-candidates":
            ended = True
    if candidates and not media:
        raise BadFragment("candidates must stand in a media section (m=)")
    return Fragment(*_credentials(credentials, passwords), candidates, ended, tuple(mids))


def _credentials(ufrags: set[str], passwords: set[str]) -> tuple[str, str]:
    """The one pair of them: all media sections are bundled."""
    if not ufrags and not passwords:
        return "", ""
    if len(ufrags) != 1 or len(passwords) != 1:
        raise BadFragment("it must have one a=ice-ufrag and one a=ice-pwd, or none of them")
    (ufrag,), (password,) = ufrags, passwords
    if not _UFRAG.fullmatch(ufrag) or not _PASSWORD.fullmatch(password):
        raise BadFragment("malformed a=ice-ufrag or a=ice-pwd")
    return ufrag, password


def write(facts: Facts, kind: str, mid: str, payload_type: int) -> str:
    """The answer to an ICE restart: new credentials and all candidates, for the section that the
    others are bundled with (RFC 9725, 4.3.3)."""
    lines = ["a=ice-lite", *ice_lines(facts), f"m={kind} 9 UDP/TLS/RTP/SAVPF {payload_type}"]
    if mid:
        lines.append(f"a=mid:{mid}")
    lines += [f"a={candidate}" for candidate in facts.candidates]
    return "\r\n".join([*lines, "a=end-of-candidates"]) + "\r\n"
