"""Answers of our own, where no program behind gave one. Pure."""

from __future__ import annotations

import http
import json

from callboard.chassis.eventsource import is_browser
from callboard.fileserver.head import Head
from callboard.fileserver.routes.heads import NOSNIFF, SANDBOX, TEXT

RETRY_MS = (1_000, 5_000)
"""When an EventSource comes back, about: all of them have lost their streams at once."""


def refusal(head: Head, status: int, text: str, *, close: bool, retry_ms: int) -> bytes:
    """A whole answer with this status and a line of text.

    An EventSource of a browser would end for good on it, though another program may be there in a
    second (WHATWG HTML, 9.2): it gets 200, and a stream that says when to come back and why, as
    the hub does it (`retry_ms`: in milliseconds).
    """
    if status >= 500 and head.method == b"GET" and _is_event_source(head):
        data = json.dumps({"reason": text, "retry": retry_ms})
        body = f"retry: {retry_ms}\n\nevent: hub.limit\ndata: {data}\n\n".encode()
        return _answer(200, b"Content-Type: text/event-stream\r\n", body, close=close)
    body = text.encode("ascii", "replace") + b"\n"
    fields = TEXT + (b"Retry-After: 1\r\n" if status >= 500 else b"")
    return _answer(status, fields, body, close=close, told=head.method != b"HEAD")


def _is_event_source(head: Head) -> bool:
    return is_browser(
        {name.decode("latin-1"): value.decode("latin-1") for name, value in head.fields.items()}
    )


def _answer(status: int, fields: bytes, body: bytes, *, close: bool, told: bool = True) -> bytes:
    lines = [
        b"HTTP/1.1 %d %b\r\n" % (status, http.HTTPStatus(status).phrase.encode()),
        fields,
        b"Content-Length: %d\r\n" % len(body),
        NOSNIFF,
        SANDBOX,
        b"Cache-Control: no-store\r\n",
        b"Connection: close\r\n" if close else b"",
        b"\r\n",
        body if told else b"",
    ]
    return b"".join(lines)
