"""Streams of server-sent events, one for each rule of WHATWG HTML 9.2, and what they say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vector:
    """One stream."""

    rule: str
    stream: bytes
    events: tuple[tuple[str, str, str], ...]
    """(type, data, last event id) of what is dispatched."""


def _one(data: str, id: str = "", type: str = "message") -> tuple[tuple[str, str, str], ...]:
    return ((type, data, id),)


VECTORS = (
    Vector("nothing at all", b"", ()),
    Vector("one line of data", b"data: hello\n\n", _one("hello")),
    Vector("two lines of data", b"data: hello\ndata: world\n\n", _one("hello\nworld")),
    Vector(
        "two events",
        b"data: hello\n\ndata: world\n\n",
        (("message", "hello", ""), ("message", "world", "")),
    ),
    Vector("the values of a stock", b"data: YHOO\ndata: +2\ndata: 10\n\n", _one("YHOO\n+2\n10")),
    Vector("lines end with CR", b"data: a\rdata: b\r\r", _one("a\nb")),
    Vector("lines end with CRLF", b"data: a\r\ndata: b\r\n\r\n", _one("a\nb")),
    Vector("line ends are mixed", b"data: a\rdata: b\r\ndata: c\n\r", _one("a\nb\nc")),
    Vector(
        "CRLF is one line end",
        b"data: a\r\n\r\ndata: b\r\n\r\n",
        (("message", "a", ""), ("message", "b", "")),
    ),
    Vector("LF CR is two line ends", b"data: a\n\rdata: b\n\n", (*_one("a"), *_one("b"))),
    Vector(
        "nothing else ends a line",
        b"data: a\x0bb\x0cc\x1cd\xc2\x85e\xe2\x80\xa8f\xe2\x80\xa9g\n\n",
        _one("a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g"),
    ),
    Vector("a byte order mark is dropped", b"\xef\xbb\xbfdata: a\n\n", _one("a")),
    Vector(
        "a second byte order mark is part of a name",
        b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n",
        _one("b"),
    ),
    Vector(
        "a byte order mark later on is part of a name",
        b"data: a\n\n\xef\xbb\xbfdata: b\n\n",
        _one("a"),
    ),
    Vector(
        "half a byte order mark is none", b"\xef\xbbdata: a\n\ndata: b\n\n", _one("b")
    ),
    Vector("a byte order mark in data is data", b"data: \xef\xbb\xbf\n\n", _one("\ufeff")),
    Vector("a comment says nothing", b": comment\ndata: a\n:\n\n: another\n\n", _one("a")),
    Vector("one space is dropped", b"data:  a\n\n", _one(" a")),
    Vector("no space is needed", b"data:a\n\n", _one("a")),
    Vector("a tab is no space", b"data:\ta\n\n", _one("\ta")),
    Vector("a space at the end stays", b"data: a \n\n", _one("a ")),
    Vector("later colons are data", b"data: a: b:c\n\n", _one("a: b:c")),
    Vector("data without a colon is an empty line", b"data\n\n", _one("")),
    Vector("data with nothing is an empty line", b"data:\n\n", _one("")),
    Vector("two of them are a line break", b"data\ndata\n\n", _one("\n")),
    Vector("an empty line of data before another", b"data:\ndata: a\n\n", _one("\na")),
    Vector("no data, no event", b"event: x\nid: 1\n\n", ()),
    Vector("an unknown field is ignored", b"dta: b\ndata: a\nfoo\n\n", _one("a")),
    Vector("names have case", b"Data: b\nDATA: c\ndata: a\n\n", _one("a")),
    Vector("names have no space before", b" data: b\ndata: a\n\n", _one("a")),
    Vector("names have no space after", b"data : b\ndata: a\n\n", _one("a")),
    Vector("an event has a type", b"event: tick\ndata: a\n\n", _one("a", type="tick")),
    Vector("the last type counts", b"event: x\nevent: y\ndata: a\n\n", _one("a", type="y")),
    Vector("an empty type is message", b"event: x\nevent\ndata: a\n\n", _one("a")),
    Vector(
        "a type is of one event",
        b"event: x\ndata: a\n\ndata: b\n\n",
        (("x", "a", ""), ("message", "b", "")),
    ),
    Vector(
        "a type is forgotten with an event without data",
        b"event: x\n\ndata: a\n\n",
        _one("a"),
    ),
    Vector(
        "an id stays",
        b"id: 1\ndata: a\n\ndata: b\n\n",
        (("message", "a", "1"), ("message", "b", "1")),
    ),
    Vector("an id stays without an event", b"id: 1\n\ndata: a\n\n", _one("a", "1")),
    Vector(
        "an empty id is one", b"id: 1\ndata: a\n\nid\ndata: b\n\n", (*_one("a", "1"), *_one("b"))
    ),
    Vector("the last id counts", b"id: 1\ndata: a\nid: 2\n\n", _one("a", "2")),
    Vector("an id with NUL is ignored", b"id: 1\nid: 2\0\ndata: a\n\n", _one("a", "1")),
    Vector("an id has spaces", b"id:  1 \ndata: a\n\n", _one("a", " 1 ")),
    Vector("an id is any text", "id: ü{}\ndata: a\n\n".encode(), _one("a", "ü{}")),
    Vector("NUL in data is data", b"data: a\0b\n\n", _one("a\0b")),
    Vector("a reconnection time says nothing", b"retry: 900000\ndata: a\n\n", _one("a")),
    Vector("what is no UTF-8 is replaced", b"data: \xffa\xc3\n\n", _one("\ufffda\ufffd")),
    Vector(
        "a cut sequence is replaced as a whole", b"data: \xf0\x9f\x98a\n\n", _one("\ufffda")
    ),
    Vector(
        "a surrogate is replaced byte by byte", b"data: \xed\xa0\x80\n\n", _one("\ufffd" * 3)
    ),
    Vector("UTF-8 is text", "data: žluťoučký 🐎\n\n".encode(), _one("žluťoučký 🐎")),
    Vector("the last event is dropped if it has no end", b"data: a\n\ndata: b\n", _one("a")),
    Vector("the last line is dropped if it has no end", b"data: a\n\ndata: b", _one("a")),
    Vector("blank lines say nothing", b"\n\n\n\r\r\ndata: a\n\n\n\n", _one("a")),
    Vector("data in between other fields", b"data: a\nid: 1\ndata: b\n\n", _one("a\nb", "1")),
)  # fmt: skip
