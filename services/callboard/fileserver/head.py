"""Request heads: a strict reader of request line and fields (RFC 9112). Pure.

Whatever two readers could understand differently is refused: folded lines, bare line feeds, space
before a colon, two lengths, a length beside a transfer coding, no Host or two. So what is relayed
means to the program behind what it meant here.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import msgspec

HEAD_BYTES_MAX = 16 * 1024
"""Request line and fields together."""
TARGET_BYTES_MAX = 8 * 1024
FIELDS_MAX = 100
KEPT_MAX = 1024
KEPT_BYTES_MAX = 1024
"""Of heads kept, and of one of them."""

_LINE = re.compile(
    # the target has neither " # < > \ nor anything that is not printed
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!$-;=?-\[\]-~]+) HTTP/1\.([01])\r\n"
)
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\0-\x08\x0a-\x1f\x7f]*)\r\n")
_FIELDS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\0-\x08\x0a-\x1f\x7f]*+\r\n)*+\r\n")
_OTHER_VERSION = re.compile(rb"[^ \r\n]+ [^ \r\n]+ HTTP/(?!1\.[01]\r)\d(?:\.\d)?\r\n")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(rb"[\0-\x1f\x7f]")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~-]+)(?::[0-9]{1,5})?")
_LONE_LINE_FEED = re.compile(rb"(?<!\r)\n")

_ONCE = frozenset(
    b"host content-length transfer-encoding content-type expect range if-range if-modified-since "
    b"if-unmodified-since origin authorization sec-fetch-site upgrade sec-websocket-key "
    b"sec-websocket-version".split()
)
"""Fields that mean something only when they stand once."""


_CREDENTIALS = frozenset(b"authorization cookie proxy-authorization x-consul-token".split())


class BadHead(ValueError):
    """A request that is not answered further: its status (4xx, 5xx), and why in a few words.

    The connection cannot go on: where the next request begins is not known.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Head(msgspec.Struct, frozen=True, gc=False):
    """A request without its body."""

    method: bytes
    target: bytes
    """In origin form (`/a%20b?c`), as sent; of an absolute form the part after the authority."""
    path: bytes
    """Of the target, as sent: `/a%20b`."""
    query: bytes
    """Of the target, as sent, after the `?`."""
    decoded: bytes
    """The path, percent-decoded once. Not normalised: `..` is still `..`."""
    minor: int
    """0 or 1: HTTP/1.0 or HTTP/1.1."""
    headers: list[tuple[bytes, bytes]]
    """Names and values in their order, as sent, without the space around values."""
    fields: dict[bytes, bytes]
    """The same by lower-case name; values of a repeated name joined by `, `."""
    host: bytes
    """The Host field: name or address, with a port if it had one."""
    content_length: int
    """Bytes of the body; 0 without one and when it is chunked."""
    chunked: bool
    """The body comes in chunks (RFC 9112, 7.1)."""
    keep_alive: bool
    """Whether the client wants the connection to go on."""
    upgrade: bytes
    """What the client would change to (`websocket`), in lower case; b"" for nothing."""

    @property
    def has_body(self) -> bool:
        """Whether a body follows the head."""
        return self.chunked or self.content_length > 0


def end_of_head(data: bytes | bytearray) -> int:
    """Where the first head in `data` ends (behind its empty line); 0 while it is not whole.

    Raises BadHead as soon as the beginning cannot become a head that is taken.
    """
    end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
    if end >= 0:
        return end + 4
    if len(data) >= HEAD_BYTES_MAX:
        if data.find(b"\n", 0, HEAD_BYTES_MAX) < 0:
            raise BadHead(414, "the request line is too long")
        raise BadHead(431, f"the head is longer than {HEAD_BYTES_MAX} bytes")
    if _LONE_LINE_FEED.search(data):
        raise BadHead(400, "a line does not end with CR LF")
    return 0


