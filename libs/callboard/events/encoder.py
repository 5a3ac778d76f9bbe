"""Server-sent events as bytes. Pure.

Source: WHATWG HTML, 9.2.6 (interpreting an event stream). Lines end with CRLF, CR or LF there and
with nothing else, so data is cut at those alone: `str.splitlines` would cut at U+2028, too.
"""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\r|\n")
_NOT_IN_ID = re.compile(r"[\r\n\0]")
_NOT_IN_TYPE = re.compile(r"[\r\n]")


class BadEvent(ValueError):
    """A field would end its line early, or be ignored by every reader."""


def block(
    data: bytes | None, *, id: str | None = None, type: str = "", retry_ms: int | None = None
) -> bytes:
    """One event, with the blank line that dispatches it.

    `data` is UTF-8. None: a block without data, which moves the cursor (or sets the
    reconnection time) and is dispatched to nobody. `id` None: the reader's last one stays; "":
    it is emptied. Raises BadEvent for a line break in `id` or `type`, or NUL in `id`.
    """
    lines = []
    if id is not None:
        if _NOT_IN_ID.search(id):
            raise BadEvent("an event's id has no line break and no NUL")
        lines.append(b"id: %b\n" % id.encode())
    if type:
        if _NOT_IN_TYPE.search(type):
            raise BadEvent("an event's type has no line break")
        lines.append(b"event: %b\n" % type.encode())
    if retry_ms is not None:
        lines.append(b"retry: %d\n" % retry_ms)
    if data is not None:
        if b"\n" in data or b"\r" in data:
            lines += [b"data: %b\n" % line for line in _LINE_END.split(data)]
        else:
            lines.append(b"data: %b\n" % data)
    lines.append(b"\n")
    return b"".join(lines)


def comment(text: str = "") -> bytes:
    """A comment: keeps a connection alive, and no script ever sees it. `text` is one line."""
    if _NOT_IN_TYPE.search(text):
        raise BadEvent("a comment is one line")
    return b": %b\n\n" % text.encode() if text else b":\n\n"
