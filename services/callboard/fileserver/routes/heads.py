"""Heads on their way through: what is taken out, what is put in (RFC 9110, 7.6). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from callboard.fileserver.head import Head
from callboard.fileserver.ports import PeerInfo
from callboard.fileserver.routes.framing import Body, Chunked, Length, Nothing, UntilClose
from callboard.fileserver.routes.policy import Forward

HEAD_BYTES_MAX = 64 * 1024
"""Of an answer's head."""

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te upgrade "
    b"http2-settings".split()
)
FORWARDED = frozenset(b"forwarded x-real-ip via x-client-cert x-client-cert-chain".split())
_FORGED = re.compile(rb"(?:x-forwarded-|x-ssl-|ssl-client-|x-client-cert)")
"""Fields by which programs behind would believe a client about itself: only we may say them."""

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


def request_head(head: Head, forward: Forward, peer: PeerInfo) -> bytes:
    """The request as the program behind gets it. An HTTP/1.0 client's stays one: its answer must
    come without chunks."""
    named = _named_in_connection(head.fields.get(b"connection", b""))
    lines = [b"%b %b HTTP/1.%d\r\n" % (head.method, forward.target, head.minor)]
    for name, value in head.headers:
        key = name.lower()
        if key in HOP_BY_HOP or key in named or key in FORWARDED or _FORGED.match(key):
            continue
        lines.append(b"%b: %b\r\n" % (name, value))
    if head.upgrade:
        lines.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % head.upgrade)
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
    body = _body(status, method, fields)
    connection = b", ".join(fields.get(b"connection", [])).lower()
    keep = minor == 1 and b"close" not in connection and not isinstance(body, UntilClose)
    return AnswerHead(status, line[3] or b"", minor, tuple(headers), body, keep)


def answer_head(answer: AnswerHead, forward: Forward, *, hsts: bytes, close: bool) -> bytes:
    """The answer as the client gets it; `hsts` is a whole field or b""."""
    connection = b", ".join(v for n, v in answer.headers if n.lower() == b"connection")
    named = _named_in_connection(connection)
    switching = answer.status == 101
    lines = [b"HTTP/1.1 %d %b\r\n" % (answer.status, answer.reason)]
    seen = set()
    for name, value in answer.headers:
        key = name.lower()
        if key in HOP_BY_HOP and not (switching and key == b"upgrade"):
            continue
        if key in named and key != b"upgrade":
            continue
        if key in (b"strict-transport-security", b"x-content-type-options"):
            continue
        if forward.plain_text and key == b"content-type":
            continue
        seen.add(key)
        lines.append(b"%b: %b\r\n" % (name, value))
    if switching:
        lines.append(b"Connection: Upgrade\r\n")
    elif answer.status >= 200:
        lines += [NOSNIFF, hsts]
        lines.append(b"" if b"content-security-policy" in seen else SANDBOX)
        lines.append(TEXT if forward.plain_text else b"")
        lines.append(b"Connection: close\r\n" if close else b"")
    lines.append(b"\r\n")
    return b"".join(lines)


def _body(status: int, method: bytes, fields: dict[bytes, list[bytes]]) -> Body:
    """RFC 9112, 6.3."""
    if method == b"HEAD" or status < 200 or status in (204, 304):
        return Nothing()
    codings, lengths = fields.get(b"transfer-encoding"), set(fields.get(b"content-length", ()))
    if codings is not None:
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
    kept = {b"host", b"authorization", b"cookie", b"content-length", b"transfer-encoding"}
    return frozenset(each.strip() for each in value.lower().split(b",")) - kept - {b""}
