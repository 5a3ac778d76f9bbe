"""Heads on their way through: what is taken out, what is put in (RFC 9110, 7.6). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from callboard.fileserver.head import Head
from callboard.fileserver.ports import PeerInfo
from callboard.fileserver.routes.framing import Body, Chunked, Length, Nothing, UntilClose
from callboard.fileserver.routes.policy import AGENT, Forward

HEAD_BYTES_MAX = 64 * 1024
"""Of an answer's head."""

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te upgrade "
    b"http2-settings".split()
)
OURS = frozenset(b"strict-transport-security x-content-type-options".split())
"""What we say of every answer ourselves."""
FORWARDED = frozenset(b"forwarded x-real-ip via x-client-cert x-client-cert-chain".split())
_FORGED = re.compile(rb"(?:x[-_]forwarded[-_]|x[-_]ssl[-_]|ssl[-_]client[-_]|x[-_]client[-_]cert)")
"""Fields by which programs behind would believe a client about itself: only we may say them.
Some readers take an underscore for a hyphen."""

_KEPT = frozenset(
    b"host origin authorization cookie content-length content-type transfer-encoding expect".split()
) | {b""}

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([^\r\n]*))?\r\n")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\0\r\n]*)\r\n")

NOSNIFF = b"X-Content-Type-Options: nosniff\r\n"
SANDBOX = b"Content-Security-Policy: sandbox\r\n"
TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"


class BadAnswer(ValueError):
    """An upstream's answer that is no HTTP/1.1, or whose end cannot be told."""


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """The head of an upstream's answer."""

    status: int
    reason: bytes
    minor: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: Body
    keep_alive: bool
    """Whether the upstream's connection may be used again once the body is over."""


def request_head(head: Head, forward: Forward, peer: PeerInfo, authority: bytes) -> bytes:
    """The request as the program behind gets it. An HTTP/1.0 client's stays one: its answer must
    come without chunks.

    An agent is called by its own `authority` ("agent-1:8501"), as its guard knows that name
    whatever ours are; an Origin was judged by ours and would not fit that name. Hub and gateway
    make URLs and candidates of the name that the client used, and get it as it was.
    """
    named = _named_in_connection(head.fields.get(b"connection", b""))
    left_out = HOP_BY_HOP | FORWARDED | named
    lines = [b"%b %b HTTP/1.%d\r\n" % (head.method, forward.target, head.minor)]
    if forward.service == AGENT:
        left_out |= {b"host", b"origin"}
        lines.append(b"Host: %b\r\n" % authority)
    for name, value in head.headers:
        key = name.lower()
        if key not in left_out and not _FORGED.match(key):
            lines.append(b"%b: %b\r\n" % (name, value))
    if forward.websocket:
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    lines.append(
        b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: %b\r\n"
        % (peer.address.encode(), head.host)
    )
    if forward.prefix:
        lines.append(b"X-Forwarded-Prefix: %b\r\n" % forward.prefix)
    lines.append(b"\r\n")
    return b"".join(lines)


def end_of_answer_head(data: bytes | bytearray) -> int:
    """Where an answer's head ends; 0 while it is not whole. Raises BadAnswer."""
    end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
    if end >= 0:
        return end + 4
    if len(data) >= HEAD_BYTES_MAX:
        raise BadAnswer(f"its head is longer than {HEAD_BYTES_MAX} bytes")
    return 0


def parse_answer(data: bytes, method: bytes) -> AnswerHead:
    """Read a whole head of an answer to `method`. Raises BadAnswer."""
    line = _STATUS.match(data)
    if line is None:
        raise BadAnswer("it does not begin with a status line")
    headers: list[tuple[bytes, bytes]] = []
    at = line.end()
    while data[at : at + 2] != b"\r\n":
        field = _FIELD.match(data, at)
        if field is None:
            raise BadAnswer("malformed header field")
        headers.append((field[1], field[2].rstrip(b" \t")))
        at = field.end()
    status, minor = int(line[2]), int(line[1])
    fields: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        fields.setdefault(name.lower(), []).append(value)
    body = _body(status, minor, method, fields)
    connection = b", ".join(fields.get(b"connection", [])).lower()
    keep = minor == 1 and b"close" not in connection and not isinstance(body, UntilClose)
    return AnswerHead(status, line[3] or b"", minor, tuple(headers), body, keep)


def answer_head(answer: AnswerHead, forward: Forward, *, hsts: bytes, close: bool) -> bytes:
    """The answer as the client gets it; `hsts` is a whole field or b""."""
    connection = b", ".join(v for n, v in answer.headers if n.lower() == b"connection")
    left_out = HOP_BY_HOP | OURS | _named_in_connection(connection)
    switching = answer.status == 101
    if switching:
        left_out -= {b"upgrade"}
    if answer.status < 200 or answer.status == 204:
        left_out |= {b"content-length", b"transfer-encoding"}  # there is no body to have them
    if forward.plain_text:
        left_out |= {b"content-type", b"content-security-policy"}
    lines = [b"HTTP/1.1 %d %b\r\n" % (answer.status, answer.reason)]
    own_policy = False
    for name, value in answer.headers:
        key = name.lower()
        if key not in left_out:
            own_policy |= key == b"content-security-policy"
            lines.append(b"%b: %b\r\n" % (name, value))
    if switching:
        lines.append(b"Connection: Upgrade\r\n")
    elif answer.status >= 200:
        lines += [NOSNIFF, hsts]
        lines.append(b"" if own_policy else SANDBOX)
        lines.append(TEXT if forward.plain_text else b"")
        lines.append(b"Connection: close\r\n" if close else b"")
    lines.append(b"\r\n")
    return b"".join(lines)


def _body(status: int, minor: int, method: bytes, fields: dict[bytes, list[bytes]]) -> Body:
    """RFC 9112, 6.3."""
    if method == b"HEAD" or status < 200 or status in (204, 304):
        return Nothing()
    codings, lengths = fields.get(b"transfer-encoding"), set(fields.get(b"content-length", ()))
    if codings is not None:
        if not minor:
            raise BadAnswer("it has a transfer coding in HTTP/1.0")
        if lengths:
            raise BadAnswer("it has both Content-Length and Transfer-Encoding")
        if b", ".join(codings).lower() != b"chunked":
            raise BadAnswer("it has a transfer coding other than chunked")
        return Chunked()
    if not lengths:
        return UntilClose()
    (length, *others) = lengths
    if others or not length.isdigit() or len(length) > 18:
        raise BadAnswer("malformed Content-Length")
    return Length(int(length))


def _named_in_connection(value: bytes) -> frozenset[bytes]:
    """Field names that a Connection field declares to be for this hop alone; a client must not
    take out what others rely on that way."""
    if not value:
        return frozenset()
    return frozenset(each.strip() for each in value.lower().split(b",")) - _KEPT