def parse(data: bytes) -> Head:
    """Read a whole head, its empty line included. Raises BadHead."""
    if len(data) > HEAD_BYTES_MAX:
        raise BadHead(431, f"the head is longer than {HEAD_BYTES_MAX} bytes")
    line = _LINE.match(data)
    if line is None:
        raise _bad_line(data)
    method, target, minor = line.groups()
    if not _FIELDS.fullmatch(data, line.end()):
        raise BadHead(400, "malformed header field")
    headers = _FIELD.findall(data, line.end())
    if len(headers) > FIELDS_MAX:
        raise BadHead(431, f"more than {FIELDS_MAX} header fields")
    if b" \r\n" in data or b"\t\r\n" in data:
        headers = [(name, value.rstrip(b" \t")) for name, value in headers]
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        key = name.lower()
        if key in fields:
            if key in _ONCE:
                raise BadHead(400, f"more than one {key.decode()} header field")
            value = fields[key] + b", " + value  # noqa: PLW2901 - joined, RFC 9110 5.3
        fields[key] = value
    host = fields.get(b"host", b"")
    if not _HOST.fullmatch(host):
        raise BadHead(400, "the Host header field is missing or malformed")
    if target[:1] != b"/":
        target = _origin_form(method, target, host)
    if len(target) > TARGET_BYTES_MAX:
        raise BadHead(414, f"the request target is longer than {TARGET_BYTES_MAX} bytes")
    path, _, query = target.partition(b"?")
    length, chunked = 0, False
    if b"content-length" in fields or b"transfer-encoding" in fields:
        length, chunked = _framing(fields, minor)
    keep_alive, upgrade = minor == b"1", b""
    if b"connection" in fields:
        keep_alive, upgrade = _connection(fields, minor)
    return Head(
        method, target, path, query, decode_path(path) if b"%" in path else path,
        int(minor), headers, fields, host, length, chunked, keep_alive, upgrade,
    )  # fmt: skip


class Heads:
    """Reads heads, and keeps what it made of some: a page that is opened again, or polled, sends
    the same bytes again. Heads with credentials in them are not kept; nor are those with a query,
    where tokens may stand too."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Head] = {}

    def parse(self, data: bytes) -> Head:
        """As `parse`. What it answers is shared: nobody changes it."""
        kept = self._kept.get(data)
        if kept is not None:
            return kept
        head = parse(data)
        secret = head.query or not _CREDENTIALS.isdisjoint(head.fields)
        if len(data) <= KEPT_BYTES_MAX and not secret:
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            self._kept[data] = head
        return head


def decode_path(path: bytes) -> bytes:
    """Percent-decode once (RFC 3986, 2.1). Raises BadHead for bad escapes and control bytes."""
    if _BAD_ESCAPE.search(path):
        raise BadHead(400, "bad percent escape in the request target")
    decoded = unquote_to_bytes(path)
    if _CONTROL.search(decoded):
        raise BadHead(400, "control character in the request target")
    return decoded


def _bad_line(data: bytes) -> BadHead:
    if _OTHER_VERSION.match(data):
        return BadHead(505, "HTTP/1.1 is spoken here")
    return BadHead(400, "malformed request line")


def _origin_form(method: bytes, target: bytes, host: bytes) -> bytes:
    """The origin form of a target that does not begin with a slash (RFC 9112, 3.2)."""
    if target == b"*" and method == b"OPTIONS":
        return b"*"
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise BadHead(400, "malformed request target")
    authority = re.split(rb"[/?]", rest, maxsplit=1)[0]
    if authority.lower() != host.lower():
        raise BadHead(400, "the request target and the Host header field name different hosts")
    after = rest[len(authority) :]
    return after if after[:1] == b"/" else b"/" + after


def _framing(fields: dict[bytes, bytes], minor: bytes) -> tuple[int, bool]:
    """(length, chunked) of the body, by RFC 9112 section 6 without its leniencies."""
    length = fields.get(b"content-length")
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise BadHead(400, "both Content-Length and Transfer-Encoding")
        if minor == b"0":
            raise BadHead(400, "Transfer-Encoding in HTTP/1.0")
        if coding.lower() != b"chunked":
            raise BadHead(501, "a transfer coding other than chunked")
        return 0, True
    assert length is not None
    if not length.isdigit() or len(length) > 18:
        raise BadHead(400, "malformed Content-Length")
    return int(length), False


def _connection(fields: dict[bytes, bytes], minor: bytes) -> tuple[bool, bytes]:
    """(keep alive, upgrade) as the Connection field says (RFC 9110, 7.6.1 and 7.8)."""
    options = {option.strip() for option in fields[b"connection"].lower().split(b",")}
    if minor == b"0":
        return b"keep-alive" in options and b"close" not in options, b""
    upgrade = fields.get(b"upgrade", b"").lower() if b"upgrade" in options else b""
    return b"close" not in options, upgrade
