"""The application/x-www-form-urlencoded format, as URLSearchParams reads it. Pure.

Source: WHATWG URL, 5.1. Unlike Go's reader of queries it takes `;` and a stray `%` for what they
are; unlike a browser it refuses bytes that are no UTF-8 (draft 08 of Mercure, Publication).
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from callboard.hub.mercure.refusals import bad_request

Fields = dict[str, list[str]]
"""Values by name, each name's in their order."""

MEDIA_TYPE = "application/x-www-form-urlencoded"
FIELDS_MAX = 1_200
"""More are refused: no request needs them."""


class BadForm(ValueError):
    """Not a form; the text says why."""


def decode(raw: bytes) -> Fields:
    """The fields of a form, or of a URL's query. A name without `=` has the value "". Raises
    BadForm."""
    fields: Fields = {}
    if not raw:
        return fields
    if raw.count(b"&") >= FIELDS_MAX:
        raise BadForm(f"more than {FIELDS_MAX} fields")
    for pair in raw.split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            fields.setdefault(_text(name), []).append(_text(value))
    return fields


def single(fields: Fields, name: str) -> str | None:
    """The value of a field that is given once; None if it is not there. Raises Refused (400)."""
    values = fields.get(name)
    if values is not None and len(values) > 1:
        raise bad_request(f"{name} is given more than once")
    return values[0] if values else None


def is_form(content_type: str) -> bool:
    """Whether a Content-Type names this format, with whatever parameters."""
    return content_type.partition(";")[0].strip().lower() == MEDIA_TYPE


def _text(raw: bytes) -> str:
    if b"+" in raw:
        raw = raw.replace(b"+", b" ")
    if b"%" in raw:
        raw = unquote_to_bytes(raw)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadForm("names and values must be UTF-8") from None
